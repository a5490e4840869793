//! RFC 7692, statement by statement, where it binds an endpoint: against a peer that knows only
//! bytes, both roles, fed whole and byte by byte.
//!
//! A row of a table is a statement's section, what it says, what the peer does, and what must come
//! of it.
#![cfg(feature = "deflate")]

mod support;

use std::io::Write;
use support::endpoint::*;
use support::*;
use workerman::prelude::*;
use workerman::{Deflate, Limits};
use zlib_rs::{DeflateFlush, Inflate, InflateFlush};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const FIRST_TEXT: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const PING: u8 = 0x89;
const RSV1: u8 = 0x40;

/// "Hello" in one block, as §7.2.3.1 has it.
const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
/// The same again, by reference to the one before (§7.2.3.2).
const AGAIN: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];

fn everything() -> Deflate {
    let deflate = Deflate::new().threshold(0);
    deflate.server_no_context_takeover(false).client_no_context_takeover(false)
}

/// Plays with our side as `deflate` says, and the peer's parameters as they are: an offer to a
/// server, an answer to a client.
fn play(
    (ours, cut): (Ours, Cut),
    deflate: Option<Deflate>,
    extensions: &str,
    says: Vec<u8>,
    sends: &[&str],
) -> Heard {
    let lines = match extensions {
        "" => String::new(),
        extensions => format!("Sec-WebSocket-Extensions: {extensions}\r\n"),
    };
    let limits = Limits::new().message_bytes(100_000);
    let set_client = |con: AsyncTcpConnection<Ws>| {
        con.set_limits(limits.clone());
        if let Some(deflate) = deflate {
            con.set_websocket_deflate(deflate);
        }
    };
    let set_server = |worker: Worker<Websocket>| {
        worker.set_limits(limits.clone());
        if let Some(deflate) = deflate {
            worker.set_websocket_deflate(deflate);
        }
    };
    let (client, server) = (&set_client as &_, &set_server as &_);
    Play { ours, cut, lines: &lines, says, sends, client, server }.run()
}

fn ways() -> impl Iterator<Item = (Ours, Cut)> {
    BOTH.into_iter().flat_map(|ours| CUTS.map(|cut| (ours, cut)))
}

const OURS: &str = "permessage-deflate";

/// What a client offers, by what its program set.
#[test]
fn offers_of_a_client() {
    let bits = |server, client| {
        let deflate = Deflate::new().server_max_window_bits(server);
        deflate.and_then(|d| d.client_max_window_bits(client)).expect("windows")
    };
    let rows: &[(&str, Option<Deflate>, Option<&str>)] = &[
        ("§5: nothing where the program does not want it", None, None),
        (
            "§7.1.2.2: client_max_window_bits without a value lets the server choose",
            Some(Deflate::default()),
            Some("permessage-deflate; client_max_window_bits"),
        ),
        (
            "§7.1.1: both no_context_takeover, without a value",
            Some(Deflate::new().server_no_context_takeover(true).client_no_context_takeover(true)),
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 client_max_window_bits",
            ),
        ),
        (
            "§7.1.2: windows as decimal numbers without leading zeros",
            Some(bits(9, 10)),
            Some("permessage-deflate; server_max_window_bits=9; client_max_window_bits=10"),
        ),
    ];
    for (says, deflate, offer) in rows {
        let heard = play((Ours::Client, Cut::Whole), *deflate, "", vec![], &[]);
        assert_eq!(heard.header("Sec-WebSocket-Extensions"), *offer, "{says}");
        assert_eq!(heard.code(), 1000, "{says}: a server without compression is fine");
    }
}

/// What a server answers to an offer; `None`: it is declined, and the session goes uncompressed.
#[test]
fn answers_of_a_server() {
    let small = everything().client_max_window_bits(10).expect("a window");
    let rows: &[(&str, Deflate, &str, Option<&str>)] = &[
        ("§5.1: it agrees", everything(), OURS, Some("permessage-deflate")),
        ("§5.1: extensions it does not know are left alone", everything(), "x-foo; a=\"b\"", None),
        (
            "§5.2: of several offers the first that it can accept",
            everything(),
            "permessage-deflate; foo, permessage-deflate; server_max_window_bits=9, \
             permessage-deflate",
            Some("permessage-deflate; server_max_window_bits=9"),
        ),
        ("§7.1: MUST decline an unknown parameter", everything(), "permessage-deflate; foo", None),
        (
            "§7.1: MUST decline a parameter given twice",
            everything(),
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            None,
        ),
        (
            "§7.1: MUST decline an invalid value",
            everything(),
            "permessage-deflate; server_max_window_bits=16",
            None,
        ),
        (
            "§7.1.2: no leading zeros",
            everything(),
            "permessage-deflate; server_max_window_bits=09",
            None,
        ),
        (
            "§7.1.1.1: server_no_context_takeover has no value",
            everything(),
            "permessage-deflate; server_no_context_takeover=true",
            None,
        ),
        (
            "§7.1.1.1: accepted by including it",
            everything(),
            "permessage-deflate; server_no_context_takeover",
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        (
            "§7.1.1: a server MAY include either where they were not offered",
            Deflate::default(),
            OURS,
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        (
            "§7.1.1.2: a client's hint is taken",
            everything(),
            "permessage-deflate; client_no_context_takeover",
            Some("permessage-deflate; client_no_context_takeover"),
        ),
        (
            "§7.1.2.1: server_max_window_bits needs a value",
            everything(),
            "permessage-deflate; server_max_window_bits",
            None,
        ),
        (
            "§7.1.2.1: accepted by the same value or a smaller one",
            everything(),
            "permessage-deflate; server_max_window_bits=12",
            Some("permessage-deflate; server_max_window_bits=12"),
        ),
        (
            "§7.1.2.1: declined where the server cannot do it",
            everything(),
            "permessage-deflate; server_max_window_bits=8",
            None,
        ),
        (
            "§7.1.2.2: the client's window, where it lets the server choose",
            small,
            "permessage-deflate; client_max_window_bits",
            Some("permessage-deflate; client_max_window_bits=10"),
        ),
        ("§7.1.2.2: MUST NOT be in the answer where it was not in the offer", small, OURS, None),
        (
            "§7.1.2.2: a client's own limit needs no answer",
            everything(),
            "permessage-deflate; client_max_window_bits=9",
            Some("permessage-deflate"),
        ),
    ];
    for (says, deflate, offer, answer) in rows {
        for cut in CUTS {
            // Whether it was declined shows in what RSV1 does then.
            let frame = frame_to(Ours::Server, TEXT | RSV1, HELLO);
            let heard = play((Ours::Server, cut), Some(*deflate), offer, frame, &[]);
            assert_eq!(heard.header("Sec-WebSocket-Extensions"), *answer, "{says}");
            let code = if answer.is_some() { 1000 } else { 1002 };
            assert_eq!(heard.code(), code, "{says}");
        }
    }
}

/// RFC 6455 §9.1: a header that is no list of extensions fails the connection.
#[test]
fn a_header_that_cannot_be_read_is_answered_with_400() {
    for wrong in ["permessage-deflate;", "permessage-deflate; a=\"b", "=", "a b"] {
        let heard = play((Ours::Server, Cut::Whole), Some(everything()), wrong, vec![], &[]);
        assert!(heard.head.starts_with("HTTP/1.1 400 "), "{wrong}: {}", heard.head);
        let heard = play((Ours::Server, Cut::Whole), None, wrong, vec![], &[]);
        assert_eq!(heard.code(), 1000, "{wrong}: nobody reads it");
    }
}

type Check<'a> = (&'a str, Option<Deflate>, &'a str, Result<(), &'a str>);

/// What a client makes of an answer: `Ok` or what its failure says.
#[test]
fn a_client_checks_the_answer() {
    let plain = Deflate::default();
    let fixed = plain.client_max_window_bits(15).expect("a window");
    let small = plain.client_max_window_bits(10).expect("a window");
    let asks = plain.server_max_window_bits(10).expect("a window");
    let forget = plain.server_no_context_takeover(true);
    let rows: &[Check] = &[
        ("§5.3: agreed", Some(plain), OURS, Ok(())),
        ("§5.3: declined", Some(plain), "", Ok(())),
        ("RFC 6455 §4.1: MUST fail what was not offered", None, OURS, Err("nobody asked for")),
        ("RFC 6455 §4.1: another extension", Some(plain), "x-foo", Err("nobody asked for: x-foo")),
        ("§5.3: twice", Some(plain), "permessage-deflate, permessage-deflate", Err("twice")),
        (
            "§7.1: MUST fail an unknown parameter",
            Some(plain),
            "permessage-deflate; foo=1",
            Err("\"foo\" is no parameter"),
        ),
        (
            "§7.1: MUST fail a parameter given twice",
            Some(plain),
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            Err("server_no_context_takeover stands there twice"),
        ),
        (
            "§7.1: MUST fail an invalid value",
            Some(plain),
            "permessage-deflate; client_max_window_bits=16",
            Err("client_max_window_bits=16, and 8 to 15"),
        ),
        (
            "§7.1.2: no leading zeros",
            Some(plain),
            "permessage-deflate; server_max_window_bits=08",
            Err("server_max_window_bits=08, and 8 to 15"),
        ),
        (
            "§7.1.1: no value where there is none",
            Some(plain),
            "permessage-deflate; client_no_context_takeover=1",
            Err("may have none"),
        ),
        (
            "§7.1.1: both MAY come without having been offered",
            Some(plain),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            Ok(()),
        ),
        (
            "§7.1.1.1: what was asked for must be granted",
            Some(forget),
            OURS,
            Err("server_no_context_takeover was asked for"),
        ),
        (
            "§7.1.2.1: a window that was not asked for",
            Some(plain),
            "permessage-deflate; server_max_window_bits=8",
            Ok(()),
        ),
        (
            "§7.1.2.1: a smaller window than asked for",
            Some(asks),
            "permessage-deflate; server_max_window_bits=9",
            Ok(()),
        ),
        (
            "§7.1.2.1: a wider window than asked for",
            Some(asks),
            "permessage-deflate; server_max_window_bits=11",
            Err("server_max_window_bits=10 was asked for"),
        ),
        (
            "§7.1.2.1: none where one was asked for",
            Some(asks),
            OURS,
            Err("server_max_window_bits=10 was asked for"),
        ),
        (
            "§7.1.2.2: needs a value in an answer",
            Some(plain),
            "permessage-deflate; client_max_window_bits",
            Err("client_max_window_bits has no value"),
        ),
        (
            "§7.1.2.2: MUST NOT come where it was not offered",
            Some(fixed),
            "permessage-deflate; client_max_window_bits=10",
            Err("client_max_window_bits was not offered"),
        ),
        (
            "§7.1.2.2: not wider than offered",
            Some(small),
            "permessage-deflate; client_max_window_bits=11",
            Err("client_max_window_bits=11, and 10 was offered"),
        ),
        (
            "RFC 6455 §9.1: a value in quotes is a value",
            Some(plain),
            "permessage-deflate; client_max_window_bits=\"10\"",
            Ok(()),
        ),
        (
            "RFC 6455 §9.1: quotes that never end",
            Some(plain),
            "permessage-deflate; client_max_window_bits=\"10",
            Err("cannot be read"),
        ),
    ];
    for (says, deflate, answer, expected) in rows {
        for cut in CUTS {
            let heard = play((Ours::Client, cut), *deflate, answer, vec![], &[]);
            match expected {
                Ok(()) => {
                    assert_eq!(heard.events, [""; 0], "{says}");
                    assert_eq!(heard.code(), 1000, "{says}");
                }
                Err(part) => {
                    let [error] = &heard.events[..] else { panic!("{says}: {heard:?}") };
                    assert!(error.contains(part), "{says}: {error}");
                    assert!(heard.frames.is_empty(), "{says}: {heard:?}");
                }
            }
        }
    }
}

/// A message whose every octet inflates to about a thousand.
fn bomb() -> Vec<u8> {
    pack(&vec![b'a'; 100_001])
}

fn pack(message: &[u8]) -> Vec<u8> {
    let mut packer = zlib_rs::Deflate::new(9, false, 15);
    let mut out = vec![0; message.len() + 100];
    packer.compress(message, &mut out, DeflateFlush::SyncFlush).expect("it compresses");
    out.truncate(packer.total_out() as usize);
    assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xff, 0xff]);
    out
}

type Row<'a> = (&'a str, &'a str, Vec<(u8, &'a [u8])>, &'a [&'a str], u16);

/// What arrives: frames, what the program hears of them, and the code of our close frame.
#[test]
fn what_arrives() {
    let forgets = "; server_no_context_takeover; client_no_context_takeover";
    let (bomb, just, bad) = (bomb(), pack(&[b'a'; 100_000]), pack(b"abc\xff"));
    let just_text = format!("text {}", "a".repeat(100_000));
    let rows: &[Row] = &[
        (
            "§6: RSV1 says of each message whether it is compressed",
            "",
            vec![(TEXT | RSV1, HELLO), (TEXT, b"plain"), (BINARY | RSV1, HELLO)],
            &["text Hello", "text plain", "binary [72, 101, 108, 108, 111]"],
            1000,
        ),
        (
            "§6.2: fragments of one compressed message, control frames between them",
            "",
            vec![(FIRST_TEXT | RSV1, &HELLO[..3]), (PING, b"?"), (LAST, &HELLO[3..])],
            &["text Hello"],
            1000,
        ),
        (
            "§6.2: empty fragments at either end",
            "",
            vec![(FIRST_TEXT | RSV1, b""), (MORE, HELLO), (LAST, b"")],
            &["text Hello"],
            1000,
        ),
        (
            "§6.1: MUST fail RSV1 of a fragment that is not the first",
            "",
            vec![(FIRST_TEXT | RSV1, &HELLO[..3]), (LAST | RSV1, &HELLO[3..])],
            &[],
            1002,
        ),
        (
            "§6.1: also where the first has none",
            "",
            vec![(FIRST_TEXT, b"a"), (MORE | RSV1, b"b")],
            &[],
            1002,
        ),
        ("§6.1: MUST fail RSV1 of a ping", "", vec![(PING | RSV1, b"")], &[], 1002),
        ("§6.1: of a pong", "", vec![(0x8a | RSV1, b"")], &[], 1002),
        ("§6.1: of a close frame", "", vec![(0x88 | RSV1, b"")], &[], 1002),
        ("RFC 6455 §5.2: RSV2 is nobody's", "", vec![(TEXT | RSV1 | 0x20, HELLO)], &[], 1002),
        ("RFC 6455 §5.2: RSV3 is nobody's", "", vec![(TEXT | 0x10, b"a")], &[], 1002),
        (
            "§7.2.2: MUST use the window of the message before",
            "",
            vec![(TEXT | RSV1, HELLO), (TEXT, b"plain"), (TEXT | RSV1, AGAIN)],
            &["text Hello", "text plain", "text Hello"],
            1000,
        ),
        (
            "§7.1.1: a side that has given takeover up begins anew",
            forgets,
            vec![(TEXT | RSV1, HELLO), (TEXT | RSV1, HELLO)],
            &["text Hello", "text Hello"],
            1000,
        ),
        (
            "§7.1.1: and may not refer to the message before",
            forgets,
            vec![(TEXT | RSV1, HELLO), (TEXT | RSV1, AGAIN)],
            &["text Hello"],
            1007,
        ),
        (
            "§7.2.3.3: a block that is not compressed",
            "",
            vec![(TEXT | RSV1, &[0, 5, 0, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0])],
            &["text Hello"],
            1000,
        ),
        (
            "§7.2.3.4: a block with BFINAL, and one behind it",
            "",
            vec![(TEXT | RSV1, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0]), (TEXT | RSV1, HELLO)],
            &["text Hello", "text Hello"],
            1000,
        ),
        (
            "§7.2.3.5: two blocks in one message",
            "",
            vec![(TEXT | RSV1, &[0xf2, 0x48, 5, 0, 0, 0, 0xff, 0xff, 0xca, 0xc9, 0xc9, 7, 0])],
            &["text Hello"],
            1000,
        ),
        (
            "§7.2.3.6: an empty message is one octet",
            "",
            vec![(TEXT | RSV1, &[0]), (TEXT | RSV1, HELLO)],
            &["text ", "text Hello"],
            1000,
        ),
        (
            "§7.2.2: what cannot be inflated fails",
            "",
            vec![(BINARY | RSV1, &[0x07, 0xff])],
            &[],
            1007,
        ),
        (
            "§7.2.2: what ends inside a block fails",
            "",
            vec![(BINARY | RSV1, &[0, 5, 0, 0xfa, 0xff, 0x48])],
            &[],
            1007,
        ),
        (
            "RFC 6455 §8.1: text is judged when it is inflated",
            "",
            vec![(TEXT | RSV1, &bad)],
            &[],
            1007,
        ),
        (
            "RFC 6455 §8.1: at the octet, though the message goes on",
            "",
            vec![(FIRST_TEXT | RSV1, &bad)],
            &[],
            1007,
        ),
        (
            "RFC 6455 §10.4: a message of just the limit",
            "",
            vec![(TEXT | RSV1, &just)],
            &[&just_text],
            1000,
        ),
        (
            "RFC 6455 §10.4: a message that inflates beyond it",
            "",
            vec![(FIRST_TEXT | RSV1, &bomb)],
            &[],
            1009,
        ),
    ];
    for (says, parameters, frames, events, code) in rows {
        for (ours, cut) in ways() {
            let stream = frames.iter().flat_map(|(first, load)| frame_to(ours, *first, load));
            let extension = format!("{OURS}{parameters}");
            let heard = play((ours, cut), Some(everything()), &extension, stream.collect(), &[]);
            let what = format!("{says}, {ours:?}, {cut:?}");
            let (errors, others): (Vec<_>, Vec<_>) =
                heard.events.iter().partition(|event| event.starts_with("error "));
            assert_eq!(others, *events, "{what}");
            assert_eq!(errors.len(), usize::from(*code != 1000), "{what}: {errors:?}");
            assert_eq!(heard.code(), *code, "{what}");
        }
    }
}

/// §6.1: MUST NOT be compressed where it is not agreed; a peer that does it is failed with 1002.
#[test]
fn rsv1_without_an_agreement() {
    for (ours, cut) in ways() {
        for deflate in [None, Some(everything())] {
            let heard = play((ours, cut), deflate, "", frame_to(ours, TEXT | RSV1, HELLO), &[]);
            assert_eq!(heard.code(), 1002, "{ours:?}, {cut:?}");
        }
    }
}

/// Inflates with a window of so many bits, from message to message or each by itself.
fn unpack(frames: &[Wire], bits: u8, takes_over: bool) -> Vec<String> {
    let mut inflater = Inflate::new(false, bits);
    let mut texts = Vec::new();
    for (_, payload) in frames.iter().filter(|(first, _)| *first == TEXT | RSV1) {
        if !takes_over {
            inflater = Inflate::new(false, bits);
        }
        // §7.2.2: what was taken off is put on again.
        let stream = [&payload[..], &[0, 0, 0xff, 0xff]].concat();
        let (mut out, before) = (vec![0; 100_000], inflater.total_out());
        let inflated = inflater.decompress(&stream, &mut out, InflateFlush::SyncFlush);
        inflated.expect("right blocks, in their window");
        out.truncate((inflater.total_out() - before) as usize);
        texts.push(String::from_utf8(out).expect("text"));
    }
    texts
}

/// What leaves: the parameters decide how, and the peer can read it.
#[test]
fn what_leaves() {
    // 600 bytes that do not repeat, twice: a window of 9 bits cannot reach so far back.
    let unlike: String = (0..150).map(|i| format!("{:04x}", i * 7919 % 65_521)).collect();
    let (far, near) = (format!("{unlike}{unlike}"), "near ".repeat(40));
    let sends = [&*far, &*near, &*near, ""];
    for (ours, cut) in ways() {
        for forget in [false, true] {
            for bits in 8..=15 {
                let who = if ours == Ours::Client { "client" } else { "server" };
                let mut asked = format!("{OURS}; {who}_max_window_bits={bits}");
                if forget {
                    asked += &format!("; {who}_no_context_takeover");
                }
                let heard = play((ours, cut), Some(everything()), &asked, vec![], &sends);
                let what = format!("{ours:?}, {asked}");
                let (last, messages) = heard.frames.split_last().expect("frames");
                // §6.1: control frames are never compressed.
                assert_eq!(last.0, 0x88, "{what}");
                assert_eq!(messages.len(), 4, "{what}");
                let firsts: Vec<u8> = messages.iter().map(|(first, _)| *first).collect();
                if bits == 8 {
                    // §7.1.2: a window that cannot be had: uncompressed, or not agreed at all.
                    assert_eq!(firsts, [TEXT; 4], "{what}");
                    continue;
                }
                // §6: an endpoint MAY leave a message as it is.
                let packed = TEXT | RSV1;
                assert_eq!(firsts, [packed, packed, packed, TEXT], "{what}");
                assert_eq!(unpack(messages, bits, !forget), sends[..3], "{what}");
                let length = |at: usize| messages[at].1.len();
                match forget {
                    // §7.2.1: MUST begin with an empty window.
                    true => assert_eq!(messages[1].1, messages[2].1, "{what}"),
                    false => assert!(length(2) < length(1), "{what}"),
                }
                // §7.2.1: the tail is not sent.
                assert!(!messages[0].1.ends_with(&[0, 0, 0xff, 0xff]), "{what}");
            }
        }
    }
}

/// A WebSocket on an http worker's port is compressed where the program says so.
#[test]
fn an_accepted_upgrade_request_may_be_compressed() {
    for wanted in [false, true] {
        let worker = Worker::<Http>::listen("http://127.0.0.1:0").expect("it listens");
        worker.on_message(move |con, request| match Websocket::accept(&request) {
            Err(refusal) => drop(con.send(refusal)),
            Ok(websocket) => {
                let deflate = Deflate::new().threshold(0);
                let websocket = if wanted { websocket.with_deflate(deflate) } else { websocket };
                con.upgrade_with(websocket).on_message(|con, data| con.send(data));
            }
        });
        turn_until(|| worker.local_addr().is_some());
        let addr = worker.local_addr().expect("it listens");
        let peer = std::thread::spawn(move || {
            let mut stream = raw_connect(addr);
            let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                           Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Extensions: permessage-deflate\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            stream.write_all(request.as_bytes()).expect("the request");
            let head = read_head(&mut stream);
            let frame = frame_to(Ours::Server, TEXT | RSV1, &pack(&[b'a'; 100]));
            stream.write_all(&frame).expect("a message");
            (head, read_frame(&mut stream))
        });
        turn_until(|| peer.is_finished());
        let (head, (first, payload)) = peer.join().expect("it has played");
        assert_eq!(head.contains("permessage-deflate; server_no_context_takeover"), wanted);
        if wanted {
            assert_eq!(first, TEXT | RSV1);
            assert_eq!(unpack(&[(first, payload)], 15, false), ["a".repeat(100)]);
        } else {
            assert_eq!((first, &payload[..2]), (0x88, &1002u16.to_be_bytes()[..]));
        }
        worker.unlisten();
    }
}

/// What waits is counted as it leaves: compressed.
#[test]
fn the_send_buffer_counts_compressed_bytes() {
    let waiting = std::rc::Rc::new(std::cell::Cell::new(0));
    let told = waiting.clone();
    let set = move |worker: Worker<Websocket>| {
        worker.set_websocket_deflate(Deflate::default());
        worker.set_limits(Limits::new().send_buffer_bytes(100_000));
        let told = told.clone();
        worker.on_websocket_connected(move |con, _| {
            // Five times the limit, were it not compressed.
            for _ in 0..10 {
                assert_ne!(con.send("a".repeat(50_000)), Sent::Dropped);
            }
            told.set(con.send_buffer_len());
        });
    };
    let lines = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let (ours, cut) = (Ours::Server, Cut::Whole);
    let play = Play { ours, cut, lines, says: vec![], sends: &[], client: &|_| {}, server: &set };
    let heard = play.run();
    assert_eq!(heard.frames.len(), 11);
    assert!(heard.frames[..10].iter().all(|(first, load)| *first == 0xc1 && load.len() < 200));
    assert!((500..5000).contains(&waiting.get()), "{}", waiting.get());
}
