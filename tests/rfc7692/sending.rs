//! §6.1, §7.1, §7.2.1: what our side sends, read by zlib itself.
use crate::play::{Act, Bench, Event, Frame, Heard, Script, WHOLE, usual_request};
use crate::row::{CLOSE, LAST, PING, PONG, Row, TEXT, same};
use crate::row::{frame, passes, row, text};
use crate::setup::{DEFLATE, EXTENSIONS, RSV1, agreed, alone, everything, pack, peer, unpack};
use crate::support::endpoint::{BOTH, Ours, frame_to};
use crate::support::{raw_connect, read_frame, read_head, turn_until};
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use workerman::prelude::*;
use workerman::{Deflate, Limits};

pub(crate) fn rows() -> Vec<Row> {
    [frames(), streams(), windows(), server()].into_iter().flatten().collect()
}

/// What our side sends of these texts under these parameters, without its close frame.
fn sent(
    bench: &Bench,
    (ours, cut): (Ours, usize),
    parameters: &str,
    texts: &[&str],
) -> Result<Vec<Frame>, String> {
    let mut script = Script::new(ours, cut);
    script.setup = Some(agreed(parameters));
    script.acts = texts.iter().map(|text| Act::Text(text.to_string())).collect();
    let heard = bench.play(&script)?;
    same("failures", &heard.failures.len(), &0)?;
    let Heard { mut frames, .. } = heard;
    let last = frames.pop().map(|frame| frame.first);
    same("the last frame", &last, &Some(CLOSE))?;
    Ok(frames)
}

fn firsts(frames: &[Frame]) -> Vec<u8> {
    frames.iter().map(|frame| frame.first).collect()
}

/// So many octets that do not repeat, and those again.
fn twice(length: usize) -> String {
    let unlike = (0..length.div_ceil(4)).map(|i| format!("{:04x}", i * 40_503 % 65_521));
    unlike.collect::<String>().repeat(2)
}

/// 1200 octets, which repeat where a window of 9 bits does not reach.
fn far() -> String {
    twice(600)
}

fn frames() -> Vec<Row> {
    vec![
        row(
            "6.1-compressed",
            "A compressed message has RSV1 in its first frame, and no other has it.",
        )
        .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
            let mut script = Script::new(ours, cut);
            script.setup = Some(agreed(""));
            script.acts = vec![
                Act::Text("text ".repeat(10)),
                Act::Ping(b"ping ".repeat(10)),
                Act::Binary(b"binary ".repeat(20_000)),
                Act::Pong(b"pong ".repeat(10)),
            ];
            script.says = frame_to(ours, PING, b"?");
            let Heard { frames, .. } = bench.play(&script)?;
            let wanted = [TEXT | RSV1, PING, 0x82 | RSV1, PONG, PONG, CLOSE];
            same("frames", &firsts(&frames)[..], &wanted)?;
            same("the ping as it was", &frames[1].payload, &b"ping ".repeat(10))?;
            same("the pong as it was", &frames[3].payload, &b"pong ".repeat(10))
        })
        .fed("we: text, ping, 140 000 octets binary, pong; ping")
        .expected("RSV1 on the two messages, none on pings, pongs and the close frame"),
        row("6.1-uncompressed", "An endpoint may leave a message as it is: RSV1 is not set.")
            .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.setup =
                    Some(peer("answered", "", Some(Deflate::new().threshold(100)), &[DEFLATE]));
                let (short, long) = ("s".repeat(99), "l".repeat(100));
                script.acts = [&*short, &long, ""].map(|text| Act::Text(text.into())).to_vec();
                let Heard { frames, .. } = bench.play(&script)?;
                same("frames", &firsts(&frames)[..], &[TEXT, TEXT | RSV1, TEXT, CLOSE])?;
                same("what is short", &frames[0].payload, &short.into_bytes())
            })
            .fed("we: threshold(100); text of 99, 100 and no octets")
            .expected("only the second one is compressed"),
        row("6.1-not-agreed", "Where nothing was agreed nothing is compressed.").case({
            let long = "long ".repeat(1000);
            passes([frame(TEXT, "plain")], [text("plain")])
                .acts([Act::Text(long.clone())])
                .sends(&[(TEXT, long.as_bytes())])
                .with(&alone("everything, a peer without extensions", everything()))
        }),
        row("6.1-before-opening", "What is sent before the answer has come is not compressed.")
            .own(&[Ours::Client], &[WHOLE], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.setup = Some(agreed(""));
                script.set_client = Some(Rc::new(|con| {
                    con.send("early ".repeat(50));
                }));
                script.late = true;
                let Heard { frames, .. } = bench.play(&script)?;
                same("frames", &firsts(&frames)[..], &[TEXT, CLOSE])?;
                same("as it was", &frames[0].payload, &b"early ".repeat(50))
            })
            .fed("we: send text before connect()")
            .expected("the text as it was, without RSV1, behind the handshake"),
    ]
}

fn streams() -> Vec<Row> {
    vec![
        row("7.2.1-readable", "What leaves is DEFLATE: the peer inflates it with the tail put on.")
            .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
                let (far, large) = (far(), "large ".repeat(40_000));
                let texts = ["a", &far, &large, "é€😀", &far];
                let frames = sent(bench, (ours, cut), "", &texts)?;
                same("texts", &unpack(&frames, 15, true)?[..], &texts.map(String::from))
            })
            .fed("we: texts of 1, 1200, 240 000, 9 and 1200 octets")
            .expected("RSV1 on each, and zlib inflates each to what it was"),
        row("7.2.1-tail", "The four octets of an empty block at the end are taken off.")
            .own(&BOTH, &[WHOLE], |bench, ours, cut| {
                let frames = sent(bench, (ours, cut), "", &["a", &far(), "Hello"])?;
                same("messages", &frames.len(), &3)?;
                for frame in &frames {
                    let tail = [0, 0, 0xff, 0xff];
                    same("ends with them", &frame.payload.ends_with(&tail), &false)?;
                    // Behind the header bits of that block stands nothing but padding.
                    same("its last octet", &(frame.payload.last() < Some(&0x20)), &true)?;
                }
                Ok(())
            })
            .fed("we: three texts")
            .expected("none ends with 00 00 ff ff; each with the header bits of a stored block"),
        row("7.2.1-empty", "An empty message leaves as it is, or as one octet.")
            .own(&BOTH, &[WHOLE], |bench, ours, cut| {
                let frames = sent(bench, (ours, cut), "", &["", "a", ""])?;
                same("frames", &firsts(&frames)[..], &[TEXT, TEXT | RSV1, TEXT])?;
                same("empty", &frames[2].payload.len(), &0)
            })
            .fed("we: text empty, \"a\", empty")
            .expected("empty ones without RSV1 and without octets"),
        row(
            "7.2.1-takeover",
            "A side that may take its context over refers to the message before.",
        )
        .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
            let frames = sent(bench, (ours, cut), "", &[&far(), &far()])?;
            let lengths: Vec<usize> = frames.iter().map(|frame| frame.payload.len()).collect();
            same("much shorter", &(lengths[1] * 10 < lengths[0]), &true)
        })
        .fed("we: the same text of 1200 octets twice")
        .expected("the second one less than a tenth of the first"),
        row("7.2.1-no-takeover", "A side that was forbidden to begins with an empty window.")
            .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
                let who = if ours == Ours::Client { "client" } else { "server" };
                let texts = [&*far(), &far(), &far()];
                let forget = format!("; {who}_no_context_takeover");
                let frames = sent(bench, (ours, cut), &forget, &texts)?;
                same("texts", &unpack(&frames, 15, false)?[..], &texts.map(String::from))?;
                same("the same octets", &frames[0].payload, &frames[1].payload)?;
                same("and again", &frames[1].payload, &frames[2].payload)
            })
            .fed("no_context_takeover agreed for us; we: the same text three times")
            .expected("the same octets three times, each inflated by itself"),
        row("7.1.1.2-own-hint", "A client that hinted client_no_context_takeover keeps to it.")
            .own(&[Ours::Client], &[WHOLE], |bench, ours, cut| {
                let forgets = everything().client_no_context_takeover(true);
                let mut script = Script::new(ours, cut);
                script.setup = Some(peer("answered", "", Some(forgets), &[DEFLATE]));
                script.acts = vec![Act::Text(far()), Act::Text(far())];
                let Heard { frames, .. } = bench.play(&script)?;
                same("texts", &unpack(&frames, 15, false)?, &vec![far(); 2])?;
                same("the same octets", &frames[0].payload, &frames[1].payload)
            })
            .fed("we: client_no_context_takeover(true); the server agrees and does not name it")
            .expected("the same text is the same octets twice"),
        row("7.3-shorter", "A side without takeover sends plainly what would not become shorter.")
            .own(&BOTH, &[WHOLE], |bench, ours, cut| {
                let forget = "; server_no_context_takeover; client_no_context_takeover";
                let frames = sent(bench, (ours, cut), forget, &["a", &far(), "xyz"])?;
                same("frames", &firsts(&frames)[..], &[TEXT, TEXT | RSV1, TEXT])
            })
            .fed("no_context_takeover agreed; we: text \"a\", of 1200 octets, \"xyz\"")
            .expected("RSV1 on the second one alone"),
        row("7.2.1-32-kib", "No reference goes further back than 32 768 octets.")
            .own(&BOTH, &[WHOLE], |bench, ours, cut| {
                let text = twice(40_000);
                let frames = sent(bench, (ours, cut), "", &[&text, &text])?;
                let texts = unpack(&frames, 15, true)?;
                same("texts", &(texts.len(), texts.iter().all(|t| *t == text)), &(2, true))
            })
            .fed("we: text of 80 000 octets that repeats after 40 000, twice")
            .expected("both as they were; no distance in their blocks is longer"),
    ]
}

/// A window of 9 to 15 bits, with context takeover and without.
fn obeys(ours: Ours) -> impl Fn(&Bench, Ours, usize) -> Result<(), String> + Send + Sync {
    let who = if ours == Ours::Client { "client" } else { "server" };
    move |bench, ours, cut| {
        for bits in 9..=15 {
            // Just too far back, in this message and in the last but one.
            let (far, near) = (twice((1 << bits) + 100), "near ".repeat(40));
            let texts = [&*far, &near, &near, &far];
            for forget in ["", "_no_context_takeover"] {
                let mut asked = format!("; {who}_max_window_bits={bits}");
                if !forget.is_empty() {
                    asked += &format!("; {who}{forget}");
                }
                let frames = sent(bench, (ours, cut), &asked, &texts)?;
                let read = unpack(&frames, bits, forget.is_empty());
                let read = read.map_err(|wrong| format!("{asked}: {wrong}"))?;
                same(&asked, &read[..], &texts.map(String::from))?;
            }
        }
        Ok(())
    }
}

fn windows() -> Vec<Row> {
    let fed = "windows of 9 to 15 bits, with context takeover and without; we: four texts, in which \
               what repeats stands just too far apart";
    vec![
        row("7.1.2.1-obeyed", "A server refers no further back than server_max_window_bits.")
            .own(&[Ours::Server], &[WHOLE, 1], obeys(Ours::Server))
            .times(14)
            .fed(fed)
            .expected("each as it was; no distance in its blocks is longer than the window"),
        row("7.1.2.2-obeyed", "A client refers no further back than client_max_window_bits.")
            .own(&[Ours::Client], &[WHOLE, 1], obeys(Ours::Client))
            .times(14)
            .fed(fed)
            .expected("each as it was; no distance in its blocks is longer than the window"),
        row("7.1.2.2-own-hint", "A client keeps to the limit that it hinted, answered or not.")
            .own(&[Ours::Client], &[WHOLE], |bench, ours, cut| {
                let small = everything().client_max_window_bits(9).expect("a window");
                let mut script = Script::new(ours, cut);
                script.setup =
                    Some(peer("answered", "client_max_window_bits(9)", Some(small), &[DEFLATE]));
                script.acts = vec![Act::Text(far())];
                let Heard { frames, .. } = bench.play(&script)?;
                same("texts", &unpack(&frames, 9, true)?, &vec![far()])
            })
            .fed("we: client_max_window_bits(9); the server agrees and names no window; text")
            .expected("as it was; no distance in its blocks is longer than 512"),
        row(
            "7.1.2.2-smallest",
            "A client told the window of 8 bits sends nothing that needs more.",
        )
        .own(&[Ours::Client], &[WHOLE, 1], |bench, ours, cut| {
            let asked = "; client_max_window_bits=8";
            let frames = sent(bench, (ours, cut), asked, &[&far(), "near"])?;
            same("frames", &firsts(&frames)[..], &[TEXT; 2])
        })
        .fed("`client_max_window_bits=8` in the answer; we: two texts")
        .expected("both as they were, without RSV1: zlib cannot compress by so small a window"),
    ]
}

fn server() -> Vec<Row> {
    vec![
        row(
            "5.1-upgrade",
            "An upgrade on a port of HTTP agrees where the program wants it, alone.",
        )
        .own(&[Ours::Server], &[WHOLE], |_, _, _| {
            upgrade(false)?;
            upgrade(true)
        })
        .times(2)
        .fed("`permessage-deflate` offered to a worker of http://; with_deflate() and without")
        .expected("declined, RSV1 fails with 1002; agreed, a compressed echo"),
        row("6.1-waiting", "What waits to be sent is counted as it leaves: compressed.")
            .own(&[Ours::Server], &[WHOLE], counts_compressed)
            .fed("we: 10 texts of 50 000 octets, a send buffer of 100 000")
            .expected("none is dropped, less than 5000 octets wait"),
        row("6-pings-between", "A ping between fragments is answered without RSV1.").case(
            passes(
                [
                    frame(0x01 | RSV1, &pack(b"Hello")[..3]),
                    frame(PING, "?"),
                    frame(LAST, &pack(b"Hello")[3..]),
                ],
                [Event::Ping(b"?".into()), text("Hello")],
            )
            .sends(&[(PONG, b"?")])
            .with(&agreed("")),
        ),
    ]
}

fn upgrade(wanted: bool) -> Result<(), String> {
    let worker = Worker::<Http>::listen("http://127.0.0.1:0").map_err(|e| e.to_string())?;
    worker.on_message(move |con, request| match Websocket::accept(&request) {
        Err(refusal) => drop(con.send(refusal)),
        Ok(websocket) => {
            let deflate = Deflate::new().threshold(0);
            let websocket = if wanted { websocket.with_deflate(deflate) } else { websocket };
            con.upgrade_with(websocket).on_message(|con, data| con.send(data));
        }
    });
    turn_until(|| worker.local_addr().is_some());
    let addr = worker.local_addr().expect("it listens");
    let player = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let offer = format!("\r\n{EXTENSIONS}: {DEFLATE}\r\n\r\n");
        let request = usual_request().replace("\r\n\r\n", &offer);
        stream.write_all(request.as_bytes()).expect("the request");
        let head = read_head(&mut stream);
        let says = frame_to(Ours::Server, TEXT | RSV1, &pack(&[b'a'; 100]));
        stream.write_all(&says).expect("a message");
        (head, read_frame(&mut stream))
    });
    turn_until(|| player.is_finished());
    worker.unlisten();
    let (head, (first, payload)) = player.join().map_err(|_| "the peer panicked")?;
    let agreed = head.contains("permessage-deflate; server_no_context_takeover");
    same("agreed", &agreed, &wanted)?;
    if !wanted {
        return same("the end", &(first, &payload[..2]), &(CLOSE, &1002u16.to_be_bytes()[..]));
    }
    let echo = Frame { first, key: None, length_octets: 1, payload };
    same("the echo", &unpack(&[echo], 15, false)?, &vec!["a".repeat(100)])
}

fn counts_compressed(bench: &Bench, ours: Ours, cut: usize) -> Result<(), String> {
    let opened = Rc::new(Cell::new(None));
    let here = opened.clone();
    let mut script = Script::new(ours, cut);
    script.setup = Some(peer("answered", "", Some(Deflate::default()), &[DEFLATE]));
    script.limits = Limits::new().send_buffer_bytes(100_000);
    script.set_server = Some(Rc::new(move |con, _| here.set(Some(con))));
    let mut play = bench.open(&script)?;
    let con = opened.get().ok_or("it never opened")?;
    // Five times the limit, were it not compressed.
    let all = (0..10).map(|_| con.send("a".repeat(50_000)));
    same("dropped", &all.filter(|sent| *sent == Sent::Dropped).count(), &0)?;
    same("waiting", &(500..5000).contains(&con.send_buffer_len()), &true)?;
    play.feed(&frame_to(ours, CLOSE, &1000u16.to_be_bytes()), cut)?;
    let heard = play.finish()?;
    same("frames", &heard.frames.len(), &11)?;
    let short = heard.frames[..10].iter().all(|f| f.first == TEXT | RSV1 && f.payload.len() < 200);
    same("short ones", &short, &true)
}
