//! Which of two endpoints is ours, and frames to it. For the tables of the RFCs.

/// Who of the two is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    Client,
    Server,
}

pub(crate) const BOTH: [Ours; 2] = [Ours::Client, Ours::Server];

/// A frame to the one that is ours, its first byte as wanted; masked to a server.
pub(crate) fn frame_to(to: Ours, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head_to(to, first, payload.len() as u64);
    let key: [u8; 4] = match to {
        Ours::Client => [0; 4],
        Ours::Server => KEY,
    };
    frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    frame
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The same without a payload, however long that would be.
pub(crate) fn head_to(to: Ours, first: u8, length: u64) -> Vec<u8> {
    let masked = if to == Ours::Server { 0x80 } else { 0 };
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
    if to == Ours::Server {
        head.extend_from_slice(&KEY);
    }
    head
}
