//! The limit: finds blank lines, answers each with a constant, understands nothing.
//!
//!     raw_http PORT
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Result, Write};

const LISTENER: Token = Token(usize::MAX);
/// As long as what `examples/http_server.rs` answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 00:00:00 GMT\r\n\
    Content-Type: text/html;charset=utf-8\r\nContent-Length: 13\r\n\r\nHello, world!";

struct Connection {
    stream: TcpStream,
    /// The head that has not ended yet.
    begun: Vec<u8>,
    /// What the socket did not take.
    rest: Vec<u8>,
}

fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|p| p.parse().ok()).expect("raw_http PORT");
    let mut listener = TcpListener::bind(([0, 0, 0, 0], port).into())?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut answers = Vec::new();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let id = free.pop().unwrap_or(connections.len());
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(id), both)?;
                    connections.resize_with(connections.len().max(id + 1), || None);
                    let connection = Connection { stream, begun: Vec::new(), rest: Vec::new() };
                    connections[id] = Some(connection);
                }
                continue;
            }
            let id = event.token().0;
            let Some(connection) = &mut connections[id] else { continue };
            let served = connection.serve(&mut buffer, &mut answers, event.is_read_closed());
            if !matches!(served, Ok(true)) {
                connections[id] = None;
                free.push(id);
            }
        }
    }
}

impl Connection {
    /// Reads until the socket is empty. False: the peer is gone.
    fn serve(&mut self, buffer: &mut [u8], answers: &mut Vec<u8>, eof: bool) -> Result<bool> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.write(&rest)?;
        }
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            };
            answers.clear();
            let mut heads = &buffer[..n];
            if !self.begun.is_empty() {
                self.begun.extend_from_slice(heads);
                heads = &self.begun;
            }
            while let Some(end) = heads.windows(4).position(|four| four == b"\r\n\r\n") {
                answers.extend_from_slice(ANSWER);
                heads = &heads[end + 4..];
            }
            self.begun = heads.to_vec();
            self.write(answers)?;
            if n < buffer.len() && !eof {
                return Ok(true);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let taken = match self.stream.write(bytes) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        self.rest.extend_from_slice(&bytes[taken..]);
        Ok(())
    }
}
