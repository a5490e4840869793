//! Workerman's server situations, each a small program and a peer over raw sockets. The text is what
//! the program writes and the peer sees; what PHP would write otherwise stands above it.
use crate::support::peers::{read_to_end, start};
use crate::support::{
    PATIENCE, Transcript, client_frame, raw_connect, raw_upgrade, read_bytes, turn_until,
};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;
use workerman::prelude::*;
use workerman::{Limits, Serve};

/// What a program's callbacks write down.
fn noted<P: Serve>(worker: Worker<P>, to: &Transcript) {
    let t = to.clone();
    worker.on_connect(move |con| t.note(format!("connect {}", con.status())));
    let t = to.clone();
    worker.on_error(move |con, code, failure| {
        t.note(format!("error {code} {:?} {}", failure.kind(), con.status()));
    });
    let t = to.clone();
    worker.on_buffer_full(move |_| t.note("full"));
    let t = to.clone();
    worker.on_buffer_drain(move |_| t.note("drain"));
    let t = to.clone();
    worker.on_close(move |con| t.note(format!("close {}", con.status())));
}

/// A peer in a thread of its own; what it hands back is what it saw.
fn peer<T: Send + 'static>(
    addr: std::net::SocketAddr,
    play: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || play(raw_connect(addr)))
}

/// Turns until the peer has played and its connections have ended.
#[track_caller]
fn turned<P: Serve, T>(worker: Worker<P>, peer: JoinHandle<T>) -> T {
    turn_until(|| peer.is_finished() && worker.connections().is_empty());
    peer.join().expect("the peer played to its end")
}

/// The transcript, line by line, as it is written in the test.
#[track_caller]
fn assert_told(seen: &Transcript, expected: &str) {
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(seen.lines(), expected, "the program (left) does not write its transcript (right)");
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn situation_c_a_server_that_closes_right_after_its_101() {
    // PHP: no close frame, and `close` comes before "sent" has been written.
    let (worker, addr) = start::<Websocket>();
    let seen = Transcript::new();
    noted(worker, &seen);
    let t = seen.clone();
    worker.on_websocket_connect(move |_, request| t.note(format!("request {}", request.path())));
    let t = seen.clone();
    worker.on_websocket_connected(move |con, _| {
        t.note(format!("connected, send {:?}", con.send("bye")));
        con.close();
        t.note(format!("send {:?} {}", con.send("late"), con.status()));
    });
    let peer = peer(addr, |mut stream| {
        let head = raw_upgrade(&mut stream);
        let frames = read_bytes(&mut stream, 5 + 4);
        stream.write_all(&client_frame(0x88, &1000_u16.to_be_bytes())).expect("our close frame");
        (head.lines().next().map(str::to_owned), frames, read_to_end(&mut stream))
    });
    let (status, frames, rest) = turned(worker, peer);
    seen.note(format!("peer: {}", status.unwrap_or_default()));
    seen.note(format!("peer: {}{}", escaped(&frames), escaped(&rest)));
    assert_told(
        &seen,
        r"
        connect ESTABLISHED
        request /
        connected, send Flushed
        send Dropped CLOSING
        close CLOSED
        peer: HTTP/1.1 101 Switching Protocols
        peer: \x81\x03bye\x88\x02\x03\xe8
        ",
    );
}

#[test]
fn situation_f_send_in_every_state_of_an_accepted_connection() {
    // PHP: true, false, false for Flushed, Dropped, Dropped; `close` is written before "closing".
    let (worker, addr) = start::<Text>();
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_connect(move |con| t.note(format!("{} {:?}", con.status(), con.send("hello"))));
    let t = seen.clone();
    worker.on_message(move |con, line| {
        t.note(format!("{} {:?}", con.status(), con.send(line)));
        con.close_with("bye");
        t.note(format!("{} {:?}", con.status(), con.send("late")));
        t.note(format!("closed twice: {:?}", { con.close_with("more") }));
    });
    let t = seen.clone();
    worker.on_error(move |_, code, failure| t.note(format!("error {code} {failure}")));
    let t = seen.clone();
    worker.on_close(move |con| t.note(format!("{} {:?}", con.status(), con.send("too late"))));
    let peer = peer(addr, |mut stream| {
        stream.write_all(b"echo\nnot heard\n").expect("lines");
        read_to_end(&mut stream)
    });
    let saw = turned(worker, peer);
    seen.note(format!("peer: {}", escaped(&saw)));
    assert_told(
        &seen,
        r"
        ESTABLISHED Flushed
        ESTABLISHED Flushed
        CLOSING Dropped
        closed twice: ()
        CLOSED Dropped
        peer: hello\necho\nbye\n
        ",
    );
}

#[test]
fn situation_g_a_peer_that_does_not_read() {
    // PHP: an `error 2` for each message that is dropped and not one for all of a turn, and
    // `onBufferFull` inside the `send` that filled the buffer.
    let (worker, addr) = start::<Tcp>();
    let seen = Transcript::new();
    noted(worker, &seen);
    let t = seen.clone();
    worker.on_message(move |con, _| {
        let piece = vec![b'x'; 64 << 10];
        let mut last = None;
        for _ in 0..1000 {
            let sent = con.send(&piece);
            if last.replace(sent) != Some(sent) {
                t.note(format!("send {sent:?}"));
            }
        }
    });
    let t = seen.clone();
    worker.on_error(move |con, code, failure| {
        t.note(format!("error {code} {:?} {}", failure.kind(), con.status()));
        t.note(if failure.dropped() > 100 { "many were dropped" } else { "few were dropped" });
    });
    let mut stream = raw_connect(addr);
    stream.write_all(b"go").expect("a word");
    // Nothing is read until the program has told that it is full.
    turn_until(|| seen.has("many were dropped"));
    let mut reading = stream.try_clone().expect("a second handle");
    let reader = std::thread::spawn(move || read_to_end(&mut reading).len());
    turn_until(|| seen.has("drain"));
    stream.shutdown(Shutdown::Write).expect("our end");
    let length = turned(worker, reader);
    seen.note(match length {
        length if length >= 1 << 20 && length.is_multiple_of(64 << 10) => "peer: whole messages",
        _ => "peer: a part of a message",
    });
    assert_told(
        &seen,
        "
        connect ESTABLISHED
        send Flushed
        send Buffered
        send Dropped
        full
        error 2 BufferFull ESTABLISHED
        many were dropped
        drain
        close CLOSED
        peer: whole messages
        ",
    );
}

#[test]
fn situation_h_a_package_above_the_limit() {
    // PHP: a text on the console and `onClose` alone; the limit is for all that is buffered, so
    // that the two lines together would be too long as well.
    let (worker, addr) = start::<Text>();
    let seen = Transcript::new();
    worker.set_limits(Limits::new().message_bytes(8));
    noted(worker, &seen);
    let t = seen.clone();
    worker.on_message(move |con, line| {
        t.note(format!("message {line}"));
        con.send(line);
    });
    let peer = peer(addr, |mut stream| {
        stream.write_all(b"1234567\nabcdefg\n12345678\nnever\n").expect("lines");
        read_to_end(&mut stream)
    });
    let saw = turned(worker, peer);
    seen.note(format!("peer: {}", escaped(&saw)));
    assert_told(
        &seen,
        r"
        connect ESTABLISHED
        message 1234567
        message abcdefg
        error 3 Protocol CLOSING
        close CLOSED
        peer: 1234567\nabcdefg\n
        ",
    );
}

#[test]
fn situation_i_close_end_and_destroy_with_something_queued() {
    // PHP: `close` is written before "called" wherever nothing is queued; `end` closes only a
    // second after its FIN, here when the peer has ended too.
    let (worker, addr) = start::<Text>();
    let seen = Transcript::new();
    noted(worker, &seen);
    let t = seen.clone();
    worker.on_message(move |con, line| {
        con.send("queued");
        match line.as_str() {
            Some("close") => con.close_with("last"),
            Some("end") => con.end_with("last"),
            _ => con.destroy(),
        }
        t.note(format!("{line} called, {}", con.status()));
    });
    for how in ["close", "end", "destroy"] {
        let peer = peer(addr, move |mut stream| {
            stream.write_all(format!("{how}\nignored\n").as_bytes()).expect("lines");
            read_to_end(&mut stream)
        });
        let saw = turned(worker, peer);
        seen.note(format!("peer: {} end", escaped(&saw)));
    }
    assert_told(
        &seen,
        r"
        connect ESTABLISHED
        close called, CLOSING
        close CLOSED
        peer: queued\nlast\n end
        connect ESTABLISHED
        end called, CLOSING
        close CLOSED
        peer: queued\nlast\n end
        connect ESTABLISHED
        destroy called, CLOSED
        close CLOSED
        peer:  end
        ",
    );
}

#[test]
fn situation_j_pause_inside_a_batch() {
    // PHP: the same lines, but "resumed" after those that `resumeRecv` delivers inside the call.
    let (worker, addr) = start::<Text>();
    let seen = Transcript::new();
    noted(worker, &seen);
    let t = seen.clone();
    worker.on_message(move |con, line| {
        t.note(line);
        if line.as_str() == Some("m1") {
            con.pause_recv();
            t.note("paused");
        }
    });
    let peer = peer(addr, |mut stream| {
        stream.write_all(b"m0\nm1\nm2\nm3\n").expect("a batch");
        std::thread::park_timeout(PATIENCE);
        stream.write_all(b"m4\nm5\n").expect("what comes meanwhile");
        std::thread::park_timeout(PATIENCE);
    });
    turn_until(|| seen.has("paused"));
    peer.thread().unpark();
    crate::support::turn_for(std::time::Duration::from_millis(100));
    let con = *worker.connections().first().expect("it is there");
    con.resume_recv();
    seen.note("resumed");
    turn_until(|| seen.has("m5"));
    peer.thread().unpark();
    turned(worker, peer);
    assert_told(
        &seen,
        "
        connect ESTABLISHED
        m0
        m1
        paused
        resumed
        m2
        m3
        m4
        m5
        close CLOSED
        ",
    );
}

#[test]
fn situation_k_a_pipe_of_4_mib_both_ways() {
    // PHP: the same; a target that refuses would leave the client waiting there.
    let (backend, backend_addr) = start::<Tcp>();
    backend.on_message(|con, data| con.send(data));
    let (worker, addr) = start::<Tcp>();
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_connect(move |con| {
        let to = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{backend_addr}"))?;
        con.pipe(to);
        to.pipe(con);
        to.connect();
        t.note("piped");
        Ok(())
    });
    let t = seen.clone();
    backend.on_close(move |_| t.note("the backend's end"));
    let peer = peer(addr, |mut stream| {
        let bytes: Vec<u8> = (0..4_u32 << 20).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
        let (mut writing, sent) = (stream.try_clone().expect("a second handle"), bytes.clone());
        let writer = std::thread::spawn(move || writing.write_all(&sent).expect("it is read"));
        let same = read_bytes(&mut stream, bytes.len()) == bytes;
        writer.join().expect("all is written");
        same
    });
    let same = turned(worker, peer);
    turn_until(|| seen.has("the backend's end"));
    seen.note(format!("peer: the same {same}"));
    assert_told(
        &seen,
        "
        piped
        the backend's end
        peer: the same true
        ",
    );
}

/// What a server of `P` hears of these pieces, each written when the one before has been heard.
fn heard<P>(pieces: &'static [&'static [u8]], waits: bool) -> Vec<String>
where
    P: Serve + Default + for<'a> workerman::Protocol<Incoming<'a> = Data<'a>>,
{
    let (worker, addr) = start::<P>();
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_message(move |_, data| t.note(format!("'{}'", data.as_bytes().escape_ascii())));
    let t = seen.clone();
    worker.on_error(move |_, code, _| t.note(format!("error {code}")));
    let mut stream = raw_connect(addr);
    turn_until(|| !worker.connections().is_empty());
    let mut sent = 0;
    for piece in pieces {
        stream.write_all(piece).expect("a piece");
        sent += piece.len() as u64;
        turn_until(|| !waits || worker.connections().iter().any(|con| con.bytes_read() == sent));
    }
    stream.shutdown(Shutdown::Write).expect("our end");
    turn_until(|| worker.connections().is_empty());
    seen.lines()
}

#[test]
fn situation_t_what_each_protocol_makes_of_its_bytes() {
    // PHP: the same but for frames: a length of 0 waits for ever, one of 1 to 3 gives an empty
    // message and loses its place, and one that is too long is `onClose` alone.
    let seen = Transcript::new();
    let note = |name: &str, heard: Vec<String>| seen.note(format!("{name}: {}", heard.join(" ")));
    note("text", heard::<Text>(&[b"one\ntwo\r\nthr", b"ee\n\n"], true));
    note("frame", heard::<Frame>(&[b"\0\0\0\x07one\0\0\0\x04\0\0", b"\0\x05!"], true));
    note("frame of 0", heard::<Frame>(&[b"\0\0\0\x05!\0\0\0\0never"], false));
    note("frame of 3", heard::<Frame>(&[b"\0\0\0\x03never"], false));
    note("frame of 20 MB", heard::<Frame>(&[b"\x01\x31\x2d\0"], false));
    note("tcp", heard::<Tcp>(&[b"one\0", b"two"], true));
    assert_told(
        &seen,
        "
        text: 'one' 'two' 'three' ''
        frame: 'one' '' '!'
        frame of 0: '!' error 3
        frame of 3: error 3
        frame of 20 MB: error 3
        tcp: 'one\\x00' 'two'
        ",
    );
}

#[test]
fn situation_u_ids_and_addresses() {
    // PHP: the same ids and addresses; there the local address is empty once it is closed, and a
    // server and its clients count together.
    let (worker, addr) = start::<Text>();
    let seen = Transcript::new();
    let t = seen.clone();
    let listens = format!(":{}", addr.port());
    worker.on_connect(move |con| {
        let local = con.local_address().to_string().replace(&listens, ":PORT");
        t.note(format!("connect {} local {local} of {}", con.id(), worker.connections().len()));
    });
    let t = seen.clone();
    worker.on_close(move |con| {
        let peer = con.remote_address().to_string();
        let ip = con.remote_ip().map_or("none".into(), |ip| ip.to_string());
        let same = peer == format!("{ip}:{}", con.remote_port());
        let listed = worker.connections().contains(&con);
        t.note(format!("close {} from {ip}, with its port {same}, listed {listed}", con.id()));
    });
    let streams = [1, 2, 3].map(|number| {
        let stream = raw_connect(addr);
        turn_until(|| worker.connections().len() == number);
        stream
    });
    for (number, stream) in streams.into_iter().enumerate().rev() {
        drop(stream);
        turn_until(|| worker.connections().len() == number);
    }
    assert_told(
        &seen,
        "
        connect 1 local 127.0.0.1:PORT of 1
        connect 2 local 127.0.0.1:PORT of 2
        connect 3 local 127.0.0.1:PORT of 3
        close 3 from 127.0.0.1, with its port true, listed true
        close 2 from 127.0.0.1, with its port true, listed true
        close 1 from 127.0.0.1, with its port true, listed true
        ",
    );
}

/// A request, by what differs from a good one.
fn request(line: &str, headers: &[&str]) -> String {
    format!("{line}\r\n{}\r\n", headers.iter().map(|h| format!("{h}\r\n")).collect::<String>())
}

#[test]
fn the_handshakes_of_a_websocket_server() {
    // PHP: 400 for what is no GET, and for a request without a version (which it names); it does
    // not look at HTTP/1.0, Host, Upgrade, Connection or the key's length, and answers 101 there.
    // Its 101 says the version and "Switching Protocol"; a failure is `onClose` alone.
    const GOOD: [&str; 5] = [
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let without = |name: &str| GOOD.iter().copied().filter(|h| !h.starts_with(name)).collect();
    let with = |header: &'static str| {
        let name = header.split(':').next().unwrap_or_default();
        GOOD.map(|h| if h.starts_with(name) { header } else { h }).to_vec()
    };
    let get = "GET / HTTP/1.1";
    let cases: Vec<(&str, &str, Vec<&str>)> = vec![
        ("a good one", get, GOOD.to_vec()),
        ("POST", "POST / HTTP/1.1", GOOD.to_vec()),
        ("HTTP/1.0", "GET / HTTP/1.0", GOOD.to_vec()),
        ("no HTTP", "hello", vec![]),
        ("no version", get, without("Sec-WebSocket-Version")),
        ("version 8", get, with("Sec-WebSocket-Version: 8")),
        ("no key", get, without("Sec-WebSocket-Key")),
        ("a short key", get, with("Sec-WebSocket-Key: c2hvcnQ=")),
        ("no host", get, without("Host")),
        ("no upgrade", get, without("Upgrade")),
        ("upgrade to h2c", get, with("Upgrade: h2c")),
        ("no connection", get, without("Connection")),
    ];
    let (worker, addr) = start::<Websocket>();
    let seen = Transcript::new();
    let events = Transcript::new();
    noted(worker, &events);
    for (name, line, headers) in cases {
        let text = request(line, &headers);
        let peer = peer(addr, move |mut stream| {
            stream.write_all(text.as_bytes()).expect("the request");
            stream.shutdown(Shutdown::Write).expect("our end");
            String::from_utf8_lossy(&read_to_end(&mut stream)).into_owned()
        });
        let before = events.lines().len();
        let answer = turned(worker, peer);
        let head = answer.split("\r\n\r\n").next().unwrap_or_default();
        let status = head.lines().next().unwrap_or("nothing").trim_start_matches("HTTP/1.1 ");
        let said = ["Upgrade: ", "Sec-WebSocket-Version: "];
        let more = head.lines().filter(|l| said.iter().any(|name| l.starts_with(name)));
        let more: Vec<&str> = more.collect();
        let told = &events.lines()[before..];
        let told = told.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
        let told: Vec<String> = told.collect();
        let told = told.join(", ").replace(" ESTABLISHED", "").replace(" CLOSED", "");
        seen.note(format!("{name}: {status} | {} | {told}", more.join(", ")));
    }
    assert_told(
        &seen,
        "
        a good one: 101 Switching Protocols | Upgrade: websocket | connect, close
        POST: 405 Method Not Allowed |  | connect, error 3, close
        HTTP/1.0: 400 Bad Request |  | connect, error 3, close
        no HTTP: 400 Bad Request |  | connect, error 3, close
        no version: 426 Upgrade Required | VERSION, UPGRADE | connect, error 3, close
        version 8: 426 Upgrade Required | VERSION, UPGRADE | connect, error 3, close
        no key: 400 Bad Request |  | connect, error 3, close
        a short key: 400 Bad Request |  | connect, error 3, close
        no host: 400 Bad Request |  | connect, error 3, close
        no upgrade: 400 Bad Request |  | connect, error 3, close
        upgrade to h2c: 400 Bad Request |  | connect, error 3, close
        no connection: 400 Bad Request |  | connect, error 3, close
        "
        .replace("UPGRADE", "Upgrade: websocket")
        .replace("VERSION", "Sec-WebSocket-Version: 13")
        .as_str(),
    );
}
