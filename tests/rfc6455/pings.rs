//! §5.5, §5.5.2, §5.5.3: control frames, pings, pongs.
use crate::framing::{headed, octets};
use crate::play::{Act, Event, WHOLE};
use crate::row::{
    CLOSE, Case, End, PING, PONG, Piece, Row, TEXT, TEXT_MORE, close, frame, passes, raw, row, text,
};

fn ping(payload: impl AsRef<[u8]>) -> Event {
    Event::Ping(payload.as_ref().to_vec())
}

fn pong(payload: impl AsRef<[u8]>) -> Event {
    Event::Pong(payload.as_ref().to_vec())
}

/// Each is heard, and answered by the same octets.
fn answered(payloads: &[Vec<u8>]) -> Case {
    let says = payloads.iter().map(|payload| frame(PING, payload));
    let answers: Vec<(u8, &[u8])> = payloads.iter().map(|payload| (PONG, &payload[..])).collect();
    passes(says, payloads.iter().map(ping)).sends(&answers)
}

pub(crate) fn rows() -> Vec<Row> {
    [control(), pings(), pongs()].into_iter().flatten().collect()
}

fn control() -> Vec<Row> {
    let kinds = [CLOSE, PING, PONG];
    vec![
        row("5.5-too-long", "A control frame holds 125 octets at most.")
            .cases(kinds.into_iter().flat_map(|first| headed(1002, |m| vec![first, m | 126])))
            .cases(kinds.into_iter().flat_map(|first| headed(1002, |m| vec![first, m | 127])))
            .fed("close, ping and pong whose head says 126 octets or more")
            .expected("fails with 1002, at the second octet"),
        row("5.5-fragmented", "A control frame is not fragmented.")
            .cases(kinds.map(|first| crate::row::fails(1002, [raw(&[first & 0x0f])])))
            .cases(kinds.map(|first| {
                crate::row::fails(1002, [frame(TEXT_MORE, "a"), raw(&[first & 0x0f])])
            })),
    ]
}

fn pings() -> Vec<Row> {
    let ten: Vec<Vec<u8>> = (0..10).map(|i| format!("payload-{i}").into_bytes()).collect();
    let hundred: Vec<Vec<u8>> = (0..100).map(|i| format!("{i}").into_bytes()).collect();
    let longest = octets(125);
    vec![
        row("5.5.2-answered", "A ping is answered by a pong.").case(answered(&[b"".to_vec()])),
        row("5.5.3-same-octets", "The pong carries the ping's octets, whatever they are.")
            .case(answered(&[b"Hello".to_vec()]))
            .case(answered(&[vec![0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff]]))
            .case(answered(&[octets(124)]))
            .case(answered(&[longest])),
        row("5.5.2-126", "A ping of 126 octets is none.")
            .cases(headed(1002, |m| vec![PING, m | 126])),
        row("5.5.2-ten", "Ten pings in one write and in many are each answered, in order.")
            .case(answered(&ten).cuts(&[WHOLE, 1, 16, 17]))
            .case(answered(&hundred).cuts(&[WHOLE, 1, 5])),
        row("5.5.2-between-messages", "A ping between messages is answered as soon as it comes.")
            .case(
                passes(
                    [frame(TEXT, "a"), frame(PING, "?"), frame(TEXT, "b")],
                    [text("a"), ping("?"), text("b")],
                )
                .sends(&[(PONG, b"?")]),
            ),
        row("5.5.2-after-ours", "A ping that comes behind our close frame does no harm.")
            .own(&crate::support::endpoint::BOTH, &[WHOLE, 1], |bench, ours, cut| {
                let mut script = crate::play::Script::new(ours, cut);
                script.acts = vec![Act::Close];
                script.says = crate::support::endpoint::frame_to(ours, PING, b"?");
                let heard = bench.play(&script)?;
                crate::row::same("close_code()", &heard.close_code, &Some(1000))?;
                crate::row::same("failures", &heard.failures.len(), &0)
            })
            .fed("we: close(); ping \"?\"")
            .expected("closes with 1000 all the same"),
        row("5.5.2-after-theirs", "A ping behind the peer's close frame is not answered.").case(
            passes([close(1000, ""), frame(PING, "?")], [Event::Farewell(1000, "".into())])
                .ends(End::Closed(Some(1000), 1000)),
        ),
    ]
}

fn pongs() -> Vec<Row> {
    let many: Vec<Piece> = (0..10).map(|_| frame(PONG, "x")).collect();
    vec![
        row("5.5.3-unsolicited", "A pong that nobody asked for is heard, and not answered.")
            .case(passes([frame(PONG, "")], [pong("")]))
            .case(passes([frame(PONG, "unsolicited")], [pong("unsolicited")]))
            .case(passes([frame(PONG, octets(125))], [pong(octets(125))]))
            .case(passes(many, vec![pong("x"); 10])),
        row("5.5.3-126", "A pong of 126 octets is none.")
            .cases(headed(1002, |m| vec![PONG, m | 126])),
        row(
            "5.5.3-then-ping",
            "An unsolicited pong does not stand for the answer to a later ping.",
        )
        .case(
            passes(
                [frame(PONG, "a"), frame(PING, "b"), frame(PONG, "c")],
                [pong("a"), ping("b"), pong("c")],
            )
            .sends(&[(PONG, b"b")]),
        ),
        row("5.5.2-ours", "Our pings leave with what the program gave; their pongs are heard.")
            .case(
                passes([frame(PONG, "mine")], [pong("mine")])
                    .acts([Act::Ping(b"mine".into()), Act::Ping(Vec::new())])
                    .sends(&[(PING, b"mine"), (PING, b"")]),
            ),
        row("5.5.3-ours", "The program may send a pong that nobody asked for.")
            .case(passes([], []).acts([Act::Pong(b"beat".into())]).sends(&[(PONG, b"beat")])),
        row("5.5-ours-too-long", "Our own pings and pongs are never longer than 125 octets.")
            .case(
                passes([], [])
                    .acts([Act::Ping(octets(125)), Act::Pong(octets(125))])
                    .sends(&[(PING, &octets(125)), (PONG, &octets(125))]),
            )
            .own_longer(),
    ]
}

impl Row {
    /// What is too long is not sent, and the program is told.
    fn own_longer(self) -> Row {
        self.own(&crate::support::endpoint::BOTH, &[WHOLE], |bench, ours, cut| {
            let mut script = crate::play::Script::new(ours, cut);
            script.acts =
                vec![Act::Ping(octets(125)), Act::Ping(octets(126)), Act::Pong(octets(126))];
            let heard = bench.play(&script)?;
            let lengths: Vec<_> =
                heard.frames.iter().map(|frame| (frame.first, frame.payload.len())).collect();
            crate::row::same("frames", &lengths, &vec![(PING, 125), (CLOSE, 2)])?;
            let told = heard.failures.iter().filter(|failure| failure.3.contains("125")).count();
            crate::row::same("told", &(told > 0), &true)
        })
        .fed("we: ping of 125 octets, ping of 126, pong of 126")
        .expected("the first is sent, the others are on_error(SendFail)")
    }
}
