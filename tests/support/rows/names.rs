//! How what is played is named in the table.
use super::case::{CLOSE, Piece};
use super::play::{Act, Event};

fn shown(bytes: &[u8]) -> String {
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) && !b"`|<>\\".contains(byte);
    match bytes {
        [] => "empty".into(),
        bytes if bytes.len() > 16 => format!("{} octets", bytes.len()),
        bytes if bytes.iter().all(plain) => format!("\"{}\"", String::from_utf8_lossy(bytes)),
        bytes => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn kind_of(first: u8) -> String {
    let name = match first & 0x0f {
        0 => "continuation".into(),
        1 => "text".into(),
        2 => "binary".into(),
        8 => "close".into(),
        9 => "ping".into(),
        10 => "pong".into(),
        other => format!("opcode {other}"),
    };
    let reserved: String = [(0x40, " RSV1"), (0x20, " RSV2"), (0x10, " RSV3")]
        .into_iter()
        .filter_map(|(bit, name)| (first & bit != 0).then_some(name))
        .collect();
    let more = if first & 0x80 == 0 { " (no FIN)" } else { "" };
    format!("{name}{reserved}{more}")
}

pub(super) fn name_of(piece: &Piece) -> String {
    match piece {
        Piece::Frame(CLOSE, payload) if payload.len() >= 2 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            match &payload[2..] {
                [] => format!("close {code}"),
                reason => format!("close {code} {}", shown(reason)),
            }
        }
        Piece::Frame(first, payload) => format!("{} {}", kind_of(*first), shown(payload)),
        Piece::Begun(first, length, payload) if payload.is_empty() => {
            format!("{} of {length} octets, of which none has come", kind_of(*first))
        }
        Piece::Begun(first, length, payload) => {
            format!("{} of {length} octets, of which {}", kind_of(*first), shown(payload))
        }
        Piece::Raw(bytes) if bytes.len() > 16 => shown(bytes),
        Piece::Raw(bytes) => format!("octets {}", hex(bytes)),
    }
}

pub(super) fn name_of_act(act: &Act) -> String {
    match act {
        Act::Text(text) => format!("send text {}", shown(text.as_bytes())),
        Act::Binary(bytes) => format!("send binary {}", shown(bytes)),
        Act::Ping(payload) => format!("ping {}", shown(payload)),
        Act::Pong(payload) => format!("pong {}", shown(payload)),
        Act::Close => "close()".into(),
        Act::Pause => "pause_recv()".into(),
        Act::Resume => "resume_recv()".into(),
        Act::CloseWith(code, reason) => format!("close {code} {}", shown(reason.as_bytes())),
    }
}

pub(super) fn name_of_event(event: &Event) -> String {
    match event {
        Event::Text(text) => format!("text {}", shown(text)),
        Event::Binary(bytes) => format!("binary {}", shown(bytes)),
        Event::Ping(payload) => format!("ping {} heard", shown(payload)),
        Event::Pong(payload) => format!("pong {} heard", shown(payload)),
        Event::Farewell(code, reason) if reason.is_empty() => format!("farewell {code}"),
        Event::Farewell(code, reason) => format!("farewell {code} {}", shown(reason.as_bytes())),
    }
}
