//! Handles and tokens whose object is gone.
use crate::support::peers::start;
use crate::support::*;
use crate::{has_come, opened};
use std::time::Duration;
use workerman::prelude::*;

#[test]
fn rustsec_2024_0019_a_stale_handle_never_reaches_the_newcomer() {
    // The place of an ended connection is used again; its handle and its events find nobody.
    let (worker, addr) = start::<Websocket>();
    let mut stale = Vec::new();
    for _ in 0..20 {
        let first = opened(addr, "");
        stale.push(worker.connections()[0]);
        drop(first);
        turn_until(|| worker.connections().is_empty());
    }
    let mut newcomer = opened(addr, "");
    let con = worker.connections()[0];
    for old in stale {
        assert!(old != con && old.id() != con.id());
        assert_eq!((old.status(), old.send("for another")), (Status::Closed, Sent::Dropped));
        old.pause_recv();
        old.close_with("for another");
        old.destroy();
    }
    turn_for(Duration::from_millis(50));
    assert!(!has_come(&newcomer), "something reached the newcomer");
    assert_eq!(con.status(), Status::Established);
    con.send("for you");
    turn_until(|| has_come(&newcomer));
    assert_eq!(read_frame(&mut newcomer), (0x81, b"for you".to_vec()));
}
