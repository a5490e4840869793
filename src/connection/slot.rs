//! A connection in its place on the loop: the protocol, the callbacks, and what happens between
//! them.
use super::callbacks::{Callbacks, Shared};
use super::core::{Core, Stage, Stranger};
use super::dial::Step;
use super::flag;
use super::{Connection, Role};
use crate::error::CallbackError;
use crate::events::{Ending, Endpoint, Loop, Readiness, ResolveError, Settled};
use crate::protocols::{Event, Notes, Pad, Scene};
use crate::transport::tls::default_client;
use crate::transport::{Stream, TlsFailure};
use crate::{
    Context, ErrorCode, Failure, FailureKind, Farewell, Payload, Phase, Protocol, Sent, Verdict,
};
use std::any::Any;
use std::cell::RefCell;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

/// What makes an event one of the rare ones: then it is not only bytes of an open session. `EOF`:
/// a reset behind it; `SHUT`: the farewell of TLS has met a full socket.
const UNUSUAL: u32 = flag::NOT_OPEN | flag::LISTED | flag::BLOCKED | flag::EOF | flag::SHUT;

/// Strangers must not fill logs, and the first of them may be a mistake of one's own.
const FIRST: &str = " (the first of this worker; further ones are debug lines)";

pub(crate) struct Slot<P: Protocol, R: Role> {
    pub(crate) core: Core,
    /// Of the session that is on; borrowed only while one of its methods runs.
    pub(crate) protocol: RefCell<Option<P>>,
    pub(crate) callbacks: Shared<P, R>,
    pub(crate) client: Option<Box<ClientSide<P>>>,
}

type Make<P> = dyn Fn(Option<P>, &Core) -> P;

/// What a client needs for its next session.
pub(crate) struct ClientSide<P> {
    /// A protocol value that knows what its address says: the one that is given, or a fresh one.
    pub(crate) make: Box<Make<P>>,
    /// Made ahead of its session, because something was sent before it.
    pub(crate) next: RefCell<Option<P>>,
}

impl<P: Protocol, R: Role> Slot<P, R> {
    /// What is on is finished, and nothing behind it.
    pub(crate) fn nothing_follows(self: &Rc<Self>, lp: &Rc<Loop>) {
        if let Some(((), pad)) = self.ask(Farewell::Stopping, |p, cx| p.on_last(cx)) {
            self.apply(lp, pad);
        }
    }

    pub(crate) fn new(
        core: Core,
        protocol: Option<P>,
        callbacks: Rc<Callbacks<P, R>>,
        client: Option<Box<ClientSide<P>>>,
    ) -> Self {
        Slot { core, protocol: RefCell::new(protocol), callbacks: RefCell::new(callbacks), client }
    }

    #[inline]
    pub(crate) fn handle(&self) -> Connection<P, R> {
        Connection::of(self.core.key)
    }

    pub(crate) fn callbacks(&self) -> Rc<Callbacks<P, R>> {
        self.callbacks.borrow().clone()
    }

    // ------------------------------------------------------------------ the protocol

    /// Runs one of the protocol's methods and hands its notes back. `None`: it runs already, or
    /// there is no session.
    pub(crate) fn ask<T>(
        &self,
        farewell: Farewell,
        f: impl FnOnce(&mut P, &mut Context) -> T,
    ) -> Option<(T, Pad)> {
        let settings = self.core.settings();
        let mut pad = Pad::default();
        let mut protocol = self.protocol.try_borrow_mut().ok()?;
        let scene = Scene { farewell, ..settings.scene() };
        let answer = f(protocol.as_mut()?, &mut Context { pad: &mut pad, scene });
        Some((answer, pad))
    }

    /// Does what a protocol's method noted.
    pub(crate) fn apply(self: &Rc<Self>, lp: &Rc<Loop>, mut pad: Pad) {
        while !pad.is_empty() {
            let mut notes = pad.take();
            if !notes.answers.is_empty() {
                let answers = mem::take(&mut notes.answers);
                self.core.answer(lp, &answers, notes.answer_is_pong);
            }
            if let Some(deadline) = notes.deadline {
                self.core.with_rare(|rare| rare.deadline = deadline);
                self.core.set(flag::REARM);
            }
            match notes.hold {
                Some(true) => self.core.set(flag::HELD | flag::REARM),
                Some(false) => self.release(lp),
                None => {}
            }
            if notes.judges_silence {
                self.core.with_rare(|rare| rare.judges_silence = true);
            }
            if let Some(waits) = notes.message_waits {
                self.core.message_waits(lp, waits);
            }
            if let Some(waits) = notes.input_waits {
                self.input_waits(lp, waits);
            }
            if notes.close {
                self.close_flushing(lp);
            }
            let Some(event) = notes.event.take() else { return };
            self.deliver_event(lp, event);
            if !self.core.stage().is_session() {
                return;
            }
            let asked = self.ask(Farewell::Asked, |protocol, cx| protocol.after_event(cx));
            let Some((answer, noted)) = asked else { return };
            pad = noted;
            if let Err(violation) = answer {
                self.violated(lp, violation, pad);
                return;
            }
        }
    }

    /// Whole packages may lie in the rest that the protocol did not want yet.
    fn input_waits(&self, lp: &Loop, waits: bool) {
        self.core.with_rare(|rare| rare.input_waits = waits);
        self.core.set(flag::REARM);
        if !waits {
            if let Some(rest) = &mut self.core.state.borrow_mut().rest {
                // Until now it was not the peer that others waited for.
                rest.moved_at = lp.now_ms();
            }
            self.core.set(flag::PARKED);
            self.core.list_again(lp);
        }
    }

    /// Only what is for the peer: the session ends.
    pub(crate) fn apply_quietly(&self, lp: &Loop, notes: &Notes) {
        if !notes.answers.is_empty() {
            self.core.answer(lp, &notes.answers, false);
        }
    }

    /// The handshake is complete: what waited for it leaves.
    fn release(self: &Rc<Self>, lp: &Rc<Loop>) {
        if !self.core.take(flag::HELD) {
            return;
        }
        self.core.release_ahead(lp);
        self.core.with_dialer(|dialer| dialer.attempt = None);
        self.core.begin_heartbeat(lp);
        self.core.set(flag::REARM);
    }

    fn deliver_event(self: &Rc<Self>, lp: &Rc<Loop>, event: Event) {
        let con = self.handle();
        let callbacks = self.callbacks();
        let theirs = callbacks.websocket.clone().unwrap_or_default();
        let open = self.core.stage() == Stage::Open;
        let settled = match &event {
            Event::Upgrade(head) => match &theirs.upgrade {
                Some(f) if open => lp.call(|| (f.borrow_mut())(con, &head.request())),
                _ => Ok(()),
            },
            Event::Upgraded(head) => match &theirs.upgraded {
                Some(f) if open => lp.call(|| (f.borrow_mut())(con, &head.request())),
                _ => Ok(()),
            },
            Event::Opened(response) => match &callbacks.opened {
                Some(f) if open => lp.call(|| (f.borrow_mut())(con, response)),
                _ => Ok(()),
            },
            Event::Ping(payload) => match &theirs.ping {
                Some(f) if open => lp.call(|| (f.borrow_mut())(con, payload)),
                _ => Ok(()),
            },
            Event::Pong { payload, of_heartbeat } => {
                let now = lp.now();
                self.core.with_heartbeat(|beat| beat.answered(now, payload, *of_heartbeat));
                match &theirs.pong {
                    Some(f) if open => lp.call(|| (f.borrow_mut())(con, payload)),
                    _ => Ok(()),
                }
            }
            Event::Closed { code, reason, first } => {
                self.peer_said_farewell(lp);
                match &theirs.farewell {
                    Some(f) if open && *first => lp.call(|| (f.borrow_mut())(con, *code, reason)),
                    _ => Ok(()),
                }
            }
        };
        self.settle(lp, settled);
        lp.after_callback();
    }

    // ------------------------------------------------------------------ callbacks

    /// A callback of this connection has returned.
    #[inline]
    pub(crate) fn settle(self: &Rc<Self>, lp: &Rc<Loop>, settled: Settled) {
        if let Err(e) = settled {
            self.callback_failed(lp, e);
        }
    }

    #[cold]
    fn callback_failed(self: &Rc<Self>, lp: &Rc<Loop>, e: CallbackError) {
        let owner = self.core.settings().owner();
        let verdict = owner.as_ref().and_then(|owner| owner.judge(lp, self.handle().any(), &e));
        if verdict.is_none() {
            let of = owner.map_or(String::new(), |owner| format!(" of worker {:?}", owner.name()));
            log::error!("a callback of {:?}{of} failed: {e}", self.handle());
        }
        match verdict.unwrap_or(Verdict::Close) {
            Verdict::Keep => {}
            Verdict::Close => self.begin_close(lp, Farewell::CallbackFailed),
            Verdict::StopWorker => lp.ask_stop(),
        }
    }

    fn on_error(self: &Rc<Self>, lp: &Rc<Loop>, code: ErrorCode, failure: &Failure) {
        let callbacks = self.callbacks();
        match &callbacks.error {
            Some(f) => {
                let con = self.handle();
                let settled = lp.call(|| (f.borrow_mut())(con, code, failure));
                self.settle(lp, settled);
            }
            None if failure.foreign && self.is_first(Stranger::Page) => {
                log::warn!("{:?}: {failure}{FIRST}", self.handle());
            }
            // What a stranger did; a message that could not be encoded is the program's own.
            None if R::ACCEPTED && failure.kind() != FailureKind::Encode => {
                log::debug!("{:?}: {failure}", self.handle());
            }
            None => log::warn!("{:?}: {failure}", self.handle()),
        }
    }

    fn is_first(&self, what: Stranger) -> bool {
        self.core.settings().owner().is_some_and(|owner| owner.is_first(what))
    }

    fn deliver(self: &Rc<Self>, lp: &Rc<Loop>, event: u32) {
        let con = self.handle();
        let flow = self.callbacks().flow.clone().unwrap_or_default();
        // One that closes is told no more of its buffer; what is full may be its next session's.
        let stage = self.core.stage();
        let told = !stage.is_closing() && stage != Stage::Ended || self.core.has(flag::AGAIN);
        let settled = match event {
            flag::ON_FULL | flag::ON_DRAINED | flag::ON_END if !told => Ok(()),
            flag::ON_FULL => call_plain(lp, con, &flow.full),
            flag::ON_DRAINED => call_plain(lp, con, &flow.drain),
            flag::ON_END => call_plain(lp, con, &flow.end),
            flag::ON_FAILED => return self.deliver_failures(lp),
            flag::ON_CLOSED => return self.deliver_close(lp),
            _ => Ok(()),
        };
        self.settle(lp, settled);
    }

    fn deliver_failures(self: &Rc<Self>, lp: &Rc<Loop>) {
        if self.core.stage() == Stage::Failing && !self.core.has(flag::AGAIN) {
            // What was queued for it is gone already.
            self.drop_next();
        }
        if let Some(drops) = self.core.take_drops(lp) {
            self.on_error(lp, ErrorCode::SendFail, &drops);
            self.core.report_drops(lp);
            if drops.kind() == FailureKind::Encode {
                self.tell_unsent(lp);
            }
        }
        let failure = self.core.with_rare(|rare| rare.failure.take());
        if let Some(failure) = failure {
            let (code, failure) = *failure;
            self.on_error(lp, code, &failure);
        }
        if self.core.stage() == Stage::Failing {
            self.core.set_stage(Stage::Ended);
            self.core.queue(lp, flag::ON_CLOSED);
        }
    }

    fn deliver_close(self: &Rc<Self>, lp: &Rc<Loop>) {
        if self.core.stage() != Stage::Ended {
            return;
        }
        let callbacks = self.callbacks();
        if let Some(f) = &callbacks.close {
            let con = self.handle();
            if let Err(e) = lp.call(|| (f.borrow_mut())(con)) {
                log::error!("on_close of {con:?} failed: {e}");
            }
        }
        self.after_close(lp);
    }

    // ------------------------------------------------------------------ the opening

    pub(crate) fn step(self: &Rc<Self>, lp: &Rc<Loop>, step: Step) {
        match step {
            Step::Pending => {}
            Step::Failed(failure) => self.core.fail(lp, ErrorCode::ConnectFail, failure),
            Step::Connected(stream, remote) => {
                self.core.set_remote(remote);
                match self.secured(stream) {
                    Ok(stream) => {
                        self.core.set_stage(Stage::Securing);
                        self.core.put_stream(stream);
                        self.secure(lp);
                    }
                    Err(failure) => self.core.fail(lp, ErrorCode::ConnectFail, failure),
                }
            }
        }
        self.core.rearm(lp);
    }

    /// The socket, in TLS where the address or the program asks for it.
    fn secured(&self, stream: Stream) -> Result<Stream, Failure> {
        let Some(dialer) = self.core.dialer() else { return Ok(stream) };
        if !dialer.secure {
            return Ok(stream);
        }
        let (tls, host) = (dialer.tls.clone(), dialer.address.host.clone());
        drop(dialer);
        let tls = match tls {
            Some(tls) => tls,
            None => default_client()
                .map_err(|e| Failure::new(FailureKind::Tls, Phase::Tls, e.to_string()))?,
        };
        stream.over_tls_client(&tls, &host).map_err(tls_failed)
    }

    /// Goes on with TLS.
    pub(crate) fn secure(self: &Rc<Self>, lp: &Rc<Loop>) {
        let Some(mut stream) = self.core.take_stream() else { return };
        let stands = stream.handshake();
        self.core.put_stream(stream);
        if self.core.stage() != Stage::Securing {
            // A certificate verifier is user code: it has ended its own connection.
            return;
        }
        match stands {
            Ok(true) => self.stands(lp),
            Ok(false) => {}
            Err(tls) if R::ACCEPTED => {
                let (con, reason) = (self.handle(), tls.reason);
                match self.is_first(Stranger::Tls) {
                    true => log::warn!("{con:?}: TLS with the client failed: {reason}{FIRST}"),
                    false => log::debug!("{con:?}: TLS with the client failed: {reason}"),
                }
                self.end_unborn(lp);
            }
            Err(tls) => self.core.fail(lp, ErrorCode::ConnectFail, tls_failed(tls)),
        }
    }

    /// The transport stands: the session begins.
    pub(crate) fn stands(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        if !R::ACCEPTED {
            core.opened.set(lp.now_ms());
        }
        core.set_stage(Stage::Open);
        core.set(flag::OPENED | flag::SERVING | flag::REARM);
        if let Some(owner) = core.settings().owner() {
            owner.began(lp, core.id, core.key);
        }
        if let Some(client) = &self.client {
            let made = client.next.take();
            let next = self.next(client, made);
            let old = self.protocol.replace(Some(next));
            drop(old);
        }
        self.tell_wants();
        if let Some(((), notes)) = self.ask(Farewell::Asked, |p, cx| p.on_connect(cx)) {
            self.apply(lp, notes);
        }
        if !core.has(flag::HELD) {
            core.release_ahead(lp);
            core.with_dialer(|dialer| dialer.attempt = None);
        }
        let callbacks = self.callbacks();
        let settled = call_plain(lp, self.handle(), &callbacks.connect);
        self.settle(lp, settled);
        core.clear(flag::SERVING);
        lp.after_callback();
        // The event that told of the connection may have told of bytes or of an end too, and so may
        // the one that brought the last of the handshake of TLS.
        if !R::ACCEPTED || core.is_tls() {
            core.list_again(lp);
        }
        self.end_of_part(lp);
    }

    /// Which control frames the program has callbacks for: others need not be told.
    pub(crate) fn tell_wants(&self) {
        let callbacks = self.callbacks();
        if let Some(theirs) = &callbacks.websocket {
            let (pings, pongs) = (theirs.ping.is_some(), theirs.pong.is_some());
            self.ask(Farewell::Asked, |protocol, _| protocol.wants(pings, pongs));
        }
    }

    /// The protocol value of the session to come: the one that encoded what waits for it, or a
    /// fresh one. It is told the settings as they are now.
    pub(crate) fn next(&self, client: &ClientSide<P>, made: Option<P>) -> P {
        // One whose messages went with an opening that failed is of no use to the next.
        let made = made.filter(|_| self.core.has_ahead());
        (client.make)(made, &self.core)
    }

    /// Ends without an event: an accepted connection that never stood.
    pub(crate) fn end_unborn(self: &Rc<Self>, lp: &Rc<Loop>) {
        self.core.drop_socket(lp);
        self.core.set_stage(Stage::Gone);
        self.free(lp);
    }
}

fn tls_failed(tls: TlsFailure) -> Failure {
    let mut failure = Failure::new(tls.kind, Phase::Tls, tls.reason);
    failure.io = tls.io;
    failure
}

/// Calls it if it is there.
pub(crate) fn call_plain<P: Protocol, R: Role>(
    lp: &Loop,
    con: Connection<P, R>,
    f: &Option<super::callbacks::Plain<P, R>>,
) -> Settled {
    match f {
        Some(f) => lp.call(|| (f.borrow_mut())(con)),
        None => Ok(()),
    }
}

impl<P: Protocol, R: Role> Endpoint for Slot<P, R> {
    fn handle_ready(self: Rc<Self>, lp: &Rc<Loop>, ready: Readiness) {
        if self.core.has(UNUSUAL) {
            return self.ready_rarely(lp, ready);
        }
        if ready.readable || ready.closed {
            self.serve(lp, ready.closed);
            self.end_of_part(lp);
        }
    }

    fn handle_alarm(self: Rc<Self>, lp: &Rc<Loop>) {
        self.deadline_passed(lp);
    }

    fn handle_dirty(self: Rc<Self>, lp: &Rc<Loop>) {
        self.core.clear(flag::DIRTY);
        self.end_of_part(lp);
    }

    fn handle_queued(self: Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        core.clear(flag::QUEUED);
        for event in
            [flag::ON_FULL, flag::ON_FAILED, flag::ON_DRAINED, flag::ON_END, flag::ON_CLOSED]
        {
            if core.take(event) {
                self.deliver(lp, event);
            }
        }
        core.rearm(lp);
    }

    fn handle_resolved(
        self: Rc<Self>,
        lp: &Rc<Loop>,
        found: Result<Vec<SocketAddr>, ResolveError>,
    ) {
        let step = self.core.resolved(lp, found);
        self.step(lp, step);
    }

    fn handle_ending(self: Rc<Self>, lp: &Rc<Loop>, ending: Ending) {
        match ending {
            Ending::Asked => self.begin_close(lp, Farewell::Asked),
            Ending::Stopping => self.begin_close(lp, Farewell::Stopping),
            Ending::AtOnce => self.destroy(lp),
            Ending::Last => self.nothing_follows(lp),
        }
    }

    fn send_payload(self: Rc<Self>, lp: &Rc<Loop>, payload: Payload) -> Sent {
        self.send_by(lp, |protocol, out, cx| protocol.encode_payload(payload, out, cx))
    }

    fn send_raw(self: Rc<Self>, lp: &Rc<Loop>, bytes: &[u8]) -> Sent {
        self.send_by(lp, |_, out, _| {
            out.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn common(&self) -> Option<&dyn Any> {
        Some(&self.core)
    }

    fn protocol(&self) -> &'static str {
        P::NAME
    }
}

impl<P: Protocol, R: Role> Slot<P, R> {
    /// Ready, and something else than an open session with nothing in its way.
    #[inline(never)]
    fn ready_rarely(self: Rc<Self>, lp: &Rc<Loop>, ready: Readiness) {
        let core = &self.core;
        if ready.again {
            core.clear(flag::LISTED);
            core.report_drops(lp);
            lp.after_callback();
            self.tell_hears_again(lp);
        } else if core.has(flag::LISTED) {
            // The ready list asks it, for whatever this event says: one budget a turn, not two.
            return;
        }
        match core.stage() {
            Stage::Dialing if core.peek_rare(|r| r.dial_asked_in) == Some(lp.turn_number()) => {
                core.list_again(lp);
            }
            Stage::Dialing => {
                let step = core.dial(lp);
                self.step(lp, step);
            }
            Stage::Connecting => {
                let step = core.dial_ready(lp);
                self.step(lp, step);
            }
            Stage::Securing => {
                self.secure(lp);
                core.rearm(lp);
            }
            stage if stage.is_session() => {
                if ready.writable && core.has(flag::BLOCKED) {
                    self.flush(lp);
                }
                if ready.readable || ready.closed {
                    self.serve(lp, ready.closed);
                }
                if ready.closed && core.has(flag::EOF) {
                    self.look_for_reset(lp);
                }
                self.end_of_part(lp);
            }
            _ => {}
        }
    }

    /// The handle goes stale; what it owned is dropped once nobody works with it.
    pub(crate) fn free(self: &Rc<Self>, lp: &Rc<Loop>) {
        if let Some(owner) = self.core.settings().owner() {
            owner.ended(lp, self.core.id);
        }
        lp.set_alarm(&self.core.alarm, self.core.key, None);
        let freed = lp.remove(self.core.key);
        drop(freed);
    }
}
