//! The ways in which a stream is fed, and the streams that are made of samples.
use super::super::{Protocol, Terms};
use super::dice::Dice;
use super::record::{Record, Seen, shown};
use super::session::{Session, TELLING};
use super::{Check, Sample};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Random cuts of each stream.
const RANDOM_CUTS: usize = 12;
/// Streams of several samples.
const CHAINS: usize = 16;
/// Streams that are cut off.
const CUT_OFF: usize = 64;
/// Altered streams, at most and at least; so many bytes of them are enough.
const ALTERED: (usize, usize) = (400, 40);
const ALTERED_BYTES: usize = 4 << 20;

/// What numbers of a stream become: the most that 32 and 64 bits hold, with sign and without, so
/// that whatever is added overflows; more than any type holds; and nothing, in many digits.
const LARGE: [&str; 6] = [
    "9999999999999999999999999999999999999999",
    "18446744073709551615",
    "9223372036854775807",
    "4294967295",
    "2147483647",
    "00000000000000000000000000000000000000000",
];
/// Bytes of streams with large numbers, at most.
const STRETCHED_BYTES: usize = 1 << 20;

/// How a stream is cut.
#[derive(Clone)]
enum Cut {
    Whole,
    /// Pieces of so many bytes.
    Each(usize),
    /// Cut behind these many bytes, and then these many more.
    At(Vec<usize>),
}

impl Cut {
    /// Mostly small pieces, as the interesting places are close to one another.
    fn random(length: usize, dice: &mut Dice) -> Cut {
        let most = [3, 10, 100, length.max(1)][dice.below(4)];
        let (mut pieces, mut left) = (Vec::new(), length);
        while left > 0 {
            let piece = (1 + dice.below(most)).min(left);
            pieces.push(piece);
            left -= piece;
        }
        Cut::At(pieces)
    }

    fn pieces<'s>(&self, stream: &'s [u8]) -> Vec<&'s [u8]> {
        match self {
            Cut::Whole => vec![stream],
            Cut::Each(n) => stream.chunks(*n).collect(),
            Cut::At(lengths) => {
                let mut rest = stream;
                let cut = |&length: &usize| {
                    let (piece, behind) = rest.split_at(length.min(rest.len()));
                    rest = behind;
                    piece
                };
                lengths.iter().map(cut).collect()
            }
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::Whole => f.write_str("fed whole"),
            Cut::Each(1) => f.write_str("fed byte by byte"),
            Cut::Each(n) => write!(f, "fed in pieces of {n} bytes"),
            Cut::At(pieces) if pieces.len() <= 40 => write!(f, "fed in pieces of {pieces:?} bytes"),
            Cut::At(pieces) => {
                write!(f, "fed in pieces of {:?} and so on bytes", &pieces[..40])
            }
        }
    }
}

/// What all runs of a check share.
struct Bench<'c, P: Protocol> {
    check: &'c Check<P>,
    terms: Terms,
    dice: Dice,
}

/// All that a check does; `Err`: the first fault.
pub(super) fn all<P: Protocol>(check: &Check<P>, samples: &[Sample<P>]) -> Result<(), String> {
    let terms = Terms { limits: check.limits.clone(), remote_host: "peer.test".into() };
    let mut bench = Bench { check, terms, dice: Dice::new(check.seed) };
    let mut streams = Vec::new();
    for (at, sample) in samples.iter().enumerate() {
        streams.push(bench.sample(at + 1, sample)?);
    }
    bench.chains(samples, &streams)?;
    bench.large_numbers(&streams)?;
    bench.garbage(&streams)
}

impl<P: Protocol> Bench<'_, P> {
    /// One sample by itself; its stream.
    fn sample(&mut self, number: usize, sample: &Sample<P>) -> Result<Vec<u8>, String> {
        let made = caught(|| sample.stream(&*self.check.make, &self.terms));
        let stream = made.map_err(|fault| format!("sample {number}, being sent: {fault}"))?;
        let name = format!("sample {number}, {}", shown(&stream));
        let whole = self.run(&stream, &Cut::Whole, &name)?;
        if let Some(fault) = sample.misses(&whole) {
            return Err(format!("{name}, fed whole: {fault}"));
        }
        self.cuts(&name, &stream, &whole)?;
        self.looks_again(&name, &stream, &whole)?;
        self.cut_off(&name, &stream, &whole)?;
        Ok(stream)
    }

    /// The stream in other pieces gives the same.
    fn cuts(&mut self, name: &str, stream: &[u8], whole: &Record) -> Result<(), String> {
        let mut cuts: Vec<Cut> = [1, 2, 3, 7, 64, 1000].map(Cut::Each).into();
        cuts.extend((0..RANDOM_CUTS).map(|_| Cut::random(stream.len(), &mut self.dice)));
        for cut in cuts {
            self.same(name, stream, &cut, whole)?;
        }
        Ok(())
    }

    fn same(&self, name: &str, stream: &[u8], cut: &Cut, whole: &Record) -> Result<(), String> {
        let got = self.run(stream, cut, name)?;
        match whole.difference("where it is fed whole", &got) {
            None => Ok(()),
            Some(fault) => Err(format!("{name}, {cut}: {fault}")),
        }
    }

    /// What `input` has seen it need not see again, so that it makes no difference if it is spoilt.
    fn looks_again(&self, name: &str, stream: &[u8], whole: &Record) -> Result<(), String> {
        let from = [0].iter().chain(&whole.ends);
        let long = from.zip(&whole.ends).any(|(from, to)| to - from >= TELLING);
        if self.check.looks_again || !long {
            return Ok(());
        }
        let got = caught(|| {
            let mut session = self.session();
            session.spoil(stream, &whole.ends);
            for piece in stream.chunks(16) {
                session.feed(piece)?;
            }
            session.eof();
            Ok(session.record)
        });
        let same = got.is_ok_and(|got| whole.difference("", &got).is_none());
        match same {
            true => Ok(()),
            false => Err(format!(
                "{name}: `input` looks again at what it has seen, so that a long package in small \
                 pieces costs the square of its length; keep in the protocol how far it has come \
                 (or say Check::may_look_again)"
            )),
        }
    }

    /// A stream that ends early gives what had come until then.
    fn cut_off(&mut self, name: &str, stream: &[u8], whole: &Record) -> Result<(), String> {
        let every = stream.len() <= CUT_OFF;
        for n in 0..stream.len().min(CUT_OFF) {
            let length = if every { n } else { self.dice.below(stream.len()) };
            let name = format!("{name}, cut off behind byte {length}");
            let cut = Cut::random(length, &mut self.dice);
            let got = self.run(&stream[..length], &cut, &name)?;
            got.begins(whole).map_err(|fault| format!("{name}, {cut}: {fault}"))?;
        }
        Ok(())
    }

    /// Several samples one behind the other give what each gives.
    fn chains(&mut self, samples: &[Sample<P>], streams: &[Vec<u8>]) -> Result<(), String> {
        let links: Vec<usize> = (0..samples.len()).filter(|at| samples[*at].goes_on()).collect();
        let lasts: Vec<usize> = (0..samples.len()).filter(|at| !samples[*at].alone).collect();
        if links.is_empty() {
            return Ok(());
        }
        for round in 0..CHAINS {
            let mut chain: Vec<usize> = match round {
                0 => links.clone(),
                _ => (0..1 + self.dice.below(5)).map(|_| self.one_of(&links)).collect(),
            };
            chain.push(self.one_of(&lasts));
            let (mut stream, mut expected) = (Vec::new(), Seen::default());
            for &at in &chain {
                expected.append(samples[at].seen(), stream.len());
                stream.extend_from_slice(&streams[at]);
            }
            let numbers: Vec<usize> = chain.iter().map(|at| at + 1).collect();
            let name = format!("samples {numbers:?} one behind the other");
            let whole = self.run(&stream, &Cut::Whole, &name)?;
            let last = &samples[chain[chain.len() - 1]].expected;
            let mut promised: Sample<P> = Sample::bytes("");
            promised.expected.seen = expected;
            promised.expected.end = last.end.clone();
            if let Some(fault) = promised.misses(&whole) {
                return Err(format!("{name}, fed whole: {fault}"));
            }
            let random = Cut::random(stream.len(), &mut self.dice);
            for cut in [Cut::Each(1), Cut::Each(7), random] {
                self.same(&name, &stream, &cut, &whole)?;
            }
        }
        Ok(())
    }

    fn one_of(&mut self, choice: &[usize]) -> usize {
        choice[self.dice.below(choice.len())]
    }

    /// A peer may write any number where digits say a length.
    fn large_numbers(&mut self, streams: &[Vec<u8>]) -> Result<(), String> {
        let mut left = STRETCHED_BYTES;
        for (sample, stream) in streams.iter().enumerate() {
            for number in numbers(stream) {
                for large in LARGE {
                    let (before, behind) = (&stream[..number.start], &stream[number.end..]);
                    let stretched = [before, large.as_bytes(), behind].concat();
                    let Some(rest) = left.checked_sub(stretched.len()) else { continue };
                    left = rest;
                    let name = format!(
                        "sample {} with the number at byte {} as {large}, {}",
                        sample + 1,
                        number.start,
                        shown(&stretched)
                    );
                    let whole = self.run(&stretched, &Cut::Whole, &name)?;
                    self.same(&name, &stretched, &Cut::Each(1), &whole)?;
                }
            }
        }
        Ok(())
    }

    /// Whatever comes, nothing panics, and it is judged alike in all pieces.
    fn garbage(&mut self, streams: &[Vec<u8>]) -> Result<(), String> {
        let bytes: usize = streams.iter().map(Vec::len).sum();
        let each = bytes / streams.len().max(1) + 1;
        for round in 0..(ALTERED_BYTES / each).clamp(ALTERED.1, ALTERED.0) {
            let stream = self.altered(streams);
            let name = format!("garbage {round} of seed {}, {}", self.check.seed, shown(&stream));
            let whole = self.run(&stream, &Cut::Whole, &name)?;
            self.same(&name, &stream, &Cut::Each(1), &whole)?;
            let random = Cut::random(stream.len(), &mut self.dice);
            self.same(&name, &stream, &random, &whole)?;
        }
        Ok(())
    }

    /// Samples with a few faults, or noise.
    fn altered(&mut self, streams: &[Vec<u8>]) -> Vec<u8> {
        let dice = &mut self.dice;
        let mut stream = match dice.below(8) {
            0 => {
                let length = 1 + dice.below(64);
                dice.bytes(length)
            }
            _ if streams.is_empty() => dice.bytes(16),
            _ => (0..1 + dice.below(2))
                .flat_map(|_| &streams[dice.below(streams.len())])
                .copied()
                .collect(),
        };
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(stream.len());
            let length = (1 + dice.below(4)).min(stream.len() - at);
            match dice.below(7) {
                _ if stream.is_empty() => stream.push(dice.next() as u8),
                0 => stream[at] ^= 1 << dice.below(8),
                1 => stream[at] = dice.next() as u8,
                2 => stream.insert(at, dice.next() as u8),
                3 => drop(stream.drain(at..at + length)),
                4 => stream[at..at + length].fill(0xff),
                5 => stream[at..at + length].fill(0),
                _ => stream.extend_from_within(at..at + length),
            }
        }
        stream
    }

    /// One session from its beginning to its end.
    fn run(&self, stream: &[u8], cut: &Cut, name: &str) -> Result<Record, String> {
        let ran = caught(|| {
            let mut session = self.session();
            for piece in cut.pieces(stream) {
                session.feed(piece)?;
            }
            session.eof();
            let record = session.record.clone();
            session.linger();
            Ok(record)
        });
        ran.map_err(|fault| format!("{name}, {cut}: {fault}"))
    }

    fn session(&self) -> Session<'_, P> {
        Session::new((self.check.make)(), &self.terms, &*self.check.see)
    }
}

/// Where digits stand in a row.
fn numbers(stream: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for at in (0..stream.len()).filter(|at| stream[*at].is_ascii_digit()) {
        match found.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => found.push(at..at + 1),
        }
    }
    found
}

/// What `f` makes; a panic is a fault.
fn caught<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("it panics: {}", text.unwrap_or("with something that is no text")))
    })
}
