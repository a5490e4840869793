//! Datagrams: what workers and clients over udp have in common.
use super::core::Settings;
use crate::error::Settle;
use crate::events::{Loop, Settled};
use crate::protocols::Pad;
use crate::{Context, Input, Outcome, Protocol, Tcp, Violation};
use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::{Duration, Instant};

mod client;
mod dialled;
mod server;

pub use client::AsyncUdpConnection;
pub(crate) use server::DatagramSide;
pub use server::UdpConnection;

/// Datagrams that one socket takes in a turn; what is left goes on the ready list, so that one loud
/// peer starves nobody.
const DATAGRAMS_A_TURN: u32 = 64;
/// Messages that one datagram may hold, and that the datagrams of a turn may hold together: a
/// datagram of line ends is 65 507 of them, each with its callback.
const MESSAGES: u32 = 1024;
/// A socket that failed in a way that says nothing of a datagram is read again after this.
const WAIT_AFTER_ERROR: Duration = Duration::from_millis(100);
/// What strangers can cause is said so often at most.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(1);

/// `on_message`: a trait of its own, since a closure over `P::Incoming<'_>` cannot be written as
/// one. `H` is the handle that it gets.
pub(crate) trait OnDatagram<P: Protocol, H> {
    fn call(&self, con: H, message: P::Incoming<'_>) -> Settled;
}

struct Message<F, O>(RefCell<F>, PhantomData<fn() -> O>);

impl<P, H, O, F> OnDatagram<P, H> for Message<F, O>
where
    P: Protocol,
    O: Outcome,
    F: for<'a> FnMut(H, P::Incoming<'a>) -> O,
{
    fn call(&self, con: H, message: P::Incoming<'_>) -> Settled {
        Settle::settle((self.0.borrow_mut())(con, message))
    }
}

pub(crate) fn datagram<P: Protocol, H: 'static, O: Outcome + 'static>(
    f: impl for<'a> FnMut(H, P::Incoming<'a>) -> O + 'static,
) -> Rc<dyn OnDatagram<P, H>> {
    Rc::new(Message(RefCell::new(f), PhantomData::<fn() -> O>))
}

/// Warnings that strangers can cause: one a second at most, and it counts those that were not said.
#[derive(Default)]
struct Complaints {
    silent_until: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl Complaints {
    fn warn(&self, lp: &Loop, text: impl FnOnce() -> String) {
        let now = lp.now();
        if self.silent_until.get().is_some_and(|until| now < until) {
            self.unsaid.set(self.unsaid.get() + 1);
            return;
        }
        self.silent_until.set(now.checked_add(COMPLAIN_AGAIN));
        match self.unsaid.take() {
            0 => log::warn!("{}", text()),
            unsaid => log::warn!("{} ({unsaid} more of these since the last one said)", text()),
        }
    }
}

/// Divides a datagram into packages; each message goes to `deliver` until that answers false, what
/// the protocol answers of its own to `reply`. How many packages there were, and `Err`: the rest of
/// the datagram is dropped, and why.
///
/// `busy` is taken while the protocol's methods run: a `send` to their own socket is dropped then.
fn divide<P: Protocol>(
    lp: &Rc<Loop>,
    protocol: &mut P,
    datagram: &mut [u8],
    settings: &Settings,
    busy: &RefCell<()>,
    mut deliver: impl FnMut(P::Incoming<'_>) -> bool,
    mut reply: impl FnMut(&[u8]),
) -> (u32, Result<(), String>) {
    let whole = datagram.len();
    // Without a protocol an empty datagram is a message, too.
    if whole == 0 && TypeId::of::<P>() != TypeId::of::<Tcp>() {
        return (0, Ok(()));
    }
    let mut scratch = lp.take_scratch();
    let mut pad = Pad::default();
    let (mut at, mut messages) = (0, 0);
    let divided = loop {
        scratch.clear();
        let mut cx = Context { pad: &mut pad, scene: settings.scene() };
        let taken = busy.try_borrow_mut();
        let first = first_package(protocol, &mut datagram[at..], &mut scratch, &mut cx);
        drop(taken);
        let (length, message) = match first {
            Ok(Some(first)) => first,
            Ok(None) => break Err(format!("its last {} bytes are no whole package", whole - at)),
            Err(violation) => break Err(violation.to_string()),
        };
        at += length;
        messages += 1;
        let goes_on = message.is_none_or(&mut deliver);
        if !pad.is_empty() {
            let answers = pad.take().answers;
            if goes_on && !answers.is_empty() {
                reply(&answers);
            }
        }
        if !goes_on || at == whole {
            break Ok(());
        }
        if messages == MESSAGES {
            break Err(format!("a datagram has {MESSAGES} messages at most"));
        }
    };
    lp.put_scratch(scratch);
    (messages, divided)
}

/// How long the first package is, and its message; `None`: it is not whole.
#[expect(clippy::type_complexity, reason = "the parts have their names at the one place of use")]
fn first_package<'a, P: Protocol>(
    protocol: &mut P,
    rest: &'a mut [u8],
    scratch: &'a mut Vec<u8>,
    cx: &mut Context,
) -> Result<Option<(usize, Option<P::Incoming<'a>>)>, Violation> {
    let length = match rest.len() {
        0 => 0,
        _ => match protocol.input(rest, cx)? {
            Input::Package(0) => {
                return Err(Violation::new("the protocol found a package of no bytes"));
            }
            Input::Package(length) => length,
            Input::Partial | Input::PartialOf(_) => return Ok(None),
        },
    };
    let limit = cx.limits().message_bytes;
    if !P::JUDGES_LENGTH && length > limit {
        return Err(Violation::new(format!(
            "a package of {length} bytes is above the limit of {limit} (Limits::message_bytes)"
        )));
    }
    if length > rest.len() {
        return Ok(None);
    }
    let message = protocol.decode(&mut rest[..length], scratch, cx)?;
    Ok(Some((length, message)))
}

/// One message as one datagram; `Err`: why it cannot be sent.
fn encode<P: Protocol>(
    protocol: &mut P,
    message: P::Outgoing<'_>,
    out: &mut Vec<u8>,
    settings: &Settings,
) -> Result<(), String> {
    let mut pad = Pad::default();
    let mut cx = Context { pad: &mut pad, scene: settings.scene() };
    protocol.encode(message, out, &mut cx).map_err(|violation| violation.to_string())?;
    judge_length(out.len(), settings)
}

/// Whether a datagram is no longer than the program allows.
fn judge_length(length: usize, settings: &Settings) -> Result<(), String> {
    let limit = settings.limits().datagram_bytes;
    if length > limit {
        return Err(format!(
            "a datagram of {length} bytes is longer than {limit} (Limits::datagram_bytes)"
        ));
    }
    Ok(())
}
