//! Listening: what is bound, refused, paused and taken back; addresses; what a package's limit
//! counts.
use crate::support::log::{keep_log, logged_with};
use crate::support::peers::read_to_end;
use crate::support::{
    Transcript, accept_head, client_frame, nobody_listens, own_host, raw_connect, read_bytes,
    read_frame, read_head, turn_for, turn_until,
};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;

fn turn() {
    assert!(Worker::turn(Duration::ZERO).expect("a turn"), "the loop ended");
}

fn listening<P: workerman::Serve + Default>(scheme: &str) -> (Worker<P>, SocketAddr) {
    let worker = Worker::<P>::listen(&format!("{scheme}://127.0.0.1:0")).expect("an address");
    turn();
    (worker, worker.local_addr().expect("it listens"))
}

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("wm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn unlisten_closes_the_listening_socket_and_leaves_connections_alone() {
    let worker = Worker::<Text>::listen(&format!("text://{}:0", own_host())).expect("an address");
    turn();
    let addr = worker.local_addr().expect("it listens");
    worker.on_message(|con, line| con.send(line));
    let mut peer = raw_connect(addr);
    turn_until(|| worker.connections().len() == 1);
    worker.unlisten();
    assert_eq!(worker.local_addr(), None);
    assert!(nobody_listens(addr), "somebody still listens");
    peer.write_all(b"still here\n").expect("the socket takes it");
    turn();
    assert_eq!(read_bytes(&mut peer, 11), b"still here\n");
    assert_eq!(worker.connections().len(), 1);
    drop(TcpListener::bind(addr));
}

#[test]
fn unlisten_before_the_start_leaves_the_port_closed() {
    let free = TcpListener::bind((own_host(), 0)).expect("a port").local_addr().expect("it");
    let worker = Worker::<Text>::listen(&format!("text://{free}")).expect("an address");
    worker.unlisten();
    let other = Worker::<Text>::listen(&format!("text://{}:0", own_host())).expect("an address");
    turn_until(|| other.local_addr().is_some());
    assert_eq!(worker.local_addr(), None);
    assert!(nobody_listens(free), "somebody listens");
}

#[test]
fn pause_accept_leaves_newcomers_in_the_kernels_queue_and_resume_takes_them() {
    let (worker, addr) = listening::<Text>("text");
    worker.on_message(|con, line| con.send(line));
    worker.pause_accept();
    let mut peer = raw_connect(addr);
    peer.write_all(b"hello\n").expect("the kernel took it");
    turn_for(Duration::from_millis(30));
    assert!(worker.connections().is_empty());
    worker.resume_accept();
    turn_until(|| worker.connections().len() == 1);
    turn();
    assert_eq!(read_bytes(&mut peer, 6), b"hello\n");
}

#[test]
fn a_worker_that_listens_inside_a_running_loop_binds_at_once_and_says_when_it_cannot() {
    keep_log();
    let (first, addr) = listening::<Text>("text");
    let taken = Worker::<Tcp>::listen(&format!("tcp://{addr}")).expect_err("the port is taken");
    assert!(matches!(taken, workerman::Error::Bind { .. }), "{taken}");
    assert!(taken.to_string().contains("another program listens there"), "{taken}");
    let second = Worker::<Tcp>::listen("tcp://127.0.0.1:0").expect("a free port");
    assert_eq!(first.local_addr(), Some(addr));
    // The log has the port that the system chose, of either.
    let chosen = second.local_addr().expect("it listens");
    assert_eq!(logged_with("INFO", &format!("listens on text://{addr}")), 1);
    assert_eq!(logged_with("INFO", &format!("listens on tcp://{chosen}")), 1);
}

#[test]
fn a_stale_unix_socket_file_is_replaced_and_a_live_one_refused() {
    let folder = Folder::new("stale");
    let path = folder.path("a.sock");
    drop(UnixListener::bind(&path).expect("the file of a server that has ended"));
    assert!(path.exists());
    let address = format!("unix://{}", path.display());
    let worker = Worker::<Text>::listen(&address).expect("an address");
    worker.on_message(|con, line| con.send(line));
    turn();
    let live = Worker::<Text>::listen(&address).expect_err("its server lives");
    let live = live.to_string();
    assert!(live.contains(&path.display().to_string()), "{live}");
    assert!(live.contains("a server listens there") && !live.contains("port"), "{live}");

    let mut peer = UnixStream::connect(&path).expect("the first one still listens");
    peer.write_all(b"hello\n").expect("the socket takes it");
    turn_until(|| worker.connections().len() == 1);
    turn();
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"hello\n");
}

#[test]
fn a_file_that_is_no_socket_is_refused_and_stays() {
    let folder = Folder::new("plain");
    let path = folder.path("precious");
    std::fs::write(&path, "precious").expect("a file");
    turn();
    let refused = Worker::<Text>::listen(&format!("unix://{}", path.display()));
    assert!(refused.is_err());
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "precious");
}

#[test]
fn the_socket_file_goes_with_its_listener() {
    let folder = Folder::new("gone");
    let path = folder.path("a.sock");
    let worker = Worker::<Text>::listen(&format!("unix://{}", path.display())).expect("a path");
    turn();
    assert!(path.exists());
    worker.unlisten();
    assert!(!path.exists());
}

/// The same file, as seen from the directory that this process works in.
fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().expect("a directory");
    let mut up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    up.extend(path.components().skip(1));
    assert!(up.is_relative());
    up
}

/// A message goes there and back over a unix socket, in this protocol.
fn there_and_back<S, C>(listen: &str, dial: &str)
where
    S: workerman::Serve + Default,
    C: workerman::Dial + Default,
    for<'a> S: Protocol<Incoming<'a> = Data<'a>, Outgoing<'a> = workerman::Payload<'a>>,
    for<'a> C: Protocol<Incoming<'a> = Data<'a>, Outgoing<'a> = workerman::Payload<'a>>,
{
    let seen = Transcript::new();
    let worker = Worker::<S>::listen(listen).unwrap_or_else(|e| panic!("{e}"));
    worker.on_message(|con, data| con.send(data));
    let con = AsyncTcpConnection::<C>::new(dial).unwrap_or_else(|e| panic!("{e}"));
    let s = seen.clone();
    con.on_message(move |con, data| {
        s.note(format!("message {data}"));
        con.close();
    });
    let s = seen.clone();
    con.on_error(move |_, _, failure| s.note(failure));
    let s = seen.clone();
    con.on_close(move |_| s.note("close"));
    con.send("hello");
    con.connect();
    turn_until(|| seen.has("close"));
    seen.assert(&["message hello", "close"]);
    worker.unlisten();
}

#[test]
fn unix_takes_relative_paths_and_every_stream_protocol_whatever_the_case_of_the_scheme() {
    let folder = Folder::new("relative");
    let path = relative(&folder.path("a.sock"));
    let path = path.display();
    there_and_back::<Text, Text>(&format!("unix://{path}"), &format!("UNIX://{path}"));
    there_and_back::<Tcp, Tcp>(&format!("Unix://{path}"), &format!("unix://{path}"));
    there_and_back::<Frame, Frame>(&format!("unix://{path}"), &format!("unix://{path}"));
    let uri = format!("ws+unix://{path}:/chat");
    there_and_back::<Websocket, Ws>(&format!("unix://{path}"), &uri);
}

#[test]
fn the_path_of_a_unix_socket_is_spelled_alike_at_both_ends() {
    let folder = Folder::new("spelled");
    let path = folder.path("a.sock").display().to_string();
    let worker = Worker::<Text>::listen(&format!("UNIX://{path}")).expect("a path");
    let client = AsyncTcpConnection::<Text>::new(&format!("unix://{path}")).expect("a path");
    client.connect();
    turn_until(|| worker.connections().len() == 1 && client.status() == Status::Established);
    let accepted = worker.connections()[0];
    // The client has no name: what it came by stands for it.
    assert_eq!((accepted.remote_address(), accepted.local_address()), (path.clone(), path.clone()));
    assert_eq!((client.remote_address(), client.local_address()), (path.clone(), String::new()));
    assert!(format!("{accepted:?}").ends_with(&format!(" unix://{path}")), "{accepted:?}");
    assert!(format!("{client:?}").ends_with(&format!(" unix://{path}")), "{client:?}");
}

#[test]
fn http_listens_on_a_unix_socket_and_its_file_goes_with_the_run() {
    let folder = Folder::new("http");
    let path = folder.path("a.sock");
    let worker = Worker::<Http>::listen(&format!("unix://{}", path.display())).expect("a path");
    worker.on_message(|con, request| {
        con.send(format!("{} {}", request.path(), con.remote_ip().is_none()))
    });
    turn();
    let mut peer = UnixStream::connect(&path).expect("it listens");
    peer.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").expect("the socket takes it");
    turn_until(|| worker.connections().first().is_some_and(|con| con.bytes_written() > 0));
    let mut answer = [0; 1000];
    let n = peer.read(&mut answer).expect("an answer");
    assert!(answer[..n].ends_with(b"\r\n\r\n/a true"), "{}", answer[..n].escape_ascii());
    Worker::stop_all();
    while Worker::turn(0.01).expect("a turn") {}
    assert!(!path.exists());
}

#[test]
fn limits_connections_leaves_newcomers_in_the_queue_until_one_goes() {
    let (worker, addr) = listening::<Text>("text");
    worker.set_limits(workerman::Limits::new().connections(2));
    let mut peers: Vec<_> = (0..3).map(|_| raw_connect(addr)).collect();
    turn_until(|| worker.connections().len() == 2);
    turn_for(Duration::from_millis(30));
    let ids =
        |worker: Worker<Text>| worker.connections().iter().map(|con| con.id()).collect::<Vec<_>>();
    let two = ids(worker);
    assert_eq!(two.len(), 2);
    drop(peers.remove(0));
    turn_until(|| ids(worker).len() == 2 && ids(worker) != two);
    let con = worker.connections()[0];
    assert_eq!(worker.connection(con.id()), Some(con));
    assert_eq!(worker.connection(two[0]), None);
}

#[test]
fn a_websocket_request_of_another_version_is_told_which_one_is_spoken() {
    for (request, status, more) in [
        ("Sec-WebSocket-Version: 8\r\nUpgrade: websocket\r\n", "426", "Sec-WebSocket-Version: 13"),
        (
            "Sec-WebSocket-Version: 7, 8\r\nUpgrade: websocket\r\n",
            "426",
            "Sec-WebSocket-Version: 13",
        ),
        ("", "400", "WebSocket"),
    ] {
        let (worker, addr) = listening::<Websocket>("websocket");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n{request}\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let peer = std::thread::spawn(move || {
            let mut peer = raw_connect(addr);
            peer.write_all(request.as_bytes()).expect("the socket takes it");
            String::from_utf8_lossy(&read_to_end(&mut peer)).into_owned()
        });
        turn_until(|| peer.is_finished());
        let answer = peer.join().expect("the peer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(more), "{answer}");
        worker.unlisten();
    }
}

#[test]
fn a_scheme_is_compared_without_regard_to_case() {
    for scheme in ["TEXT", "Text", "tcp", "TCP"] {
        Worker::<Text>::listen(&format!("{scheme}://127.0.0.1:0")).expect(scheme);
    }
    Worker::<Websocket>::listen("WebSocket://127.0.0.1:0").expect("WebSocket");
    for scheme in ["WS", "Wss", "ws"] {
        AsyncTcpConnection::<Ws>::new(&format!("{scheme}://127.0.0.1:1")).expect(scheme);
    }
    assert!(Worker::<Text>::listen("FRAME://127.0.0.1:0").is_err());
    assert!(AsyncTcpConnection::<Text>::new("WS://127.0.0.1:1").is_err());
}

// ---------------------------------------------------------------- what a package's limit counts

/// What a server with this limit makes of these bytes, sent after the others.
fn judged<P>(scheme: &str, limit: usize, first: &[u8], bytes: &[u8]) -> Vec<String>
where
    P: workerman::Serve + Default,
    for<'a> P: Protocol<Incoming<'a> = Data<'a>>,
{
    let (worker, addr) = listening::<P>(scheme);
    let seen = Transcript::new();
    worker.on_connect(move |con| con.set_max_package_size(limit));
    let s = seen.clone();
    worker.on_message(move |_, data| s.note(format!("message {}", data.len())));
    let s = seen.clone();
    worker.on_error(move |_, code, failure| s.note(format!("{code:?} {:?}", failure.kind())));
    let (s, ended) = (seen.clone(), Rc::new(Cell::new(false)));
    let theirs = ended.clone();
    worker.on_close(move |_| {
        s.note("close");
        theirs.set(true);
    });
    let mut peer = raw_connect(addr);
    if !first.is_empty() {
        peer.write_all(first).expect("the socket takes it");
        turn_until(|| worker.connections().len() == 1);
        turn();
        let head = read_head(&mut peer);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    }
    peer.write_all(bytes).expect("the socket takes it");
    peer.shutdown(std::net::Shutdown::Write).expect("our end");
    turn_until(|| ended.get());
    seen.lines()
}

#[test]
fn set_max_package_size_counts_a_package_with_its_header() {
    let fits: &[&str] = &["message 4", "close"];
    let over: &[&str] = &["SessionFail Protocol", "close"];
    // A line with its line feed.
    assert_eq!(judged::<Text>("text", 5, b"", b"four\n"), fits);
    assert_eq!(judged::<Text>("text", 4, b"", b"four\n"), over);
    // A frame with the four bytes of its length.
    assert_eq!(judged::<Frame>("frame", 8, b"", b"\0\0\0\x08four"), fits);
    assert_eq!(judged::<Frame>("frame", 7, b"", b"\0\0\0\x08four"), over);
}

#[test]
fn set_max_package_size_counts_a_websocket_message_without_its_header() {
    let request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let message = client_frame(0x81, b"four");
    let fits = judged::<Websocket>("websocket", 4, request, &message);
    assert_eq!(fits, ["message 4", "close"]);
    let over = judged::<Websocket>("websocket", 3, request, &message);
    assert_eq!(over, ["SessionFail Protocol", "close"]);
    // Counted over all fragments.
    let fragments = [client_frame(0x01, b"fo"), client_frame(0x80, b"ur")].concat();
    let fits = judged::<Websocket>("websocket", 4, request, &fragments);
    assert_eq!(fits, ["message 4", "close"]);
    let over = judged::<Websocket>("websocket", 3, request, &fragments);
    assert_eq!(over, ["SessionFail Protocol", "close"]);
}

#[test]
fn set_max_package_size_is_the_limit_of_a_clients_messages_too() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client");
        let head = read_head(&mut stream);
        let mut bytes = accept_head(&head).into_bytes();
        bytes.extend_from_slice(b"\x81\x04four\x81\x05fives");
        stream.write_all(&bytes).expect("the socket takes it");
        read_frame(&mut stream)
    });
    let seen = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}")).expect("an address");
    con.set_max_package_size(4);
    assert_eq!(con.max_package_size(), 4);
    let s = seen.clone();
    con.on_message(move |_, data| s.note(format!("message {data}")));
    let s = seen.clone();
    con.on_error(move |_, code, _| s.note(format!("{code:?}")));
    let s = seen.clone();
    con.on_close(move |_| s.note("close"));
    con.connect();
    turn_until(|| seen.has("close"));
    seen.assert(&["message four", "SessionFail", "close"]);
    let (first, payload) = server.join().expect("the server's own assertions");
    assert_eq!((first, &payload[..2]), (0x88, &1009u16.to_be_bytes()[..]));
}

#[test]
fn a_turn_accepts_no_more_than_its_budget_however_many_come() {
    // Each within its budget; what is left goes on the ready list.
    let (worker, addr) = listening::<Tcp>("tcp");
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.extend((0..100).map(|_| raw_connect(addr)));
        let before = worker.connections().len();
        turn();
        assert!(worker.connections().len() - before <= 64, "at once, after {before}");
    }
    turn_until(|| worker.connections().len() == peers.len());
}

#[test]
fn tls_without_a_certificate_is_an_error_of_the_start() {
    let half = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    half.set_transport(Transport::Ssl);
    let error = Worker::turn(0).expect_err("nobody could be served");
    assert!(error.to_string().contains("call set_tls"), "{error}");
    assert_eq!(half.local_addr(), None);
}

#[test]
fn tls_without_a_certificate_in_a_running_loop_turns_newcomers_away_and_says_so_once() {
    keep_log();
    let (worker, addr) = listening::<Text>("text");
    worker.set_transport(Transport::Ssl);
    for _ in 0..2 {
        let peer = std::thread::spawn(move || read_to_end(&mut raw_connect(addr)));
        turn_until(|| peer.is_finished());
        assert_eq!(peer.join().expect("the peer"), b"");
    }
    assert_eq!(logged_with("ERROR", "call set_tls"), 1);
    assert_eq!(logged_with("DEBUG", "call set_tls"), 1);
    assert!(worker.connections().is_empty());
}

#[test]
fn workers_that_ask_for_it_share_a_port_and_others_are_told_the_remedy() {
    let plain = raw_connect_to_two(false).expect_err("the port is taken");
    assert!(plain.to_string().contains("127.0.0.1:"), "{plain}");
    assert!(plain.to_string().contains("worker.set_reuse_port(true)"), "{plain}");
    let (first, second) = raw_connect_to_two(true).expect("they share it");
    assert!(first > 0 && second > 0, "{first} and {second}");
    assert_eq!(first + second, 64);
}

/// How many of 64 connections each of two loops on one port gets; both ask to share it, or the
/// first alone.
fn raw_connect_to_two(shared: bool) -> Result<(usize, usize)> {
    let serve = |port: u16, reuse: bool| {
        workerman::spawn(move || {
            let worker = Worker::<Text>::listen(&format!("text://127.0.0.1:{port}"))?;
            worker.set_reuse_port(reuse);
            worker.set_backlog(1000);
            let name = if port == 0 { "first" } else { "second" };
            worker.on_connect(move |con| con.send(name));
            Ok(())
        })
    };
    let first = serve(0, true)?;
    let _second = serve(first.addr().port(), shared)?;
    let mut counts = (0, 0);
    for _ in 0..64 {
        // What a hash of the peer's port decides, 64 ports do not all decide alike.
        match &read_bytes(&mut raw_connect(first.addr()), 5)[..] {
            b"first" => counts.0 += 1,
            _ => counts.1 += 1,
        }
    }
    Ok(counts)
}

#[test]
fn reuse_port_and_backlog_are_set_before_it_listens() {
    keep_log();
    let (worker, _) = listening::<Text>("text");
    worker.set_reuse_port(true);
    worker.set_backlog(1);
    assert_eq!(logged_with("ERROR", "set_reuse_port changes nothing: it listens already"), 1);
    assert_eq!(logged_with("ERROR", "set_backlog changes nothing: it listens already"), 1);
}

#[test]
fn a_backlog_of_one_is_a_short_queue() {
    // Linux keeps one more than it is told.
    let worker = Worker::<Text>::listen(&format!("text://{}:0", own_host())).expect("an address");
    worker.set_backlog(1);
    worker.pause_accept();
    turn();
    let addr = worker.local_addr().expect("it listens");
    let short = Duration::from_millis(200);
    let waiting: Vec<_> =
        (0..8).map_while(|_| std::net::TcpStream::connect_timeout(&addr, short).ok()).collect();
    assert!((1..8).contains(&waiting.len()), "{} were let in", waiting.len());
}

#[test]
fn ipv6_addresses_are_listened_on() {
    let Ok(_) = TcpListener::bind("[::1]:0") else { return };
    let worker = Worker::<Text>::listen("text://[::1]:0").expect("an address");
    worker.on_message(|con, line| con.send(format!("{line} {}", con.remote_ip().is_some())));
    turn();
    let addr = worker.local_addr().expect("it listens");
    assert!(addr.is_ipv6());
    let mut peer = raw_connect(addr);
    peer.write_all(b"hello\n").expect("the socket takes it");
    turn_until(|| worker.connections().len() == 1);
    turn();
    assert_eq!(read_bytes(&mut peer, 11), b"hello true\n");
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[test]
fn a_certificate_for_a_worker_that_speaks_no_tls_is_a_warning_at_the_start() {
    keep_log();
    let half = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    half.set_tls(Tls::new().identity(crate::support::peers::identity().path()))
        .expect("a certificate and its key");
    turn();
    assert_eq!(logged_with("WARN", "call set_transport(Transport::Ssl)"), 1);
}
