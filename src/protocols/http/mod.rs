//! HTTP/1.1 (RFC 9110, RFC 9112): the server, and the heads that the WebSocket handshake needs.
//!
//! [`server`] is the state machine; [`head`] finds and reads a head under rules stricter than the
//! tokenizer's, [`framing`] judges what it says of its body, [`chunked`], [`collected`],
//! [`multipart`] and [`upload`] read that; [`answer`] writes what [`reply`] and [`response`] say,
//! [`conditional`] what of a file, [`files`] is the door to the disk. [`session`] keeps what a
//! browser's requests have in common, [`file_sessions`] is its door. Everything that a program
//! puts into a head goes through [`check_header`].
mod answer;
mod chunked;
mod collected;
mod conditional;
mod cookie;
mod date;
mod file_sessions;
mod files;
mod form;
mod framing;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod head;
mod multipart;
mod reply;
mod request;
mod response;
mod server;
mod session;
mod upload;

pub use cookie::{Cookie, SameSite};
pub use file_sessions::FileSessions;
use framing::Refused;
pub(crate) use head::{FieldLines, HeadFault, HeadScan};
pub use multipart::UploadedFile;
pub use reply::{Chunk, Reply, ServerSentEvent};
pub use request::Request;
pub(crate) use request::RequestHead;
pub use response::Response;
pub use server::Http;
pub use session::{Session, SessionOptions, SessionStore};

use crate::Error;

/// Whether HTTP permits this header: a token as its name (RFC 9110 §5.6.2), no control character
/// but a tab in its value (RFC 9110 §5.5). What is not permitted is an error, never altered: a CR
/// LF in it would begin another header.
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), Error> {
    if !is_token(name) {
        let reason = "a header's name consists of letters, digits and !#$%&'*+-.^_`|~";
        return Err(Error::header(name, reason));
    }
    match value.bytes().find(|&byte| is_control(byte)) {
        None => Ok(()),
        Some(b'\r' | b'\n') => Err(Error::header(
            name,
            "its value holds a line end, which would begin another header: take it out",
        )),
        Some(byte) => Err(Error::header(
            name,
            format!("its value holds the control character {byte:#04x}: take it out"),
        )),
    }
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let marks = |b: u8| {
        matches!(
            b,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
    };
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || marks(b))
}

/// The elements of a comma-separated list; empty ones do not count (RFC 9110 §5.6.1.2).
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty())
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_http_forbids_is_an_error_that_names_it() {
        for (name, value) in [
            ("", "value"),
            ("with space", "value"),
            ("colon:", "value"),
            ("X\r\nY", "value"),
            ("é", "value"),
            ("X", "a\r\nY: b"),
            ("X", "a\nb"),
            ("X", "a\rb"),
            ("X", "a\0b"),
            ("X", "a\x7fb"),
        ] {
            let error = check_header(name, value).expect_err(value).to_string();
            assert!(error.starts_with(&format!("header {name:?}: ")), "{error}");
        }
        for (name, value) in [("X-A_1", ""), ("Cookie", "a=b; c=\td"), ("X", "é")] {
            assert!(check_header(name, value).is_ok());
        }
    }

    #[test]
    fn a_list_has_no_empty_elements_and_splits_in_linear_time() {
        assert_eq!(list(" a,, b ,\t,c").collect::<Vec<_>>(), ["a", "b", "c"]);
        let long = format!("b{}x", " ".repeat(1 << 20));
        assert_eq!(list(&long).count(), 1);
    }
}
