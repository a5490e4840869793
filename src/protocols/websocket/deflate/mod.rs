//! permessage-deflate (RFC 7692): messages go compressed where both sides have agreed on it.
//!
//! [`Deflate`] is what a program wants, [`negotiation`] what the two sides make of it, [`codec`]
//! the bytes.
mod codec;
mod negotiation;

pub(in crate::protocols) use codec::{Compression, Fault};
pub(super) use negotiation::{Agreement, check_offers};

use crate::Error;

/// permessage-deflate (RFC 7692): given to a client or a worker by `set_websocket_deflate`, it
/// compresses messages wherever the other side agrees.
///
/// ```
/// use workerman::prelude::*;
/// use workerman::Deflate;
///
/// # fn main() -> Result {
/// let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0")?;
/// worker.set_websocket_deflate(Deflate::default());
///
/// let con = AsyncTcpConnection::<Ws>::new("ws://127.0.0.1:8080")?;
/// con.set_websocket_deflate(Deflate::new().client_max_window_bits(12)?.threshold(256));
/// # Ok(())
/// # }
/// ```
///
/// # Secrets
/// Whoever can put text of his own into the messages that carry a secret, and sees how long they
/// are on the wire, can guess the secret from its length (as CRIME and BREACH did with HTTP; TLS
/// does not help). Where a message mixes a secret with a stranger's words leave it uncompressed:
/// do not turn this on for such a worker, or raise the [`threshold`](Deflate::threshold). Without
/// context takeover, a server's default, at least the messages before this one give nothing away.
///
/// # Memory and time
/// A side that takes its context over remembers the last 32 KiB of a direction from message to
/// message. That makes similar small messages much shorter, and costs each connection 273 KiB for
/// what it sends and 47 KiB for what it receives, from the first compressed message on (and 32 KiB
/// more where the peer ends its streams, which hardly any does). Without takeover all connections
/// of a thread share one compressor for each size of a window and a few inflaters, and an idle
/// connection costs 137 bytes more than one without compression. So a client takes over unless the
/// server forbids it, and a server does not unless the program says so:
///
/// ```
/// use workerman::Deflate;
///
/// let few_clients = Deflate::new()
///     .server_no_context_takeover(false)
///     .client_no_context_takeover(false);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    server_no_context_takeover: Option<bool>,
    client_no_context_takeover: Option<bool>,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
    level: u8,
    threshold: usize,
}

impl Default for Deflate {
    /// A client offers `permessage-deflate; client_max_window_bits`. A server agrees without
    /// context takeover in either direction. Level 6, messages of 1 024 bytes and more.
    fn default() -> Self {
        Deflate {
            server_no_context_takeover: None,
            client_no_context_takeover: None,
            server_max_window_bits: None,
            client_max_window_bits: None,
            level: 6,
            threshold: 1024,
        }
    }
}

impl Deflate {
    /// The same as `Deflate::default()`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the server begins each message without memory of those before (RFC 7692 §7.1.1.1).
    /// A client asks for it by `true`, and a server that does not grant it fails the handshake; a
    /// server does so by itself unless `false` is set here, or the client asks for it.
    pub fn server_no_context_takeover(self, forget: bool) -> Self {
        Deflate { server_no_context_takeover: Some(forget), ..self }
    }

    /// Whether the client begins each message without memory of those before (RFC 7692 §7.1.1.2).
    /// A client by `true` says that it does; a server demands it unless `false` is set here.
    pub fn client_no_context_takeover(self, forget: bool) -> Self {
        Deflate { client_no_context_takeover: Some(forget), ..self }
    }

    /// How far back the server's compressor refers: 2 to the power of `bits` bytes (RFC 7692
    /// §7.1.2.1). A client asks for it, and a server that grants more fails the handshake; a server
    /// limits itself. A server told 8, the smallest window, sends uncompressed: its compressor
    /// cannot do with less than 9.
    ///
    /// # Errors
    /// [`Error::Command`] for what is not 8 to 15.
    pub fn server_max_window_bits(self, bits: u8) -> Result<Self, Error> {
        let bits = Some(window("server_max_window_bits", bits)?);
        Ok(Deflate { server_max_window_bits: bits, ..self })
    }

    /// How far back the client's compressor refers: 2 to the power of `bits` bytes (RFC 7692
    /// §7.1.2.2). A client uses no more and says so; 15 says that its window is not to be
    /// negotiated, and the server cannot ask for a smaller one. A server demands it, and
    /// declines offers of clients that cannot be told. A client told 8 sends uncompressed.
    ///
    /// # Errors
    /// [`Error::Command`] for what is not 8 to 15.
    pub fn client_max_window_bits(self, bits: u8) -> Result<Self, Error> {
        let bits = Some(window("client_max_window_bits", bits)?);
        Ok(Deflate { client_max_window_bits: bits, ..self })
    }

    /// Messages of fewer bytes go uncompressed (1 024: what is shorter leaves in one TCP segment
    /// either way). Connections that take their context over gain from a lower one. Empty messages
    /// are never compressed.
    pub fn threshold(self, bytes: usize) -> Self {
        Deflate { threshold: bytes, ..self }
    }

    /// From 0 (not compressed, only wrapped) and 1 (fast) to 9 (small); 6 by default.
    ///
    /// # Errors
    /// [`Error::Command`] for more than 9.
    pub fn level(self, level: u8) -> Result<Self, Error> {
        if level > 9 {
            return Err(Error::command(format!(
                "Deflate::level: {level} is no level of compression, 0 to 9 are"
            )));
        }
        Ok(Deflate { level, ..self })
    }
}

fn window(name: &str, bits: u8) -> Result<u8, Error> {
    if WINDOWS.contains(&bits) {
        return Ok(bits);
    }
    Err(Error::command(format!("Deflate::{name}: {bits} is no size of a window, 8 to 15 are")))
}

/// Sizes of a window that may stand in a handshake, as exponents of two (RFC 7692 §7.1.2).
const WINDOWS: std::ops::RangeInclusive<u8> = 8..=15;
const WIDEST: u8 = 15;
/// The compressor does not know the smallest one.
const NARROWEST_OF_OURS: u8 = 9;

#[cfg(test)]
mod tests;
