//! Promises of the client's handshake.
use super::super::super::Ws;
use super::super::super::testing::*;
use super::*;
use crate::protocols::Dial;
use crate::protocols::testing::{Line, Seen, each_way};

fn request(opening: &Opening, path: &str, userinfo: Option<&str>) -> String {
    let mut ws = Ws::default();
    ws.address(&Target { host: "feed.test:1234", path, userinfo, opening });
    let mut line = Line::new(ws);
    line.connect();
    String::from_utf8(line.out).expect("a request is text")
}

fn asking_for(protocols: &str) -> Opening {
    let mut opening = Opening::default();
    opening.set_protocols(protocols).expect("subprotocols");
    opening
}

/// Feeds an answer to a fresh client in all ways; checks that nothing was written after the
/// request.
fn answered(opening: &Opening, answer: &[u8]) -> Line<Ws> {
    let line = each_way(answer, || {
        let mut line = dialled(opening);
        line.out.clear();
        line
    });
    assert!(line.out.is_empty(), "a client says nothing more");
    line
}

/// The text of the failure that this answer is, and what `failure.response()` will show.
fn failure(answer: &str) -> (String, Option<(u16, Vec<u8>)>) {
    match answered(&Opening::default(), answer.as_bytes()).seen.pop() {
        Some(Seen::Violation { text, code: None, refusal }) => (text, refusal),
        seen => panic!("no failure: {seen:?}"),
    }
}

// ------------------------------------------------------------------ the request

#[test]
fn the_request_is_workermans_byte_for_byte() {
    let request = String::from_utf8(dialled(&Opening::default()).out).expect("text");
    let key = "oYTr3jnYjzv1iJuAWNlZXA==";
    assert!(request.contains("Sec-WebSocket-Key: "));
    let (_, behind) = request.split_once("Sec-WebSocket-Key: ").expect("a key");
    assert_eq!(BASE64_STANDARD.decode(&behind[..24]).expect("base64").len(), key.len() - 8);
    assert_eq!(
        request.replace(&behind[..24], "KEY"),
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:1234\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: KEY\r\n\r\n"
    );
    assert_eq!(request.len(), 153, "154 with a port of five digits");
}

#[test]
fn settings_stand_where_workerman_puts_them_and_headers_keep_order_and_case() {
    let mut opening = asking_for("chat, superchat");
    opening.set_origin("https://page.test").expect("an origin");
    let headers = [("Cookie", "a=b; c=d"), ("otherKEY", "values"), ("Cookie", "twice")];
    opening.set_headers(headers).expect("headers");
    let request = request(&opening, "/path?a=b", Some("user:pässword"));
    let lines: Vec<&str> = request.split("\r\n").collect();
    assert_eq!(
        lines[..8],
        [
            "GET /path?a=b HTTP/1.1",
            "Host: feed.test:1234",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Origin: https://page.test",
            "Sec-WebSocket-Protocol: chat, superchat",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: oYTr3jUYLyd5sD/g5hpSPA==",
        ]
        .map(|line| if line.starts_with("Sec-WebSocket-Key") { lines[7] } else { line })
    );
    assert_eq!(
        lines[8..],
        [
            "Cookie: a=b; c=d",
            "otherKEY: values",
            "Cookie: twice",
            "Authorization: Basic dXNlcjpww6Rzc3dvcmQ=",
            "",
            ""
        ]
    );
}

#[test]
fn what_the_headers_give_is_not_written_twice() {
    let mut opening = asking_for("chat");
    opening.set_origin("https://page.test").expect("an origin");
    let headers = [
        ("HOST", "other.test"),
        ("origin", "https://other.test"),
        ("sec-websocket-protocol", "v2"),
        ("authorization", "Bearer token"),
    ];
    opening.set_headers(headers).expect("headers");
    let request = request(&opening, "/", Some("user:password"));
    for (name, value) in headers {
        let count = request
            .to_ascii_lowercase()
            .matches(&format!("\r\n{name}: ").to_ascii_lowercase())
            .count();
        assert_eq!(count, 1, "{name} in {request}");
        assert!(request.contains(&format!("\r\n{name}: {value}\r\n")));
    }
    assert!(!request.contains("Basic"));
}

#[test]
fn a_setting_that_http_forbids_is_an_error_and_changes_nothing() {
    let mut opening = asking_for("chat");
    opening.set_headers([("A", "1")]).expect("a header");
    opening.set_origin("https://page.test").expect("an origin");
    let before = request(&opening, "/", None);
    for (name, value) in [
        ("X", "a\r\nY: b"),
        ("X Y", "a"),
        ("Connection", "keep-alive"),
        ("Sec-WebSocket-Key", "x"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("Sec-WebSocket-Protocol", "a b"),
    ] {
        let error = opening.set_headers([("B", "2"), (name, value)]).expect_err(name);
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
    assert!(opening.set_headers([("Host", "a"), ("host", "b")]).is_err());
    assert!(opening.set_origin("https://a\r\nX: y").is_err());
    assert!(opening.set_protocols("chat, chat").is_err());
    assert!(opening.set_protocols("a\r\nX: y").is_err());
    assert_eq!(request(&opening, "/", None), before);
}

#[test]
fn the_message_type_of_the_settings_holds_from_before_the_handshake() {
    let mut opening = Opening::default();
    opening.set_kind(Some(WebsocketType::ArrayBuffer));
    let mut line = dialled(&opening);
    line.out.clear();
    line.send("queued");
    assert!(line.out.is_empty(), "held back");
    line.feed(answer_with("").as_bytes());
    assert_eq!(sent(crate::protocols::websocket::frame::Role::Client, &line.out)[0].0, 0x82);
}

// ------------------------------------------------------------------ a right answer

#[test]
fn a_right_answer_opens_the_session() {
    let answer = answer_with("X: y\r\n");
    let line = answered(&Opening::default(), answer.as_bytes());
    assert_eq!(line.seen, [Seen::Opened(101)]);
}

#[test]
fn names_and_tokens_of_the_answer_are_compared_without_case() {
    let answer = format!(
        "HTTP/1.1 101\r\nUPGRADE: WebSocket\r\nconnection: keep-alive, upgrade\r\n\
         sec-websocket-accept: {ACCEPT}\r\n\r\n"
    );
    assert_eq!(answered(&Opening::default(), answer.as_bytes()).seen, [Seen::Opened(101)]);
}

#[test]
fn the_response_prints_exactly_as_it_came() {
    use std::cell::RefCell;
    use std::rc::Rc;
    let (printed, answer) = (Rc::new(RefCell::new(String::new())), answer_with("x-odd:  a \r\n"));
    let mut line = dialled(&Opening::default());
    let copy = printed.clone();
    line.program = Some(Box::new(move |_, event| {
        if let crate::protocols::Event::Opened(response) = event {
            *copy.borrow_mut() = response.to_string();
        }
    }));
    line.feed(answer.as_bytes());
    assert_eq!(*printed.borrow(), answer);
}

#[test]
fn a_frame_in_the_same_segment_as_the_101_is_delivered() {
    let answer = [answer_with("").as_bytes(), b"\x81\x05hello\x82\x01x"].concat();
    let line = answered(&Opening::default(), &answer);
    assert_eq!(line.seen, [Seen::Opened(101), Seen::text("hello"), Seen::binary(b"x")]);
}

#[test]
fn what_was_sent_before_leaves_behind_the_handshake_in_order() {
    let mut line = dialled(&Opening::default());
    line.out.clear();
    line.send("one");
    line.send("two");
    assert!(line.out.is_empty());
    line.program = Some(Box::new(|_, _| {}));
    line.feed(answer_with("").as_bytes());
    line.send("three");
    let sent = sent(crate::protocols::websocket::frame::Role::Client, &line.out);
    let texts: Vec<&[u8]> = sent.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(texts, [b"one" as &[u8], b"two", b"three"]);
}

#[test]
fn a_subprotocol_that_was_asked_for_may_be_chosen_or_none() {
    for lines in ["", "Sec-WebSocket-Protocol: superchat\r\n"] {
        let line = answered(&asking_for("chat, superchat"), answer_with(lines).as_bytes());
        assert_eq!(line.seen, [Seen::Opened(101)]);
    }
}

// ------------------------------------------------------------------ a wrong 101

#[test]
fn a_101_is_checked_in_full() {
    let right = answer_with("");
    let extra = |line: &str| answer_with(&format!("{line}\r\n"));
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}");
    for (answer, says) in [
        (right.replace("HTTP/1.1", "HTTP/1.0"), "HTTP/1.0"),
        (right.replace("Upgrade: websocket\r\n", ""), "no Upgrade header"),
        (right.replace("Upgrade: websocket", "Upgrade: h2c"), "\"h2c\""),
        (extra("Upgrade: websocket"), "two Upgrade headers"),
        (right.replace("Connection: Upgrade\r\n", ""), "no Connection: Upgrade"),
        (right.replace("Connection: Upgrade", "Connection: close"), "no Connection: Upgrade"),
        (right.replace(&accept, "X: y"), "no Sec-WebSocket-Accept"),
        (right.replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "does not belong to our key"),
        (right.replace(ACCEPT, &ACCEPT.to_lowercase()), "does not belong to our key"),
        (extra(&accept), "two Sec-WebSocket-Accept"),
        (extra("Sec-WebSocket-Extensions: permessage-deflate"), "nobody asked for: permessage"),
        (extra("Sec-WebSocket-Protocol: chat"), "\"chat\", which was not asked for"),
    ] {
        let (text, refusal) = failure(&answer);
        assert!(text.contains(says), "{text}");
        assert_eq!(refusal, Some((101, vec![])), "{text}");
    }
}

#[test]
fn a_subprotocol_must_be_one_of_those_asked_for_and_only_one() {
    for lines in [
        "Sec-WebSocket-Protocol: other\r\n",
        "Sec-WebSocket-Protocol: CHAT\r\n",
        "Sec-WebSocket-Protocol: chat, superchat\r\n",
        "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: superchat\r\n",
        "Sec-WebSocket-Protocol: \r\n",
    ] {
        let line = answered(&asking_for("chat,superchat"), answer_with(lines).as_bytes());
        assert!(
            line.violation().contains("Sec-WebSocket-Protocol")
                || line.violation().contains("subprotocol")
        );
    }
}

#[test]
fn a_200_with_a_right_accept_is_a_refusal_all_the_same() {
    let answer = answer_with("Content-Length: 0\r\n").replace("101 Switching Protocols", "200 OK");
    let (text, refusal) = failure(&answer);
    assert!(text.starts_with("the server answered 200 OK: "), "{text}");
    assert_eq!(refusal, Some((200, vec![])));
}

// ------------------------------------------------------------------ refusals

#[test]
fn a_refusal_says_what_was_wrong_and_how_to_mend_it() {
    for (head, says) in [
        (
            "301 Moved Permanently\r\nLocation: wss://b.test/x",
            "the server answered 301 Moved Permanently to wss://b.test/x: redirects are \
             not followed, connect to that address",
        ),
        ("401 Unauthorized", "credentials"),
        ("403 Forbidden", "Origin"),
        ("404 Not Found", "check the address"),
        ("426 Upgrade Required", "version"),
        ("503 Busy\r\nRetry-After: 7", "reconnect later (Retry-After: 7)"),
        ("500", "the server answered 500: it failed"),
        ("302 Found", "begins with 101"),
        ("418 Teapot", "begins with 101"),
    ] {
        let (text, _) = failure(&format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n"));
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn the_body_of_a_refusal_is_kept_by_its_length() {
    let (_, refusal) = failure("HTTP/1.1 403 No\r\nContent-Length: 11\r\n\r\nhello worldand more");
    assert_eq!(refusal, Some((403, b"hello world".to_vec())));
}

#[test]
fn the_body_of_a_refusal_is_kept_by_its_chunks() {
    let answer = "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n1;name=value\r\n \r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
    assert_eq!(failure(answer).1, Some((403, b"hello 0123456789".to_vec())));
    let broken = "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX";
    assert_eq!(failure(broken).1, Some((403, b"hello".to_vec())));
    let endless = "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx";
    let mut line = answered(&Opening::default(), endless.as_bytes());
    assert!(line.seen.is_empty());
    line.eof();
    assert!(matches!(
        &line.seen[..],
        [Seen::Violation { refusal: Some((403, body)), .. }] if body == b"x"
    ));
}

#[test]
fn the_body_of_a_refusal_ends_with_the_connection() {
    for header in
        ["", "Content-Length: 100\r\n", "Content-Length: x\r\n", "Transfer-Encoding: gzip\r\n"]
    {
        let answer = format!("HTTP/1.1 404 No\r\n{header}\r\npartly here");
        let mut line = answered(&Opening::default(), answer.as_bytes());
        assert!(line.seen.is_empty(), "the rest may come");
        line.eof();
        let Some(Seen::Violation { text, refusal, .. }) = line.seen.pop() else {
            panic!("{line:?}")
        };
        assert!(text.contains("404 No"), "{text}");
        assert_eq!(refusal, Some((404, b"partly here".to_vec())));
    }
}

#[test]
fn the_body_of_a_refusal_is_kept_up_to_64_kib() {
    let body = "x".repeat(BODY_MOST + 10);
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (header, body) in [
        ("Content-Length: 65546\r\n", &body),
        ("", &body),
        ("Transfer-Encoding: chunked\r\n", &chunked),
    ] {
        let mut line = dialled(&Opening::default());
        let answer = format!("HTTP/1.1 502 No\r\n{header}\r\n{body}");
        answer.as_bytes().chunks(1460).for_each(|piece| line.feed(piece));
        let Some(Seen::Violation { refusal: Some((502, kept)), .. }) = line.seen.pop() else {
            panic!("{line:?}")
        };
        assert_eq!(kept.len(), BODY_MOST);
    }
}

#[test]
fn statuses_that_have_no_body_fail_with_their_head() {
    for status in [100, 103, 204, 304] {
        let (text, refusal) = failure(&format!("HTTP/1.1 {status} X\r\nContent-Length: 9\r\n\r\n"));
        assert!(text.contains(&status.to_string()), "{text}");
        assert_eq!(refusal, Some((status, vec![])));
    }
}

// ------------------------------------------------------------------ no answer, or no HTTP

#[test]
fn a_server_that_closes_early_is_told_apart() {
    let mut silent = dialled(&Opening::default());
    silent.eof();
    assert!(silent.violation().contains("before its answer"), "{silent:?}");
    for part in ["H", "HTTP/1.1 101 Sw", &answer_with("")[..60]] {
        let mut line = answered(&Opening::default(), part.as_bytes());
        line.eof();
        assert!(line.violation().contains("inside its answer"), "{line:?}");
    }
}

#[test]
fn what_is_not_http_is_refused_at_once() {
    for garbage in ["SSH-2.0-OpenSSH\r\n", "HTTP/2", "\0", "220 smtp.test ESMTP\r\n", "HTTP/1,"] {
        let (text, refusal) = failure(garbage);
        assert!(text.contains("not HTTP/1.1"), "{text}");
        assert_eq!(refusal, None);
    }
    let mut line = dialled(&Opening::default());
    line.feed(b"S");
    assert!(line.ended, "at its first byte");
    let (text, _) = failure("\x15\x03\x01\0\x02\x02\x46");
    assert!(text.contains("wss://"), "{text}");
}

#[test]
fn a_head_outside_the_grammar_is_refused() {
    for (from, to) in [
        ("Upgrade: websocket\r\n", "Upgrade: websocket\n"),
        ("Upgrade: websocket\r\n", "Upgrade : websocket\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\r\n folded\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: web\0socket\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade websocket\r\n"),
        ("HTTP/1.1 101", "HTTP/1.1 1O1"),
    ] {
        let (text, _) = failure(&answer_with("").replacen(from, to, 1));
        assert!(text.contains("no right HTTP"), "{text}");
    }
}

#[test]
fn the_answers_head_has_limits() {
    let (text, _) = failure(&answer_with(&format!("X: {}\r\n", "x".repeat(17 << 10))));
    assert!(text.contains("16384 bytes (Limits::head_bytes)"), "{text}");
    let (text, _) = failure(&answer_with(&"X: y\r\n".repeat(98)));
    assert!(text.contains("more than 100 headers (Limits::headers)"), "{text}");
    let fits = answer_with(&"X: y\r\n".repeat(97));
    assert_eq!(answered(&Opening::default(), fits.as_bytes()).seen, [Seen::Opened(101)]);
}

#[test]
fn a_damaged_answer_never_panics() {
    for seed in 0..crate::protocols::testing::rounds(3000) {
        let mut dice = crate::protocols::testing::Dice::new(seed);
        let mut answer = answer_with("Content-Length: 5\r\n").into_bytes();
        if seed % 2 == 0 {
            answer =
                b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n".to_vec();
        }
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(answer.len());
            answer[at] = dice.next() as u8;
        }
        answered(&Opening::default(), &answer).eof();
    }
}
