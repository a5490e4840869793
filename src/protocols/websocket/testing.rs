//! Open sessions for tests, and frames with anything in them.
use super::frame::{Head, Role};
use super::{Opening, Websocket, Ws, mask};
use crate::protocols::testing::{Line, Seen, each_way};
use crate::protocols::{Dial, Target};
use crate::{Limits, Response};

pub(super) const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// The request of RFC 6455 §1.3.
pub(super) const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// The key that the foretold randomness makes, and its answer.
pub(super) const ACCEPT: &str = "MP38feWaVZqaHsTDNL42zIo8k90=";

pub(super) fn answer_with(lines: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{lines}\r\n"
    )
}

pub(super) fn dialled(opening: &Opening) -> Line<Ws> {
    let mut ws = Ws::default();
    ws.address(&Target { host: "127.0.0.1:1234", path: "/", userinfo: None, opening });
    let mut line = Line::new(ws);
    line.connect();
    line
}

pub(super) fn open_client(limits: &Limits) -> Line<Ws> {
    let mut line = dialled(&Opening::default());
    line.feed(answer_with("").as_bytes());
    assert_eq!(line.seen, [Seen::Opened(101)]);
    forget(&mut line, limits);
    line
}

pub(super) fn open_server(limits: &Limits) -> Line<Websocket> {
    let mut line = Line::new(Websocket::default());
    line.connect();
    line.feed(REQUEST.as_bytes());
    assert_eq!(line.seen, [Seen::Upgrade("/chat".into()), Seen::Upgraded]);
    forget(&mut line, limits);
    line
}

/// Both sides have agreed on compression with takeover in both directions; the agreement's header
/// as the peer of `role` writes it may say otherwise.
#[cfg(feature = "deflate")]
pub(super) fn deflating_client(limits: &Limits, answer: &str) -> Line<Ws> {
    let mut opening = Opening::default();
    opening.set_deflate(super::Deflate::new().threshold(0));
    let mut line = dialled(&opening);
    let answer = format!("Sec-WebSocket-Extensions: permessage-deflate{answer}\r\n");
    line.feed(answer_with(&answer).as_bytes());
    assert_eq!(line.seen, [Seen::Opened(101)]);
    forget(&mut line, limits);
    line
}

/// See [`deflating_client`].
#[cfg(feature = "deflate")]
pub(super) fn deflating_server(limits: &Limits, offer: &str) -> Line<Websocket> {
    let deflate = super::Deflate::new().threshold(0).server_no_context_takeover(false);
    let deflate = deflate.client_no_context_takeover(false);
    let mut line = Line::new(Websocket::default().with_deflate(deflate));
    line.connect();
    let offer = format!("\r\nSec-WebSocket-Extensions: permessage-deflate{offer}\r\n\r\n");
    line.feed(REQUEST.replace("\r\n\r\n", &offer).as_bytes());
    assert_eq!(line.seen, [Seen::Upgrade("/chat".into()), Seen::Upgraded]);
    assert!(String::from_utf8_lossy(&line.out).contains("permessage-deflate"));
    forget(&mut line, limits);
    line
}

fn forget<P>(line: &mut Line<P>, limits: &Limits) {
    line.seen.clear();
    line.out.clear();
    line.limits = limits.clone();
}

/// A frame to one who plays `role`, its first byte and length as wanted.
pub(super) fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(role, first, payload.len() as u64);
    let from = frame.len();
    frame.extend_from_slice(payload);
    if role == Role::Server {
        let key = [frame[from - 4], frame[from - 3], frame[from - 2], frame[from - 1]];
        mask::apply(&mut frame[from..], key, 0);
    }
    frame
}

pub(super) fn head(role: Role, first: u8, length: u64) -> Vec<u8> {
    let masked = if role == Role::Server { 0x80 } else { 0 };
    let mut head = vec![first];
    match length {
        0..126 => head.push(masked | length as u8),
        126..=0xffff => {
            head.push(masked | 126);
            head.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            head.push(masked | 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    if role == Role::Server {
        head.extend_from_slice(&[0x37, 0xfa, 0x21, 0x3d]);
    }
    head
}

pub(super) fn frames(role: Role, frames: &[(u8, &[u8])]) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| frame(role, *first, payload)).collect()
}

/// First byte and payload of each frame that one who plays `role` has sent.
pub(super) fn sent(role: Role, mut out: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let peer = if role == Role::Client { Role::Server } else { Role::Client };
    let mut frames = Vec::new();
    while !out.is_empty() {
        let head = Head::read_with(peer, true, out).expect("a right head").expect("a whole head");
        assert!(peer == Role::Client || head.key != [0; 4], "masked with a key");
        let end = head.length + head.payload as usize;
        let mut payload = out[head.length..end].to_vec();
        mask::apply(&mut payload, head.key, 0);
        frames.push((out[0], payload));
        out = &out[end..];
    }
    frames
}

/// What an open session saw, and the frames it sent.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) seen: Vec<Seen>,
    pub(super) sent: Vec<(u8, Vec<u8>)>,
}

impl Heard {
    /// The code of the violation, which the close frame says too.
    pub(super) fn code(&self) -> u16 {
        let Some(Seen::Violation { code: Some(code), text, .. }) = self.seen.last() else {
            panic!("no violation: {self:?}");
        };
        let mut close = code.to_be_bytes().to_vec();
        close.extend_from_slice(text.as_bytes());
        assert_eq!(self.sent.last(), Some(&(0x88, close)));
        *code
    }
}

/// Feeds the stream to open sessions in all ways of cutting it.
pub(super) fn hear(role: Role, limits: &Limits, stream: &[u8]) -> Heard {
    let (seen, out) = match role {
        Role::Client => {
            let line = each_way(stream, || open_client(limits));
            (line.seen, line.out)
        }
        Role::Server => {
            let line = each_way(stream, || open_server(limits));
            (line.seen, line.out)
        }
    };
    Heard { seen, sent: sent(role, &out) }
}

pub(super) fn hear_frames(role: Role, list: &[(u8, &[u8])]) -> Heard {
    hear(role, &Limits::new(), &frames(role, list))
}

/// The one response in `out`, checked to be as long as it says.
pub(super) fn response(out: &[u8]) -> Response {
    let end = out.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let mut response = Response::parse(&out[..end]).expect("a response");
    let length = response.header("Content-Length").and_then(|length| length.parse().ok());
    assert_eq!(length.unwrap_or(0), out.len() - end, "Content-Length is right");
    response.set_body(out[end..].to_vec());
    response
}
