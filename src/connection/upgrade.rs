//! Another protocol takes a live connection over.
use super::callbacks::Callbacks;
use super::core::{Core, Stage};
use super::flag;
use super::slot::Slot;
use super::{Connection, Role};
use crate::events::{Key, Loop};
use crate::{Farewell, Protocol};
use std::rc::Rc;

/// What goes over with the socket.
const KEPT: u32 = flag::CLIENT
    | flag::BLOCKED
    | flag::HALF_OPEN
    | flag::BACKPRESSURE
    | flag::OPENED
    | flag::PAUSED
    | flag::CHOKED
    | flag::FULL
    | flag::EOF
    | flag::SHUT
    | flag::SHUT_DONE
    | flag::ANSWERS;
/// What was not told yet is told on the new handle.
const TOLD_THERE: u32 = flag::ON_FULL | flag::ON_DRAINED;

impl<P: Protocol, R: Role> Connection<P, R> {
    /// Goes on over this socket in another protocol. This handle is stale from the call on, its
    /// callbacks are dropped after the running one, and `on_close` will come on the new handle
    /// only: set callbacks there. User data and id stay; bytes not yet delivered go to `q` once the
    /// callback returns. What was paused stays paused, and what is full is drained there; a pending
    /// `shutdown_write` goes on. Subscriptions end. A client that was upgraded cannot reconnect.
    ///
    /// Outside an open session it answers a stale handle.
    pub fn upgrade_with<Q: Protocol>(self, q: Q) -> Connection<Q, R> {
        let upgraded = self.with_slot(|lp, slot| slot.upgrade(lp, q));
        upgraded.flatten().unwrap_or_else(|| Connection::of(Key::NOBODY))
    }
}

impl<P: Protocol, R: Role> Slot<P, R> {
    fn upgrade<Q: Protocol>(self: &Rc<Self>, lp: &Rc<Loop>, q: Q) -> Option<Connection<Q, R>> {
        let old = &self.core;
        if old.stage() != Stage::Open {
            return None;
        }
        let settings = old.settings();
        let flags = old.only(KEPT);
        let mut made: Option<Rc<Slot<Q, R>>> = None;
        let key = lp.insert_with(|key| {
            let core = Core::new(key, old.id, flags, Stage::Open, settings.clone());
            let slot = Rc::new(Slot::new(core, Some(q), Rc::new(Callbacks::default()), None));
            made = Some(slot.clone());
            slot
        });
        let new = made?;
        old.set(flag::UPGRADED);
        old.with_rare(|rare| rare.successor = Some(key));
        old.set_stage(Stage::Gone);
        old.move_to(lp, &new.core);
        lp.set_alarm(&old.alarm, old.key, None);
        if let Some(owner) = settings.owner() {
            owner.began(lp, old.id, key);
        }
        let stale = lp.remove(old.key);
        drop(stale);
        if let Some(((), notes)) = new.ask(Farewell::Asked, |q, cx| q.on_connect(cx)) {
            new.apply(lp, notes);
        }
        let untold = old.only(TOLD_THERE);
        if untold != 0 {
            new.core.queue(lp, untold);
        }
        if new.core.has(flag::EOF) {
            new.core.with_rare(|rare| rare.eof_waits = true);
        }
        new.core.watch_idle();
        new.core.set(flag::PARKED | flag::REARM);
        new.core.list_again(lp);
        new.core.mark_dirty(lp);
        Some(Connection::of(key))
    }

    /// Bytes that the old protocol had not divided yet.
    pub(crate) fn hand_over(&self, lp: &Rc<Loop>, left: &[u8]) {
        let successor = self.core.peek_rare(|rare| rare.successor).flatten();
        let Some(endpoint) = successor.and_then(|key| lp.find(key)) else { return };
        let Some(new) = endpoint.common().and_then(|common| common.downcast_ref::<Core>()) else {
            return;
        };
        new.park(lp, left);
    }
}

impl Core {
    fn move_to(&self, lp: &Loop, new: &Core) {
        new.bytes_read.set(self.bytes_read.get());
        new.bytes_written.set(self.bytes_written.get());
        new.opened.set(self.opened.get());
        new.set_remote(self.remote_addr());
        let mut old = self.state.borrow_mut();
        let mut state = new.state.borrow_mut();
        state.stream = old.stream.take();
        state.out = old.out.take();
        state.rest = old.rest.take();
        if let Some(rest) = &mut state.rest {
            rest.want = None;
            rest.wait = false;
        }
        if let Some(was) = old.rare.as_deref_mut() {
            state.rare().data = std::mem::take(&mut was.data);
            if self.has(flag::ANSWERS) {
                state.rare().answers_waiting = was.answers_waiting;
                state.rare().pong = std::mem::take(&mut was.pong);
            }
            if was.unix_path.is_some() {
                state.rare().unix_path = was.unix_path.take();
            }
        }
        drop((old, state));
        // Under no borrow: the poller logs, and a logger may send.
        let Some(mut stream) = new.take_stream() else { return };
        let moved = lp.with_poller(|poller| poller.reregister(&mut stream, new.key));
        new.put_stream(stream);
        if let Err(e) = moved {
            log::error!("a connection's socket is watched no longer after its upgrade: {e}");
        }
    }

    /// Bytes to be delivered in the next turn.
    fn park(&self, lp: &Loop, left: &[u8]) {
        let rest = self.state.borrow_mut().rest.take();
        let mut rest = rest.unwrap_or_else(|| lp.pool.borrow_mut().take_empty());
        let filled = rest.filled;
        rest.bytes.truncate(filled);
        rest.bytes.extend_from_slice(left);
        rest.filled = rest.bytes.len();
        self.state.borrow_mut().rest = Some(rest);
        self.set(flag::PARKED);
        self.list_again(lp);
    }
}
