//! Handshakes, sessions and frames, from any bytes.
use super::frame::{Head, Role};
use super::testing::{ACCEPT, REQUEST, dialled, hear, open_client, open_server};
#[cfg(feature = "deflate")]
use super::testing::{deflating_client, deflating_server, frame};
use super::{Opening, Websocket};
use crate::protocols::testing::{Flat, Line, Seen, each_way};
use crate::{Limits, Payload};

/// Small, so that a short input reaches every limit.
fn limits() -> Limits {
    Limits::new().message_bytes(600).fragments(8).head_bytes(2048).headers(20)
}

/// An open client, whatever its server says.
pub fn session_client(bytes: &[u8]) {
    hear(Role::Client, &limits(), bytes);
}

/// An open server, whatever its client says.
pub fn session_server(bytes: &[u8]) {
    hear(Role::Server, &limits(), bytes);
}

/// One of them only hears, in one way of cutting.
pub(crate) fn hear_in_pieces(who: &str, limits: &Limits, bytes: &[u8], cut: usize) {
    fn feed<P: Flat>(mut line: Line<P>, limits: &Limits, bytes: &[u8], cut: usize) {
        line.limits = limits.clone();
        bytes.chunks(cut).for_each(|piece| line.feed(piece));
    }
    match who {
        "session_client" => feed(open_client(limits), limits, bytes, cut),
        "session_server" => feed(open_server(limits), limits, bytes, cut),
        "handshake_client" => feed(dialled(&Opening::default()), limits, bytes, cut),
        "handshake_server" => {
            let mut line = Line::new(Websocket::default());
            line.connect();
            feed(line, limits, bytes, cut);
        }
        #[cfg(feature = "deflate")]
        "deflate_client" => feed(deflating_client(limits, ""), limits, bytes, cut),
        #[cfg(feature = "deflate")]
        "deflate_server" => feed(deflating_server(limits, ""), limits, bytes, cut),
        _ => panic!("nobody is called {who}"),
    }
}

/// What a server hears before a session, and what it answers.
pub fn handshake_server(bytes: &[u8]) {
    let fresh = || {
        let mut line = Line::new(Websocket::default());
        line.limits = limits();
        line.connect();
        line
    };
    let line = each_way(bytes, fresh);
    if line.seen.contains(&Seen::Upgraded) {
        assert!(line.out.starts_with(b"HTTP/1.1 101 "), "{line:?}");
    }
    // A right request with something strange in it.
    let mut request = REQUEST.as_bytes().to_vec();
    if let [at, rest @ ..] = bytes {
        let at = usize::from(*at) % request.len();
        request.splice(at..at, rest.iter().copied());
        each_way(&request, fresh);
    }
}

/// What a server answers to a client's request.
pub fn handshake_client(bytes: &[u8]) {
    let fresh = || {
        let mut line = dialled(&Opening::default());
        line.limits = limits();
        line
    };
    each_way(bytes, fresh);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    let mut answer = answer.into_bytes();
    if let [at, rest @ ..] = bytes {
        let at = usize::from(*at) % answer.len();
        answer.splice(at..at, rest.iter().copied());
        each_way(&answer, fresh);
    }
}

/// Frame heads in all their lengths, and messages that one side sends and the other receives.
pub fn websocket_frame(bytes: &[u8]) {
    for role in [Role::Client, Role::Server] {
        if let Ok(Some(head)) = Head::read_with(role, true, bytes) {
            assert!((2..=14).contains(&head.length) && head.length <= bytes.len(), "{head:?}");
        }
    }
    let mut client = open_client(&Limits::new());
    let mut server = open_server(&Limits::new());
    for direction in [true, false] {
        let mut expected = Vec::new();
        for piece in bytes.split(|&byte| byte == b'|') {
            let (payload, seen): (Payload, Seen) = match std::str::from_utf8(piece) {
                Ok(text) => (text.into(), Seen::text(text)),
                Err(_) => (piece.into(), Seen::binary(piece)),
            };
            match direction {
                true => client.send(payload),
                false => server.send(payload),
            }
            expected.push(seen);
        }
        let cut = bytes.len() % 11 + 1;
        match direction {
            true => std::mem::take(&mut client.out).chunks(cut).for_each(|c| server.feed(c)),
            false => std::mem::take(&mut server.out).chunks(cut).for_each(|c| client.feed(c)),
        }
        let seen = std::mem::take(if direction { &mut server.seen } else { &mut client.seen });
        assert_eq!(seen, expected, "what is sent arrives");
    }
}

/// Compressed messages: any bytes as one, as a stream of frames, and what one side sends the other.
#[cfg(feature = "deflate")]
pub fn deflate(bytes: &[u8]) {
    let (client, server) = (|| deflating_client(&limits(), ""), || deflating_server(&limits(), ""));
    each_way(bytes, client);
    each_way(bytes, server);
    for first in [0xc1, 0xc2] {
        each_way(&frame(Role::Client, first, bytes), client);
        each_way(&frame(Role::Server, first, bytes), server);
    }
    let (limits, forgetting) = (Limits::new(), "; client_no_context_takeover");
    let parameters = if bytes.len().is_multiple_of(2) { "" } else { forgetting };
    let mut client = deflating_client(&limits, parameters);
    let mut server = deflating_server(&limits, parameters);
    let mut expected = Vec::new();
    for piece in bytes.split(|&byte| byte == b'|') {
        client.send(piece);
        expected.push(Seen::binary(piece));
    }
    for piece in client.out.chunks(bytes.len() % 11 + 1) {
        server.feed(piece);
    }
    assert_eq!(server.seen, expected, "what is sent arrives");
}
