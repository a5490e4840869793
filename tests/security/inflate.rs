//! Compressed messages: small ones that would be large, wrong ones, and agreements that are none.
use crate::counting::peak_of_thread;
use crate::support::peers::{Peer, read_to_end, start, ws_client};
use crate::support::*;
use crate::{close_code, farewell, finish, opened};
use std::io::Write;
use workerman::prelude::*;
use workerman::{Deflate, Limits};
use zlib_rs::{Deflate as Deflater, DeflateConfig, DeflateFlush};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

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

/// A client's frame of any length up to 65 535 bytes.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    if payload.len() < 126 {
        return client_frame(first, payload);
    }
    let [high, low] = (payload.len() as u16).to_be_bytes();
    [&[first, 0xfe, high, low, 0, 0, 0, 0], payload].concat()
}

/// The code that answers these bytes in a compressed session, and the memory that they cost.
#[track_caller]
fn answer_to(limits: Limits, bytes: Vec<u8>) -> (u16, isize) {
    let (worker, addr) = start::<Websocket>();
    worker.set_limits(limits);
    worker.set_websocket_deflate(Deflate::default());
    worker.on_message(|_, _| ());
    let mut peer = opened(addr, OFFER);
    // The inflater itself, and the buffers of the loop, are there before.
    peer.write_all(&masked(0xc2, &bomb(200_000))).expect("it is read");
    let con = worker.connections()[0];
    let before = con.bytes_read();
    turn_until(|| con.bytes_read() > before);
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
    let limits = Limits::new().message_bytes(1 << 20);
    let frame = [masked(0xc2, &bomb(32 << 20)), farewell()].concat();
    let (code, peak) = answer_to(limits, frame);
    assert_eq!(code, 1009);
    assert!(peak < (2 << 20) + (256 << 10), "{peak} bytes at a limit of 1 MiB");
}

#[test]
fn cve_2026_42587_fragments_of_a_compressed_message_share_its_limit() {
    // No way around the one place where it is judged: each fragment is below it, their sum above.
    let limits = Limits::new().message_bytes(1 << 20);
    let packed = bomb(3 << 19);
    let (first, second) = packed.split_at(packed.len() / 2);
    let frames = [masked(0x42, first), masked(0x80, second), farewell()].concat();
    assert_eq!(answer_to(limits, frames).0, 1009);
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
    }
}

#[test]
fn websockets_16_1_rsv1_stands_in_a_messages_first_frame_only() {
    // RFC 7692 §6.1: not in a continuation, and not in a control frame.
    let packed = bomb(1000);
    let twice = [masked(0x42, &packed), masked(0xc0, b""), farewell()].concat();
    assert_eq!(answer_to(Limits::new(), twice).0, 1002);
    for control in [0xc9, 0xca] {
        let frames = [client_frame(control, b""), farewell()].concat();
        assert_eq!(answer_to(Limits::new(), frames).0, 1002);
    }
}

#[test]
fn rustsec_2024_0401_crafted_blocks_are_an_error_on_a_small_stack() {
    // Also CVE-2026-29035. Whatever the bytes: 1007, in a thread with 256 KiB of stack.
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let played = small.spawn(|| {
        for crafted in [
            // A type of block that does not exist; a stored one whose lengths disagree; a dynamic
            // one whose code lengths are too many; a reference to before the beginning.
            &[0xff][..],
            &[0x00, 0x05, 0x00, 0x00, 0x00, 1, 2, 3, 4, 5],
            &[0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x02, 0x7f, 0xff, 0xff],
        ] {
            let frame = [masked(0xc2, crafted), farewell()].concat();
            assert_eq!(answer_to(Limits::new(), frame).0, 1007, "{crafted:02x?}");
        }
    });
    finish(played.expect("a thread"));
}
