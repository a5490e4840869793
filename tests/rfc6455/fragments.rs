//! §5.4: messages in fragments.
use crate::framing::{letters, octets};
use crate::play::{Event, WHOLE};
use crate::row::{
    BINARY, BINARY_MORE, Case, LAST, MORE, PING, PONG, Piece, Row, TEXT, TEXT_MORE, begun, binary,
    close, fails, frame, passes, row, text,
};

/// A message in fragments of so many octets.
pub(crate) fn fragmented(first: u8, message: &[u8], size: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = message.chunks(size).map(|piece| frame(MORE, piece)).collect();
    let last = pieces.len() - 1;
    for (at, piece) in pieces.iter_mut().enumerate() {
        if let Piece::Frame(octet, _) = piece {
            let opcode = if at == 0 { first & 0x0f } else { 0 };
            *octet = opcode | if at == last { 0x80 } else { 0 };
        }
    }
    pieces
}

fn heard(payload: &str) -> Event {
    Event::Ping(payload.into())
}

pub(crate) fn rows() -> Vec<Row> {
    [sums(), orders(), between()].into_iter().flatten().collect()
}

fn sums() -> Vec<Row> {
    let powers = |length: usize, from: u32| {
        let (letters, octets) = (letters(length), octets(length));
        (from..=length.ilog2()).flat_map(move |n| {
            let cuts: &[usize] = if length > 10_000 { &[WHOLE, 1024] } else { &[WHOLE, 1, 997] };
            let size = 1 << n;
            [
                passes(fragmented(TEXT, &letters, size), [text(&letters)]).cuts(cuts),
                passes(fragmented(BINARY, &octets, size), [binary(&octets)]).cuts(cuts),
            ]
        })
    };
    vec![
        row("5.4-concatenated", "A message's payload is that of its fragments, in their order.")
            .case(passes(
                [frame(TEXT_MORE, "Hel"), frame(MORE, "l"), frame(LAST, "o")],
                [text("Hello")],
            ))
            .case(passes(
                [frame(BINARY_MORE, [1]), frame(LAST, [2]), frame(TEXT, "next")],
                [binary([1, 2]), text("next")],
            )),
        row(
            "5.4-one-frame",
            "A message of one frame needs no fragments; a fragmented one may be two.",
        )
        .case(passes(
            [frame(TEXT, "a"), frame(TEXT_MORE, "b"), frame(LAST, "c")],
            [text("a"), text("bc")],
        )),
        row("5.4-empty-fragments", "Empty fragments are fragments.")
            .case(passes([frame(TEXT_MORE, ""), frame(LAST, "")], [text("")]))
            .case(passes(
                [frame(TEXT_MORE, ""), frame(MORE, "a"), frame(MORE, ""), frame(LAST, "")],
                [text("a")],
            ))
            .case(passes(
                [frame(BINARY_MORE, ""), frame(MORE, ""), frame(LAST, "x")],
                [binary("x")],
            )),
        row("5.4-kind", "The first fragment says what the message is, for all of them.")
            .case(passes([frame(TEXT_MORE, "a"), frame(LAST, "b")], [text("ab")]))
            .case(passes([frame(BINARY_MORE, "a"), frame(LAST, "b")], [binary("ab")])),
        row("5.4-sizes-1024", "A message may be cut into fragments of any size.")
            .cases(powers(1024, 0))
            .fed("text and binary of 1024 octets in fragments of 1, 2, 4, … 1024")
            .expected("each message as it was"),
        row("5.4-sizes-65536", "A larger message may be cut into fragments of any size.")
            .cases(powers(65_536, 4))
            .case({
                let letters = letters(65_536);
                passes(fragmented(TEXT, &letters, 1300), [text(&letters)]).cuts(&[WHOLE, 1024])
            })
            .fed(
                "text and binary of 65536 octets in fragments of 16, 32, … 65536, text of 1300 too",
            )
            .expected("each message as it was"),
    ]
}

fn orders() -> Vec<Row> {
    vec![
        row("5.4-no-beginning", "A continuation without a message that has begun fails.")
            .case(fails(1002, [frame(LAST, "")]))
            .case(fails(1002, [begun(MORE, 1, "")]))
            .case(fails(1002, [begun(LAST, 70_000, "")]))
            .case(fails(1002, [frame(TEXT, "a"), begun(LAST, 1, "")]).hears([text("a")])),
        row(
            "5.4-after-its-end",
            "Behind a message's last fragment there is no message to continue.",
        )
        .case(
            fails(1002, [frame(TEXT_MORE, "a"), frame(LAST, "b"), begun(LAST, 1, "")])
                .hears([text("ab")]),
        )
        .case(
            fails(1002, [frame(BINARY_MORE, "a"), frame(LAST, "b"), begun(MORE, 1, "")])
                .hears([binary("ab")]),
        ),
        row("5.4-not-mixed", "Fragments of one message do not stand between those of another.")
            .cases([TEXT, BINARY, TEXT_MORE, BINARY_MORE].into_iter().flat_map(|second| {
                [TEXT_MORE, BINARY_MORE]
                    .map(|first| fails(1002, [frame(first, "a"), begun(second, 1, "")]))
            }))
            .case(fails(1002, [frame(TEXT_MORE, "a"), frame(MORE, "b"), begun(TEXT, 1, "")])),
    ]
}

/// Each of these pings, with its event and its answer.
fn with_pings(says: Vec<Piece>, message: Event, pings: &[&str]) -> Case {
    let events = pings.iter().map(|ping| heard(ping)).chain([message]);
    let answers: Vec<(u8, &[u8])> = pings.iter().map(|ping| (PONG, ping.as_bytes())).collect();
    passes(says, events).sends(&answers)
}

fn between() -> Vec<Row> {
    let many: Vec<Piece> = (0..20)
        .flat_map(|i| {
            let first = if i == 0 { TEXT_MORE } else { MORE };
            [frame(first, "x"), frame(PING, "p")]
        })
        .chain([frame(LAST, "")])
        .collect();
    vec![
        row(
            "5.4-control-between",
            "Control frames may stand between fragments, and are answered there.",
        )
        .case(with_pings(
            vec![frame(TEXT_MORE, "a"), frame(PING, "1"), frame(LAST, "b")],
            text("ab"),
            &["1"],
        ))
        .case(with_pings(
            vec![
                frame(BINARY_MORE, "a"),
                frame(PING, "1"),
                frame(MORE, "b"),
                frame(PING, "2"),
                frame(LAST, "c"),
            ],
            binary("abc"),
            &["1", "2"],
        ))
        .case(with_pings(many, text("x".repeat(20)), &["p"; 20])),
        row("5.4-pong-between", "A pong between fragments changes nothing.").case(passes(
            [frame(TEXT_MORE, "a"), frame(PONG, ""), frame(LAST, "b")],
            [Event::Pong(Vec::new()), text("ab")],
        )),
        row(
            "5.4-close-between",
            "A close frame between fragments ends it; the message never comes.",
        )
        .case(
            passes(
                [frame(TEXT_MORE, "a"), close(1000, ""), frame(LAST, "b")],
                [Event::Farewell(1000, String::new())],
            )
            .ends(crate::row::End::Closed(Some(1000), 1000)),
        ),
        row("5.4-inside-octets", "No control frame stands inside a frame: its octets are payload.")
            .case(passes(
                [frame(BINARY, [0x89, 0x80, 0x88, 0x80])],
                [binary([0x89, 0x80, 0x88, 0x80])],
            )),
    ]
}
