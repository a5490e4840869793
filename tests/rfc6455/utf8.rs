//! §8.1, §5.6: text is UTF-8, judged at each octet.
use crate::row::{Case, LAST, MORE, PING, PONG, Piece, Row, TEXT, TEXT_MORE, begun, fails, frame};
use crate::row::{passes, row, text};

/// First and last of each length, what stands around the gaps, and a few words.
fn valid() -> Vec<String> {
    let mut texts: Vec<String> = [
        0, 0x7f, 0x80, 0x7ff, 0x800, 0xfff, 0x1000, 0xcfff, 0xd000, 0xd7ff, 0xe000, 0xfffd,
        0x1_0000, 0x3_ffff, 0x4_0000, 0xf_ffff, 0x10_0000, 0x10_ffff,
    ]
    .into_iter()
    .filter_map(char::from_u32)
    .map(String::from)
    .collect();
    // Noncharacters are characters of Unicode as far as UTF-8 goes.
    let planes = (0..=0x10).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    texts.extend(planes.filter_map(char::from_u32).map(String::from));
    let words = ["κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "\u{feff}BOM", "日本語 🎉🎊", "a\u{0}b"];
    texts.extend(words.map(String::from));
    texts
}

/// Sequences that no continuation makes right.
fn invalid() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    // Octets that begin nothing: continuations, the overlong C0 and C1, F5 and above.
    all.extend((0x80..=0xc1).chain(0xf5..=0xff).map(|first| vec![first]));
    // A beginning and what does not go on with it, after each of its octets.
    for lead in [&[0xc2][..], &[0xdf], &[0xe1, 0x80], &[0xef, 0xbf], &[0xf1, 0x80, 0x80]] {
        for end in 1..=lead.len() {
            for wrong in [b' ', 0x7f, 0xc0, 0xc2, 0xe0, 0xf0, 0xff] {
                all.push([&lead[..end], &[wrong]].concat());
            }
        }
    }
    let written = [
        // Overlong: the slash, the highest of each length too few, NUL.
        "c0 af",
        "e0 80 af",
        "f0 80 80 af",
        "f8 80 80 80 af",
        "fc 80 80 80 80 af",
        "c1 bf",
        "e0 9f bf",
        "f0 8f bf bf",
        "f8 87 bf bf bf",
        "fc 83 bf bf bf bf",
        "c0 80",
        "e0 80 80",
        "f0 80 80 80",
        // Surrogates, alone and in pairs.
        "ed a0 80",
        "ed ad bf",
        "ed ae 80",
        "ed af bf",
        "ed b0 80",
        "ed be 80",
        "ed bf bf",
        "ed a0 80 ed b0 80",
        "ed ad bf ed bf bf",
        "ed ae 80 ed b0 80",
        "ed af bf ed bf bf",
        // Beyond U+10FFFF; five and six octets.
        "f4 90 80 80",
        "f4 bf bf bf",
        "f5 80 80 80",
        "f7 bf bf bf",
        "f8 88 80 80 80",
        "fb bf bf bf bf",
        "fc 84 80 80 80 80",
        "fd bf bf bf bf bf",
    ];
    let octets = |text: &str| -> Vec<u8> {
        text.split(' ').map(|octet| u8::from_str_radix(octet, 16).expect("hex")).collect()
    };
    all.extend(written.map(octets));
    all
}

/// Where the octet stands that cannot be.
fn wrong_at(bytes: &[u8]) -> usize {
    let error = std::str::from_utf8(bytes).expect_err("invalid");
    let from = error.valid_up_to();
    match bytes[from] {
        0x80..=0xc1 | 0xf5.. => from,
        _ => from + error.error_len().expect("not merely too short"),
    }
}

/// Two fragments, cut before each octet.
fn split(bytes: &[u8]) -> impl Iterator<Item = [Piece; 2]> {
    (0..=bytes.len()).map(|at| {
        let (one, two) = bytes.split_at(at);
        [frame(TEXT_MORE, one), frame(LAST, two)]
    })
}

/// A fragment for each octet.
fn apart(bytes: &[u8]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = bytes.iter().map(|octet| frame(MORE, [*octet])).collect();
    pieces.insert(0, frame(TEXT_MORE, ""));
    pieces.push(frame(LAST, ""));
    pieces
}

pub(crate) fn rows() -> Vec<Row> {
    let (valid, invalid) = (valid(), invalid());
    vec![
        row("8.1-valid", "Text that is UTF-8 passes.")
            .cases(valid.iter().map(|word| passes([frame(TEXT, word)], [text(word)])))
            .fed("first and last of each length, around the surrogates, noncharacters, words")
            .expected("each text as it was"),
        row("5.6-split", "A fragment may end inside a character: the whole message is judged.")
            .cases(valid.iter().flat_map(|word| {
                split(word.as_bytes()).map(|says| passes(says, [text(word)])).collect::<Vec<_>>()
            }))
            .cases(valid.iter().map(|word| passes(apart(word.as_bytes()), [text(word)])))
            .fed("the same texts in two fragments, cut before each octet, and an octet a fragment")
            .expected("each text as it was"),
        row("8.1-invalid", "Text that is not UTF-8 fails the connection with 1007.")
            .cases(invalid.iter().map(|bytes| {
                let upto = &bytes[..=wrong_at(bytes)];
                fails(1007, [frame(TEXT, [b"ok \xc3\xa9 ", upto].concat())])
            }))
            .fed(
                "every octet that begins nothing, broken off sequences, overlong ones, surrogates, \
                 beyond U+10FFFF, behind good text",
            )
            .expected("fails with 1007, at the octet that cannot be"),
        row(
            "8.1-fail-fast",
            "The octet that cannot be ends it when it comes, the frame unfinished.",
        )
        .cases(invalid.iter().map(|bytes| {
            let upto = &bytes[..=wrong_at(bytes)];
            fails(1007, [begun(TEXT, 1000, [b"ok \xc3\xa9 ", upto].concat())])
        }))
        .fed("the same in a frame of 1000 octets that has not come any further")
        .expected("fails with 1007, at the octet that cannot be"),
        row(
            "8.1-invalid-split",
            "Fragments that are not UTF-8 together fail, wherever they are cut.",
        )
        .cases(invalid.iter().flat_map(|bytes| invalid_in_fragments(bytes)))
        .fed("the same in two fragments, cut before each octet, the second one unfinished")
        .expected("fails with 1007, at the octet that cannot be"),
        row("8.1-cut-short", "A message that ends inside a character fails at its end.").cases(
            ["é", "€", "😀", "\u{10ffff}"].into_iter().flat_map(|character| {
                let bytes = character.as_bytes().to_vec();
                (1..bytes.len()).flat_map(move |length| cut_short(&bytes[..length]))
            }),
        ),
        row("8.1-between", "A control frame between fragments does not disturb the judgement.")
            .case(
                passes(
                    [frame(TEXT_MORE, [0xe2, 0x82]), frame(PING, [0xff]), frame(LAST, [0xac])],
                    [crate::play::Event::Ping(vec![0xff]), text("€")],
                )
                .sends(&[(PONG, &[0xff])]),
            ),
        row("8.1-next-message", "Each message is judged by itself.")
            .case(passes([frame(TEXT, "é"), frame(TEXT, "é")], [text("é"), text("é")]))
            .case(fails(1007, [frame(TEXT, "é"), begun(TEXT, 5, [0xa9])]).hears([text("é")])),
    ]
}

fn invalid_in_fragments(bytes: &[u8]) -> Vec<Case> {
    let upto = &bytes[..=wrong_at(bytes)];
    let cases = (0..upto.len()).map(|at| {
        let (one, two) = upto.split_at(at);
        fails(1007, [frame(TEXT_MORE, one), begun(LAST, 1000, two)])
    });
    cases.collect()
}

fn cut_short(bytes: &[u8]) -> [Case; 2] {
    [fails(1007, [frame(TEXT, bytes)]), fails(1007, [frame(TEXT_MORE, bytes), frame(LAST, "")])]
}
