//! Compressed messages: the examples of the RFC, what comes back from what was sent, and what is
//! wrong.
use super::*;
use crate::protocols::testing::Dice;

fn agreed(bits: u8, we_take_over: bool, peer_takes_over: bool, level: u8) -> Compression {
    Compression::new(Agreement {
        our_bits: Some(bits),
        we_take_over,
        peer_takes_over,
        level,
        threshold: 0,
    })
}

fn remembering() -> Compression {
    agreed(15, true, true, 6)
}

fn forgetting() -> Compression {
    agreed(15, false, false, 6)
}

fn packed(from: &mut Compression, message: &[u8]) -> Option<Vec<u8>> {
    let mut packed = None;
    let sent = from.deflate(message, |bytes| packed = Some(bytes.to_vec()));
    assert_eq!(sent, packed.is_some());
    packed
}

fn unpacked(by: &mut Compression, parts: &[&[u8]]) -> Result<Vec<u8>, Fault> {
    let mut message = Vec::new();
    for part in parts {
        by.inflate(part, &mut message, 10 << 20, None)?;
    }
    by.finish(&message)?;
    Ok(message)
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    // RFC 7692 §7.2.3.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for by in [&mut remembering(), &mut forgetting()] {
        assert_eq!(unpacked(by, &[&hello]), Ok(b"Hello".to_vec()), "§7.2.3.1");
        assert_eq!(unpacked(by, &[&hello[..3], &hello[3..]]), Ok(b"Hello".to_vec()), "in two");
        let stored = [0, 5, 0, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0];
        assert_eq!(unpacked(by, &[&stored]), Ok(b"Hello".to_vec()), "§7.2.3.3");
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(unpacked(by, &[&last]), Ok(b"Hello".to_vec()), "§7.2.3.4");
        assert_eq!(unpacked(by, &[&last[..7]]), Ok(b"Hello".to_vec()), "and nothing behind it");
        let two = [0xf2, 0x48, 5, 0, 0, 0, 0xff, 0xff, 0xca, 0xc9, 0xc9, 7, 0];
        assert_eq!(unpacked(by, &[&two]), Ok(b"Hello".to_vec()), "§7.2.3.5");
        assert_eq!(unpacked(by, &[&[0]]), Ok(vec![]), "§7.2.3.6");
        assert_eq!(unpacked(by, &[]), Ok(vec![]), "an empty message of no octets");
    }
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let mut by = remembering();
    assert_eq!(unpacked(&mut by, &[&hello]), Ok(b"Hello".to_vec()));
    assert_eq!(unpacked(&mut by, &[&again]), Ok(b"Hello".to_vec()), "§7.2.3.2");
    let mut by = forgetting();
    assert_eq!(unpacked(&mut by, &[&hello]), Ok(b"Hello".to_vec()));
    assert_eq!(unpacked(&mut by, &[&again]), Err(Fault::Corrupt), "nothing is taken over");
}

#[test]
fn what_a_message_brought_may_be_referred_to_behind_its_last_block() {
    // A block with BFINAL, then the next message refers to it.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let mut by = remembering();
    assert_eq!(unpacked(&mut by, &[&last]), Ok(b"Hello".to_vec()));
    assert_eq!(unpacked(&mut by, &[&[0xf2, 0x00, 0x11, 0x00, 0x00]]), Ok(b"Hello".to_vec()));
    // Several of them in one message.
    let twice = [&last[..7], &last[..]].concat();
    assert_eq!(unpacked(&mut by, &[&twice]), Ok(b"HelloHello".to_vec()));
    for cut in 0..twice.len() {
        let (one, two) = twice.split_at(cut);
        assert_eq!(unpacked(&mut by, &[one, two]), Ok(b"HelloHello".to_vec()), "cut at {cut}");
    }
}

#[test]
fn what_ends_inside_a_block_or_is_no_block_is_corrupt() {
    for wrong in [
        &[0x07][..],                                          // a block of the reserved kind
        &[0x06],                                              // the same, not the last
        &[0, 5, 0, 0xfa, 0xfe, b'H'],                         // a wrong complement
        &[0, 5, 0, 0xfa, 0xff, b'H'],                         // four bytes are missing
        &[0, 0, 1, 0xff, 0xfe, b'H', b'e', b'l', b'l', b'o'], // most of them are
        &[0xf2, 0x00, 0x11, 0x00, 0x00],                      // refers to what never was
        &[0x04, 0xff, 0xff, 0xff, 0xff],                      // trees that are none
    ] {
        assert_eq!(unpacked(&mut remembering(), &[wrong]), Err(Fault::Corrupt), "{wrong:x?}");
        assert_eq!(unpacked(&mut forgetting(), &[wrong]), Err(Fault::Corrupt), "{wrong:x?}");
    }
}

/// Messages that resemble one another, now and then one of noise.
fn messages(dice: &mut Dice) -> Vec<Vec<u8>> {
    (0..8)
        .map(|i| match dice.below(4) {
            0 => {
                let length = dice.below(3000);
                dice.bytes(length)
            }
            1 => vec![b'a'; 1 + dice.below(200_000)],
            _ => format!("{{\"id\":{i},\"price\":{},\"side\":\"buy\"}}", dice.below(999))
                .repeat(1 + dice.below(60))
                .into_bytes(),
        })
        .collect()
}

#[test]
fn what_is_packed_is_unpacked_under_all_agreements() {
    let mut dice = Dice::new(7);
    for bits in 9..=15 {
        for (takes_over, level) in [(true, 6), (false, 6), (true, 1), (false, 9), (true, 0)] {
            let mut ours = agreed(bits, takes_over, true, level);
            // The other side reads with the widest window, and takes over what we do.
            let mut theirs = agreed(15, true, takes_over, 6);
            for message in messages(&mut dice) {
                let Some(bytes) = packed(&mut ours, &message) else {
                    assert!(message.is_empty() || !takes_over, "it got no shorter");
                    continue;
                };
                let (one, two) = bytes.split_at(dice.below(bytes.len() + 1));
                assert_eq!(unpacked(&mut theirs, &[one, two]).as_deref(), Ok(&message[..]));
            }
        }
    }
}

#[test]
fn a_window_of_9_bits_refers_no_further_than_512_bytes() {
    // Noise twice, 600 bytes apart: only a wider window can see that.
    let noise = Dice::new(3).bytes(600);
    let twice = [&noise[..], &noise[..]].concat();
    let narrow = packed(&mut agreed(9, true, true, 9), &twice).expect("packed");
    let wide = packed(&mut agreed(15, true, true, 9), &twice).expect("packed");
    assert!(wide.len() < 700, "{}", wide.len());
    assert!(narrow.len() > 1200, "{}", narrow.len());
}

#[test]
fn takeover_makes_the_second_message_short_and_its_absence_does_not() {
    let message = "an order of many words that come again".as_bytes();
    let (mut ours, mut first) = (remembering(), forgetting());
    let lengths = [packed(&mut ours, message), packed(&mut ours, message)]
        .map(|packed| packed.expect("packed").len());
    assert!(lengths[1] < lengths[0] / 3, "{lengths:?}");
    let alike = [packed(&mut first, message), packed(&mut first, message)];
    assert_eq!(alike[0], alike[1]);
}

#[test]
fn short_and_empty_messages_and_those_of_a_window_of_8_bits_go_as_they_are() {
    let mut from = Compression::new(Agreement { threshold: 100, ..remembering().agreed });
    assert_eq!(packed(&mut from, &[b'a'; 99]), None);
    assert!(packed(&mut from, &[b'a'; 100]).is_some());
    assert_eq!(packed(&mut remembering(), b""), None);
    let mut from = Compression::new(Agreement { our_bits: None, ..remembering().agreed });
    assert_eq!(packed(&mut from, &[b'a'; 5000]), None);
    // Without takeover what got no shorter goes as it is; with it the peer must hear of it.
    let noise = Dice::new(1).bytes(300);
    assert_eq!(packed(&mut forgetting(), &noise), None);
    assert!(packed(&mut remembering(), &noise).is_some());
}

#[test]
fn a_bomb_ends_at_the_limit_and_has_used_no_more() {
    let bomb = packed(&mut forgetting(), &vec![0; 64 << 20]).expect("packed");
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let (mut by, mut message) = (forgetting(), Vec::new());
    let most = 1 << 20;
    assert_eq!(by.inflate(&bomb, &mut message, most, None), Err(Fault::TooLong));
    assert_eq!(message.len(), most);
    assert!(message.capacity() <= 2 * most, "{}", message.capacity());
    // A message of just the limit is none.
    let just = packed(&mut forgetting(), &vec![0; most]).expect("packed");
    let (mut by, mut message) = (forgetting(), Vec::new());
    assert_eq!(by.inflate(&just, &mut message, most, None), Ok(()));
    assert_eq!(by.finish(&message), Ok(()));
    assert_eq!(message.len(), most);
}

#[test]
fn what_is_wrong_first_is_found_first_however_it_was_cut() {
    // Text that is not UTF-8, then too much of it, then a block that is none.
    let mut wrong = packed(&mut remembering(), b"fine \xff and more").expect("packed");
    wrong.extend([0, 0, 0xff, 0xff, 0x07]);
    for most in [4, 5, 6, 100] {
        let expected = if most <= 5 { Fault::TooLong } else { Fault::NotUtf8 };
        for cut in 0..wrong.len() {
            let (mut by, mut message, mut utf8) = (remembering(), Vec::new(), Utf8::Complete);
            let (one, two) = wrong.split_at(cut);
            let fault = by
                .inflate(one, &mut message, most, Some(&mut utf8))
                .and_then(|()| by.inflate(two, &mut message, most, Some(&mut utf8)));
            assert_eq!(fault, Err(expected), "of {most}, cut at {cut}");
        }
    }
}

#[test]
fn connections_without_takeover_share_their_compressors() {
    let message = b"shared ".repeat(100);
    for _ in 0..50 {
        let (mut ours, mut theirs) = (forgetting(), forgetting());
        let bytes = packed(&mut ours, &message).expect("packed");
        assert_eq!(unpacked(&mut theirs, &[&bytes]).as_deref(), Ok(&message[..]));
        assert!(ours.deflater.is_none() && theirs.inflater.is_none(), "an idle one has none");
    }
    let counts = || pool(|pool| (pool.deflaters.iter().flatten().count(), pool.inflaters.len()));
    assert_eq!(counts(), Some((1, 1)));
    // However many were in use at once, few are kept.
    let mut many: Vec<Compression> = (0..30).map(|_| forgetting()).collect();
    let bytes = packed(&mut forgetting(), &message).expect("packed");
    for by in &mut many {
        by.inflate(&bytes, &mut Vec::new(), 1000, None).expect("right");
    }
    for by in &mut many {
        by.finish(&[]).expect("right");
    }
    assert_eq!(counts(), Some((1, INFLATERS_KEPT)));
}

#[test]
fn what_window_a_peer_asks_for_takes_no_compressor_away_from_others() {
    let message = b"shared by many, ".repeat(100);
    let mut first = None;
    for round in 0..3 {
        for bits in 9..=15 {
            for level in [6, 0, 9, 1, 2, 3] {
                let packed = packed(&mut agreed(bits, false, false, level), &message);
                assert_eq!(packed.is_some(), level > 0, "stored it is longer");
                let fresh = new_deflater(bits, level, 8);
                let alone =
                    Compression { deflater: Some(fresh), ..agreed(bits, true, true, level) };
                assert!(level == 0 || packed == self::packed(&mut { alone }, &message), "{level}");
            }
        }
        let places = pool(|pool| {
            let all = pool.deflaters.each_ref().map(|one| one.as_deref().map(std::ptr::from_ref));
            assert!(all.iter().all(Option::is_some), "round {round}");
            all
        });
        assert_eq!(*first.get_or_insert(places), places, "they are the same ones in round {round}");
    }
}

/// What a peer sends who knows what it has sent, however zlib's streams end: a message in one block
/// that is the last (`ends`), or flushed.
#[derive(Default)]
struct Endless {
    sent: Vec<u8>,
}

impl Endless {
    fn pack(&mut self, message: &[u8], ends: bool) -> Vec<u8> {
        let mut deflater = Deflate::new(9, false, WIDEST);
        if !self.sent.is_empty() {
            deflater.set_dictionary(&self.sent).expect("before the first byte");
        }
        let mut packed = vec![0; 2 * message.len() + 100];
        let flush = if ends { DeflateFlush::Finish } else { DeflateFlush::SyncFlush };
        deflater.compress(message, &mut packed, flush).expect("there is room");
        packed.truncate(deflater.total_out() as usize);
        self.sent.extend(message);
        let known = self.sent.len().saturating_sub(WINDOW);
        self.sent.drain(..known);
        match packed.strip_suffix(&TAIL) {
            Some(flushed) if !ends => flushed.to_vec(),
            _ => packed,
        }
    }
}

#[test]
fn a_block_that_is_the_last_takes_nothing_away_from_later_messages() {
    // RFC 7692 §7.2.3.4, with the context taken over: what came before such a block may be referred
    // to behind it, be it short, a window long, or longer.
    for length in [1, 2, 3, 5, 300, 32_767, 32_768, 33_000, 100_000] {
        let (mut peer, mut by) = (Endless::default(), remembering());
        let noise = Dice::new(length as u64).bytes(length);
        let known = &noise[length.saturating_sub(30_000)..];
        for (message, ends) in
            [(&noise[..], false), (b"a", true), (known, false), (b"b", true), (known, true)]
        {
            let packed = peer.pack(message, ends);
            assert!(message.len() < 300 || by.inflater.is_none() || packed.len() < 1000);
            assert_eq!(unpacked(&mut by, &[&packed]).as_deref(), Ok(message), "{length}");
        }
        assert!(by.inflater.expect("kept").knows() <= WINDOW, "of {length}");
    }
}

#[test]
fn blocks_that_are_the_last_come_in_any_order_and_number() {
    for seed in 0..12 {
        let (mut dice, mut peer, mut by) = (Dice::new(seed), Endless::default(), remembering());
        for _ in 0..20 {
            let (mut packed, mut message) = (Vec::new(), Vec::new());
            for _ in 0..1 + dice.below(4) {
                let words = messages(&mut dice).swap_remove(0);
                let part = &words[..words.len().min(5000)];
                packed.extend(peer.pack(part, true));
                message.extend(part);
                packed.extend([3, 0].repeat(dice.below(3)));
            }
            if dice.below(2) == 0 {
                packed.extend(peer.pack(b"and flushed", false));
                message.extend(b"and flushed");
            }
            let (one, two) = packed.split_at(dice.below(packed.len() + 1));
            assert_eq!(unpacked(&mut by, &[one, two]), Ok(message), "seed {seed}");
        }
    }
}

#[test]
fn a_tail_that_belongs_to_a_last_block_takes_nothing_away_either() {
    // RFC 7692 §7.2.1: what is removed may be the end of an empty stored block with BFINAL.
    let (mut peer, mut by) = (Endless::default(), remembering());
    for message in [&b"Hello, Hello"[..], b"world", b"Hello, world, Hello, world"] {
        let packed = [&peer.pack(message, false)[..], &TAIL, &[1]].concat();
        assert_eq!(unpacked(&mut by, &[&packed]).as_deref(), Ok(message));
    }
}

#[test]
fn a_reference_to_before_the_first_byte_is_corrupt_behind_a_last_block_too() {
    // "Hello", last; then five bytes from six back.
    let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let mut by = remembering();
    assert_eq!(unpacked(&mut by, &[&hello]), Ok(b"Hello".to_vec()));
    let mut far = inflater::references(6);
    far.extend([0; 3]);
    assert_eq!(unpacked(&mut by, &[&far]), Err(Fault::Corrupt));
}

#[test]
fn empty_blocks_that_are_the_last_cost_no_more_than_their_bytes() {
    let begun = Endless::default().pack(&Dice::new(1).bytes(40_000), true);
    for empty in [&[3, 0][..], &[1, 0, 0, 0xff, 0xff]] {
        for mut by in [remembering(), forgetting()] {
            let mut message = Vec::new();
            by.inflate(&begun, &mut message, 1 << 20, None).expect("right");
            by.moved = 0;
            let many = empty.repeat(20_000);
            assert_eq!(by.inflate(&many, &mut message, 1 << 20, None), Ok(()));
            assert!((by.moved as usize) < many.len(), "{} bytes moved", by.moved);
            assert_eq!(by.finish(&message), Ok(()));
            assert_eq!(message.len(), 40_000);
        }
    }
}
