//! The end of a session, in every order.
use super::*;
use crate::protocols::Farewell;
use crate::protocols::testing::{DOORS, with_doors};

fn closing_codes() -> impl Iterator<Item = (u16, bool)> {
    let right = |code: u16| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    let codes = (0..=5).chain(990..=1020).chain([1100, 1999, 2000, 2999, 3000, 3999, 4000]);
    codes.chain([4999, 5000, 5001, 9999, 65535]).map(move |code| (code, right(code)))
}

#[test]
fn the_peers_close_frame_is_answered_with_its_code_and_told() {
    for role in ROLES {
        let heard = hear_frames(role, &[(TEXT, b"a"), (CLOSE, &close_of(4001, "bye é"))]);
        assert_eq!(heard.seen, [Seen::text("a"), Seen::closed(4001, "bye é", true)]);
        assert_eq!(heard.sent, [(CLOSE, close_of(4001, ""))]);
    }
}

#[test]
fn a_close_frame_without_a_code_is_1005_and_answered_without_one() {
    for role in ROLES {
        let heard = hear_frames(role, &[(CLOSE, b"")]);
        assert_eq!(heard.seen, [Seen::closed(1005, "", true)]);
        assert_eq!(heard.sent, [(CLOSE, vec![])]);
    }
}

#[test]
fn codes_that_may_stand_in_a_close_frame_are_echoed_and_others_are_1002() {
    for role in ROLES {
        for (code, right) in closing_codes() {
            let heard = hear_frames(role, &[(CLOSE, &close_of(code, "r"))]);
            if right {
                assert_eq!(heard.seen, [Seen::closed(code, "r", true)]);
            } else {
                assert_eq!(heard.code(), 1002, "{code}");
            }
        }
    }
}

#[test]
fn half_a_code_is_1002_and_a_reason_that_is_no_text_is_1007() {
    for role in ROLES {
        assert_eq!(hear_frames(role, &[(CLOSE, b"\x03")]).code(), 1002);
        assert_eq!(hear_frames(role, &[(CLOSE, b"\x03\xe8ab\xff")]).code(), 1007);
        assert_eq!(hear_frames(role, &[(CLOSE, b"\x03\xe8\xed\xa0\x80")]).code(), 1007);
        let longest = "r".repeat(123);
        let heard = hear_frames(role, &[(CLOSE, &close_of(1000, &longest))]);
        assert_eq!(heard.seen, [Seen::closed(1000, &longest, true)]);
    }
}

#[test]
fn whatever_comes_behind_the_close_frame_is_discarded_even_garbage() {
    for role in ROLES {
        let mut stream = frames(role, &[(CLOSE, b"\x03\xe8"), (TEXT, b"late"), (PING, b"late")]);
        stream.extend_from_slice(b"\xff\xff garbage that is no frame");
        let heard = hear(role, &Limits::new(), &stream);
        assert_eq!(heard.seen, [Seen::closed(1000, "", true)]);
        assert_eq!(heard.sent, [(CLOSE, close_of(1000, ""))]);
    }
}

#[test]
fn the_peers_close_frame_may_come_inside_a_fragmented_message() {
    for role in ROLES {
        let heard = hear_frames(role, &[(FIRST_TEXT, b"a"), (CLOSE, b""), (LAST, b"b")]);
        assert_eq!(heard.seen, [Seen::closed(1005, "", true)]);
    }
}

#[test]
fn after_our_close_frame_data_is_discarded_and_the_peers_close_frame_found() {
    let stream = |role| {
        frames(
            role,
            &[
                (TEXT, b"late"),
                (FIRST_TEXT, b"late \xff"),
                (PONG, b"late"),
                (LAST, b"late"),
                (LAST, b"no longer judged"),
                (CLOSE, &close_of(1000, "yes")),
                (TEXT, b"later"),
            ],
        )
    };
    for cut in [1, 2, 7, 1000] {
        let (mut client, mut server) = (open_client(&Limits::new()), open_server(&Limits::new()));
        server.protocol.session_mut().set_wants_pongs(true);
        assert!(client.close() && server.close());
        stream(Role::Client).chunks(cut).for_each(|piece| client.feed(piece));
        stream(Role::Server).chunks(cut).for_each(|piece| server.feed(piece));
        for (role, seen, out) in
            [(Role::Client, client.seen, client.out), (Role::Server, server.seen, server.out)]
        {
            assert_eq!(seen, [Seen::closed(1000, "yes", false)]);
            assert_eq!(sent(role, &out), [(CLOSE, close_of(1000, ""))]);
        }
    }
}

#[test]
fn our_close_frame_may_come_while_a_text_frame_is_half_here() {
    let whole = frame(Role::Server, TEXT, "é".repeat(20).as_bytes());
    let mut server = open_server(&Limits::new());
    server.feed(&whole[..17]);
    assert!(server.close());
    server.feed(&whole[17..]);
    server.feed(&frame(Role::Server, CLOSE, b""));
    assert_eq!(server.seen, [Seen::closed(1005, "", false)]);
}

#[test]
fn a_ping_is_answered_until_the_peers_close_frame_has_come() {
    let mut server = open_server(&Limits::new());
    server.protocol.session_mut().set_wants_pings(true);
    server.close();
    server.feed(&frames(Role::Server, &[(PING, b"a"), (CLOSE, b""), (PING, b"b")]));
    assert_eq!(server.seen, [Seen::closed(1005, "", false)], "but no callback is called");
    let expected = [(CLOSE, close_of(1000, "")), (PONG, b"a".to_vec())];
    assert_eq!(sent(Role::Server, &server.out), expected);
}

#[test]
fn a_limit_holds_also_for_what_is_discarded() {
    let mut server = open_server(&Limits::new().message_bytes(10));
    server.close();
    server.out.clear();
    server.feed(&head(Role::Server, BINARY, 11));
    assert_eq!(server.violation_code(), Some(1009));
    assert!(server.out.is_empty(), "no second close frame");
}

#[test]
fn our_close_frame_is_sent_once() {
    for role in ROLES {
        let (mut session, mut out) = (Session::new(), Vec::new());
        session.opened();
        with_context(&Limits::new(), |cx| {
            assert!(session.closing(role, &mut out, cx));
            assert!(session.closing(role, &mut out, cx), "still waiting");
            session.violated(role, &Violation::new("x"), &mut out, cx);
            assert!(!session.closing(role, &mut out, cx), "nothing to wait for");
        });
        assert_eq!(sent(role, &out), [(CLOSE, close_of(1000, ""))]);
    }
    let mut answered = open_server(&Limits::new());
    answered.feed(&frame(Role::Server, CLOSE, b""));
    assert!(!answered.close(), "the answer was our close frame");
    assert_eq!(answered.out, [CLOSE, 0]);
}

#[test]
fn a_handshake_that_is_not_complete_ends_without_a_close_frame() {
    let mut client = dialled(&Default::default());
    client.out.clear();
    assert!(!client.close());
    let mut server = Line::new(Websocket::default());
    server.connect();
    assert!(!server.close());
    assert!(client.out.is_empty() && server.out.is_empty());
}

#[test]
fn the_close_frame_says_why_a_session_ends() {
    for (farewell, code) in
        [(Farewell::Asked, 1000), (Farewell::Stopping, 1001), (Farewell::CallbackFailed, 1011)]
    {
        let (mut session, mut out) = (Session::new(), Vec::new());
        session.opened();
        with_doors(&Limits::new(), &DOORS, farewell, |cx| {
            session.closing(Role::Server, &mut out, cx);
        });
        assert_eq!(sent(Role::Server, &out), [(CLOSE, close_of(code, ""))]);
    }
}

#[test]
fn the_program_chooses_code_and_reason_within_the_rules() {
    for (code, right) in closing_codes() {
        let mut server = open_server(&Limits::new());
        assert_eq!(server.protocol.session_mut().set_close(code, "why").is_ok(), right, "{code}");
        assert!(server.close());
        let expected = if right { close_of(code, "why") } else { close_of(1000, "") };
        assert_eq!(sent(Role::Server, &server.out), [(CLOSE, expected)]);
    }
    let mut server = open_server(&Limits::new());
    let session = server.protocol.session_mut();
    assert!(session.set_close(4000, &"r".repeat(123)).is_ok());
    let text = session.set_close(4000, &"é".repeat(62)).expect_err("124 bytes");
    assert!(text.contains("124 bytes"), "{text}");
    server.close();
    assert_eq!(server.out, [CLOSE, 2, 0x03, 0xe8]);
}

#[test]
fn close_code_is_what_the_peer_sent_and_none_without_a_close_frame() {
    for (payload, code) in [(&b""[..], 1005), (b"\x0f\xa1x", 4001)] {
        for ours_first in [false, true] {
            let mut line = open_client(&Limits::new());
            assert_eq!(line.protocol.session().close_code(), None);
            if ours_first {
                line.close();
            }
            line.feed(&frame(Role::Client, CLOSE, payload));
            assert_eq!(line.protocol.session().close_code(), Some(code));
        }
    }
    let mut broken = open_client(&Limits::new());
    broken.feed(&frame(Role::Client, CLOSE, b"\0"));
    assert_eq!(broken.protocol.session().close_code(), None);
}

#[test]
fn an_end_without_a_close_frame_is_no_violation() {
    let mut client = open_client(&Limits::new());
    client.feed(b"\x81\x05he");
    client.eof();
    let mut server = open_server(&Limits::new());
    server.eof();
    let mut young = Line::new(Websocket::default());
    young.connect();
    young.feed(b"GET /");
    young.eof();
    assert!(client.seen.is_empty() && server.seen.is_empty() && young.seen.is_empty());
}

#[test]
fn the_predicates_follow_the_states() {
    let mut line = dialled(&Default::default());
    let view = |line: &Line<Ws>| {
        let session = line.protocol.session();
        (session.is_open(), session.was_opened(), session.is_over())
    };
    assert_eq!(view(&line), (false, false, false));
    line.feed(answer_with("").as_bytes());
    assert_eq!(view(&line), (true, true, false));
    line.feed(&frame(Role::Client, FIRST_TEXT, b""));
    assert_eq!(view(&line), (true, true, false));
    line.close();
    assert_eq!(view(&line), (false, true, false));
    line.feed(&frame(Role::Client, CLOSE, b""));
    assert_eq!(view(&line), (false, true, true));
    let mut refused = dialled(&Default::default());
    refused.feed(b"no HTTP");
    assert_eq!(view(&refused), (false, false, true));
}
