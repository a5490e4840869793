//! `tcp://`: a stream of bytes as it comes.
use super::{Context, Dial, Input, Protocol, Serve, Violation};
use crate::{Data, Payload};
use std::borrow::Cow;

/// Bytes without boundaries: what has arrived is one message, what is sent goes as it is.
///
/// How the bytes of two `send`s are cut into messages at the other end is up to the network; `Text`
/// and `Frame` keep boundaries.
///
/// ```
/// use workerman::{Protocol, Tcp};
///
/// assert_eq!(Tcp::NAME, "tcp");
/// ```
#[derive(Debug, Default)]
pub struct Tcp {
    _private: (),
}

/// From this length on a payload is lent for a vectored write instead of being copied.
pub(crate) const LENT_FROM: usize = 8 << 10;

impl Protocol for Tcp {
    const NAME: &'static str = "tcp";
    const HAS_PIECES: bool = false;
    const RUNS_NO_PROGRAM_CODE: bool = true;
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    /// Nothing waits to become whole here, so nothing can grow beyond a limit either.
    const JUDGES_LENGTH: bool = true;

    #[inline(always)]
    fn input(&mut self, buffer: &mut [u8], _cx: &mut Context) -> Result<Input, Violation> {
        match buffer.len() {
            0 => Ok(Input::Partial),
            length => Ok(Input::Package(length)),
        }
    }

    #[inline(always)]
    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _scratch: &'a mut Vec<u8>,
        _cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        Ok(Some(Data::Binary(package)))
    }

    #[inline(always)]
    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        _cx: &mut Context,
    ) -> Result<(), Violation> {
        out.extend_from_slice(message.as_bytes());
        Ok(())
    }

    #[inline(always)]
    fn encode_split<'m>(
        &mut self,
        message: Self::Outgoing<'m>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Cow<'m, [u8]>>, Violation> {
        if message.as_bytes().len() >= LENT_FROM {
            return Ok(Some(message.into_bytes()));
        }
        self.encode(message, out, cx).map(|()| None)
    }

    fn encode_payload(
        &mut self,
        payload: Payload,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation> {
        self.encode(payload, out, cx)
    }
}

impl Serve for Tcp {}
impl Dial for Tcp {}

#[cfg(test)]
mod tests {
    use super::super::testing::{Line, Seen, with_context};
    use super::*;
    use crate::Limits;

    #[test]
    fn what_has_arrived_is_one_message() {
        let mut line = Line::new(Tcp::default());
        line.feed(b"one\0two");
        line.feed(b"\xff");
        assert_eq!(line.seen, [Seen::binary(b"one\0two"), Seen::binary(b"\xff")]);
    }

    #[test]
    fn bytes_are_sent_as_they_are_and_large_ones_are_lent() {
        let limits = Limits::new();
        let mut out = Vec::new();
        let large = vec![7; LENT_FROM];
        with_context(&limits, |cx| {
            let small = Tcp::default().encode_split("small".into(), &mut out, cx);
            assert_eq!(small, Ok(None));
            let lent = Tcp::default().encode_split((&large).into(), &mut out, cx);
            assert!(matches!(lent, Ok(Some(Cow::Borrowed(bytes))) if bytes == large));
            assert_eq!(Tcp::default().encode_payload("er".into(), &mut out, cx), Ok(()));
        });
        assert_eq!(out, b"smaller");
    }

    #[test]
    fn a_raw_stream_knows_no_message_limit() {
        const { assert!(Tcp::JUDGES_LENGTH) };
        let mut line = Line::new(Tcp::default());
        line.limits = Limits::new().message_bytes(1);
        line.feed(b"long");
        assert_eq!(line.seen, [Seen::binary(b"long")]);
    }
}
