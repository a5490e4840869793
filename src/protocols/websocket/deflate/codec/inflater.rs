//! zlib's inflater, which forgets all behind a block that says it is the last (BFINAL), and what it
//! must know again.
use super::WINDOW;
use crate::protocols::websocket::deflate::WIDEST;
use zlib_rs::{Inflate, InflateFlush, Status};

/// An inflater between its messages, or inside one.
pub(super) struct Inflater {
    zlib: Inflate,
    /// A block with BFINAL has ended: zlib takes nothing more until it is reset.
    has_ended: bool,
    /// Where the context is taken over, from the first such block on: what was inflated last,
    /// without the message at hand.
    history: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// More input, or more room.
    Wants,
    /// A block with BFINAL has ended.
    Ended,
    Corrupt,
}

pub(super) struct Step {
    pub(super) taken: usize,
    pub(super) made: usize,
    pub(super) outcome: Outcome,
}

impl Inflater {
    pub(super) fn new() -> Self {
        // The widest window reads what any other one wrote.
        Inflater { zlib: Inflate::new(false, WIDEST), has_ended: false, history: None }
    }

    /// Nothing is known any more.
    pub(super) fn reset(&mut self) {
        self.zlib.reset(false);
        self.has_ended = false;
        self.history = None;
    }

    pub(super) fn step(&mut self, input: &[u8], room: &mut [u8]) -> Step {
        let before = (self.zlib.total_in(), self.zlib.total_out());
        let outcome = match self.zlib.decompress(input, room, InflateFlush::NoFlush) {
            Ok(Status::StreamEnd) => Outcome::Ended,
            Ok(Status::Ok | Status::BufError) => Outcome::Wants,
            Err(_) => Outcome::Corrupt,
        };
        self.has_ended |= outcome == Outcome::Ended;
        Step {
            taken: (self.zlib.total_in() - before.0) as usize,
            made: (self.zlib.total_out() - before.1) as usize,
            outcome,
        }
    }

    /// How many bytes are kept beside zlib's window.
    #[cfg(test)]
    pub(super) fn knows(&self) -> usize {
        self.history.as_ref().map_or(0, Vec::capacity)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Before a block with BFINAL, or behind one: later messages may refer to what was there before
    /// it. Ahead of a message all of that can still be had. Where the first such block of a session
    /// stands further behind in its message, what earlier messages brought is lost: zlib tells of
    /// it too late, and nobody wants to copy every message for a peer that changes its ways.
    pub(super) fn keep_history(&mut self) {
        if self.history.is_some() {
            return;
        }
        let mut history = Vec::with_capacity(WINDOW);
        if !self.has_ended {
            self.recall(&mut history);
        }
        self.history = Some(history);
        if !self.has_ended {
            self.go_on(&[]);
        }
    }

    /// The message has ended: it belongs to what was there before.
    pub(super) fn remember(&mut self, message: &[u8]) {
        if let Some(history) = &mut self.history {
            let message = last(message, WINDOW);
            let excess = (history.len() + message.len()).saturating_sub(WINDOW);
            history.drain(..excess);
            history.extend_from_slice(message);
        }
    }

    /// Begins a new stream that may refer to all that was there before, and to what there is of the
    /// message at hand. How many bytes that took.
    pub(super) fn go_on(&mut self, message: &[u8]) -> usize {
        self.zlib.reset(false);
        self.has_ended = false;
        let message = last(message, WINDOW);
        let history = self.history.as_deref().unwrap_or_default();
        let history = last(history, WINDOW - message.len());
        for known in [history, message] {
            // A raw stream takes any, one behind the other.
            let _ = self.zlib.set_dictionary(known);
        }
        history.len() + message.len()
    }

    /// Appends what zlib's window holds. There is no call that shows it; a block of nothing but
    /// references to its beginning inflates to it.
    fn recall(&mut self, history: &mut Vec<u8>) {
        let known = self.zlib.total_out().min(WINDOW as u64) as usize;
        if known > 0 {
            history.resize(known, 0);
            self.step(&references(known), history);
        }
    }
}

fn last(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(most)..]
}

/// A block that copies at least so many bytes from so far back, in fixed codes (RFC 1951 §3.2.5 and
/// §3.2.6); its end is missing.
pub(super) fn references(distance: usize) -> Vec<u8> {
    const LONGEST: usize = 258;
    let (mut block, mut bits, mut count) = (Vec::new(), 0u32, 0);
    let mut put = |value: u32, length: u32| {
        bits |= value << count;
        count += length;
        while count >= 8 {
            block.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    let far = distance as u32 - 1;
    let extra = far.checked_ilog2().unwrap_or(0).saturating_sub(1);
    let code = (2 * extra + (far >> extra)) as u8;
    put(0b010, 3);
    for _ in 0..distance.div_ceil(LONGEST) {
        // Codes stand with their highest bit first, all else with its lowest.
        put(u32::from(0b1100_0101_u8.reverse_bits()), 8);
        put(u32::from(code.reverse_bits() >> 3), 5);
        put(far & ((1 << extra) - 1), extra);
    }
    put(0, 7);
    block
}
