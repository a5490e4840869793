//! A scene for codec tests (a clock that stands still, randomness that can be foretold) and a tiny
//! engine that calls a protocol as the real one does, writing down what it hears.
#[cfg_attr(fuzzing, allow(unused_imports))]
pub(crate) use super::check::Dice;
use super::{
    Context, Doors, Event, Farewell, Input, Notes, Pad, Protocol, Scene, Terms, Violation,
};
use crate::{Data, Limits, Payload};
use std::fmt;
use std::time::{Instant, SystemTime};

pub(crate) static DOORS: Doors = Doors {
    random: |out| {
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = 0xa1 ^ (i as u8).wrapping_mul(37);
        }
    },
    now: Instant::now,
    system_time: || SystemTime::UNIX_EPOCH,
};

/// How often a test tries something with other dice: under Miri, a hundred times slower, fewer.
pub(crate) fn rounds(most: u64) -> u64 {
    if cfg!(miri) { most.div_ceil(100) } else { most }
}

/// Runs `f` with a fresh note pad and hands both back.
pub(crate) fn with_doors<T>(
    limits: &Limits,
    doors: &'static Doors,
    farewell: Farewell,
    f: impl FnOnce(&mut Context) -> T,
) -> (T, Notes) {
    let terms = Terms { limits: limits.clone().into(), remote_host: "peer.test".into() };
    let mut pad = Pad::default();
    let scene = Scene { terms: &terms, doors, farewell };
    let result = f(&mut Context { pad: &mut pad, scene });
    (result, pad.take())
}

/// The same, with the scene of most tests.
pub(crate) fn with_context<T>(limits: &Limits, f: impl FnOnce(&mut Context) -> T) -> (T, Notes) {
    with_doors(limits, &DOORS, Farewell::Asked, f)
}

/// A protocol whose messages are plain ones.
pub(crate) trait Flat:
    for<'a> Protocol<Incoming<'a> = Data<'a>, Outgoing<'a> = Payload<'a>>
{
}
impl<P> Flat for P where for<'a> P: Protocol<Incoming<'a> = Data<'a>, Outgoing<'a> = Payload<'a>> {}

/// One line of the transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Upgrade(String),
    Upgraded,
    Opened(u16),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Closed { code: u16, reason: String, first: bool },
    Violation { text: String, code: Option<u16>, refusal: Option<(u16, Vec<u8>)> },
    CloseAsked,
}

impl Seen {
    pub(crate) fn text(text: &str) -> Self {
        Seen::Text(text.into())
    }

    pub(crate) fn binary(bytes: &[u8]) -> Self {
        Seen::Binary(bytes.into())
    }

    pub(crate) fn closed(code: u16, reason: &str, first: bool) -> Self {
        Seen::Closed { code, reason: reason.into(), first }
    }
}

type Program<P> = Box<dyn FnMut(&mut P, &Event)>;

/// One end of a connection.
pub(crate) struct Line<P> {
    pub(crate) protocol: P,
    pub(crate) limits: Limits,
    /// What would have been written to the socket.
    pub(crate) out: Vec<u8>,
    pub(crate) seen: Vec<Seen>,
    /// What the program does in the callback of an event.
    pub(crate) program: Option<Program<P>>,
    /// A package whose length was known ahead is decoded without asking `input` again.
    pub(crate) decodes_at_once: bool,
    pub(crate) unread: Vec<u8>,
    pub(crate) ended: bool,
    scratch: Vec<u8>,
    held: Vec<u8>,
    holding: bool,
    awaited: usize,
}

impl<P: Flat> Line<P> {
    pub(crate) fn new(protocol: P) -> Self {
        Line {
            protocol,
            limits: Limits::new(),
            out: Vec::new(),
            seen: Vec::new(),
            program: None,
            decodes_at_once: false,
            unread: Vec::new(),
            ended: false,
            scratch: Vec::new(),
            held: Vec::new(),
            holding: false,
            awaited: 0,
        }
    }

    pub(crate) fn connect(&mut self) {
        self.call(|protocol, _, cx| protocol.on_connect(cx));
    }

    /// Bytes of the peer arrive.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if !self.ended {
            self.unread.extend_from_slice(bytes);
        }
        while !self.ended && !self.unread.is_empty() && self.step() {}
    }

    pub(crate) fn send<'m>(&mut self, message: impl Into<Payload<'m>>) {
        assert_eq!(self.try_send(message), Ok(()));
    }

    pub(crate) fn try_send<'m>(
        &mut self,
        message: impl Into<Payload<'m>>,
    ) -> Result<(), Violation> {
        let message = message.into();
        self.append(|protocol, out, cx| protocol.encode(message, out, cx))
    }

    /// What appends to the out-buffer: held back while the handshake is not complete.
    pub(crate) fn append<T>(
        &mut self,
        f: impl FnOnce(&mut P, &mut Vec<u8>, &mut Context) -> T,
    ) -> T {
        let mut out = std::mem::take(if self.holding { &mut self.held } else { &mut self.out });
        let result = self.call(|protocol, _, cx| f(protocol, &mut out, cx));
        *(if self.holding { &mut self.held } else { &mut self.out }) = out;
        result
    }

    /// The program calls `close()`; whether the peer's answer is awaited.
    pub(crate) fn close(&mut self) -> bool {
        self.append(|protocol, out, cx| protocol.on_closing(out, cx))
    }

    /// The peer's FIN.
    pub(crate) fn eof(&mut self) {
        let mut rest = std::mem::take(&mut self.unread);
        self.awaited = 0;
        self.deliver(|protocol, scratch, cx| {
            protocol.on_eof(&mut rest, scratch, cx).map(|message| message.map(Seen::from))
        });
    }

    /// The text of the one violation that was seen.
    pub(crate) fn violation(&self) -> &str {
        match self.seen.last() {
            Some(Seen::Violation { text, .. }) => text,
            _ => panic!("no violation: {self:?}"),
        }
    }

    pub(crate) fn violation_code(&self) -> Option<u16> {
        match self.seen.last() {
            Some(Seen::Violation { code, .. }) => *code,
            _ => panic!("no violation: {self:?}"),
        }
    }

    fn step(&mut self) -> bool {
        if self.unread.len() < self.awaited {
            return false;
        }
        let known = std::mem::take(&mut self.awaited);
        let mut length = known;
        if known == 0 || !self.decodes_at_once {
            let mut unread = std::mem::take(&mut self.unread);
            let answer = self.call(|protocol, _, cx| protocol.input(&mut unread, cx));
            if answer.is_ok() {
                let again = self.call(|protocol, _, cx| protocol.input(&mut unread, cx));
                assert_eq!(again, answer, "the same bytes are judged alike");
            }
            self.unread = unread;
            match answer {
                Err(violation) => return self.end(violation),
                Ok(Input::Partial) => return false,
                Ok(Input::PartialOf(n)) => {
                    assert!(n > self.unread.len(), "a whole package is not a part of one");
                    return false;
                }
                Ok(Input::Package(n)) => length = n,
            }
            assert!(length > 0 && (known == 0 || known == length));
        }
        if length > self.unread.len() {
            self.awaited = length;
            return false;
        }
        let mut package: Vec<u8> = self.unread.drain(..length).collect();
        self.deliver(|protocol, scratch, cx| {
            protocol.decode(&mut package, scratch, cx).map(|message| message.map(Seen::from))
        })
    }

    fn deliver(
        &mut self,
        f: impl FnOnce(&mut P, &mut Vec<u8>, &mut Context) -> Result<Option<Seen>, Violation>,
    ) -> bool {
        match self.call(f) {
            Ok(message) => {
                self.seen.extend(message);
                true
            }
            Err(violation) => self.end(violation),
        }
    }

    fn end(&mut self, violation: Violation) -> bool {
        self.append(|protocol, out, cx| protocol.on_violation(&violation, out, cx));
        if let Some(Seen::Violation { text, code, .. }) = self.seen.last_mut() {
            // The refusal was noted by the call that failed.
            *text = violation.to_string();
            *code = violation.close_code();
        } else {
            let (text, code) = (violation.to_string(), violation.close_code());
            self.seen.push(Seen::Violation { text, code, refusal: None });
        }
        self.ended = true;
        false
    }

    fn call<T>(&mut self, f: impl FnOnce(&mut P, &mut Vec<u8>, &mut Context) -> T) -> T {
        let (protocol, scratch) = (&mut self.protocol, &mut self.scratch);
        let (result, notes) = with_context(&self.limits, |cx| f(protocol, scratch, cx));
        self.settle(notes);
        result
    }

    fn settle(&mut self, notes: Notes) {
        self.out.extend_from_slice(&notes.answers);
        match notes.hold {
            Some(true) => self.holding = true,
            Some(false) => {
                self.holding = false;
                self.out.append(&mut self.held);
            }
            None => {}
        }
        if let Some(response) = notes.refusal {
            let refusal = Some((response.status(), response.body().to_vec()));
            self.seen.push(Seen::Violation { text: String::new(), code: None, refusal });
        }
        if notes.close {
            self.seen.push(Seen::CloseAsked);
            self.ended = true;
        }
        let Some(event) = notes.event else { return };
        self.seen.push(Seen::from(&event));
        if let Some(program) = &mut self.program {
            program(&mut self.protocol, &event);
        }
        if let Err(violation) = self.call(|protocol, _, cx| protocol.after_event(cx)) {
            self.end(violation);
        }
    }
}

impl From<Data<'_>> for Seen {
    fn from(data: Data) -> Self {
        match data {
            Data::Text(text) => Seen::Text(text.into()),
            Data::Binary(bytes) => Seen::Binary(bytes.into()),
        }
    }
}

impl From<&Event> for Seen {
    fn from(event: &Event) -> Self {
        match event {
            Event::Upgrade(head) => Seen::Upgrade(head.request().path().into()),
            Event::Upgraded(_) => Seen::Upgraded,
            Event::Opened(response) => Seen::Opened(response.status()),
            Event::Ping(payload) => Seen::Ping(payload.clone()),
            Event::Pong { payload, .. } => Seen::Pong(payload.clone()),
            Event::Closed { code, reason, first } => Seen::closed(*code, reason, *first),
        }
    }
}

impl<P> fmt::Debug for Line<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("seen", &self.seen)
            .field("out", &String::from_utf8_lossy(&self.out))
            .finish_non_exhaustive()
    }
}

/// Feeds the stream to a fresh line whole, byte by byte and in other cuts, each with both ways of
/// waiting for a package; all must see and answer the same. Hands the last line back.
///
/// Only for protocols whose messages do not depend on the cuts: not for raw TCP.
pub(crate) fn each_way<P: Flat>(stream: &[u8], fresh: impl Fn() -> Line<P>) -> Line<P> {
    let mut first: Option<Line<P>> = None;
    for cut in [stream.len().max(1), 1, 2, 3, 7, 64, 1000] {
        for decodes_at_once in [false, true] {
            let mut line = fresh();
            line.decodes_at_once = decodes_at_once;
            for piece in stream.chunks(cut) {
                line.feed(piece);
            }
            match &first {
                None => first = Some(line),
                Some(first) => {
                    assert_eq!(line.seen, first.seen, "in pieces of {cut}");
                    assert_eq!(line.out, first.out, "in pieces of {cut}");
                }
            }
        }
    }
    first.expect("at least one way was gone")
}

/// Carries bytes to and fro until both ends are silent.
pub(crate) fn talk<A: Flat, B: Flat>(a: &mut Line<A>, b: &mut Line<B>, cut: usize) {
    while !a.out.is_empty() || !b.out.is_empty() {
        for piece in std::mem::take(&mut a.out).chunks(cut) {
            b.feed(piece);
        }
        for piece in std::mem::take(&mut b.out).chunks(cut) {
            a.feed(piece);
        }
    }
}
