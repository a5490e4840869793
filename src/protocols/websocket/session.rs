//! A WebSocket session, the same for both sides: one state, one place for each transition.
//!
//! ```text
//! Opening ──handshake──▶ Open ◀──────────▶ InText, InBinary   (a fragmented message has begun)
//!    │                    │ ours first: Closing ──peer's close frame──▶ Over
//!    ▼                    └ peer's first, or a violation ─────────────▶ Over
//! Refused
//! ```
//!
//! An idle session is sixteen bytes: what only a handshake, a fragmented message or the end needs
//! stands in a box.
use super::deflate::Compression;
use super::frame::{self, CONTROL_MOST, Control, Head, Opcode, Role, broken};
use super::handshake::Pending;
use super::mask;
use super::utf8::Utf8;
use crate::Data;
use crate::protocols::{Context, Event, Farewell, Glance, Input, Violation};

/// One session's state.
#[derive(Debug)]
pub struct Session {
    more: Option<Box<More>>,
    /// So many bytes of an incomplete text frame's payload are unmasked and judged already.
    judged: u32,
    utf8: Utf8,
    state: State,
    /// What is unusual about what leaves; zero: nothing is.
    sends: u8,
    wants: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Refused,
    Open,
    InText,
    InBinary,
    /// Our close frame is on its way, the peer's has not come: what comes is discarded.
    Closing,
    /// Nothing more is said, and what comes is not even read.
    Over,
}

/// What an idle session does without.
#[derive(Debug, Default)]
struct More {
    pending: Option<Pending>,
    message: Vec<u8>,
    fragments: usize,
    /// What the program wants our close frame to say.
    close: Option<(u16, Box<str>)>,
    peers_code: Option<u16>,
    heartbeat: Option<[u8; 8]>,
    deflate: Option<Box<Compression>>,
}

const WANTS_PINGS: u8 = 1;
const WANTS_PONGS: u8 = 2;

/// A close frame's longest reason (RFC 6455 §5.5.1: the code takes two bytes).
const REASON_MOST: usize = CONTROL_MOST - 2;
const NO_CODE: u16 = 1005;

impl Session {
    pub(super) fn new() -> Self {
        Session {
            more: None,
            judged: 0,
            utf8: Utf8::Complete,
            state: State::Opening,
            sends: 0,
            wants: 0,
        }
    }

    /// The handshake is complete: messages may pass.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::InText | State::InBinary)
    }

    /// The handshake was completed once, whatever has become of the session.
    pub(crate) fn was_opened(&self) -> bool {
        !matches!(self.state, State::Opening | State::Refused)
    }

    /// Both close frames have passed, or nothing more will be said.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over | State::Refused)
    }

    /// The code of the peer's close frame, 1005 for one without; `None` as long as there was no
    /// close frame.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.more.as_ref().and_then(|more| more.peers_code)
    }

    /// What `on_closing` will say. `Err` says what is wrong with it; the close frame says 1000
    /// then.
    pub(crate) fn set_close(&mut self, code: u16, reason: &str) -> Result<(), String> {
        let length = reason.len();
        let wrong = if !is_close_code(code) {
            format!(
                "{code} may not stand in a close frame (RFC 6455 §7.4): 1000 is sent; \
                 3000 to 4999 are free for programs"
            )
        } else if length > REASON_MOST {
            format!(
                "a close reason of {length} bytes, and {REASON_MOST} are the most: \
                 1000 is sent without one"
            )
        } else {
            self.more().close = Some((code, reason.into()));
            return Ok(());
        };
        if let Some(more) = &mut self.more {
            more.close = None;
        }
        self.tidy();
        Err(wrong)
    }

    /// Whether the program has a callback for pings: without one they are no events.
    pub(crate) fn set_wants_pings(&mut self, wants: bool) {
        self.set_wants(WANTS_PINGS, wants);
    }

    /// Whether the program has a callback for pongs: without one only a heartbeat's answer is an
    /// event.
    pub(crate) fn set_wants_pongs(&mut self, wants: bool) {
        self.set_wants(WANTS_PONGS, wants);
    }

    /// Whether this pong answers the latest heartbeat; that one is then forgotten.
    fn answers_heartbeat(&mut self, payload: &[u8]) -> bool {
        let answers = self.is_heartbeat(payload);
        if answers {
            self.more().heartbeat = None;
            self.tidy();
        }
        answers
    }

    fn set_wants(&mut self, bit: u8, wants: bool) {
        self.wants = if wants { self.wants | bit } else { self.wants & !bit };
    }

    fn is_heartbeat(&self, payload: &[u8]) -> bool {
        let latest = self.more.as_ref().and_then(|more| more.heartbeat);
        latest.is_some_and(|latest| latest == payload)
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// An idle session keeps no box.
    fn tidy(&mut self) {
        let needed = |more: &More| {
            more.pending.is_some()
                || more.fragments > 0
                || more.close.is_some()
                || more.peers_code.is_some()
                || more.heartbeat.is_some()
                || more.deflate.is_some()
        };
        if !self.more.as_deref().is_some_and(needed) {
            self.more = None;
        }
    }
}

/// The handshake, for the two sides.
impl Session {
    pub(super) fn is_opening(&self) -> bool {
        self.state == State::Opening
    }

    pub(super) fn pending(&mut self) -> &mut Option<Pending> {
        &mut self.more().pending
    }

    /// The handshake is complete.
    pub(super) fn opened(&mut self) {
        self.state = State::Open;
        self.more().pending = None;
        self.tidy();
    }

    /// It never will be.
    pub(super) fn refused(&mut self) {
        self.state = State::Refused;
        self.more = None;
    }
}

/// What arrives.
impl Session {
    /// Where the frame at the front of `buffer` lies, if it is whole, a message of its own, and
    /// untouched: the fast path takes it.
    #[inline(always)]
    pub(super) fn glance(&self, role: Role, buffer: &[u8], cx: &Context) -> Option<Glance> {
        if self.state != State::Open || self.judged != 0 {
            return None;
        }
        let seen = frame::plain(role, buffer)?;
        (seen.end - seen.payload_from <= cx.limits().message_bytes).then_some(seen)
    }

    #[inline(always)]
    pub(super) fn decode_glanced<'a>(
        &mut self,
        role: Role,
        seen: Glance,
        frame: &'a mut [u8],
    ) -> Result<Option<Data<'a>>, Violation> {
        let is_text = frame[0] & 0x0f == Opcode::Text as u8;
        let (head, payload) = frame.split_at_mut(seen.payload_from);
        if role == Role::Server
            && let Some(key) = head.last_chunk()
        {
            mask::apply(payload, *key, 0);
        }
        if is_text { text(payload) } else { Ok(Some(Data::Binary(payload))) }
    }

    #[inline(never)]
    pub(super) fn input(
        &mut self,
        role: Role,
        buffer: &mut [u8],
        cx: &mut Context,
    ) -> Result<Input, Violation> {
        if self.is_over() {
            // RFC 6455 §1.4: data behind a close frame is discarded.
            return Ok(if buffer.is_empty() {
                Input::Partial
            } else {
                Input::Package(buffer.len())
            });
        }
        let goes_on = self.goes_on_with(buffer);
        let Some(head) = Head::read_with(role, self.deflates(), buffer)? else {
            return Ok(Input::Partial);
        };
        let total = self.judge(&head, cx)?;
        if goes_on && buffer.len() > head.length {
            // Its rest has time for as long as bytes of it come. Pings are none of them, and
            // neither is a head: empty fragments would hold what has come for hours.
            cx.message_goes_on();
        }
        if total <= buffer.len() {
            return Ok(Input::Package(total));
        }
        if self.is_compressed(&head) {
            return self.inflate_early(&head, buffer, total, cx);
        }
        if !self.is_text(head.opcode) {
            // One that goes on is asked for at every read.
            return Ok(if goes_on { Input::PartialOf(total) } else { Input::Package(total) });
        }
        // RFC 6455 §8.1: an endpoint that finds invalid UTF-8 must fail the connection; why wait
        // for the frame's end?
        let arrived = (buffer.len() - head.length).min(u32::MAX as usize);
        let judged = self.judged as usize;
        if arrived > judged {
            let fresh = &mut buffer[head.length + judged..head.length + arrived];
            mask::apply(fresh, head.key, judged);
            self.judged = arrived as u32;
            if !self.utf8.feed(fresh) {
                return Err(not_utf8());
            }
        }
        Ok(Input::PartialOf(total))
    }

    #[inline(never)]
    pub(super) fn decode<'a>(
        &mut self,
        role: Role,
        frame: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        if self.is_over() {
            return Ok(None);
        }
        let head = match Head::read_with(role, self.deflates(), frame)? {
            Some(head) if self.judge(&head, cx)? == frame.len() => head,
            _ => return Err(broken("a frame that is not as long as it says")),
        };
        let payload = &mut frame[head.length..];
        match head.opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                match head.fin {
                    // An empty one begins a message, and is no progress of one that has begun.
                    false if self.is_open() && !(payload.is_empty() && self.is_fragmented()) => {
                        cx.message_goes_on();
                    }
                    true if self.is_fragmented() => cx.message_is_whole(),
                    _ => {}
                }
                if self.is_compressed(&head) {
                    return self.take_compressed(&head, payload, scratch, cx);
                }
                self.take_data(&head, payload, scratch)
            }
            opcode => {
                mask::apply(payload, head.key, 0);
                self.take_control(role, opcode, payload, cx)?;
                Ok(None)
            }
        }
    }

    /// Whether the frame may come now, and the length of all of it.
    fn judge(&self, head: &Head, cx: &Context) -> Result<usize, Violation> {
        let payload = usize::try_from(head.payload).unwrap_or(usize::MAX);
        let limits = cx.limits();
        let (mut before, mut fragments) = (0, 0);
        match (head.opcode, self.state) {
            // A control frame is no part of a message, and short (RFC 6455 §5.5).
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(head.length + payload),
            // RFC 6455 §5.4: fragments of a message are not mixed with those of another.
            (Opcode::Text | Opcode::Binary, State::InText | State::InBinary) => {
                return Err(broken("a new message inside a fragmented one"));
            }
            (Opcode::Continuation, State::InText | State::InBinary) => {
                let more = self.more.as_deref();
                (before, fragments) = more.map_or((0, 0), |m| (m.message.len(), m.fragments));
            }
            (Opcode::Continuation, State::Open) => {
                return Err(broken("a continuation without a beginning"));
            }
            _ => {}
        }
        if fragments > 0 && fragments >= limits.fragments {
            return Err(too_big("fragments", limits.fragments, "fragments"));
        }
        let mut most = limits.message_bytes;
        if self.is_compressed(head) {
            (before, most) = (0, compressed::most_compressed(most));
        }
        // A sum beyond the address space is above every limit.
        let message = payload.checked_add(before).filter(|sum| *sum <= most);
        match (message, payload.checked_add(head.length)) {
            (Some(_), Some(total)) => Ok(total),
            _ => Err(too_big("message_bytes", limits.message_bytes, "bytes")),
        }
    }

    fn is_fragmented(&self) -> bool {
        matches!(self.state, State::InText | State::InBinary)
    }

    /// Whether the first frame, of which perhaps not much has come, is the next fragment.
    fn goes_on_with(&self, buffer: &[u8]) -> bool {
        let opcode = buffer.first().map(|first| first & 0x0f);
        self.is_fragmented() && opcode == Some(Opcode::Continuation as u8)
    }

    fn is_text(&self, opcode: Opcode) -> bool {
        match self.state {
            State::Open => opcode == Opcode::Text,
            State::InText => opcode == Opcode::Continuation,
            _ => false,
        }
    }

    fn take_data<'a>(
        &mut self,
        head: &Head,
        payload: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
    ) -> Result<Option<Data<'a>>, Violation> {
        let judged = std::mem::take(&mut self.judged) as usize;
        if self.state == State::Closing {
            return Ok(None);
        }
        let is_text = self.is_text(head.opcode);
        let fresh = payload.get_mut(judged..).unwrap_or_default();
        mask::apply(fresh, head.key, judged);
        let is_whole = head.fin && self.state == State::Open;
        if is_whole && judged == 0 {
            return if is_text { text(payload) } else { Ok(Some(Data::Binary(payload))) };
        }
        if is_text && !self.utf8.feed(fresh) {
            return Err(not_utf8());
        }
        // Whether it ends too early, the whole text's own check tells.
        if is_whole {
            return text(payload);
        }
        let more = self.more();
        more.message.extend_from_slice(payload);
        more.fragments += 1;
        if !head.fin {
            self.state = if is_text { State::InText } else { State::InBinary };
            return Ok(None);
        }
        more.fragments = 0;
        *scratch = std::mem::take(&mut more.message);
        self.state = State::Open;
        self.tidy();
        if is_text { text(scratch) } else { Ok(Some(Data::Binary(scratch))) }
    }

    fn take_control(
        &mut self,
        role: Role,
        opcode: Opcode,
        payload: &[u8],
        cx: &mut Context,
    ) -> Result<(), Violation> {
        match opcode {
            Opcode::Ping => {
                // RFC 6455 §5.5.2: answered also while we wait for the peer's close frame.
                let pong = Control::new(role, Opcode::Pong, payload, cx);
                cx.pong(pong.as_bytes());
                if self.is_open() && self.wants & WANTS_PINGS != 0 {
                    cx.note(Event::Ping(payload.to_vec()));
                }
            }
            Opcode::Pong => {
                let of_heartbeat = self.answers_heartbeat(payload);
                if self.is_open() && (of_heartbeat || self.wants & WANTS_PONGS != 0) {
                    cx.note(Event::Pong { payload: payload.to_vec(), of_heartbeat });
                }
            }
            _ => self.take_close(role, payload, cx)?,
        }
        Ok(())
    }

    fn take_close(
        &mut self,
        role: Role,
        payload: &[u8],
        cx: &mut Context,
    ) -> Result<(), Violation> {
        let (code, reason) = read_close(payload)?;
        let (reason, first) = (reason.to_owned(), self.is_open());
        if first {
            // RFC 6455 §5.5.1: the answer typically echoes the code.
            let code = code.to_be_bytes();
            let answer: &[u8] = if payload.is_empty() { &[] } else { &code };
            let answer = Control::new(role, Opcode::Close, answer, cx);
            cx.reply(answer.as_bytes());
        }
        self.over();
        self.more().peers_code = Some(code);
        cx.note(Event::Closed { code, reason, first });
        Ok(())
    }

    fn over(&mut self) {
        self.state = State::Over;
        if let Some(more) = &mut self.more {
            (more.message, more.fragments, more.heartbeat) = (Vec::new(), 0, None);
            more.deflate = None;
        }
    }
}

/// What leaves.
impl Session {
    /// Appends a ping or pong frame of the program's own.
    pub(super) fn put_control(
        role: Role,
        opcode: Opcode,
        payload: &[u8],
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation> {
        if payload.len() > CONTROL_MOST {
            let length = payload.len();
            let text = format!("pings and pongs carry at most {CONTROL_MOST} bytes, not {length}");
            return Err(Violation::new(text));
        }
        out.extend_from_slice(Control::new(role, opcode, payload, cx).as_bytes());
        Ok(())
    }

    /// Appends a ping that can be told from the program's own; `false` while no session is open.
    pub(super) fn heartbeat(&mut self, role: Role, out: &mut Vec<u8>, cx: &mut Context) -> bool {
        if !self.is_open() {
            return false;
        }
        let mut payload = [0; 8];
        cx.random(&mut payload);
        self.more().heartbeat = Some(payload);
        out.extend_from_slice(Control::new(role, Opcode::Ping, &payload, cx).as_bytes());
        true
    }

    /// Appends our close frame, once; whether the peer's is to be awaited.
    pub(super) fn closing(&mut self, role: Role, out: &mut Vec<u8>, cx: &mut Context) -> bool {
        if !self.is_open() {
            return self.state == State::Closing;
        }
        let chosen = self.more.as_mut().and_then(|more| more.close.take());
        let (code, reason) = chosen.unwrap_or_else(|| match cx.farewell() {
            Farewell::Asked => (1000, "".into()),
            Farewell::Stopping => (1001, "".into()),
            Farewell::CallbackFailed => (1011, "".into()),
        });
        put_close(role, code, &reason, out, cx);
        self.over();
        self.state = State::Closing;
        true
    }

    /// Appends a close frame that says what was wrong, unless ours has left or the session never
    /// opened.
    pub(super) fn violated(
        &mut self,
        role: Role,
        violation: &Violation,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) {
        if !self.was_opened() {
            return self.refused();
        }
        if self.is_open() {
            let code = violation.close_code().filter(|code| is_close_code(*code)).unwrap_or(1002);
            put_close(role, code, &violation.to_string(), out, cx);
        }
        self.over();
    }
}

fn put_close(role: Role, code: u16, reason: &str, out: &mut Vec<u8>, cx: &mut Context) {
    let mut payload = code.to_be_bytes().to_vec();
    let mut end = reason.len().min(REASON_MOST);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    out.extend_from_slice(Control::new(role, Opcode::Close, &payload, cx).as_bytes());
}

fn read_close(payload: &[u8]) -> Result<(u16, &str), Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        // RFC 6455 §7.1.5: no code is 1005; one byte is no code.
        return if payload.is_empty() { Ok((NO_CODE, "")) } else { Err(half_a_code()) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(Violation::new(format!("a close frame with the code {code}")).code(1002));
    }
    let reason = std::str::from_utf8(reason)
        .map_err(|_| Violation::new("a close reason that is not UTF-8").code(1007))?;
    Ok((code, reason))
}

/// Those that may stand in a close frame (RFC 6455 §7.4, and the registry up to 1014).
fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[inline(always)]
fn text(payload: &[u8]) -> Result<Option<Data<'_>>, Violation> {
    match simdutf8::basic::from_utf8(payload) {
        Ok(text) => Ok(Some(Data::Text(text))),
        Err(_) => Err(not_utf8()),
    }
}

#[cold]
fn not_utf8() -> Violation {
    Violation::new("a text message that is not UTF-8").code(1007)
}

#[cold]
fn half_a_code() -> Violation {
    broken("a close frame of one byte")
}

#[cold]
fn too_big(limit: &str, most: usize, what: &str) -> Violation {
    Violation::new(format!("a message of more than {most} {what} (Limits::{limit})")).code(1009)
}

mod compressed;
mod sending;
#[cfg(test)]
mod tests;
