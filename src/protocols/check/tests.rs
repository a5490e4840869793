//! Sound protocols pass; each that is broken in one way is refused, by words that tell the way.
use super::super::{Context, Frame, Input, Tcp, Text, Violation};
use super::{Check, Sample, Unsound, check};
use crate::{Data, Limits, Payload, Protocol};

/// A byte that says how many bytes of text follow; broken in one way, or in none.
#[derive(Default)]
struct Short<const FAULT: u8> {
    calls: usize,
    sum: u8,
}

const SOUND: u8 = 0;
const FORGETS: u8 = 1;
const OFF_BY_ONE: u8 = 2;
const PANICS: u8 = 3;
const SHRINKS: u8 = 4;
const EMPTY: u8 = 5;
const TAKES_BACK: u8 = 6;
const PANICS_AT_EOF: u8 = 7;
const CLEARS: u8 = 8;
const LEAVES: u8 = 9;
const SPLITS: u8 = 10;
const ANSWERS: u8 = 11;
const LEAKS: u8 = 12;
const PANICS_LATER: u8 = 13;
const WHOLE_IS_PARTIAL: u8 = 14;
const EATS: u8 = 15;

impl<const FAULT: u8> Protocol for Short<FAULT> {
    const NAME: &'static str = "short";
    type Incoming<'a> = &'a str;
    type Outgoing<'a> = &'a str;

    fn input(&mut self, buffer: &mut [u8], cx: &mut Context) -> Result<Input, Violation> {
        self.calls += 1;
        let whole = 1 + usize::from(buffer[0]);
        Ok(match FAULT {
            // What has come since the last call counts alone.
            FORGETS if buffer.len() < whole => Input::PartialOf(whole + self.calls - 1),
            OFF_BY_ONE if buffer.len() < whole => Input::Package(whole - 1),
            SHRINKS if buffer.len() < whole => Input::PartialOf(whole + 1),
            EMPTY if whole == 1 => Input::Package(0),
            TAKES_BACK if buffer.len() < whole && self.calls.is_multiple_of(2) => Input::Partial,
            TAKES_BACK | LEAKS if buffer.len() < whole => Input::PartialOf(whole),
            WHOLE_IS_PARTIAL => Input::PartialOf(whole),
            ANSWERS => {
                cx.reply(b"!");
                if buffer.len() < whole { Input::Partial } else { Input::Package(whole) }
            }
            PANICS_LATER => {
                cx.set_deadline(Some(cx.now()));
                Input::Package(whole)
            }
            _ => Input::Package(whole),
        })
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<&'a str>, Violation> {
        if FAULT == EATS && self.calls == 1 {
            return Ok(None);
        }
        if FAULT == PANICS {
            return Ok(Some(std::str::from_utf8(&package[1..]).expect("peers send UTF-8")));
        }
        if FAULT == LEAKS {
            // How often `input` was asked becomes part of the message.
            self.sum = self.sum.wrapping_add(self.calls as u8);
            scratch.extend(self.sum.to_string().bytes());
            return Ok(Some(std::str::from_utf8(scratch)?));
        }
        Ok(Some(std::str::from_utf8(&package[1..])?))
    }

    fn encode(
        &mut self,
        message: &str,
        out: &mut Vec<u8>,
        _: &mut Context,
    ) -> Result<(), Violation> {
        if FAULT == CLEARS {
            out.clear();
        }
        if FAULT == LEAVES {
            out.push(message.len() as u8);
        }
        let length = u8::try_from(message.len()).map_err(|_| Violation::new("above 255 bytes"))?;
        if FAULT != LEAVES {
            out.push(length + u8::from(FAULT == SPLITS));
        }
        out.extend_from_slice(message.as_bytes());
        Ok(())
    }

    fn encode_split<'m>(
        &mut self,
        message: Self::Outgoing<'m>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<std::borrow::Cow<'m, [u8]>>, Violation> {
        if FAULT == SPLITS {
            out.push(message.len() as u8);
            return Ok(Some(message.as_bytes().into()));
        }
        self.encode(message, out, cx).map(|()| None)
    }

    fn on_eof<'a>(
        &mut self,
        rest: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<&'a str>, Violation> {
        if FAULT == PANICS_AT_EOF && !rest.is_empty() {
            let rest = &rest[..1 + usize::from(rest[0])];
            return Ok(Some(std::str::from_utf8(rest)?));
        }
        Ok(None)
    }

    fn on_timer(&mut self, _: &mut Context) -> Result<(), Violation> {
        assert!(FAULT != PANICS_LATER, "nobody thought of the deadline");
        Ok(())
    }
}

fn samples<const FAULT: u8>() -> Vec<Sample<Short<FAULT>>> {
    vec![
        Sample::bytes("\x05hello").gives("hello"),
        Sample::bytes("\x02ab\x00\x01c").gives("ab").gives("").gives("c"),
        Sample::bytes("\x05he").leaves(3),
        Sample::bytes(b"\x02\xff\xff").violates("invalid utf-8"),
        Sample::sent(|con| {
            con.send("one");
            con.send("and two");
            con.refuses(&*"x".repeat(256), "above 255");
        })
        .gives("one")
        .gives("and two"),
    ]
}

#[track_caller]
fn refused<const FAULT: u8>(words: &[&str]) {
    let fault = check(samples::<FAULT>()).expect_err("it is broken").to_string();
    for word in words {
        assert!(fault.contains(word), "{word:?} is not in: {fault}");
    }
}

#[test]
fn a_sound_protocol_passes_with_any_seed() {
    for seed in 0..20 {
        let check = Check::new(Short::<SOUND>::default).seed(seed);
        assert_eq!(check.run(samples()), Ok(()));
    }
}

#[test]
fn a_protocol_that_forgets_or_counts_wrong_on_splits_is_told_the_split() {
    refused::<FORGETS>(&["sample 1, b\"\\x05hello\"", "byte by byte", "PartialOf(6)", "(7)"]);
    refused::<OFF_BY_ONE>(&["sample 1", "byte by byte", "\"hello\" where it is fed whole", "hell"]);
    refused::<LEAKS>(&["sample 1", "message 1 should be \"hello\" and is \"1\""]);
}

#[test]
fn what_only_splits_change_is_told_as_whole_against_split() {
    let samples = || [Sample::bytes("\x03abc").gives("1"), Sample::bytes("\x00").gives("1")];
    let fault = check(samples().map(|s: Sample<Short<LEAKS>>| s.alone())).expect_err("it leaks");
    let fault = fault.to_string();
    let words =
        "sample 1, b\"\\x03abc\", fed byte by byte: message 1 is \"1\" where it is fed whole";
    assert!(fault.starts_with(words), "{fault}");
}

#[test]
fn a_length_that_changes_is_told_with_both() {
    refused::<SHRINKS>(&["PartialOf(7) of a package and then Package(6)"]);
    refused::<TAKES_BACK>(&["PartialOf(6) of a package and then Partial"]);
    refused::<WHOLE_IS_PARTIAL>(&["PartialOf(6) where 6 bytes were there"]);
}

#[test]
fn a_package_of_no_bytes_is_refused() {
    refused::<EMPTY>(&["sample 2", "Package(0)", "for ever"]);
}

#[test]
fn a_panic_is_told_with_the_bytes_that_cause_it() {
    // The sample that would show it at once is left out: garbage finds it.
    let tame = samples::<PANICS>().into_iter().take(3);
    let fault = check(tame).expect_err("it panics").to_string();
    let begins = fault.starts_with("garbage ") && fault.contains(" of seed 1, b\"");
    assert!(begins && fault.contains("it panics: peers send UTF-8"), "{fault}");
    refused::<PANICS_AT_EOF>(&["sample 1", "cut off behind byte 1", "out of range"]);
    refused::<PANICS_LATER>(&["sample 1", "it panics: nobody thought of the deadline"]);
}

#[test]
fn an_answer_that_depends_on_the_split_is_told() {
    refused::<ANSWERS>(&["sample 1", "byte by byte", "answers b\"!\", here b\"!!!!!!\""]);
}

#[test]
fn a_message_that_gets_lost_is_told_by_its_number() {
    refused::<EATS>(&["sample 1", "message 1 should be \"hello\" and is nothing"]);
}

#[test]
fn an_encode_that_does_more_than_append_is_refused() {
    refused::<CLEARS>(&["sample 5, being sent", "`encode` altered what was queued"]);
    refused::<LEAVES>(&["sample 5, being sent", "`encode` failed and left b\"\\x00"]);
    let fault = check([Sample::<Short<SPLITS>>::sent(|con| con.send("one")).gives("one")]);
    let fault = fault.expect_err("they differ").to_string();
    assert!(
        fault.contains(r#"`encode` makes b"\x04one", but `encode_split` b"\x03one""#),
        "{fault}"
    );
}

#[test]
fn what_cannot_be_encoded_or_should_not_be_fails_the_check() {
    let long = "x".repeat(256);
    let fault = check([Sample::<Short<SOUND>>::sent(move |con| con.send(&*long))]);
    let fault = fault.expect_err("it is too long").to_string();
    assert_eq!(fault, "sample 1, being sent: a message cannot be encoded: above 255 bytes");
    let fault = check([Sample::<Short<SOUND>>::sent(|con| con.refuses("x", "above 255"))]);
    let fault = fault.expect_err("it is short").to_string();
    assert!(fault.contains("takes what it should refuse (above 255)"), "{fault}");
}

#[test]
fn a_promise_that_is_not_kept_is_told_even_where_all_ways_agree() {
    let fault = |sample: Sample<Short<SOUND>>| {
        check([sample]).expect_err("it promises something else").to_string()
    };
    let wrong = fault(Sample::bytes("\x01a").gives("b"));
    assert!(wrong.contains("message 1 should be \"b\" and is \"a\""), "{wrong}");
    let wrong = fault(Sample::bytes("\x01"));
    assert!(wrong.contains("nothing is left over; and ends so: 1 bytes never"), "{wrong}");
    let wrong = fault(Sample::bytes(b"\x01\xff").violates("something else"));
    assert!(wrong.contains("a violation (something else); and ends so: a violation"), "{wrong}");
    let wrong = fault(Sample::bytes("\x01a").gives("a").answers("hello"));
    assert!(wrong.contains("should answer b\"hello\" and answers b\"\""), "{wrong}");
}

/// Lines, searched from the beginning each time, with nothing kept.
#[derive(Default)]
struct Naive;

impl Protocol for Naive {
    const NAME: &'static str = "naive";
    type Incoming<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        let feed = buffer.iter().position(|byte| *byte == b'\n');
        Ok(feed.map_or(Input::Partial, |at| Input::Package(at + 1)))
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<&'a [u8]>, Violation> {
        Ok(Some(&package[..package.len() - 1]))
    }

    fn encode(
        &mut self,
        message: &[u8],
        out: &mut Vec<u8>,
        _: &mut Context,
    ) -> Result<(), Violation> {
        out.extend_from_slice(message);
        out.push(b'\n');
        Ok(())
    }
}

#[test]
fn input_that_looks_again_at_all_it_has_seen_is_refused_where_a_sample_is_long_enough() {
    let long = "x".repeat(300);
    let samples = || [Sample::<Naive>::bytes(format!("{long}\n")).gives(long.as_bytes())];
    let fault = check(samples()).expect_err("it searches again").to_string();
    assert!(fault.contains("`input` looks again") && fault.contains("square"), "{fault}");
    assert_eq!(Check::new(Naive::default).may_look_again().run(samples()), Ok(()));
    assert_eq!(check([Sample::<Naive>::bytes("ab\n").gives(b"ab")]), Ok(()));
}

#[test]
fn the_limit_is_judged_as_a_connection_judges_it() {
    let check = Check::new(Naive::default).limits(Limits::new().message_bytes(4));
    let samples = || {
        [
            Sample::bytes("abc\nabcd\n").gives(b"abc").violates("above the limit of 4"),
            Sample::bytes("abcdefgh").violates("above the limit of 4"),
        ]
    };
    assert_eq!(check.run(samples()), Ok(()));
}

/// 300 bytes and more, so that what is looked at again would show.
fn long() -> String {
    "long ".repeat(100)
}

#[test]
fn the_protocols_of_this_crate_pass_their_own_check() -> Result<(), Unsound> {
    check::<Text>([
        Sample::bytes("one\ntwo\r\n\n")
            .gives(Data::Text("one"))
            .gives(Data::Text("two"))
            .gives(Data::Text("")),
        Sample::bytes(b"\xff\n").gives(Data::Binary(b"\xff")),
        Sample::bytes("no end").leaves(6),
        Sample::bytes(long() + "\n").gives(Data::Text(&long())),
        Sample::sent(|con| con.send("hello")).gives(Data::Text("hello")),
        Sample::sent(|con| con.send(long())).gives(Data::Text(&long())),
    ])?;
    check::<Frame>([
        Sample::bytes(b"\0\0\0\x05a\0\0\0\x04").gives(Data::Binary(b"a")).gives(Data::Binary(b"")),
        Sample::bytes(b"\0\0\0\x03").violates("shorter than its own"),
        Sample::bytes(b"\x7f\0\0\0").violates("(Limits::message_bytes)"),
        Sample::bytes(b"\0\0\0\x07ab").leaves(6),
        Sample::sent(|con| con.send(vec![7; 20_000])).gives(Data::Binary(&[7; 20_000])),
    ])?;
    let tcp = Check::seen_by(Tcp::default, |data, seen| seen.piece(data.as_bytes()));
    let sent = |con: &mut super::Sending<'_, Tcp>| {
        con.send(Payload::from("hel"));
        con.send("lo");
    };
    tcp.run([
        Sample::bytes("a stream").gives_piece("a stream"),
        Sample::bytes(long()).gives_piece(long()),
        Sample::sent(sent).gives_piece("hello"),
    ])
}

/// Lines, or blanks of which nothing comes; broken in one way.
#[derive(Default)]
struct Lines<const FAULT: u8> {
    searched: usize,
}

/// Where it stopped searching is not forgotten with the package.
const REMEMBERS: u8 = 1;
/// Blanks behind a line belong to it if they are there already.
const GREEDY: u8 = 2;

impl<const FAULT: u8> Protocol for Lines<FAULT> {
    const NAME: &'static str = "lines";
    type Incoming<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        let from = self.searched.min(buffer.len());
        let Some(at) = buffer[from..].iter().position(|byte| *byte == b'\n') else {
            self.searched = buffer.len();
            return Ok(Input::Partial);
        };
        let end = from + at + 1;
        self.searched = if FAULT == REMEMBERS { end } else { 0 };
        let more = match FAULT {
            GREEDY => buffer[end..].iter().take_while(|byte| **byte == b'\n').count(),
            _ => 0,
        };
        Ok(Input::Package(end + more))
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<&'a [u8]>, Violation> {
        Ok(Some(package.trim_ascii()).filter(|line| !line.is_empty()))
    }

    fn encode(&mut self, _: &[u8], _: &mut Vec<u8>, _: &mut Context) -> Result<(), Violation> {
        Ok(())
    }
}

#[test]
fn what_one_package_leaves_behind_for_the_next_shows_where_samples_follow_one_another() {
    let samples = [Sample::<Lines<REMEMBERS>>::bytes("long one\n").gives(b"long one")];
    let fault = check(samples).expect_err("it remembers").to_string();
    assert!(fault.starts_with("samples [1, 1] one behind the other, fed whole: mess"), "{fault}");
    assert_eq!(check([Sample::<Lines<SOUND>>::bytes("long one\n").gives(b"long one")]), Ok(()));
}

#[test]
fn a_package_that_ends_elsewhere_in_other_pieces_is_told() {
    let fault = check([Sample::<Lines<GREEDY>>::bytes("a\n\n").gives(b"a")]);
    let fault = fault.expect_err("it takes what is there").to_string();
    assert!(fault.contains("ends at byte 3 where it is fed whole, here at byte 2"), "{fault}");
}

/// `5:hello,` (netstrings); broken in one way, or in none.
#[derive(Default)]
struct Netstring<const FAULT: u8>;

/// The number itself overflows.
const MULTIPLIES: u8 = 1;
/// The number fits, and what is added to it does not.
const ADDS: u8 = 2;

impl<const FAULT: u8> Protocol for Netstring<FAULT> {
    const NAME: &'static str = "netstring";
    type Incoming<'a> = &'a [u8];
    type Outgoing<'a> = &'a [u8];

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        let Some(colon) = buffer.iter().position(|byte| !byte.is_ascii_digit()) else {
            return Ok(Input::Partial);
        };
        let mut length = Some(0_usize);
        for digit in &buffer[..colon] {
            let more = |length: usize| length.checked_mul(10)?.checked_add(usize::from(digit & 15));
            length = length.and_then(more);
            assert!(FAULT != MULTIPLIES || length.is_some(), "attempt to multiply");
        }
        let whole = length.and_then(|length| length.checked_add(colon + 2));
        assert!(FAULT != ADDS || length.is_none() || whole.is_some(), "attempt to add");
        match whole {
            Some(whole) if buffer[colon] == b':' && colon > 0 => Ok(Input::Package(whole)),
            _ => Err(Violation::new("no length")),
        }
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<&'a [u8]>, Violation> {
        let from = package.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
        Ok(Some(&package[from..package.len() - 1]))
    }

    fn encode(&mut self, _: &[u8], _: &mut Vec<u8>, _: &mut Context) -> Result<(), Violation> {
        Ok(())
    }
}

#[test]
fn a_length_in_digits_that_overflows_is_found_by_longer_numbers() {
    let long = || format!("300:{},", "x".repeat(300));
    fn samples<const FAULT: u8>(long: &str) -> [Sample<Netstring<FAULT>>; 2] {
        [Sample::bytes("5:hello,").gives(b"hello"), Sample::bytes(long).gives([b'x'; 300])]
    }
    assert_eq!(check(samples::<SOUND>(&long())), Ok(()));
    let fault = check(samples::<MULTIPLIES>(&long())).expect_err("it overflows").to_string();
    assert!(fault.starts_with("sample 1 with the number at byte 0 as 99"), "{fault}");
    assert!(fault.contains("b\"99") && fault.contains("it panics: attempt to mul"), "{fault}");
    let fault = check(samples::<ADDS>(&long())).expect_err("it overflows").to_string();
    assert!(
        fault.contains("as 18446744073709551615, b\"184") && fault.contains("to add"),
        "{fault}"
    );
}
