//! Mask and handshake keys: nobody can foretell them, and nobody has the same.
use crate::support::peers::Peer;
use crate::support::*;
use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use workerman::prelude::*;

const FRAMES: usize = 1000;

/// The mask keys of so many frames of a client's, as they stand on the wire: head of two bytes,
/// key, an empty payload or one of four bytes.
fn keys_of(stream: &mut std::net::TcpStream, frames: usize) -> Vec<[u8; 4]> {
    let key = |stream: &mut std::net::TcpStream| {
        let head = read_bytes(stream, 6);
        read_bytes(stream, usize::from(head[1] & 0x7f));
        [head[2], head[3], head[4], head[5]]
    };
    (0..frames).map(|_| key(stream)).collect()
}

/// The key of the handshake, and those of the frames that follow: of messages, or of pongs.
fn keys(pongs: bool) -> (String, Vec<[u8; 4]>) {
    let (tell, told) = mpsc::channel();
    let peer = Peer::with_one(move |mut stream| {
        let head = raw_handshake(&mut stream);
        let line = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        if pongs {
            let pings = server_frame(0x89, b"ping").repeat(FRAMES);
            stream.write_all(&pings).expect("they are read");
        }
        let frames = keys_of(&mut stream, FRAMES);
        tell.send((line.expect("a key").to_owned(), frames)).expect("the test waits");
    });
    let con = AsyncTcpConnection::<Ws>::new(&peer.ws()).expect("an address");
    con.on_websocket_connect(move |con, _| {
        for _ in 0..if pongs { 0 } else { FRAMES } {
            con.send("text");
        }
    });
    con.connect();
    turn_until(|| peer.has_played());
    told.recv().expect("the peer's part")
}

/// None twice (of so many, two would be a chance of 1 in 8 600), and every bit as often set as not.
#[track_caller]
fn assert_unpredictable(keys: &[[u8; 4]]) {
    let distinct: HashSet<_> = keys.iter().collect();
    assert!(distinct.len() >= keys.len() - 1, "{} keys for {} frames", distinct.len(), keys.len());
    for bit in 0..32 {
        let set = keys.iter().filter(|key| u32::from_be_bytes(**key) >> bit & 1 == 1).count();
        // Six standard deviations on either side.
        let expected = keys.len() / 2 - 95..keys.len() / 2 + 95;
        assert!(expected.contains(&set), "bit {bit} is set in {set} of {}", keys.len());
    }
}

#[test]
fn gorilla_d67f418_every_message_has_a_fresh_mask() {
    // Also okhttp#9472, aiohttp#1437 and others (RFC 6455 §5.3, §10.3).
    assert_unpredictable(&keys(false).1);
}

#[test]
fn autobahn_python_758_a_pong_has_a_fresh_mask_too() {
    // A server chooses what a pong says: behind a mask that it knows it would choose the bytes on
    // the wire.
    assert_unpredictable(&keys(true).1);
}

/// Set: this process is one of the two.
const CHILD: &str = "WORKERMAN_SECURITY_CHILD";

#[test]
fn rand_1362_two_processes_never_share_masks_or_keys() {
    // Started alike, at the same time, from the same image; the masks' first 100 and the
    // handshake's key.
    if std::env::var_os(CHILD).is_some() {
        let (key, masks) = keys(false);
        println!("\n| {key}");
        masks[..100].iter().for_each(|mask| println!("| {mask:02x?}"));
        return;
    }
    let start = || {
        Command::new(std::env::current_exe().expect("a test has a path"))
            .args(["--exact", "masks::rand_1362_two_processes_never_share_masks_or_keys"])
            .arg("--nocapture")
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts")
    };
    let children = [start(), start()];
    let said = children.map(|child| {
        let out = child.wait_with_output().expect("it ends").stdout;
        let out = String::from_utf8_lossy(&out).into_owned();
        out.lines().filter(|line| line.starts_with("| ")).map(String::from).collect::<HashSet<_>>()
    });
    assert!(said.iter().all(|lines| lines.len() >= 2), "they did not speak: {said:?}");
    let shared: Vec<_> = said[0].intersection(&said[1]).collect();
    assert!(shared.is_empty(), "both have {shared:?}");
}
