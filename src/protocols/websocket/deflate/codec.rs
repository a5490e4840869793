//! The bytes of permessage-deflate (RFC 7692 §7.2), and the compressors of a thread.
mod inflater;

use super::negotiation::Agreement;
use super::{NARROWEST_OF_OURS, WIDEST};
use crate::protocols::websocket::utf8::Utf8;
use inflater::{Inflater, Outcome};
use std::cell::RefCell;
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

/// So much is inflated in one go: a small message that inflates to a large one is found out before
/// it has used more.
const STEP: usize = 64 << 10;
/// A flushed block ends with these, and they are not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// So many bytes may be inflated before others have their turn: as many as a connection may receive
/// until then.
const SHARE: u32 = 512 << 10;
/// How far a block may refer back.
const WINDOW: usize = 1 << WIDEST;
/// The lowest bit of a block: it is the last of its stream.
const BFINAL: u8 = 1;

/// What a session that compresses has.
pub(in crate::protocols) struct Compression {
    agreed: Agreement,
    /// The context that is taken over, once there is one.
    deflater: Option<Box<Deflate>>,
    /// Of the message that is being received; of the next one too, where the context is taken
    /// over.
    inflater: Option<Box<Inflater>>,
    /// A fragmented message has begun, and it is compressed.
    pub(in crate::protocols::websocket) in_message: bool,
    /// What has come of the message is a whole stream already: it was empty, or its last block said
    /// so (BFINAL).
    is_whole: bool,
    /// Bytes that inflating has moved since this session last had its share.
    moved: u32,
}

/// What is wrong with a compressed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocols) enum Fault {
    Corrupt,
    NotUtf8,
    TooLong,
}

impl Compression {
    pub(in crate::protocols::websocket) fn new(agreed: Agreement) -> Self {
        Compression {
            agreed,
            deflater: None,
            inflater: None,
            in_message: false,
            is_whole: true,
            moved: 0,
        }
    }

    /// Hands the compressed form to `put`; `false`: the message goes as it is.
    pub(in crate::protocols::websocket) fn deflate(
        &mut self,
        payload: &[u8],
        put: impl FnOnce(&[u8]),
    ) -> bool {
        let Agreement { our_bits, we_take_over, level, threshold, .. } = self.agreed;
        let Some(bits) = our_bits else { return false };
        if payload.is_empty() || payload.len() < threshold {
            return false;
        }
        let mut deflater = match self.deflater.take() {
            Some(own) => own,
            // One connection's own has less memory, and shorter blocks.
            None if we_take_over => new_deflater(bits, level, 5),
            None => take_deflater(bits, level),
        };
        let mut room = take_room();
        let packed = pack(&mut deflater, payload, &mut room);
        // Without takeover nobody misses what was compressed in vain.
        let sent = packed.filter(|length| we_take_over || *length < payload.len());
        if let Some(length) = sent {
            put(&room[..length]);
        }
        keep_room(room);
        match (we_take_over, packed) {
            (true, Some(_)) => self.deflater = Some(deflater),
            (false, Some(_)) => keep_deflater(bits, deflater),
            // It is in no state to go on.
            (_, None) => {}
        }
        sent.is_some()
    }

    /// Inflates the next part of a message into `message`, which is not to become longer than
    /// `most`. What comes first in the message is found first, however it was cut.
    pub(in crate::protocols::websocket) fn inflate(
        &mut self,
        part: &[u8],
        message: &mut Vec<u8>,
        most: usize,
        mut utf8: Option<&mut Utf8>,
    ) -> Result<(), Fault> {
        if part.is_empty() {
            return Ok(());
        }
        let mut room = take_room();
        let inflater = self.inflater.get_or_insert_with(take_inflater);
        let begins = self.is_whole && !inflater.has_ended();
        if begins && self.agreed.peer_takes_over && part[0] & BFINAL != 0 {
            inflater.keep_history();
        }
        let (mut at, mut moved) = (0, 0);
        let result = loop {
            if inflater.has_ended() {
                at += empty_blocks(&part[at..]);
                if at == part.len() {
                    break Ok(());
                }
                moved += inflater.go_on(message);
            }
            // One byte more than may be: then it is too long.
            let left = most.saturating_sub(message.len());
            let space = &mut room[..STEP.min(left.saturating_add(1))];
            let step = inflater.step(&part[at..], space);
            at += step.taken;
            moved += step.made;
            let fresh = &space[..step.made.min(left)];
            if let Some(utf8) = &mut utf8
                && !utf8.feed(fresh)
            {
                break Err(Fault::NotUtf8);
            }
            message.extend_from_slice(fresh);
            if step.made > left {
                break Err(Fault::TooLong);
            }
            if step.taken > 0 {
                self.is_whole = false;
            }
            match step.outcome {
                Outcome::Corrupt => break Err(Fault::Corrupt),
                Outcome::Ended => {
                    // RFC 7692 §7.2.3.4: further blocks may follow, and refer to what was before.
                    if self.agreed.peer_takes_over {
                        inflater.keep_history();
                    }
                    self.is_whole = true;
                    if at == part.len() {
                        break Ok(());
                    }
                }
                Outcome::Wants if at == part.len() && step.made < STEP => break Ok(()),
                Outcome::Wants if step.taken == 0 && step.made == 0 => break Err(Fault::Corrupt),
                Outcome::Wants => {}
            }
        };
        keep_room(room);
        self.moved = self.moved.saturating_add(u32::try_from(moved).unwrap_or(u32::MAX));
        result
    }

    /// Whether others are to have their turn now: what has come was small, and became much.
    pub(in crate::protocols::websocket) fn takes_its_share(&mut self) -> bool {
        let whole = self.moved >= SHARE;
        if whole {
            self.moved = 0;
        }
        whole
    }

    /// The message ends here (RFC 7692 §7.2.2), and this is all of it.
    pub(in crate::protocols::websocket) fn finish(&mut self, message: &[u8]) -> Result<(), Fault> {
        self.in_message = false;
        if !std::mem::replace(&mut self.is_whole, true)
            && let Some(inflater) = &mut self.inflater
        {
            // What is left of a block would take the tail for content.
            let step = inflater.step(&TAIL, &mut [0; 16]);
            if step.made > 0 || step.outcome == Outcome::Corrupt {
                return Err(Fault::Corrupt);
            }
        }
        match self.inflater.take() {
            Some(mut inflater) if self.agreed.peer_takes_over => {
                if inflater.has_ended() {
                    // The tail may have been that of a last block.
                    inflater.keep_history();
                }
                inflater.remember(message);
                self.inflater = Some(inflater);
            }
            Some(inflater) => keep_inflater(inflater),
            None => {}
        }
        Ok(())
    }
}

impl std::fmt::Debug for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compression").field("agreed", &self.agreed).finish_non_exhaustive()
    }
}

/// Compresses all of `payload` into the front of `room`, which grows; the length without the tail.
fn pack(deflater: &mut Deflate, payload: &[u8], room: &mut Vec<u8>) -> Option<usize> {
    let (mut taken, mut made) = (0, 0);
    loop {
        let before = (deflater.total_in(), deflater.total_out());
        deflater.compress(&payload[taken..], &mut room[made..], DeflateFlush::SyncFlush).ok()?;
        taken += (deflater.total_in() - before.0) as usize;
        made += (deflater.total_out() - before.1) as usize;
        if made < room.len() {
            break;
        }
        room.resize(2 * room.len(), 0);
    }
    if taken < payload.len() {
        return None;
    }
    room[..made].strip_suffix(&TAIL).map(<[u8]>::len)
}

/// How many of these bytes are blocks that are empty and the last, in fixed codes or stored: they
/// change nothing, and two bytes must not make zlib begin anew.
fn empty_blocks(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(behind) =
        rest.strip_prefix(&[3, 0]).or_else(|| rest.strip_prefix(&[1, 0, 0, 0xff, 0xff]))
    {
        rest = behind;
    }
    bytes.len() - rest.len()
}

/// What the connections of a thread share: none of them is compressing when another one is.
#[derive(Default)]
struct Pool {
    /// One for each size of a window: peers choose it, and what they choose makes no other one
    /// go. The level is the program's, and can be set anew.
    deflaters: [Option<Box<Deflate>>; SIZES],
    #[expect(clippy::vec_box, reason = "as they go to a session and come back")]
    inflaters: Vec<Box<Inflater>>,
    room: Vec<u8>,
}

const SIZES: usize = (WIDEST - NARROWEST_OF_OURS + 1) as usize;
/// A message in several reads keeps its inflater meanwhile, so that some are in use at once.
const INFLATERS_KEPT: usize = 8;

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// `None` while the thread's locals are torn down.
fn pool<T>(f: impl FnOnce(&mut Pool) -> T) -> Option<T> {
    POOL.try_with(|pool| f(&mut pool.borrow_mut())).ok()
}

/// One of the thread's own, or a new one.
fn take_deflater(bits: u8, level: u8) -> Box<Deflate> {
    let kept = pool(|pool| pool.deflaters[size(bits)].take());
    if let Some(Some(mut deflater)) = kept {
        deflater.reset();
        // Nothing waits in it: that is all that it could fail for.
        let _ = deflater.set_level(i32::from(level));
        return deflater;
    }
    new_deflater(bits, level, 8)
}

fn keep_deflater(bits: u8, deflater: Box<Deflate>) {
    pool(|pool| pool.deflaters[size(bits)] = Some(deflater));
}

/// `memory`: 8 is zlib's own; 5 is enough for blocks of 2 048 symbols, and 112 KiB less.
fn new_deflater(bits: u8, level: u8, memory: i32) -> Box<Deflate> {
    Box::new(Deflate::new_with_config(DeflateConfig {
        window_bits: -i32::from(judged(bits)),
        mem_level: memory,
        ..DeflateConfig::new(i32::from(level.min(9)))
    }))
}

/// Checked when it was agreed; what the library does not take it panics over.
fn judged(bits: u8) -> u8 {
    bits.clamp(NARROWEST_OF_OURS, WIDEST)
}

fn size(bits: u8) -> usize {
    usize::from(judged(bits) - NARROWEST_OF_OURS)
}

fn take_inflater() -> Box<Inflater> {
    match pool(|pool| pool.inflaters.pop()) {
        Some(Some(mut inflater)) => {
            inflater.reset();
            inflater
        }
        _ => Box::new(Inflater::new()),
    }
}

fn keep_inflater(inflater: Box<Inflater>) {
    pool(|pool| {
        if pool.inflaters.len() < INFLATERS_KEPT {
            pool.inflaters.push(inflater);
        }
    });
}

/// A buffer of at least [`STEP`] bytes; what is in it is nobody's.
fn take_room() -> Vec<u8> {
    let mut room = pool(|pool| std::mem::take(&mut pool.room)).unwrap_or_default();
    if room.len() < STEP {
        room.resize(STEP, 0);
    }
    room
}

fn keep_room(mut room: Vec<u8>) {
    if room.len() > STEP {
        room.truncate(STEP);
        room.shrink_to_fit();
    }
    pool(|pool| pool.room = room);
}

#[cfg(test)]
mod tests;
