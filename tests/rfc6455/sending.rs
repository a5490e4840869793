//! §5.1, §5.3, §6.1, §10.3: what our side sends.
use crate::framing::{letters, octets};
use crate::play::{Act, Frame, Script, WHOLE};
use crate::row::{BINARY, CLOSE, PING, PONG, Row, TEXT, passes, row, same};
use crate::support::endpoint::{BOTH, Ours, frame_to};
use std::collections::HashSet;
use workerman::Limits;

const LENGTHS: [usize; 8] = [0, 1, 125, 126, 127, 128, 65_535, 65_536];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("6.1-lengths", "Each message leaves whole, its length in the fewest octets.")
            .cases(LENGTHS.map(|length| {
                let word = String::from_utf8(letters(length)).expect("letters");
                let acts = [Act::Text(word.clone()), Act::Binary(octets(length))];
                passes([], [])
                    .acts(acts)
                    .sends(&[(TEXT, word.as_bytes()), (BINARY, &octets(length))])
                    .cuts(&[WHOLE])
            }))
            .fed("we: send text and binary of 0, 1, 125, 126, 127, 128, 65535 and 65536 octets")
            .expected("each message as it was; FIN set, no reserved bit; masked by a client alone"),
        row("6.1-16-mib", "A message of 16 MiB leaves whole, in one frame.").case({
            let (large, more) = (letters(1 << 20), octets(16 << 20));
            let word = String::from_utf8(large.clone()).expect("letters");
            passes([], [])
                .acts([Act::Text(word), Act::Binary(more.clone())])
                .limits(Limits::new().send_buffer_bytes(32 << 20))
                .sends(&[(TEXT, &large), (BINARY, &more)])
                .cuts(&[WHOLE])
        }),
        row("6.1-thousand", "A thousand messages leave as they were, in their order.")
            .cases([0, 16, 256, 4096].map(|length| {
                let messages: Vec<Vec<u8>> = (0..1000).map(|i| numbered(i, length)).collect();
                let sends: Vec<(u8, &[u8])> =
                    messages.iter().map(|message| (BINARY, &message[..])).collect();
                passes([], [])
                    .acts(messages.iter().cloned().map(Act::Binary))
                    .limits(Limits::new().send_buffer_bytes(32 << 20))
                    .sends(&sends)
                    .cuts(&[WHOLE])
            }))
            .fed("we: send binary of 0, 16, 256 and 4096 octets, a thousand of each")
            .expected("each as it was, in its place"),
        row("6.1-order", "Messages leave in the order in which they were sent.").case(
            passes([], [])
                .acts([Act::Text("1".into()), Act::Binary(vec![2]), Act::Ping(b"3".into())])
                .sends(&[(TEXT, b"1"), (BINARY, &[2]), (PING, b"3")]),
        ),
        row("6.1-not-open", "Data is sent in an open session only.")
            .own(&[Ours::Client], &[WHOLE], early)
            .fed("we: send text \"early\" before connect(); the 101 comes 0.1 s late")
            .expected("nothing behind our request before the 101, the text behind it"),
        row(
            "5.3-fresh-keys",
            "A client draws a fresh key for each frame, that nobody can foretell.",
        )
        .own(&[Ours::Client], &[WHOLE], fresh_keys)
        .fed("we: send text \"same\" 200 times; 20 pings")
        .expected("221 keys, all different, no octet of them twice in more than 1 in 8"),
        row("5.1-server-unmasked", "A server masks no frame, and a client each, of every kind.")
            .own(&BOTH, &[WHOLE], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.acts = vec![
                    Act::Text("t".into()),
                    Act::Binary(vec![0]),
                    Act::Ping(b"p".into()),
                    Act::Pong(b"q".into()),
                ];
                script.says = frame_to(ours, PING, b"r");
                let heard = bench.play(&script)?;
                let firsts: Vec<u8> = heard.frames.iter().map(|frame| frame.first).collect();
                same("frames", &firsts, &vec![TEXT, BINARY, PING, PONG, PONG, CLOSE])?;
                let masked: Vec<bool> = heard.frames.iter().map(|f| f.key.is_some()).collect();
                same("masked", &masked, &vec![ours == Ours::Client; 6])
            })
            .fed("we: text, binary, ping, pong; the answers to a ping and to a close frame")
            .expected("six frames: masked by a client, not by a server"),
    ];
    rows.push(
        row("6.1-utf8", "What leaves as text is UTF-8.")
            .own(&BOTH, &[WHOLE], |bench, ours, cut| {
                let mut script = Script::new(ours, cut);
                script.acts = vec![Act::Text("é€😀".into()), Act::Binary(vec![0xff])];
                let heard = bench.play(&script)?;
                let Frame { first, payload, .. } = &heard.frames[0];
                same("text", &(*first, &payload[..]), &(TEXT, "é€😀".as_bytes()))?;
                same("binary", &heard.frames[1].first, &BINARY)
            })
            .fed("we: send text of 9 octets, binary ff")
            .expected("a text frame and a binary one"),
    );
    rows
}

/// A message that shows its place, where it has room for that.
pub(crate) fn numbered(place: usize, length: usize) -> Vec<u8> {
    let mut message = octets(length);
    for (octet, digit) in message.iter_mut().zip(format!("{place:04}").bytes()) {
        *octet = digit;
    }
    message
}

fn early(bench: &crate::play::Bench, ours: Ours, cut: usize) -> Result<(), String> {
    let mut script = Script::new(ours, cut);
    script.set_client = Some(std::rc::Rc::new(|con| {
        con.send("early");
    }));
    script.late = true;
    let heard = bench.play(&script)?;
    let first = heard.frames.first().map(|frame| (frame.first, &frame.payload[..]));
    same("the first frame", &first, &Some((TEXT, &b"early"[..])))
}

fn fresh_keys(bench: &crate::play::Bench, ours: Ours, cut: usize) -> Result<(), String> {
    let mut script = Script::new(ours, cut);
    script.acts = vec![Act::Text("same".into()); 200];
    script.acts.extend(vec![Act::Ping(b"same".into()); 20]);
    let heard = bench.play(&script)?;
    let keys: Vec<[u8; 4]> = heard.frames.iter().filter_map(|frame| frame.key).collect();
    same("masked frames", &keys.len(), &221)?;
    let different: HashSet<[u8; 4]> = keys.iter().copied().collect();
    same("different keys", &different.len(), &221)?;
    for place in 0..4 {
        let mut counts = [0; 256];
        keys.iter().for_each(|key| counts[usize::from(key[place])] += 1);
        let most = counts.into_iter().max().unwrap_or(0);
        same("no octet stands out", &(most < 28), &true)?;
    }
    Ok(())
}
