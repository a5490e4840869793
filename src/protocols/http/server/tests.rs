//! A client's bytes in, the server's bytes out; whole, byte by byte, in pieces of any length.
use super::testing::{Line, hello, outcome};
use super::*;
use crate::Limits;
use crate::{Chunk, Response, ServerSentEvent};

mod answers;
mod refusals;

fn silent(_: &Request) -> Vec<Reply<'static>> {
    Vec::new()
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: text/html;charset=utf-8\r\n";

const REQUESTS: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n\
    POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\r\n\
    POST /c HTTP/1.1\r\nHost: h\r\nX: \xe9\r\nTransfer-Encoding: chunked\r\n\r\n\
    3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: x\r\n\r\n\
    PUT /d HTTP/1.1\r\nHost: h\r\nX: \xe9\r\nContent-Length: 2\r\n\r\n\r\n\
    GET /e?x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n";

const HEARD: [&str; 5] =
    ["GET /a []", "POST /b [hello]", "POST /c [abcde]", "PUT /d [\r\n]", "GET /e?x []"];

fn in_pieces_of(mut length: impl FnMut() -> usize) {
    let mut line = Line::new(hello);
    let mut rest = REQUESTS;
    while !rest.is_empty() && !line.closed {
        let (piece, behind) = rest.split_at(length().clamp(1, rest.len()));
        line.feed(piece);
        rest = behind;
    }
    assert_eq!(line.heard, HEARD);
    let kept = format!("{HEAD}Content-Length: 2\r\n\r\nhi").repeat(4);
    let last = format!("{HEAD}Connection: close\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(line.text(), kept + &last);
    assert!(line.closed && line.status.is_none());
}

#[test]
fn requests_are_the_same_whole_byte_by_byte_and_in_pieces() {
    for length in (1..60).chain([REQUESTS.len()]) {
        in_pieces_of(|| length);
    }
}

#[test]
fn requests_are_the_same_in_random_pieces() {
    let mut seed = 0x2545_f491_u32;
    for _ in 0..300 {
        in_pieces_of(|| {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            1 + (seed % 40) as usize
        });
    }
}

#[test]
fn the_next_request_waits_for_the_answer_to_this_one() {
    let mut line = Line::new(silent);
    line.feed(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    line.feed(b"GET /c HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(line.heard, ["GET /a []"]);
    line.send("one").expect("an answer");
    assert_eq!(line.heard.len(), 2);
    line.send("two").expect("an answer");
    line.send("three").expect("an answer");
    assert!(line.send("four").is_err(), "nobody asked");
    assert_eq!(line.heard, ["GET /a []", "GET /b []", "GET /c []"]);
    let text = line.text();
    assert!(text.find("one") < text.find("two") && text.find("two") < text.find("three"));
}

#[test]
fn what_waits_behind_an_answer_is_not_judged_yet() {
    let mut line = Line::new(silent);
    line.limits = Limits::new().message_bytes(50).head_bytes(50);
    line.feed(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    // How much may wait is the engine's to say: it reads no further.
    assert_eq!(line.call(|http, _, cx| http.input(&mut [b'x'; 101], cx)), Ok(Input::Partial));
}

#[test]
fn one_empty_line_before_a_request_is_passed_over() {
    let mut line = Line::new(hello);
    line.feed(b"\r");
    line.feed(b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(line.heard.len(), 2);
    line.feed(b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((line.heard.len(), line.status), (2, Some(400)));
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let mut line = Line::new(hello);
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    line.feed(head);
    assert_eq!(line.text(), "HTTP/1.1 100 Continue\r\n\r\n");
    line.feed(b"a");
    line.feed(b"bcd");
    assert_eq!(line.heard, ["POST / [abcd]"]);
    assert_eq!(line.text().matches("100 Continue").count(), 1);
    // One whose body is here already did not wait.
    line.out.clear();
    line.feed(&[&head[..], b"abcd"].concat());
    assert!(!line.text().contains("100 Continue"));
    let chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
        Expect: 100-continue\r\n\r\n";
    line.out.clear();
    line.feed(chunked);
    assert_eq!(line.text(), "HTTP/1.1 100 Continue\r\n\r\n");
    line.feed(b"1\r\nx\r\n0\r\n\r\n");
    assert_eq!(line.heard.last().map(String::as_str), Some("POST / [x]"));
}

#[test]
fn the_version_and_the_clients_wish_decide_whether_the_connection_is_kept() {
    for (request, closes, says) in [
        ("GET / HTTP/1.0\r\n\r\n", true, Some("Connection: close\r\n")),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            false,
            Some("Connection: keep-alive\r\n"),
        ),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", true, Some("close\r\n")),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", false, None),
    ] {
        let mut line = Line::new(hello);
        line.feed(request.as_bytes());
        assert_eq!(line.closed, closes, "{request}");
        match says {
            Some(says) => assert!(line.text().contains(says), "{}", line.text()),
            None => assert!(!line.text().contains("Connection:"), "{}", line.text()),
        }
    }
}

#[test]
fn a_form_gives_its_fields_and_its_files() {
    fn program(request: &Request) -> Vec<Reply<'static>> {
        let file = request.file("f").expect("a file");
        assert_eq!(request.post("a").as_deref(), Some("1 & é"));
        assert_eq!(request.post_all().len(), 1);
        assert_eq!((file.name(), file.file_name(), file.size()), ("f", "x.bin", 4));
        assert_eq!(file.content_type(), "application/octet-stream");
        assert_eq!(request.files().len(), 1);
        vec![String::from_utf8_lossy(file.bytes().expect("in memory")).into_owned().into()]
    }
    let body = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1 & é\r\n--B\r\n\
        Content-Disposition: form-data; name=\"f\"; filename=\"x.bin\"\r\n\
        Content-Type: application/octet-stream\r\n\r\nABCD\r\n--B--\r\n";
    let head = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=B\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut line = Line::new(program);
    line.limits = Limits::new();
    line.feed(head.as_bytes());
    line.feed(body.as_bytes());
    assert!(line.text().ends_with("ABCD"), "{}", line.text());
}

#[test]
fn a_form_above_the_memory_limit_leaves_its_files_on_disk() {
    fn program(request: &Request) -> Vec<Reply<'static>> {
        let file = request.file("f").expect("a file");
        assert_eq!(request.post("a").as_deref(), Some("1"));
        assert_eq!((file.size(), file.bytes(), request.body().len()), (500, None, 0));
        let content = std::fs::read(file.path().expect("on disk")).expect("a file");
        assert_eq!(content, [b'x'; 500]);
        vec![file.path().expect("on disk").display().to_string().into()]
    }
    let body = format!(
        "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\n\
         Content-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n{}\r\n--B--\r\n",
        "x".repeat(500)
    );
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let kind = "Content-Type: multipart/form-data; boundary=B";
    let counted = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{chunk}");
    for framed in [counted, chunked] {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{kind}\r\n{framed}");
        let mut line = Line::new(program);
        for piece in request.as_bytes().chunks(7) {
            line.feed(piece);
        }
        let text = line.text();
        let path = text.rsplit("\r\n").next().expect("a path").to_owned();
        assert!(std::path::Path::new(&path).exists(), "until the next request: {text}");
        line.program = hello;
        line.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(!std::path::Path::new(&path).exists());
    }
}

#[test]
fn a_urlencoded_form_and_json_are_read() {
    fn program(request: &Request) -> Vec<Reply<'static>> {
        match request.post("name") {
            Some(name) => vec![name.into_owned().into()],
            None => vec![request.raw_body().to_owned().into()],
        }
    }
    let mut line = Line::new(program);
    line.feed(
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\n\
          Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n\r\n\
          x=1&name=J%C3%BC+Z",
    );
    assert!(line.text().ends_with("J\u{fc} Z"), "{}", line.text());
    line.feed(
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\
          Content-Type: application/json\r\n\r\n{\"name\":1}",
    );
    assert!(line.text().ends_with("{\"name\":1}"), "{}", line.text());
}

#[test]
fn deadlines_follow_the_phase() {
    let mut line = Line::new(hello);
    line.limits = Limits::new().opening(0.0).http_idle(0.0).body_idle(0.0);
    line.call(|http, _, cx| http.on_connect(cx));
    assert_eq!(line.call(|http, _, cx| http.on_timer(cx)), Ok(()));
    assert!(line.closed && line.out.is_empty(), "nothing came: nothing is said");

    let mut line = Line::new(hello);
    line.feed(b"GET / HT");
    assert_eq!(line.call(|http, _, cx| http.on_timer(cx)), Ok(()), "too early");
    line.limits = Limits::new().opening(0.0);
    let late = line.call(|http, _, cx| http.on_timer(cx)).expect_err("half a head");
    assert_eq!(late.close_code(), Some(408));
    assert!(line.text().starts_with("HTTP/1.1 408 Request Timeout\r\n"));

    let mut line = Line::new(hello);
    line.feed(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    line.limits = Limits::new().body_idle(0.0);
    let late = line.call(|http, _, cx| http.on_timer(cx)).expect_err("half a body");
    assert_eq!(late.close_code(), Some(408));

    let mut line = Line::new(hello);
    line.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    line.out.clear();
    line.limits = Limits::new().http_idle(0.0);
    assert_eq!(line.call(|http, _, cx| http.on_timer(cx)), Ok(()));
    assert!(line.closed && line.out.is_empty());

    let mut line = Line::new(silent);
    line.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    line.limits = Limits::new().opening(0.0).http_idle(0.0).body_idle(0.0);
    assert_eq!(line.call(|http, _, cx| http.on_timer(cx)), Ok(()));
    assert!(!line.closed, "the program may take its time");
}

#[test]
fn a_farewell_says_what_became_of_the_request() {
    for (farewell, expected) in [
        (Farewell::CallbackFailed, "HTTP/1.1 500 Internal Server Error\r\n"),
        (Farewell::Stopping, "HTTP/1.1 503 Service Unavailable\r\n"),
        (Farewell::Asked, ""),
    ] {
        let mut line = Line::new(silent);
        line.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(!line.call_for(farewell, |http, out, cx| http.on_closing(out, cx)));
        assert!(line.text().starts_with(expected), "{farewell:?}: {}", line.text());
        assert_eq!(line.out.is_empty(), expected.is_empty());
    }
    let mut line = Line::new(hello);
    line.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    line.out.clear();
    line.call_for(Farewell::CallbackFailed, |http, out, cx| http.on_closing(out, cx));
    assert!(line.out.is_empty(), "it was answered already");
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Http>() <= 248, "{} bytes", size_of::<Http>());
}

#[test]
fn bytes_that_nobody_meant_are_judged_the_same_however_they_were_cut() {
    const ODD: &[u8] = b"\r\n\t :;,/?#0123456789abcxyzAGHT\0\x7f\xe9";
    let mut seed = 0x9e37_79b9_u32;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed as usize % below
    };
    let mut refused = 0;
    for _ in 0..3000 {
        let mut bytes = REQUESTS.to_vec();
        for _ in 0..=random(3) {
            let (at, odd) = (random(bytes.len()), ODD[random(ODD.len())]);
            match random(3) {
                0 => bytes[at] = odd,
                1 => bytes.insert(at, odd),
                _ => drop(bytes.remove(at)),
            }
        }
        let whole = outcome(&bytes, bytes.len());
        refused += usize::from(whole.1.is_some());
        for cut in [1, 2, 7, 1 + random(50)] {
            let shown = String::from_utf8_lossy(&bytes);
            assert_eq!(outcome(&bytes, cut), whole, "in pieces of {cut}: {shown:?}");
        }
    }
    assert!(refused > 500, "only {refused} were refused");
}
