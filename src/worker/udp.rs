//! Workers of datagrams.
use super::Worker;
use super::listening::begin_now;
use super::registry::{self, Core, Listens};
use super::topics::Table;
use crate::connection::{DatagramSide, Owner, Stranger, datagram};
use crate::error::CallbackError;
use crate::events::{Key, Loop, with_loop};
use crate::transport::ListenAddress;
use crate::{AnyConnection, Error, Limits, Outcome, Serve, Udp, UdpConnection, Verdict};
use std::any::Any;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

/// The side of a worker that receives datagrams.
struct Receiving<P: Serve> {
    number: u32,
    side: Rc<DatagramSide<P>>,
    /// Of its connections, of which it has none: empty for ever.
    topics: Table,
}

/// A worker of datagrams, registered under the number that is returned.
pub(super) fn register<P: Serve>(
    address: &str,
    make: impl Fn() -> Udp<P> + 'static,
) -> Result<u32, Error> {
    let address = ListenAddress::parse_udp(address, P::NAME)?;
    let make = Box::new(move || make().into_inner());
    let mut made: Option<Rc<Receiving<P>>> = None;
    let number = registry::add(|number| {
        let receiving = Rc::new_cyclic(|own: &Weak<Receiving<P>>| {
            let owner: Weak<dyn Owner> = own.clone();
            let side = DatagramSide::new(address, make, owner);
            Receiving { number, side, topics: Table::default() }
        });
        made = Some(receiving.clone());
        Rc::new(Core::<Udp<P>>::new(number, Some(receiving)))
    });
    if let Some(receiving) = made {
        begin_now(number, &*receiving)?;
    }
    Ok(number)
}

/// Workers of datagrams.
///
/// ```
/// use workerman::prelude::*;
///
/// let worker = Worker::<Udp>::listen("udp://127.0.0.1:0")?;
/// worker.on_message(|con, data| {
///     println!("{} says {data}", con.remote_address());
///     con.send(data)
/// });
/// # Ok::<(), workerman::Error>(())
/// ```
impl<P: Serve> Worker<Udp<P>> {
    fn with_side<T>(&self, f: impl FnOnce(&Rc<DatagramSide<P>>) -> T) -> Option<T> {
        let side: Rc<dyn Any> = registry::find(self.number)?.listens()?.clone();
        side.downcast::<Receiving<P>>().ok().map(|receiving| f(&receiving.side))
    }

    /// Once it listens: with the port that the system chose for `:0`. `None` before, and after
    /// `unlisten`.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.any().local_addr()
    }

    /// Closes the socket: nothing more is delivered, and every [`UdpConnection`] of this worker is
    /// stale. (Manual: Worker::unlisten; PHP's UdpConnection::close does the same.)
    pub fn unlisten(&self) {
        let side = self.with_side(Rc::clone);
        with_loop(|lp| {
            if let Some(side) = &side {
                side.unlisten(lp);
            }
        });
    }

    /// Leaves datagrams in the kernel, which drops those that find no room there. The one that is
    /// being delivered is delivered whole. (Manual: Worker::pauseAccept.)
    pub fn pause_accept(&self) {
        self.with_side(|side| side.pause());
    }

    /// Reads again, in the next turn. (Manual: Worker::resumeAccept.)
    pub fn resume_accept(&self) {
        with_loop(|lp| self.with_side(|side| side.resume(lp)));
    }

    /// Limits from the next datagram on: `datagram_bytes`, and `message_bytes` for a package within
    /// one.
    pub fn set_limits(&self, limits: Limits) {
        self.with_side(|side| side.set_limits(limits));
    }

    /// A message, and who sent it. It borrows the receive buffer and ends with the callback:
    /// `to_string()` or `to_vec()` keeps it. Without this callback messages are dropped.
    ///
    /// An `Err` is logged, or judged by [`set_error_handler`](Self::set_error_handler), whose
    /// connection is a stale handle: there is none, so nothing closes. (Manual: onMessage.)
    pub fn on_message<O: Outcome + 'static>(
        &self,
        f: impl for<'a> FnMut(UdpConnection<P>, P::Incoming<'a>) -> O + 'static,
    ) {
        let f = datagram(f);
        let old = self.with_side(|side| side.set_message(f));
        drop(old);
    }
}

impl<P: Serve> Listens for Receiving<P> {
    fn bind(&self, lp: &Rc<Loop>) -> Result<(), Error> {
        self.side.bind(lp)
    }

    fn accept(&self, lp: &Rc<Loop>) {
        self.side.receive(lp);
    }

    fn unlisten(&self, lp: &Rc<Loop>) {
        self.side.unlisten(lp);
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.side.local_addr()
    }

    fn address(&self) -> String {
        self.side.address()
    }

    fn connections(&self) -> Vec<Key> {
        Vec::new()
    }

    fn connection(&self, _: &Loop, _: u64) -> Option<Key> {
        None
    }

    fn topics(&self) -> &Table {
        &self.topics
    }
}

impl<P: Serve> Owner for Receiving<P> {
    fn number(&self) -> u32 {
        self.number
    }

    fn name(&self) -> String {
        registry::find(self.number).map(|worker| worker.name()).unwrap_or_default()
    }

    fn began(&self, _: &Loop, _: u64, _: Key) {}

    fn ended(&self, _: &Loop, _: u64) {}

    fn is_first(&self, _: Stranger) -> bool {
        false
    }

    fn judge(&self, lp: &Rc<Loop>, con: AnyConnection, e: &CallbackError) -> Option<Verdict> {
        registry::find(self.number)?.judge(lp, con, e)
    }
}
