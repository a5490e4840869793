//! What a check feeds to a protocol, and what must come of it.
use super::super::{Farewell, Protocol, Terms, Violation};
use super::record::{End, Record, Seen, shown};
use super::session::with_context;
use std::borrow::Cow;
use std::fmt::{self, Debug};

/// Bytes of a peer from the beginning of a package on, and what they give: messages, in their
/// order, and how it ends. Without further words a sample gives no message and leaves nothing over.
///
/// ```
/// use workerman::protocols::{Sample, check};
/// use workerman::{Data, Frame};
///
/// check::<Frame>([
///     Sample::bytes(b"\0\0\0\x06hi").gives(Data::Binary(b"hi")),
///     Sample::bytes(b"\0\0\0\x03").violates("shorter than its own length field"),
///     Sample::bytes(b"\0\0\0\x06h").leaves(5),
/// ])
/// .expect("frames are sound");
/// ```
pub struct Sample<P: Protocol> {
    pub(super) source: Source<P>,
    pub(super) expected: Record,
    pub(super) answers: Option<Vec<u8>>,
    pub(super) alone: bool,
}

/// What a program sends, through a protocol of its own.
type Send<P> = dyn Fn(&mut Sending<'_, P>);

pub(super) enum Source<P: Protocol> {
    Bytes(Vec<u8>),
    Sent(Box<Send<P>>),
}

impl<P: Protocol> Sample<P> {
    /// What a peer might send.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Sample::of(Source::Bytes(bytes.as_ref().into()))
    }

    /// What a connection of the same protocol sends: it must come out as this sample says. For
    /// protocols whose two ends speak alike.
    ///
    /// The closure is called more than once.
    pub fn sent(send: impl Fn(&mut Sending<'_, P>) + 'static) -> Self {
        Sample::of(Source::Sent(Box::new(send)))
    }

    fn of(source: Source<P>) -> Self {
        Sample { source, expected: Record::default(), answers: None, alone: false }
    }

    /// The next message: one whose `{:?}` is the same as that of `message`.
    pub fn gives(mut self, message: impl Debug) -> Self {
        self.expected.seen.message(message);
        self
    }

    /// Next come these bytes as pieces, cut anywhere ([`Seen::piece`]).
    pub fn gives_piece(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.expected.seen.piece(bytes.as_ref());
        self
    }

    /// At the end of the stream so many bytes are no package yet, and `on_eof` makes no violation
    /// of them.
    pub fn leaves(mut self, bytes: usize) -> Self {
        self.expected.end = End::Open { rest: bytes };
        self
    }

    /// It ends as a violation that says this, at some byte or at the peer's end.
    pub fn violates(mut self, text: &str) -> Self {
        self.expected.end = End::Violation(text.into());
        self
    }

    /// The protocol closes the connection ([`Context::close`](crate::Context::close)).
    pub fn closes(mut self) -> Self {
        self.expected.end = End::Closed;
        self
    }

    /// What the protocol itself answers, all of it ([`Context::reply`](crate::Context::reply)).
    pub fn answers(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.answers = Some(bytes.as_ref().into());
        self
    }

    /// A whole session, which nothing can precede or follow.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Whether another sample may follow.
    pub(super) fn goes_on(&self) -> bool {
        !self.alone && self.expected.end == End::Open { rest: 0 }
    }

    /// The bytes of the stream.
    pub(super) fn stream(&self, make: &dyn Fn() -> P, terms: &Terms) -> Result<Vec<u8>, String> {
        let send = match &self.source {
            Source::Bytes(bytes) => return Ok(bytes.clone()),
            Source::Sent(send) => send,
        };
        let mut both = [false, true].map(|split| {
            let mut protocol = make();
            let _ = with_context(terms, Farewell::Asked, |cx| protocol.on_connect(cx));
            let mut sending = Sending { protocol, terms, split, out: Vec::new(), fault: None };
            send(&mut sending);
            (sending.fault, sending.out)
        });
        for (fault, _) in &mut both {
            if let Some(fault) = fault.take() {
                return Err(fault);
            }
        }
        let [(_, whole), (_, split)] = both;
        if whole != split {
            let (whole, split) = (shown(&whole), shown(&split));
            return Err(format!("`encode` makes {whole}, but `encode_split` {split}"));
        }
        Ok(whole)
    }
}

impl<P: Protocol> Debug for Sample<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Bytes(bytes) => shown(bytes),
            Source::Sent(_) => "what is sent".into(),
        };
        write!(f, "Sample({source} gives {:?}; {})", self.expected.seen, self.expected.end)
    }
}

/// The sending end in [`Sample::sent`].
pub struct Sending<'t, P: Protocol> {
    protocol: P,
    terms: &'t Terms,
    split: bool,
    out: Vec<u8>,
    fault: Option<String>,
}

impl<P: Protocol> Sending<'_, P> {
    /// As the `send` of a connection. A message that cannot be encoded fails the check.
    pub fn send<'m>(&mut self, message: impl Into<P::Outgoing<'m>>) {
        if let Err(violation) = self.encode(message.into()) {
            self.blame(format!("a message cannot be encoded: {violation}"));
        }
    }

    /// A message that `encode` must refuse, by a violation that says this.
    pub fn refuses<'m>(&mut self, message: impl Into<P::Outgoing<'m>>, text: &str) {
        let method = if self.split { "encode_split" } else { "encode" };
        match self.encode(message.into()) {
            Ok(()) => self.blame(format!("`{method}` takes what it should refuse ({text})")),
            Err(violation) if !violation.to_string().contains(text) => {
                self.blame(format!("`{method}` refuses by {violation:?}, not by {text:?}"));
            }
            Err(_) => {}
        }
    }

    fn encode<'m>(&mut self, message: P::Outgoing<'m>) -> Result<(), Violation> {
        let before = self.out.clone();
        let (protocol, out, split) = (&mut self.protocol, &mut self.out, self.split);
        let (encoded, _) = with_context(self.terms, Farewell::Asked, |cx| {
            if split {
                protocol.encode_split(message, out, cx)
            } else {
                protocol.encode(message, out, cx).map(|()| None::<Cow<'m, [u8]>>)
            }
        });
        let method = if split { "encode_split" } else { "encode" };
        if !self.out.starts_with(&before) {
            self.blame(format!("`{method}` altered what was queued before: it may only append"));
        } else if encoded.is_err() && self.out != before {
            let left = shown(&self.out[before.len()..]);
            self.blame(format!("`{method}` failed and left {left} behind"));
        }
        encoded.map(|lent| self.out.extend_from_slice(&lent.unwrap_or_default()))
    }

    fn blame(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}

impl<P: Protocol> Debug for Sending<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("out", &shown(&self.out)).finish_non_exhaustive()
    }
}

impl<P: Protocol> Sample<P> {
    /// What of this sample's promise a run does not keep.
    pub(super) fn misses(&self, got: &Record) -> Option<String> {
        let expected = &self.expected;
        let (ours, theirs) = (&expected.seen.marks, &got.seen.marks);
        for number in 0..ours.len().max(theirs.len()) {
            let (one, two) = (ours.get(number), theirs.get(number));
            if one.map(|mark| &mark.what) == two.map(|mark| &mark.what) {
                continue;
            }
            let number = number + 1;
            let tell = |mark: Option<&super::record::Mark>| {
                mark.map_or("nothing".into(), |mark| format!("{:?}", mark.what))
            };
            let (one, two, end) = (tell(one), tell(two), &got.end);
            return Some(format!("message {number} should be {one} and is {two}; then {end}"));
        }
        let alike = match (&expected.end, &got.end) {
            (End::Violation(text), End::Violation(got)) => got.contains(text),
            (one, two) => one == two,
        };
        if !alike {
            let (one, two) = (&expected.end, &got.end);
            return Some(format!("it should end so: {one}; and ends so: {two}"));
        }
        match &self.answers {
            Some(answers) if *answers != got.answers => {
                let (one, two) = (shown(answers), shown(&got.answers));
                Some(format!("the protocol should answer {one} and answers {two}"))
            }
            _ => None,
        }
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.expected.seen
    }
}
