//! §7.2.1 to §7.2.3: the blocks of DEFLATE that may come, and the window behind them.
use crate::play::WHOLE;
use crate::row::{
    BINARY, Case, LAST, MORE, Row, TEXT, TEXT_MORE, begun, binary, fails, frame, passes, row, text,
};
use crate::setup::{AGAIN, HELLO, RSV1, agreed, pack, pack_all, upto};

const FORGETS: &str = "; server_no_context_takeover; client_no_context_takeover";

pub(crate) fn rows() -> Vec<Row> {
    [examples(), blocks(), windows(), wrong()].into_iter().flatten().collect()
}

fn deflated(case: Case) -> Case {
    case.with(&agreed(""))
}

/// One message, of these octets, is "Hello".
fn hello(octets: &[u8]) -> Case {
    deflated(passes([frame(TEXT | RSV1, octets)], [text("Hello")]))
}

const STORED: &[u8] = &[0, 5, 0, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0];
const FINAL: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
const TWO: &[u8] = &[0xf2, 0x48, 0x05, 0, 0, 0, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];

fn examples() -> Vec<Row> {
    vec![
        row("7.2.3.1-one-block", "The RFC's message in one block, whole and in two fragments.")
            .case(hello(HELLO))
            .case(deflated(passes(
                [frame(TEXT_MORE | RSV1, &HELLO[..3]), frame(LAST, &HELLO[3..])],
                [text("Hello")],
            ))),
        row("7.2.3.2-shared-window", "The RFC's second message, by reference to the first.").case(
            deflated(passes(
                [frame(TEXT | RSV1, HELLO), frame(TEXT | RSV1, AGAIN)],
                [text("Hello"), text("Hello")],
            )),
        ),
        row("7.2.3.3-stored", "The RFC's message in a block that is not compressed.")
            .case(hello(STORED)),
        row("7.2.3.4-final", "The RFC's message in a block with BFINAL, and messages behind it.")
            .case(hello(FINAL))
            .case(deflated(passes(
                [HELLO, FINAL, FINAL, HELLO].map(|octets| frame(TEXT | RSV1, octets)),
                vec![text("Hello"); 4],
            )))
            .case(deflated(passes(
                [frame(TEXT | RSV1, FINAL), frame(TEXT | RSV1, AGAIN)],
                [text("Hello"), text("Hello")],
            ))),
        row("7.2.3.5-two-blocks", "The RFC's message in two blocks.").case(hello(TWO)),
        row("7.2.3.6-empty", "An empty fragment, or message, is one octet of zero.")
            .case(deflated(passes(
                [frame(TEXT | RSV1, [0]), frame(TEXT | RSV1, HELLO)],
                [text(""), text("Hello")],
            )))
            .case(deflated(passes(
                [frame(TEXT_MORE | RSV1, TWO_FLUSHED), frame(LAST, [0])],
                [text("Hello")],
            )))
            .case(deflated(passes([frame(BINARY | RSV1, [0])], [binary("")]))),
    ]
}

/// "Hello", flushed to an octet with its tail, as it stands in a fragment that is not the last.
const TWO_FLUSHED: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff];

fn blocks() -> Vec<Row> {
    let words: String = (0..1000).map(|i| format!("{:04x} ", i * 7919 % 65_521)).collect();
    let message = words.as_bytes();
    let level = |level: i32| {
        let packed = pack_all(&[message], level, 15).remove(0);
        deflated(passes([frame(TEXT | RSV1, packed)], [text(&words)])).cuts(&[WHOLE, 1, 997])
    };
    // The last octet of the RFC's examples is the block whose rest is the tail.
    let done = &FINAL[..7];
    let both = [done, HELLO].concat();
    let three = [done, done, STORED].concat();
    vec![
        row("7.2.1-block-types", "Blocks of every type may come: stored, fixed, dynamic.")
            .cases([0, 1, 6, 9].map(level))
            .fed("5000 octets of text, by zlib's levels 0, 1, 6 and 9")
            .expected("the text as it was"),
        row("7.2.1-many-blocks", "A message may have many blocks, BFINAL set on some of them.")
            .case(deflated(passes([frame(TEXT | RSV1, &both)], [text("HelloHello")])))
            .case(deflated(passes([frame(TEXT | RSV1, &three)], [text("Hello".repeat(3))])))
            .case(deflated(passes(
                [
                    frame(TEXT_MORE | RSV1, done),
                    frame(MORE, STORED),
                    frame(LAST, [0, 0, 0xff, 0xff, 0]),
                ],
                [text("HelloHello")],
            ))),
        row("7.2.1-padding", "Behind BFINAL the next block begins at an octet.").case(deflated(
            passes([frame(TEXT | RSV1, [done, STORED].concat())], [text("HelloHello")]),
        )),
        row("7.2.2-large", "Large messages inflate as they were.")
            .case({
                let large = words.repeat(200);
                let packed = pack(large.as_bytes());
                deflated(passes([frame(TEXT | RSV1, packed)], [text(large)])).cuts(&[WHOLE, 1024])
            })
            .fed("1 MB of text in one frame")
            .expected("the text as it was"),
    ]
}

fn windows() -> Vec<Row> {
    // 32 000 octets that do not repeat, and their first ones again: at the window's far end.
    let far: Vec<u8> =
        (0..16_000u32).flat_map(|i| ((i * 40_503 % 65_521) as u16).to_be_bytes()).collect();
    let behind = far[..700].to_vec();
    let packed = pack_all(&[&far, &behind], 9, 15);
    let reaches = packed[1].len() < 100;
    let forgets = |case: Case| case.with(&agreed(FORGETS));
    vec![
        row(
            "7.2.2-takeover",
            "A message may refer to the one before, plain ones between left out.",
        )
        .case(deflated(passes(
            [frame(TEXT | RSV1, HELLO), frame(TEXT, "plain"), frame(TEXT | RSV1, AGAIN)],
            [text("Hello"), text("plain"), text("Hello")],
        )))
        .case(deflated(passes(
            [
                frame(TEXT | RSV1, HELLO),
                frame(TEXT | RSV1, AGAIN),
                frame(TEXT_MORE | RSV1, &AGAIN[..2]),
                frame(LAST, &AGAIN[2..]),
            ],
            vec![text("Hello"); 3],
        ))),
        row("7.2.2-32-kib", "Without window bits agreed the window is 32 768 octets.")
            .case({
                assert!(reaches, "the second message refers to the first");
                let says = [frame(BINARY | RSV1, &packed[0]), frame(BINARY | RSV1, &packed[1])];
                deflated(passes(says, [binary(&far), binary(&behind)])).cuts(&[WHOLE, 7, 997])
            })
            .fed("32 000 octets that do not repeat, then the first 700 of them by reference")
            .expected("both messages as they were"),
        row("7.2.2-narrow", "Any window that was agreed on is inflated.")
            .cases((9..=15).map(|bits| {
                let packed = pack_all(&[&far, &behind], 9, bits);
                let says = [frame(BINARY | RSV1, &packed[0]), frame(BINARY | RSV1, &packed[1])];
                let parameters =
                    format!("; server_max_window_bits={bits}; client_max_window_bits={bits}");
                passes(says, [binary(&far), binary(&behind)])
                    .with(&agreed(&parameters))
                    .cuts(&[WHOLE, 1024])
            }))
            .fed("two messages by windows of 9 to 15 bits")
            .expected("both messages as they were"),
        row(
            "7.2.2-no-takeover",
            "Without context takeover each message begins with an empty window.",
        )
        .case(forgets(passes(
            [frame(TEXT | RSV1, HELLO), frame(TEXT | RSV1, HELLO)],
            [text("Hello"), text("Hello")],
        )))
        .case(
            forgets(fails(
                1007,
                [frame(TEXT | RSV1, HELLO), begun(TEXT | RSV1, 100, upto(AGAIN, 1000))],
            ))
            .hears([text("Hello")]),
        ),
    ]
}

fn wrong() -> Vec<Row> {
    let at_once = |octets: &[u8]| {
        let upto = upto(octets, 1000);
        deflated(fails(1007, [begun(BINARY | RSV1, 1000, upto)]))
    };
    let damaged: [&[u8]; 5] = [
        // A type of block that is none; a length and its complement that are not; a reference to
        // before the beginning; lengths of codes that make no tree; as the second fragment.
        &[0x07, 0xff],
        &[0x00, 0x05, 0x00, 0xfa, 0xfe],
        AGAIN,
        &[0x04, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xf2, 0x48, 0x05, 0, 0, 0, 0xff, 0x00],
    ];
    vec![
        row("7.2.2-corrupt", "What cannot be inflated fails the connection as soon as it shows.")
            .cases(damaged.map(at_once))
            .fed(
                "a block of type 3, a stored one whose length is wrong, a reference to before the \
                 beginning, a tree that is none, a wrong second block",
            )
            .expected("fails with 1007, at the octet at which zlib knows"),
        row("7.2.2-cut-short", "A message that ends inside a block fails at its end.")
            .case(deflated(fails(1007, [frame(BINARY | RSV1, &STORED[..6])])))
            .case(deflated(fails(1007, [frame(BINARY | RSV1, &STORED[..3])])))
            .case(deflated(fails(1007, [frame(TEXT_MORE | RSV1, &STORED[..6]), frame(LAST, "")]))),
        row("7.2.2-nothing-after", "Nothing behind what could not be inflated is processed.").case(
            deflated(
                fails(1007, [frame(TEXT | RSV1, HELLO), begun(TEXT | RSV1, 50, [0x07])])
                    .hears([text("Hello")]),
            ),
        ),
    ]
}
