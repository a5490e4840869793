//! Tries a protocol as the network would, without one: for the tests of programs.
use super::Protocol;
use crate::Limits;
use std::fmt::{self, Debug};
use std::rc::Rc;

mod dice;
mod record;
mod runs;
mod sample;
mod session;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use dice::Dice;
pub use record::Seen;
pub use sample::{Sample, Sending};
use session::See;

/// Whether `P` does with these samples what a protocol must: the test of a protocol of your own.
///
/// Each sample is fed whole, byte by byte, and in other pieces; several one behind the other; cut
/// off at any byte; with other numbers where it has digits; and altered at random, as a peer might
/// that is mad or malicious. Refused is
///
/// - what gives other messages, answers or another end when it comes in other pieces,
/// - a length once announced that changes, and a package of no bytes,
/// - a panic, whatever came: one peer's bytes would end the whole loop,
/// - `input` that looks again and again at all that it has seen (samples of 256 bytes and more
///   show it): a long package in small pieces would cost the square of its length,
/// - a message that is sent and does not come out as it should, and an `encode` that alters what
///   was queued before it, or leaves something behind when it fails.
///
/// What is refused is told: which sample, how it was cut, what differed. The same samples give the
/// same runs each time; [`Check::seed`] gives others. There is no socket and no waiting: the clock
/// stands still.
///
/// ```
/// use workerman::protocols::{Sample, check};
/// use workerman::{Data, Text};
///
/// # fn test() -> Result<(), workerman::protocols::Unsound> {
/// // #[test]
/// // fn lines_are_sound() -> Result<(), Unsound> {
/// check::<Text>([
///     Sample::bytes("one\r\n\n").gives(Data::Text("one")).gives(Data::Text("")),
///     Sample::bytes(b"caf\xe9\n").gives(Data::Binary(b"caf\xe9")),
///     Sample::bytes("and so on").leaves(9),
///     Sample::sent(|con| con.send("hello")).gives(Data::Text("hello")),
/// ])
/// # }
/// # test().expect("lines are sound");
/// ```
///
/// # Errors
///
/// The first fault that was found, with the bytes that show it.
pub fn check<P: Protocol + Default>(
    samples: impl IntoIterator<Item = Sample<P>>,
) -> Result<(), Unsound>
where
    for<'a> P::Incoming<'a>: Debug,
{
    Check::new(P::default).run(samples)
}

/// [`check`] with its settings: for a protocol that is not `Default`, that has limits of its own,
/// or whose messages are pieces of something longer.
///
/// ```
/// use workerman::protocols::{Check, Sample};
/// use workerman::{Limits, Tcp};
///
/// // What tcp delivers depends on how the bytes arrive: only all of it together can be compared.
/// Check::seen_by(Tcp::default, |data, seen| seen.piece(data.as_bytes()))
///     .limits(Limits::new().message_bytes(1000))
///     .run([Sample::bytes("what has come").gives_piece("what has come")])
///     .expect("tcp is sound");
/// ```
pub struct Check<P: Protocol> {
    make: Box<dyn Fn() -> P>,
    see: Box<See<P>>,
    limits: Rc<Limits>,
    seed: u64,
    looks_again: bool,
}

impl<P: Protocol> Check<P> {
    /// Each session begins with what `make` makes; messages are compared as `{:?}` prints them.
    pub fn new(make: impl Fn() -> P + 'static) -> Self
    where
        for<'a> P::Incoming<'a>: Debug,
    {
        Check::seen_by(make, |message, seen| seen.message(message))
    }

    /// The same where messages are no `Debug`, or are compared otherwise: `see` shows each to the
    /// record, by [`Seen::message`] or [`Seen::piece`].
    pub fn seen_by(
        make: impl Fn() -> P + 'static,
        see: impl Fn(P::Incoming<'_>, &mut Seen) + 'static,
    ) -> Self {
        Check {
            make: Box::new(make),
            see: Box::new(see),
            limits: Rc::new(Limits::BUILT_IN),
            seed: 1,
            looks_again: false,
        }
    }

    /// The connection's limits; [`Limits::new`] has those of a connection that was given none.
    pub fn limits(self, limits: Limits) -> Self {
        Check { limits: Rc::new(limits), ..self }
    }

    /// Other cuts, other garbage (1).
    pub fn seed(self, seed: u64) -> Self {
        Check { seed, ..self }
    }

    /// `input` may look at a package from its beginning each time: fine where packages are short
    /// and the limit says so.
    pub fn may_look_again(self) -> Self {
        Check { looks_again: true, ..self }
    }

    /// Tries it with these samples.
    ///
    /// # Errors
    ///
    /// The first fault that was found.
    pub fn run(&self, samples: impl IntoIterator<Item = Sample<P>>) -> Result<(), Unsound> {
        let samples: Vec<Sample<P>> = samples.into_iter().collect();
        runs::all(self, &samples).map_err(Unsound)
    }
}

impl<P: Protocol> Debug for Check<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("protocol", &P::NAME)
            .field("limits", &self.limits)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// What [`check`] found: prints as the sample, how it was fed, and what was wrong; so does its
/// `{:?}`, so that a test may `unwrap` it or end with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Unsound(String);

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Debug for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsound {}
