//! A session without a socket: calls a protocol as a connection does, and writes down what comes.
use super::super::{
    Context, Doors, Farewell, Input, Notes, Pad, Protocol, Scene, Terms, Violation,
};
use super::dice::Dice;
use super::record::{End, Record, Seen};
use std::cell::{Cell, RefCell};
use std::time::{Instant, SystemTime};

/// Shows a message to the record.
pub(super) type See<P> = dyn Fn(<P as Protocol>::Incoming<'_>, &mut Seen);

/// How many bytes at the front of a package, and at the end of what it was shown, a protocol may
/// look at again.
const SEEN_AGAIN: usize = 64;

/// A package from here on is long enough to tell whether what was shown is looked at again.
pub(super) const TELLING: usize = 4 * SEEN_AGAIN;

thread_local! {
    static CLOCK: Cell<Option<Instant>> = const { Cell::new(None) };
    static DICE: RefCell<Dice> = RefCell::new(Dice::new(0));
}

/// A clock that stands still, and randomness that begins anew with each session.
static DOORS: Doors = Doors {
    random: |out| {
        let bytes = DICE.with_borrow_mut(|dice| dice.bytes(out.len()));
        out.copy_from_slice(&bytes);
    },
    now: || {
        CLOCK.get().unwrap_or_else(|| {
            let now = Instant::now();
            CLOCK.set(Some(now));
            now
        })
    },
    system_time: || SystemTime::UNIX_EPOCH,
};

/// The whole stream, and where its packages end.
#[derive(Clone, Copy)]
struct Spoil<'c> {
    stream: &'c [u8],
    ends: &'c [usize],
}

impl Spoil<'_> {
    /// The last bytes of the package that begins at `at`: who meets them early finds its end too
    /// early.
    fn tail(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.iter().find(|end| **end > at)?;
        self.stream.get(end.saturating_sub(8).max(at)..end)
    }
}

/// One run over one stream.
pub(super) struct Session<'c, P: Protocol> {
    protocol: P,
    terms: &'c Terms,
    see: &'c See<P>,
    /// All that has arrived.
    stream: Vec<u8>,
    /// Where the package that is not yet delivered begins.
    at: usize,
    /// What `PartialOf` said of it.
    announced: Option<usize>,
    /// What `Package` said of it: `input` is not asked again before it is whole.
    awaited: Option<usize>,
    /// So much of it `input` has seen.
    shown: usize,
    /// What was shown is spoilt before it is shown again.
    spoil: Option<Spoil<'c>>,
    scratch: Vec<u8>,
    deadline: Option<Instant>,
    pub(super) record: Record,
}

impl<'c, P: Protocol> Session<'c, P> {
    pub(super) fn new(protocol: P, terms: &'c Terms, see: &'c See<P>) -> Self {
        DICE.set(Dice::new(1));
        let mut session = Session {
            protocol,
            terms,
            see,
            stream: Vec::new(),
            at: 0,
            announced: None,
            awaited: None,
            shown: 0,
            spoil: None,
            scratch: Vec::new(),
            deadline: None,
            record: Record::default(),
        };
        session.call(Farewell::Asked, |protocol, cx| protocol.on_connect(cx));
        session
    }

    /// From now on what `input` has seen is other bytes when it is shown again, but for the first
    /// and the last few.
    pub(super) fn spoil(&mut self, stream: &'c [u8], ends: &'c [usize]) {
        self.spoil = Some(Spoil { stream, ends });
    }

    /// Bytes arrive. `Err`: what the protocol may not say.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.extend_from_slice(bytes);
        while self.is_open() && self.at < self.stream.len() && self.step()? {}
        Ok(())
    }

    /// The peer's end.
    pub(super) fn eof(&mut self) {
        self.record.at_eof = self.record.seen.marks.len();
        if !self.is_open() {
            self.record.ended_before_eof = true;
            return;
        }
        let rest = self.stream.len() - self.at;
        self.record.end = End::Open { rest };
        self.record.seen.at_end(self.stream.len());
        self.scratch.clear();
        let (terms, see) = (self.terms, self.see);
        let (stream, scratch) = (&mut self.stream[self.at..], &mut self.scratch);
        let (protocol, seen) = (&mut self.protocol, &mut self.record.seen);
        let (asked, notes) = with_context(terms, Farewell::Asked, |cx| {
            let message = protocol.on_eof(stream, scratch, cx)?;
            Ok::<_, Violation>(message.map(|message| see(message, seen)))
        });
        self.settle(notes);
        if let Err(violation) = asked {
            self.violated(violation);
        }
    }

    /// What else a connection may ask of it: nothing here may panic.
    pub(super) fn linger(&mut self) {
        let mut out = Vec::new();
        for _ in 0..16 {
            let begun = out.len();
            let piece =
                self.call(Farewell::Asked, |protocol, cx| protocol.on_writable(&mut out, cx));
            if piece.is_err() || out.len() == begun {
                break;
            }
        }
        if let Some(at) = self.deadline.take() {
            let stands = CLOCK.replace(Some(at.max((DOORS.now)())));
            let told = self.call(Farewell::Asked, |protocol, cx| protocol.on_timer(cx));
            CLOCK.set(stands);
            if let Err(violation) = told {
                self.violated(violation);
            }
        }
        if self.is_open() {
            self.call(Farewell::Stopping, |protocol, cx| protocol.on_closing(&mut out, cx));
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.record.end, End::Open { .. })
    }

    /// The first package, as `connection/serve.rs` takes it; `false`: it is not whole.
    fn step(&mut self) -> Result<bool, String> {
        let length = match self.awaited.take() {
            Some(length) => length,
            None => match self.ask() {
                Ok(answer) => match self.judge(answer)? {
                    Some(length) => length,
                    None => return Ok(false),
                },
                Err(violation) => {
                    self.violated(violation);
                    return Ok(false);
                }
            },
        };
        if length > self.terms.limits.message_bytes && !P::JUDGES_LENGTH {
            self.violated(self.too_long(length));
            return Ok(false);
        }
        if length > self.stream.len() - self.at {
            self.awaited = Some(length);
            return Ok(false);
        }
        self.deliver(length);
        Ok(true)
    }

    /// `input`, for all that is there.
    fn ask(&mut self) -> Result<Input, Violation> {
        let mut whole = std::mem::take(&mut self.stream);
        let buffer = &mut whole[self.at..];
        let tail = self.spoil.as_ref().and_then(|spoil| spoil.tail(self.at));
        let kept = tail.filter(|_| self.shown > 2 * SEEN_AGAIN).map(|tail| {
            let middle = &mut buffer[SEEN_AGAIN..self.shown - SEEN_AGAIN];
            let kept = middle.to_vec();
            let bad = tail.iter().cycle();
            middle.iter_mut().zip(bad).for_each(|(byte, bad)| *byte = *bad);
            kept
        });
        self.shown = buffer.len();
        let answer = self.call(Farewell::Asked, |protocol, cx| protocol.input(buffer, cx));
        if let Some(kept) = kept {
            buffer[SEEN_AGAIN..SEEN_AGAIN + kept.len()].copy_from_slice(&kept);
        }
        self.stream = whole;
        answer
    }

    /// The length of a package, if it is one.
    fn judge(&mut self, answer: Input) -> Result<Option<usize>, String> {
        let here = self.stream.len() - self.at;
        let before = self.announced;
        let changed = |now: String| {
            let before = before.unwrap_or_default();
            format!("`input` said PartialOf({before}) of a package and then {now}")
        };
        match answer {
            Input::Package(0) => Err("`input` said Package(0): a package of no bytes would be \
                                      found again for ever"
                .into()),
            Input::Package(n) if before.is_some_and(|before| before != n) => {
                Err(changed(format!("Package({n})")))
            }
            Input::Package(n) => Ok(Some(n)),
            Input::PartialOf(n) if n <= here => Err(format!(
                "`input` said PartialOf({n}) where {here} bytes were there: that package is whole"
            )),
            Input::PartialOf(n) if before.is_some_and(|before| before != n) => {
                Err(changed(format!("PartialOf({n})")))
            }
            Input::Partial if before.is_some() => Err(changed("Partial".into())),
            Input::Partial => self.partial(here),
            Input::PartialOf(n) => {
                self.announced = Some(n);
                self.partial(n)
            }
        }
    }

    /// A package that grows beyond the limit is refused before it is whole.
    fn partial(&mut self, length: usize) -> Result<Option<usize>, String> {
        if length > self.terms.limits.message_bytes && !P::JUDGES_LENGTH {
            self.violated(self.too_long(length));
        }
        Ok(None)
    }

    fn too_long(&self, length: usize) -> Violation {
        let limit = self.terms.limits.message_bytes;
        Violation::new(format!("{length} bytes are above the limit of {limit} (message_bytes)"))
    }

    fn deliver(&mut self, length: usize) {
        self.announced = None;
        self.shown = 0;
        self.scratch.clear();
        let end = self.at + length;
        self.record.ends.push(end);
        self.record.seen.at_end(end);
        let (terms, see) = (self.terms, self.see);
        let (package, scratch) = (&mut self.stream[self.at..end], &mut self.scratch);
        let (protocol, seen) = (&mut self.protocol, &mut self.record.seen);
        self.at = end;
        let (decoded, notes) = with_context(terms, Farewell::Asked, |cx| {
            let message = protocol.decode(package, scratch, cx)?;
            Ok::<_, Violation>(message.map(|message| see(message, seen)))
        });
        self.settle(notes);
        if let Err(violation) = decoded {
            self.violated(violation);
        }
    }

    fn violated(&mut self, violation: Violation) {
        let mut out = Vec::new();
        self.call(Farewell::Asked, |protocol, cx| {
            protocol.on_violation(&violation, &mut out, cx);
        });
        self.record.end = End::Violation(violation.to_string());
    }

    fn call<T>(&mut self, why: Farewell, f: impl FnOnce(&mut P, &mut Context) -> T) -> T {
        let protocol = &mut self.protocol;
        let (result, notes) = with_context(self.terms, why, |cx| f(protocol, cx));
        self.settle(notes);
        result
    }

    fn settle(&mut self, notes: Notes) {
        self.record.answers.extend_from_slice(&notes.answers);
        if let Some(deadline) = notes.deadline {
            self.deadline = deadline;
        }
        if notes.close && self.is_open() {
            self.record.end = End::Closed;
        }
        if notes.event.is_some() {
            let told = self.call(Farewell::Asked, |protocol, cx| protocol.after_event(cx));
            if let Err(violation) = told {
                self.violated(violation);
            }
        }
    }
}

/// Runs `f` with a fresh note pad and hands both back.
pub(super) fn with_context<T>(
    terms: &Terms,
    farewell: Farewell,
    f: impl FnOnce(&mut Context) -> T,
) -> (T, Notes) {
    let mut pad = Pad::default();
    let scene = Scene { terms, doors: &DOORS, farewell };
    let result = f(&mut Context { pad: &mut pad, scene });
    (result, pad.take())
}
