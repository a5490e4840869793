//! Compressed messages: small ones that would be large, wrong ones, and agreements that are none.
use crate::counting::peak_of_thread;
use crate::support::endpoint::{BOTH, Ours};
use crate::support::peers::{Peer, read_to_end, start, ws_client};
use crate::support::*;
use crate::{close_code, either, farewell_to, finish, frame_to, open_as, upgrade};
use std::io::Write;
use workerman::prelude::*;
use workerman::{Deflate, Limits};
use zlib_rs::{Deflate as Deflater, DeflateConfig, DeflateFlush};

/// In a request it is an offer, in an answer the agreement.
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// So many zeros, compressed: a thousandth of them.
fn bomb(length: usize) -> Vec<u8> {
    let mut deflater =
        Deflater::new_with_config(DeflateConfig { window_bits: -15, ..DeflateConfig::new(9) });
    let mut packed = vec![0; length / 500 + 64];
    let zeros = vec![0; length];
    deflater.compress(&zeros, &mut packed, DeflateFlush::SyncFlush).expect("room for it");
    packed.truncate(deflater.total_out() as usize);
    packed.strip_suffix(&[0, 0, 0xff, 0xff]).expect("a flushed block").to_vec()
}

/// The code that answers these bytes in a compressed session, and the memory that they cost.
#[track_caller]
fn answer_to(ours: Ours, limits: Limits, bytes: Vec<u8>) -> (u16, isize) {
    let (con, mut peer) = open_as!(ours, DEFLATE, |it| {
        it.set_limits(limits);
        it.set_websocket_deflate(Deflate::default());
        it.on_message(|_, _| ());
    });
    // The inflater itself, and the buffers of the loop, are there before.
    let before = either!(con, bytes_read);
    peer.write_all(&frame_to(ours, 0xc2, &bomb(200_000))).expect("it is read");
    turn_until(|| either!(con, bytes_read) > before);
    let bytes = [bytes, farewell_to(ours)].concat();
    let sender = std::thread::spawn(move || {
        let _ = peer.write_all(&bytes);
        close_code(peer)
    });
    let mut code = 0;
    let peak = peak_of_thread(|| code = finish(sender));
    (code, peak)
}

#[test]
fn cve_2026_1526_a_bomb_costs_no_more_than_the_limit() {
    // Also CVE-2026-39804, CVE-2018-1000518. 32 MiB in 32 KiB, and 1 MiB is allowed: the limit
    // holds while it inflates, not behind it.
    let packed = bomb(32 << 20);
    for ours in BOTH {
        let limits = Limits::new().message_bytes(1 << 20);
        let (code, peak) = answer_to(ours, limits, frame_to(ours, 0xc2, &packed));
        assert_eq!(code, 1009, "{ours:?}");
        assert!(peak < (2 << 20) + (256 << 10), "{peak} bytes at a limit of 1 MiB, {ours:?}");
    }
}

#[test]
fn cve_2026_42587_fragments_of_a_compressed_message_share_its_limit() {
    // No way around the one place where it is judged: each fragment is below it, their sum above.
    let packed = bomb(3 << 19);
    let (first, second) = packed.split_at(packed.len() / 2);
    for ours in BOTH {
        let limits = Limits::new().message_bytes(1 << 20);
        let frames = [frame_to(ours, 0x42, first), frame_to(ours, 0x80, second)].concat();
        assert_eq!(answer_to(ours, limits, frames).0, 1009, "{ours:?}");
    }
}

/// The head that answers a client's offer of an extension.
fn answer_to_offer(offer: &str) -> String {
    let (worker, addr) = start::<Websocket>();
    worker.set_websocket_deflate(Deflate::default());
    let mut peer = raw_connect(addr);
    let request = upgrade(&format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    finish(std::thread::spawn(move || {
        peer.write_all(request.as_bytes()).expect("the request");
        read_head(&mut peer)
    }))
}

#[test]
fn cve_2026_2229_windows_that_are_none_fail_the_handshake() {
    // 8 to 15 are windows (RFC 7692 §7.1.2); nothing else reaches a compressor, and none panics.
    for bits in ["7", "16", "0", "-1", "256", "4294967304", "015", "1e1", "x", ""] {
        let peer = Peer::with_one(move |mut stream| {
            let answer = accept_head(&read_head(&mut stream));
            let line = format!(
                "\r\nSec-WebSocket-Extensions: permessage-deflate; \
                 server_max_window_bits={bits}\r\n\r\n"
            );
            let answer = answer.replace("\r\n\r\n", &line);
            stream.write_all(answer.as_bytes()).expect("the 101");
            read_to_end(&mut stream);
        });
        let t = Transcript::new();
        let con = ws_client(&peer.ws(), &t);
        con.set_websocket_deflate(Deflate::default());
        let at = t.clone();
        con.on_websocket_connect(move |con, _| {
            at.note("opened");
            con.destroy();
        });
        con.connect();
        turn_until(|| con.status() == Status::Closed);
        assert!(!t.has("opened"), "{bits:?}: {:?}", t.lines());
        // As an offer it is declined: a session without, or none.
        let head = answer_to_offer(&format!("permessage-deflate; server_max_window_bits={bits}"));
        assert!(!head.contains("permessage-deflate"), "{bits:?}: {head}");
    }
}

#[test]
fn websockets_16_1_rsv1_stands_in_a_messages_first_frame_only() {
    // RFC 7692 §6.1: not in a continuation, and not in a control frame.
    let packed = bomb(1000);
    for ours in BOTH {
        let twice = [frame_to(ours, 0x42, &packed), frame_to(ours, 0xc0, b"")].concat();
        assert_eq!(answer_to(ours, Limits::new(), twice).0, 1002, "{ours:?}");
        for control in [0xc9, 0xca] {
            let frame = frame_to(ours, control, b"");
            assert_eq!(answer_to(ours, Limits::new(), frame).0, 1002, "{control:#x}, {ours:?}");
        }
    }
}

#[test]
fn rustsec_2024_0401_crafted_blocks_are_an_error_on_a_small_stack() {
    // Also CVE-2026-29035. Whatever the bytes: 1007, in a thread with 256 KiB of stack.
    const CRAFTED: [&[u8]; 4] = [
        // A type of block that does not exist; a stored one whose lengths disagree; a dynamic one
        // whose code lengths are too many; a reference to before the beginning.
        &[0xff],
        &[0x00, 0x05, 0x00, 0x00, 0x00, 1, 2, 3, 4, 5],
        &[0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x02, 0x7f, 0xff, 0xff],
    ];
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let played = small.spawn(|| {
        for (ours, crafted) in BOTH.iter().flat_map(|ours| CRAFTED.map(|bytes| (*ours, bytes))) {
            let frame = frame_to(ours, 0xc2, crafted);
            let code = answer_to(ours, Limits::new(), frame).0;
            assert_eq!(code, 1007, "{crafted:02x?}, {ours:?}");
        }
    });
    finish(played.expect("a thread"));
}
