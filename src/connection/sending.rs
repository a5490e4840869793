//! `send` and its kin: encode into the out-buffer, leave with the turn.
use super::Role;
use super::core::{Core, Settings, Stage, WRITE_AT_ONCE, Written};
use super::failure::write_failed;
use super::flag;
use super::slot::Slot;
use crate::events::{Buffer, Loop};
use crate::protocols::Pad;
use crate::{Context, ErrorCode, Farewell, Protocol, Sent, Violation};
use std::borrow::Cow;
use std::rc::Rc;

/// What stands in the way of sending into the session that is on.
const ELSEWHERE: u32 = flag::NOT_OPEN | flag::HELD | flag::AGAIN | flag::SHUT | flag::SHUT_DONE;

/// Pieces of a long body that one connection may send in a turn.
const PIECES_A_TURN: u32 = 16;

/// What is waiting for a write to have happened.
const AFTER_WRITE: u32 =
    flag::NOT_OPEN | flag::FULL | flag::ANSWERS | flag::CHOKED | flag::WATCH_INPUT | flag::SHUT;

/// What became of a message that a session was given to send.
enum Encoded<'m, P: Protocol> {
    /// It stands at the end of the out-buffer.
    Whole {
        unsent: usize,
        limit: usize,
        pad: Pad,
    },
    /// Its head does; its payload is lent.
    Split {
        lent: Cow<'m, [u8]>,
        limit: usize,
        pad: Pad,
    },
    /// The out-buffer has reached its limit.
    NoRoom {
        message: P::Outgoing<'m>,
        limit: usize,
    },
    Wrong(Violation),
}

#[inline(always)]
fn encode<'m, P: Protocol>(
    protocol: &mut P,
    message: P::Outgoing<'m>,
    out: &mut Buffer,
    settings: &Settings,
) -> Encoded<'m, P> {
    let limit = settings.limits().send_buffer_bytes;
    if out.bytes.len() - out.start >= limit {
        return Encoded::NoRoom { message, limit };
    }
    let before = out.bytes.len();
    let mut pad = Pad::default();
    let mut cx = Context { pad: &mut pad, scene: settings.scene() };
    match protocol.encode_split(message, &mut out.bytes, &mut cx) {
        Ok(None) => Encoded::Whole { unsent: out.bytes.len() - out.start, limit, pad },
        Ok(Some(lent)) => Encoded::Split { lent, limit, pad },
        Err(violation) => {
            out.bytes.truncate(before);
            Encoded::Wrong(violation)
        }
    }
}

impl<P: Protocol, R: Role> Slot<P, R> {
    #[inline]
    pub(crate) fn send(self: &Rc<Self>, lp: &Rc<Loop>, message: P::Outgoing<'_>) -> Sent {
        if self.core.has(ELSEWHERE) {
            return self.send_elsewhere(lp, |protocol, out, cx| protocol.encode(message, out, cx));
        }
        let Ok(mut guard) = self.protocol.try_borrow_mut() else { return Sent::Dropped };
        let Some(protocol) = guard.as_mut() else { return Sent::Dropped };
        let encoded = if P::RUNS_NO_PROGRAM_CODE {
            let state = &mut *self.core.state.borrow_mut();
            let out = state.out.get_or_insert_with(|| lp.pool.borrow_mut().take());
            out.own();
            encode(protocol, message, out, &state.settings)
        } else {
            let (mut out, settings) = self.core.take_out_with_settings(lp);
            let encoded = encode(protocol, message, &mut out, &settings);
            self.core.put_out(lp, out);
            if self.core.has(flag::NOT_OPEN) {
                // The program's own protocol has ended the session meanwhile.
                return Sent::Dropped;
            }
            encoded
        };
        drop(guard);
        match encoded {
            Encoded::Whole { unsent, limit, pad } => {
                if !pad.is_empty() {
                    self.apply(lp, pad);
                }
                self.appended(lp, unsent, limit)
            }
            other => self.send_rarely(lp, other),
        }
    }

    /// What is not nearly always so.
    #[inline(never)]
    fn send_rarely(self: &Rc<Self>, lp: &Rc<Loop>, encoded: Encoded<'_, P>) -> Sent {
        match encoded {
            Encoded::Whole { unsent, limit, .. } => self.appended(lp, unsent, limit),
            Encoded::Split { lent, limit, pad } => {
                let written = self.core.write_lent(lp, &lent);
                self.judge_write(lp, written);
                self.apply(lp, pad);
                // What the socket did not take may have filled the buffer.
                let unsent = self.core.unsent();
                self.appended(lp, unsent, limit)
            }
            Encoded::NoRoom { message, limit } => {
                if !self.make_room(lp, limit) {
                    return Sent::Dropped;
                }
                // Answers of the protocol's own may fill the buffer: they do not count.
                self.append(lp, limit, |protocol, out, cx| protocol.encode(message, out, cx))
            }
            Encoded::Wrong(violation) => self.unencodable(lp, violation),
        }
    }

    /// Sending goes another way than into the session that is on.
    #[inline]
    pub(super) fn is_elsewhere(&self) -> bool {
        self.core.has(ELSEWHERE)
    }

    /// The same for whatever appends bytes: `send_raw`, a ping, a plain message from elsewhere.
    pub(crate) fn send_by(
        self: &Rc<Self>,
        lp: &Rc<Loop>,
        encode: impl FnOnce(&mut P, &mut Vec<u8>, &mut Context) -> Result<(), Violation>,
    ) -> Sent {
        if self.core.has(ELSEWHERE) {
            return self.send_elsewhere(lp, encode);
        }
        let limit = self.core.settings().limits().send_buffer_bytes;
        if self.protocol.try_borrow_mut().is_err() || !self.make_room(lp, limit) {
            return Sent::Dropped;
        }
        self.append(lp, limit, encode)
    }

    /// A control frame: it goes out although the buffer is full.
    pub(crate) fn send_control(
        self: &Rc<Self>,
        lp: &Rc<Loop>,
        encode: impl FnOnce(&mut P, &mut Vec<u8>, &mut Context) -> Result<(), Violation>,
    ) -> Sent {
        if self.core.has(ELSEWHERE) {
            return Sent::Dropped;
        }
        self.append(lp, usize::MAX, encode)
    }

    fn append(
        self: &Rc<Self>,
        lp: &Rc<Loop>,
        limit: usize,
        encode: impl FnOnce(&mut P, &mut Vec<u8>, &mut Context) -> Result<(), Violation>,
    ) -> Sent {
        let mut out = self.core.take_out(lp);
        let before = out.bytes.len();
        let asked = self.ask(Farewell::Asked, |protocol, cx| encode(protocol, &mut out.bytes, cx));
        let failed = !matches!(asked, Some((Ok(()), _)));
        if failed {
            out.bytes.truncate(before);
        }
        let unsent = out.unsent();
        self.core.put_out(lp, out);
        match asked {
            None => return Sent::Dropped,
            Some(_) if self.core.has(flag::NOT_OPEN) => return Sent::Dropped,
            Some((Err(violation), _)) => return self.unencodable(lp, violation),
            Some((Ok(()), pad)) => self.apply(lp, pad),
        }
        self.appended(lp, unsent, limit)
    }

    /// Bytes stand behind the others: they leave with the turn, or at once if there are many.
    #[inline]
    pub(super) fn appended(self: &Rc<Self>, lp: &Rc<Loop>, unsent: usize, limit: usize) -> Sent {
        if unsent >= WRITE_AT_ONCE || unsent >= limit {
            return self.appended_much(lp, limit);
        }
        self.core.mark_dirty(lp);
        if self.core.has(flag::BLOCKED) { Sent::Buffered } else { Sent::Flushed }
    }

    #[cold]
    fn appended_much(self: &Rc<Self>, lp: &Rc<Loop>, limit: usize) -> Sent {
        if !self.core.has(flag::BLOCKED) {
            let written = self.core.write_out(lp);
            self.judge_write(lp, written);
        }
        self.note_full(lp, limit);
        self.core.mark_dirty(lp);
        if self.core.has(flag::BLOCKED) { Sent::Buffered } else { Sent::Flushed }
    }

    /// Whether a message may be taken. Judged after a write was tried.
    pub(super) fn make_room(self: &Rc<Self>, lp: &Rc<Loop>, limit: usize) -> bool {
        if self.core.counted() < limit {
            return true;
        }
        if !self.core.has(flag::BLOCKED) {
            let written = self.core.write_out(lp);
            self.judge_write(lp, written);
        }
        if self.core.stage() != Stage::Open {
            return false;
        }
        if self.core.counted() < limit {
            return true;
        }
        self.core.dropped_full(lp);
        false
    }

    /// The buffer has reached its limit: told once, until it has been empty again.
    fn note_full(&self, lp: &Loop, limit: usize) {
        if self.core.stage() != Stage::Open || self.core.counted() < limit {
            return;
        }
        if self.core.has(flag::BACKPRESSURE) {
            self.core.set(flag::CHOKED);
        }
        if !self.core.has(flag::FULL) {
            self.core.queue(lp, flag::FULL | flag::ON_FULL);
        }
    }

    /// Writing inside `send`: a dead peer is told later.
    pub(super) fn judge_write(self: &Rc<Self>, lp: &Rc<Loop>, written: Written) {
        if let Written::Failed(e) = written {
            self.core.fail(lp, ErrorCode::SendFail, write_failed(e));
        }
    }

    #[cold]
    fn unencodable(&self, lp: &Loop, violation: Violation) -> Sent {
        self.core.dropped_unencodable(lp, violation.to_string());
        Sent::Dropped
    }

    /// A message could not be encoded, and the program has been told: whoever still waits for an
    /// answer hears that there is none.
    pub(super) fn tell_unsent(self: &Rc<Self>, lp: &Rc<Loop>) {
        if self.core.has(ELSEWHERE) {
            return;
        }
        let mut out = self.core.take_out(lp);
        let told = self.ask(Farewell::Asked, |protocol, cx| protocol.on_unsent(&mut out.bytes, cx));
        self.core.put_out(lp, out);
        if let Some(((), pad)) = told {
            self.core.mark_dirty(lp);
            self.apply(lp, pad);
        }
    }

    /// No session, or not yet: the message waits for the one to come, already encoded by that one's
    /// protocol.
    #[cold]
    fn send_elsewhere(
        self: &Rc<Self>,
        lp: &Rc<Loop>,
        encode: impl FnOnce(&mut P, &mut Vec<u8>, &mut Context) -> Result<(), Violation>,
    ) -> Sent {
        let core = &self.core;
        if !core.takes_ahead() {
            return Sent::Dropped;
        }
        let settings = core.settings();
        if core.send_buffer_len() >= settings.limits().send_buffer_bytes {
            core.dropped_full(lp);
            return Sent::Dropped;
        }
        let mut bytes = Vec::new();
        let encoded = if core.stage() == Stage::Open && !core.has(flag::AGAIN) {
            match self.ask(Farewell::Asked, |protocol, cx| encode(protocol, &mut bytes, cx)) {
                Some((encoded, _)) => encoded,
                None => return Sent::Dropped,
            }
        } else {
            let Some(client) = &self.client else { return Sent::Dropped };
            let Ok(mut next) = client.next.try_borrow_mut() else { return Sent::Dropped };
            // Borrowed meanwhile, as the session's own protocol would be: what `make` or `encode`
            // sends to this connection is dropped.
            let mut protocol = self.next(client, next.take());
            let mut pad = Pad::default();
            let mut cx = Context { pad: &mut pad, scene: settings.scene() };
            let encoded = encode(&mut protocol, &mut bytes, &mut cx);
            if !core.takes_ahead() {
                // `make` or `encode` has ended what this was for.
                drop(next);
                drop(protocol);
                return Sent::Dropped;
            }
            *next = Some(protocol);
            encoded
        };
        if let Err(violation) = encoded {
            return self.unencodable(lp, violation);
        }
        core.with_rare(|rare| {
            rare.ahead.extend_from_slice(&bytes);
            rare.ahead_messages += 1;
        });
        let limit = settings.limits().send_buffer_bytes;
        if core.send_buffer_len() >= limit && !core.has(flag::FULL) {
            core.queue(lp, flag::FULL | flag::ON_FULL);
        }
        Sent::Buffered
    }

    // ------------------------------------------------------------------ writing

    /// Writes what is queued, and goes on with whatever waited for that.
    #[inline(always)]
    pub(crate) fn flush(self: &Rc<Self>, lp: &Rc<Loop>) {
        let written = self.core.write_out(lp);
        let done = matches!(written, Written::All) && !P::HAS_PIECES;
        if !done || self.core.has(AFTER_WRITE) {
            self.go_on_after(lp, written);
        }
    }

    #[inline(never)]
    fn go_on_after(self: &Rc<Self>, lp: &Rc<Loop>, mut written: Written) {
        let mut pieces = PIECES_A_TURN;
        loop {
            match written {
                Written::All => {
                    if !self.all_left(lp, &mut pieces) {
                        break;
                    }
                }
                Written::Blocked => {
                    self.some_left(lp);
                    break;
                }
                Written::Failed(e) => {
                    self.flush_failed(lp, e);
                    break;
                }
            }
            written = self.core.write_out(lp);
        }
        if self.core.has(flag::WATCH_INPUT) {
            self.core.ping_may_have_left(lp);
        }
        if self.core.stage().is_closing() || self.core.has(flag::SHUT) {
            self.advance(lp);
        }
    }

    /// Nothing waits any more. True: something new was appended.
    fn all_left(self: &Rc<Self>, lp: &Rc<Loop>, pieces: &mut u32) -> bool {
        let core = &self.core;
        // What waits for the next session drains with that one.
        if core.has(flag::FULL) && core.send_buffer_len() == core.unsent() {
            core.clear(flag::FULL);
            core.queue(lp, flag::ON_DRAINED);
        }
        let more = core.take(flag::ANSWERS) && core.append_pong(lp);
        if core.has(flag::CHOKED) {
            self.unchoke(lp);
        }
        let sends = match core.stage() {
            Stage::Open => true,
            Stage::Flushing => P::PIECES_OUTLAST_CLOSE,
            _ => false,
        };
        if P::HAS_PIECES && sends && !core.has(flag::SHUT_DONE) {
            return self.next_piece(lp, pieces) || more;
        }
        more
    }

    /// The next piece of a long body, also of one that was begun before `close()`. True: it was
    /// appended.
    fn next_piece(self: &Rc<Self>, lp: &Rc<Loop>, pieces: &mut u32) -> bool {
        let core = &self.core;
        // So that one fast reader starves nobody.
        let later = *pieces == 0;
        if later || core.peek_rare(|rare| rare.pieces_wait) == Some(true) {
            core.with_rare(|rare| rare.pieces_wait = later);
        }
        if later {
            core.list_again(lp);
            return false;
        }
        let mut piece = Vec::new();
        let asked = self.ask(Farewell::Asked, |protocol, cx| protocol.on_writable(&mut piece, cx));
        let appended = !piece.is_empty();
        if appended {
            *pieces -= 1;
            core.with_out(lp, |out| out.bytes.append(&mut piece));
        }
        match asked {
            Some((Ok(()), pad)) => self.apply(lp, pad),
            Some((Err(violation), pad)) => self.violated(lp, violation, pad),
            None => {}
        }
        appended
    }

    fn some_left(self: &Rc<Self>, lp: &Rc<Loop>) {
        // Those that wait are counted until all have left.
        if self.core.has(flag::ANSWERS) {
            self.core.append_pong(lp);
        }
        if self.core.has(flag::CHOKED) {
            let settings = self.core.settings();
            let waiting = self.core.peek_rare(|rare| rare.answers_waiting).unwrap_or(0);
            if waiting < settings.limits().waiting_answers_bytes
                && self.core.counted() <= settings.limits().send_buffer_bytes / 2
            {
                self.unchoke(lp);
            }
        }
    }

    /// Half of the buffer has left: its connection is served again.
    fn unchoke(&self, lp: &Loop) {
        self.core.clear(flag::CHOKED);
        self.core.hearing_again(lp);
        self.core.set(flag::REARM);
        self.core.list_again(lp);
    }
}

impl Core {
    /// An answer of the protocol's own, ahead of what the program sends next. It does not count
    /// against the limit.
    pub(crate) fn answer(&self, lp: &Loop, answer: &[u8], is_pong: bool) {
        if self.has(flag::SHUT_DONE) {
            // Our direction has ended: a pong or a close frame can go no more.
            return;
        }
        let limit = self.settings().limits().waiting_answers_bytes;
        if self.has(flag::BLOCKED) {
            self.set(flag::ANSWERS);
            if is_pong {
                self.with_rare(|rare| {
                    rare.pong.clear();
                    rare.pong.extend_from_slice(answer);
                });
                return;
            }
            let waiting = self.with_rare(|rare| {
                rare.answers_waiting += answer.len();
                rare.answers_waiting
            });
            if waiting >= limit {
                self.set(flag::CHOKED);
            }
        }
        let unsent = self.with_out(lp, |out| {
            out.bytes.extend_from_slice(answer);
            out.unsent()
        });
        self.mark_dirty(lp);
        if unsent >= WRITE_AT_ONCE && !self.has(flag::BLOCKED) {
            // A failure is found again by the write at the end of the turn.
            let _ = self.write_out(lp);
        }
    }

    /// The pong that waited for a full socket.
    fn append_pong(&self, lp: &Loop) -> bool {
        let pong = {
            let mut state = self.state.borrow_mut();
            let Some(rare) = state.rare.as_deref_mut() else { return false };
            rare.answers_waiting = match self.has(flag::BLOCKED) {
                true => rare.answers_waiting + rare.pong.len(),
                false => 0,
            };
            std::mem::take(&mut rare.pong)
        };
        if pong.is_empty() {
            return false;
        }
        self.with_out(lp, |out| out.bytes.extend_from_slice(&pong));
        true
    }

    /// A message waits for the session to come, or for the end of the handshake.
    fn takes_ahead(&self) -> bool {
        if self.stage() == Stage::Gone {
            return false;
        }
        if self.has(flag::AGAIN) {
            return true;
        }
        if self.has(flag::SHUT | flag::SHUT_DONE) {
            return false;
        }
        match self.stage() {
            Stage::Open => self.has(flag::HELD),
            stage => stage < Stage::Open && self.is_client(),
        }
    }

    pub(crate) fn has_ahead(&self) -> bool {
        self.peek_rare(|rare| rare.ahead_messages > 0) == Some(true)
    }

    /// What was sent ahead of the session leaves with it.
    pub(crate) fn release_ahead(&self, lp: &Loop) {
        if !self.has_ahead() {
            return;
        }
        let ahead = self.with_rare(|rare| {
            rare.ahead_messages = 0;
            std::mem::take(&mut rare.ahead)
        });
        if ahead.len() >= self.settings().limits().send_buffer_bytes {
            // The end of the session before has cleared it.
            self.set(flag::FULL);
        }
        self.with_out(lp, |out| out.bytes.extend_from_slice(&ahead));
        self.mark_dirty(lp);
    }
}
