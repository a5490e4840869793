//! Frames whose heads lie, and messages in more pieces than anybody needs.
use crate::counting::peak_of_thread;
use crate::support::endpoint::{BOTH, Ours};
use crate::support::peers::{Peer, start};
use crate::support::*;
use crate::{close_code, either, farewell_to, finish, frame_to, head_to, open_as, talk};
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use workerman::prelude::*;
use workerman::{Context, Input, Limits, Payload, Serve, Violation};

/// The code of the close frame that answers these bytes. A farewell follows them, so that who
/// takes them for right answers too.
#[track_caller]
fn answer_to(ours: Ours, limits: Limits, bytes: &[u8]) -> u16 {
    let (_, mut peer) = open_as!(ours, "", |it| it.set_limits(limits));
    let bytes = [bytes, &farewell_to(ours)].concat();
    finish(std::thread::spawn(move || {
        // Who refuses early may have closed already.
        let _ = peer.write_all(&bytes);
        close_code(peer)
    }))
}

#[test]
fn rustsec_2022_0035_nothing_is_allocated_by_a_declared_length() {
    // Also CVE-2022-35922. A head that declares just what is allowed: memory follows what has come.
    for ours in BOTH {
        let limits = Limits::new().message_bytes(64 << 20);
        let (con, mut peer) = open_as!(ours, "", |it| it.set_limits(limits));
        let pieces = [head_to(ours, 0x82, 64 << 20), vec![b'x'; 10_000], vec![b'y'; 10_000]];
        let peak = peak_of_thread(|| {
            for piece in &pieces {
                let before = either!(con, bytes_read);
                peer.write_all(piece).expect("it is read");
                turn_until(|| either!(con, bytes_read) == before + piece.len() as u64);
            }
        });
        assert!(peak < 256 << 10, "{peak} bytes for 20 000, {ours:?}");
    }
}

/// A message of so many bytes, and of what the peer sends nothing more, is answered with `code`.
#[track_caller]
fn assert_refused_by_its_head(length: u64, code: u16) {
    for ours in BOTH {
        let peak = peak_of_thread(|| {
            let answer = answer_to(ours, Limits::new(), &head_to(ours, 0x82, length));
            assert_eq!(answer, code, "{length:#x}, {ours:?}");
        });
        assert!(peak < 256 << 10, "{peak} bytes for a length of {length:#x}, {ours:?}");
    }
}

#[test]
fn cve_2026_1528_a_length_of_up_to_63_bits_is_refused_by_its_head() {
    // Also noPoll#84, where it was a signed number: 1009, and nothing waits for such a message.
    for length in [1u64 << 31, 1 << 32, 1 << 53, 1 << 62, u64::MAX >> 1] {
        assert_refused_by_its_head(length, 1009);
    }
}

#[test]
fn cve_2026_43678_the_highest_bit_of_a_length_is_a_violation() {
    // RFC 6455 §5.2: it must be 0. 1002, as soon as it is here.
    for length in [1u64 << 63, (1 << 63) + 5, u64::MAX] {
        assert_refused_by_its_head(length, 1002);
    }
}

#[test]
fn cve_2020_27813_lengths_are_added_up_before_they_are_believed() {
    // The limit is the message's, over all its frames; a sum that would wrap is above it.
    for ours in BOTH {
        let first = frame_to(ours, 0x02, &[b'x'; 600]);
        let limits = || Limits::new().message_bytes(1000);
        for second in [frame_to(ours, 0x80, &[b'x'; 600]), head_to(ours, 0x80, u64::MAX >> 1)] {
            let bytes = [&first[..], &second].concat();
            assert_eq!(answer_to(ours, limits(), &bytes), 1009, "{ours:?}");
        }
    }
}

/// Finds packages of no bytes behind an exclamation mark.
#[derive(Debug, Default)]
struct Stuck(bool);

impl Protocol for Stuck {
    const NAME: &'static str = "stuck";
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    fn input(&mut self, _: &mut [u8], _: &mut Context) -> std::result::Result<Input, Violation> {
        Ok(Input::Package(0))
    }

    fn decode<'a>(
        &mut self,
        _: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> std::result::Result<Option<Data<'a>>, Violation> {
        assert!(!std::mem::replace(&mut self.0, true), "the same nothing for ever");
        Ok(None)
    }

    fn encode(
        &mut self,
        _: Payload<'_>,
        _: &mut Vec<u8>,
        _: &mut Context,
    ) -> std::result::Result<(), Violation> {
        Ok(())
    }

    fn encode_payload(
        &mut self,
        _: Payload,
        _: &mut Vec<u8>,
        _: &mut Context,
    ) -> std::result::Result<(), Violation> {
        Ok(())
    }
}

impl Serve for Stuck {}
impl workerman::Dial for Stuck {}

#[test]
fn cve_2020_13935_a_package_of_no_bytes_is_no_endless_loop() {
    // Whatever a protocol makes of a length: without progress the connection ends.
    let (_worker, addr) = start::<Stuck>();
    assert_eq!(talk(addr, "hello"), "");
    let peer = Peer::with_one(|mut stream| stream.write_all(b"hello").expect("it is read"));
    let address = peer.tcp().replace("tcp:", "stuck:");
    let con = AsyncTcpConnection::<Stuck>::new(&address).expect("an address");
    let failed = Rc::new(Cell::new(false));
    let at = failed.clone();
    con.on_error(move |_, code, _| at.set(code == ErrorCode::SessionFail));
    con.connect();
    turn_until(|| con.status() == Status::Closed);
    assert!(failed.get(), "the client's end has a cause");
}

#[test]
fn cve_2026_48779_a_hundred_thousand_tiny_fragments_cost_less_than_twice_their_payload() {
    // One buffer, no object a fragment; empty fragments cost nothing at all.
    const COUNT: usize = 100_000;
    for ours in BOTH {
        let got = Rc::new(Cell::new(0));
        let at = got.clone();
        let (_, mut peer) = open_as!(ours, "", |it| {
            it.set_limits(Limits::new().fragments(3 * COUNT));
            it.on_message(move |_, data| at.set(data.len()));
        });
        let mut bytes = frame_to(ours, 0x02, b"x");
        for _ in 1..COUNT {
            bytes.extend(frame_to(ours, 0x00, b"x"));
            bytes.extend(frame_to(ours, 0x00, b""));
        }
        bytes.extend(frame_to(ours, 0x80, b""));
        // What the loop itself needs is there before.
        peer.write_all(&frame_to(ours, 0x82, b"first")).expect("it is read");
        turn_until(|| got.get() == 5);
        let sender = std::thread::spawn(move || peer.write_all(&bytes).map(|()| peer));
        let peak = peak_of_thread(|| turn_until(|| got.get() == COUNT));
        assert!(peak < 2 * COUNT as isize, "{peak} bytes for a message of {COUNT}, {ours:?}");
        finish(sender).expect("it was read");
    }
}

#[test]
fn cve_2026_48779_fragments_are_counted_and_empty_ones_too() {
    // 4 096 of them by default: 1009 at the one behind.
    for ours in BOTH {
        let mut bytes = frame_to(ours, 0x02, b"x");
        for _ in 0..5000 {
            bytes.extend(frame_to(ours, 0x00, b""));
        }
        bytes.extend(frame_to(ours, 0x80, b""));
        assert_eq!(answer_to(ours, Limits::new(), &bytes), 1009, "{ours:?}");
    }
}

#[test]
fn websockets_16_1_reserved_bits_without_an_agreement_are_a_violation() {
    // Nobody inflates what nobody agreed to compress (Workerman does).
    for ours in BOTH {
        for bit in [0x40, 0x20, 0x10] {
            let frame = frame_to(ours, 0x82 | bit, b"x");
            assert_eq!(answer_to(ours, Limits::new(), &frame), 1002, "{bit:#x}, {ours:?}");
        }
    }
}
