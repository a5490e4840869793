//! The server's end of an HTTP connection, without one: bytes in, answers out.
use super::*;
use crate::Limits;
use crate::protocols::Notes;
use crate::protocols::testing::{DOORS, with_doors};

/// What a program answers to a request.
pub(super) type Program = fn(&Request) -> Vec<Reply<'static>>;

/// The server's end of a connection, without one.
pub(super) struct Line {
    http: Http,
    pub(super) limits: Limits,
    pub(super) program: Program,
    pub(super) unread: Vec<u8>,
    pub(super) out: Vec<u8>,
    pub(super) heard: Vec<String>,
    pub(super) status: Option<u16>,
    pub(super) closed: bool,
}

impl Line {
    pub(super) fn new(program: Program) -> Self {
        let limits = Limits::new().message_bytes(1000).upload_memory_bytes(100);
        let mut line = Line {
            http: Http::default(),
            limits,
            program,
            unread: Vec::new(),
            out: Vec::new(),
            heard: Vec::new(),
            status: None,
            closed: false,
        };
        line.call(|http, _, cx| http.on_connect(cx));
        line
    }

    pub(super) fn call<T>(
        &mut self,
        f: impl FnOnce(&mut Http, &mut Vec<u8>, &mut Context) -> T,
    ) -> T {
        self.call_for(Farewell::Asked, f)
    }

    pub(super) fn call_for<T>(
        &mut self,
        farewell: Farewell,
        f: impl FnOnce(&mut Http, &mut Vec<u8>, &mut Context) -> T,
    ) -> T {
        let (http, out) = (&mut self.http, &mut self.out);
        let (answer, notes) = with_doors(&self.limits, &DOORS, farewell, |cx| f(http, out, cx));
        self.note(notes);
        answer
    }

    fn note(&mut self, notes: Notes) {
        self.out.extend_from_slice(&notes.answers);
        self.closed |= notes.close;
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        self.run();
    }

    /// As the engine does: packages until there is none, or the connection ends.
    pub(super) fn run(&mut self) {
        while !self.closed && self.status.is_none() && !self.unread.is_empty() && self.step() {}
    }

    fn step(&mut self) -> bool {
        let mut unread = std::mem::take(&mut self.unread);
        let input = self.call(|http, _, cx| http.input(&mut unread, cx));
        let length = match input {
            Ok(Input::Package(length)) if length <= unread.len() => length,
            Ok(_) => {
                self.unread = unread;
                return false;
            }
            Err(violation) => {
                self.status = violation.close_code();
                self.call(|http, out, cx| http.on_violation(&violation, out, cx));
                return false;
            }
        };
        let mut scratch = Vec::new();
        let (program, mut replies, mut heard) = (self.program, Vec::new(), Vec::new());
        let decoded = self.call(|http, _, cx| {
            let decoded = http.decode(&mut unread[..length], &mut scratch, cx);
            decoded.map(|request| {
                if let Some(request) = request {
                    heard.push(line_of(&request));
                    replies = program(&request);
                }
            })
        });
        assert_eq!(decoded, Ok(()));
        self.heard.append(&mut heard);
        unread.drain(..length);
        self.unread = unread;
        for reply in replies {
            self.send(reply).expect("a reply");
        }
        true
    }

    pub(super) fn send<'m>(&mut self, reply: impl Into<Reply<'m>>) -> Result<(), Violation> {
        let reply = reply.into();
        let sent = self.call(|http, out, cx| http.encode(reply, out, cx));
        self.run();
        sent
    }

    /// All that is written once nothing waits.
    pub(super) fn drain(&mut self) {
        loop {
            let before = self.out.len();
            self.call(|http, out, cx| http.on_writable(out, cx)).expect("a piece");
            if self.out.len() == before {
                break;
            }
        }
        self.run();
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

fn line_of(request: &Request) -> String {
    let body = String::from_utf8_lossy(request.body()).into_owned();
    format!("{} {} [{body}]", request.method(), request.uri())
}

pub(super) fn hello(_: &Request) -> Vec<Reply<'static>> {
    vec!["hi".into()]
}

/// What came of these bytes, in pieces of this length.
pub(crate) fn outcome(bytes: &[u8], cut: usize) -> (Vec<String>, Option<u16>, bool, String) {
    let mut line = Line::new(hello);
    for piece in bytes.chunks(cut) {
        line.feed(piece);
    }
    let text = line.text();
    (line.heard, line.status, line.closed, text)
}

/// Hears these bytes in pieces of this length, up to these limits.
#[cfg(fuzzing)]
pub(crate) fn in_pieces(limits: &Limits, bytes: &[u8], cut: usize) {
    let mut line = Line::new(hello);
    line.limits = limits.clone();
    bytes.chunks(cut).for_each(|piece| line.feed(piece));
}
