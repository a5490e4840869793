//! Lines and length-prefixed packages, from any bytes.
use super::testing::{Flat, Line, Seen, each_way};
use crate::{Frame, Limits, Text};

/// Lines.
pub fn text(bytes: &[u8]) {
    packages::<Text>(bytes, |piece| !piece.contains(&b'\n') && !piece.ends_with(b"\r"));
}

/// Packages that begin with their length.
pub fn frame(bytes: &[u8]) {
    packages::<Frame>(bytes, |_| true);
}

/// Only hears, in one way of cutting.
pub(crate) fn hear(who: &str, limits: &Limits, bytes: &[u8], cut: usize) {
    fn feed<P: Flat + Default>(limits: &Limits, bytes: &[u8], cut: usize) {
        let mut line = Line::new(P::default());
        line.limits = limits.clone();
        bytes.chunks(cut).for_each(|piece| line.feed(piece));
    }
    match who {
        "text" => feed::<Text>(limits, bytes, cut),
        _ => feed::<Frame>(limits, bytes, cut),
    }
}

/// Every way of cutting the stream gives the same, and what is sent arrives as it was.
fn packages<P: Flat + Default>(bytes: &[u8], can_be_sent: fn(&[u8]) -> bool) {
    let fresh = || {
        let mut line = Line::new(P::default());
        line.limits = Limits::new().message_bytes(200);
        line
    };
    each_way(bytes, fresh);
    let mut sender = fresh();
    let mut expected = Vec::new();
    for piece in bytes.split(|&byte| byte == b'|') {
        if can_be_sent(piece) && piece.len() < 100 {
            sender.send(piece);
            expected.push(piece.to_vec());
        }
    }
    let arrived = each_way(&sender.out, fresh).seen;
    let arrived: Vec<Vec<u8>> = arrived.into_iter().map(bytes_of).collect();
    assert_eq!(arrived, expected, "what is sent arrives");
}

fn bytes_of(seen: Seen) -> Vec<u8> {
    match seen {
        Seen::Text(text) => text.into_bytes(),
        Seen::Binary(bytes) => bytes,
        other => panic!("not a message: {other:?}"),
    }
}
