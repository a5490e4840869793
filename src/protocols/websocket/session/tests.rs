//! Promises of an open session, kept by both sides.
use super::super::testing::*;
use super::super::{Side, Websocket, Ws};
use super::*;
use crate::Limits;
use crate::protocols::testing::{Line, Seen, with_context};
use crate::protocols::{Notes, Protocol};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const FIRST_TEXT: u8 = 0x01;
const FIRST_BINARY: u8 = 0x02;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn close_of(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

// ------------------------------------------------------------------ messages

#[test]
fn messages_arrive_as_the_kind_they_were_sent_empty_ones_too() {
    for role in ROLES {
        let list: &[(u8, &[u8])] =
            &[(TEXT, b"caf\xc3\xa9"), (BINARY, b"\xff\0"), (TEXT, b""), (BINARY, b"")];
        let heard = hear_frames(role, list);
        let expected =
            [Seen::text("café"), Seen::binary(b"\xff\0"), Seen::text(""), Seen::binary(b"")];
        assert_eq!(heard.seen, expected);
        assert!(heard.sent.is_empty());
    }
}

#[test]
fn messages_of_every_form_of_length_arrive() {
    for role in ROLES {
        for length in [1, 124, 125, 126, 127, 128, 65535, 65536, 70001] {
            let payload: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let text: String = "aé€😀".chars().cycle().take(length / 3).collect();
            let heard = hear_frames(role, &[(BINARY, &payload), (TEXT, text.as_bytes())]);
            assert_eq!(heard.seen, [Seen::Binary(payload), Seen::Text(text)]);
        }
    }
}

#[test]
fn a_complete_frame_is_handed_out_without_a_copy() {
    let limits = Limits::new();
    for first in [TEXT, BINARY] {
        let mut server = open_server(&limits).protocol;
        let mut package = frame(Role::Server, first, &[b'x'; 300]);
        let place = package[8..].as_ptr();
        with_context(&limits, |cx| {
            let mut scratch = Vec::new();
            let data = server.decode(&mut package, &mut scratch, cx);
            let data = data.expect("no violation").expect("a message");
            assert_eq!(data, [b'x'; 300]);
            assert_eq!(data.as_bytes().as_ptr(), place);
        });
    }
}

#[test]
fn invalid_utf8_in_a_whole_text_frame_is_1007() {
    for role in ROLES {
        for text in [&b"\xff"[..], b"abc\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80", b"\xc0\x80"] {
            assert_eq!(hear_frames(role, &[(TEXT, b"fine"), (TEXT, text)]).code(), 1007);
        }
        assert_eq!(hear_frames(role, &[(BINARY, b"\xff")]).seen, [Seen::binary(b"\xff")]);
    }
}

#[test]
fn an_invalid_octet_is_a_violation_at_that_octet_though_the_frame_goes_on() {
    for role in ROLES {
        let mut text = "κόσμε ".repeat(30).into_bytes();
        text.extend_from_slice(b"\xf4\x90 and so on for long");
        let wrong_at = text.len() - b" and so on for long".len();
        for fragment in [false, true] {
            let mut stream = Vec::new();
            if fragment {
                stream.extend(frame(role, FIRST_TEXT, "€".as_bytes()));
            }
            let payload_from = stream.len() + head(role, TEXT, text.len() as u64).len();
            stream.extend(frame(role, if fragment { LAST } else { TEXT }, &text));
            let taken = match role {
                Role::Client => bytes_until_end(open_client(&Limits::new()), &stream),
                Role::Server => bytes_until_end(open_server(&Limits::new()), &stream),
            };
            assert_eq!(taken, payload_from + wrong_at, "{role:?} {fragment}");
            assert_eq!(hear(role, &Limits::new(), &stream).code(), 1007);
        }
    }
}

fn bytes_until_end<P: crate::protocols::testing::Flat>(mut line: Line<P>, stream: &[u8]) -> usize {
    let end = stream.iter().position(|byte| {
        line.feed(&[*byte]);
        line.ended
    });
    assert_eq!(line.violation_code(), Some(1007));
    end.expect("a violation") + 1
}

#[test]
fn an_incomplete_text_frame_is_unmasked_and_judged_once() {
    let limits = Limits::new();
    let mut server = open_server(&limits).protocol;
    let whole = frame(Role::Server, TEXT, "é".repeat(200).as_bytes());
    with_context(&limits, |cx| {
        let mut buffer = whole[..100].to_vec();
        assert_eq!(server.input(&mut buffer, cx), Ok(Input::PartialOf(whole.len())));
        assert_eq!(server.session().judged, 92);
        let unmasked = buffer.clone();
        assert!(unmasked[8..].starts_with("éé".as_bytes()));
        assert_eq!(server.input(&mut buffer, cx), Ok(Input::PartialOf(whole.len())));
        assert_eq!(buffer, unmasked);
        buffer.extend_from_slice(&whole[100..]);
        let mut scratch = Vec::new();
        let data = server.decode(&mut buffer, &mut scratch, cx);
        assert_eq!(data, Ok(Some(Data::Text(&"é".repeat(200)))));
        assert_eq!(server.session().judged, 0);
    });
}

#[test]
fn an_incomplete_binary_frame_is_not_asked_about_again() {
    let limits = Limits::new();
    let mut server = open_server(&limits).protocol;
    let mut part = head(Role::Server, BINARY, 100_000);
    part.extend_from_slice(b"abc");
    let total = 100_000 + part.len() - 3;
    with_context(&limits, |cx| {
        let before = part.clone();
        assert_eq!(server.input(&mut part, cx), Ok(Input::Package(total)));
        assert_eq!(part, before);
    });
}

// ------------------------------------------------------------------ fragments

#[test]
fn fragments_make_one_message_of_the_first_ones_kind() {
    for role in ROLES {
        let heard = hear_frames(
            role,
            &[
                (FIRST_TEXT, b"Hel"),
                (MORE, b""),
                (MORE, b"l"),
                (LAST, b"o"),
                (FIRST_BINARY, b""),
                (LAST, b"\xff"),
                (FIRST_TEXT, b""),
                (LAST, b""),
                (TEXT, b"end"),
            ],
        );
        let expected =
            [Seen::text("Hello"), Seen::binary(b"\xff"), Seen::text(""), Seen::text("end")];
        assert_eq!(heard.seen, expected);
    }
}

#[test]
fn control_frames_may_come_between_fragments_and_leave_them_alone() {
    for role in ROLES {
        let heard = hear_frames(
            role,
            &[(FIRST_TEXT, b"Hel"), (PING, b"?"), (MORE, b"l"), (PONG, b""), (LAST, b"o")],
        );
        assert_eq!(heard.seen, [Seen::text("Hello")]);
        assert_eq!(heard.sent, [(PONG, b"?".to_vec())]);
    }
}

#[test]
fn a_character_may_be_cut_by_fragments() {
    for role in ROLES {
        let text = "κόσμε😀".as_bytes();
        for cut in 0..=text.len() {
            let list = [(FIRST_TEXT, &text[..cut]), (MORE, b""), (LAST, &text[cut..])];
            assert_eq!(hear_frames(role, &list).seen, [Seen::text("κόσμε😀")]);
        }
    }
}

#[test]
fn a_fragmented_text_is_1007_at_its_first_wrong_fragment_and_when_it_ends_too_early() {
    for role in ROLES {
        let wrong = hear_frames(role, &[(FIRST_TEXT, b"a\xe2\x82"), (MORE, b"a"), (TEXT, b"x")]);
        assert_eq!(wrong.code(), 1007);
        let short = hear_frames(role, &[(FIRST_TEXT, b"a\xe2"), (LAST, b"\x82")]);
        assert_eq!(short.code(), 1007);
        let binary = hear_frames(role, &[(FIRST_BINARY, b"a\xe2"), (LAST, b"a")]);
        assert_eq!(binary.seen, [Seen::binary(b"a\xe2a")]);
    }
}

#[test]
fn a_continuation_without_a_beginning_is_1002() {
    for role in ROLES {
        for orphan in [MORE, LAST] {
            assert_eq!(hear_frames(role, &[(orphan, b"x")]).code(), 1002);
            let after = [(FIRST_TEXT, &b"a"[..]), (LAST, b"b"), (orphan, b"c")];
            assert_eq!(hear_frames(role, &after).code(), 1002);
        }
    }
}

#[test]
fn a_new_message_inside_a_fragmented_one_is_1002() {
    for role in ROLES {
        for first in [FIRST_TEXT, FIRST_BINARY] {
            for second in [TEXT, BINARY, FIRST_TEXT, FIRST_BINARY] {
                assert_eq!(hear_frames(role, &[(first, b"Hel"), (second, b"NEW")]).code(), 1002);
            }
        }
    }
}

#[test]
fn a_fragmented_message_takes_the_scratch_buffer_and_leaves_the_session_small() {
    let limits = Limits::new();
    for role in ROLES {
        let mut session = Session::new();
        session.opened();
        let mut scratch = Vec::new();
        with_context(&limits, |cx| {
            for (first, ends) in [(FIRST_BINARY, false), (MORE, false), (LAST, true)] {
                let mut package = frame(role, first, &[7; 1000]);
                let data = session.decode(role, &mut package, &mut scratch, cx);
                assert_eq!(data.expect("no violation").is_some(), ends);
                assert_eq!(session.more.is_none(), ends, "an idle session keeps no box");
            }
        });
        assert_eq!(scratch, [7; 3000]);
    }
}

// ------------------------------------------------------------------ limits

#[test]
fn a_message_of_the_limit_passes_and_one_byte_more_is_1009() {
    let limits = Limits::new().message_bytes(200);
    for role in ROLES {
        for first in [TEXT, BINARY] {
            let fits = hear(role, &limits, &frame(role, first, &[b'x'; 200]));
            assert_eq!(fits.seen.len(), 1);
            assert_eq!(hear(role, &limits, &frame(role, first, &[b'x'; 201])).code(), 1009);
        }
        let tiny = Limits::new().message_bytes(3);
        assert_eq!(hear(role, &tiny, &frame(role, TEXT, b"abc")).seen, [Seen::text("abc")]);
        assert_eq!(hear(role, &tiny, &frame(role, TEXT, b"abcd")).code(), 1009);
    }
}

#[test]
fn the_limit_counts_the_payload_over_all_fragments() {
    let limits = Limits::new().message_bytes(10);
    for role in ROLES {
        let fits = frames(role, &[(FIRST_TEXT, b"12345"), (MORE, b"1234"), (LAST, b"1")]);
        assert_eq!(hear(role, &limits, &fits).seen, [Seen::text("1234512341")]);
        let over = frames(role, &[(FIRST_TEXT, b"12345"), (MORE, b"1234"), (LAST, b"12")]);
        assert_eq!(hear(role, &limits, &over).code(), 1009);
        let again = [fits.clone(), fits].concat();
        assert_eq!(hear(role, &limits, &again).seen.len(), 2, "each message counts by itself");
    }
}

#[test]
fn a_length_above_the_limit_is_judged_on_the_head_alone() {
    let limits = Limits::new().message_bytes(1 << 20);
    for role in ROLES {
        for first in [TEXT, BINARY, FIRST_TEXT] {
            for length in [(1 << 20) + 1, 1 << 32, 1 << 62, (1 << 63) - 1] {
                assert_eq!(hear(role, &limits, &head(role, first, length)).code(), 1009);
            }
            for length in [1 << 63, u64::MAX - 1, u64::MAX] {
                assert_eq!(hear(role, &limits, &head(role, first, length)).code(), 1002);
            }
        }
        let sum = [frame(role, FIRST_BINARY, &[1; 100]), head(role, LAST, (1 << 63) - 1)].concat();
        assert_eq!(hear(role, &limits, &sum).code(), 1009);
    }
}

#[test]
fn even_without_a_limit_no_sum_wraps() {
    let limits = Limits::new().message_bytes(usize::MAX);
    for role in ROLES {
        let mut session = Session::new();
        session.opened();
        session.state = State::InBinary;
        session.more().message = vec![0; 3];
        with_context(&limits, |cx| {
            let at = |payload| Head {
                fin: true,
                opcode: Opcode::Continuation,
                key: [0; 4],
                length: 14,
                payload,
                compressed: false,
            };
            let judged = session.judge(&at(u64::MAX - 2), cx).expect_err("too long");
            assert_eq!(judged.close_code(), Some(1009));
            let judged = session.judge(&at(u64::MAX - 3), cx).expect_err("too long with its head");
            assert_eq!(judged.close_code(), Some(1009));
            let mut long = head(role, LAST, (1 << 63) - 1);
            assert!(matches!(session.input(role, &mut long, cx), Ok(Input::Package(_))));
        });
    }
}

#[test]
fn nothing_is_allocated_from_a_declared_length() {
    let limits = Limits::new().message_bytes(usize::MAX);
    for role in ROLES {
        let mut session = Session::new();
        session.opened();
        with_context(&limits, |cx| {
            for first in [TEXT, BINARY, FIRST_TEXT, FIRST_BINARY] {
                let mut part = head(role, first, 1 << 62);
                assert!(session.input(role, &mut part, cx).is_ok());
                assert!(session.more.is_none());
            }
        });
    }
}

#[test]
fn fragments_are_counted_the_empty_ones_too() {
    let limits = Limits::new().fragments(4);
    for role in ROLES {
        let message = |middle: usize| {
            let mut list = vec![(FIRST_TEXT, &b""[..])];
            list.resize(1 + middle, (MORE, b""));
            list.push((LAST, b"x"));
            frames(role, &list)
        };
        let fits = [message(2), message(2)].concat();
        assert_eq!(hear(role, &limits, &fits).seen, [Seen::text("x"), Seen::text("x")]);
        assert_eq!(hear(role, &limits, &message(3)).code(), 1009);
        let default = hear(role, &Limits::new(), &message(4094));
        assert_eq!(default.seen, [Seen::text("x")]);
        assert_eq!(hear(role, &Limits::new(), &message(4095)).code(), 1009);
    }
}

#[test]
fn control_frames_do_not_count_as_messages() {
    let limits = Limits::new().message_bytes(2).fragments(2);
    for role in ROLES {
        let long = [b'p'; 125];
        let stream = frames(
            role,
            &[(FIRST_TEXT, b"a"), (PING, &long), (PONG, &long), (PING, b""), (LAST, b"b")],
        );
        assert_eq!(hear(role, &limits, &stream).seen, [Seen::text("ab")]);
    }
}

// ------------------------------------------------------------------ what is wrong with a frame

#[test]
fn frames_outside_the_protocol_are_1002_and_the_peer_is_told() {
    for role in ROLES {
        let wrong: &[(u8, &[u8])] = &[
            (0xc1, b"rsv1"),
            (0xa2, b"rsv2"),
            (0x91, b"rsv3"),
            (0xf1, b"all"),
            (0x83, b"reserved data"),
            (0x87, b""),
            (0x8b, b"reserved control"),
            (0x8f, b""),
            (0x09, b"fragmented ping"),
            (0x08, b""),
        ];
        for (first, payload) in wrong {
            let heard = hear_frames(role, &[(TEXT, b"fine"), (*first, payload)]);
            assert_eq!(heard.seen[0], Seen::text("fine"));
            assert_eq!(heard.code(), 1002, "{first:#04x}");
        }
        for first in [CLOSE, PING, PONG] {
            assert_eq!(hear_frames(role, &[(first, &[b'x'; 126])]).code(), 1002);
        }
        for first in [TEXT, BINARY, FIRST_TEXT] {
            let other = if role == Role::Client { Role::Server } else { Role::Client };
            let masked_wrongly = frame(other, first, b"x");
            assert_eq!(hear(role, &Limits::new(), &masked_wrongly).code(), 1002);
        }
    }
}

#[test]
fn lengths_that_are_not_minimal_are_1002() {
    let masked = |role| if role == Role::Server { 0x80 } else { 0 };
    for role in ROLES {
        for length in [0u16, 1, 125] {
            let mut frame = vec![BINARY, masked(role) | 126];
            frame.extend_from_slice(&length.to_be_bytes());
            assert_eq!(hear(role, &Limits::new(), &frame).code(), 1002);
        }
        for length in [0u64, 126, 65535] {
            let mut frame = vec![BINARY, masked(role) | 127];
            frame.extend_from_slice(&length.to_be_bytes());
            assert_eq!(hear(role, &Limits::new(), &frame).code(), 1002);
        }
    }
}

#[test]
fn nothing_is_delivered_after_a_violation() {
    for role in ROLES {
        let heard = hear_frames(role, &[(TEXT, b"a"), (0xc1, b""), (TEXT, b"b"), (PING, b"")]);
        assert_eq!((heard.seen.len(), heard.sent.len()), (2, 1));
        let mut line = open_server(&Limits::new());
        line.feed(&frame(Role::Server, 0xc1, b""));
        line.ended = false;
        line.feed(&frames(Role::Server, &[(TEXT, b"b"), (PING, b""), (CLOSE, b"")]));
        assert_eq!((line.seen.len(), sent(Role::Server, &line.out).len()), (1, 1));
    }
}

#[test]
fn a_close_frames_reason_is_cut_between_characters() {
    let limits = Limits::new();
    for role in ROLES {
        let (mut session, mut out) = (Session::new(), Vec::new());
        session.opened();
        let violation = Violation::new(format!("x{}", "é".repeat(100)));
        with_context(&limits, |cx| session.violated(role, &violation, &mut out, cx));
        let reason = format!("x{}", "é".repeat(61));
        assert_eq!(sent(role, &out), [(CLOSE, close_of(1002, &reason))]);
    }
}

#[test]
fn a_violation_without_a_code_of_websocket_is_told_as_1002() {
    let limits = Limits::new();
    for code in [400, 1005, 1006, 0] {
        let (mut session, mut out) = (Session::new(), Vec::new());
        session.opened();
        let violation = Violation::new("x").code(code);
        with_context(&limits, |cx| session.violated(Role::Server, &violation, &mut out, cx));
        assert_eq!(sent(Role::Server, &out), [(CLOSE, close_of(1002, "x"))]);
    }
}

// ------------------------------------------------------------------ pings

#[test]
fn every_ping_is_answered_with_its_payload() {
    for role in ROLES {
        let long = [0xfe; 125];
        let heard = hear_frames(role, &[(PING, b""), (PING, b"abc"), (PING, &long), (PONG, b"x")]);
        assert!(heard.seen.is_empty(), "no callback, no event");
        let expected = [(PONG, vec![]), (PONG, b"abc".to_vec()), (PONG, long.to_vec())];
        assert_eq!(heard.sent, expected);
    }
}

#[test]
fn pings_and_pongs_are_events_only_for_those_who_asked() {
    let stream = frames(Role::Client, &[(PING, b"i"), (PONG, b"o")]);
    for (pings, pongs) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut line = open_client(&Limits::new());
        line.protocol.session_mut().set_wants_pings(pings);
        line.protocol.session_mut().set_wants_pongs(pongs);
        line.feed(&stream);
        let mut expected = Vec::new();
        expected.extend(pings.then(|| Seen::Ping(b"i".into())));
        expected.extend(pongs.then(|| Seen::Pong(b"o".into())));
        assert_eq!(line.seen, expected);
        assert_eq!(sent(Role::Client, &line.out).len(), 1, "the pong goes out by itself");
        line.protocol.session_mut().set_wants_pings(false);
        line.protocol.session_mut().set_wants_pongs(false);
        line.feed(&stream);
        assert_eq!(line.seen, expected);
    }
}

#[test]
fn a_pong_is_noted_as_one_so_that_the_next_may_take_its_place() {
    let limits = Limits::new();
    let mut server = open_server(&limits).protocol;
    let notes = |server: &mut Websocket, first: u8| -> Notes {
        let mut package = frame(Role::Server, first, b"\x03\xe8");
        let mut scratch = Vec::new();
        let (result, notes) = with_context(&limits, |cx| {
            server.decode(&mut package, &mut scratch, cx).map(|message| message.is_some())
        });
        assert_eq!(result, Ok(false));
        notes
    };
    assert!(notes(&mut server, PING).answer_is_pong);
    assert!(!notes(&mut server, CLOSE).answer_is_pong);
}

#[test]
fn only_the_latest_heartbeats_pong_answers_it() {
    let mut line = open_client(&Limits::new());
    assert!(line.append(|ws, out, cx| ws.heartbeat(out, cx)));
    let pings = sent(Role::Client, &line.out);
    let [(PING, payload)] = &pings[..] else { panic!("{pings:?}") };
    assert_eq!(payload.len(), 8);
    line.feed(&frames(Role::Client, &[(PONG, b"other"), (PONG, payload), (PING, b"")]));
    assert_eq!(line.seen, [Seen::Pong(payload.clone())], "noted though nobody asked");
    assert!(line.protocol.session().more.is_none(), "and forgotten: it answers once");
    line.feed(&frame(Role::Client, PONG, payload));
    assert_eq!(line.seen.len(), 1);
}

#[test]
fn no_heartbeat_before_the_handshake_nor_after_the_end_nor_from_a_server() {
    let limits = Limits::new();
    let mut young = dialled(&Default::default());
    assert!(!young.append(|ws, out, cx| ws.heartbeat(out, cx)));
    let mut old = open_client(&limits);
    old.close();
    old.out.clear();
    assert!(!old.append(|ws, out, cx| ws.heartbeat(out, cx)));
    let mut server = open_server(&limits);
    assert!(!server.append(|websocket, out, cx| websocket.heartbeat(out, cx)));
    assert!(old.out.is_empty() && server.out.is_empty());
}

#[test]
fn the_programs_own_pings_and_pongs_carry_at_most_125_bytes() {
    let mut client = open_client(&Limits::new());
    assert_eq!(client.append(|ws, out, cx| ws.put_ping(b"p", out, cx)), Ok(()));
    assert_eq!(client.append(|ws, out, cx| ws.put_pong(&[1; 125], out, cx)), Ok(()));
    assert!(client.append(|ws, out, cx| ws.put_ping(&[1; 126], out, cx)).is_err());
    assert!(client.append(|ws, out, cx| ws.put_pong(&[1; 126], out, cx)).is_err());
    let expected = [(PING, b"p".to_vec()), (PONG, vec![1; 125])];
    assert_eq!(sent(Role::Client, &client.out), expected);
    let mut server = open_server(&Limits::new());
    assert_eq!(server.append(|websocket, out, cx| websocket.put_ping(b"p", out, cx)), Ok(()));
    assert_eq!(server.out, b"\x89\x01p");
}

mod closing;
#[cfg(feature = "deflate")]
mod compressed;
mod properties;
mod sending;
