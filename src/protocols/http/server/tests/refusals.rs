//! Whatever two readers could understand differently is refused, and the connection ends with it.
use super::*;

/// A request without its empty line, and the status that it ends in.
const HEADS: &[(u16, &str)] = &[
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5,5"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5 5"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5_0"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1e3"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: "),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: five"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 5"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length\t: 5"),
    (413, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001"),
    (413, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616"),
    (413, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999999"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked"),
    (400, "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked"),
    (501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked"),
    (501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked"),
    (501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity"),
    (501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked"),
    (501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\""),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;q=1"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\x0b"),
    (400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb"),
    (400, "GET / HTTP/1.1\r\n Host: h"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\nX: a\nb: c"),
    (400, "GET / HTTP/1.1\nHost: h"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\nX: \0"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\nX: \x7f"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\nno colon"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\n: no name"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\nX Y: z"),
    (400, "GET / HTTP/1.1\r\nHost: h\r\nX(: z"),
    (400, "GET / HTTP/1.1"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a"),
    (400, "GET / HTTP/1.1\r\nHost: "),
    (400, "GET / HTTP/1.1\r\nHost: a b"),
    (400, "GET / HTTP/1.1\r\nHost: a/b"),
    (400, "GET / HTTP/1.1\r\nHost: user@a"),
    (400, "GET http://other/ HTTP/1.1\r\nHost: h"),
    (400, "GET h HTTP/1.1\r\nHost: h"),
    (400, "GET * HTTP/1.1\r\nHost: h"),
    (400, "GET /#f HTTP/1.1\r\nHost: h"),
    (400, "GET /\u{e9} HTTP/1.1\r\nHost: h"),
    (400, "GET  / HTTP/1.1\r\nHost: h"),
    (400, "GET / HTTP/1.1 \r\nHost: h"),
    (400, "GET /a b HTTP/1.1\r\nHost: h"),
    (400, "GET / HTTP/2.0\r\nHost: h"),
    (400, "GET / HTTP/1.2\r\nHost: h"),
    (400, "GET / http/1.1\r\nHost: h"),
    (400, "GET / HTTP/01.1\r\nHost: h"),
    (400, "GET /\r\nHost: h"),
    (400, " GET / HTTP/1.1\r\nHost: h"),
    (400, "\0GET / HTTP/1.1\r\nHost: h"),
    (400, "\x16\x03\x01"),
    (400, "G@T / HTTP/1.1\r\nHost: h"),
    (501, "BREW / HTTP/1.1\r\nHost: h"),
    (501, "get / HTTP/1.1\r\nHost: h"),
    (501, "TRACE / HTTP/1.1\r\nHost: h"),
    (501, "CONNECT h:443 HTTP/1.1\r\nHost: h"),
    (417, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: cookies"),
];

#[track_caller]
fn assert_refused(status: u16, request: &[u8], cut: usize) {
    let mut line = Line::new(hello);
    for piece in request.chunks(cut) {
        line.feed(piece);
    }
    let shown = String::from_utf8_lossy(request);
    assert_eq!(line.status, Some(status), "{shown:?}: {}", line.text());
    assert!(line.heard.is_empty(), "{shown:?} was delivered");
    let answer = line.text();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[test]
fn a_head_that_smuggles_ends_in_its_status_and_a_closed_connection() {
    for (status, request) in HEADS {
        let whole = format!("{request}\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
        for cut in [whole.len(), 1, 3] {
            assert_refused(*status, whole.as_bytes(), cut);
        }
    }
}

#[test]
fn a_body_that_smuggles_ends_in_its_status_and_a_closed_connection() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (status, body) in [
        (400, "5\nhello\r\n0\r\n\r\n"),
        (400, "5\r\nhelloX\r\n0\r\n\r\n"),
        (400, "5\r\nhello\n0\r\n\r\n"),
        (400, "+5\r\nhello\r\n0\r\n\r\n"),
        (400, " 5\r\nhello\r\n0\r\n\r\n"),
        (400, "5 \r\nhello\r\n0\r\n\r\n"),
        (400, "0x5\r\nhello\r\n0\r\n\r\n"),
        (400, "-0\r\n\r\n"),
        (400, "\r\nhello"),
        (400, "5;\n\r\nhello\r\n0\r\n\r\n"),
        (400, "0\r\nContent-Length : 5\r\n\r\n"),
        (400, "0\r\n folded\r\n\r\n"),
        (413, "3e9\r\n"),
        (413, "ffffffffffffffff\r\n"),
        (413, "fffffffffffffffff\r\n"),
        (413, "00000000000000005\r\nhello\r\n0\r\n\r\n"),
    ] {
        let whole = format!("{head}{body}");
        for cut in [whole.len(), 1, 3] {
            assert_refused(status, whole.as_bytes(), cut);
        }
    }
}

#[test]
fn chunks_may_not_add_up_to_more_than_the_limit() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("64\r\n{}\r\n", "x".repeat(100));
    let whole = format!("{head}{}0\r\n\r\n", chunk.repeat(10));
    let mut line = Line::new(hello);
    line.feed(whole.as_bytes());
    assert_eq!((line.heard.len(), line.status), (1, None));
    assert_refused(413, format!("{head}{}1\r\n", chunk.repeat(10)).as_bytes(), 11);
}

#[test]
fn of_two_faults_the_first_is_told_however_the_bytes_were_cut() {
    // A chunk that is too long, and a form that is none in it.
    let stream = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: multipart/form-data; boundary=b\r\n\r\nabc\r\n\r\n--b?\r\n";
    for cut in 1..=stream.len() {
        assert_eq!(outcome(stream, cut).1, Some(413), "in pieces of {cut}");
    }
}

#[test]
fn heads_above_their_limits_are_431() {
    let mut line = Line::new(hello);
    line.limits = Limits::new().head_bytes(60);
    line.feed(format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(60)).as_bytes());
    assert_eq!(line.status, Some(431));
    let mut line = Line::new(hello);
    line.limits = Limits::new().headers(3);
    line.feed(b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nC: d\r\n\r\n");
    assert_eq!((line.heard.len(), line.status), (1, None));
    line.feed(b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nC: d\r\nE: f\r\n\r\n");
    assert_eq!(line.status, Some(431));
    let many = "A: b\r\n".repeat(99);
    let mut line = Line::new(hello);
    line.feed(format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n").as_bytes());
    assert_eq!((line.heard.len(), line.status), (1, None));
}

#[test]
fn a_refusal_comes_before_the_body_is_read() {
    let mut line = Line::new(hello);
    line.feed(
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(line.status, Some(413));
    assert!(!line.text().contains("100 Continue"));
}

#[test]
fn a_length_that_no_memory_holds_is_awaited_where_the_program_has_no_limit() {
    let mut line = Line::new(silent);
    line.limits = Limits::new().message_bytes(usize::MAX);
    line.feed(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551615\r\n\r\nabc");
    assert!(line.heard.is_empty() && line.status.is_none(), "{:?}", line.status);
}
