//! Our HTTP server under curl, Python's clients and wrk, and under WebSockets on the same port.
use crate::peers::{Authority, Folder, PATIENCE, Peer, curl, http_client, web_example};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use workerman::prelude::*;
use workerman::{Chunk, FileSessions, Limits, Running, SessionOptions, TcpConnection};

/// Answers, keeps what is sent, hands out what was kept, and speaks WebSocket.
fn server(folder: &Folder, authority: Option<&Authority>) -> Running {
    let (kept, sessions) = (folder.path("kept"), folder.path("sessions"));
    let files = authority.map(|a| (a.file("server.pem"), a.file("server.key")));
    let server = workerman::spawn(move || {
        let worker = Worker::<Http>::listen("http://127.0.0.1:0")?;
        SessionOptions::new().store(FileSessions::new(sessions)).set_default();
        worker.set_limits(Limits::new().message_bytes(16 << 20));
        if let Some((certificate, key)) = files {
            worker.set_transport(Transport::Ssl);
            worker.set_tls(Tls::new().identity_files(certificate, key))?;
        }
        worker.on_message(move |con, request| {
            match request.path() {
                "/hello" => drop(con.send("hello")),
                "/visit" => {
                    let session = request.session()?;
                    let visits: u32 = session.get("n").and_then(|n| n.parse().ok()).unwrap_or(0);
                    session.set("n", visits + 1);
                    con.send(format!("{visits} visits before"));
                }
                "/login" => {
                    let session = request.session()?;
                    session.regenerate_id()?;
                    session.set("user", request.get("user").unwrap_or_default());
                    con.send(Response::redirect("/user"));
                }
                "/user" => {
                    let session = request.session()?;
                    con.send(session.get("user").unwrap_or("nobody".into()));
                }
                "/logout" => {
                    request.session()?.flush();
                    con.send("bye");
                }
                "/pieces" => in_pieces(con),
                "/kept" => drop(con.send(Response::new(200).with_file(&kept))),
                "/form" => {
                    let file = request.file("file").ok_or("no file came")?;
                    file.save_as(&kept)?;
                    let title = request.post("title").unwrap_or_default();
                    con.send(format!("{title}: {} of {}", file.size(), file.file_name()));
                }
                "/body" => {
                    fs::write(&kept, request.body())?;
                    con.send(format!("{} by {}", request.body().len(), request.method()));
                }
                "/ws" => match Websocket::accept(&request) {
                    Ok(websocket) => {
                        con.upgrade_with(websocket).on_message(|con, data| match data {
                            Data::Text("close me") => con.close_websocket(4003, "as you wish"),
                            _ => drop(con.send(data)),
                        });
                    }
                    Err(refusal) => drop(con.send(refusal)),
                },
                path => drop(con.send(Response::new(404).with_body(format!("no {path} here")))),
            }
            Ok(())
        });
        Ok(())
    });
    server.expect("a port of loopback is free")
}

/// A piece a turn of the clock, as a program that computes them would.
fn in_pieces(con: TcpConnection<Http>) {
    con.send(Response::new(200).with_header("Transfer-Encoding", "chunked"));
    let mut pieces = ["one ", "two ", "three", ""].into_iter();
    Timer::add(0.02, move |timer| match pieces.next() {
        Some(piece) => drop(con.send(Chunk::new(piece))),
        None => drop(timer.del()),
    });
}

fn large(folder: &Folder) -> (Vec<u8>, String) {
    let bytes: Vec<u8> = (0..3_u32 << 20).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let path = folder.path("large.bin");
    fs::write(&path, &bytes).expect("our own folder can be written");
    (bytes, path.to_string_lossy().into_owned())
}

#[test]
fn curl_asks_twice_over_one_connection() {
    let folder = Folder::new();
    let server = server(&folder, None);
    let url = format!("http://{}/page", server.addr());
    let said = curl(&["-w", " %{http_code} %{num_connects}\n", &url, &url]);
    assert_eq!(said, "no /page here 404 1\nno /page here 404 0\n");
}

#[test]
fn curl_uploads_a_form_that_waits_for_100_continue() {
    let folder = Folder::new();
    let server = server(&folder, None);
    let (bytes, path) = large(&folder);
    let file = format!("file=@{path}");
    let url = format!("http://{}/form", server.addr());
    let said = curl(&["-v", "-H", "Expect: 100-continue", "-F", "title=a b", "-F", &file, &url]);
    assert!(said.contains("< HTTP/1.1 100 Continue"), "{said}");
    assert!(said.contains("a b: 3145728 of large.bin"), "{said}");
    assert!(fs::read(folder.path("kept")).expect("it was kept") == bytes, "the file is another");
}

#[test]
fn curl_sends_a_body_in_chunks() {
    let folder = Folder::new();
    let server = server(&folder, None);
    let (bytes, path) = large(&folder);
    let data = format!("@{path}");
    let url = format!("http://{}/body", server.addr());
    let chunked = "Transfer-Encoding: chunked";
    let said = curl(&["-X", "PUT", "-H", chunked, "--data-binary", &data, &url]);
    assert_eq!(said, "3145728 by PUT");
    assert!(fs::read(folder.path("kept")).expect("it was kept") == bytes, "the body is another");
}

#[test]
fn curl_gets_a_file_over_tls_whole_in_part_and_not_again() {
    let folder = Folder::new();
    let authority = Authority::new();
    let server = server(&folder, Some(&authority));
    let (bytes, path) = large(&folder);
    fs::copy(&path, folder.path("kept")).expect("our own folder can be written");
    let url = format!("https://localhost:{}/kept", server.addr().port());
    let got = folder.path("got").to_string_lossy().into_owned();
    let get = |more: &[&str]| {
        let ca = authority.file("ca.pem");
        let fixed = ["--cacert", &ca, "-o", &got, "-w", "%{http_code} %{size_download}", &url];
        let said = curl(&[&fixed, more].concat());
        (said, fs::read(&got).unwrap_or_default())
    };
    let (said, whole) = get(&[]);
    assert_eq!(said, "200 3145728");
    assert!(whole == bytes, "the file is another");
    let (said, part) = get(&["--range", "1000000-1999999"]);
    assert_eq!(said, "206 1000000");
    assert!(part == bytes[1_000_000..2_000_000], "the part is another");
    let (said, _) = get(&["-z", &got]);
    assert_eq!(said, "304 0");
    let (said, _) = get(&["--head"]);
    assert_eq!(said, "200 0");
}

#[test]
fn python_speaks_websocket_on_the_http_port() {
    let folder = Folder::new();
    let server = server(&folder, None);
    Peer::Python.drive(&format!("ws://{}/ws", server.addr()), None);
    assert_eq!(curl(&[&format!("http://{}/", server.addr())]), "no / here");
}

#[test]
fn requests_keeps_connections_uploads_and_resumes_a_download() {
    let folder = Folder::new();
    let server = server(&folder, None);
    http_client(&["requests", &format!("http://{}", server.addr())]);
}

#[test]
fn requests_does_the_same_over_https_and_refuses_an_unknown_authority() {
    let folder = Folder::new();
    let authority = Authority::new();
    let server = server(&folder, Some(&authority));
    let url = format!("https://localhost:{}", server.addr().port());
    http_client(&["requests", &url, &authority.file("ca.pem")]);
}

#[test]
fn requests_keeps_its_session_as_a_browser_does() {
    let folder = Folder::new();
    let authority = Authority::new();
    let (plain, secure) = (server(&folder, None), server(&folder, Some(&authority)));
    http_client(&["sessions", &format!("http://localhost:{}", plain.addr().port())]);
    let url = format!("https://localhost:{}", secure.addr().port());
    http_client(&["sessions", &url, &authority.file("ca.pem")]);
}

#[test]
fn aiohttp_asks_many_at_once_and_sees_each_piece_as_it_was_sent() {
    let folder = Folder::new();
    let server = server(&folder, None);
    http_client(&["aiohttp", &format!("http://{}", server.addr())]);
}

#[test]
fn aiohttp_reads_the_events_of_the_sse_example() {
    let (_server, port) = web_example("sse", 0, &[]);
    http_client(&["events", &format!("http://127.0.0.1:{port}")]);
}

#[test]
fn requests_uploads_to_the_example_and_gets_the_same_back() {
    let folder = Folder::new();
    let (_, path) = large(&folder);
    fs::create_dir(folder.path("kept")).expect("our own folder can be written");
    let kept = folder.path("kept").to_string_lossy().into_owned();
    let (_server, port) = web_example("upload", 0, &[&kept]);
    http_client(&["upload", &format!("http://127.0.0.1:{port}"), &path]);
}

#[test]
fn a_raw_client_that_sends_all_at_once_and_ends_gets_every_answer_in_order() {
    let folder = Folder::new();
    let server = server(&folder, None);
    let mut stream = TcpStream::connect(server.addr()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let mut all = String::new();
    for n in 0..100 {
        let body = "x".repeat(n * 37);
        let length = body.len();
        all += &format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
        all += &format!("PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
    }
    // Its pieces come later, one after another.
    all += "GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(all.as_bytes()).expect("all of them");
    stream.shutdown(Shutdown::Write).expect("as nc -N does");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("the answers, then the end");
    let mut rest = answers.as_str();
    for n in 0..100 {
        for body in [format!("no /{n} here"), format!("{} by PUT", n * 37)] {
            let at = rest.find("\r\n\r\n").expect("one more head") + 4;
            assert!(rest[at..].starts_with(&body), "{n}: {body:?} is not {:.60}", &rest[at..]);
            rest = &rest[at + body.len()..];
        }
    }
    let (_, pieces) = rest.split_once("\r\n\r\n").expect("the last head");
    assert_eq!(pieces, "4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n");
}

#[test]
fn wrk_gets_an_answer_to_every_request() {
    let folder = Folder::new();
    let server = server(&folder, None);
    let mut wrk = Command::new("wrk");
    wrk.args(["-t", "1", "-c", "32", "-d", "2", &format!("http://{}/hello", server.addr())]);
    let output = match wrk.output() {
        Ok(output) => output,
        Err(e) => panic!("wrk does not start: {e}; it needs wrk (apt-get install wrk)"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let total = said.lines().find_map(|line| line.trim().split_once(" requests in "));
    let total: u64 = total.and_then(|(count, _)| count.parse().ok()).unwrap_or(0);
    assert!(output.status.success() && total > 1000, "{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
}
