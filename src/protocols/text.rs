//! `text://`: lines.
use super::{Context, Dial, Input, Protocol, Serve, Violation};
use crate::{Data, Payload};

/// Messages that end with a line feed: what `nc` and `telnet` speak.
///
/// A message arrives without its line end (`\n` or `\r\n`), as text where it is UTF-8 and as bytes
/// otherwise; what is sent gets a `\n` behind it. A message that holds a `\n` arrives as two.
///
/// ```
/// use workerman::{Protocol, Text};
///
/// assert_eq!(Text::NAME, "text");
/// ```
#[derive(Debug, Default)]
pub struct Text {
    /// So many bytes at the front hold no line feed: they are not searched again.
    searched: usize,
}

impl Protocol for Text {
    const NAME: &'static str = "text";
    const HAS_PIECES: bool = false;
    const RUNS_NO_PROGRAM_CODE: bool = true;
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    #[inline]
    fn input(&mut self, buffer: &mut [u8], cx: &mut Context) -> Result<Input, Violation> {
        let limit = cx.limits().message_bytes;
        // Never past the limit: a line that ends beyond it is as wrong as one that never ends.
        let end = buffer.len().min(limit);
        let from = self.searched.min(end);
        if let Some(at) = find_line_feed(&buffer[from..end]) {
            self.searched = 0;
            return Ok(Input::Package(from + at + 1));
        }
        if buffer.len() >= limit && !buffer.is_empty() {
            return Err(Violation::new(format!(
                "a line is longer than {limit} bytes (Limits::message_bytes)"
            )));
        }
        self.searched = end;
        Ok(Input::Partial)
    }

    #[inline]
    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _scratch: &'a mut Vec<u8>,
        _cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        let mut line: &'a [u8] = package;
        while let [rest @ .., b'\r' | b'\n'] = line {
            line = rest;
        }
        Ok(Some(match simdutf8::basic::from_utf8(line) {
            Ok(text) => Data::Text(text),
            Err(_) => Data::Binary(line),
        }))
    }

    #[inline]
    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        _cx: &mut Context,
    ) -> Result<(), Violation> {
        let bytes = message.as_bytes();
        out.reserve(bytes.len() + 1);
        out.extend_from_slice(bytes);
        out.push(b'\n');
        Ok(())
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

impl Serve for Text {}
impl Dial for Text {}

/// Eight bytes at a time: a byte of `word ^ feeds` is zero where a line feed stands, and
/// subtracting one from a zero byte is what sets its highest bit without having had it.
#[inline]
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const FEEDS: u64 = u64::from_ne_bytes([b'\n'; 8]);
    let (words, _) = bytes.as_chunks::<8>();
    let whole = words.iter().take_while(|word| {
        let differs = u64::from_ne_bytes(**word) ^ FEEDS;
        differs.wrapping_sub(ONES) & !differs & HIGH == 0
    });
    let from = 8 * whole.count();
    bytes[from..].iter().position(|&byte| byte == b'\n').map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Dice, Line, Seen, each_way, rounds, with_context};
    use super::*;
    use crate::Limits;

    fn lines(stream: &[u8]) -> Vec<Seen> {
        each_way(stream, || Line::new(Text::default())).seen
    }

    #[test]
    fn a_line_feed_ends_a_message_and_line_ends_are_stripped() {
        let seen = lines(b"one\ntwo\r\n\nthree\r\r\nrest");
        assert_eq!(
            seen,
            [Seen::text("one"), Seen::text("two"), Seen::text(""), Seen::text("three")]
        );
    }

    #[test]
    fn a_carriage_return_inside_a_line_stays() {
        assert_eq!(lines(b"a\rb\n"), [Seen::text("a\rb")]);
    }

    #[test]
    fn a_line_that_is_not_utf8_arrives_as_bytes() {
        let seen = lines(b"caf\xc3\xa9\ncaf\xe9\n");
        assert_eq!(seen, [Seen::text("café"), Seen::binary(b"caf\xe9")]);
    }

    #[test]
    fn a_line_longer_than_the_limit_is_a_violation_and_one_as_long_is_not() {
        let short = || {
            let mut line = Line::new(Text::default());
            line.limits = Limits::new().message_bytes(4);
            line
        };
        let fine = each_way(b"abc\nabc\nab", short);
        assert_eq!(fine.seen, [Seen::text("abc"), Seen::text("abc")]);
        for stream in [&b"abc\nabcd\n"[..], b"abc\nabcdefgh"] {
            let over = each_way(stream, short);
            assert_eq!(over.seen[0], Seen::text("abc"));
            assert!(over.violation().contains("longer than 4 bytes"), "{over:?}");
        }
    }

    #[test]
    fn many_short_lines_may_exceed_the_limit_together() {
        let mut line = Line::new(Text::default());
        line.limits = Limits::new().message_bytes(4);
        line.feed(&b"ab\n".repeat(100));
        assert_eq!(line.seen.len(), 100);
    }

    #[test]
    fn a_line_byte_by_byte_is_searched_once() {
        let limits = Limits::new();
        let mut text = Text::default();
        let mut buffer = vec![b'x'; 1000];
        with_context(&limits, |cx| {
            assert_eq!(text.input(&mut buffer, cx), Ok(Input::Partial));
            assert_eq!(text.searched, 1000);
            // A line feed where it has searched already would be found only by searching again.
            buffer[10] = b'\n';
            buffer.push(b'x');
            assert_eq!(text.input(&mut buffer, cx), Ok(Input::Partial));
            buffer.push(b'\n');
            assert_eq!(text.input(&mut buffer, cx), Ok(Input::Package(1002)));
            assert_eq!(text.searched, 0);
        });
    }

    #[test]
    fn the_search_by_words_finds_what_a_search_by_bytes_finds() {
        for length in 0..40 {
            for at in 0..=length {
                let mut bytes: Vec<u8> =
                    (0..length as u8).map(|i| i.wrapping_mul(97) | 0x10).collect();
                if at < length {
                    bytes[at] = b'\n';
                }
                let expected = bytes.iter().position(|&byte| byte == b'\n');
                assert_eq!(find_line_feed(&bytes), expected, "{bytes:?}");
            }
        }
    }

    #[test]
    fn any_split_of_random_lines_gives_the_same_messages() {
        let mut dice = Dice::new(5);
        for _ in 0..rounds(200) {
            let length = dice.below(300);
            let mut stream = dice.bytes(length);
            stream.iter_mut().for_each(|byte| *byte = b"\n\r ab\xc3\xa9"[usize::from(*byte) % 7]);
            let limited = || {
                let mut line = Line::new(Text::default());
                line.limits = Limits::new().message_bytes(40);
                line
            };
            each_way(&stream, limited);
        }
    }

    #[test]
    fn a_message_sent_ends_with_a_line_feed_and_decodes_to_itself() {
        let mut line = Line::new(Text::default());
        line.send("hello");
        line.send(&b"\xff\xfe"[..]);
        assert_eq!(line.out, b"hello\n\xff\xfe\n");
        assert_eq!(lines(&line.out), [Seen::text("hello"), Seen::binary(b"\xff\xfe")]);
    }
}
