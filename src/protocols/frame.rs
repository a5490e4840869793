//! `frame://`: a length and so many bytes.
use super::tcp::LENT_FROM;
use super::{Context, Dial, Input, Protocol, Serve, Violation};
use crate::{Data, Payload};
use std::borrow::Cow;

/// Binary messages, each behind four bytes that say how long it is, those four included
/// (big-endian).
///
/// ```
/// use workerman::{Frame, Protocol};
///
/// assert_eq!(Frame::NAME, "frame");
/// ```
#[derive(Debug, Default)]
pub struct Frame {
    _private: (),
}

const HEAD: usize = 4;

impl Protocol for Frame {
    const NAME: &'static str = "frame";
    const HAS_PIECES: bool = false;
    const RUNS_NO_PROGRAM_CODE: bool = true;
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    #[inline]
    fn input(&mut self, buffer: &mut [u8], cx: &mut Context) -> Result<Input, Violation> {
        let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(Input::Partial) };
        let total = u32::from_be_bytes(*head) as usize;
        if total < HEAD {
            return Err(Violation::new(format!(
                "a frame says it is {total} bytes long, shorter than its own length field"
            )));
        }
        let limit = cx.limits().message_bytes;
        if total > limit {
            return Err(Violation::new(format!(
                "a frame of {total} bytes, more than {limit} (Limits::message_bytes)"
            )));
        }
        Ok(Input::Package(total))
    }

    #[inline]
    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _scratch: &'a mut Vec<u8>,
        _cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        Ok(package.get(HEAD..).map(Data::Binary))
    }

    #[inline]
    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        _cx: &mut Context,
    ) -> Result<(), Violation> {
        let head = head(message.as_bytes().len())?;
        out.extend_from_slice(&head);
        out.extend_from_slice(message.as_bytes());
        Ok(())
    }

    #[inline]
    fn encode_split<'m>(
        &mut self,
        message: Self::Outgoing<'m>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Cow<'m, [u8]>>, Violation> {
        let length = message.as_bytes().len();
        if length < LENT_FROM {
            return self.encode(message, out, cx).map(|()| None);
        }
        out.extend_from_slice(&head(length)?);
        Ok(Some(message.into_bytes()))
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

impl Serve for Frame {}
impl Dial for Frame {}

pub(super) fn head(payload: usize) -> Result<[u8; HEAD], Violation> {
    let total = payload.checked_add(HEAD).and_then(|total| u32::try_from(total).ok());
    match total {
        Some(total) => Ok(total.to_be_bytes()),
        None => {
            Err(Violation::new(format!("a frame cannot hold {payload} bytes: 4 GiB is the most")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Dice, Line, Seen, each_way, rounds, with_context};
    use super::*;
    use crate::Limits;

    #[test]
    fn a_frame_is_as_long_as_it_says() {
        let line =
            each_way(b"\0\0\0\x07one\0\0\0\x04\0\0\0\x05\xff\0\0", || Line::new(Frame::default()));
        assert_eq!(line.seen, [Seen::binary(b"one"), Seen::binary(b""), Seen::binary(b"\xff")]);
    }

    #[test]
    fn a_length_shorter_than_its_own_field_is_a_violation() {
        for length in 0..4u32 {
            let line = each_way(&length.to_be_bytes(), || Line::new(Frame::default()));
            assert!(line.violation().contains("shorter than its own"), "{line:?}");
        }
    }

    #[test]
    fn a_length_above_the_limit_is_judged_on_the_head() {
        let limited = || {
            let mut line = Line::new(Frame::default());
            line.limits = Limits::new().message_bytes(10);
            line
        };
        assert_eq!(each_way(b"\0\0\0\x0a123456", limited).seen, [Seen::binary(b"123456")]);
        for head in [11u32, u32::MAX] {
            let line = each_way(&head.to_be_bytes(), limited);
            assert!(line.violation().contains("more than 10"), "{line:?}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_and_noise_is_judged_alike_in_every_split() {
        let mut dice = Dice::new(6);
        for _ in 0..rounds(200) {
            let (mut line, mut expected) = (Line::new(Frame::default()), Vec::new());
            for _ in 0..dice.below(5) {
                let length = dice.below(200);
                let message = dice.bytes(length);
                line.send(&message);
                expected.push(Seen::Binary(message));
            }
            let fresh = || Line::new(Frame::default());
            assert_eq!(each_way(&line.out, fresh).seen, expected);
            let at = dice.below(line.out.len());
            line.out.insert(at, dice.next() as u8);
            each_way(&line.out, fresh);
        }
    }

    #[test]
    fn encoding_counts_the_head_and_lends_what_is_large() {
        let limits = Limits::new();
        let mut line = Line::new(Frame::default());
        line.send("hello");
        assert_eq!(line.out, b"\0\0\0\x09hello");
        let (large, mut out) = (vec![1; LENT_FROM], Vec::new());
        with_context(&limits, |cx| {
            let lent = Frame::default().encode_split((&large).into(), &mut out, cx);
            assert!(matches!(lent, Ok(Some(Cow::Borrowed(_)))));
        });
        assert_eq!(out, (LENT_FROM as u32 + 4).to_be_bytes());
        assert!(head(u32::MAX as usize - 3).is_err() && head(usize::MAX).is_err());
        assert_eq!(head(u32::MAX as usize - 4), Ok([0xff; 4]));
    }
}
