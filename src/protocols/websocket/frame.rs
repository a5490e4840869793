//! Frames (RFC 6455 §5): reading a head and everything that can be wrong with it, writing one.
use super::mask::{self, Key};
use crate::protocols::{Context, Glance, Violation};

/// Who we are: the peer is the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We have dialled: what we send is masked.
    Client,
    /// We have accepted: what arrives is masked.
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    #[inline(always)]
    pub(super) fn of(is_text: bool) -> Opcode {
        if is_text { Opcode::Text } else { Opcode::Binary }
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// A control frame's longest payload (RFC 6455 §5.5).
pub(super) const CONTROL_MOST: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// RSV1: this message is compressed (RFC 7692 §6).
const COMPRESSED: u8 = 0x40;
const MASKED: u8 = 0x80;
/// A copy's longest piece: what was just copied is masked while it is still in the cache.
const PIECE: usize = 8 << 10;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    /// Zeros where the frame is not masked.
    pub(super) key: Key,
    /// The head's own length.
    pub(super) length: usize,
    pub(super) payload: u64,
    /// The first frame of a compressed message (RFC 7692 §6).
    pub(super) compressed: bool,
}

impl Head {
    /// The same where no extension is in use.
    #[cfg(test)]
    pub(super) fn read(role: Role, buffer: &[u8]) -> Result<Option<Head>, Violation> {
        Head::read_with(role, false, buffer)
    }

    /// The head at the front of `buffer`; `None` while it has not all arrived. Each byte is judged
    /// as soon as it is here.
    pub(super) fn read_with(
        role: Role,
        deflates: bool,
        buffer: &[u8],
    ) -> Result<Option<Head>, Violation> {
        let Some(&first) = buffer.first() else { return Ok(None) };
        if first & RESERVED != 0 {
            check_reserved(first, deflates)?;
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(broken("a frame with a reserved opcode")),
        };
        let fin = first & FIN != 0;
        // RFC 6455 §5.5: control frames must not be fragmented.
        if opcode.is_control() && !fin {
            return Err(broken("a fragmented control frame"));
        }
        let Some(&second) = buffer.get(1) else { return Ok(None) };
        match (role, second & MASKED != 0) {
            // RFC 6455 §5.1: all frames of a client are masked, none of a server.
            (Role::Client, true) => return Err(broken("a masked frame from a server")),
            (Role::Server, false) => return Err(broken("an unmasked frame from a client")),
            _ => {}
        }
        let Some((payload, mut length)) = payload_length(opcode, second & 0x7f, &buffer[2..])?
        else {
            return Ok(None);
        };
        let mut key = [0; 4];
        if role == Role::Server {
            let Some(bytes) = buffer.get(length..length + 4) else { return Ok(None) };
            key.copy_from_slice(bytes);
            length += 4;
        }
        let compressed = first & COMPRESSED != 0;
        Ok(Some(Head { fin, opcode, key, length, payload, compressed }))
    }
}

/// RFC 6455 §5.2: reserved bits belong to extensions, and there is one that uses the first of them.
#[cold]
fn check_reserved(first: u8, deflates: bool) -> Result<(), Violation> {
    if first & RESERVED != COMPRESSED || !deflates {
        return Err(broken("a reserved bit is set without an extension that uses it"));
    }
    // RFC 7692 §6.1: it stands in a message's first frame, and in no other.
    if !matches!(first & 0x0f, 1 | 2) {
        return Err(broken("RSV1 is set in a frame that begins no message"));
    }
    Ok(())
}

/// The payload's length and where the head's next part begins.
fn payload_length(
    opcode: Opcode,
    short: u8,
    behind: &[u8],
) -> Result<Option<(u64, usize)>, Violation> {
    if opcode.is_control() && usize::from(short) > CONTROL_MOST {
        return Err(broken("a control frame with more than 125 bytes"));
    }
    match short {
        // RFC 6455 §5.2: the minimal number of bytes must be used to encode the length.
        126 => match behind.first_chunk() {
            None => Ok(None),
            Some(bytes) => match u16::from_be_bytes(*bytes) {
                0..=125 => Err(broken("a length in 16 bits that fits into 7")),
                length => Ok(Some((length.into(), 4))),
            },
        },
        127 => match (behind.first(), behind.first_chunk()) {
            (Some(0x80..), _) => Err(broken("a length with its most significant bit set")),
            (_, None) => Ok(None),
            (_, Some(bytes)) => match u64::from_be_bytes(*bytes) {
                0..=0xffff => Err(broken("a length in 64 bits that fits into 16")),
                length => Ok(Some((length, 10))),
            },
        },
        _ => Ok(Some((short.into(), 2))),
    }
}

#[cold]
pub(super) fn broken(text: &'static str) -> Violation {
    Violation::new(text).code(1002)
}

/// `None`: the long way finds out what it is.
#[inline(always)]
pub(super) fn plain(role: Role, buffer: &[u8]) -> Option<Glance> {
    let [first, second, ..] = *buffer else { return None };
    if first != FIN | Opcode::Text as u8 && first != FIN | Opcode::Binary as u8 {
        return None;
    }
    // A wrong mask bit makes a length above 127, which is none of ours.
    let (short, key) = match role {
        Role::Server => (second ^ MASKED, 4),
        Role::Client => (second, 0),
    };
    let (payload_from, length) = match short {
        0..126 => (2 + key, usize::from(short)),
        126 => {
            let length = u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?]);
            if length < 126 {
                return None;
            }
            (4 + key, usize::from(length))
        }
        _ => return None,
    };
    let end = payload_from + length;
    (end <= buffer.len()).then_some(Glance { payload_from, end })
}

/// Appends a whole frame. Only a client's costs randomness.
#[inline(always)]
pub(super) fn put(role: Role, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>, cx: &mut Context) {
    put_first(role, FIN | opcode as u8, payload, out, cx);
}

/// The same for a payload that is compressed.
pub(super) fn put_packed(
    role: Role,
    opcode: Opcode,
    packed: &[u8],
    out: &mut Vec<u8>,
    cx: &mut Context,
) {
    put_first(role, FIN | COMPRESSED | opcode as u8, packed, out, cx);
}

#[inline(always)]
fn put_first(role: Role, first: u8, payload: &[u8], out: &mut Vec<u8>, cx: &mut Context) {
    out.reserve(payload.len() + 14);
    put_lengths(role, first, payload.len(), out);
    match role {
        Role::Server => out.extend_from_slice(payload),
        Role::Client => put_masked(payload, out, cx),
    }
}

/// Appends the head without the key, the length in as few bytes as it needs.
#[inline(always)]
pub(super) fn put_head(role: Role, opcode: Opcode, length: usize, out: &mut Vec<u8>) {
    put_lengths(role, FIN | opcode as u8, length, out);
}

#[inline(always)]
fn put_lengths(role: Role, first: u8, length: usize, out: &mut Vec<u8>) {
    let mask = match role {
        Role::Client => MASKED,
        Role::Server => 0,
    };
    match length {
        0..126 => out.extend_from_slice(&[first, mask | length as u8]),
        126..=0xffff => {
            let [high, low] = (length as u16).to_be_bytes();
            out.extend_from_slice(&[first, mask | 126, high, low]);
        }
        _ => {
            out.extend_from_slice(&[first, mask | 127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[inline(always)]
fn put_masked(payload: &[u8], out: &mut Vec<u8>, cx: &mut Context) {
    // RFC 6455 §5.3: a fresh key for each frame, that nobody can foretell.
    let mut key = [0; 4];
    cx.random(&mut key);
    out.extend_from_slice(&key);
    for piece in payload.chunks(PIECE) {
        let from = out.len();
        out.extend_from_slice(piece);
        mask::apply(&mut out[from..], key, 0);
    }
}

/// A control frame on the stack: its answers need no allocation of their own.
pub(super) struct Control {
    bytes: [u8; 2 + 4 + CONTROL_MOST],
    length: usize,
}

impl Control {
    /// What is longer than 125 bytes is cut; those who must not cut check before.
    pub(super) fn new(role: Role, opcode: Opcode, payload: &[u8], cx: &mut Context) -> Self {
        let payload = &payload[..payload.len().min(CONTROL_MOST)];
        let mut bytes = [0; 2 + 4 + CONTROL_MOST];
        bytes[0] = FIN | opcode as u8;
        bytes[1] = payload.len() as u8;
        let mut from = 2;
        if role == Role::Client {
            bytes[1] |= MASKED;
            let mut key = [0; 4];
            cx.random(&mut key);
            bytes[2..6].copy_from_slice(&key);
            from = 6;
            bytes[from..from + payload.len()].copy_from_slice(payload);
            mask::apply(&mut bytes[from..from + payload.len()], key, 0);
        } else {
            bytes[from..from + payload.len()].copy_from_slice(payload);
        }
        Control { bytes, length: from + payload.len() }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::with_context;
    use super::*;
    use crate::Limits;

    fn violation(role: Role, bytes: &[u8]) -> Violation {
        let violation = Head::read(role, bytes).expect_err("a violation");
        assert_eq!(violation.close_code(), Some(1002));
        violation
    }

    #[test]
    fn reserved_bits_and_opcodes_are_judged_on_the_first_byte() {
        for first in 0..=255u8 {
            let known = matches!(first & 0x0f, 0..=2 | 8..=10);
            let control_whole = first & 0x08 == 0 || first & 0x80 != 0;
            let right = first & 0x70 == 0 && known && control_whole;
            let read = Head::read(Role::Client, &[first]);
            assert_eq!(read.is_ok(), right, "{first:#04x}");
            assert!(right || read.is_err_and(|v| v.close_code() == Some(1002)));
        }
    }

    #[test]
    fn the_mask_bit_is_judged_on_the_second_byte() {
        assert!(violation(Role::Client, &[0x81, 0x80]).to_string().contains("masked frame"));
        assert!(violation(Role::Server, &[0x81, 0x00]).to_string().contains("unmasked frame"));
    }

    #[test]
    fn control_frames_carry_at_most_125_bytes_and_are_whole() {
        for opcode in [0x88, 0x89, 0x8a] {
            assert!(Head::read(Role::Client, &[opcode, 125]).is_ok());
            violation(Role::Client, &[opcode, 126]);
            violation(Role::Client, &[opcode, 127]);
            violation(Role::Client, &[opcode & 0x0f, 0]);
        }
    }

    #[test]
    fn a_length_in_more_bytes_than_it_needs_is_a_violation() {
        violation(Role::Client, &[0x82, 126, 0, 125]);
        violation(Role::Client, &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        assert!(Head::read(Role::Client, &[0x82, 126, 0, 126]).is_ok());
        assert!(Head::read(Role::Client, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]).is_ok());
    }

    #[test]
    fn a_length_with_its_top_bit_set_is_a_violation_as_soon_as_that_byte_is_here() {
        violation(Role::Client, &[0x82, 127, 0x80]);
        violation(Role::Client, &[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        let head = Head::read(Role::Client, &[0x82, 127, 0x7f, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(head.expect("a head").map(|head| head.payload), Some(0x7f << 56));
    }

    #[test]
    fn heads_are_written_minimally_and_read_back() {
        let limits = Limits::new();
        for length in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
            for role in [Role::Client, Role::Server] {
                let (mut out, payload) = (Vec::new(), vec![b'x'; length]);
                with_context(&limits, |cx| put(role, Opcode::Binary, &payload, &mut out, cx));
                let peer = if role == Role::Client { Role::Server } else { Role::Client };
                let head = Head::read(peer, &out).expect("no violation").expect("a whole head");
                assert!(head.fin && head.opcode == Opcode::Binary);
                assert_eq!(head.payload, length as u64);
                assert_eq!(head.length + length, out.len());
                mask::apply(&mut out[head.length..], head.key, 0);
                assert_eq!(out[head.length..], payload);
                assert_eq!(head.key != [0; 4], role == Role::Client);
            }
        }
    }

    #[test]
    fn the_short_way_agrees_with_the_long_way() {
        for role in [Role::Client, Role::Server] {
            let mask = if role == Role::Server { 0x80 } else { 0 };
            for first in 0..=255u8 {
                for (length, behind) in [(0, 4), (5, 9), (125, 200), (126, 140), (127, 200)] {
                    let mut frame = vec![0; 2 + behind];
                    frame[0] = first;
                    frame[1] = length | mask;
                    frame[3] = 127;
                    let Some(plain) = plain(role, &frame) else { continue };
                    let head = Head::read(role, &frame).expect("no violation").expect("a head");
                    assert!(head.fin && matches!(head.opcode, Opcode::Text | Opcode::Binary));
                    assert_eq!(plain.payload_from, head.length);
                    assert_eq!(plain.end, head.length + head.payload as usize);
                }
            }
            assert_eq!(plain(role, &[0x82, 5 | mask, 0, 0, 0, 0]), None, "not all here");
            assert_eq!(plain(role, &[0x82, 5 | (mask ^ 0x80), 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
            assert_eq!(plain(role, &[0x82, 126 | mask, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        }
    }
}
