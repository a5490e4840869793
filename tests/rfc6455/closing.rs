//! §5.5.1 and §7: close frames, codes, the end.
use crate::framing::{headed, letters};
use crate::play::{Act, Event, Leave, Script, WHOLE};
use crate::row::{
    BINARY, CLOSE, Case, End, PING, Piece, Row, TEXT, TEXT_MORE, begun, close, fails, frame,
    passes, row, same, text,
};
use crate::support::endpoint::{BOTH, Ours, frame_to};
use std::time::{Duration, Instant};
use workerman::{FailureKind, Limits};

/// The peer says farewell, and is answered with its own code.
fn farewell(code: u16, reason: &str) -> Case {
    passes([close(code, reason)], [Event::Farewell(code, reason.into())])
        .ends(End::Closed(Some(code), code))
}

fn leaves(says: impl IntoIterator<Item = Piece>) -> Case {
    passes(says, [Event::Farewell(1000, String::new())]).ends(End::Closed(Some(1000), 1000))
}

pub(crate) fn rows() -> Vec<Row> {
    [bodies(), codes(), behind(), ours(), ends(), deadlines()].into_iter().flatten().collect()
}

fn bodies() -> Vec<Row> {
    let longest = "é".repeat(61) + "x";
    vec![
        row("5.5.1-empty", "A close frame may be empty; it is answered by an empty one.").case(
            passes([frame(CLOSE, "")], [Event::Farewell(1005, String::new())])
                .ends(End::Closed(None, 1005)),
        ),
        row("5.5.1-one-octet", "One octet is no code.").case(fails(1002, [frame(CLOSE, [3])])),
        row("5.5.1-code", "Two octets are a code; the answer has the same.")
            .case(farewell(1000, "")),
        row("5.5.1-reason", "Behind the code stands a reason of up to 123 octets of UTF-8.")
            .case(farewell(1000, "x"))
            .case(farewell(1000, "Hello World!"))
            .case(farewell(1000, &"a".repeat(122)))
            .case(farewell(1000, &"a".repeat(123)))
            .case(farewell(1001, &longest))
            .fed("reasons of 1, 12, 122 and 123 octets: bodies of 124 and 125 among them"),
        row("5.5.1-126", "A body of 126 octets is none.")
            .cases(headed(1002, |m| vec![CLOSE, m | 126])),
        row("7.1.6-reason-utf8", "A reason that is not UTF-8 fails the connection.").cases(
            [&b"\xff"[..], b"a\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"cut \xc3"]
                .map(|reason| fails(1007, [close(1000, reason)])),
        ),
    ]
}

fn codes() -> Vec<Row> {
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    let never = [1004, 1005, 1006, 1015];
    let undefined = [1016, 1017, 1100, 1999, 2000, 2500, 2999];
    let fail = |code: u16| fails(1002, [close(code, "")]);
    vec![
        row("7.4.1-defined", "The codes of the registry that may be sent are accepted.")
            .cases(valid.map(|code| farewell(code, "")))
            .fed("close with 1000 to 1003 and 1007 to 1014"),
        row("7.4.2-3000", "3000 to 3999 are for libraries, 4000 to 4999 for programs: accepted.")
            .cases([3000, 3500, 3999, 4000, 4500, 4999].map(|code| farewell(code, "why"))),
        row("7.4.2-below-1000", "0 to 999 are not used.").cases([0, 1, 16, 100, 999].map(fail)),
        row("7.4.1-1004", "1004 is reserved.").case(fail(1004)),
        row("7.4.1-1005", "1005 is never in a frame.").case(fail(1005)),
        row("7.4.1-1006", "1006 is never in a frame.").case(fail(1006)),
        row("7.4.1-1015", "1015 is never in a frame.").case(fail(1015)),
        row("7.4.2-undefined", "Codes of the protocol's own range that nobody has defined fail.")
            .cases(undefined.map(fail)),
        row("7.4.2-above", "Codes from 5000 on fail.").cases([5000, 6000, 65_535].map(fail)),
        row("7.4-ours", "A code that may not be sent is not sent: 1000 is, and the log says why.")
            .cases(never.into_iter().chain([0, 999, 1016, 2999, 5000]).map(|code| {
                passes([close(1000, "")], [])
                    .acts([Act::CloseWith(code, "no".into())])
                    .ends(End::Closed(Some(1000), 1000))
            })),
        row("5.5.1-ours-too-long", "Our close frame holds 125 octets at most.")
            .case(
                passes([close(4000, "")], [])
                    .acts([Act::CloseWith(4000, "a".repeat(123))])
                    .ends(End::Closed(Some(4000), 4000)),
            )
            .case(
                passes([close(1000, "")], [])
                    .acts([Act::CloseWith(4000, "a".repeat(124))])
                    .ends(End::Closed(Some(1000), 1000)),
            ),
    ]
}

fn behind() -> Vec<Row> {
    let large = letters(262_144);
    vec![
        row("1.4-data-after-theirs", "Data behind the peer's close frame is discarded.")
            .case(leaves([close(1000, ""), frame(TEXT, "late")]))
            .case(leaves([close(1000, ""), frame(TEXT_MORE, "late")]))
            .case(leaves([close(1000, ""), frame(BINARY, &large)]).cuts(&[WHOLE, 1024])),
        row("5.5.1-once", "A second close frame is not answered.")
            .case(leaves([close(1000, ""), close(1001, "")])),
        row("1.4-nonsense-after", "Nothing behind the peer's close frame is judged.")
            .case(leaves([close(1000, ""), crate::row::raw(&[0xff; 40])])),
        row("5.5.1-large-before", "What came before the close frame is delivered.").case(
            passes(
                [frame(TEXT, &large), close(1000, "")],
                [text(&large), Event::Farewell(1000, String::new())],
            )
            .cuts(&[WHOLE, 1024])
            .ends(End::Closed(Some(1000), 1000)),
        ),
        row("5.5.1-data-after-ours", "Data that comes behind our close frame is discarded.")
            .case(passes([frame(TEXT, "late"), frame(BINARY, [1])], []).acts([Act::Close])),
        row("5.5.1-no-data-after-ours", "We send no data behind our close frame.").case(
            passes([], [])
                .acts([
                    Act::Text("before".into()),
                    Act::Close,
                    Act::Text("behind".into()),
                    Act::Ping(b"behind".into()),
                    Act::Pong(b"behind".into()),
                    Act::Close,
                ])
                .sends(&[(TEXT, b"before")]),
        ),
        row("7.1.7-nothing-after", "Nothing behind what failed the connection is processed.")
            .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.says = [
                    frame_to(ours, TEXT, b"good"),
                    frame_to(ours, 0x83, b""),
                    frame_to(ours, TEXT, b"bad"),
                    frame_to(ours, PING, b"?"),
                ]
                .concat();
                let heard = bench.play(&script)?;
                same("heard", &heard.events, &vec![text("good")])?;
                let firsts: Vec<u8> = heard.frames.iter().map(|frame| frame.first).collect();
                same("frames", &firsts, &vec![CLOSE])
            })
            .fed("text \"good\", opcode 3, text \"bad\", ping, close 1000")
            .expected("text \"good\"; one close frame with 1002, and nothing else"),
    ]
}

fn ours() -> Vec<Row> {
    vec![
        row(
            "7.1.2-ours",
            "The program's close is a close frame of 1000; the peer's answer ends it.",
        )
        .case(passes([], []).acts([Act::Close])),
        row("7.1.2-ours-code", "The program's close may have a code and a reason.")
            .case(
                passes([close(3001, "")], [])
                    .acts([Act::CloseWith(3001, "enough".into())])
                    .ends(End::Closed(Some(3001), 3001)),
            )
            .case(
                passes([close(1000, "")], [])
                    .acts([Act::CloseWith(4999, "".into())])
                    .ends(End::Closed(Some(4999), 1000)),
            ),
        row("7.1.5-both", "Where both close at once, each takes the other's frame for the answer.")
            .case(
                passes([close(1001, "going")], [])
                    .acts([Act::Close])
                    .ends(End::Closed(Some(1000), 1001)),
            ),
        row("7.1.5-first", "The code is that of the first close frame; later ones change nothing.")
            .case(
                passes([close(1001, ""), close(1002, "")], [Event::Farewell(1001, String::new())])
                    .ends(End::Closed(Some(1001), 1001)),
            ),
        row("7.1.5-no-code", "A close frame without a code is 1005 to the program.").case(
            passes([frame(CLOSE, "")], []).acts([Act::Close]).ends(End::Closed(Some(1000), 1005)),
        ),
    ]
}

fn ends() -> Vec<Row> {
    vec![
        row("7.1.5-none", "An end without a close frame is 1006 to the program, and no violation.")
            .case(passes([], []).ends(End::Fin))
            .case(passes([frame(TEXT, "last")], [text("last")]).ends(End::Fin))
            .case(passes([frame(TEXT_MORE, "begun")], []).ends(End::Fin))
            .case(passes([begun(TEXT, 100, "begun")], []).ends(End::Fin)),
        row("7.1.1-server-ends", "The server ends the TCP connection first, at once.")
            .own(&[Ours::Server], &[WHOLE, 1], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.says = frame_to(ours, CLOSE, &1000u16.to_be_bytes());
                script.leave = Leave::Waits;
                let mut play = bench.open(&script)?;
                play.feed(&script.says.clone(), cut)?;
                let begin = Instant::now();
                play.until("our FIN", |play| play.is_over())?;
                same("in time", &(begin.elapsed() < Duration::from_millis(900)), &true)?;
                let heard = play.finish()?;
                same("close_code()", &heard.close_code, &Some(1000))
            })
            .fed("close 1000, and the peer keeps its side open")
            .expected("close 1000, then our FIN without waiting for the peer's"),
        row("7.1.1-client-waits", "A client waits for the server to end the TCP connection.")
            .own(&[Ours::Client], &[WHOLE, 1], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.says = frame_to(ours, CLOSE, &1000u16.to_be_bytes());
                let mut play = bench.open(&script)?;
                play.feed(&script.says.clone(), cut)?;
                play.until("our close frame", |play| !play.frames().is_empty())?;
                play.pass(Duration::from_millis(100));
                same("our FIN has come", &play.is_over(), &false)?;
                play.shut();
                let heard = play.finish()?;
                same("close_code()", &heard.close_code, &Some(1000))
            })
            .fed("close 1000, and the peer keeps its side open for 0.1 s")
            .expected("close 1000, and our FIN only behind the peer's"),
        row(
            "7.1.1-client-not-for-ever",
            "A client does not wait for ever: a server that never ends TCP is left.",
        )
        .own(&[Ours::Client], &[WHOLE], |bench, ours, cut| {
            let mut script = Script::new(ours, cut);
            script.limits = Limits::new().closing(0.2);
            script.says = frame_to(ours, CLOSE, &1000u16.to_be_bytes());
            let mut play = bench.open(&script)?;
            play.feed(&script.says.clone(), cut)?;
            play.until("our end", |play| play.has_ended())
        })
        .fed("close 1000, and the peer never ends its side")
        .expected("ended by Limits::closing"),
        row("7.1.7-fails", "Failing the connection is a close frame, then the end of TCP.")
            .case(fails(1002, [crate::row::raw(&[0x83])])),
        row("7.2.1-failure-once", "A failed connection is one on_error and one on_close.")
            .case(fails(1007, [frame(TEXT, [0xff])])),
    ]
}

fn deadlines() -> Vec<Row> {
    vec![
        row("7.1.3-no-answer", "A close frame that is never answered ends at a deadline.")
            .own(&BOTH, &[WHOLE], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.limits = Limits::new().closing(0.2);
                script.acts = vec![Act::Close];
                let mut play = bench.open(&script)?;
                play.until("our end", |play| play.has_ended())?;
                let heard = play.finish()?;
                same("close_code()", &heard.close_code, &Some(1006))
            })
            .fed("we: close(); the peer says nothing")
            .expected("ended by Limits::closing; 1006"),
        row("7.1.3-unfinished", "A message that was begun and never ended fails at a deadline.")
            .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
                crate::limits::begun_message_ends(bench, ours, cut, FailureKind::Protocol)
            })
            .fed("text (no FIN), then pings for as long as they are taken; limit of 0.3 s")
            .expected("fails with 1002 by Limits::partial_package"),
    ]
}
