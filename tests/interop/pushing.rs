//! The examples that bring what one says to many: `chat` and `multi`.
use crate::peers::{PATIENCE, Peer, Process, curl, example};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What stands behind `begin` in a program's next line.
#[track_caller]
fn told(program: &Process, begin: &str) -> String {
    let line = program.line();
    let rest = line.strip_prefix(begin);
    rest.unwrap_or_else(|| panic!("{line:?} does not begin with {begin:?}")).to_owned()
}

#[test]
fn chat_brings_what_one_says_to_all_and_tells_who_comes_and_goes() {
    let mut server = example("chat", &["0"]);
    let page = told(&server, "chat: ");
    let html = curl(&["-i", &page]);
    assert!(html.starts_with("HTTP/1.1 200 "), "{html}");
    for id in ["name", "message", "send", "log"] {
        assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(!html.contains("innerHTML"), "what others say is never markup");
    let url = format!("ws{}ws", page.strip_prefix("http").expect("a web address"));
    let mut anna = Peer::talker(&url);
    anna.tell("anna");
    assert_eq!(anna.line(), r#"recv "=anna""#);
    let mut ben = Peer::talker(&url);
    ben.tell(" ben ");
    assert_eq!(ben.line(), r#"recv "=anna\nben""#);
    assert_eq!(anna.line(), r#"recv "+ben""#);
    ben.tell("<b>grüße</b>");
    for reader in [&anna, &ben] {
        assert_eq!(reader.line(), r#"recv ":ben\n<b>grüße</b>""#);
    }
    // A name that is taken, and one that is none.
    for (name, reason) in [("anna", "!anna is here already"), ("", "!A name has 1 to 24")] {
        let mut other = Peer::talker(&url);
        other.tell(name);
        let line = other.line();
        assert!(line.starts_with(&format!("recv \"{reason}")), "{line}");
        assert_eq!(other.line(), "closed 1000");
    }
    ben.kill();
    assert_eq!(anna.line(), r#"recv "-ben""#);
    server.signal("-TERM");
    assert_eq!(anna.line(), "closed 1001");
    assert_eq!(server.end(Duration::from_secs(4)).code(), Some(0));
}

#[test]
fn multi_pushes_from_its_inner_ports_to_one_user_and_to_all() {
    let server = example("multi", &["0"]);
    let clients = told(&server, "clients: websocket://0.0.0.0:");
    let page = told(&server, "page: ");
    let inner = told(&server, "inner: text://");
    let url = format!("ws://127.0.0.1:{clients}");
    let mut users: Vec<Process> = ["anna", "ben", "anna"]
        .into_iter()
        .map(|uid| {
            let mut user = Peer::talker(&url);
            user.tell(uid);
            assert_eq!(user.line(), r#"recv "welcome""#);
            user
        })
        .collect();
    assert_eq!(curl(&[&page]), "3 clients\n");

    let mut pusher = TcpStream::connect(&*inner).expect("it listens");
    pusher.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
    pusher.write_all(b"anna to you\n* to all\nnobody x\n").expect("it reads");
    let mut answers = [0; 15];
    pusher.read_exact(&mut answers).expect("an answer to each line");
    assert_eq!(&answers, b"ok 2\nok 3\nfail\n");
    assert_eq!(users[0].line(), r#"recv "to you""#);
    assert_eq!(users[2].line(), r#"recv "to you""#);
    for user in &users {
        assert_eq!(user.line(), r#"recv "to all""#);
    }

    let push = format!("{page}/push");
    assert_eq!(curl(&["-d", "to=ben", "-d", "text=hello", &push]), "ok 1\n");
    assert_eq!(users[1].line(), r#"recv "hello""#);

    // What a page makes a browser on this machine send reaches neither port.
    for header in ["Origin: http://evil.test", "Sec-Fetch-Site: cross-site"] {
        let refused = curl(&["-H", header, "-d", "to=*", "-d", "text=x", &push]);
        assert_eq!(refused, "Pages may not push.\n");
    }
    let mut form = TcpStream::connect(&*inner).expect("it listens");
    form.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
    form.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n* x\n").expect("it reads");
    let mut answer = Vec::new();
    form.read_to_end(&mut answer).expect("it closes");
    assert!(answer.is_empty(), "{answer:?}");
    assert_eq!(curl(&["-d", "to=*", "-d", "text=last", &push]), "ok 3\n");
    assert_eq!(users[1].line(), r#"recv "last""#);
    users[1].kill();
    let begin = Instant::now();
    while curl(&[&page]) != "2 clients\n" {
        assert!(begin.elapsed() < PATIENCE, "ben is gone");
    }
    assert_eq!(curl(&["-d", "to=ben", "-d", "text=hello", &push]), "fail\n");
}
