//! Promise: an http worker answers raw clients as RFC 9112 says, in order, and refuses the rest.
mod support;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::http::*;
use support::peers::{read_to_end, start};
use support::*;
use workerman::prelude::*;
use workerman::{Chunk, Cookie, Limits, ServerSentEvent};

#[test]
fn a_request_is_answered_and_the_connection_is_kept() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| con.send(format!("{} {}", request.method(), request.path())));
    let answer = talk(addr, get("/a", "") + &get("/b?x=1", "") + &last("/c"));
    let bodies: Vec<&str> = answer.split("\r\n\r\n").skip(1).collect();
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answer}");
    assert!(bodies[0].starts_with("GET /aHTTP") && bodies[2] == "GET /c", "{answer}");
}

#[test]
fn a_client_that_sends_byte_by_byte_is_answered() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| con.send(request.raw_body()));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let request = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
                       Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for byte in request.as_bytes() {
            stream.write_all(&[*byte]).expect("a byte");
        }
        read_to_end(&mut stream)
    });
    assert_eq!(body_of(&finish(client)), b"abc");
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| con.send(request.path()));
    let requests: String = (0..1000).map(|i| get(&format!("/{i}"), "")).collect();
    let answer = talk(addr, requests + &last("/end"));
    let mut from = 0;
    for i in 0..1000 {
        let at = answer[from..].find(&format!("\r\n\r\n/{i}HTTP/1.1")).expect("in order");
        from += at + 1;
    }
    assert!(answer.ends_with("/end"));
}

#[test]
fn an_answer_may_come_later_and_what_is_pipelined_waits_for_it() {
    let (worker, addr) = start::<Http>();
    let heard = Rc::new(RefCell::new(Vec::new()));
    let at = heard.clone();
    worker.on_message(move |con, request| {
        let path = request.path().to_owned();
        at.borrow_mut().push(path.clone());
        Timer::delay(0.02, move || {
            con.send(path.as_str());
        });
    });
    let answer = talk(addr, get("/one", "") + &get("/two", "") + &last("/three"));
    let at = |path: &str| answer.find(&format!("\r\n\r\n{path}")).expect("an answer");
    assert!(at("/one") < at("/two") && at("/two") < at("/three"), "{answer}");
    assert_eq!(*heard.borrow(), ["/one", "/two", "/three"]);
}

#[test]
fn what_waits_for_an_answer_is_not_taken_for_a_slow_client() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().partial_package(0.05).body_idle(0.05).opening(0.05));
    worker.on_message(|con, request| {
        let path = request.path().to_owned();
        Timer::delay(0.3, move || {
            con.send(path.as_str());
        });
    });
    let answer = talk(addr, get("/one", "") + &last("/two"));
    assert!(answer.contains("/one") && answer.ends_with("/two"), "{answer}");
}

#[test]
fn http_1_0_and_connection_close_end_the_connection() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, _| con.send("x"));
    for request in ["GET / HTTP/1.0\r\n\r\n".to_owned(), last("/")] {
        let answer = talk(addr, request + &get("/never", ""));
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.contains("Connection: close\r\n") && answer.ends_with("x"), "{answer}");
    }
}

#[test]
fn a_client_that_half_closes_gets_its_answers() {
    let (worker, addr) = start::<Http>();
    let file = Scrap::new("half", 3 << 20);
    let path = file.0.clone();
    worker.on_message(move |con, request| match request.path() {
        "/file" => con.send(Response::new(200).with_file(&path)),
        _ => con.send("small"),
    });
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        stream.write_all((get("/a", "") + &get("/file", "")).as_bytes()).expect("two requests");
        stream.shutdown(Shutdown::Write).expect("a FIN");
        read_to_end(&mut stream)
    });
    let answer = finish(client);
    assert!(answer.ends_with(&file.1), "{} bytes", answer.len());
}

#[test]
fn what_is_pipelined_behind_a_file_is_answered_although_the_client_has_half_closed() {
    let (worker, addr) = start::<Http>();
    let file = Scrap::new("behind", 3 << 20);
    let path = file.0.clone();
    worker.on_message(move |con, request| match request.path() {
        "/file" => {
            con.send(Response::new(200).with_file(&path));
        }
        "/later" => {
            Timer::delay(0.05, move || {
                con.send("later");
            });
        }
        _ => {
            con.send("the end");
        }
    });
    let ended = Rc::new(Cell::new(false));
    let at = ended.clone();
    worker.on_close(move |_| at.set(true));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let requests = get("/later", "") + &get("/file", "") + &get("/file", "") + &get("/", "");
        stream.write_all(requests.as_bytes()).expect("four requests");
        stream.shutdown(Shutdown::Write).expect("a FIN");
        read_to_end(&mut stream)
    });
    let answer = finish(client);
    assert!(answer.len() > 2 * file.1.len() && answer.ends_with(b"the end"), "{}", answer.len());
    turn_until(|| ended.get());
}

#[test]
fn a_smuggler_is_refused_and_nothing_of_it_is_delivered() {
    let (worker, addr) = start::<Http>();
    let heard = Rc::new(Cell::new(0));
    let (at, failures) = (heard.clone(), Transcript::new());
    worker.on_message(move |con, _| {
        at.set(at.get() + 1);
        con.send("x")
    });
    let t = failures.clone();
    worker.on_error(move |_, code, failure| t.note(format!("{code} {:?}", failure.kind())));
    let inner = get("/smuggled", "");
    for (status, request) in [
        (
            400,
            format!(
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: \
                       chunked\r\n\r\n0\r\n\r\n{inner}"
            ),
        ),
        (400, format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 0\r\n\r\n{inner}")),
        (501, format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\n\r\n{inner}")),
        (413, format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n{inner}")),
        (431, format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n{inner}", "x".repeat(20_000))),
    ] {
        let answer = talk(addr, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    assert_eq!(heard.get(), 0);
    turn_until(|| failures.lines().len() == 5);
    assert!(
        failures.lines().iter().all(|line| line.ends_with("Protocol")),
        "{failures:?}",
        failures = failures.lines()
    );
}

#[test]
fn a_body_above_the_limit_is_refused_while_it_is_still_coming() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().message_bytes(1000));
    worker.on_message(|con, _| con.send("x"));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("a head");
        let refused = read_head(&mut stream);
        // It goes on sending, and still can read the answer: the server lingers.
        let _ = stream.write_all(&[b'x'; 50_000]);
        refused
    });
    assert!(finish(client).starts_with("HTTP/1.1 413 Content Too Large\r\n"));
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| con.send(request.raw_body()));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\
                    Expect: 100-continue\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("a head");
        assert_eq!(read_head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"body").expect("a body");
        read_to_end(&mut stream)
    });
    assert_eq!(body_of(&finish(client)), b"body");
}

#[test]
fn slow_heads_slow_bodies_and_idle_connections_are_ended() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().opening(0.2).body_idle(0.2).http_idle(0.2));
    worker.on_message(|con, _| con.send("x"));
    for (request, expected) in [
        ("", ""),
        ("GET / HT", "HTTP/1.1 408 "),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab", "HTTP/1.1 408 "),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", "HTTP/1.1 408 "),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 "),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET", "HTTP/1.1 200 "),
    ] {
        let begun = Instant::now();
        let answer = talk(addr, request);
        assert!(answer.starts_with(expected), "{request:?}: {answer}");
        assert_eq!(answer.is_empty(), expected.is_empty(), "{request:?}: {answer}");
        assert_eq!(answer.contains(" 408 "), expected.contains("408") || request.ends_with("GET"));
        assert!(begun.elapsed() >= Duration::from_millis(180), "{request:?}");
    }
}

#[test]
fn a_body_is_judged_by_its_own_limit_and_every_byte_lengthens_it() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().partial_package(0.1).opening(0.1).body_idle(0.4).body_rate(0));
    worker.on_message(|con, request| con.send(request.raw_body()));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("a head");
        for byte in b"slow" {
            std::thread::sleep(Duration::from_millis(200));
            stream.write_all(&[*byte]).expect("a byte");
        }
        read_to_end(&mut stream)
    });
    assert_eq!(body_of(&finish(client)), b"slow");
}

#[test]
fn bytes_do_not_lengthen_the_time_of_a_head() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().opening(0.3));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let begun = Instant::now();
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("an option");
        let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
        loop {
            let _ = stream.write_all(b"G");
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            assert!(begun.elapsed() < PATIENCE, "it goes on for ever");
        }
        answer
    });
    assert!(finish(client).starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn a_callback_that_fails_is_a_500_where_nothing_was_sent() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        if request.path() == "/sent" {
            con.send("sent");
        }
        Err("it failed")?;
        Ok(())
    });
    let answer = talk(addr, get("/", ""));
    assert!(answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{answer}");
    assert!(!answer.contains("it failed"), "strangers are not told: {answer}");
    let answer = talk(addr, get("/sent", ""));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("sent"), "{answer}");
}

#[test]
fn a_second_answer_is_dropped_and_told() {
    let (worker, addr) = start::<Http>();
    let sent = Rc::new(RefCell::new(Vec::new()));
    let at = sent.clone();
    worker.on_message(move |con, _| {
        at.borrow_mut().push(con.send("one"));
        at.borrow_mut().push(con.send("two"));
        con.close();
    });
    let told = Transcript::new();
    let t = told.clone();
    worker.on_error(move |_, _, failure| t.note(failure));
    let answer = talk(addr, get("/", ""));
    assert!(answer.ends_with("one"), "{answer}");
    assert_eq!(*sent.borrow(), [Sent::Flushed, Sent::Dropped]);
    assert!(told.lines()[0].contains("no request waits"), "{:?}", told.lines());
}

#[test]
fn an_answer_that_cannot_be_made_is_a_500_at_once_and_told() {
    let (worker, addr) = start::<Http>();
    let sent = Rc::new(RefCell::new(Vec::new()));
    let at = sent.clone();
    worker.on_message(move |con, request| {
        let response = match request.path() {
            "/cookie" => Response::new(200).with_cookie(Cookie::new("a", "b c;d")),
            "/header" => Response::new(200).with_header("X", "a\r\nY: b"),
            _ => Response::new(99),
        };
        at.borrow_mut().push(con.send(response));
    });
    let told = Transcript::new();
    let t = told.clone();
    worker.on_error(move |_, _, failure| t.note(failure));
    for path in ["/cookie", "/header", "/status"] {
        let answer = talk(addr, get(path, ""));
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("close\r\n"), "{answer}");
    }
    assert_eq!(*sent.borrow(), [Sent::Dropped; 3]);
    assert!(told.lines()[0].contains("cookie"), "{:?}", told.lines());
    assert_eq!(told.lines().len(), 3);
}

#[test]
fn an_answer_given_with_close_says_that_the_connection_ends() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, _| con.close_with("bye"));
    let answer = talk(addr, get("/", ""));
    assert!(answer.contains("Connection: close\r\n") && answer.ends_with("bye"), "{answer}");
}

#[test]
fn a_file_goes_out_piece_by_piece_to_a_client_that_reads_slowly() {
    let (worker, addr) = start::<Http>();
    let file = Scrap::new("slow", 8 << 20);
    let path = file.0.clone();
    let most = Rc::new(Cell::new(0));
    let at = most.clone();
    worker.on_message(move |con, request| match request.path() {
        "/file" => con.send(Response::new(200).with_file(&path)),
        _ => con.send("after"),
    });
    let con = Rc::new(RefCell::new(None));
    let of = con.clone();
    worker.on_connect(move |con| *of.borrow_mut() = Some(con));
    Timer::add(0.001, move |_| {
        if let Some(con) = &*con.borrow() {
            at.set(at.get().max(con.send_buffer_len()));
        }
    });
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let requests = get("/file", "") + &last("/after");
        stream.write_all(requests.as_bytes()).expect("two requests");
        std::thread::sleep(Duration::from_millis(100));
        read_to_end(&mut stream)
    });
    let answer = finish(client);
    let body = &body_of(&answer)[..file.1.len()];
    assert!(body == file.1, "the file came whole");
    assert!(answer.ends_with(b"after"));
    assert!(most.get() < 256 << 10, "{} bytes waited in memory", most.get());
}

#[test]
fn a_file_that_is_being_sent_is_sent_to_its_end_by_close_and_by_a_stop() {
    for stops in [false, true] {
        let (worker, addr) = start::<Http>();
        let file = Scrap::new(if stops { "stop" } else { "close" }, 3 << 20);
        let path = file.0.clone();
        worker.on_message(move |con, _| {
            con.send(Response::new(200).with_file(&path));
            if stops { Worker::stop_all() } else { con.close() }
        });
        let client = client(addr, get("/", ""));
        if stops {
            let end = Instant::now() + PATIENCE;
            while Worker::turn(Duration::from_millis(20)).expect("a turn") {
                assert!(Instant::now() < end, "it did not stop");
            }
            assert_eq!(body_of(&client.join().expect("a client")), file.1);
        } else {
            assert_eq!(body_of(&finish(client)), file.1);
        }
    }
}

#[test]
fn a_large_file_starves_nobody() {
    let (worker, addr) = start::<Http>();
    let file = Scrap::new("starves", 64 << 20);
    let path = file.0.clone();
    worker.on_message(move |con, request| match request.path() {
        "/file" => con.send(Response::new(200).with_file(&path)),
        _ => con.send("small"),
    });
    let large = client(addr, last("/file"));
    let small = std::thread::spawn(move || {
        (0..20).map(|_| client(addr, last("/")).join().expect("a client").len()).sum::<usize>()
    });
    assert!(finish(small) > 20);
    assert_eq!(body_of(&finish(large)).len(), file.1.len());
}

#[test]
fn pieces_are_chunks_that_come_one_after_another() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, _| {
        con.send(Response::new(200).with_header("Transfer-Encoding", "chunked"));
        let mut left = 3;
        Timer::add(0.01, move |timer| {
            left -= 1;
            con.send(Chunk::new(format!("piece {left};")));
            if left == 0 {
                con.send(Chunk::end());
                timer.del();
            }
        });
    });
    let answer = talk(addr, last("/"));
    let body = "8\r\npiece 2;\r\n8\r\npiece 1;\r\n8\r\npiece 0;\r\n0\r\n\r\n";
    assert!(answer.ends_with(body), "{answer}");
}

#[test]
fn events_stream_until_the_browser_leaves() {
    let (worker, addr) = start::<Http>();
    let t = Transcript::new();
    let at = t.clone();
    worker.on_message(move |con, request| {
        at.note(request.header("accept").unwrap_or("none"));
        con.send(Response::new(200).with_header("Content-Type", "text/event-stream"));
        Timer::add(0.01, move |timer| {
            if con.send(ServerSentEvent::new("tick").id(1)) == Sent::Dropped {
                timer.del();
            }
        });
    });
    let at = t.clone();
    worker.on_close(move |_| at.note("left"));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let request = get("/events", "Accept: text/event-stream\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        assert!(read_head(&mut stream).contains("Transfer-Encoding: chunked\r\n"));
        let mut text = String::new();
        while text.matches("id: 1\ndata: tick\n\n").count() < 3 {
            text += &String::from_utf8_lossy(&read_bytes(&mut stream, 1));
        }
    });
    finish(client);
    turn_until(|| t.has("left"));
    t.assert(&["text/event-stream", "left"]);
}

#[test]
fn an_upload_above_the_memory_limit_can_be_kept() {
    let (worker, addr) = start::<Http>();
    let kept = Scrap::new("kept", 0);
    let to = kept.0.clone();
    worker.on_message(move |con, request| {
        let file = request.file("f").ok_or("a file, please")?;
        assert!(file.path().is_some(), "on disk");
        file.save_as(&to)?;
        con.send(format!("{} {} {:?}", file.file_name(), file.size(), request.post("title")));
        Ok(())
    });
    let content = vec![b'z'; 1 << 20];
    let mut body =
        b"--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\r\n".to_vec();
    body.extend_from_slice(&content);
    body.extend_from_slice(b"\r\n--B\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nT");
    body.extend_from_slice(b"\r\n--B--\r\n");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: multipart/form-data; boundary=B\r\n\r\n",
        body.len()
    );
    let answer = talk(addr, [head.into_bytes(), body].concat());
    assert!(answer.ends_with("a.bin 1048576 Some(\"T\")"), "{answer}");
    assert_eq!(std::fs::read(&kept.0).expect("kept"), content);
}

#[test]
fn a_body_of_the_limit_arrives_whole() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().message_bytes(3 << 20));
    worker.on_message(|con, request| {
        assert!(request.body().iter().all(|&byte| byte == b'y'));
        con.send(request.body().len())
    });
    let body = vec![b'y'; 3 << 20];
    let head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3145728\r\n\r\n";
    let answer = talk(addr, [head.as_bytes(), &body].concat());
    assert!(answer.ends_with("3145728"), "{answer}");
    let mut chunked = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
        Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for piece in body.chunks(1000) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert!(talk(addr, chunked).ends_with("3145728"));
}

fn upgrade_request(more: &str) -> String {
    get(
        "/ws",
        &format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}"
        ),
    )
}

/// Pages and WebSockets on one port.
fn serve_both() -> (Worker<Http>, SocketAddr) {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| match request.path() {
        "/ws" => match Websocket::accept(&request) {
            Ok(websocket) => con.upgrade_with(websocket).on_message(|con, data| con.send(data)),
            Err(refusal) => {
                con.send(refusal);
            }
        },
        path => {
            con.send(Response::new(404).with_header("X-Path", path).with_body("not found"));
        }
    });
    (worker, addr)
}

#[test]
fn a_page_and_a_websocket_share_one_port_and_even_one_connection() {
    let (_worker, addr) = serve_both();
    let client = std::thread::spawn(move || {
        let mut stream: TcpStream = raw_connect(addr);
        stream.write_all(get("/page", "").as_bytes()).expect("a request");
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\nX-Path: /page\r\n"), "{head}");
        assert_eq!(read_bytes(&mut stream, 9), b"not found");
        // A frame right behind the request is read once the 101 is on its way.
        let mut both = upgrade_request("").into_bytes();
        both.extend(client_frame(0x81, b"early"));
        stream.write_all(&both).expect("an upgrade");
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert_eq!(read_frame(&mut stream), (0x81, b"early".to_vec()));
        stream.write_all(&client_frame(0x82, b"late")).expect("a frame");
        assert_eq!(read_frame(&mut stream), (0x82, b"late".to_vec()));
        stream.write_all(&client_frame(0x88, &[3, 232])).expect("a close frame");
        assert_eq!(read_frame(&mut stream), (0x88, vec![3, 232]));
        read_to_end(&mut stream)
    });
    assert_eq!(finish(client), b"");
}

#[test]
fn an_upgrade_that_is_wrong_is_refused_with_its_status() {
    let (_worker, addr) = serve_both();
    let foreign = upgrade_request("Origin: http://evil.test\r\n");
    let body = upgrade_request("Content-Length: 3\r\n") + "abc";
    for (status, request) in [(400, get("/ws", "")), (403, foreign), (400, body)] {
        let client = std::thread::spawn(move || {
            let mut stream = raw_connect(addr);
            stream.write_all(request.as_bytes()).expect("a request");
            read_head(&mut stream)
        });
        let head = finish(client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {head}");
    }
}

#[test]
fn pages_of_other_hosts_open_websockets_where_the_worker_says_so() {
    for (origin, host, status) in [
        ("https://friend.test", "h", 101),
        ("http://evil.test", "h", 403),
        // DNS rebinding: a page of that name, which leads to a listener on this machine.
        ("http://evil.test", "evil.test", 403),
        ("http://127.0.0.1:99", "127.0.0.1", 101),
    ] {
        let (worker, addr) = serve_both();
        worker.allow_origin("https://friend.test").expect("an origin");
        let request = upgrade_request(&format!("Origin: {origin}\r\n"));
        let request = request.replace("Host: 127.0.0.1", &format!("Host: {host}"));
        let client = std::thread::spawn(move || {
            let mut stream = raw_connect(addr);
            stream.write_all(request.as_bytes()).expect("a request");
            read_head(&mut stream)
        });
        let head = finish(client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{origin} {host}: {head}");
    }
}

#[test]
fn a_stop_answers_what_was_not_answered() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|_, _| Worker::stop_all());
    let client = client(addr, get("/", ""));
    let end = Instant::now() + PATIENCE;
    while Worker::turn(Duration::from_millis(20)).expect("a turn") {
        assert!(Instant::now() < end, "it did not stop");
    }
    let answer = String::from_utf8(client.join().expect("a client")).expect("text");
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[test]
fn https_is_http_over_tls_and_large_files_come_whole() {
    let (worker, addr) = {
        let worker = Worker::<Http>::listen("http://127.0.0.1:0").expect("it listens");
        worker.set_transport(Transport::Ssl);
        worker
            .set_tls(Tls::new().identity(support::peers::identity().path()))
            .expect("an identity");
        Worker::turn(0).expect("the first turn");
        (worker, worker.local_addr().expect("it is bound"))
    };
    let file = Scrap::new("tls", 2 << 20);
    let path = file.0.clone();
    worker.on_message(move |con, _| con.send(Response::new(200).with_file(&path)));
    let con = AsyncTcpConnection::<Tcp>::new(&format!("ssl://{addr}")).expect("an address");
    con.set_tls(Tls::new().danger_accept_invalid_certs()).expect("settings");
    let (came, ended) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(false)));
    let (to, at) = (came.clone(), ended.clone());
    con.on_connect(|con| con.send_raw(last("/").as_bytes()));
    con.on_message(move |_, data| to.borrow_mut().extend_from_slice(data.as_bytes()));
    con.on_close(move |_| at.set(true));
    con.connect();
    turn_until(|| ended.get());
    assert!(body_of(&came.borrow()) == file.1, "{} bytes came", came.borrow().len());
}

#[test]
fn a_connection_may_be_upgraded_to_any_protocol_and_any_connection_takes_plain_answers() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| match request.path() {
        "/lines" => {
            con.send_raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
            con.upgrade_with(Text::default()).on_message(|con, line| con.send(line));
        }
        _ => {
            con.any().send("plain");
        }
    });
    assert!(talk(addr, last("/")).ends_with("plain"));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        stream.write_all((get("/lines", "") + "one\ntwo\n").as_bytes()).expect("a request");
        read_head(&mut stream);
        read_bytes(&mut stream, 8)
    });
    assert_eq!(finish(client), b"one\ntwo\n");
}

#[test]
fn a_client_that_never_reads_a_large_file_is_left_after_the_stall_limit() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().send_stall(0.2));
    let file = Scrap::new("stall", 16 << 20);
    let path = file.0.clone();
    let t = Transcript::new();
    let (told, at) = (t.clone(), t.clone());
    worker.on_message(move |con, _| con.send(Response::new(200).with_file(&path)));
    worker.on_error(move |_, code, _| told.note(code));
    worker.on_close(move |_| at.note("closed"));
    let mut stream = raw_connect(addr);
    stream.write_all(get("/", "").as_bytes()).expect("a request");
    turn_until(|| t.has("closed"));
    assert_eq!(t.lines().len(), 2, "{:?}", t.lines());
}

#[test]
fn five_hundred_half_open_connections_leave_the_server_serving() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().opening(0.5));
    worker.on_message(|con, _| con.send("still here"));
    let closed = Rc::new(Cell::new(0));
    let at = closed.clone();
    worker.on_close(move |_| at.set(at.get() + 1));
    let slow: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = raw_connect(addr);
            stream.write_all(b"GET / HTTP/1.1\r\nX: ").expect("half a head");
            Worker::turn(0).expect("a turn");
            stream
        })
        .collect();
    assert!(talk(addr, last("/")).ends_with("still here"));
    turn_until(|| closed.get() == 501);
    drop(slow);
}

#[test]
fn what_a_client_sends_on_while_an_answer_waits_is_not_taken_in() {
    let (worker, addr) = start::<Http>();
    let (waiting, heard) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(0)));
    let (waits, at) = (waiting.clone(), heard.clone());
    worker.on_message(move |con, _| {
        at.set(at.get() + 1);
        if !waits.get() {
            con.send("x");
        }
    });
    let padding = format!("X: {}\r\n", "x".repeat(1000));
    let client = client(addr, get("/", &padding).repeat(3000) + &last("/end"));
    turn_until(|| heard.get() == 1);
    turn_for(Duration::from_millis(200));
    let con = *worker.connections().first().expect("a connection");
    assert!(con.recv_buffer_len() <= 256 << 10, "{}", con.recv_buffer_len());
    waiting.set(false);
    con.send("x");
    let answer = String::from_utf8_lossy(&finish(client)).into_owned();
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3001);
}
