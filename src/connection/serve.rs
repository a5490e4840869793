//! A connection's own part of a turn: read, divide, deliver, write; within its budget.
use super::Role;
use super::core::{Core, Stage};
use super::flag;
use super::slot::Slot;
use crate::events::{Buffer, Loop, RECEIVE_BYTES};
use crate::protocols::Pad;
use crate::{Context, Input, Protocol, Violation};
use std::io;
use std::mem;
use std::rc::Rc;

/// Receives that one connection may do in a turn; what is left goes on the ready list, so that one
/// loud peer starves nobody.
const RECEIVES_A_TURN: u32 = 8;
/// An incomplete package up to here is moved back to the loop's own buffer, where a whole receive
/// fits behind it.
const MOVED_BYTES: usize = 16 << 10;
/// Room for the next receive of a package read in place.
const FIRST_ROOM: usize = 4 << 10;

/// So much is read ahead while the protocol wants nothing: the rest is the kernel's to hold, and
/// the peer's to wait for.
const READ_AHEAD: usize = 64 << 10;

/// What ends a batch of messages, or changes it.
const LOOK_UP: u32 = flag::NOT_OPEN
    | flag::RELOAD
    | flag::PAUSED
    | flag::CHOKED
    | flag::UPGRADED
    | flag::EVENTS
    | flag::AGAIN;

/// What an incomplete package waits for.
#[derive(Clone, Copy, Default)]
struct Awaited {
    want: Option<usize>,
    /// The protocol is not asked before `want` bytes are there.
    wait: bool,
}

/// How a receive ended.
enum Received {
    More,
    /// Less than there was room for: the socket held no more then.
    Short,
    /// It would block.
    Empty,
    Eof,
    Failed(io::Error),
}

impl<P: Protocol, R: Role> Slot<P, R> {
    /// Reads and delivers. `closed`: the poller saw the peer's end, so no further edge will come.
    pub(crate) fn serve(self: &Rc<Self>, lp: &Rc<Loop>, closed: bool) {
        let core = &self.core;
        core.set(flag::SERVING);
        let mut budget = RECEIVES_A_TURN;
        if core.has(flag::EOF) {
            self.serve_behind_eof(lp);
        } else if !self.serve_rest(lp) {
            budget = 0;
        }
        while self.may_read() && !self.core.has_read_ahead() {
            if budget == 0 {
                core.list_again(lp);
                break;
            }
            budget -= 1;
            match self.receive(lp) {
                Received::Empty => break,
                // A short read may end the loop only where no end was seen: data and FIN can come
                // in one event.
                Received::Short if !closed => break,
                // What is left of it comes first, in the next turn.
                Received::More | Received::Short if core.has(flag::PARKED) => break,
                Received::More | Received::Short => {}
                Received::Eof => {
                    self.peer_ended(lp);
                    break;
                }
                Received::Failed(e) => {
                    self.receive_failed(lp, e);
                    break;
                }
            }
        }
        if core.has(flag::JUDGE) {
            core.judge_silence(lp);
            lp.after_callback();
        }
        core.clear(flag::SERVING);
    }

    /// The end of this connection's part: what it was told to send leaves.
    pub(crate) fn end_of_part(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        if !core.has(flag::NOT_OPEN) || core.stage().is_session() {
            if !core.has(flag::BLOCKED) || core.has(flag::SHUT | flag::NOT_OPEN) {
                self.flush(lp);
            }
            lp.after_callback();
        }
        if core.has(flag::REARM) {
            core.rearm(lp);
        }
    }

    fn may_read(&self) -> bool {
        let core = &self.core;
        if !core.has(flag::NOT_OPEN | flag::EOF | flag::PAUSED | flag::CHOKED) {
            return true;
        }
        if !core.stage().is_session() || core.has(flag::EOF) {
            return false;
        }
        core.stage() != Stage::Open || !core.has(flag::PAUSED | flag::CHOKED)
    }

    /// Whole packages that were read before a pause, or before others had their turn. Whether
    /// reading may follow.
    fn serve_rest(self: &Rc<Self>, lp: &Rc<Loop>) -> bool {
        if !self.core.has(flag::PARKED) || !self.may_read() {
            return true;
        }
        self.divide_rest(lp);
        !self.core.has(flag::PARKED)
    }

    /// The peer's end came while packages waited for the protocol: they are delivered first.
    fn serve_behind_eof(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        let waits = core.peek_rare(|rare| rare.eof_waits) == Some(true);
        if !waits || core.stage() != Stage::Open || core.has(flag::PAUSED | flag::CHOKED) {
            return;
        }
        if core.has(flag::PARKED) {
            self.divide_rest(lp);
            if core.has(flag::PARKED) {
                return;
            }
        }
        if core.stage() == Stage::Open && core.peek_rare(|rare| rare.input_waits) != Some(true) {
            core.with_rare(|rare| rare.eof_waits = false);
            self.eof_in_session(lp);
        }
    }

    fn divide_rest(self: &Rc<Self>, lp: &Rc<Loop>) {
        self.core.clear(flag::PARKED);
        let rest = self.core.state.borrow_mut().rest.take();
        let Some(mut rest) = rest else { return };
        let mut awaited = Awaited { want: rest.want, wait: rest.wait };
        let filled = rest.filled;
        let done = self.process_kept(lp, &mut rest.bytes[..filled], &mut awaited);
        self.keep(lp, rest, done, awaited);
    }

    /// One receive, and what follows from it.
    fn receive(self: &Rc<Self>, lp: &Rc<Loop>) -> Received {
        let rest = self.core.state.borrow_mut().rest.take();
        let rest = match rest {
            Some(rest) if !fits(&rest) => return self.receive_in_place(lp, rest),
            rest => rest,
        };
        let mut buffer = lp.take_receive();
        let (filled, mut awaited) = moved_back(lp, rest, &mut buffer[..]);
        let read = self.core.read(&mut buffer[filled..]);
        let (n, received) = match self.judge_read(lp, read) {
            Ok(read) => read,
            Err(ended) => {
                self.core.keep_rest(lp, &buffer[..filled], awaited);
                lp.put_receive(buffer);
                return ended;
            }
        };
        let filled = filled + n;
        let done = self.process(lp, &mut buffer[..filled], &mut awaited);
        if done < filled {
            self.keep_slice(lp, &buffer[done..filled], awaited);
        }
        lp.put_receive(buffer);
        received
    }

    /// A large package grows where it is kept, by what has arrived, never by what was declared
    /// alone.
    fn receive_in_place(self: &Rc<Self>, lp: &Rc<Loop>, mut rest: Box<Buffer>) -> Received {
        let filled = rest.filled;
        if rest.bytes.len() < filled + FIRST_ROOM / 4 {
            let most = || self.core.settings().limits().message_bytes;
            let room = grown(filled, rest.want.unwrap_or_else(most));
            rest.bytes.resize(room, 0);
        }
        let read = self.core.read(&mut rest.bytes[filled..]);
        let (n, received) = match self.judge_read(lp, read) {
            Ok(read) => read,
            Err(ended) => {
                self.core.state.borrow_mut().rest = Some(rest);
                return ended;
            }
        };
        rest.filled += n;
        let mut awaited = Awaited { want: rest.want, wait: rest.wait };
        let filled = rest.filled;
        let done = self.process_kept(lp, &mut rest.bytes[..filled], &mut awaited);
        self.keep(lp, rest, done, awaited);
        received
    }

    /// How many bytes came, and whether more may be there.
    #[inline]
    fn judge_read(
        &self,
        lp: &Loop,
        read: io::Result<(usize, bool)>,
    ) -> Result<(usize, Received), Received> {
        match read {
            Ok((n, drained)) if n > 0 => {
                self.core.bytes_read.set(self.core.bytes_read.get() + n as u64);
                if self.core.has(flag::WATCH_INPUT) {
                    self.core.heard(lp);
                }
                Ok((n, if drained { Received::Short } else { Received::More }))
            }
            Ok(_) => Err(Received::Eof),
            Err(e) => Err(match e.kind() {
                io::ErrorKind::WouldBlock => Received::Empty,
                io::ErrorKind::Interrupted => Received::More,
                _ => Received::Failed(e),
            }),
        }
    }

    /// Keeps what is left of a buffer that is owned.
    fn keep(&self, lp: &Rc<Loop>, mut rest: Box<Buffer>, done: usize, awaited: Awaited) {
        self.core.set(flag::REARM);
        if done == 0 && !self.core.has(flag::UPGRADED) && self.core.stage().is_session() {
            rest.want = awaited.want;
            rest.wait = awaited.wait;
            rest.moved_at = lp.now_ms();
            self.core.state.borrow_mut().rest = Some(rest);
            return;
        }
        if done < rest.filled {
            self.keep_slice(lp, &rest.bytes[done..rest.filled], awaited);
        }
        lp.pool.borrow_mut().put(rest);
    }

    fn keep_slice(&self, lp: &Rc<Loop>, left: &[u8], awaited: Awaited) {
        if self.core.has(flag::UPGRADED) {
            self.hand_over(lp, left);
        } else if self.core.stage().is_session() {
            self.core.keep_rest(lp, left, awaited);
        }
    }

    // ------------------------------------------------------------------ packages

    /// Divides bytes into packages and delivers them. How many bytes are done with.
    #[inline(always)]
    fn process(self: &Rc<Self>, lp: &Rc<Loop>, buffer: &mut [u8], awaited: &mut Awaited) -> usize {
        if !matches!(self.core.stage(), Stage::Open | Stage::Farewell) {
            return buffer.len();
        }
        let whole = buffer.len();
        let settings = self.core.settings();
        // The loop's is fetched for packages that need it: most do not.
        let mut scratch = Vec::new();
        let mut callbacks = self.callbacks();
        let mut pad = Pad::default();
        let mut cx = Context { pad: &mut pad, scene: settings.scene() };
        let con = self.handle();
        let mut at = 0;
        while at < whole {
            let step = {
                let Ok(mut guard) = self.protocol.try_borrow_mut() else { break };
                let Some(protocol) = guard.as_mut() else { break };
                first_package(lp, protocol, &mut buffer[at..], &mut scratch, awaited, &mut cx)
            };
            let message = match step {
                Ok(Some((length, message))) => {
                    at += length;
                    message
                }
                Ok(None) => break,
                Err(violation) => {
                    self.violated(lp, violation, mem::take(cx.pad));
                    at = whole;
                    break;
                }
            };
            if let (Some(message), Stage::Open) = (message, self.core.stage())
                && let Some(f) = &callbacks.message
            {
                let settled = lp.call(|| f.call(con, message));
                self.settle(lp, settled);
            }
            if !cx.pad.is_empty() && self.apply_in_batch(lp, mem::take(cx.pad)) {
                break;
            }
            if self.core.has(LOOK_UP) || lp.has_queued() {
                lp.after_callback();
                if !self.goes_on() {
                    // What is left is parked: nothing will announce it again.
                    self.core.set(flag::PARKED);
                    break;
                }
                if self.core.take(flag::RELOAD) {
                    callbacks = self.callbacks();
                }
            }
        }
        drop(callbacks);
        if scratch.capacity() > 0 {
            lp.put_scratch(scratch);
        }
        // What `input` has noted about a package that is not whole.
        if !cx.pad.is_empty() {
            self.apply_in_batch(lp, mem::take(cx.pad));
        }
        let counts = matches!(self.core.stage(), Stage::Open | Stage::Farewell);
        if counts || self.core.has(flag::UPGRADED) { at } else { whole }
    }

    /// Does what the protocol noted. True: that is enough for this turn, the rest has another.
    fn apply_in_batch(self: &Rc<Self>, lp: &Rc<Loop>, mut pad: Pad) -> bool {
        let enough = pad.write().enough;
        self.apply(lp, pad);
        if enough {
            self.core.set(flag::PARKED);
            self.core.list_again(lp);
            lp.after_callback();
        }
        enough
    }

    /// The same for bytes that were kept.
    #[inline(never)]
    fn process_kept(
        self: &Rc<Self>,
        lp: &Rc<Loop>,
        buffer: &mut [u8],
        awaited: &mut Awaited,
    ) -> usize {
        self.process(lp, buffer, awaited)
    }

    /// Whether the rest of a batch may be delivered.
    fn goes_on(&self) -> bool {
        match self.core.stage() {
            Stage::Open => !self.core.has(flag::PAUSED | flag::CHOKED | flag::UPGRADED),
            // Framed on, so that the peer's farewell is found.
            Stage::Farewell => true,
            _ => false,
        }
    }
}

/// How long the first package is, and its message.
type First<M> = (usize, Option<M>);

/// The first package and its message; `None`: it is not whole.
#[inline(always)]
fn first_package<'a, P: Protocol>(
    lp: &Loop,
    protocol: &mut P,
    buffer: &'a mut [u8],
    scratch: &'a mut Vec<u8>,
    awaited: &mut Awaited,
    cx: &mut Context,
) -> Result<Option<First<P::Incoming<'a>>>, Violation> {
    if !awaited.wait
        && let Some(seen) = protocol.glance(buffer, cx)
    {
        *awaited = Awaited::default();
        let message = protocol.decode_glanced(seen, &mut buffer[..seen.end])?;
        return Ok(Some((seen.end, message)));
    }
    let length = match *awaited {
        Awaited { want: Some(want), wait: true } => want,
        _ => match protocol.input(buffer, cx)? {
            Input::Package(length) => {
                judge_length::<P>(length, cx)?;
                length
            }
            partial => {
                let want = if let Input::PartialOf(want) = partial { Some(want) } else { None };
                judge_length::<P>(want.unwrap_or(buffer.len()).max(1), cx)?;
                *awaited = Awaited { want, wait: false };
                return Ok(None);
            }
        },
    };
    if length > buffer.len() {
        *awaited = Awaited { want: Some(length), wait: true };
        return Ok(None);
    }
    *awaited = Awaited::default();
    if scratch.capacity() == 0 {
        *scratch = lp.take_scratch();
    }
    scratch.clear();
    let message = protocol.decode(&mut buffer[..length], scratch, cx)?;
    Ok(Some((length, message)))
}

/// A package above the limit is refused on its declared length.
#[inline(always)]
fn judge_length<P: Protocol>(length: usize, cx: &Context) -> Result<(), Violation> {
    if length == 0 {
        return Err(Violation::new("the protocol found a package of no bytes"));
    }
    if !P::JUDGES_LENGTH && length > cx.limits().message_bytes {
        return Err(too_long(length, cx.limits().message_bytes));
    }
    Ok(())
}

#[cold]
fn too_long(length: usize, limit: usize) -> Violation {
    Violation::new(format!(
        "a package of {length} bytes is above the limit of {limit} (Limits::message_bytes)"
    ))
}

/// Whether an incomplete package goes back to the loop's buffer for the next receive.
fn fits(rest: &Buffer) -> bool {
    rest.filled <= MOVED_BYTES && rest.want.is_none_or(|want| want <= RECEIVE_BYTES)
}

fn moved_back(lp: &Loop, rest: Option<Box<Buffer>>, buffer: &mut [u8]) -> (usize, Awaited) {
    let Some(rest) = rest else { return (0, Awaited::default()) };
    let filled = rest.filled;
    buffer[..filled].copy_from_slice(&rest.bytes[..filled]);
    let awaited = Awaited { want: rest.want, wait: rest.wait };
    lp.pool.borrow_mut().put(rest);
    (filled, awaited)
}

/// The room for a package of which so much has arrived, and which will be so long, or at most.
fn grown(filled: usize, want: usize) -> usize {
    let by_arrival = match filled {
        0..=1024 => FIRST_ROOM,
        1025..=32768 => 4 * filled,
        _ => 16 * filled,
    };
    // At least one receive more, also where the package is nearly whole and others follow.
    let least = filled + FIRST_ROOM;
    want.min(by_arrival).max(least)
}

impl Core {
    fn keep_rest(&self, lp: &Loop, left: &[u8], awaited: Awaited) {
        if left.is_empty() {
            return;
        }
        let mut rest = lp.pool.borrow_mut().take();
        rest.bytes.extend_from_slice(left);
        rest.filled = left.len();
        rest.want = awaited.want;
        rest.wait = awaited.wait;
        rest.moved_at = lp.now_ms();
        self.state.borrow_mut().rest = Some(rest);
        self.set(flag::REARM);
    }

    fn has_read_ahead(&self) -> bool {
        self.peek_rare(|rare| rare.input_waits) == Some(true)
            && self.recv_buffer_len() >= READ_AHEAD
            && self.stage() == Stage::Open
    }

    /// Received and not yet delivered.
    pub(crate) fn recv_buffer_len(&self) -> usize {
        self.state.borrow().rest.as_ref().map_or(0, |rest| rest.filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_by_what_has_arrived_and_no_further_than_the_package() {
        assert_eq!(grown(100, 1 << 20), 100 + FIRST_ROOM);
        assert_eq!(grown(20 << 10, 1 << 20), 80 << 10);
        // A line of unknown length: at most as long as the limit allows, and not sixteen megabytes.
        assert_eq!(grown(1 << 20, 10 << 20), 10 << 20);
        assert_eq!(grown(10 << 20, 10 << 20), (10 << 20) + FIRST_ROOM);
    }
}
