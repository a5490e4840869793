//! What leaves: opcodes, lengths, masks, and what is lent.
use super::*;
use std::borrow::Cow;

#[test]
fn messages_go_as_their_own_kind_until_a_type_is_set() {
    let mut server = open_server(&Limits::new());
    assert_eq!(server.protocol.session().kind(), None);
    server.send("text");
    server.send(&b"bytes"[..]);
    server.send(42);
    server.protocol.session_mut().set_kind(Some(Ws::BINARY_TYPE_ARRAYBUFFER));
    server.send("text");
    server.protocol.session_mut().set_kind(Some(Ws::BINARY_TYPE_BLOB));
    server.send(&b"bytes"[..]);
    server.protocol.session_mut().set_kind(None);
    server.send(&b"bytes"[..]);
    let firsts: Vec<u8> = sent(Role::Server, &server.out).iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [TEXT, BINARY, TEXT, BINARY, TEXT, BINARY]);
}

#[test]
fn bytes_that_are_no_text_are_refused_under_blob_and_nothing_is_sent() {
    let limits = Limits::new();
    let mut client = open_client(&limits);
    client.protocol.session_mut().set_kind(Some(Ws::BINARY_TYPE_BLOB));
    let error = client.try_send(&b"\xff"[..]).expect_err("not UTF-8").to_string();
    assert!(error.contains("BINARY_TYPE_ARRAYBUFFER"), "{error}");
    assert!(client.out.is_empty());
    let (mut server, mut out) = (open_server(&limits).protocol, Vec::new());
    server.session_mut().set_kind(Some(Ws::BINARY_TYPE_BLOB));
    let large = vec![0xff; 10_000];
    with_context(&limits, |cx| {
        assert!(server.encode_split((&large).into(), &mut out, cx).is_err());
        assert!(server.encode_payload((&large).into(), &mut out, cx).is_err());
    });
    assert!(out.is_empty());
}

#[test]
fn a_client_masks_and_a_server_does_not() {
    let mut client = open_client(&Limits::new());
    client.send("abc");
    assert_eq!(client.out[..2], [TEXT, 0x83]);
    let key = &client.out[2..6];
    assert_ne!(key, [0; 4]);
    assert_eq!(client.out[6..], [b'a' ^ key[0], b'b' ^ key[1], b'c' ^ key[2]]);
    let mut server = open_server(&Limits::new());
    server.send("abc");
    assert_eq!(server.out, b"\x81\x03abc");
}

#[test]
fn each_frame_of_a_client_draws_a_key_of_its_own() {
    use crate::protocols::Doors;
    use crate::protocols::testing::with_doors;
    use std::cell::Cell;
    use std::time::{Instant, SystemTime};
    thread_local!(static DRAWN: Cell<u8> = const { Cell::new(0) });
    static COUNTING: Doors = Doors {
        random: |out| {
            DRAWN.set(DRAWN.get() + 1);
            out.fill(DRAWN.get());
        },
        now: Instant::now,
        system_time: || SystemTime::UNIX_EPOCH,
    };
    let limits = Limits::new();
    let mut client = open_client(&limits).protocol;
    let mut out = Vec::new();
    with_doors(&limits, &COUNTING, Farewell::Asked, |cx| {
        for _ in 0..3 {
            assert_eq!(client.encode("".into(), &mut out, cx), Ok(()));
        }
        assert_eq!(client.put_ping(b"", &mut out, cx), Ok(()));
    });
    let keys: Vec<&[u8]> = out.chunks(6).map(|frame| &frame[2..]).collect();
    assert_eq!(keys, [[1; 4], [2; 4], [3; 4], [4; 4]]);
}

#[test]
fn a_server_lends_what_is_large_and_a_client_masks_it_into_the_buffer() {
    let limits = Limits::new();
    let large = vec![7; 8 << 10];
    let (mut out, mut whole) = (Vec::new(), Vec::new());
    let mut server = open_server(&limits).protocol;
    with_context(&limits, |cx| {
        let lent = server.encode_split((&large).into(), &mut out, cx).expect("no violation");
        assert!(matches!(&lent, Some(Cow::Borrowed(bytes)) if bytes.as_ptr() == large.as_ptr()));
        out.extend_from_slice(&lent.expect("lent"));
        assert_eq!(server.encode((&large).into(), &mut whole, cx), Ok(()));
        assert_eq!(server.encode_split((&large[1..]).into(), &mut whole, cx), Ok(None));
    });
    assert!(whole.starts_with(&out));
    assert_eq!(sent(Role::Server, &whole)[1], (BINARY, large[1..].to_vec()));
    let (mut client, mut out) = (open_client(&limits).protocol, Vec::new());
    with_context(&limits, |cx| {
        assert_eq!(client.encode_split((&large).into(), &mut out, cx), Ok(None));
    });
    assert_eq!(sent(Role::Client, &out), [(BINARY, large)]);
}

#[test]
fn payloads_of_every_length_arrive_as_they_were_sent() {
    let mut dice = crate::protocols::testing::Dice::new(4);
    for length in (0..300).chain([8191, 8192, 8193, 20_000, 65_535, 65_536, 100_000]) {
        let payload = dice.bytes(length);
        let (mut client, mut server) = (open_client(&Limits::new()), open_server(&Limits::new()));
        client.send(&payload);
        server.send(&payload);
        let (from_client, from_server) = (client.out.clone(), server.out.clone());
        server.feed(&from_client);
        client.feed(&from_server);
        assert_eq!(server.seen, [Seen::Binary(payload.clone())]);
        assert_eq!(client.seen, [Seen::Binary(payload)]);
    }
}

#[test]
fn an_idle_session_is_sixteen_bytes() {
    assert!(size_of::<Session>() <= 16, "{}", size_of::<Session>());
    assert!(size_of::<Ws>() <= 16 && size_of::<Websocket>() <= 16);
    assert!(open_client(&Limits::new()).protocol.session().more.is_none());
    assert!(open_server(&Limits::new()).protocol.session().more.is_none());
}
