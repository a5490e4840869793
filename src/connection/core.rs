//! What every connection has, whatever its protocol: its stage, its socket, its buffers, its
//! deadlines.
//!
//! Everything that changes a connection's [`Stage`] is in this folder; the stages and what leads
//! from one to the next:
//!
//! ```text
//! Initial ─connect→ Dialing → Resolving → Connecting → Securing ─stands→ Open
//! Open ─close→ Farewell → Flushing → Lingering → Ended        Open ─destroy→ Ended
//! every stage from Dialing on ─fails→ Failing ─on_error→ Ended ─on_close→ Gone
//! Failing, Ended ─reconnect→ Waiting → Dialing                Initial, Waiting ─close→ Gone
//! ```
use super::dial::Dialer;
use super::rare::Rare;
use super::{AnyConnection, flag};
use crate::error::CallbackError;
use crate::events::wheel::TimerKey;
use crate::events::{Buffer, Key, Loop, with_loop};
use crate::protocols::{Doors, Scene, Terms};
use crate::transport::Stream;
use crate::{Farewell, Limits, Status, Verdict};
use std::any::Any;
use std::cell::{Cell, Ref, RefCell};
use std::io::{self, IoSlice};
use std::rc::{Rc, Weak};

/// Queued bytes from which on `send` writes at once.
pub(crate) const WRITE_AT_ONCE: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Made, or its reconnect was cancelled.
    Initial,
    /// A reconnect is pending.
    Waiting,
    /// Asked to connect; begins in the next turn.
    Dialing,
    Resolving,
    Connecting,
    /// TLS.
    Securing,
    Open,
    /// Closing: our farewell leaves, then the peer's is awaited.
    Farewell,
    /// Closing: what is queued leaves, then our direction ends.
    Flushing,
    /// Closing: our direction has ended; input is discarded until the peer's end.
    Lingering,
    /// The socket is gone and `on_error` is on its way.
    Failing,
    /// The socket is gone; `on_close` is on its way or runs.
    Ended,
    /// The handle is stale.
    Gone,
}

impl Stage {
    pub(crate) fn status(self) -> Status {
        match self {
            Stage::Initial | Stage::Waiting => Status::Initial,
            Stage::Dialing | Stage::Resolving | Stage::Connecting | Stage::Securing => {
                Status::Connecting
            }
            Stage::Open => Status::Established,
            Stage::Farewell | Stage::Flushing | Stage::Lingering | Stage::Failing => {
                Status::Closing
            }
            Stage::Ended | Stage::Gone => Status::Closed,
        }
    }

    /// The opening is on.
    pub(crate) fn is_opening(self) -> bool {
        (Stage::Dialing..=Stage::Securing).contains(&self)
    }

    /// A session that ends but still has its socket.
    pub(crate) fn is_closing(self) -> bool {
        (Stage::Farewell..=Stage::Lingering).contains(&self)
    }

    /// There is a socket whose transport stands.
    pub(crate) fn is_session(self) -> bool {
        (Stage::Open..=Stage::Lingering).contains(&self)
    }
}

/// What is shared: by all connections of a worker, or owned by one client.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) terms: Terms,
    /// Accepted: whose it is.
    pub(crate) owner: Option<Weak<dyn Owner>>,
}

/// Strangers whom a worker turned away, and of whom whoever runs it may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stranger {
    /// A page of another host.
    Page = 1,
    /// TLS failed.
    Tls = 2,
    /// There is no certificate to show.
    WithoutCertificate = 4,
}

/// A worker, as far as its connections know it.
pub(crate) trait Owner: Any {
    fn number(&self) -> u32;
    fn name(&self) -> String;
    /// A connection's session begins, or goes on under another key.
    fn began(&self, lp: &Loop, id: u64, key: Key);
    /// A connection's handle has ended.
    fn ended(&self, lp: &Loop, id: u64);
    /// Whether it is the first stranger of this kind: that one is worth a warning.
    fn is_first(&self, what: Stranger) -> bool;
    /// What becomes of the connection whose callback failed; `None`: nobody was asked.
    fn judge(&self, lp: &Rc<Loop>, con: AnyConnection, e: &CallbackError) -> Option<Verdict>;
}

pub(crate) static DOORS: Doors = Doors {
    random: crate::random::fill,
    now: || with_loop(|lp| lp.now()).unwrap_or_else(crate::events::clock),
    system_time: || with_loop(|lp| lp.system_time()).unwrap_or(std::time::UNIX_EPOCH),
};

impl Settings {
    pub(crate) fn owner(&self) -> Option<Rc<dyn Owner>> {
        self.owner.as_ref().and_then(Weak::upgrade)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.terms.limits
    }

    /// What a protocol sees of the world.
    #[inline(always)]
    pub(crate) fn scene(&self) -> Scene<'_> {
        Scene { terms: &self.terms, doors: &DOORS, farewell: Farewell::Asked }
    }
}

pub(crate) struct State {
    pub(crate) stream: Option<Stream>,
    pub(crate) out: Option<Box<Buffer>>,
    pub(crate) rest: Option<Box<Buffer>>,
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) settings: Rc<Settings>,
}

impl State {
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// How far a write came.
#[derive(Debug)]
pub(crate) enum Written {
    /// Nothing is left, or there was nothing.
    All,
    /// The socket is full.
    Blocked,
    Failed(io::Error),
}

pub(crate) struct Core {
    pub(crate) key: Key,
    pub(crate) id: u64,
    pub(crate) bytes_read: Cell<u64>,
    pub(crate) bytes_written: Cell<u64>,
    /// When the transport stood, in the loop's milliseconds; accepted: when it was accepted, from
    /// which on TLS and handshake have their one deadline.
    pub(crate) opened: Cell<u64>,
    /// IPv4 address and port of the peer; 0: none, or in `Rare`.
    pub(super) remote_v4: Cell<u64>,
    pub(crate) alarm: Cell<TimerKey>,
    flags: Cell<u32>,
    stage: Cell<Stage>,
    pub(crate) state: RefCell<State>,
}

impl Core {
    pub(crate) fn new(key: Key, id: u64, flags: u32, stage: Stage, settings: Rc<Settings>) -> Core {
        let not_open = if stage == Stage::Open { 0 } else { flag::NOT_OPEN };
        let state = State { stream: None, out: None, rest: None, rare: None, settings };
        Core {
            key,
            id,
            bytes_read: Cell::new(0),
            bytes_written: Cell::new(0),
            opened: Cell::new(0),
            remote_v4: Cell::new(0),
            alarm: Cell::new(TimerKey::NONE),
            flags: Cell::new(flags | not_open),
            stage: Cell::new(stage),
            state: RefCell::new(state),
        }
    }

    #[inline(always)]
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.stage.set(stage);
        match stage {
            Stage::Open => self.clear(flag::NOT_OPEN),
            _ => self.set(flag::NOT_OPEN),
        }
    }

    #[inline(always)]
    pub(crate) fn has(&self, bits: u32) -> bool {
        self.flags.get() & bits != 0
    }

    /// Those of these that are set.
    pub(crate) fn only(&self, bits: u32) -> u32 {
        self.flags.get() & bits
    }

    #[inline(always)]
    pub(crate) fn set(&self, bits: u32) {
        self.flags.set(self.flags.get() | bits);
    }

    #[inline(always)]
    pub(crate) fn clear(&self, bits: u32) {
        self.flags.set(self.flags.get() & !bits);
    }

    /// Clears them; whether one was set.
    #[inline(always)]
    pub(crate) fn take(&self, bits: u32) -> bool {
        let had = self.has(bits);
        self.clear(bits);
        had
    }

    pub(crate) fn is_client(&self) -> bool {
        self.has(flag::CLIENT)
    }

    #[inline]
    pub(crate) fn settings(&self) -> Rc<Settings> {
        self.state.borrow().settings.clone()
    }

    pub(crate) fn with_rare<T>(&self, f: impl FnOnce(&mut Rare) -> T) -> T {
        f(self.state.borrow_mut().rare())
    }

    /// Reads what may not be there without making it.
    pub(crate) fn peek_rare<T>(&self, f: impl FnOnce(&Rare) -> T) -> Option<T> {
        self.state.borrow().rare.as_deref().map(f)
    }

    pub(crate) fn dialer(&self) -> Option<Ref<'_, Dialer>> {
        let state = self.state.borrow();
        Ref::filter_map(state, |s| s.rare.as_deref().and_then(|rare| rare.dialer.as_deref())).ok()
    }

    pub(crate) fn with_dialer<T>(&self, f: impl FnOnce(&mut Dialer) -> T) -> Option<T> {
        let mut state = self.state.borrow_mut();
        state.rare.as_deref_mut().and_then(|rare| rare.dialer.as_deref_mut()).map(f)
    }

    // ------------------------------------------------------------------ the loop's lists

    /// Has an event to deliver once no callback runs.
    pub(crate) fn queue(&self, lp: &Loop, events: u32) {
        self.set(events);
        if !self.has(flag::QUEUED) {
            self.set(flag::QUEUED);
            lp.queue(self.key);
        }
    }

    /// To be asked again in the next turn.
    pub(crate) fn list_again(&self, lp: &Loop) {
        if !self.has(flag::LISTED) {
            self.set(flag::LISTED);
            lp.again(self.key);
        }
    }

    /// Has bytes to write outside its own part of the turn.
    #[inline]
    pub(crate) fn mark_dirty(&self, lp: &Loop) {
        if !self.has(flag::DIRTY | flag::SERVING) {
            self.set(flag::DIRTY);
            lp.mark_dirty(self.key);
        }
    }

    // ------------------------------------------------------------------ the socket

    /// Takes the socket out for as long as it works: certificate verifiers are user code, and no
    /// borrow may be held then.
    pub(crate) fn take_stream(&self) -> Option<Stream> {
        self.state.borrow_mut().stream.take()
    }

    /// Puts it back, unless the connection has ended meanwhile.
    pub(crate) fn put_stream(&self, stream: Stream) {
        if self.stage() < Stage::Failing {
            self.state.borrow_mut().stream = Some(stream);
        }
    }

    /// Reads into `buffer`, and says whether the socket was emptied. Where there is no socket, or
    /// it works already, it would block.
    #[inline(always)]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        if let Some(bare) = self.state.borrow_mut().stream.as_mut().filter(|s| !s.is_tls()) {
            let n = bare.read(buffer)?;
            return Ok((n, n < buffer.len()));
        }
        self.read_apart(buffer)
    }

    /// The same for TLS.
    #[inline(never)]
    fn read_apart(&self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        let Some(mut stream) = self.take_stream() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let read = stream.read(buffer);
        let drained = stream.drained() && !stream.has_unread();
        self.put_stream(stream);
        Ok((read?, drained))
    }

    /// Writes what is queued until it has left or the socket is full.
    #[inline(always)]
    pub(crate) fn write_out(&self, lp: &Loop) -> Written {
        // Nearly always: a bare socket takes all of it at once, and nobody else runs meanwhile.
        let mut state = self.state.borrow_mut();
        let now = &mut *state;
        if let (Some(stream), Some(out)) = (&mut now.stream, &mut now.out)
            && !stream.is_tls()
            && !self.has(flag::BLOCKED)
            && out.shared.is_none()
            && let Ok(n) = stream.write(&out.bytes[out.start..])
        {
            out.start += n;
            self.bytes_written.set(self.bytes_written.get() + n as u64);
            if out.start == out.bytes.len() {
                let out = now.out.take();
                drop(state);
                if let Some(out) = out {
                    lp.pool.borrow_mut().put(out);
                }
                return Written::All;
            }
        }
        drop(state);
        self.write_more(lp)
    }

    /// The same for whatever needs more than one write, or TLS.
    #[inline(never)]
    fn write_more(&self, lp: &Loop) -> Written {
        let (stream, out) = {
            let mut state = self.state.borrow_mut();
            (state.stream.take(), state.out.take())
        };
        let Some(mut stream) = stream else {
            self.state.borrow_mut().out = out;
            return Written::All;
        };
        let mut out = match out {
            Some(out) => out,
            None if stream.is_tls() => lp.pool.borrow_mut().take(),
            None => {
                self.put_stream(stream);
                return Written::All;
            }
        };
        let mut written = self.write_shared(&mut stream, &mut out);
        while out.unsent() > 0 && matches!(written, Written::All) {
            match stream.write(&out.bytes[out.start..]) {
                Ok(0) => {
                    written = Written::Failed(io::ErrorKind::WriteZero.into());
                    break;
                }
                Ok(n) => {
                    out.start += n;
                    if self.has(flag::BLOCKED) {
                        out.moved_at = lp.now_ms();
                    }
                    self.bytes_written.set(self.bytes_written.get() + n as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    written = Written::Blocked;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    written = Written::Failed(e);
                    break;
                }
            }
        }
        if matches!(written, Written::All | Written::Blocked) {
            written = flushed(&mut stream, written);
        }
        self.put_stream(stream);
        self.after_write(lp, out, &written);
        written
    }

    /// A message that others are sent too leaves from where it stands; what the socket does not
    /// take becomes this connection's own.
    fn write_shared(&self, stream: &mut Stream, out: &mut Buffer) -> Written {
        let Some(shared) = out.shared.take() else { return Written::All };
        let (taken, written) = match stream.write(&shared) {
            Ok(n) => (n, Written::All),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (0, Written::All),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => (0, Written::Blocked),
            Err(e) => (0, Written::Failed(e)),
        };
        self.bytes_written.set(self.bytes_written.get() + taken as u64);
        out.bytes.extend_from_slice(&shared[taken..]);
        written
    }

    fn after_write(&self, lp: &Loop, mut out: Box<Buffer>, written: &Written) {
        match written {
            Written::All => {
                self.clear(flag::BLOCKED);
                lp.pool.borrow_mut().put(out);
            }
            Written::Blocked => {
                if !self.has(flag::BLOCKED) {
                    self.set(flag::BLOCKED | flag::REARM);
                    out.moved_at = lp.now_ms();
                }
                compact(&mut out);
                self.state.borrow_mut().out = Some(out);
            }
            Written::Failed(_) => {
                self.state.borrow_mut().out = Some(out);
            }
        }
    }

    /// Head and lent payload in one vectored write; what the socket does not take is copied behind
    /// the head.
    pub(crate) fn write_lent(&self, lp: &Loop, lent: &[u8]) -> Written {
        let taken = {
            let mut state = self.state.borrow_mut();
            if self.has(flag::BLOCKED) { None } else { state.stream.take() }
        };
        let Some(mut stream) = taken else {
            self.with_out(lp, |out| out.bytes.extend_from_slice(lent));
            return Written::Blocked;
        };
        let mut out = self.take_out(lp);
        let (mut at, mut written) = (0, Written::All);
        while at < lent.len() {
            let slices = [IoSlice::new(&out.bytes[out.start..]), IoSlice::new(&lent[at..])];
            match stream.write_vectored(&slices) {
                Ok(0) => written = Written::Failed(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    let of_head = n.min(out.unsent());
                    out.start += of_head;
                    at += n - of_head;
                    self.bytes_written.set(self.bytes_written.get() + n as u64);
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => written = Written::Blocked,
                Err(e) => written = Written::Failed(e),
            }
            break;
        }
        out.bytes.extend_from_slice(&lent[at..]);
        if matches!(written, Written::All) {
            written = flushed(&mut stream, written);
        }
        self.put_stream(stream);
        self.after_write(lp, out, &written);
        written
    }

    /// The out-buffer and the settings, in one look.
    #[inline(always)]
    pub(crate) fn take_out_with_settings(&self, lp: &Loop) -> (Box<Buffer>, Rc<Settings>) {
        let (out, settings) = {
            let mut state = self.state.borrow_mut();
            (state.out.take(), state.settings.clone())
        };
        let mut out = out.unwrap_or_else(|| lp.pool.borrow_mut().take());
        out.own();
        (out, settings)
    }

    /// Puts the out-buffer back, unless the session has ended meanwhile: nothing queued for one
    /// session reaches the next.
    #[inline]
    pub(crate) fn put_out(&self, lp: &Loop, out: Box<Buffer>) {
        if self.stage() < Stage::Failing {
            self.state.borrow_mut().out = Some(out);
        } else {
            lp.pool.borrow_mut().put(out);
        }
    }

    #[inline]
    pub(crate) fn take_out(&self, lp: &Loop) -> Box<Buffer> {
        let out = self.state.borrow_mut().out.take();
        let mut out = out.unwrap_or_else(|| lp.pool.borrow_mut().take());
        out.own();
        out
    }

    /// Appends to what is queued.
    pub(crate) fn with_out<T>(&self, lp: &Loop, f: impl FnOnce(&mut Buffer) -> T) -> T {
        let mut out = self.take_out(lp);
        let result = f(&mut out);
        self.state.borrow_mut().out = Some(out);
        result
    }

    /// Lets go of socket and buffers; they are dropped outside every borrow.
    pub(crate) fn drop_socket(&self, lp: &Loop) {
        if self.stage() == Stage::Resolving {
            lp.abandon_name(self.key);
        }
        let local = self.local_addr(lp);
        let taken = {
            let mut state = self.state.borrow_mut();
            if let Some(local) = local {
                state.rare().local = Some(local);
            }
            let attempt = state.rare.as_mut().and_then(|rare| rare.dialer.as_mut());
            let attempt = attempt.and_then(|dialer| dialer.attempt.take());
            (state.stream.take(), state.out.take(), state.rest.take(), attempt)
        };
        let (_stream, out, rest, _attempt) = taken;
        for buffer in [out, rest].into_iter().flatten() {
            lp.pool.borrow_mut().put(buffer);
        }
        self.clear(
            flag::BLOCKED
                | flag::CHOKED
                | flag::FULL
                | flag::PARKED
                | flag::EOF
                | flag::HELD
                | flag::SHUT
                | flag::SHUT_DONE
                | flag::JUDGE,
        );
        lp.set_alarm(&self.alarm, self.key, None);
    }
}

/// What TLS still holds counts as waiting too.
fn flushed(stream: &mut Stream, so_far: Written) -> Written {
    if !stream.is_tls() {
        return so_far;
    }
    match stream.flush_transport() {
        Ok(true) => so_far,
        Ok(false) => Written::Blocked,
        Err(e) => Written::Failed(e),
    }
}

/// Moves what waits to the front once the sent part outgrows it, so that a buffer that never
/// empties does not grow for ever.
fn compact(out: &mut Buffer) {
    if out.start > out.unsent() {
        out.bytes.drain(..out.start);
        out.start = 0;
    }
}
