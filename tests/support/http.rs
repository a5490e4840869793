//! Raw http clients, and files to send.
use super::peers::read_to_end;
use super::{raw_connect, turn_until};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;

/// A raw client that sends this and hands back all that comes until the server's end.
pub(crate) fn client(addr: SocketAddr, request: impl Into<Vec<u8>>) -> JoinHandle<Vec<u8>> {
    let request = request.into();
    std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        stream.write_all(&request).expect("the request");
        read_to_end(&mut stream)
    })
}

/// The same, while this thread's loop turns.
#[track_caller]
pub(crate) fn talk(addr: SocketAddr, request: impl Into<Vec<u8>>) -> String {
    String::from_utf8_lossy(&finish(client(addr, request))).into_owned()
}

#[track_caller]
pub(crate) fn finish<T>(client: JoinHandle<T>) -> T {
    turn_until(|| client.is_finished());
    client.join().expect("the client's part")
}

pub(crate) fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n")
}

pub(crate) fn last(path: &str) -> String {
    get(path, "Connection: close\r\n")
}

pub(crate) fn body_of(answer: &[u8]) -> &[u8] {
    let at = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    &answer[at + 4..]
}

/// A file of so many bytes that goes with the test.
pub(crate) struct Scrap(pub(crate) PathBuf, pub(crate) Vec<u8>);

impl Scrap {
    pub(crate) fn new(name: &str, bytes: usize) -> Self {
        let name = format!("workerman-http-test-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let content: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).expect("a temporary file");
        Scrap(path, content)
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
