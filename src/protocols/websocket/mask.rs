//! Masking (RFC 6455 §5.3): every byte of a client's payload XOR the key's, in turn.
//!
//! Eight bytes at a time, and from one KiB on with the widest vectors that the machine has, chosen
//! at run time.

pub(super) type Key = [u8; 4];

/// From this length on the wide form is worth its call.
const WIDE_FROM: usize = 1024;

/// Masks or unmasks `bytes`, the payload's part from `offset` on.
#[inline(always)]
pub(super) fn apply(bytes: &mut [u8], key: Key, offset: usize) {
    // Little-endian whatever the machine: the key's first byte is the lowest, and turning right
    // brings the next one there.
    let turned = u32::from_le_bytes(key).rotate_right(8 * (offset as u32 & 3));
    let word = u64::from(turned) << 32 | u64::from(turned);
    if cfg!(feature = "simd") && bytes.len() >= WIDE_FROM {
        wide(bytes, word);
    } else {
        by_words(bytes, word);
    }
}

#[inline(always)]
fn by_words(bytes: &mut [u8], word: u64) {
    // Four words in one go become two instructions on vectors that every machine has.
    let (blocks, rest) = bytes.as_chunks_mut::<32>();
    for block in blocks {
        for eight in block.as_chunks_mut::<8>().0 {
            *eight = (u64::from_le_bytes(*eight) ^ word).to_le_bytes();
        }
    }
    let (words, rest) = rest.as_chunks_mut::<8>();
    for eight in words {
        *eight = (u64::from_le_bytes(*eight) ^ word).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(word.to_le_bytes()) {
        *byte ^= key;
    }
}

#[cfg(feature = "simd")]
#[inline(never)]
fn wide(bytes: &mut [u8], word: u64) {
    let level = fearless_simd::Level::new();
    fearless_simd::dispatch!(level, _simd => by_blocks(bytes, word));
}

#[cfg(not(feature = "simd"))]
#[inline(never)]
fn wide(bytes: &mut [u8], word: u64) {
    by_words(bytes, word);
}

/// Blocks of a fixed length become straight lines of vector instructions.
#[cfg(feature = "simd")]
#[inline(always)]
fn by_blocks(bytes: &mut [u8], word: u64) {
    let (blocks, rest) = bytes.as_chunks_mut::<1024>();
    for block in blocks {
        for eight in block.as_chunks_mut::<8>().0 {
            *eight = (u64::from_le_bytes(*eight) ^ word).to_le_bytes();
        }
    }
    by_words(rest, word);
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Dice, rounds};
    use super::*;

    fn model(bytes: &mut [u8], key: Key, offset: usize) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[(i + offset) % 4];
        }
    }

    #[test]
    fn every_length_offset_and_alignment_masks_as_byte_by_byte() {
        let mut dice = Dice::new(1);
        let key = [0x12, 0x00, 0xfe, 0x9a];
        let lengths = (0..70).chain(1000..1100).chain([2047, 2048, 2049, 5000]);
        let lengths = lengths.step_by(if cfg!(miri) { 10 } else { 1 });
        for length in lengths {
            for offset in 0..5 {
                for shift in [0, 1, 2, 3, 5, 7, 8, 15, 31] {
                    let mut fast = dice.bytes(length + shift);
                    let mut slow = fast.clone();
                    apply(&mut fast[shift..], key, offset);
                    model(&mut slow[shift..], key, offset);
                    assert_eq!(fast, slow, "length {length}, offset {offset}, shift {shift}");
                }
            }
        }
    }

    #[test]
    fn masking_twice_is_identity_and_pieces_mask_as_the_whole() {
        let mut dice = Dice::new(2);
        for _ in 0..rounds(200) {
            let length = dice.below(3000);
            let plain = dice.bytes(length);
            let key = [dice.next() as u8, dice.next() as u8, dice.next() as u8, dice.next() as u8];
            let (mut whole, mut pieces) = (plain.clone(), plain.clone());
            apply(&mut whole, key, 0);
            let cut = dice.below(length + 1);
            apply(&mut pieces[..cut], key, 0);
            apply(&mut pieces[cut..], key, cut);
            assert_eq!(whole, pieces);
            apply(&mut whole, key, 0);
            assert_eq!(whole, plain);
        }
    }
}
