//! Topics: connections of a worker that ask for the same news.
use super::registry::{self, Listens};
use super::{Worker, WorkerRef};
use crate::connection::{Connection, Server, Slot, Stage};
use crate::events::{Endpoint, Key, Loop, with_loop};
use crate::{Payload, Prepare, Prepared, Protocol, Sent, Serve};
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How a message reaches one subscriber, whatever its protocol.
type Deliver = fn(&Rc<Loop>, Rc<dyn Endpoint>, &mut News<'_>) -> Sent;

#[derive(Clone, Copy)]
struct Subscriber {
    key: Key,
    deliver: Deliver,
}

/// The table of a worker: made when somebody subscribes, gone with the last who did. In trees, so
/// that every order in it is one that can be told.
#[derive(Default)]
pub(crate) struct Topics {
    /// Of each topic its subscribers by their connections' ids.
    by_name: BTreeMap<Rc<str>, BTreeMap<u64, Subscriber>>,
    /// Of each connection its topics: what its end takes out.
    by_id: BTreeMap<u64, BTreeSet<Rc<str>>>,
}

impl Topics {
    /// False: it has as many as it may have.
    fn subscribe(&mut self, name: &str, id: u64, who: Subscriber, most: usize) -> bool {
        let own = self.by_id.entry(id).or_default();
        if own.contains(name) {
            return true;
        }
        if own.len() >= most {
            return false;
        }
        let name = match self.by_name.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None => Rc::from(name),
        };
        own.insert(name.clone());
        self.by_name.entry(name).or_default().insert(id, who);
        true
    }

    fn unsubscribe(&mut self, name: &str, id: u64) -> bool {
        let Some(own) = self.by_id.get_mut(&id) else { return false };
        let was = own.remove(name);
        if own.is_empty() {
            self.by_id.remove(&id);
        }
        self.leave(name, id);
        was
    }

    fn leave(&mut self, name: &str, id: u64) {
        if let Some(subscribers) = self.by_name.get_mut(name) {
            subscribers.remove(&id);
            if subscribers.is_empty() {
                self.by_name.remove(name);
            }
        }
    }

    /// The connection has ended, or goes on in another protocol: as many steps as it had topics.
    fn end(&mut self, id: u64) {
        for name in self.by_id.remove(&id).unwrap_or_default() {
            self.leave(&name, id);
        }
    }
}

/// The place of the table: nothing until somebody subscribes.
#[derive(Default)]
pub(crate) struct Table(std::cell::RefCell<Option<Box<Topics>>>);

impl Table {
    pub(crate) fn end(&self, id: u64) {
        self.change(|topics| topics.end(id));
    }

    fn change<T>(&self, f: impl FnOnce(&mut Topics) -> T) -> Option<T> {
        let mut table = self.0.borrow_mut();
        let result = f(table.as_deref_mut()?);
        if table.as_ref().is_some_and(|topics| topics.by_id.is_empty()) {
            *table = None;
        }
        Some(result)
    }

    fn subscribe(&self, name: &str, id: u64, who: Subscriber, most: usize) -> bool {
        self.0.borrow_mut().get_or_insert_default();
        self.change(|topics| topics.subscribe(name, id, who, most)) == Some(true)
    }

    /// Those who are to get it, in the order of ids.
    fn subscribers(&self, name: &str, but: u64) -> Vec<Subscriber> {
        let table = self.0.borrow();
        let found = table.as_ref().and_then(|topics| topics.by_name.get(name));
        let found = found.into_iter().flatten().filter(|(id, _)| **id != but);
        found.map(|(_, subscriber)| *subscriber).collect()
    }
}

/// A message on its way, encoded once for each protocol that it meets.
struct News<'m> {
    message: Payload<'m>,
    made: Vec<(TypeId, Box<dyn Any>)>,
}

impl News<'_> {
    fn of<P: Prepare>(&mut self) -> Option<&Prepared<P>> {
        let kind = TypeId::of::<P>();
        let at = match self.made.iter().position(|(made, _)| *made == kind) {
            Some(at) => at,
            None => {
                self.made.push((kind, Box::new(Prepared::<P>::new(&self.message))));
                self.made.len() - 1
            }
        };
        self.made[at].1.downcast_ref()
    }
}

fn deliver<P: Prepare>(lp: &Rc<Loop>, endpoint: Rc<dyn Endpoint>, news: &mut News<'_>) -> Sent {
    let endpoint: Rc<dyn Any> = endpoint;
    match (endpoint.downcast::<Slot<P, Server>>(), news.of::<P>()) {
        (Ok(slot), Some(message)) => slot.send_prepared(lp, message),
        _ => Sent::Dropped,
    }
}

/// How many it was queued for. The list is a snapshot: what is logged meanwhile may run the
/// program's code, which may change the table.
fn publish(side: &dyn Listens, name: &str, message: Payload<'_>, but: u64) -> usize {
    let subscribers = side.topics().subscribers(name, but);
    let mut news = News { message, made: Vec::new() };
    let sent = with_loop(|lp| {
        let one = |who: Subscriber| match lp.find(who.key) {
            Some(endpoint) => (who.deliver)(lp, endpoint, &mut news) != Sent::Dropped,
            None => false,
        };
        subscribers.into_iter().map(one).filter(|sent| *sent).count()
    });
    sent.unwrap_or(0)
}

impl WorkerRef {
    /// Sends a message to all connections of this worker that have subscribed to the topic,
    /// upgraded ones too, each in its own protocol and in the order of their ids; it is encoded
    /// once for each protocol. Answers for how many it was queued: those that did not drop it. One
    /// that subscribed before its handshake was complete counts, and gets it behind that.
    ///
    /// A WebSocket gets it uncompressed, and in the kind that `set_websocket_type` asks for.
    ///
    /// A topic is a name within one worker of one process; it exists while somebody subscribes.
    ///
    /// ```
    /// use workerman::prelude::*;
    ///
    /// let web = Worker::<Http>::listen("http://127.0.0.1:0")?;
    /// web.on_message(move |con, request| match Websocket::accept(&request) {
    ///     Ok(websocket) => {
    ///         con.upgrade_with(websocket).subscribe("news");
    ///     }
    ///     Err(_) => {
    ///         // curl -d 'it rains' http://127.0.0.1:2345/
    ///         let count = web.publish("news", request.body());
    ///         con.send(format!("told {count}\n"));
    ///     }
    /// });
    /// # Ok::<(), workerman::Error>(())
    /// ```
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Payload<'m>>) -> usize {
        let message = message.into();
        let Some(worker) = registry::find(self.number) else { return 0 };
        worker.listens().map_or(0, |side| publish(&**side, topic, message, 0))
    }

    /// How many connections have subscribed to the topic.
    pub fn subscribers(&self, topic: &str) -> usize {
        let Some(worker) = registry::find(self.number) else { return 0 };
        worker.listens().map_or(0, |side| side.topics().subscribers(topic, 0).len())
    }
}

impl<P: Serve> Worker<P> {
    /// See [`WorkerRef::publish`].
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Payload<'m>>) -> usize {
        self.any().publish(topic, message)
    }

    /// See [`WorkerRef::subscribers`].
    pub fn subscribers(&self, topic: &str) -> usize {
        self.any().subscribers(topic)
    }
}

impl<P: Serve + Prepare> Worker<P> {
    /// Sends a message to every connection of this worker, encoded once, in the order of their ids.
    /// Answers for how many it was queued: those that did not drop it, also those whose handshake
    /// is not complete, since they get it behind that. Upgraded ones speak another
    /// protocol and get nothing: let them subscribe to a topic. (Manual: how to broadcast data.)
    ///
    /// ```
    /// use workerman::prelude::*;
    ///
    /// let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0")?;
    /// worker.on_message(move |_, data| {
    ///     worker.send_to_all(data);
    /// });
    /// # Ok::<(), workerman::Error>(())
    /// ```
    pub fn send_to_all<'m>(&self, message: impl Into<Payload<'m>>) -> usize {
        let message = P::prepare(message);
        let all = self.connections();
        all.into_iter().filter(|con| con.send_prepared(&message) != Sent::Dropped).count()
    }
}

impl<P: Protocol> Connection<P, Server> {
    fn with_side<T>(&self, f: impl FnOnce(&dyn Listens) -> T) -> Option<T> {
        let worker = registry::find(self.worker().number)?;
        worker.listens().map(|side| f(&**side))
    }

    /// Sends a message to all that have subscribed to the topic in this connection's worker, but
    /// not to this connection. See [`WorkerRef::publish`].
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Payload<'m>>) -> usize {
        let (own, message) = (self.id(), message.into());
        self.with_side(|side| publish(side, topic, message, own)).unwrap_or(0)
    }

    /// The topics that it has subscribed to, by name.
    pub fn topics(&self) -> Vec<String> {
        let id = self.id();
        let own = self.with_side(|side| {
            side.topics().change(|topics| {
                let own = topics.by_id.get(&id).into_iter().flatten();
                own.map(|name| name.to_string()).collect()
            })
        });
        own.flatten().unwrap_or_default()
    }

    /// Ends a subscription. Whether there was one.
    pub fn unsubscribe(&self, topic: &str) -> bool {
        let id = self.id();
        let was = self
            .with_side(|side| side.topics().change(|topics| topics.unsubscribe(topic, id)))
            .flatten();
        was == Some(true)
    }
}

impl<P: Prepare> Connection<P, Server> {
    /// From now on it gets what is published to this topic in its worker. True: it is subscribed,
    /// also where it was already. It ends with [`unsubscribe`](Self::unsubscribe), with the
    /// connection, and with an upgrade.
    ///
    /// False, and a debug line: the name is longer than `Limits::topic_bytes`, the connection has
    /// `Limits::subscriptions` already, or it is closing.
    ///
    /// ```
    /// use workerman::prelude::*;
    ///
    /// let chat = Worker::<Websocket>::listen("websocket://127.0.0.1:0")?;
    /// chat.on_websocket_connect(|con, request| {
    ///     con.subscribe(request.path());
    /// });
    /// chat.on_message(|con, data| {
    ///     for room in con.topics() {
    ///         con.publish(&room, data);
    ///     }
    /// });
    /// # Ok::<(), workerman::Error>(())
    /// ```
    ///
    /// An http connection answers requests; it subscribes once it is a WebSocket:
    ///
    /// ```compile_fail
    /// use workerman::prelude::*;
    /// fn of_http(con: TcpConnection<Http>) {
    ///     con.subscribe("news");
    /// }
    /// ```
    pub fn subscribe(&self, topic: &str) -> bool {
        let seen = self.with_slot(|_, slot| {
            let core = &slot.core;
            let open = core.stage() == Stage::Open;
            open.then(|| (core.id, core.key, core.settings().terms.limits.clone()))
        });
        let Some(Some((id, key, limits))) = seen else {
            log::debug!("{self:?}: subscribe({topic:?}): the connection is not open");
            return false;
        };
        if topic.len() > limits.topic_bytes {
            log::debug!(
                "{self:?}: a topic's name of {} bytes is refused: {} is the most \
                 (Limits::topic_bytes)",
                topic.len(),
                limits.topic_bytes
            );
            return false;
        }
        let who = Subscriber { key, deliver: deliver::<P> };
        let most = limits.subscriptions;
        let done = self.with_side(|side| side.topics().subscribe(topic, id, who, most));
        if done == Some(false) {
            log::debug!(
                "{self:?}: subscribe({topic:?}) is refused: it has {most} subscriptions already \
                 (Limits::subscriptions)"
            );
        }
        done == Some(true)
    }
}
