//! A message that is encoded once and sent to many.
use super::{Frame, Protocol, Tcp, Text, Violation};
use crate::Payload;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Protocols whose messages have the same bytes for every connection, so that one that goes to many
/// is encoded once: [`Websocket`](crate::Websocket), [`Text`], [`Frame`], [`Tcp`]. Not
/// [`Ws`](crate::Ws), whose frames are masked with a fresh key each (RFC 6455 §5.3), and not
/// [`Http`](crate::Http), which answers requests.
///
/// Topics (`con.subscribe`) and `worker.send_to_all` are for these.
#[diagnostic::on_unimplemented(
    message = "a message of `{Self}` cannot be encoded once for many connections",
    note = "upgrade an http connection first: `con.upgrade_with(Websocket::accept(&request)?)`",
    note = "a protocol of your own needs `impl workerman::Prepare for {Self}`"
)]
pub trait Prepare: Protocol {
    /// Appends the bytes of `message` to `out`, as `encode` does for any connection. `Err`: it
    /// cannot be sent, and why. How many of those bytes stand before the payload is the answer; 0
    /// where the payload is altered.
    fn encode_for_all(message: &Payload, out: &mut Vec<u8>) -> Result<usize, Violation>;

    /// Encodes a message for [`send_prepared`](crate::Connection::send_prepared).
    ///
    /// ```
    /// use workerman::prelude::*;
    ///
    /// fn tell(all: &[TcpConnection<Websocket>]) {
    ///     let news = Websocket::prepare("news");
    ///     for con in all {
    ///         con.send_prepared(&news);
    ///     }
    /// }
    /// ```
    fn prepare<'m>(message: impl Into<Payload<'m>>) -> Prepared<Self>
    where
        Self: Sized,
    {
        Prepared::new(&message.into())
    }

    /// Whether this very session sends such bytes; otherwise it encodes the message itself.
    #[doc(hidden)]
    #[inline]
    fn sends_as_prepared(&self, _text: bool) -> bool {
        true
    }
}

/// A message that was encoded once, by [`Prepare::prepare`]: for
/// [`send_prepared`](crate::Connection::send_prepared), to as many connections of that protocol as
/// there are. A clone is another name for the same bytes; other threads may make and hold one.
///
/// It goes uncompressed, also where a connection compresses what `send` gets.
pub struct Prepared<P> {
    bytes: Arc<[u8]>,
    /// Of the bytes: the payload begins here.
    payload_from: usize,
    text: bool,
    /// It cannot be sent, to whomever.
    wrong: Option<Arc<Violation>>,
    _kind: PhantomData<fn() -> P>,
}

impl<P: Prepare> Prepared<P> {
    pub(crate) fn new(message: &Payload) -> Self {
        let mut bytes = Vec::with_capacity(message.as_bytes().len() + 14);
        let (payload_from, wrong) = match P::encode_for_all(message, &mut bytes) {
            Ok(from) => (from.min(bytes.len()), None),
            Err(violation) => {
                bytes.clear();
                (0, Some(Arc::new(violation)))
            }
        };
        let text = message.is_text();
        Prepared { bytes: bytes.into(), payload_from, text, wrong, _kind: PhantomData }
    }

    /// As they go over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn shared(&self) -> Arc<[u8]> {
        self.bytes.clone()
    }

    /// The message again, for a session that sends it otherwise.
    pub(crate) fn payload(&self) -> Payload<'_> {
        let payload = &self.bytes[self.payload_from..];
        match std::str::from_utf8(payload) {
            Ok(text) if self.text => Payload::text(text),
            _ => Payload::binary(payload),
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        self.text
    }

    pub(crate) fn wrong(&self) -> Option<&Violation> {
        self.wrong.as_deref()
    }
}

// By hand: a derive would ask for `P: Clone`.
impl<P> Clone for Prepared<P> {
    fn clone(&self) -> Self {
        Prepared { bytes: self.bytes.clone(), wrong: self.wrong.clone(), ..*self }
    }
}

impl<P> fmt::Debug for Prepared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Prepare for Tcp {
    fn encode_for_all(message: &Payload, out: &mut Vec<u8>) -> Result<usize, Violation> {
        out.extend_from_slice(message.as_bytes());
        Ok(0)
    }
}

impl Prepare for Text {
    fn encode_for_all(message: &Payload, out: &mut Vec<u8>) -> Result<usize, Violation> {
        out.extend_from_slice(message.as_bytes());
        out.push(b'\n');
        Ok(0)
    }
}

impl Prepare for Frame {
    fn encode_for_all(message: &Payload, out: &mut Vec<u8>) -> Result<usize, Violation> {
        let head = super::frame::head(message.as_bytes().len())?;
        out.extend_from_slice(&head);
        out.extend_from_slice(message.as_bytes());
        Ok(head.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::with_context;
    use super::*;
    use crate::{Limits, Websocket};

    /// Bytes of `encode` by a fresh session.
    fn encoded<P>(message: &Payload<'_>) -> Vec<u8>
    where
        P: Prepare + Default,
    {
        let payload = match message.is_text() {
            true => Payload::text(String::from_utf8_lossy(message.as_bytes())),
            false => Payload::binary(message.as_bytes()),
        };
        let mut out = Vec::new();
        with_context(&Limits::new(), |cx| P::default().encode_payload(payload, &mut out, cx))
            .0
            .expect("it can be sent");
        out
    }

    fn the_same<P: Prepare + Default>() {
        for length in [0, 1, 125, 126, 8 << 10, 70_000] {
            for text in [true, false] {
                let letters = "x".repeat(length);
                let message = match text {
                    true => Payload::text(letters),
                    false => Payload::binary(letters.into_bytes()),
                };
                let prepared = Prepared::<P>::new(&message);
                assert_eq!(prepared.as_bytes(), encoded::<P>(&message), "{} {length}", P::NAME);
                assert_eq!(prepared.is_text(), text);
            }
        }
    }

    #[test]
    fn prepared_bytes_are_those_of_send() {
        the_same::<Tcp>();
        the_same::<Text>();
        the_same::<Frame>();
        the_same::<Websocket>();
    }

    #[test]
    fn a_session_that_sends_otherwise_gets_the_message_back() {
        let news = Websocket::prepare("é");
        assert!(news.payload().is_text());
        assert_eq!(news.payload().as_bytes(), "é".as_bytes());
        let bytes = Frame::prepare(&[0xff, 0][..]);
        assert!(!bytes.payload().is_text());
        assert_eq!(bytes.clone().payload().as_bytes(), [0xff, 0]);
    }
}
