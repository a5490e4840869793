//! UTF-8 over the borders of fragments and reads: what is invalid is found at its very octet (RFC
//! 6455 §8.1).

/// What the octets so far still want. The names are those of RFC 3629 §4: some first octets narrow
/// what may follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Utf8 {
    #[default]
    Complete,
    OneMore,
    TwoMore,
    ThreeMore,
    /// Shorter forms exist for what would follow below `A0`.
    AfterE0,
    /// Surrogates would follow above `9F`.
    AfterEd,
    /// Shorter forms exist for what would follow below `90`.
    AfterF0,
    /// Beyond U+10FFFF above `8F`.
    AfterF4,
}

impl Utf8 {
    /// Whether the text may end here.
    pub(super) fn is_complete(self) -> bool {
        self == Utf8::Complete
    }

    /// Takes the next octets; `false` as soon as one of them cannot stand where it does.
    #[must_use]
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !self.is_complete() {
            let Some((&first, behind)) = rest.split_first() else { return true };
            if !self.step(first) {
                return false;
            }
            rest = behind;
        }
        match simdutf8::compat::from_utf8(rest) {
            Ok(_) => true,
            // It says how long the wrong sequence is; or else that it merely ends too early.
            Err(e) if e.error_len().is_some() => false,
            Err(e) => rest[e.valid_up_to()..].iter().all(|&byte| self.step(byte)),
        }
    }

    fn step(&mut self, byte: u8) -> bool {
        *self = match (*self, byte) {
            (Utf8::Complete, 0x00..=0x7f) | (Utf8::OneMore, 0x80..=0xbf) => Utf8::Complete,
            (Utf8::Complete, 0xc2..=0xdf)
            | (Utf8::TwoMore, 0x80..=0xbf)
            | (Utf8::AfterE0, 0xa0..=0xbf)
            | (Utf8::AfterEd, 0x80..=0x9f) => Utf8::OneMore,
            (Utf8::Complete, 0xe0) => Utf8::AfterE0,
            (Utf8::Complete, 0xed) => Utf8::AfterEd,
            (Utf8::Complete, 0xe1..=0xef)
            | (Utf8::ThreeMore, 0x80..=0xbf)
            | (Utf8::AfterF0, 0x90..=0xbf)
            | (Utf8::AfterF4, 0x80..=0x8f) => Utf8::TwoMore,
            (Utf8::Complete, 0xf0) => Utf8::AfterF0,
            (Utf8::Complete, 0xf4) => Utf8::AfterF4,
            (Utf8::Complete, 0xf1..=0xf3) => Utf8::ThreeMore,
            _ => return false,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Dice, rounds};
    use super::*;

    /// What the standard library says of the octets: invalid, unfinished, complete.
    fn model(bytes: &[u8]) -> Option<bool> {
        match std::str::from_utf8(bytes) {
            Ok(_) => Some(true),
            Err(e) => e.error_len().is_none().then_some(false),
        }
    }

    fn bytewise(bytes: &[u8]) -> Option<bool> {
        let mut utf8 = Utf8::default();
        bytes.iter().all(|byte| utf8.feed(&[*byte])).then_some(utf8.is_complete())
    }

    #[test]
    fn every_sequence_of_up_to_three_octets_is_judged_as_by_the_standard_library() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                assert_eq!(bytewise(&[first, second]), model(&[first, second]));
                for third in [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xff] {
                    let bytes = [first, second, third];
                    assert_eq!(bytewise(&bytes), model(&bytes), "{bytes:x?}");
                    for fourth in [0x7f, 0x80, 0xbf, 0xc0] {
                        let bytes = [first, second, third, fourth];
                        assert_eq!(bytewise(&bytes), model(&bytes), "{bytes:x?}");
                    }
                }
            }
        }
    }

    #[test]
    fn any_split_of_any_text_is_judged_as_the_whole() {
        let mut dice = Dice::new(3);
        let text = "aé€😀\u{10ffff}\u{d7ff}\u{e000}\0".repeat(12);
        for round in 0..rounds(2000) {
            let mut bytes = text.as_bytes()[..dice.below(text.len())].to_vec();
            if round % 2 == 1 && !bytes.is_empty() {
                let at = dice.below(bytes.len());
                bytes[at] = dice.next() as u8;
            }
            let (cut, mut utf8) = (dice.below(bytes.len() + 1), Utf8::default());
            let (head, tail) = bytes.split_at(cut);
            let verdict = (utf8.feed(head) && utf8.feed(tail)).then_some(utf8.is_complete());
            assert_eq!(verdict, model(&bytes), "{bytes:x?} cut at {cut}");
        }
    }
}
