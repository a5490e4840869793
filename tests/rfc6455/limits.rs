//! §10.4: what a peer may make us hold, and for how long.
use crate::fragments::fragmented;
use crate::framing::{letters, octets};
use crate::play::{Act, Bench, Event, Play, Script, WHOLE};
use crate::row::{
    BINARY, BINARY_MORE, CLOSE, Case, LAST, MORE, PING, PONG, Piece, Row, TEXT, TEXT_MORE, begun,
    binary, fails, frame, passes, row, same, text,
};
use crate::sending::numbered;
use crate::support::endpoint::{BOTH, Ours, frame_to, head_to};
use std::time::{Duration, Instant};
use workerman::{FailureKind, Limits};

const LARGE: usize = 16 << 20;

pub(crate) fn rows() -> Vec<Row> {
    [sizes(), large(), times()].into_iter().flatten().collect()
}

fn sizes() -> Vec<Row> {
    let hundred = || Limits::new().message_bytes(100);
    let four = || Limits::new().fragments(4);
    let just = letters(100);
    let parts = |last: u64| {
        let mut says = fragmented(BINARY, &octets(80), 40);
        if let Piece::Frame(first, _) = &mut says[1] {
            *first = MORE;
        }
        says.push(begun(LAST, last, ""));
        says
    };
    vec![
        row(
            "10.4-message",
            "A message of just the limit passes, one octet more ends it with 1009.",
        )
        .case(passes([frame(TEXT, &just)], [text(&just)]).limits(hundred()))
        .case(fails(1009, [begun(TEXT, 101, "")]).limits(hundred()))
        .case(fails(1009, [begun(BINARY, 70_000, "")]).limits(hundred())),
        row("10.4-message-in-fragments", "The limit counts a message over all its fragments.")
            .case(passes(fragmented(TEXT, &just, 40), [text(&just)]).limits(hundred()))
            .case(fails(1009, parts(21)).limits(hundred())),
        row("10.4-next-message", "Each message has the whole limit.").case(
            passes([frame(TEXT, &just), frame(TEXT, &just)], [text(&just), text(&just)])
                .limits(hundred()),
        ),
        row("10.4-fragments", "A message has a limit of fragments, empty ones counted.")
            .case(
                passes(
                    [frame(TEXT_MORE, ""), frame(MORE, ""), frame(MORE, ""), frame(LAST, "x")],
                    [text("x")],
                )
                .limits(four()),
            )
            .case(
                fails(
                    1009,
                    [
                        frame(BINARY_MORE, ""),
                        frame(MORE, ""),
                        frame(MORE, ""),
                        frame(MORE, ""),
                        begun(MORE, 1, ""),
                    ],
                )
                .limits(four()),
            ),
        row("10.4-fragments-default", "By default a message may have 4096 fragments, and no more.")
            .case(passes(fragmented(BINARY, &octets(4096), 1), [binary(octets(4096))]))
            .case(fails(1009, endless(4096)).cuts(&[WHOLE])),
    ]
}

/// So many empty fragments, and one more that has begun.
fn endless(fragments: usize) -> Vec<Piece> {
    let mut says = vec![frame(TEXT_MORE, "")];
    says.extend((1..fragments).map(|_| frame(MORE, "")));
    says.push(begun(MORE, 1, ""));
    says
}

fn large() -> Vec<Row> {
    let limits = || Limits::new().message_bytes(LARGE).fragments(LARGE / 64);
    let in_fragments = move |size: usize| {
        let kind = move |ours: Ours| -> Case {
            let message = if size < 1000 { octets(LARGE / 16) } else { octets(LARGE) };
            let says = fragmented(BINARY, &message, size);
            passes(says, [binary(&message)]).only(ours).limits(limits()).cuts(&[WHOLE])
        };
        BOTH.map(kind)
    };
    let chopped = |cut: usize| {
        let message = octets(LARGE / 16);
        passes([frame(BINARY, &message)], [binary(&message)]).limits(limits()).cuts(&[cut])
    };
    vec![
        row("10.4-16-mib", "A message of 16 MiB passes where the limit admits it.")
            .own(&BOTH, &[WHOLE], |bench, ours, _| large_text(bench, ours, LARGE))
            .fed("text of 16777216 octets in one frame")
            .expected("the message as it was"),
        row("10.4-16-mib-4-mib", "A message of 16 MiB passes in fragments of 4 MiB.")
            .own(&BOTH, &[WHOLE], |bench, ours, _| large_text(bench, ours, 4 << 20))
            .fed("text of 16777216 octets in 4 fragments")
            .expected("the message as it was"),
        row("10.4-16-mib-64-kib", "A message of 16 MiB passes in fragments of 64 KiB.")
            .own(&BOTH, &[WHOLE], |bench, ours, _| large_text(bench, ours, 64 << 10))
            .fed("text of 16777216 octets in 256 fragments")
            .expected("the message as it was"),
        row("10.4-16-mib-1-kib", "A message of 16 MiB passes in fragments of 1 KiB.")
            .own(&BOTH, &[WHOLE], |bench, ours, _| large_text(bench, ours, 1 << 10))
            .fed("text of 16777216 octets in 16384 fragments")
            .expected("the message as it was"),
        row("10.4-16-mib-64", "A message of 16 MiB passes in fragments of 64 octets.")
            .own(&BOTH, &[WHOLE], |bench, ours, _| large_text(bench, ours, 64))
            .fed("text of 16777216 octets in 262144 fragments")
            .expected("the message as it was"),
        row("10.4-binary-fragments", "Large binary messages pass in fragments of any size.")
            .cases(
                [64, 256, 1 << 10, 4 << 10, 64 << 10, 1 << 20, 4 << 20]
                    .into_iter()
                    .flat_map(in_fragments),
            )
            .fed("binary of 1 MiB in fragments of 64 and 256 octets, of 16 MiB in 1 KiB to 4 MiB")
            .expected("each message as it was"),
        row(
            "10.4-pings-between",
            "Pings among many fragments are each answered, the message passes.",
        )
        .case({
            let (mut says, message) = (Vec::new(), octets(1 << 20));
            for fragment in fragmented(BINARY, &message, 4 << 10) {
                says.extend([fragment, frame(PING, "?")]);
            }
            let (last, events) = (says.pop(), (0..255).map(|_| Event::Ping(b"?".into())));
            assert!(last.is_some(), "a ping behind the last fragment");
            passes(says, events.chain([binary(&message)]))
                .sends(&[(PONG, &b"?"[..]); 255])
                .cuts(&[WHOLE, 1024])
        }),
        row("10.4-thousand", "A thousand messages at once are each delivered, in their order.")
            .cases([0, 16, 64, 256, 1024, 4096].map(|length| {
                let messages: Vec<Vec<u8>> = (0..1000).map(|i| numbered(i, length)).collect();
                let says = messages.iter().map(|message| frame(BINARY, message));
                passes(says, messages.iter().map(binary)).cuts(&[WHOLE, 1000])
            }))
            .fed("binary of 0, 16, 64, 256, 1024 and 4096 octets, a thousand of each, in one write")
            .expected("each as it was, in its place"),
        row("10.4-chopped", "Large messages pass however TCP has cut them.")
            .cases([997, 1024, 65_536].map(chopped))
            .fed("binary of 1 MiB, chopped by 997, 1024 and 65536")
            .expected("each message as it was"),
    ]
}

fn large_text(bench: &Bench, ours: Ours, size: usize) -> Result<(), String> {
    let mut script = Script::new(ours, WHOLE);
    script.limits = Limits::new().message_bytes(LARGE).fragments(LARGE / 64);
    let mut message = letters(1 << 20);
    message = message.repeat(LARGE >> 20);
    let mut says = Vec::with_capacity(LARGE + LARGE / size * 14);
    for (at, piece) in message.chunks(size).enumerate() {
        let opcode = if at == 0 { TEXT_MORE } else { MORE };
        let fin = if (at + 1) * size >= LARGE { 0x80 } else { 0 };
        // Four zeros are a key like any other, and quick.
        let mut head = head_to(ours, opcode | fin, piece.len() as u64);
        if ours == Ours::Server {
            let key = head.len() - 4;
            head[key..].fill(0);
        }
        says.extend_from_slice(&head);
        says.extend_from_slice(piece);
    }
    script.says = says;
    let heard = bench.play(&script)?;
    same("failures", &heard.failures.len(), &0)?;
    match &heard.events[..] {
        [Event::Text(text), _] if *text == message => Ok(()),
        events => Err(format!("{} events, not the message and a farewell", events.len())),
    }
}

/// The peer begins a message and then only pings.
pub(crate) fn begun_message_ends(
    bench: &Bench,
    ours: Ours,
    cut: usize,
    kind: FailureKind,
) -> Result<(), String> {
    let mut script = Script::new(ours, cut);
    script.limits = Limits::new().partial_package(0.3);
    let mut play = bench.open(&script)?;
    play.feed(&frame_to(ours, TEXT_MORE, b"begun"), cut)?;
    let begin = Instant::now();
    while !play.is_over() {
        same("in time", &(begin.elapsed() < Duration::from_secs(10)), &true)?;
        play.feed(&frame_to(ours, PING, b"?"), cut)?;
        play.pass(Duration::from_millis(30));
    }
    same("not before its time", &(begin.elapsed() > Duration::from_millis(290)), &true)?;
    let heard = play.finish()?;
    let told: Vec<_> = heard.failures.iter().map(|(_, kind, ..)| *kind).collect();
    same("failures", &told, &vec![kind])?;
    says_partial(&heard.failures[0].3)?;
    let last = heard.frames.last().map(|frame| (frame.first, frame.payload[..2].to_vec()));
    same("close frame", &last, &Some((CLOSE, 1002u16.to_be_bytes().to_vec())))
}

/// The failure names the limit, so that it can be changed.
fn says_partial(text: &str) -> Result<(), String> {
    match text.contains("Limits::partial_package") {
        true => Ok(()),
        false => Err(format!("{text:?} does not name Limits::partial_package")),
    }
}

/// What a slow peer sends of a message, an octet each 0.1 s, for three times the limit.
fn slowly(bench: &Bench, ours: Ours, stream: &[u8], first: u8) -> Result<Vec<u8>, String> {
    let mut script = Script::new(ours, 1);
    script.limits = Limits::new().partial_package(1);
    let mut play: Play = bench.open(&script)?;
    play.feed(&frame_to(ours, first, b"<"), WHOLE)?;
    let begin = Instant::now();
    for octet in stream {
        play.feed(&[*octet], 1)?;
        play.pass(Duration::from_millis(100));
    }
    same("long enough", &(begin.elapsed() > Duration::from_millis(2000)), &true)?;
    play.feed(&frame_to(ours, LAST, b">"), WHOLE)?;
    play.feed(&frame_to(ours, CLOSE, &1000u16.to_be_bytes()), WHOLE)?;
    let heard = play.finish()?;
    same("failures", &heard.failures, &Vec::new())?;
    match &heard.events[..] {
        [Event::Text(bytes) | crate::play::Event::Binary(bytes), _] => Ok(bytes.clone()),
        events => Err(format!("{events:?}, not the message and a farewell")),
    }
}

fn times() -> Vec<Row> {
    vec![
        row("10.4-partial-frame", "A frame that was begun and not ended fails at a deadline.")
            .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.limits = Limits::new().partial_package(0.2);
                script.leave = crate::play::Leave::Waits;
                script.says = begun(TEXT, 100, "begun").to(ours);
                let heard = bench.play(&script)?;
                same("failures", &heard.failures.len(), &1)?;
                says_partial(&heard.failures[0].3)
            })
            .fed("text of 100 octets, of which 5; then silence; limit of 0.2 s")
            .expected("fails with 1002 by Limits::partial_package"),
        row(
            "10.4-silent-message",
            "A message whose next fragment is awaited in silence fails at a deadline.",
        )
        .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
            let mut script = Script::new(ours, cut);
            script.limits = Limits::new().partial_package(0.2);
            script.leave = crate::play::Leave::Waits;
            script.says = frame_to(ours, BINARY_MORE, b"begun");
            let heard = bench.play(&script)?;
            same("failures", &heard.failures.len(), &1)?;
            same("why", &heard.failures[0].3.contains("Limits::partial_package"), &true)
        })
        .fed("binary (no FIN) \"begun\"; then silence; limit of 0.2 s")
        .expected("fails with 1002 by Limits::partial_package"),
        row(
            "10.4-empty-fragments",
            "Empty fragments are no progress: they do not keep a begun message for hours.",
        )
        .own(&BOTH, &[WHOLE, 1], |bench, ours, cut| {
            let mut script = Script::new(ours, cut);
            script.limits = Limits::new().partial_package(0.3);
            let mut play = bench.open(&script)?;
            play.feed(&frame_to(ours, BINARY_MORE, b"begun"), cut)?;
            let begin = Instant::now();
            while !play.is_over() {
                // At the end of all patience it would end for want of anything to read.
                same("in time", &(begin.elapsed() < Duration::from_secs(5)), &true)?;
                play.feed(&frame_to(ours, MORE, b""), cut)?;
                play.pass(Duration::from_millis(30));
            }
            same("not before it", &(begin.elapsed() > Duration::from_millis(290)), &true)?;
            let heard = play.finish()?;
            same("failures", &heard.failures.len(), &1)?;
            says_partial(&heard.failures[0].3)
        })
        .fed("binary (no FIN) \"begun\"; then an empty continuation (no FIN) each 0.03 s; limit of 0.3 s")
        .expected("fails with 1002 by Limits::partial_package"),
        row("10.4-slow-fragments", "A slow peer is not taken for a dead one: an octet at a time, fragment by fragment.")
            .own(&BOTH, &[1], |bench, ours, _| {
                let one = frame_to(ours, MORE, b"x");
                let stream = one.repeat(24 / one.len());
                let message = slowly(bench, ours, &stream, TEXT_MORE)?;
                same("message", &message.len(), &(2 + 24 / one.len()))
            })
            .fed("fragments of one octet, an octet of the stream each 0.1 s; limit of 1 s")
            .expected("the message, after more than 2 s"),
        row("10.4-slow-frame", "A slow peer is not taken for a dead one inside one long fragment, text or binary.")
            .own(&BOTH, &[1], |bench, ours, _| {
                for first in [TEXT_MORE, BINARY_MORE] {
                    let stream = frame_to(ours, MORE, &[b'x'; 20]);
                    let message = slowly(bench, ours, &stream, first)?;
                    same("message", &message.len(), &22)?;
                }
                Ok(())
            })
            .fed("a fragment of 20 octets, one each 0.1 s; limit of 1 s")
            .expected("the message, after more than 2 s"),
        row("10.4-paused", "What the program does not read is not the peer's silence.")
            .own(&BOTH, &[1], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.limits = Limits::new().partial_package(0.6);
                let mut play = bench.open(&script)?;
                play.feed(&frame_to(ours, TEXT_MORE, b"a"), cut)?;
                play.act(&Act::Pause);
                play.pass(Duration::from_millis(900));
                play.act(&Act::Resume);
                play.pass(Duration::from_millis(150));
                play.feed(&frame_to(ours, LAST, b"b"), cut)?;
                play.feed(&frame_to(ours, CLOSE, &1000u16.to_be_bytes()), cut)?;
                let heard = play.finish()?;
                same("failures", &heard.failures, &Vec::new())?;
                same("message", &heard.events[0], &text("ab"))
            })
            .fed(
                "text (no FIN) \"a\"; we: pause_recv() for 0.9 s; 0.15 s later continuation \"b\"; limit of 0.6 s",
            )
            .expected("the message"),
        row(
            "10.4-between-messages",
            "Between two messages a peer may be silent for as long as it likes.",
        )
        .own(&BOTH, &[WHOLE], |bench, ours, cut| {
            let mut script = Script::new(ours, cut);
            script.limits = Limits::new().partial_package(0.2);
            let mut play = bench.open(&script)?;
            let whole = [frame_to(ours, TEXT_MORE, b"a"), frame_to(ours, LAST, b"b")].concat();
            play.feed(&whole, cut)?;
            play.pass(Duration::from_millis(500));
            play.feed(&frame_to(ours, TEXT, b"c"), cut)?;
            play.feed(&frame_to(ours, CLOSE, &1000u16.to_be_bytes()), cut)?;
            let heard = play.finish()?;
            same("failures", &heard.failures.len(), &0)?;
            same("messages", &heard.events[..2], &[text("ab"), text("c")])
        })
        .fed(
            "text (no FIN) \"a\", continuation \"b\", 0.5 s of silence, text \"c\"; limit of 0.2 s",
        )
        .expected("both messages"),
    ]
}
