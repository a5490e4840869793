//! Our HTTP server under curl, and under a WebSocket client on the same port.
use crate::peers::{Authority, Folder, PATIENCE, Peer, curl};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use workerman::prelude::*;
use workerman::{
    Chunk, FileSessions, Limits, Running, ServerSentEvent, SessionOptions, TcpConnection,
};

/// Answers, keeps what is sent, hands out what was kept, and speaks WebSocket.
fn server(folder: &Folder, authority: Option<&Authority>) -> Running {
    let (kept, sessions) = (folder.path("kept"), folder.path("sessions"));
    let files = authority.map(|a| (a.file("server.pem"), a.file("server.key")));
    let server = workerman::spawn(move || {
        SessionOptions::new().store(FileSessions::new(sessions)).set_default();
        let worker = Worker::<Http>::listen("http://127.0.0.1:0")?;
        worker.set_limits(Limits::new().message_bytes(16 << 20));
        if let Some((certificate, key)) = files {
            worker.set_transport(Transport::Ssl);
            worker.set_tls(Tls::new().identity_files(certificate, key))?;
        }
        worker.on_message(move |con, request| {
            match request.path() {
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
                "/session" => {
                    let session = request.session()?;
                    let visits = session.get("visits").map_or(Ok(0), |n| n.parse())? + 1;
                    session.set("visits", visits);
                    con.send(format!("visit {visits}"));
                }
                "/chunked" | "/events" => stream(con, request.path() == "/events"),
                path => drop(con.send(Response::new(404).with_body(format!("no {path} here")))),
            }
            Ok(())
        });
        Ok(())
    });
    server.expect("a port of loopback is free")
}

/// Three pieces, one after another; events go on until the client leaves.
fn stream(con: TcpConnection<Http>, events: bool) {
    con.send(match events {
        true => Response::new(200).with_header("Content-Type", "text/event-stream"),
        false => Response::new(200).with_header("Transfer-Encoding", "chunked"),
    });
    let mut n = 0;
    Timer::add(0.01, move |timer| {
        let sent = match (events, n) {
            (true, _) => con.send(ServerSentEvent::new(n).event("tick").id(n)),
            (false, 3..) => con.send(Chunk::end()),
            (false, _) => con.send(Chunk::new(format!("piece {n};"))),
        };
        if sent == Sent::Dropped || (n == 3 && !events) {
            timer.del();
        }
        n += 1;
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
fn requests_and_aiohttp_are_served() {
    let folder = Folder::new();
    let server = server(&folder, None);
    Peer::Python.drive_with("http_client", &format!("http://{}", server.addr()), None);
}

#[test]
fn requests_and_aiohttp_are_served_over_tls_and_verify_the_certificate() {
    let folder = Folder::new();
    let authority = Authority::new();
    let server = server(&folder, Some(&authority));
    let url = format!("https://localhost:{}", server.addr().port());
    let ca = authority.file("ca.pem");
    Peer::Python.drive_with("http_client", &url, Some(ca.as_ref()));
}

#[test]
fn a_raw_socket_that_pipelines_and_half_closes_gets_every_answer() {
    let folder = Folder::new();
    let server = server(&folder, None);
    let mut stream = TcpStream::connect(server.addr()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let requests = request("/a") + &request("/chunked") + &request("/b");
    stream.write_all(requests.as_bytes()).expect("three requests");
    stream.shutdown(Shutdown::Write).expect("a FIN");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("three answers");
    let pieces = "8\r\npiece 2;\r\n0\r\n\r\n";
    let at = |text: &str| answers.find(text).unwrap_or_else(|| panic!("{text} in {answers}"));
    assert!(at("no /a here") < at(pieces) && at(pieces) < at("no /b here"));
}

#[test]
fn wrk_finds_no_error_in_a_second_of_load() {
    let folder = Folder::new();
    let server = server(&folder, None);
    let url = format!("http://{}/session/none", server.addr());
    let output = Command::new("wrk").args(["-t1", "-c64", "-d1s", &url]).output();
    let output = output.unwrap_or_else(|e| panic!("wrk: {e}; it needs wrk (apt-get install wrk)"));
    let said = String::from_utf8_lossy(&output.stdout);
    let served = said.lines().find_map(|line| line.trim().split_once(" requests in"));
    let served: u64 = served.and_then(|(n, _)| n.parse().ok()).unwrap_or(0);
    assert!(output.status.success() && served > 64, "{said}");
    assert!(!said.contains("Socket errors"), "{said}");
    // Each of them was answered 404, as it should be, and no other status.
    assert!(said.contains(&format!("Non-2xx or 3xx responses: {served}")), "{said}");
}
