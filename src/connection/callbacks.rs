//! The callbacks of a connection: shared with its worker until it sets one of its own.
use super::{Connection, Role};
use crate::error::Settle;
use crate::events::{Callback, Settled};
use crate::{ErrorCode, Failure, Outcome, Protocol, Request, Response};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

/// Something that gets the connection alone.
pub(crate) type Plain<P, R> = Callback<dyn FnMut(Connection<P, R>) -> Settled>;
pub(crate) type OnError<P, R> =
    Callback<dyn FnMut(Connection<P, R>, ErrorCode, &Failure) -> Settled>;
pub(crate) type OnRequest<P, R> = Callback<dyn FnMut(Connection<P, R>, &Request) -> Settled>;
pub(crate) type OnResponse<P, R> = Callback<dyn FnMut(Connection<P, R>, &Response) -> Settled>;
pub(crate) type OnControl<P, R> = Callback<dyn FnMut(Connection<P, R>, &[u8]) -> Settled>;
pub(crate) type OnFarewell<P, R> = Callback<dyn FnMut(Connection<P, R>, u16, &str) -> Settled>;

/// `on_message`: a trait of its own, since a closure over `P::Incoming<'_>` cannot be written as
/// one.
pub(crate) trait OnMessage<P: Protocol, R: Role> {
    fn call(&self, con: Connection<P, R>, message: P::Incoming<'_>) -> Settled;
}

struct Message<F, O>(RefCell<F>, PhantomData<fn() -> O>);

impl<P, R, O, F> OnMessage<P, R> for Message<F, O>
where
    P: Protocol,
    R: Role,
    O: Outcome,
    F: for<'a> FnMut(Connection<P, R>, P::Incoming<'a>) -> O,
{
    #[inline]
    fn call(&self, con: Connection<P, R>, message: P::Incoming<'_>) -> Settled {
        Settle::settle((self.0.borrow_mut())(con, message))
    }
}

pub(crate) struct Callbacks<P: Protocol, R: Role> {
    pub(crate) connect: Option<Plain<P, R>>,
    pub(crate) message: Option<Rc<dyn OnMessage<P, R>>>,
    pub(crate) close: Option<Plain<P, R>>,
    pub(crate) error: Option<OnError<P, R>>,
    /// A client's handshake is complete: here, since nearly every WebSocket client has it.
    pub(crate) opened: Option<OnResponse<P, R>>,
    pub(crate) flow: Option<Rc<FlowCallbacks<P, R>>>,
    pub(crate) websocket: Option<Rc<WebsocketCallbacks<P, R>>>,
}

/// What few connections have.
pub(crate) struct FlowCallbacks<P: Protocol, R: Role> {
    pub(crate) end: Option<Plain<P, R>>,
    pub(crate) full: Option<Plain<P, R>>,
    pub(crate) drain: Option<Plain<P, R>>,
}

pub(crate) struct WebsocketCallbacks<P: Protocol, R: Role> {
    pub(crate) upgrade: Option<OnRequest<P, R>>,
    pub(crate) upgraded: Option<OnRequest<P, R>>,
    pub(crate) ping: Option<OnControl<P, R>>,
    pub(crate) pong: Option<OnControl<P, R>>,
    pub(crate) farewell: Option<OnFarewell<P, R>>,
}

// By hand: a derive would ask for `P: Clone`.
macro_rules! shared {
    ($name:ident: $($field:ident)*) => {
        impl<P: Protocol, R: Role> Default for $name<P, R> {
            fn default() -> Self {
                $name { $($field: None),* }
            }
        }
        impl<P: Protocol, R: Role> Clone for $name<P, R> {
            fn clone(&self) -> Self {
                $name { $($field: self.$field.clone()),* }
            }
        }
    };
}
shared!(Callbacks: connect message close error opened flow websocket);
shared!(FlowCallbacks: end full drain);
shared!(WebsocketCallbacks: upgrade upgraded ping pong farewell);

/// One `Rc` for many connections; whoever sets one of its own gets a copy then.
pub(crate) type Shared<P, R> = RefCell<Rc<Callbacks<P, R>>>;

/// Puts a callback in its place; the one that was there is handed out, to be dropped where no
/// borrow is held.
pub(crate) fn replace<P: Protocol, R: Role, C>(
    shared: &Shared<P, R>,
    place: impl FnOnce(&mut Callbacks<P, R>) -> &mut Option<C>,
    new: Option<C>,
) -> Option<C> {
    let mut shared = shared.borrow_mut();
    std::mem::replace(place(Rc::make_mut(&mut shared)), new)
}

/// The same for what few connections have.
pub(crate) fn replace_flow<P: Protocol, R: Role>(
    shared: &Shared<P, R>,
    place: impl FnOnce(&mut FlowCallbacks<P, R>) -> &mut Option<Plain<P, R>>,
    new: Plain<P, R>,
) -> Option<Plain<P, R>> {
    let mut shared = shared.borrow_mut();
    let own = Rc::make_mut(&mut shared).flow.get_or_insert_default();
    place(Rc::make_mut(own)).replace(new)
}

/// The same for what only WebSockets have.
pub(crate) fn replace_websocket<P: Protocol, R: Role, C>(
    shared: &Shared<P, R>,
    place: impl FnOnce(&mut WebsocketCallbacks<P, R>) -> &mut Option<C>,
    new: Option<C>,
) -> Option<C> {
    let mut shared = shared.borrow_mut();
    let own = Rc::make_mut(&mut shared).websocket.get_or_insert_default();
    std::mem::replace(place(Rc::make_mut(own)), new)
}

pub(crate) fn message<P: Protocol, R: Role, O: Outcome + 'static>(
    f: impl for<'a> FnMut(Connection<P, R>, P::Incoming<'a>) -> O + 'static,
) -> Rc<dyn OnMessage<P, R>> {
    Rc::new(Message(RefCell::new(f), PhantomData::<fn() -> O>))
}

pub(crate) fn plain<P: Protocol, R: Role, O: Outcome>(
    mut f: impl FnMut(Connection<P, R>) -> O + 'static,
) -> Plain<P, R> {
    Rc::new(RefCell::new(move |con| Settle::settle(f(con))))
}

pub(crate) fn error<P: Protocol, R: Role, O: Outcome>(
    mut f: impl FnMut(Connection<P, R>, ErrorCode, &Failure) -> O + 'static,
) -> OnError<P, R> {
    Rc::new(RefCell::new(move |con, code, failure: &Failure| Settle::settle(f(con, code, failure))))
}

pub(crate) fn request<P: Protocol, R: Role, O: Outcome>(
    mut f: impl FnMut(Connection<P, R>, &Request) -> O + 'static,
) -> OnRequest<P, R> {
    Rc::new(RefCell::new(move |con, request: &Request| Settle::settle(f(con, request))))
}

pub(crate) fn response<P: Protocol, R: Role, O: Outcome>(
    mut f: impl FnMut(Connection<P, R>, &Response) -> O + 'static,
) -> OnResponse<P, R> {
    Rc::new(RefCell::new(move |con, response: &Response| Settle::settle(f(con, response))))
}

pub(crate) fn control<P: Protocol, R: Role, O: Outcome>(
    mut f: impl FnMut(Connection<P, R>, &[u8]) -> O + 'static,
) -> OnControl<P, R> {
    Rc::new(RefCell::new(move |con, payload: &[u8]| Settle::settle(f(con, payload))))
}

pub(crate) fn farewell<P: Protocol, R: Role, O: Outcome>(
    mut f: impl FnMut(Connection<P, R>, u16, &str) -> O + 'static,
) -> OnFarewell<P, R> {
    Rc::new(RefCell::new(move |con, code, reason: &str| Settle::settle(f(con, code, reason))))
}
