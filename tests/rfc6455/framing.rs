//! §5.1 to §5.3, §5.6: heads, masks, reserved bits, opcodes, lengths.
use crate::play::WHOLE;
use crate::row::{
    BINARY, BINARY_MORE, Case, LAST, MORE, PING, PONG, Row, TEXT, TEXT_MORE, begun, binary, fails,
    frame, passes, raw, row, text,
};
use crate::support::endpoint::Ours;
use workerman::Limits;

/// The same octets to both sides, the mask bit as each wants it.
pub(crate) fn headed(code: u16, head: impl Fn(u8) -> Vec<u8>) -> [Case; 2] {
    [
        fails(code, [raw(&head(0x80))]).only(Ours::Server),
        fails(code, [raw(&head(0))]).only(Ours::Client),
    ]
}

/// Letters in an order that shows what was lost or doubled.
pub(crate) fn letters(length: usize) -> Vec<u8> {
    (0..length).map(|i| b'a' + (i % 251 % 26) as u8).collect()
}

pub(crate) fn octets(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

const LENGTHS: [usize; 8] = [0, 1, 125, 126, 127, 128, 65_535, 65_536];

pub(crate) fn rows() -> Vec<Row> {
    [masks(), reserved(), lengths(), kinds()].into_iter().flatten().collect()
}

fn masks() -> Vec<Row> {
    let every: Vec<u8> = (0..=255).collect();
    vec![
        row("5.1-unmasked-client", "A server ends the connection at a frame that is not masked.")
            .cases(
                [TEXT, BINARY, PING, PONG, 0x88, TEXT_MORE]
                    .map(|first| fails(1002, [raw(&[first, 0x00])]).only(Ours::Server)),
            )
            .case(
                fails(1002, [frame(TEXT, "right"), raw(&[TEXT, 0x05])])
                    .hears([text("right")])
                    .only(Ours::Server),
            ),
        row("5.1-masked-server", "A client ends the connection at a frame that is masked.")
            .cases(
                [TEXT, BINARY, PING, PONG, 0x88, TEXT_MORE]
                    .map(|first| fails(1002, [raw(&[first, 0x80])]).only(Ours::Client)),
            )
            .case(
                fails(1002, [frame(TEXT, "right"), raw(&[TEXT, 0x85])])
                    .hears([text("right")])
                    .only(Ours::Client),
            ),
        row("5.3-unmasking", "The mask comes off octet by octet, by the key's octet in turn.")
            .case(passes([frame(BINARY, &every)], [binary(&every)]).cuts(&[WHOLE, 1, 3, 7]))
            .case(
                // The RFC's own example (§5.7).
                passes(
                    [raw(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58])],
                    [text("Hello")],
                )
                .only(Ours::Server),
            )
            .case(
                passes([raw(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f])], [text("Hello")])
                    .only(Ours::Client),
            ),
        row("5.3-any-key", "Any key is a right one, four zeros too.")
            .cases([[0u8; 4], [0xff; 4], [0, 0, 0, 1]].map(|key| {
                let masked = [b'a' ^ key[0], b'b' ^ key[1], b'c' ^ key[2], b'd' ^ key[3]];
                passes([raw(&[&[0x81, 0x84], &key[..], &masked].concat())], [text("abcd")])
                    .only(Ours::Server)
            }))
            .fed("text \"abcd\" masked by 00 00 00 00, ff ff ff ff, 00 00 00 01"),
    ]
}

fn reserved() -> Vec<Row> {
    let bits = [0x40, 0x20, 0x10, 0x60, 0x50, 0x30, 0x70];
    let firsts = [TEXT, BINARY, PING, PONG, 0x88, TEXT_MORE, MORE];
    let with_bits = || bits.into_iter().flat_map(move |bit| firsts.map(|first| first | bit));
    let opcodes = || [3, 4, 5, 6, 7, 11, 12, 13, 14, 15];
    vec![
        row("5.2-reserved-bits", "A reserved bit that no extension uses fails the connection.")
            .cases(with_bits().map(|first| fails(1002, [raw(&[first])])))
            .fed("each of the seven settings of RSV1 to RSV3 on each kind of frame")
            .expected("fails with 1002, at the first octet"),
        row(
            "5.2-reserved-bits-later",
            "A reserved bit behind good messages: those are delivered and answered.",
        )
        .cases(bits.map(|bit| {
            let says = [frame(TEXT, "good"), frame(PING, "?"), raw(&[TEXT | bit])];
            fails(1002, says)
                .hears([text("good"), crate::play::Event::Ping(b"?".into())])
                .sends(&[(PONG, b"?")])
        })),
        row(
            "5.2-reserved-bits-fragment",
            "A reserved bit on a fragment that is not the first fails the connection.",
        )
        .cases(bits.map(|bit| fails(1002, [frame(TEXT_MORE, "a"), raw(&[LAST | bit])]))),
        row("5.2-opcodes", "An opcode that nobody has defined fails the connection.")
            .cases(opcodes().map(|opcode| fails(1002, [raw(&[0x80 | opcode])])))
            .cases(opcodes().map(|opcode| fails(1002, [raw(&[opcode])])))
            .fed("opcodes 3 to 7 and 11 to 15, with FIN and without")
            .expected("fails with 1002, at the first octet"),
        row(
            "5.2-opcodes-later",
            "An undefined opcode behind good messages, or inside a fragmented one, fails it.",
        )
        .cases(opcodes().map(|opcode| {
            let says = [frame(TEXT, "good"), frame(BINARY, [1]), raw(&[0x80 | opcode])];
            fails(1002, says).hears([text("good"), binary([1])])
        }))
        .cases(
            opcodes().map(|opcode| fails(1002, [frame(TEXT_MORE, "go"), raw(&[0x80 | opcode])])),
        ),
    ]
}

fn lengths() -> Vec<Row> {
    // Of the longest, one of each kind octet by octet: the others are cut into longer pieces.
    let cuts = |length: usize, bytewise: bool| match (length > 1000, bytewise) {
        (false, _) => vec![WHOLE, 1, 7],
        (true, false) => vec![WHOLE, 997, 1024],
        (true, true) => vec![WHOLE, 1, 997, 1024],
    };
    let of = |length: usize| {
        let (letters, octets) = (letters(length), octets(length));
        [
            passes([frame(TEXT, &letters)], [text(&letters)])
                .cuts(&cuts(length, !length.is_multiple_of(2))),
            passes([frame(BINARY, &octets)], [binary(&octets)])
                .cuts(&cuts(length, length.is_multiple_of(2))),
        ]
    };
    let chopped = |length: usize| {
        let octets = octets(length);
        let says = [frame(BINARY, &octets), frame(TEXT, "behind")];
        let cuts = [2, 64, 997, 1024, 4096, 65_536];
        let from = usize::from(length > 1000);
        passes(says, [binary(&octets), text("behind")]).cuts(&cuts[from..])
    };
    vec![
        row("5.2-lengths", "A payload's length is read from 7, 16 or 64 bits.")
            .cases(LENGTHS.into_iter().flat_map(of))
            .fed(
                "text and binary of 0, 1, 125, 126, 127, 128, 65535 and 65536 octets, whole, octet \
                 by octet (of the two longest: text of 65535, binary of 65536), chopped by 7, 997 \
                 and 1024",
            )
            .expected("each message as it was"),
        row("5.2-chopped", "TCP may cut a frame anywhere.")
            .cases([125, 126, 1000, 65_535, 65_536, 200_000].map(chopped))
            .fed(
                "messages of 125 to 200000 octets, chopped by 64, 997, 1024, 4096 and 65536, those \
                  up to 1000 by 2 as well",
            )
            .expected("each message as it was"),
        row("5.2-shortest-16", "A length in 16 bits that fits into 7 is none.").cases(
            [0u16, 1, 124, 125].into_iter().flat_map(|length| {
                headed(1002, |m| [&[BINARY, m | 126][..], &length.to_be_bytes()].concat())
            }),
        ),
        row("5.2-shortest-64", "A length in 64 bits that fits into 16 is none.").cases(
            [0u64, 125, 126, 65_535].into_iter().flat_map(|length| {
                headed(1002, |m| [&[BINARY, m | 127][..], &length.to_be_bytes()].concat())
            }),
        ),
        row("5.2-highest-bit", "The highest bit of a length in 64 bits is zero.")
            .cases(headed(1002, |m| vec![BINARY, m | 127, 0x80]))
            .cases(headed(1002, |m| vec![TEXT, m | 127, 0xff])),
        row("5.2-declared", "A length beyond the limit is refused before its octets come.")
            .case(fails(1009, [begun(BINARY, u64::MAX >> 1, "")]))
            .case(fails(1009, [begun(TEXT, 10_485_761, "")]))
            .case(fails(1009, [begun(TEXT, 101, "")]).limits(Limits::new().message_bytes(100))),
    ]
}

fn kinds() -> Vec<Row> {
    vec![
        row("5.6-kinds", "Text and binary messages are told apart.")
            .case(passes([frame(TEXT, "abc"), frame(BINARY, "abc")], [text("abc"), binary("abc")])),
        row(
            "5.6-any-binary",
            "A binary message may hold anything; text beside it does not change.",
        )
        .case(passes(
            [frame(BINARY, [0xff, 0xfe, 0]), frame(TEXT, ""), frame(BINARY, [])],
            [binary([0xff, 0xfe, 0]), text(""), binary([])],
        ))
        .case(passes([frame(BINARY_MORE, [0xc3]), frame(LAST, [0x28])], [binary([0xc3, 0x28])])),
    ]
}
