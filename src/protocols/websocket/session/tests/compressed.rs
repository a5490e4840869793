//! Promises of a session that compresses: the same messages, found wrong as early, and nobody is
//! surprised by a frame that is not compressed.
use super::*;
use crate::protocols::testing::{Dice, Flat, each_way, rounds, talk};
use zlib_rs::{DeflateFlush, Status};

const RSV1: u8 = 0x40;

/// A compressor as a peer may have one, and what it has compressed.
struct Packer(zlib_rs::Deflate, Vec<u8>);

impl Packer {
    fn new() -> Self {
        Packer(zlib_rs::Deflate::new(6, false, 15), Vec::new())
    }

    /// The last block says that it is (RFC 7692 §7.2.3.4), and the context is taken over.
    fn pack_last(&mut self, message: &[u8]) -> Vec<u8> {
        self.1.extend(message);
        let mut out = vec![0; message.len() + 1000];
        let before = self.0.total_out();
        let status = self.0.compress(message, &mut out, DeflateFlush::Finish);
        assert_eq!(status, Ok(Status::StreamEnd));
        out.truncate((self.0.total_out() - before) as usize);
        self.0 = zlib_rs::Deflate::new(6, false, 15);
        self.0
            .set_dictionary(&self.1[self.1.len().saturating_sub(32 << 10)..])
            .expect("a fresh one");
        out
    }

    fn pack(&mut self, message: &[u8]) -> Vec<u8> {
        if message.is_empty() {
            // RFC 7692 §7.2.3.6: a compressor that has nothing to flush writes nothing.
            return vec![0];
        }
        self.1.extend(message);
        let mut out = vec![0; message.len() + 1000];
        let before = self.0.total_out();
        let status = self.0.compress(message, &mut out, DeflateFlush::SyncFlush);
        assert_eq!(status, Ok(Status::Ok));
        out.truncate((self.0.total_out() - before) as usize);
        assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xff, 0xff]);
        out
    }
}

fn pack(message: &[u8]) -> Vec<u8> {
    Packer::new().pack(message)
}

/// Feeds the stream to sessions that compress, in all ways of cutting it.
fn deflating(role: Role, limits: &Limits, stream: &[u8]) -> Heard {
    let (seen, out) = match role {
        Role::Client => {
            let line = each_way(stream, || deflating_client(limits, ""));
            (line.seen, line.out)
        }
        Role::Server => {
            let line = each_way(stream, || deflating_server(limits, ""));
            (line.seen, line.out)
        }
    };
    Heard { seen, sent: sent(role, &out) }
}

fn deflating_frames(role: Role, list: &[(u8, &[u8])]) -> Heard {
    deflating(role, &Limits::new(), &frames(role, list))
}

#[test]
fn compressed_messages_arrive_whole_in_fragments_and_among_plain_ones() {
    let (long, mut peer) = ("é€😀".repeat(5000), Packer::new());
    let packed = [peer.pack(b"Hello"), peer.pack(long.as_bytes()), peer.pack(b"Hello")];
    let (one, two) = packed[1].split_at(packed[1].len() / 2);
    for role in ROLES {
        let list: &[(u8, &[u8])] = &[
            (TEXT | RSV1, &packed[0]),
            (TEXT, b"plain"),
            (FIRST_TEXT | RSV1, one),
            (PING, b"between"),
            (MORE, b""),
            (LAST, two),
            (FIRST_BINARY, b"pl"),
            (LAST, b"ain"),
            (BINARY | RSV1, &packed[2]),
            (TEXT | RSV1, b"\0"),
            (TEXT | RSV1, b""),
        ];
        let heard = deflating_frames(role, list);
        let expected = [
            Seen::text("Hello"),
            Seen::text("plain"),
            Seen::Text(long.clone()),
            Seen::binary(b"plain"),
            Seen::binary(b"Hello"),
            Seen::text(""),
            Seen::text(""),
        ];
        assert_eq!(heard.seen, expected);
        assert_eq!(heard.sent, [(PONG, b"between".to_vec())]);
    }
}

#[test]
fn messages_whose_last_block_says_so_arrive_like_others() {
    let mut peer = Packer::new();
    let packed = [
        peer.pack(b"Hello, once and twice"),
        peer.pack_last(b"once"),
        peer.pack(b"Hello, once and twice"),
        peer.pack_last(b"Hello, once and twice"),
    ];
    let (one, two) = packed[3].split_at(2);
    for role in ROLES {
        let list: &[(u8, &[u8])] = &[
            (TEXT | RSV1, &packed[0]),
            (TEXT | RSV1, &packed[1]),
            (TEXT | RSV1, &packed[2]),
            (FIRST_TEXT | RSV1, one),
            (LAST, two),
        ];
        let twice = "Hello, once and twice";
        let expected = [twice, "once", twice, twice].map(Seen::text);
        assert_eq!(deflating_frames(role, list).seen, expected);
    }
}

#[test]
fn rsv1_where_it_must_not_be_is_1002() {
    let packed = pack(b"Hello");
    for role in ROLES {
        for first in [TEXT, BINARY, FIRST_TEXT, FIRST_BINARY] {
            let heard = hear_frames(role, &[(first | RSV1, &packed)]);
            assert_eq!(heard.code(), 1002, "nobody has agreed on it");
        }
        for first in [PING, PONG, CLOSE, MORE, LAST, 0x83, 0x8b] {
            let begun = (FIRST_TEXT | RSV1, &packed[..3]);
            let heard = deflating_frames(role, &[begun, (first | RSV1, b"")]);
            assert_eq!(heard.code(), 1002, "{first:x}");
        }
        for bits in [0x20, 0x10, 0x60, 0x50, 0x70] {
            assert_eq!(deflating_frames(role, &[(TEXT | bits, &packed)]).code(), 1002, "{bits:x}");
        }
        let heard = deflating_frames(role, &[(FIRST_TEXT, b"a"), (TEXT | RSV1, &packed)]);
        assert_eq!(heard.code(), 1002, "a new message inside a fragmented one");
    }
}

#[test]
fn corrupt_data_is_1007_as_soon_as_it_is_here() {
    for role in ROLES {
        assert_eq!(deflating_frames(role, &[(BINARY | RSV1, &[0x07])]).code(), 1007);
        // In a fragment, and in a frame whose end never comes.
        assert_eq!(deflating_frames(role, &[(FIRST_BINARY | RSV1, &[0x07])]).code(), 1007);
        let mut stream = head(role, BINARY | RSV1, 1000);
        let from = stream.len();
        stream.extend([0x07]);
        if role == Role::Server {
            stream[from] ^= 0x37;
        }
        assert_eq!(deflating(role, &Limits::new(), &stream).code(), 1007);
    }
}

#[test]
fn text_that_is_not_utf8_is_1007_at_its_octet_inside_a_compressed_message() {
    let (wrong, cut) = (pack(b"abc\xff"), pack(b"abc\xc3"));
    for role in ROLES {
        assert_eq!(deflating_frames(role, &[(TEXT | RSV1, &wrong)]).code(), 1007);
        assert_eq!(deflating_frames(role, &[(TEXT | RSV1, &cut)]).code(), 1007, "cut short");
        // The message goes on, and is wrong already.
        assert_eq!(deflating_frames(role, &[(FIRST_TEXT | RSV1, &wrong)]).code(), 1007);
        let whole = frame(role, TEXT | RSV1, &[&wrong[..], &[0; 500]].concat());
        let heard = deflating(role, &Limits::new(), &whole[..whole.len() - 500]);
        assert_eq!(heard.code(), 1007, "inside a frame");
        let heard = deflating_frames(role, &[(BINARY | RSV1, &wrong)]);
        assert_eq!(heard.seen, [Seen::binary(b"abc\xff")]);
    }
}

#[test]
fn the_limit_counts_what_inflating_makes_of_it_over_all_fragments() {
    let limits = Limits::new().message_bytes(1000);
    let (just, more) = (pack(&[b'a'; 1000]), pack(&[b'a'; 1001]));
    let noise = Dice::new(5).bytes(1000);
    let stored = pack(&noise);
    assert!(stored.len() > 1000, "it became longer");
    for role in ROLES {
        let hear = |list: &[(u8, &[u8])]| deflating(role, &limits, &frames(role, list));
        assert_eq!(hear(&[(TEXT | RSV1, &just)]).seen, [Seen::Text("a".repeat(1000))]);
        assert_eq!(hear(&[(BINARY | RSV1, &stored)]).seen, [Seen::Binary(noise.clone())]);
        assert_eq!(hear(&[(TEXT | RSV1, &more)]).code(), 1009);
        let (one, two) = more.split_at(3);
        assert_eq!(hear(&[(FIRST_TEXT | RSV1, one), (LAST, two)]).code(), 1009);
        // A frame that no right compressor needs is refused by its head.
        let long = deflating(role, &limits, &head(role, BINARY | RSV1, 1315));
        assert_eq!(long.code(), 1009);
        assert_eq!(deflating(role, &limits, &head(role, BINARY | RSV1, 1314)).seen, []);
        assert_eq!(deflating(role, &limits, &head(role, BINARY, 1001)).code(), 1009, "plain");
        let empty = [(FIRST_TEXT | RSV1, &b""[..]), (MORE, b""), (MORE, b""), (LAST, b"\0")];
        let few = limits.clone().fragments(3);
        assert_eq!(deflating(role, &few, &frames(role, &empty)).code(), 1009, "fragments");
    }
}

#[test]
fn behind_our_close_frame_compressed_data_is_discarded() {
    let packed = pack(b"Hello");
    let mut line = deflating_server(&Limits::new(), "");
    assert!(line.close());
    line.feed(&frames(Role::Server, &[(TEXT | RSV1, &packed), (BINARY | RSV1, &[7])]));
    line.feed(&frame(Role::Server, CLOSE, &close_of(1000, "")));
    assert_eq!(line.seen, [Seen::closed(1000, "", false)]);
}

#[test]
fn what_is_sent_before_the_handshake_and_control_frames_are_not_compressed() {
    let mut opening = super::super::super::Opening::default();
    opening.set_deflate(super::super::super::Deflate::new().threshold(0));
    let mut line = dialled(&opening);
    line.send("too early, too early, too early");
    line.out.clear();
    line.feed(answer_with("Sec-WebSocket-Extensions: permessage-deflate\r\n").as_bytes());
    assert_eq!(sent(Role::Client, &line.out)[0].0, TEXT);
    let mut line = deflating_client(&Limits::new(), "");
    line.send("Hello, Hello, Hello, Hello");
    line.send("Hello, Hello, Hello, Hello");
    assert!(line.append(|ws, out, cx| ws.heartbeat(out, cx)));
    assert!(line.close());
    let firsts: Vec<u8> = sent(Role::Client, &line.out).iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [TEXT | RSV1, TEXT | RSV1, PING, CLOSE]);
}

/// Messages of both sides arrive under this offer and answer, whatever the pieces.
fn converse(offer: &str, answer: &str, seed: u64) {
    let mut dice = Dice::new(seed);
    let limits = Limits::new();
    let mut client = deflating_client(&limits, answer);
    let mut server = deflating_server(&limits, offer);
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    for i in 0..12 {
        let text = format!("{{\"id\":{i},\"ä\":\"€\"}}").repeat(dice.below(400));
        let noise = dice.below(500);
        match dice.below(4) {
            0 => {
                let bytes = dice.bytes(noise);
                client.send(&bytes);
                to_server.push(Seen::Binary(bytes));
            }
            1 => {
                client.send(&text);
                to_server.push(Seen::Text(text));
            }
            2 => {
                server.send(text.as_bytes());
                to_client.push(Seen::Binary(text.into()));
            }
            _ => {
                server.send(&text);
                to_client.push(Seen::Text(text));
            }
        }
        if dice.below(3) == 0 {
            talk(&mut client, &mut server, 1 + dice.below(3000));
        }
    }
    talk(&mut client, &mut server, 1 + dice.below(3000));
    assert_eq!(client.seen, to_client, "{offer:?}");
    assert_eq!(server.seen, to_server, "{offer:?}");
}

#[test]
fn two_sessions_hear_each_other_under_every_agreement() {
    let mut seed = 0;
    for forget in 0..4 {
        for ours in 8..=15 {
            for theirs in [9, 10, 12, 15] {
                let mut common = format!("; server_max_window_bits={theirs}");
                if forget & 1 != 0 {
                    common += "; server_no_context_takeover";
                }
                if forget & 2 != 0 {
                    common += "; client_no_context_takeover";
                }
                let answer = format!("{common}; client_max_window_bits={ours}");
                seed += 1;
                converse(&format!("{common}; client_max_window_bits"), &answer, seed);
            }
        }
    }
}

/// A stream of mostly right frames, compressed and not.
fn stream(role: Role, dice: &mut Dice) -> Vec<u8> {
    let (mut stream, mut peer) = (Vec::new(), Packer::new());
    for _ in 0..1 + dice.below(6) {
        let length = [0, 1, 30, 300, 3000, 8000][dice.below(6)];
        let text: String = "aé€😀-".chars().cycle().take(length / 3).collect();
        let message = match dice.below(8) {
            0 => dice.bytes(length),
            1 => [text.as_bytes(), b"\xff"].concat(),
            _ => text.into_bytes(),
        };
        let kind = 1 + dice.below(2) as u8;
        let (rsv, payload) = match dice.below(4) {
            0 => (0, message),
            1 => (RSV1, peer.pack_last(&message)),
            _ => (RSV1, peer.pack(&message)),
        };
        let cuts = dice.below(4);
        let (mut rest, mut first) = (&payload[..], kind | rsv);
        for _ in 0..cuts {
            let (piece, behind) = rest.split_at(dice.below(rest.len() + 1));
            stream.extend(frame(role, first, piece));
            if dice.below(4) == 0 {
                stream.extend(frame(role, PING, b"?"));
            }
            (rest, first) = (behind, 0);
        }
        stream.extend(frame(role, first | 0x80, rest));
    }
    stream
}

fn mutated(mut stream: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(stream.len());
        match dice.below(3) {
            0 => stream[at] = dice.next() as u8,
            1 if stream.len() > 1 => drop(stream.remove(at)),
            _ => stream.insert(at, dice.next() as u8),
        }
    }
    stream
}

fn compare<P: Flat>(open: impl Fn() -> Line<P>, stream: &[u8], dice: &mut Dice, what: &str) {
    let mut whole = open();
    whole.feed(stream);
    for round in 0..4 {
        let mut line = open();
        line.decodes_at_once = round % 2 == 1;
        let mut rest = stream;
        while !rest.is_empty() {
            let most = if round == 0 { 1 } else { rest.len().min(700) };
            let (piece, behind) = rest.split_at(1 + dice.below(most));
            line.feed(piece);
            rest = behind;
        }
        assert_eq!(line.seen, whole.seen, "{what}");
        assert_eq!(line.out, whole.out, "{what}");
    }
}

fn run(seed: u64, damaged: bool) {
    let limits = Limits::new().message_bytes(6000).fragments(3);
    for role in ROLES {
        let mut dice = Dice::new(seed);
        let mut stream = stream(role, &mut dice);
        if damaged {
            stream = mutated(stream, &mut dice);
        }
        let forget = ["", "; client_no_context_takeover; server_no_context_takeover"];
        let forget = forget[dice.below(2)];
        let what = format!("{role:?}, seed {seed}");
        match role {
            Role::Client => {
                compare(|| deflating_client(&limits, forget), &stream, &mut dice, &what);
            }
            Role::Server => {
                compare(|| deflating_server(&limits, forget), &stream, &mut dice, &what);
            }
        }
    }
}

#[test]
fn any_split_of_a_compressed_stream_gives_the_same_events() {
    (0..rounds(150)).for_each(|seed| run(seed, false));
}

#[test]
fn damaged_compressed_streams_never_panic_and_are_judged_alike_in_every_split() {
    (0..rounds(600)).for_each(|seed| run(seed, true));
}
