//! Streams over loopback: what they answer, and when.
use super::testing::{read_exact, read_some, readable, tcp_pair, unix_pair, write_all};
use super::*;
use std::io::ErrorKind;

#[test]
fn a_bare_socket_says_when_it_is_drained_and_when_it_ended() {
    for (mut near, mut far) in [tcp_pair(), unix_pair()] {
        assert!(near.handshake().expect("nothing to do"));
        assert!(!near.is_tls());
        let mut buffer = [0; 4];
        assert_eq!(far.read(&mut buffer).expect_err("nothing").kind(), ErrorKind::WouldBlock);
        assert!(far.drained());
        write_all(&mut near, b"abcdef");
        readable(&mut far);
        assert_eq!(far.read(&mut buffer).expect("read"), 4);
        assert!(!far.drained(), "the buffer was full, so more may be there");
        assert_eq!(far.read(&mut buffer).expect("read"), 2);
        assert!(far.drained() && !far.has_unread());
        assert!(near.shutdown_write().expect("shutdown"));
        assert_eq!(read_some(&mut far, &mut buffer).expect("end"), 0);
        write_all(&mut far, b"still open");
        assert_eq!(read_exact(&mut near, 10), b"still open");
    }
}

#[test]
fn slices_leave_in_their_order_in_one_write() {
    let (mut near, mut far) = tcp_pair();
    let slices = [IoSlice::new(b"head "), IoSlice::new(b""), IoSlice::new(b"payload")];
    assert_eq!(near.write_vectored(&slices).expect("write"), 12);
    assert_eq!(read_exact(&mut far, 12), b"head payload");
}

#[test]
fn a_full_socket_is_would_block_and_all_that_was_taken_arrives() {
    for (mut near, mut far) in [tcp_pair(), unix_pair()] {
        let block = vec![7; 64 << 10];
        let mut taken = 0;
        let full = loop {
            match near.write(&block) {
                Ok(some) => taken += some,
                Err(e) => break e,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert_eq!(read_exact(&mut far, taken).len(), taken);
    }
}

#[test]
fn both_ends_know_each_other() {
    let (near, far) = tcp_pair();
    assert_eq!(near.peer_addr(), far.local_addr());
    assert_eq!(far.peer_addr(), near.local_addr());
    assert_eq!((near.peer_path(), near.local_path()), (None, None));
    let (near, far) = unix_pair();
    assert_eq!((near.peer_addr(), far.local_addr(), far.peer_path()), (None, None, None));
    assert!(near.take_error().expect("no error").is_none());
    assert!(near.connected().expect("connected"));
    near.finish().expect("a unix socket has no options");
}

#[test]
fn a_reset_is_a_failure_of_the_socket() {
    let (mut near, far) = tcp_pair();
    let Socket::Tcp(socket) = far.socket() else { panic!("tcp") };
    socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO)).expect("linger");
    drop(far);
    let error = read_some(&mut near, &mut [0; 8]).expect_err("reset");
    assert_eq!(near.failure(error).kind, crate::FailureKind::Reset);
}
