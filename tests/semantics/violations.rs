//! A server that breaks the WebSocket protocol: what the client says to it, and to the program.
use crate::support::peers::{Peer, read_to_end, ws_client};
use crate::support::*;
use std::io::Write;
use std::sync::mpsc;
use workerman::Limits;
use workerman::prelude::*;

/// Plays `bytes` behind the handshake. The close code on the wire, and the transcript behind
/// `on_websocket_connect`.
fn answer_to(bytes: &[u8], limits: Limits) -> (u16, Vec<String>) {
    let bytes = bytes.to_vec();
    let (tell, told) = mpsc::channel();
    let peer = Peer::with_one(move |mut stream| {
        raw_handshake(&mut stream);
        stream.write_all(&bytes).expect("the violation");
        let (first, payload) = read_frame(&mut stream);
        assert_eq!(first, 0x88, "a close frame");
        assert!((2..=125).contains(&payload.len()));
        assert!(std::str::from_utf8(&payload[2..]).is_ok_and(|reason| !reason.is_empty()));
        tell.send(u16::from_be_bytes([payload[0], payload[1]])).expect("the test waits");
        assert_eq!(read_to_end(&mut stream), b"", "nothing follows a close frame");
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    con.set_limits(limits);
    let (at, c) = (t.clone(), con);
    con.on_close(move |con| {
        assert_eq!(con, c);
        at.note(format!("close {} {:?}", con.status(), con.close_code()));
    });
    con.connect();
    turn_until(|| con.status() == Status::Closed);
    let lines = t.lines();
    assert_eq!(lines[..2], ["connect ESTABLISHED", "open 101"]);
    (told.recv().expect("the peer"), lines[2..].to_vec())
}

/// The code on the wire, then `on_error(SessionFail)` and `on_close`, and nothing else.
#[track_caller]
fn assert_violation(what: &str, bytes: &[u8], code: u16) {
    let (sent, lines) = answer_to(bytes, Limits::new());
    assert_eq!(sent, code, "{what}");
    let end = ["error 3 Protocol Session CLOSING", "close CLOSED Some(1006)"];
    assert_eq!(lines, end, "{what}");
}

#[test]
fn a_masked_server_frame_is_1002() {
    // Masked server frame: close frame 1002, `on_error(SessionFail)`, `on_close`.
    assert_violation("text", &client_frame(0x81, b"x"), 1002);
    assert_violation("ping", &client_frame(0x89, b""), 1002);
}

#[test]
fn reserved_bits_and_opcodes_are_1002() {
    // Reserved bits or opcodes: 1002.
    for bit in [0x40, 0x20, 0x10] {
        assert_violation("a reserved bit", &server_frame(0x81 | bit, b"x"), 1002);
        assert_violation("a reserved bit of a ping", &server_frame(0x89 | bit, b""), 1002);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_violation("a reserved opcode", &server_frame(0x80 | opcode, b""), 1002);
    }
}

#[test]
fn bad_lengths_are_1002() {
    // Bad lengths: not the shortest form, or beyond 63 bits: 1002, as soon as the head is here.
    assert_violation("16 bits for 125", &[0x82, 126, 0, 125], 1002);
    assert_violation("64 bits for 65535", &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002);
    assert_violation("the highest bit", &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002);
}

#[test]
fn fragmented_and_oversized_control_frames_are_1002() {
    // Fragmented or oversized control frames: 1002.
    for opcode in [8, 9, 10] {
        assert_violation("fragmented", &server_frame(opcode, b""), 1002);
        assert_violation("oversized", &[0x80 | opcode, 126, 0, 126], 1002);
    }
}

#[test]
fn fragments_out_of_order_are_1002() {
    // A continuation without a beginning, a new message inside a fragmented one: 1002.
    assert_violation("a continuation", &server_frame(0x80, b"x"), 1002);
    let inside = [server_frame(0x01, b"a"), server_frame(0x81, b"b")].concat();
    assert_violation("inside another", &inside, 1002);
}

#[test]
fn bad_utf8_is_1007_at_the_octet_that_cannot_be() {
    // Bad UTF-8: 1007, across fragments and inside incomplete frames.
    assert_violation("whole", &server_frame(0x81, b"a\xff"), 1007);
    assert_violation("cut short", &server_frame(0x81, b"a\xc3"), 1007);
    assert_violation("a surrogate", &server_frame(0x81, b"\xed\xa0\x80"), 1007);
    assert_violation("overlong", &server_frame(0x81, b"\xc0\xaf"), 1007);
    let across = [server_frame(0x01, b"\xc3"), server_frame(0x80, b"(")].concat();
    assert_violation("across fragments", &across, 1007);
    assert_violation("in the first fragment", &server_frame(0x01, b"\xff"), 1007);
    assert_violation("in an incomplete frame", b"\x81\x7e\x10\x00abc\xff", 1007);
}

#[test]
fn bad_close_frames_are_1002_and_1007() {
    // Bad close codes: 1002; a reason that is not UTF-8: 1007. None of them is a farewell.
    assert_violation("one byte", &server_frame(0x88, &[3]), 1002);
    for code in [0u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        assert_violation(&code.to_string(), &server_frame(0x88, &code.to_be_bytes()), 1002);
    }
    assert_violation("the reason", &server_frame(0x88, b"\x03\xe8a\xff"), 1007);
}

#[test]
fn a_message_above_the_limit_is_1009() {
    // Message above the limit: 1009, on its declared length, over all fragments, and where there
    // are too many of them. A message of just the limit is delivered.
    let limits = || Limits::new().message_bytes(200).fragments(3);
    let too_long = [0x82, 126, 0, 201];
    let part = [&[0x02, 126, 0, 150][..], &[7; 150]].concat();
    let sum = [&part[..], &[0x80, 51]].concat();
    let many = [
        server_frame(0x01, b""),
        server_frame(0x00, b""),
        server_frame(0x00, b""),
        server_frame(0x80, b""),
    ];
    let end = ["error 3 Protocol Session CLOSING", "close CLOSED Some(1006)"];
    for bytes in [&too_long[..], &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], &sum, &many.concat()] {
        assert_eq!(answer_to(bytes, limits()), (1009, end.map(String::from).to_vec()));
    }
    let just = [&[0x81, 126, 0, 200][..], &[b'x'; 200], &[0x83, 0]].concat();
    let (code, lines) = answer_to(&just, limits());
    assert_eq!((code, lines[0].len()), (1002, "message ".len() + 200));
    assert_eq!(lines[1..], end);
}

#[test]
fn what_came_before_the_violation_is_delivered_and_nothing_behind_it() {
    // Messages before the violation, also of the same segment as the 101, are delivered; what
    // stands behind it is not.
    let bytes = [
        server_frame(0x81, b"one"),
        server_frame(0x01, b"tw"),
        server_frame(0x80, b"o"),
        server_frame(0x83, b""),
        server_frame(0x81, b"three"),
    ];
    let (code, lines) = answer_to(&bytes.concat(), Limits::new());
    assert_eq!(code, 1002);
    let end = ["error 3 Protocol Session CLOSING", "close CLOSED Some(1006)"];
    assert_eq!(lines, [&["message one", "message two"][..], &end].concat());
}

#[test]
fn frames_in_the_segment_of_the_101_are_delivered_at_once() {
    // Bytes that arrive in the same segment as the 101 are delivered at once.
    let peer = Peer::with_one(|mut stream| {
        let head = read_head(&mut stream);
        let mut bytes = accept_head(&head).into_bytes();
        bytes.extend_from_slice(&server_frame(0x81, b"first"));
        bytes.extend_from_slice(&server_frame(0x88, &1000u16.to_be_bytes()));
        stream.write_all(&bytes).expect("all of it");
        assert_eq!(read_frame(&mut stream).0, 0x88);
    });
    let t = Transcript::new();
    ws_client(&peer.ws(), &t).connect();
    turn_until(|| t.has("close CLOSED"));
    t.assert(&[
        "connect ESTABLISHED",
        "open 101",
        "message first",
        "farewell 1000 \"\" CLOSING",
        "close CLOSED",
    ]);
}

#[test]
fn a_violation_says_what_was_wrong_and_with_whom() {
    // `on_error(SessionFail)`: the failure names the peer and what it did.
    let peer = Peer::with_one(|mut stream| {
        raw_handshake(&mut stream);
        stream.write_all(&server_frame(0x88, &1005u16.to_be_bytes())).expect("the violation");
        read_to_end(&mut stream);
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    let (at, addr) = (t.clone(), peer.addr.to_string());
    con.on_error(move |_, code, failure| {
        let text = failure.to_string();
        at.note(format!("{code} {} {}", text.contains(&addr), text.contains("1005")));
    });
    con.connect();
    turn_until(|| t.has("close CLOSED"));
    assert!(t.has("3 true true"), "{:?}", t.lines());
}
