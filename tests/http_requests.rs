//! Promise: a request tells where it came from and what came behind its body, and an answer is the
//! part of a file that the program has chosen.
mod support;

use support::http::*;
use support::peers::start;
use workerman::prelude::*;

#[test]
fn a_request_knows_where_it_came_from_and_what_came_behind_its_body() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        assert_eq!(request.remote_addr(), con.remote_addr());
        assert!(request.remote_ip().is_some_and(|ip| ip.is_loopback()));
        con.send(format!(
            "{:?} {:?} {:?} {}",
            request.trailer("X-DIGEST"),
            request.trailer("x-none"),
            request.header("x-digest"),
            request.raw_body(),
        ))
    });
    let head =
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = talk(addr, format!("{head}3\r\nabc\r\n0\r\nX-Digest: 17\r\nY: z\r\n\r\n"));
    assert!(answer.ends_with("Some(\"17\") None None abc"), "{answer}");
    let many = "A: b\r\n".repeat(101);
    let answer = talk(addr, format!("{head}0\r\n{many}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn trailers_are_all_there_but_those_that_had_to_be_known_ahead_of_the_body() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        assert_eq!(request.trailer("authorization"), None);
        let trailers = request.trailers().map(|(name, value)| format!("{name}={value}"));
        let trailers = trailers.collect::<Vec<_>>().join(" ");
        con.send(format!("{trailers} | {} {:?}", request.host(), request.cookie("a")))
    });
    // They frame, route, authenticate, modify the request or say what the body is (RFC 9110 §6.5.1).
    let ahead = [
        "Transfer-Encoding: chunked",
        "content-length: 5",
        "Host: other",
        "Trailer: X-Sum",
        "TE: gzip",
        "Connection: keep-alive",
        "Upgrade: websocket",
        "Expect: 100-continue",
        "CONTENT-TYPE: text/html",
        "Content-Encoding: gzip",
        "Content-Range: bytes 0-1/2",
        "Authorization: Basic eDp5",
        "Cookie: a=b",
        "Set-Cookie: a=b",
        "Cache-Control: no-store",
        "X-Forwarded-For: 127.0.0.1",
    ];
    let lines = ahead.map(|line| format!("{line}\r\n")).concat();
    let head =
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let trailers = format!("X-Sum: 1\r\n{lines}x-sum: 2\r\nETag: \"e\"\r\n");
    let answer = talk(addr, format!("{head}3\r\nabc\r\n0\r\n{trailers}\r\n"));
    assert!(answer.ends_with("\r\n\r\nX-Sum=1 x-sum=2 ETag=\"e\" | h None"), "{answer}");
    // What is dropped counts against the limits all the same.
    let many = "Host: b\r\n".repeat(101);
    let answer = talk(addr, format!("{head}0\r\n{many}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn a_part_of_a_file_is_what_the_program_has_chosen() {
    let (worker, addr) = start::<Http>();
    let file = Scrap::new("part", 200_000);
    let path = file.0.clone();
    worker.on_message(move |con, request| {
        let response = |status| Response::new(status);
        con.send(match request.path() {
            "/206" => response(206).with_file_range(&path, 1000, 100_000),
            "/rest" => response(200).with_file_range(&path, 199_990, None),
            "/beyond" => response(206).with_file_range(&path, 199_990, 1000),
            _ => response(206).with_file_range(&path, 200_000, 1),
        })
    });
    for (path, range, head) in [
        ("/206", 1000..101_000, "Content-Range: bytes 1000-100999/200000\r\n"),
        ("/rest", 199_990..200_000, "Content-Length: 10\r\n"),
        ("/beyond", 199_990..200_000, "Content-Range: bytes 199990-199999/200000\r\n"),
    ] {
        // The client's own wish is not looked at.
        let answer = finish(client(addr, get(path, "Connection: close\r\nRange: bytes=0-0\r\n")));
        assert_eq!(body_of(&answer), &file.1[range], "{path}");
        assert!(String::from_utf8_lossy(&answer).contains(head), "{path}");
    }
    let answer = talk(addr, last("/behind"));
    assert!(answer.starts_with("HTTP/1.1 416 ") && answer.contains("bytes */200000"), "{answer}");
}
