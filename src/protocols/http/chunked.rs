//! Chunked bodies (RFC 9112 §7.1), decoded as they arrive. Strict: CRLF ends every line, a size is
//! hexadecimal digits and nothing else, since what two readers count differently smuggles requests.
use super::framing::{Refused, too_large};
use super::head::text_of;
use super::{is_control, is_token};
use crate::Limits;

/// A chunk's extensions (RFC 9112 §7.1.1), which nobody uses.
const EXTENSION_BYTES: usize = 1 << 10;
/// Digits of a size: 64 bits.
const SIZE_DIGITS: usize = 16;

/// Fields that frame a message, route it, authenticate or modify the request, or say what its body
/// is: whoever heeds them behind the body can be told one thing ahead of it and another behind.
const BELONG_AHEAD: &[&str] = &[
    "Transfer-Encoding",
    "Content-Length",
    "Trailer",
    "TE",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Upgrade",
    "HTTP2-Settings",
    "Host",
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "Origin",
    "Referer",
    "Authorization",
    "Proxy-Authorization",
    "Proxy-Authenticate",
    "WWW-Authenticate",
    "Cookie",
    "Set-Cookie",
    "Cache-Control",
    "Pragma",
    "Expect",
    "Max-Forwards",
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "If-Range",
    "Range",
    "Content-Encoding",
    "Content-Type",
    "Content-Range",
    "Content-Disposition",
    "Content-Language",
    "Content-Location",
];

/// How far a chunked body has come.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    place: Place,
    /// Of the chunk that is on, still to come.
    left: u64,
    /// What all chunks so far have announced.
    announced: u64,
    /// Digits of the size, or bytes of the extension.
    length: usize,
    /// Bytes of all trailers.
    trailer_bytes: usize,
    trailers: Vec<u8>,
    trailer_lines: usize,
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// In a trailer line, or before one.
    Trailer,
    TrailerLf,
    Done,
}

impl Chunked {
    pub(super) fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Decodes what has come; `sink` takes the data. A chunk that announces too much is refused
    /// before it has come, and before any of it is handed on: however the bytes were cut, the fault
    /// that stands first is the one that is told.
    /// How many bytes of `bytes` belong to this body.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Refused>,
    ) -> Result<usize, Refused> {
        let mut at = 0;
        while at < bytes.len() && self.place != Place::Done {
            if self.place == Place::Data {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                sink(&bytes[at..at + length])?;
                at += length;
                self.left -= length as u64;
                if self.left == 0 {
                    self.place = Place::DataCr;
                }
                continue;
            }
            self.byte(bytes[at], limits)?;
            at += 1;
        }
        Ok(at)
    }

    fn byte(&mut self, byte: u8, limits: &Limits) -> Result<(), Refused> {
        let wrong = |why: &'static str| Err(Refused::new(400, why));
        match (self.place, byte) {
            (Place::Size, b'\r' | b';') if self.length == 0 => {
                return wrong("a chunk without size");
            }
            (Place::Size | Place::Extension, b'\r') => self.place = Place::SizeEnd,
            (Place::Size, b';') => {
                self.place = Place::Extension;
                self.length = 0;
            }
            (Place::Size, digit) => return self.digit(digit),
            (Place::Extension, byte) => {
                self.length += 1;
                if is_control(byte) {
                    return wrong("a control character in a chunk's extension");
                }
                if self.length > EXTENSION_BYTES {
                    return wrong("a chunk's extension that is too long");
                }
            }
            (Place::SizeEnd, b'\n') => {
                self.length = 0;
                self.place = if self.left == 0 { Place::Trailer } else { Place::Data };
                self.announced = self.announced.saturating_add(self.left);
                if self.announced > limits.message_bytes as u64 {
                    return Err(too_large(limits));
                }
            }
            (Place::DataCr, b'\r') => self.place = Place::DataLf,
            (Place::DataLf, b'\n') => self.place = Place::Size,
            (Place::Trailer, b'\r') => self.place = Place::TrailerLf,
            (Place::Trailer, byte) => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > limits.head_bytes {
                    return Err(Refused::new(431, "trailers above Limits::head_bytes"));
                }
                if is_control(byte) {
                    return wrong("a control character in a trailer");
                }
                self.line.push(byte);
            }
            (Place::TrailerLf, b'\n') => return self.trailer_line(limits.headers),
            (Place::SizeEnd | Place::DataCr | Place::DataLf | Place::TrailerLf, _) => {
                return wrong("a chunk whose lines do not end with CR LF");
            }
            (Place::Data | Place::Done, _) => {}
        }
        Ok(())
    }

    fn digit(&mut self, digit: u8) -> Result<(), Refused> {
        let Some(value) = char::from(digit).to_digit(16) else {
            return Err(Refused::new(400, "a chunk's size that is no hexadecimal number"));
        };
        self.length += 1;
        if self.length > SIZE_DIGITS {
            return Err(Refused::new(413, "a chunk's size with more than 16 digits"));
        }
        if self.length == 1 {
            self.left = 0;
        }
        self.left = self.left << 4 | u64::from(value);
        Ok(())
    }

    /// RFC 9110 §6.5.1: they are kept apart from the headers, which they must not replace, and what
    /// had to be known before the body is dropped.
    fn trailer_line(&mut self, most: usize) -> Result<(), Refused> {
        if self.line.is_empty() {
            self.place = Place::Done;
            return Ok(());
        }
        let name = self.line.split(|&byte| byte == b':').next().unwrap_or_default();
        let right = name.len() < self.line.len() && std::str::from_utf8(name).is_ok_and(is_token);
        if !BELONG_AHEAD.iter().any(|ahead| name.eq_ignore_ascii_case(ahead.as_bytes())) {
            self.trailers.extend_from_slice(&self.line);
            self.trailers.extend_from_slice(b"\r\n");
        }
        self.line.clear();
        self.trailer_lines += 1;
        if self.trailer_lines > most {
            return Err(Refused::new(431, "too many trailers (Limits::headers)"));
        }
        self.place = Place::Trailer;
        match right {
            true => Ok(()),
            false => Err(Refused::new(400, "a trailer that is no header line")),
        }
    }

    /// The lines behind the body.
    pub(super) fn into_trailers(self) -> String {
        text_of(&self.trailers).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data, bytes that belong to the body, and whether it is whole.
    fn decode(stream: &[u8], cut: usize) -> Result<(Vec<u8>, usize, bool), Refused> {
        let (mut chunked, mut data, mut used) = (Chunked::default(), Vec::new(), 0);
        let limits = Limits::new().head_bytes(64).headers(4).message_bytes(1000);
        for piece in stream.chunks(cut) {
            let n = chunked.feed(piece, &limits, &mut |bytes| {
                data.extend_from_slice(bytes);
                Ok(())
            })?;
            used += n;
            if n < piece.len() {
                break;
            }
        }
        Ok((data, used, chunked.is_done()))
    }

    #[test]
    fn a_chunked_body_is_the_same_wherever_the_pieces_were_cut() {
        let stream = b"3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\nGET /";
        for cut in 1..=stream.len() {
            let decoded = decode(stream, cut).expect("a body");
            assert_eq!(decoded, (b"abc0123456789".to_vec(), stream.len() - 5, true), "{cut}");
        }
    }

    #[test]
    fn half_a_chunked_body_is_not_done() {
        let stream = b"3\r\nabc\r\n0\r\n\r\n";
        for end in 0..stream.len() {
            assert!(!decode(&stream[..end], 1).expect("so far").2, "{end}");
        }
    }

    #[test]
    fn a_size_that_two_readers_could_count_differently_is_refused() {
        for (stream, status) in [
            (&b"\r\n"[..], 400),
            (b";x\r\n", 400),
            (b"+5\r\nabcde\r\n", 400),
            (b"-1\r\n", 400),
            (b"0x5\r\nabcde\r\n", 400),
            (b" 5\r\nabcde\r\n", 400),
            (b"5 \r\nabcde\r\n", 400),
            (b"5\nabcde\r\n", 400),
            (b"5\rabcde\r\n", 400),
            (b"5;a\nb\r\nabcde\r\n", 400),
            (b"5;\0\r\nabcde\r\n", 400),
            (b"5_0\r\n", 400),
            (b"g\r\n", 400),
            (b"3\r\nabcd\r\n", 400),
            (b"3\r\nabc\n0\r\n\r\n", 400),
            (b"3\r\nabc\rX", 400),
            (b"0\r\nno colon\r\n\r\n", 400),
            (b"0\r\nX : y\r\n\r\n", 400),
            (b"0\r\nX: \0\r\n\r\n", 400),
            (b"0\r\n X: y\r\n\r\n", 400),
            (b"0\r\nX: y\n\r\n", 400),
            (b"00000000000000005\r\n", 413),
            (b"fffffffffffffffff\r\n", 413),
        ] {
            for cut in [1, 2, 100] {
                let refused = decode(stream, cut).expect_err(&String::from_utf8_lossy(stream));
                assert_eq!(refused.status, status, "{:?}", String::from_utf8_lossy(stream));
            }
        }
    }

    #[test]
    fn extensions_and_trailers_have_limits() {
        let long = format!("1;{}\r\n", "x".repeat(EXTENSION_BYTES + 1));
        assert_eq!(decode(long.as_bytes(), 7).expect_err("too long").status, 400);
        let long = format!("0\r\nX: {}\r\n", "x".repeat(64));
        assert_eq!(decode(long.as_bytes(), 7).expect_err("too long").status, 431);
    }

    #[test]
    fn a_chunk_that_announces_too_much_is_refused_before_any_of_it_is_handed_on() {
        let fits = b"3e7\r\n".iter().chain(&[b'x'; 999]).chain(b"\r\n1\r\n").copied();
        let fits: Vec<u8> = fits.collect();
        for (stream, last) in [(&b"3e9\r\nxyz"[..], 5), (b"ffffffffffffffff\r\nxyz", 18)] {
            for cut in [1, 2, 5, 100] {
                let (mut chunked, mut fed) = (Chunked::default(), 0);
                let limits = Limits::new().message_bytes(1000);
                let refused = stream.chunks(cut).find_map(|piece| {
                    fed += piece.len();
                    let sink = &mut |_: &[u8]| panic!("it was handed on");
                    chunked.feed(piece, &limits, sink).err()
                });
                assert_eq!(refused.map(|refused| refused.status), Some(413));
                assert!(fed < last + cut, "refused by its size line");
            }
        }
        assert!(decode(&fits, 7).is_ok(), "just the limit");
        let above = [&fits[..], b"x\r\n1\r\nx"].concat();
        assert_eq!(decode(&above, 7).expect_err("one more").status, 413);
    }
}
