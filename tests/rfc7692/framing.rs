//! §6, §6.2: RSV1, fragments, and what is judged when it has been inflated.
use crate::play::{Event, Heard, Script, WHOLE};
use crate::row::{
    BINARY, BINARY_MORE, CLOSE, Case, LAST, MORE, PING, PONG, Piece, Row, TEXT, TEXT_MORE, begun,
    binary, fails, frame, passes, raw, row, same, text,
};
use crate::setup::{HELLO, RSV1, agreed, limits, pack, pack_in_pieces, upto};
use crate::support::endpoint::{BOTH, frame_to};
use std::time::{Duration, Instant};
use workerman::Limits;

pub(crate) fn rows() -> Vec<Row> {
    [bits(), fragments(), judged(), bounds()].into_iter().flatten().collect()
}

/// Both sides compress, and forget nothing.
fn deflated(case: Case) -> Case {
    case.with(&agreed(""))
}

/// Compressed octets as a message in fragments, cut before each of these places.
fn cut(first: u8, packed: &[u8], places: &[usize]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for &to in places.iter().chain([&packed.len()]) {
        pieces.push(frame(MORE, &packed[from..to]));
        from = to;
    }
    let last = pieces.len() - 1;
    for (at, piece) in pieces.iter_mut().enumerate() {
        if let Piece::Frame(octet, _) = piece {
            *octet = match at {
                0 => first & 0x0f | RSV1,
                at if at == last => LAST,
                _ => MORE,
            };
        }
    }
    pieces
}

fn bits() -> Vec<Row> {
    let control = || [PING, PONG, CLOSE];
    vec![
        row("6-bit", "RSV1 of its first frame says of each message whether it is compressed.")
            .case(deflated(passes(
                [frame(TEXT | RSV1, HELLO), frame(TEXT, "plain"), frame(TEXT | RSV1, HELLO)],
                [text("Hello"), text("plain"), text("Hello")],
            )))
            .case(deflated(passes([frame(BINARY, HELLO)], [binary(HELLO)]))),
        row("6-opcode", "The opcode is that of the message before it was compressed.").case(
            deflated(passes(
                [frame(TEXT | RSV1, HELLO), frame(BINARY | RSV1, HELLO)],
                [text("Hello"), binary("Hello")],
            )),
        ),
        row("6-control", "RSV1 on a control frame fails the connection.")
            .cases(control().map(|first| deflated(fails(1002, [raw(&[first | RSV1])]))))
            .cases(control().map(|first| {
                let says = [frame(TEXT_MORE | RSV1, &HELLO[..3]), raw(&[first | RSV1])];
                deflated(fails(1002, says))
            })),
        row("6-later-fragment", "RSV1 on a fragment that is not the first fails the connection.")
            .cases([LAST, MORE].map(|then| {
                let says = [frame(TEXT_MORE | RSV1, &HELLO[..3]), raw(&[then | RSV1])];
                deflated(fails(1002, says))
            }))
            .cases(
                [LAST, MORE].map(|then| {
                    deflated(fails(1002, [frame(TEXT_MORE, "a"), raw(&[then | RSV1])]))
                }),
            ),
        row("6-other-bits", "RSV2 and RSV3 are nobody's, with RSV1 or without.").cases(
            [TEXT | 0x20, TEXT | 0x10, TEXT | RSV1 | 0x20, BINARY | RSV1 | 0x10]
                .map(|first| deflated(fails(1002, [raw(&[first])]))),
        ),
        row("6-without", "RSV1 where nothing was agreed fails the connection.")
            .cases([TEXT, BINARY, TEXT_MORE].map(|first| fails(1002, [raw(&[first | RSV1])]))),
    ]
}

fn fragments() -> Vec<Row> {
    let long: String = (0..1000).map(|i| format!("{:04x} ", i * 7919 % 65_521)).collect();
    let packed = pack(long.as_bytes());
    let every = |size: usize| -> Vec<usize> { (size..packed.len()).step_by(size).collect() };
    let sizes = [1 << 4, 1 << 6, 1 << 8, 1 << 10];
    let ping = |payload: &str| Event::Ping(payload.into());
    vec![
        row("6.2-fragments", "The fragments of a compressed message are one stream.")
            .cases(
                (1..HELLO.len())
                    .map(|at| deflated(passes(cut(TEXT, HELLO, &[at]), [text("Hello")]))),
            )
            .case(deflated(passes(cut(BINARY, HELLO, &[1, 2, 3, 4, 5, 6]), [binary("Hello")])))
            .fed("the RFC's \"Hello\" in two fragments, cut before each octet, and an octet each"),
        row("6.2-sizes", "They may be of any size.")
            .cases(sizes.map(|size| {
                deflated(passes(cut(TEXT, &packed, &every(size)), [text(&long)])).cuts(&[
                    crate::play::WHOLE,
                    1,
                    997,
                ])
            }))
            .fed("5000 octets of text, compressed, in fragments of 16, 64, 256 and 1024 octets")
            .expected("the text as it was"),
        row("6.2-empty-fragments", "Empty fragments at any place change nothing.")
            .case(deflated(passes(
                [frame(TEXT_MORE | RSV1, ""), frame(MORE, HELLO), frame(LAST, "")],
                [text("Hello")],
            )))
            .case(deflated(passes(
                [
                    frame(BINARY_MORE | RSV1, &HELLO[..2]),
                    frame(MORE, ""),
                    frame(MORE, ""),
                    frame(LAST, &HELLO[2..]),
                ],
                [binary("Hello")],
            ))),
        row(
            "6.2-control-between",
            "Control frames between them are no part of it, and are answered.",
        )
        .case(deflated(
            passes(
                [
                    frame(TEXT_MORE | RSV1, &HELLO[..3]),
                    frame(PING, "?"),
                    frame(MORE, &HELLO[3..5]),
                    frame(PING, HELLO),
                    frame(LAST, &HELLO[5..]),
                ],
                [ping("?"), Event::Ping(HELLO.to_vec()), text("Hello")],
            )
            .sends(&[(PONG, b"?"), (PONG, HELLO)]),
        )),
        row("6.2-plain", "A message without RSV1 is taken as it is, also in fragments.").case(
            deflated(passes(
                [
                    frame(TEXT_MORE, "pla"),
                    frame(LAST, "in"),
                    frame(TEXT_MORE | RSV1, &HELLO[..3]),
                    frame(LAST, &HELLO[3..]),
                    frame(BINARY_MORE, &HELLO[..3]),
                    frame(LAST, &HELLO[3..]),
                ],
                [text("plain"), text("Hello"), binary(HELLO)],
            )),
        ),
        row("7.2.1-tail-inside", "A fragment that is not the last one keeps the four octets.")
            .cases([1, 7, 1000].map(|size| {
                let pieces = pack_in_pieces(&long.as_bytes()[..size * 4], size);
                let places: Vec<usize> = pieces[..3]
                    .iter()
                    .scan(0, |at, piece| {
                        *at += piece.len();
                        Some(*at)
                    })
                    .collect();
                deflated(passes(cut(TEXT, &pieces.concat(), &places), [text(&long[..size * 4])]))
            }))
            .fed("4, 28 and 4000 octets in four fragments, each flushed to an octet as it was sent")
            .expected("the text as it was"),
    ]
}

fn judged() -> Vec<Row> {
    let bad = [&b"abc\xff"[..], b"abc\xc0\xaf", b"abc\xed\xa0\x80", b"abc\xf4\x90\x80\x80"];
    // How many octets of it make it certain.
    let certain = [4, 4, 5, 5];
    let texts: Vec<(Vec<u8>, u64)> = bad.iter().map(|bad| pack(bad)).zip(certain).collect();
    let fails_early = texts.clone().into_iter().map(|(packed, made)| {
        deflated(fails(1007, [begun(TEXT | RSV1, 1000, upto(&packed, made))]))
    });
    let fails_in_fragments = texts.into_iter().map(|(packed, made)| {
        let (one, two) = upto(&packed, made).split_at(2);
        deflated(fails(1007, [frame(TEXT_MORE | RSV1, one), begun(MORE, 1000, two)]))
    });
    vec![
        row(
            "6-octets",
            "Compressed octets of a text need not be UTF-8; what they inflate to must.",
        )
        .case(deflated(passes([frame(TEXT | RSV1, HELLO)], [text("Hello")])))
        .case(deflated(passes([frame(TEXT | RSV1, pack("é€😀".as_bytes()))], [text("é€😀")])))
        .case(deflated(passes([frame(BINARY | RSV1, pack(b"\xff"))], [binary([0xff])])))
        .cases((1..6).map(|at| {
            let packed = pack("é€😀".as_bytes());
            deflated(passes(cut(TEXT, &packed, &[at]), [text("é€😀")]))
        })),
        row("6-utf8", "Text that inflates to what is no UTF-8 fails at the octet that shows it.")
            .cases(fails_early)
            .cases(fails_in_fragments)
            .fed("\"abc\" with ff, c0 af, ed a0 80, f4 90 80 80 behind, compressed, unfinished")
            .expected("fails with 1007, at the octet by which zlib has made what cannot be"),
        row("6-utf8-cut-short", "Compressed text that ends inside a character fails at its end.")
            .cases(["é", "€", "😀"].map(|word| {
                let packed = pack(&word.as_bytes()[..word.len() - 1]);
                deflated(fails(1007, [frame(TEXT | RSV1, packed)]))
            })),
    ]
}

fn bounds() -> Vec<Row> {
    let just = "a".repeat(100_000);
    let packed = pack(just.as_bytes());
    let bomb = pack(&vec![b'a'; 100_001]);
    let four = Limits::new().fragments(4);
    vec![
        row("8-limit", "The limit of a message counts what it inflates to: just so much passes.")
            .case(deflated(passes([frame(TEXT | RSV1, &packed)], [text(&just)])).limits(limits()))
            .case(deflated(passes(cut(TEXT, &packed, &[5, 60]), [text(&just)])).limits(limits())),
        row("8-bomb", "One octet beyond it ends the session with 1009, the message unfinished.")
            .cases([TEXT_MORE, BINARY_MORE].map(|first| {
                let says = [frame(first | RSV1, &bomb)];
                // At which octet is zlib's to know; that it is over when the frame is, ours.
                deflated(fails(1009, says)).cuts(&[WHOLE, 64]).limits(limits())
            }))
            .expected("fails with 1009 before the next fragment"),
        row(
            "8-declared",
            "A frame that is longer than any message of the limit is refused at its head.",
        )
        .case(deflated(fails(1009, [begun(TEXT | RSV1, 10_000_000, "")])).limits(limits())),
        row("8-empty-fragments", "Empty fragments are no progress of a compressed message either.")
            .own(&BOTH, &[WHOLE], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.setup = Some(agreed(""));
                script.limits = Limits::new().partial_package(0.3);
                let mut play = bench.open(&script)?;
                play.feed(&frame_to(ours, TEXT_MORE | RSV1, &HELLO[..3]), cut)?;
                let begin = Instant::now();
                while !play.is_over() {
                    same("in time", &(begin.elapsed() < Duration::from_secs(5)), &true)?;
                    play.feed(&frame_to(ours, MORE, b""), cut)?;
                    play.pass(Duration::from_millis(30));
                }
                let Heard { failures, .. } = play.finish()?;
                let says = failures.first().map_or("", |failure| &failure.3);
                same(says, &says.contains("Limits::partial_package"), &true)
            })
            .fed("text RSV1 (no FIN), then an empty continuation (no FIN) each 0.03 s; limit of 0.3 s")
            .expected("fails by Limits::partial_package"),
        row("8-fragments", "Compressed messages have the same limit of fragments.")
            .case(
                deflated(passes(cut(TEXT, HELLO, &[1, 2, 3]), [text("Hello")]))
                    .limits(four.clone()),
            )
            .case({
                let mut says = cut(TEXT, HELLO, &[1, 2, 3, 4]);
                says.pop();
                says.push(begun(LAST, 3, ""));
                deflated(fails(1009, says)).limits(four)
            }),
    ]
}
