//! The opening handshake (RFC 6455 §4): what both sides share.
pub(super) mod client;
pub(super) mod origin;
pub(super) mod server;

use crate::Error;
use crate::protocols::http::{check_header, is_token, list};
use base64::prelude::{BASE64_STANDARD, Engine};
use sha1::{Digest, Sha1};

/// A handshake that is not complete.
#[derive(Debug)]
pub(super) enum Pending {
    Client(Box<client::Asking>),
    Server(Box<server::Answering>),
}

impl Pending {
    pub(super) fn client(&mut self) -> Option<&mut client::Asking> {
        match self {
            Pending::Client(asking) => Some(asking),
            Pending::Server(_) => None,
        }
    }

    pub(super) fn server(&mut self) -> Option<&mut server::Answering> {
        match self {
            Pending::Server(answering) => Some(answering),
            Pending::Client(_) => None,
        }
    }
}

/// RFC 6455 §4.2.2, step 5.4: proves that the server has read this very request as a WebSocket's.
fn accept_for(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(hash.finalize())
}

/// A header that a program puts into the handshake: permitted by HTTP, and none that the handshake
/// itself consists of.
fn check_ours(name: &str, value: &str) -> Result<(), Error> {
    const WRITTEN_HERE: [&str; 8] = [
        "Connection",
        "Upgrade",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Content-Length",
        "Transfer-Encoding",
    ];
    check_header(name, value)?;
    if WRITTEN_HERE.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        return Err(Error::header(
            name,
            "the handshake writes this header by itself: leave it out",
        ));
    }
    Ok(())
}

/// A `Sec-WebSocket-Protocol` of a client: a list of tokens, none of them twice (RFC 6455 §4.1,
/// step 10).
fn check_protocols(value: &str) -> Result<(), Error> {
    let wrong = |reason: String| Err(Error::header("Sec-WebSocket-Protocol", reason));
    let names: Vec<&str> = list(value).collect();
    if names.is_empty() {
        return wrong("it names no subprotocol".into());
    }
    for (i, name) in names.iter().enumerate() {
        if !is_token(name) {
            return wrong(format!("{name:?} is no subprotocol's name: a name is one token"));
        }
        if names[..i].contains(name) {
            return wrong(format!("it names {name:?} twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        assert_eq!(accept_for("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn headers_of_the_handshake_itself_are_not_for_programs() {
        for name in ["upgrade", "CONNECTION", "sec-websocket-key", "Content-Length"] {
            let error = check_ours(name, "x").expect_err(name).to_string();
            assert!(error.contains("by itself"), "{error}");
        }
        assert!(check_ours("Cookie", "a=b").is_ok());
        assert!(check_ours("Cookie", "a\r\nb").is_err());
    }

    #[test]
    fn subprotocols_are_tokens_and_differ() {
        for wrong in ["", " , ", "a b", "a,\u{e9}", "chat, chat", "a\r\nX: y"] {
            assert!(check_protocols(wrong).is_err(), "{wrong:?}");
        }
        for right in ["chat", "chat, superchat", "v1.json,v2.json"] {
            assert!(check_protocols(right).is_ok(), "{right:?}");
        }
    }
}
