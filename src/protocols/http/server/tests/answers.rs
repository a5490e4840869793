//! What goes over the wire for what a program sends.
use super::*;
use crate::{Cookie, Payload};
use std::path::PathBuf;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n";
const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

/// The answer to one request.
fn answer<'m>(request: &[u8], reply: impl Into<Reply<'m>>) -> String {
    let mut line = Line::new(silent);
    line.feed(request);
    line.send(reply).expect("a reply");
    line.drain();
    line.text()
}

fn fault(reply: impl Into<Reply<'static>>) -> String {
    let mut line = Line::new(silent);
    line.feed(GET);
    let before = line.out.len();
    let fault = line.send(reply).expect_err("no reply").to_string();
    line.out.truncate(before);
    line.send("still waits").expect("the request is not answered");
    fault
}

fn chunked() -> Response {
    Response::new(200).with_header("Transfer-Encoding", "chunked")
}

#[test]
fn bytes_are_bytes_and_text_is_html() {
    assert!(answer(GET, "x").contains("Content-Type: text/html;charset=utf-8\r\n"));
    let bytes = answer(GET, &[1_u8, 2]);
    assert!(bytes.contains("Content-Type: application/octet-stream\r\nContent-Length: 2\r\n"));
    assert!(answer(GET, 42).ends_with("Content-Length: 2\r\n\r\n42"));
    assert!(answer(GET, Payload::text("p")).ends_with("\r\n\r\np"));
}

#[test]
fn a_response_has_its_headers_and_its_length() {
    let response = Response::new(404).with_header("X-A", 1).with_body("gone");
    assert_eq!(
        answer(GET, response),
        format!(
            "HTTP/1.1 404 Not Found\r\nX-A: 1\r\n{DATE}Content-Type: text/html;charset=utf-8\r\n\
             Content-Length: 4\r\n\r\ngone"
        )
    );
    let cookie = Response::new(200).with_cookie(Cookie::new("a", "b").path("/"));
    assert!(answer(GET, cookie).contains("\r\nSet-Cookie: a=b; Path=/\r\n"));
    let dated = Response::from("x").with_header("Date", "mine").with_header("content-type", "a/b");
    let dated = answer(GET, dated);
    assert_eq!((dated.matches("Date:").count(), dated.matches("ontent-t").count()), (1, 1));
    let redirect = answer(GET, Response::redirect("/x"));
    assert!(redirect.starts_with("HTTP/1.1 302 Found\r\nLocation: /x\r\n"), "{redirect}");
    assert!(redirect.ends_with("Content-Length: 0\r\n\r\n"), "{redirect}");
}

#[test]
fn a_head_request_gets_the_length_and_no_body() {
    assert!(answer(HEAD, "hello").ends_with("Content-Length: 5\r\n\r\n"));
    assert!(answer(HEAD, Response::from("hello")).ends_with("Content-Length: 5\r\n\r\n"));
    let large = Response::new(200).with_body(vec![b'x'; 100_000]);
    assert!(answer(HEAD, large).ends_with("Content-Length: 100000\r\n\r\n"));
    let stated = answer(HEAD, Response::new(200).with_header("Content-Length", 7));
    assert!(stated.contains("Content-Length: 7\r\n") && !stated.contains("Length: 0"), "{stated}");
}

#[test]
fn statuses_without_a_body_have_none() {
    for status in [204, 304] {
        let text = answer(GET, Response::new(status));
        assert!(text.ends_with(&format!("{DATE}\r\n")), "{text}");
        assert!(fault(Response::new(status).with_body("x")).contains("no body"));
    }
}

#[test]
fn what_cannot_be_sent_is_a_fault_and_the_request_still_waits() {
    assert!(fault(Response::new(200).with_header("X", "a\r\nY: b")).contains("\"X\""));
    assert!(fault(Response::new(200).cookie("a", "b;c")).contains("cookie"));
    assert!(fault(Response::new(101)).contains("upgrade_with"));
    assert!(fault(Response::new(99)).contains("99"));
    assert!(fault(Response::new(600)).contains("600"));
    assert!(fault(Response::from("abc").with_header("Content-Length", 4)).contains("Length"));
    assert!(fault(Response::from("abc").with_header("Content-Length", "3, 3")).contains("Length"));
    assert!(fault(Response::from("abc").with_header("Transfer-Encoding", "gzip")).contains("gzip"));
    assert!(fault(Chunk::new("x")).contains("begins"));
    assert!(fault(ServerSentEvent::new("x")).contains("begins"));
}

#[test]
fn an_interim_response_leaves_the_request_unanswered() {
    let mut line = Line::new(silent);
    line.feed(GET);
    line.send(Response::new(103).with_header("Link", "</a.css>")).expect("a hint");
    line.send("x").expect("the answer");
    assert!(
        line.text().starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 2")
    );
    let mut old = Line::new(silent);
    old.feed(b"GET / HTTP/1.0\r\n\r\n");
    old.send(Response::new(103)).expect("nothing");
    assert!(old.out.is_empty(), "it would not understand");
}

#[test]
fn a_program_may_end_the_connection_with_its_response() {
    let mut line = Line::new(silent);
    line.feed(GET);
    line.send(Response::from("bye").with_header("Connection", "close")).expect("a reply");
    assert!(line.closed);
    assert_eq!(line.text().matches("Connection: close\r\n").count(), 1);
}

#[test]
fn a_body_in_pieces_is_chunked_and_the_next_request_waits_for_its_end() {
    let mut line = Line::new(silent);
    line.feed(&[GET, GET].concat());
    line.send(chunked().with_body("one")).expect("a head");
    assert!(line.send("no").is_err());
    line.send(Chunk::new("0123456789abcdef")).expect("a piece");
    assert_eq!(line.heard.len(), 1);
    line.send(Chunk::end()).expect("the end");
    assert_eq!(line.heard.len(), 2);
    let text = line.text();
    assert_eq!(text.matches("Transfer-Encoding: chunked\r\n").count(), 1);
    assert!(!text.contains("Content-Length"), "{text}");
    assert!(text.ends_with("\r\n\r\n3\r\none\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"), "{text}");
}

#[test]
fn an_old_client_gets_its_pieces_bare_until_the_connection_ends() {
    let mut line = Line::new(silent);
    line.feed(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    line.send(chunked()).expect("a head");
    line.send(Chunk::new("one")).expect("a piece");
    line.send(Chunk::new("two")).expect("a piece");
    assert!(!line.closed);
    line.send(Chunk::new("")).expect("the end");
    assert!(line.closed);
    let text = line.text();
    assert!(!text.contains("Transfer-Encoding") && text.contains("Connection: close"), "{text}");
    assert!(text.ends_with("\r\n\r\nonetwo"), "{text}");
}

#[test]
fn a_head_request_hears_nothing_of_the_pieces() {
    let mut line = Line::new(silent);
    line.feed(HEAD);
    line.send(chunked()).expect("a head");
    line.send(Chunk::new("one")).expect("a piece");
    line.send(Chunk::end()).expect("the end");
    assert!(line.text().ends_with("Transfer-Encoding: chunked\r\n\r\n"), "{}", line.text());
    line.feed(GET);
    assert_eq!(line.heard.len(), 2);
}

#[test]
fn events_are_a_stream_that_close_ends() {
    let mut line = Line::new(silent);
    line.feed(GET);
    line.send(Response::new(200).with_header("Content-Type", "text/event-stream")).expect("a head");
    line.send(ServerSentEvent::new("x").event("a")).expect("an event");
    assert!(line.send(ServerSentEvent::new("x").event("a\nb")).is_err());
    line.call(|http, out, cx| http.on_closing(out, cx));
    let text = line.text();
    assert!(text.ends_with("\r\n\r\n12\r\nevent: a\ndata: x\n\n\r\n0\r\n\r\n"), "{text}");
}

/// A file of this content that goes with the test.
struct Scrap(PathBuf);

impl Scrap {
    fn new(name: &str, content: &[u8]) -> Self {
        let name = format!("workerman-http-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).expect("a temporary file");
        Scrap(path)
    }

    fn response(&self) -> Response {
        Response::new(200).with_file(&self.0)
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_is_sent_with_its_kind_and_its_validators() {
    let file = Scrap::new("kind.css", b"p {}");
    let text = answer(GET, file.response());
    for line in
        ["Content-Type: text/css;charset=utf-8", "Accept-Ranges: bytes", "ETag: \"", "Last-"]
    {
        assert!(text.contains(&format!("\r\n{line}")), "{line}: {text}");
    }
    assert!(text.ends_with("Content-Length: 4\r\n\r\np {}"), "{text}");
    let head = answer(HEAD, file.response());
    assert!(head.ends_with("Content-Length: 4\r\n\r\n"), "{head}");
    let created = answer(GET, file.response().with_status(201).with_header("ETag", "\"x\""));
    assert!(created.starts_with("HTTP/1.1 201 Created\r\nETag: \"x\"\r\n"), "{created}");
    let empty = Scrap::new("empty.txt", b"");
    assert!(answer(GET, empty.response()).ends_with("Content-Length: 0\r\n\r\n"));
}

#[test]
fn a_file_is_answered_as_the_conditions_say() {
    let file = Scrap::new("conditions.txt", b"0123456789");
    let send = |more: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{more}\r\n");
        answer(request.as_bytes(), file.response())
    };
    let whole = send("");
    let tag = whole.split("ETag: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let tag = tag.expect("a tag");
    let part = send("Range: bytes=2-4\r\n");
    assert!(part.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{part}");
    assert!(part.contains("Content-Range: bytes 2-4/10\r\n"), "{part}");
    assert!(part.ends_with("Content-Length: 3\r\n\r\n234"), "{part}");
    let fresh = send(&format!("If-None-Match: {tag}\r\n"));
    assert!(fresh.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{fresh}");
    assert!(fresh.contains(tag) && fresh.ends_with("\r\n\r\n"), "{fresh}");
    let beyond = send("Range: bytes=10-\r\n");
    assert!(beyond.starts_with("HTTP/1.1 416 Range Not Satisfiable\r\n"), "{beyond}");
    assert!(beyond.contains("Content-Range: bytes */10\r\n"), "{beyond}");
    let failed = send("If-Match: \"x\"\r\n");
    assert!(failed.starts_with("HTTP/1.1 412 Precondition Failed\r\n"), "{failed}");
    let several = send("Range: bytes=0-1,3-4\r\n");
    assert!(several.starts_with("HTTP/1.1 200 OK\r\n") && several.ends_with("0123456789"));
}

#[test]
fn a_file_stands_in_place_of_a_body_also_where_it_is_not_sent() {
    let file = Scrap::new("place.txt", b"a file");
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\n\r\n";
    let text = answer(request, Response::from("a body").with_file(&file.0));
    assert!(text.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{text}");
    for status in [204, 304] {
        let fault = fault(Response::new(status).with_file(&file.0));
        assert!(fault.contains("has no body"), "{fault}");
    }
}

#[test]
fn the_length_of_a_file_is_its_own() {
    let empty = Scrap::new("empty.txt", b"");
    for request in [GET, HEAD] {
        let text = answer(request, empty.response().with_header("Content-Length", 5));
        assert!(text.ends_with("\r\nContent-Length: 0\r\n\r\n"), "{text}");
    }
}

#[test]
fn a_file_that_is_not_there_is_404() {
    for path in ["/nowhere/at/all", "/", "/dev/null", "a\0b"] {
        let text = answer(GET, Response::new(200).with_file(path));
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{path:?}: {text}");
    }
}

#[test]
fn a_large_file_goes_out_in_pieces_and_the_next_request_waits() {
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let file = Scrap::new("large.bin", &content);
    let mut line = Line::new(silent);
    line.feed(&[GET, GET].concat());
    line.send(file.response()).expect("a head");
    assert!(line.text().ends_with("Content-Length: 300000\r\n\r\n"));
    assert!(line.send("no").is_err());
    assert_eq!(line.heard.len(), 1);
    line.out.clear();
    line.call(|http, out, cx| http.on_writable(out, cx)).expect("a piece");
    assert_eq!(line.out.len(), 64 << 10);
    line.drain();
    assert_eq!(line.out, content);
    assert_eq!(line.heard.len(), 2);
}

#[test]
fn a_file_that_shrinks_breaks_the_connection_off() {
    let file = Scrap::new("shrinks.bin", &[7; 200_000]);
    let mut line = Line::new(silent);
    line.feed(GET);
    line.send(file.response()).expect("a head");
    std::fs::write(&file.0, b"short").expect("written");
    assert!(line.call(|http, out, cx| http.on_writable(out, cx)).is_err());
}

#[test]
fn a_large_body_is_lent_and_not_copied() {
    let mut line = Line::new(silent);
    line.feed(GET);
    let body = "x".repeat(100_000);
    let lent = line.call(|http, out, cx| http.encode_split(body.as_str().into(), out, cx));
    assert!(matches!(lent, Ok(Some(Cow::Borrowed(bytes))) if bytes.len() == 100_000));
    assert!(line.text().ends_with("Content-Length: 100000\r\n\r\n"));
}
