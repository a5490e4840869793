//! The search for a head's end, byte by byte in linear time, and its reading by `httparse` under
//! stricter rules.
use super::is_control;
use crate::Limits;
use std::borrow::Cow;
use std::ops::Range;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// More than `limits.head_bytes`.
    TooLong,
    /// More than `limits.headers`.
    TooManyFields,
    /// Against the grammar, or permitted by it and known from request smuggling.
    Malformed(&'static str),
}

/// How far the search for the empty line has come. Each byte is looked at once.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    searched: usize,
    lines: usize,
    place: Place,
    found: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the first byte of the first line.
    #[default]
    Start,
    /// Before the first byte of a later line.
    LineStart,
    InLine,
    /// Behind the CR that ends a line.
    LineEnd,
    /// Behind the CR of the empty line.
    HeadEnd,
}

impl HeadScan {
    /// The length of the head at the front of `buffer`, its empty line included; `None` while it
    /// has not all arrived.
    pub(crate) fn find(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, HeadFault> {
        if self.found {
            return Ok(Some(self.searched));
        }
        let within = buffer.len().min(limits.head_bytes);
        loop {
            if self.place == Place::InLine {
                self.searched += plain(buffer.get(self.searched..within).unwrap_or_default());
            }
            let Some(&byte) = buffer.get(self.searched) else { return Ok(None) };
            if self.searched >= limits.head_bytes {
                return Err(HeadFault::TooLong);
            }
            self.searched += 1;
            let before = self.place;
            self.place = before.after(byte)?;
            if self.place == Place::LineStart {
                if before == Place::HeadEnd {
                    self.found = true;
                    return Ok(Some(self.searched));
                }
                self.lines += 1;
                // The first line is no field.
                if self.lines - 1 > limits.headers {
                    return Err(HeadFault::TooManyFields);
                }
            }
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.searched > 0
    }
}

impl Place {
    fn after(self, byte: u8) -> Result<Place, HeadFault> {
        match (self, byte) {
            (Place::LineEnd | Place::HeadEnd, b'\n') => Ok(Place::LineStart),
            (Place::LineEnd | Place::HeadEnd, _) => {
                Err(HeadFault::Malformed("a carriage return without a line feed"))
            }
            (Place::LineStart, b'\r') => Ok(Place::HeadEnd),
            (Place::InLine, b'\r') => Ok(Place::LineEnd),
            (_, b'\n') => Err(HeadFault::Malformed("a line feed without a carriage return")),
            // RFC 9112 §5.2: a folded line is another way of writing what a proxy may read
            // otherwise.
            (Place::LineStart, b' ' | b'\t') => Err(HeadFault::Malformed("a folded header line")),
            (Place::Start, b'\r' | b' ' | b'\t') => {
                Err(HeadFault::Malformed("an empty line or a space before the first line"))
            }
            _ if is_control(byte) => Err(HeadFault::Malformed("a control character")),
            _ => Ok(Place::InLine),
        }
    }
}

/// How many bytes at the front are certainly no control characters: what a line consists of. Eight
/// are looked at together; the last ones are left to be looked at singly.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    for eight in bytes.as_chunks::<8>().0 {
        let controls = controls(u64::from_le_bytes(*eight));
        if controls != 0 {
            return at + controls.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at
}

/// The highest bit of each byte below a space, and of DEL; what stands behind the first such byte
/// may be marked wrongly, since a borrow runs that way.
#[inline]
fn controls(eight: u64) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    let below_space = eight.wrapping_sub(EACH * 0x20) & !eight;
    let other_than_del = eight ^ (EACH * 0x7f);
    let del = other_than_del.wrapping_sub(EACH) & !other_than_del;
    (below_space | del) & (EACH * 0x80)
}

/// The text of a head, for `httparse`. RFC 9110 §5.5 lets bytes above 127 be any encoding: UTF-8
/// where they are, or else ISO-8859-1, as HTTP had it once.
pub(super) fn text_of(head: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(head) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(head.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// The field lines of a head that was found right: divided again whenever somebody asks, so that a
/// request needs no memory of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldLines<'a>(pub(super) &'a str);

impl<'a> FieldLines<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let fields = self.0.split('\n').filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name, value.trim_matches([' ', '\t', '\r'])))
    }

    /// The values of all fields of this name, whatever its case.
    pub(crate) fn all<'n>(self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.iter()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

pub(crate) type Span = Range<u32>;

/// Where `part`, a slice of `text`, lies in it.
pub(super) fn span(text: &str, part: impl AsRef<[u8]>) -> Span {
    let part = part.as_ref();
    let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start as u32..(start + part.len()) as u32
}

/// So many places as a head of this text can have fields.
pub(super) fn places(text: &str) -> Vec<httparse::Header<'_>> {
    let lines = text.bytes().filter(|&byte| byte == b'\n').count();
    vec![httparse::EMPTY_HEADER; lines]
}

pub(super) fn fault(error: httparse::Error) -> HeadFault {
    match error {
        httparse::Error::TooManyHeaders => HeadFault::TooManyFields,
        httparse::Error::HeaderName => HeadFault::Malformed("a header's name that is no token"),
        httparse::Error::HeaderValue => HeadFault::Malformed("a header's value that is no text"),
        httparse::Error::Version => HeadFault::Malformed("another version than HTTP/1.1"),
        httparse::Error::Status => HeadFault::Malformed("a status line that is none"),
        _ => HeadFault::Malformed("a first line that is none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(stream: &[u8], cut: usize) -> Result<Option<usize>, HeadFault> {
        let (limits, mut scan) = (Limits::new().head_bytes(100).headers(3), HeadScan::default());
        let mut found = Ok(None);
        for end in (cut..stream.len()).step_by(cut).chain([stream.len()]) {
            found = scan.find(&stream[..end], &limits);
            if found != Ok(None) {
                break;
            }
        }
        found
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_the_pieces_were_cut() {
        for cut in 1..20 {
            assert_eq!(scan(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest", cut), Ok(Some(24)));
            assert_eq!(scan(b"GET / HTTP/1.1\r\nA: b\r\n\r", cut), Ok(None));
        }
    }

    #[test]
    fn a_head_that_was_found_is_found_again() {
        let (limits, mut scan) = (Limits::new(), HeadScan::default());
        for _ in 0..2 {
            assert_eq!(scan.find(b"G\r\n\r\nmore\r\n\r\n", &limits), Ok(Some(5)));
        }
    }

    #[test]
    fn what_smuggles_requests_is_malformed_at_its_byte() {
        for stream in [
            &b"GET / HTTP/1.1\n"[..],
            b"GET / HTTP/1.1\rA",
            b"GET / HTTP/1.1\r\nA: b\r\n ",
            b"GET / HTTP/1.1\r\nA: b\r\n\t",
            b"GET / HTTP/1.1\r\nA: \0",
            b"GET / HTTP/1.1\r\nA: \x7f",
            b"\r",
            b" ",
            b"\x16",
        ] {
            for cut in 1..20 {
                let found = scan(stream, cut);
                assert!(matches!(found, Err(HeadFault::Malformed(_))), "{stream:?}: {found:?}");
            }
            assert_eq!(scan(&stream[..stream.len() - 1], 1), Ok(None), "{stream:?}");
        }
    }

    #[test]
    fn a_head_of_the_limit_passes_and_one_byte_more_does_not() {
        let head =
            |length: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(length - 23));
        assert_eq!(scan(head(100).as_bytes(), 1), Ok(Some(100)));
        assert_eq!(scan(head(101).as_bytes(), 1), Err(HeadFault::TooLong));
        assert_eq!(scan(&[b'x'; 101], 1), Err(HeadFault::TooLong));
    }

    #[test]
    fn fields_are_counted_as_they_arrive() {
        assert_eq!(scan(b"G\r\nA:\r\nB:\r\nC:\r\n\r\n", 1), Ok(Some(17)));
        assert_eq!(scan(b"G\r\nA:\r\nB:\r\nC:\r\nD:\r\n", 1), Err(HeadFault::TooManyFields));
    }

    #[test]
    fn eight_bytes_looked_at_together_are_judged_as_singly() {
        for byte in 0..=u8::MAX {
            for at in 0..16 {
                let mut line = *b"a\x80z ~\xff!/a\x80z ~\xff!/";
                line[at] = byte;
                let control = byte < b' ' || byte == 0x7f;
                assert_eq!(plain(&line), if control { at } else { 16 }, "{byte:#x} at {at}");
                // And with another one behind it, which the borrow may reach.
                line[15] = 0x7f;
                assert_eq!(plain(&line), if control { at } else { 15 }, "{byte:#x} at {at}");
            }
        }
        assert_eq!((plain(b""), plain(b"1234567"), plain(b"12345678\r")), (0, 0, 8));
    }

    #[test]
    fn each_byte_of_a_head_is_looked_at_once() {
        let (limits, mut scan) = (Limits::new(), HeadScan::default());
        let mut head = vec![b'x'; 1000];
        assert_eq!(scan.find(&head, &limits), Ok(None));
        assert_eq!(scan.searched, 1000);
        head[10] = b'\n';
        head.push(b'x');
        assert_eq!(scan.find(&head, &limits), Ok(None));
    }
}
