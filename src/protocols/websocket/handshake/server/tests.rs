//! Promises of the server's handshake.
use super::super::super::testing::*;
use super::super::super::{Origin, Websocket, frame::Role};
use super::*;
use crate::protocols::testing::{Line, Seen, each_way};

fn listening() -> Line<Websocket> {
    let mut line = Line::new(Websocket::default());
    line.connect();
    line
}

/// A server whose program does this in `on_websocket_connect`.
fn deciding(program: impl Fn(&mut Websocket) + Clone + 'static) -> impl Fn() -> Line<Websocket> {
    move || {
        let (mut line, program) = (listening(), program.clone());
        line.program = Some(Box::new(move |websocket, event| {
            if matches!(event, Event::Upgrade(_)) {
                program(websocket);
            }
        }));
        line
    }
}

fn with_line(line: &str) -> String {
    REQUEST.replacen("\r\n", &format!("\r\n{line}\r\n"), 1)
}

/// The refusal of this request, checked for what every refusal has; and the violation's text.
fn refusal_of(request: &[u8]) -> (Response, String) {
    let line = each_way(request, listening);
    let response = response(&line.out);
    assert_eq!(response.header("Connection"), Some("close"));
    assert!(response.header("Content-Type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert!((10..200).contains(&response.body().len()), "a short text");
    assert_eq!(line.violation_code(), Some(response.status()));
    assert_eq!(line.seen.len(), 1, "no event before");
    (response, line.violation().into())
}

fn status_of(request: &str) -> u16 {
    refusal_of(request.as_bytes()).0.status()
}

// ------------------------------------------------------------------ admitted

#[test]
fn a_right_request_is_answered_with_the_101_of_the_rfc() {
    let line = each_way(REQUEST.as_bytes(), listening);
    assert_eq!(line.seen, [Seen::Upgrade("/chat".into()), Seen::Upgraded]);
    assert_eq!(
        String::from_utf8_lossy(&line.out),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn tokens_are_found_in_lists_of_any_case() {
    let request = REQUEST
        .replace("Upgrade: websocket", "UPGRADE: h2c, WebSocket")
        .replace("Connection: Upgrade", "connection: keep-alive\r\nConnection: upgrade");
    assert_eq!(each_way(request.as_bytes(), listening).seen.len(), 2);
    let request = with_line("Content-Length: 0");
    assert_eq!(each_way(request.as_bytes(), listening).seen.len(), 2);
}

#[test]
fn subprotocols_and_extensions_are_not_chosen_by_themselves() {
    let request =
        with_line("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate");
    let line = each_way(request.as_bytes(), listening);
    let answer = String::from_utf8_lossy(&line.out);
    assert!(!answer.contains("Protocol:") && !answer.contains("Extensions"), "{answer}");
}

#[test]
fn what_comes_behind_the_request_are_the_next_packages() {
    let mut stream = REQUEST.as_bytes().to_vec();
    stream.extend(frames(Role::Server, &[(0x81, b"early"), (0x89, b"?")]));
    let line = each_way(&stream, listening);
    assert_eq!(line.seen[2..], [Seen::text("early")]);
    assert!(line.out.ends_with(b"\r\n\r\n\x8a\x01?"), "the 101 comes first");
}

#[test]
fn what_is_sent_before_the_101_leaves_behind_it() {
    let mut line = listening();
    line.send("early");
    assert!(line.out.is_empty());
    line.feed(REQUEST.as_bytes());
    assert!(line.out.starts_with(b"HTTP/1.1 101"));
    assert!(line.out.ends_with(b"\r\n\r\n\x81\x05early"));
}

// ------------------------------------------------------------------ what the program decides

#[test]
fn headers_of_the_program_become_lines_of_the_101() {
    let headers = [("Server", "workerman"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")];
    let line = each_way(
        REQUEST.as_bytes(),
        deciding(move |websocket| {
            websocket.set_headers([("X-Gone", "1")]).expect("headers");
            websocket.set_headers(headers).expect("headers");
            assert!(websocket.set_headers([("X", "a\r\nb")]).is_err(), "changes nothing");
        }),
    );
    let answer = String::from_utf8_lossy(&line.out).into_owned();
    let lines = "Server: workerman\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n";
    assert!(answer.ends_with(lines) && !answer.contains("X-Gone"), "{answer}");
}

#[test]
fn a_subprotocol_is_chosen_from_what_the_client_offers() {
    let request = with_line("Sec-WebSocket-Protocol: chat, superchat");
    let line = each_way(
        request.as_bytes(),
        deciding(|websocket| {
            let mut choose = |name: &str| websocket.set_headers([("Sec-WebSocket-Protocol", name)]);
            for wrong in ["other", "Chat", "chat, superchat", ""] {
                let error = choose(wrong).expect_err(wrong).to_string();
                assert!(error.contains("did not offer"), "{error}");
            }
            choose("superchat").expect("it was offered");
        }),
    );
    assert!(line.out.ends_with(b"\r\nSec-WebSocket-Protocol: superchat\r\n\r\n"), "{line:?}");
}

#[test]
fn headers_before_the_request_is_read_are_kept_but_no_subprotocol_can_be_chosen() {
    let mut line = listening();
    line.protocol.set_headers([("X", "early")]).expect("a header");
    assert!(line.protocol.set_headers([("sec-websocket-protocol", "chat")]).is_err());
    line.feed(REQUEST.as_bytes());
    assert!(String::from_utf8_lossy(&line.out).contains("\r\nX: early\r\n"));
    let late = line.protocol.set_headers([("X", "late")]).expect_err("too late").to_string();
    assert!(late.contains("on_websocket_connect"), "{late}");
}

#[test]
fn a_program_refuses_with_a_response_of_its_own() {
    let line = each_way(
        REQUEST.as_bytes(),
        deciding(|websocket| {
            let response = Response::new(401)
                .with_header("WWW-Authenticate", "Basic")
                .with_header("connection", "keep-alive")
                .with_body("who are you?");
            websocket.refuse(response).expect("a response");
        }),
    );
    assert_eq!(line.seen, [Seen::Upgrade("/chat".into()), Seen::CloseAsked]);
    assert_eq!(
        String::from_utf8_lossy(&line.out),
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nConnection: close\r\n\
         Content-Type: text/html;charset=utf-8\r\nContent-Length: 12\r\n\r\nwho are you?"
    );
}

#[test]
fn a_close_inside_the_callback_is_a_403_and_not_in_place_of_the_programs_own_refusal() {
    let denied = each_way(
        REQUEST.as_bytes(),
        deciding(|websocket| assert!(websocket.deny(Farewell::Asked))),
    );
    assert_eq!(denied.seen, [Seen::Upgrade("/chat".into()), Seen::CloseAsked]);
    assert_eq!(response(&denied.out).status(), 403);
    let own = each_way(
        REQUEST.as_bytes(),
        deciding(|websocket| {
            websocket.refuse(Response::new(404)).expect("a response");
            assert!(websocket.deny(Farewell::Asked));
        }),
    );
    assert_eq!(response(&own.out).status(), 404);
}

#[test]
fn a_refusal_without_a_body_has_no_length_where_http_wants_none() {
    let line = each_way(
        REQUEST.as_bytes(),
        deciding(|websocket| websocket.refuse(Response::new(204)).expect("a response")),
    );
    assert_eq!(line.out, b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
}

#[test]
fn a_response_that_cannot_be_sent_refuses_with_403_and_is_an_error() {
    for make in [
        (|| Response::new(101)) as fn() -> Response,
        || Response::new(700),
        || Response::new(403).with_header("X", "a\r\nb"),
        || Response::new(403).with_header("Content-Length", 5),
        || Response::new(403).with_header("Transfer-Encoding", "chunked"),
    ] {
        let program = move |websocket: &mut Websocket| assert!(websocket.refuse(make()).is_err());
        let line = each_way(REQUEST.as_bytes(), deciding(program));
        assert_eq!(response(&line.out).status(), 403);
        assert_eq!(line.seen.last(), Some(&Seen::CloseAsked));
    }
}

#[test]
fn before_and_after_the_callback_nothing_can_be_refused() {
    let mut line = listening();
    assert!(!line.protocol.deny(Farewell::Asked));
    assert!(line.protocol.refuse(Response::new(403)).is_err());
    line.feed(REQUEST.as_bytes());
    assert!(!line.protocol.deny(Farewell::Asked));
    assert!(line.protocol.refuse(Response::new(403)).is_err());
    assert_eq!(line.seen.last(), Some(&Seen::Upgraded));
}

#[test]
fn nothing_is_delivered_after_a_refusal() {
    let mut stream = REQUEST.as_bytes().to_vec();
    stream.extend(frames(Role::Server, &[(0x81, b"early")]));
    let mut line = deciding(|websocket| assert!(websocket.deny(Farewell::Asked)))();
    line.feed(&stream);
    line.ended = false;
    line.feed(&frames(Role::Server, &[(0x81, b"late")]));
    assert_eq!(line.seen, [Seen::Upgrade("/chat".into()), Seen::CloseAsked]);
    let said = line.out.len();
    assert!(!line.close() && line.out.len() == said, "no close frame where no session was");
}

// ------------------------------------------------------------------ requests that are refused

#[test]
fn another_method_than_get_is_405_with_allow() {
    for method in ["POST", "HEAD", "OPTIONS", "get"] {
        let (response, _) = refusal_of(REQUEST.replacen("GET", method, 1).as_bytes());
        assert_eq!((response.status(), response.header("Allow")), (405, Some("GET")));
    }
}

#[test]
fn another_version_of_websocket_is_426_with_ours() {
    for version in ["8", "12", "14", "013", "", "13, 8"] {
        let request = REQUEST.replace("Version: 13", &format!("Version: {version}"));
        let (response, _) = refusal_of(request.as_bytes());
        assert_eq!(response.status(), 426);
        assert_eq!(response.header("Sec-WebSocket-Version"), Some("13"));
    }
    assert_eq!(status_of(&REQUEST.replace("Sec-WebSocket-Version: 13\r\n", "")), 426);
    assert_eq!(status_of(&with_line("Sec-WebSocket-Version: 13")), 426, "twice");
}

#[test]
fn a_request_that_asks_for_no_upgrade_is_told_what_is_served_here() {
    for (from, to, status) in [
        ("Upgrade: websocket\r\n", "", 400),
        ("Upgrade: websocket", "Upgrade: h2c", 400),
        ("Connection: Upgrade\r\n", "", 400),
        ("Connection: Upgrade", "Connection: keep-alive", 400),
    ] {
        assert_eq!(status_of(&REQUEST.replacen(from, to, 1)), status, "{from:?} as {to:?}");
    }
    let (response, _) = refusal_of(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(response.status(), 400);
    assert!(String::from_utf8_lossy(response.body()).contains("WebSocket client"));
}

#[test]
fn the_key_must_be_sixteen_bytes_in_base64_once() {
    for key in [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZQ==",
        "dGhlIHNhbXBsZSBub25jZSE=",
        "not base64 at all!!!!!!",
    ] {
        let request = REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", key);
        assert_eq!(status_of(&request), 400, "{key:?}");
    }
    assert_eq!(
        status_of(&REQUEST.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")),
        400
    );
    assert_eq!(status_of(&with_line("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")), 400);
}

#[test]
fn a_request_with_a_body_is_400() {
    for line in [
        "Content-Length: 5",
        "Content-Length: +0",
        "Content-Length: 00",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
    ] {
        assert_eq!(status_of(&with_line(line)), 400, "{line}");
    }
}

#[test]
fn a_request_needs_http_1_1_one_host_and_a_path() {
    for (from, to) in [
        ("HTTP/1.1", "HTTP/1.0"),
        ("HTTP/1.1", "HTTP/2.0"),
        ("HTTP/1.1", "HTTP/1.1 "),
        ("Host: server.example.com\r\n", ""),
        ("Host: server.example.com", "Host: a\r\nHost: a"),
        ("Host: server.example.com", "Host: a b"),
        ("GET /chat", "GET http://server.example.com/chat"),
        ("GET /chat", "GET *"),
    ] {
        assert_eq!(status_of(&REQUEST.replacen(from, to, 1)), 400, "{to:?}");
    }
}

#[test]
fn what_smuggles_requests_is_400() {
    for (from, to) in [
        ("Host:", "Host :"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\r"),
        ("Upgrade: websocket\r\n", "Upgrade:\r\n websocket\r\n"),
        ("Upgrade: websocket", "Upgrade: web\0socket"),
        ("Upgrade: websocket", "Upgrade: websocket\x01"),
        ("Upgrade: websocket", "no colon"),
        ("GET", "\r\nGET"),
        ("GET", " GET"),
        ("GET", "\x01GET"),
        ("GET", "G\u{e9}T"),
    ] {
        assert_eq!(status_of(&REQUEST.replacen(from, to, 1)), 400, "{to:?}");
    }
}

#[test]
fn a_head_beyond_the_limits_is_431_and_no_more_of_it_is_kept() {
    let long = with_line(&format!("X: {}", "x".repeat(16 << 10)));
    let (response, text) = refusal_of(long.as_bytes());
    assert_eq!(response.status(), 431);
    assert!(text.contains("Limits::head_bytes"), "{text}");
    let many = with_line(&["X: y"; 2000].join("\r\n"));
    let (response, text) = refusal_of(many.as_bytes());
    assert_eq!(response.status(), 431);
    assert!(text.contains("Limits::headers"), "{text}");
    let mut line = listening();
    let taken = long.bytes().take_while(|byte| {
        line.feed(&[*byte]);
        !line.ended
    });
    assert_eq!(taken.count(), 16 << 10);
}

#[test]
fn a_client_that_speaks_tls_is_told_so() {
    let line = each_way(b"\x16\x03\x01\x02\0\x01\0", listening);
    assert!(line.violation().contains("TLS"), "{line:?}");
    assert_eq!(response(&line.out).status(), 400);
}

// ------------------------------------------------------------------ origins

fn from_page(origin: &str) -> String {
    with_line(&format!("Origin: {origin}"))
}

#[test]
fn pages_of_the_same_host_pass_and_others_are_403_with_the_remedy_in_the_log() {
    let own = from_page("https://server.example.com:8443");
    assert_eq!(each_way(own.as_bytes(), listening).seen.len(), 2);
    let (response, text) = refusal_of(from_page("https://evil.test").as_bytes());
    assert_eq!(response.status(), 403);
    assert!(text.contains("worker.allow_origin(\"https://evil.test\")"), "{text}");
    assert!(!String::from_utf8_lossy(response.body()).contains("allow_origin"));
    assert_eq!(status_of(&from_page("null")), 403);
    assert_eq!(status_of(&with_line("Origin: https://server.example.com\r\nOrigin: null")), 403);
}

#[test]
fn the_worker_says_whose_pages_may_connect() {
    let serving = |admission: &Rc<Admission>| {
        let admission = admission.clone();
        move || {
            let mut websocket = Websocket::default();
            websocket.admit_by(admission.clone());
            let mut line = Line::new(websocket);
            line.connect();
            line
        }
    };
    let allowed = vec![Origin::parse("https://page.test").expect("an origin")];
    let by_name = Rc::new(Admission { allowed, ..Admission::default() });
    let everyone = Rc::new(Admission { any: true, ..Admission::default() });
    let local = Rc::new(Admission { loopback_listener: true, ..Admission::default() });
    for (admission, origin, passes) in [
        (&by_name, "https://page.test", true),
        (&by_name, "https://other.test", false),
        (&everyone, "null", true),
        (&local, "http://server.example.com", false),
    ] {
        let line = each_way(from_page(origin).as_bytes(), serving(admission));
        assert_eq!(line.seen.last() == Some(&Seen::Upgraded), passes, "{origin}");
    }
    let rebound = each_way(REQUEST.as_bytes(), serving(&local));
    assert_eq!(rebound.seen.last(), Some(&Seen::Upgraded), "no browser, no rebinding");
}

// ------------------------------------------------------------------ from an HTTP server

#[test]
fn a_request_that_an_http_server_has_read_is_accepted_or_refused() {
    let right = RequestHead::parse(REQUEST.as_bytes()).expect("a head");
    let websocket = Websocket::accept(&right.request()).expect("a right request");
    let mut line = Line::new(websocket);
    line.connect();
    assert_eq!(line.seen, [Seen::Upgraded]);
    assert!(line.out.starts_with(b"HTTP/1.1 101 "));
    line.feed(&frames(Role::Server, &[(0x81, b"hello")]));
    assert_eq!(line.seen[1], Seen::text("hello"));
    for (line, status) in [("Origin: https://evil.test", 403), ("Content-Length: 1", 400)] {
        let wrong = RequestHead::parse(with_line(line).as_bytes()).expect("a head");
        let refusal = Websocket::accept(&wrong.request()).expect_err(line);
        assert_eq!(refusal.status(), status);
    }
}

#[test]
fn a_damaged_request_never_panics_and_is_answered_once() {
    for seed in 0..crate::protocols::testing::rounds(3000) {
        let mut dice = crate::protocols::testing::Dice::new(seed);
        let mut request = from_page("https://server.example.com").into_bytes();
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(request.len());
            request[at] = dice.next() as u8;
        }
        let mut line = each_way(&request, listening);
        line.eof();
        let answers = String::from_utf8_lossy(&line.out).matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{line:?}");
    }
}
