//! Random streams: any split gives the same events, what is encoded is decoded, nothing panics.
use super::*;
use crate::protocols::testing::{Dice, Flat, rounds, talk};

/// A stream of mostly right frames.
fn stream(role: Role, dice: &mut Dice) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut inside = false;
    for _ in 0..dice.below(12) {
        let length = [0, 1, 5, 30, 125, 126, 300, 2000][dice.below(8)];
        let payload = if dice.below(4) > 0 {
            "aé€😀".chars().cycle().skip(dice.below(4)).take(length / 3).collect::<String>().into()
        } else {
            dice.bytes(length)
        };
        let first = match (dice.below(10), inside) {
            (0, _) => PING,
            (1, _) => PONG,
            (2..5, false) => TEXT,
            (5..7, false) => BINARY,
            (7.., false) => [FIRST_TEXT, FIRST_BINARY][dice.below(2)],
            (2..6, true) => MORE,
            (6.., true) => LAST,
        };
        let control = first & 8 != 0;
        let payload = if control { &payload[..payload.len().min(125)] } else { &payload[..] };
        inside = if control { inside } else { first & 0x80 == 0 };
        stream.extend(frame(role, first, payload));
    }
    if dice.below(3) == 0 {
        stream.extend(frame(role, CLOSE, &close_of(1000 + dice.below(20) as u16, "bye")));
    }
    stream
}

fn mutated(mut stream: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(stream.len() + 1);
        match dice.below(3) {
            0 if at < stream.len() => stream[at] = dice.next() as u8,
            1 if at < stream.len() => drop(stream.remove(at)),
            _ => stream.insert(at, dice.next() as u8),
        }
    }
    stream
}

fn in_random_pieces<P: Flat>(mut line: Line<P>, stream: &[u8], dice: &mut Dice) -> Line<P> {
    let mut rest = stream;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(1 + dice.below(rest.len().min(400)));
        line.feed(piece);
        rest = behind;
    }
    line
}

fn run(role: Role, seed: u64, damaged: bool) {
    let mut dice = Dice::new(seed);
    let limits = Limits::new().message_bytes(6000).fragments(8);
    let mut stream = stream(role, &mut dice);
    if damaged {
        stream = mutated(stream, &mut dice);
    }
    macro_rules! compare {
        ($open:ident) => {{
            let mut whole = $open(&limits);
            whole.feed(&stream);
            for round in 0..3 {
                let mut line = $open(&limits);
                line.decodes_at_once = round == 1;
                let line = in_random_pieces(line, &stream, &mut dice);
                assert_eq!(line.seen, whole.seen, "{role:?}, seed {seed}");
                assert_eq!(line.out, whole.out, "{role:?}, seed {seed}");
            }
        }};
    }
    match role {
        Role::Client => compare!(open_client),
        Role::Server => compare!(open_server),
    }
}

#[test]
fn any_split_of_a_stream_gives_the_same_events() {
    for seed in 0..rounds(1500) {
        ROLES.iter().for_each(|role| run(*role, seed, false));
    }
}

#[test]
fn damaged_streams_never_panic_and_are_judged_alike_in_every_split() {
    for seed in 0..rounds(3000) {
        ROLES.iter().for_each(|role| run(*role, seed, true));
    }
}

#[test]
fn noise_never_panics() {
    for seed in 0..rounds(2000) {
        let mut dice = Dice::new(seed);
        let length = dice.below(200);
        let noise = dice.bytes(length);
        in_random_pieces(open_client(&Limits::new()), &noise, &mut dice);
        in_random_pieces(open_server(&Limits::new()), &noise, &mut dice);
        in_random_pieces(dialled(&Default::default()), &noise, &mut dice);
    }
}

#[test]
fn a_package_that_input_never_saw_does_not_panic_either() {
    for seed in 0..rounds(2000) {
        let mut dice = Dice::new(seed);
        let length = dice.below(30);
        let noise = dice.bytes(length);
        for role in ROLES {
            let (mut session, mut scratch) = (Session::new(), Vec::new());
            session.opened();
            with_context(&Limits::new(), |cx| {
                let _ = session.decode(role, &mut noise.clone(), &mut scratch, cx);
            });
        }
    }
}

#[test]
fn two_sessions_that_talk_hear_each_other_whatever_the_pieces() {
    for seed in 0..rounds(60) {
        let mut dice = Dice::new(seed);
        let (mut client, mut server) = (open_client(&Limits::new()), open_server(&Limits::new()));
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let length = dice.below(3000);
            let bytes = dice.bytes(length);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            match dice.below(4) {
                0 => {
                    client.send(&bytes);
                    to_server.push(Seen::Binary(bytes));
                }
                1 => {
                    client.send(&text);
                    to_server.push(Seen::Text(text));
                }
                2 => {
                    server.send(&text);
                    to_client.push(Seen::Text(text));
                }
                _ => talk(&mut client, &mut server, 1 + dice.below(500)),
            }
        }
        talk(&mut client, &mut server, 1 + dice.below(500));
        assert!(server.protocol.session_mut().set_close(4000, "enough").is_ok());
        assert!(server.close());
        talk(&mut client, &mut server, 1 + dice.below(5));
        to_client.push(Seen::closed(4000, "enough", true));
        to_server.push(Seen::closed(4000, "", false));
        assert_eq!((client.seen, server.seen), (to_client, to_server));
    }
}
