//! Promise: an http connection ends when its time is over, and not while something is owed.
mod support;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::http::*;
use support::peers::{read_to_end, start};
use support::*;
use workerman::prelude::*;
use workerman::{Chunk, Limits, ServerSentEvent};

#[test]
fn a_client_that_half_closes_gets_an_answer_that_comes_later() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        let pieces = request.path() == "/pieces";
        Timer::delay(0.05, move || match pieces {
            false => drop(con.send("late")),
            true => {
                con.send(Response::new(200).with_header("Transfer-Encoding", "chunked"));
                Timer::delay(0.05, move || {
                    con.send(Chunk::new("late"));
                    con.send(Chunk::end());
                });
            }
        });
    });
    let ended = Rc::new(Cell::new(0));
    let at = ended.clone();
    worker.on_close(move |_| at.set(at.get() + 1));
    for (path, body) in [("/", "late"), ("/pieces", "4\r\nlate\r\n0\r\n\r\n")] {
        let client = std::thread::spawn(move || {
            let mut stream = raw_connect(addr);
            stream.write_all(get(path, "").as_bytes()).expect("a request");
            stream.shutdown(Shutdown::Write).expect("a FIN");
            String::from_utf8(read_to_end(&mut stream)).expect("text")
        });
        let answer = finish(client);
        assert!(answer.contains("Connection: close\r\n") && answer.ends_with(body), "{answer}");
    }
    turn_until(|| ended.get() == 2);
}

#[test]
fn an_answer_that_never_begins_is_a_503_and_one_that_has_begun_may_take_its_time() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().answer(0.2));
    worker.on_message(|con, request| match request.path() {
        "/never" => {}
        "/begun" => {
            con.send(Response::new(200).with_header("Transfer-Encoding", "chunked"));
            con.send(Chunk::new("begun"));
            Timer::delay(0.5, move || con.send(Chunk::end()));
        }
        _ => drop(con.send("at once")),
    });
    let told = Transcript::new();
    let t = told.clone();
    worker.on_error(move |_, code, failure| t.note(format!("{code} {failure}")));
    let (begun, answer) = (Instant::now(), talk(addr, get("/", "") + &get("/never", "")));
    assert!(begun.elapsed() >= Duration::from_millis(190));
    assert!(answer.contains("at onceHTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    let answer = talk(addr, last("/begun"));
    assert!(answer.ends_with("5\r\nbegun\r\n0\r\n\r\n"), "it has begun: {answer}");
    turn_until(|| told.lines().len() == 1);
    assert!(told.lines()[0].contains("Limits::answer"), "{:?}", told.lines());
}

#[test]
fn a_body_that_trickles_is_refused_although_every_byte_is_in_time() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().body_idle(0.4).body_rate(1000));
    worker.on_message(|con, request| con.send(request.body().len()));
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let client = std::thread::spawn(move || {
            let mut stream = raw_connect(addr);
            let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n");
            let first = if framing.contains("chunked") { "64\r\n" } else { "" };
            stream.write_all((head + first).as_bytes()).expect("a head");
            let mut sent = 0;
            stream.set_read_timeout(Some(Duration::from_millis(50))).expect("an option");
            // Each byte comes within 50 ms; the hundred of them would take five seconds.
            while stream.peek(&mut [0]).is_err() && sent < 100 {
                let _ = stream.write_all(b"x");
                sent += 1;
            }
            stream.set_read_timeout(Some(PATIENCE)).expect("an option");
            (sent, String::from_utf8_lossy(&read_to_end(&mut stream)).into_owned())
        });
        let (sent, answer) = finish(client);
        assert!(answer.starts_with("HTTP/1.1 408 ") && sent < 60, "{sent}: {answer}");
    }
}

#[test]
fn what_came_fast_of_a_body_earns_no_time_for_a_trickle() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().body_idle(0.4).body_rate(1000));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("a head");
        // At the lowest rate it would have taken a minute.
        stream.write_all(&vec![b'x'; 60_000]).expect("a piece");
        let begun = Instant::now();
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("an option");
        while stream.peek(&mut [0]).is_err() && begun.elapsed() < Duration::from_secs(5) {
            let _ = stream.write_all(b"x");
        }
        let passed = begun.elapsed();
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        (passed, String::from_utf8_lossy(&read_to_end(&mut stream)).into_owned())
    });
    let (passed, answer) = finish(client);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{passed:?}: {answer}");
    assert!(passed < Duration::from_secs(3), "{passed:?}");
}

#[test]
fn a_body_that_comes_fast_enough_may_take_longer_than_a_pause_may() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().body_idle(0.3).body_rate(10));
    worker.on_message(|con, request| con.send(request.body().len()));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 60\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("a head");
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(&[b'x'; 10]).expect("a piece");
        }
        read_to_end(&mut stream)
    });
    assert_eq!(body_of(&finish(client)), b"60");
}

#[test]
fn time_in_which_the_program_does_not_read_is_not_the_clients() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().body_idle(0.2).opening(0.2).body_rate(100_000));
    worker.on_message(|con, request| con.send(request.raw_body()));
    let con = Rc::new(RefCell::new(None));
    let of = con.clone();
    worker.on_connect(move |con| *of.borrow_mut() = Some(con));
    let mut stream = raw_connect(addr);
    let head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbo";
    stream.write_all(head.as_bytes()).expect("a head");
    turn_until(|| con.borrow().is_some_and(|con| con.recv_buffer_len() > 0));
    let con = con.borrow().expect("it was accepted");
    con.pause_recv();
    stream.write_all(b"dy").expect("the rest");
    turn_for(Duration::from_millis(500));
    con.resume_recv();
    let reader = std::thread::spawn(move || read_to_end(&mut stream));
    assert_eq!(body_of(&finish(reader)), b"body");
}

#[test]
fn a_form_of_too_many_parts_is_refused_in_memory_and_on_disk() {
    for memory in [1 << 20, 100] {
        let (worker, addr) = start::<Http>();
        worker.set_limits(Limits::new().upload_memory_bytes(memory));
        worker.on_message(|con, request| con.send(request.post_all().len()));
        for (parts, status) in [(1000, 200), (1001, 413)] {
            let part = "--B\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n";
            let body = part.repeat(parts) + "--B--\r\n";
            let head = format!(
                "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\
                 Content-Type: multipart/form-data; boundary=B\r\n\r\n",
                body.len()
            );
            let answer = talk(addr, head + &body);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{memory}: {answer}");
        }
    }
}

#[cfg(unix)]
#[test]
fn what_is_kept_of_a_form_has_the_same_rights_wherever_it_lay() {
    use std::os::unix::fs::PermissionsExt;
    for memory in [1 << 20, 10] {
        let (worker, addr) = start::<Http>();
        worker.set_limits(Limits::new().upload_memory_bytes(memory));
        let kept = Scrap::new(&format!("rights-{memory}"), 5);
        std::fs::set_permissions(&kept.0, PermissionsExt::from_mode(0o644)).expect("ours");
        let to = kept.0.clone();
        worker.on_message(move |con, request| {
            let file = request.file("f").ok_or("a file, please")?;
            file.save_as(&to)?;
            con.send(file.bytes().is_some());
            Ok(())
        });
        let body = "--B\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n\
                    a content of some length\r\n--B--\r\n";
        let head = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: multipart/form-data; boundary=B\r\n\r\n",
            body.len()
        );
        let answer = talk(addr, head + body);
        assert!(answer.ends_with(if memory > 10 { "true" } else { "false" }), "{answer}");
        let mode = std::fs::metadata(&kept.0).expect("kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{memory}: {mode:o}");
        assert_eq!(std::fs::read(&kept.0).expect("kept"), b"a content of some length");
    }
}

#[test]
fn a_204_has_no_length_even_where_the_program_says_0() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, _| con.send(Response::new(204).with_header("Content-Length", 0)));
    let answer = talk(addr, last("/"));
    assert!(answer.starts_with("HTTP/1.1 204 ") && !answer.contains("Content-Length"), "{answer}");
}

#[test]
fn a_browser_that_leaves_a_stream_of_events_is_noticed_at_once() {
    let (worker, addr) = start::<Http>();
    let t = Transcript::new();
    let at = t.clone();
    worker.on_message(|con, _| {
        con.send(Response::new(200).with_header("Content-Type", "text/event-stream"));
        con.send(ServerSentEvent::new("one"))
    });
    worker.on_close(move |_| at.note("left"));
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        stream.write_all(get("/", "").as_bytes()).expect("a request");
        read_head(&mut stream);
    });
    finish(client);
    turn_until(|| t.has("left"));
}
