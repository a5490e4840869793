//! Bytes through TLS: ends, truncation, full sockets, peers that speak something else.
use super::*;
use crate::transport::Listener;
use crate::transport::testing::{read_exact, read_some, readable, unix_pair, writable, write_all};
use std::io::{ErrorKind, IoSlice};

#[test]
fn tls_runs_over_unix_sockets_too() {
    let authority = Authority::new();
    let client = Tls::new().ca_file(authority.ca()).client().expect("client");
    let server = Tls::new().identity(authority.identity(&["localhost"])).server().expect("server");
    let (near, far) = unix_pair();
    let mut near = near.over_tls_client(&client, "localhost").expect("client");
    let mut far = far.over_tls_server(&server).expect("server");
    let (a, b) = shake(&mut near, &mut far);
    a.and(b).expect("handshake");
    assert!(near.is_tls());
    write_all(&mut near, b"hello");
    assert_eq!(read_exact(&mut far, 5), b"hello");
    assert!(near.over_tls_client(&client, "localhost").is_err(), "it speaks TLS already");
}

#[test]
fn a_farewell_is_an_end_and_the_other_direction_stays_open() {
    let (mut near, mut far) = any_standing();
    write_all(&mut near, b"last words");
    assert!(near.shutdown_write().expect("shutdown"));
    assert!(near.shutdown_write().expect("again"));
    assert_eq!(read_exact(&mut far, 10), b"last words");
    assert_eq!(read_some(&mut far, &mut [0; 8]).expect("end"), 0);
    write_all(&mut far, b"answer");
    assert_eq!(read_exact(&mut near, 6), b"answer");
    assert!(far.shutdown_write().expect("shutdown"));
    assert_eq!(read_some(&mut near, &mut [0; 8]).expect("end"), 0);
}

#[test]
fn a_fin_without_a_farewell_is_a_truncation() {
    let (mut near, mut far) = any_standing();
    write_all(&mut near, b"half a mess");
    tls_of(&near).socket().shutdown_write().expect("only the socket ends");
    assert_eq!(read_exact(&mut far, 11), b"half a mess");
    let error = read_some(&mut far, &mut [0; 8]).expect_err("truncated");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    let failure = far.failure(error);
    assert_eq!(failure.kind, FailureKind::Truncated);
    assert!(failure.reason.contains("close_notify"), "{failure:?}");
}

#[test]
fn what_the_session_holds_back_shows_although_the_socket_is_drained() {
    let (mut near, mut far) = any_standing();
    write_all(&mut near, b"0123456789");
    assert!(near.shutdown_write().expect("farewell"));
    let mut buffer = [0; 4];
    assert_eq!(read_some(&mut far, &mut buffer).expect("read"), 4);
    assert!(far.has_unread());
    assert_eq!(far.read(&mut buffer).expect("read"), 4);
    assert_eq!(far.read(&mut buffer).expect("read"), 2);
    if far.drained() {
        // The farewell may have come with the data, and then no event will come for it.
        assert!(far.has_unread());
    }
    assert_eq!(read_some(&mut far, &mut buffer).expect("end"), 0);
    assert!(!far.has_unread());
}

#[test]
fn drained_speaks_of_the_socket_and_not_of_the_records() {
    let (mut near, mut far) = any_standing();
    let mut buffer = vec![0; 64 << 10];
    // Tickets may be under way, so that the first read sees more than the data.
    write_all(&mut near, b"small");
    assert_eq!(read_some(&mut far, &mut buffer).expect("read"), 5);
    assert!(far.drained(), "a short read of the socket");
    assert!(!far.has_unread());
    assert_eq!(far.read(&mut buffer).expect_err("nothing").kind(), ErrorKind::WouldBlock);
    assert!(far.drained());
}

#[test]
fn a_farewell_that_came_with_the_data_is_unread() {
    let (mut near, mut far) = any_standing();
    write_all(&mut near, b"all");
    tls_of_mut(&mut near).session_mut().send_close_notify();
    assert!(near.flush_transport().expect("flush"));
    // No FIN follows, so no event will: the peer may wait for our farewell first.
    readable(&mut far);
    assert_eq!(far.read(&mut [0; 64]).expect("read"), 3);
    assert!(far.drained() && far.has_unread());
    assert_eq!(far.read(&mut [0; 64]).expect("the end"), 0);
    assert!(!far.has_unread());
}

#[test]
fn records_without_content_do_not_keep_the_loop_for_ever() {
    let (mut near, mut far) = any_standing();
    write_all(&mut near, b"content");
    assert_eq!(read_exact(&mut far, 7), b"content");
    assert_eq!(tls_of_mut(&mut far).barren, 0);
    tls_of_mut(&mut far).barren = stream::BARREN_BYTES;
    tls_of_mut(&mut near).session_mut().refresh_traffic_keys().expect("TLS 1.3 has that");
    assert!(near.flush_transport().expect("flush"));
    let error = read_some(&mut far, &mut [0; 64]).expect_err("too much of nothing");
    let failure = far.failure(error);
    assert_eq!(failure.kind, FailureKind::Tls);
    assert!(failure.reason.contains("without content"), "{failure:?}");
}

#[test]
fn drained_is_told_anew_by_each_read() {
    let (mut near, mut far) = any_standing();
    write_all(&mut near, &[7; 100]);
    let mut buffer = [0; 64];
    assert_eq!(read_some(&mut far, &mut buffer).expect("read"), 64);
    assert!(far.drained() && far.has_unread(), "the socket is empty, the session is not");
    write_all(&mut near, b"more");
    readable(&mut far);
    let mut got = 64;
    loop {
        got += far.read(&mut buffer).expect("read");
        if far.drained() && !far.has_unread() {
            break;
        }
    }
    assert_eq!(got, 104);
}

#[test]
fn bytes_taken_are_bytes_that_arrive_however_full_the_socket_is() {
    let (mut near, mut far) = any_standing();
    let block: Vec<u8> = (0..100_003u32).map(|at| (at ^ at >> 8) as u8).collect();
    let mut sent = 0;
    while !near.wants_write() {
        sent += near.write(&block[sent % block.len()..]).expect("write");
    }
    assert_eq!(near.write(b"more").expect_err("stuck").kind(), ErrorKind::WouldBlock);
    assert!(!near.flush_transport().expect("stuck"));
    assert!(near.unflushed() > 0 && near.unflushed() <= 64 << 10, "{}", near.unflushed());

    let mut got = 0;
    let mut buffer = vec![0; 10_000];
    while got < sent {
        let some = match far.read(&mut buffer) {
            Ok(some) => some,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                near.flush_transport().expect("flush");
                readable(&mut far);
                continue;
            }
            Err(e) => panic!("read: {e}"),
        };
        for byte in &buffer[..some] {
            assert_eq!(*byte, block[got % block.len()], "at {got} of {sent}");
            got += 1;
        }
    }
    assert!(near.flush_transport().expect("flush"));
    assert_eq!((got, near.unflushed()), (sent, 0));
}

#[test]
fn a_large_message_crosses_whole_with_both_ends_taking_turns() {
    let (mut near, mut far) = any_standing();
    let message: Vec<u8> = (0..3 << 20).map(|at: u32| (at ^ at >> 8) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    let mut buffer = vec![0; 10_000];
    let mut turns = 0;
    while got.len() < message.len() {
        turns += 1;
        assert!(turns < 1_000_000, "it goes on");
        while sent < message.len() {
            // Slices of odd lengths, as a head and a payload are.
            let middle = (sent + 7).min(message.len());
            let slices = [IoSlice::new(&message[sent..middle]), IoSlice::new(&message[middle..])];
            match near.write_vectored(&slices) {
                Ok(taken) => sent += taken,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("write: {e}"),
            }
        }
        near.flush_transport().expect("flush");
        readable(&mut far);
        loop {
            match far.read(&mut buffer) {
                Ok(some) => got.extend_from_slice(&buffer[..some]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("read: {e}"),
            }
        }
        assert!(!far.has_unread());
    }
    assert!(got == message);
    assert!(near.flush_transport().expect("flush"));
    assert_eq!(near.unflushed(), 0);
}

/// Reads as the loop does: only when an event came, and then until the socket is drained and the
/// session holds nothing back. How much that was, and whether the end came.
fn read_by_events(far: &mut Stream, poll: &mut Poll, room: usize) -> (usize, bool) {
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, Some(BOUND)).expect("poll");
    assert!(!events.is_empty(), "something was left behind in the socket or in the session");
    let ended = events.iter().any(|event| event.is_read_closed() || event.is_error());
    let mut buffer = vec![0; room];
    let mut got = 0;
    loop {
        match far.read(&mut buffer) {
            Ok(0) => return (got, true),
            Ok(some) => got += some,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return (got, false),
            Err(e) => panic!("read: {e}"),
        }
        if far.drained() && !far.has_unread() && !ended {
            return (got, false);
        }
    }
}

#[test]
fn who_reads_only_on_events_and_until_drained_misses_nothing() {
    let mut random = 1u64;
    let mut below = |limit: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (random >> 33) as usize % limit
    };
    for _ in 0..30 {
        let (mut near, mut far) = any_standing();
        let mut poll = Poll::new().expect("poll");
        poll.registry().register(&mut far, Token(0), Interest::READABLE).expect("register");
        let (mut sent, mut got) = (0, 0);
        let room = 1 + below(40_000);
        for _ in 0..20 {
            let most = [20, 2_000, 40_000][below(3)];
            let length = 1 + below(most);
            sent += near.write(&vec![7; length]).expect("write");
            while got < sent {
                let (more, ended) = read_by_events(&mut far, &mut poll, room);
                assert!(!ended);
                got += more;
                near.flush_transport().expect("flush");
            }
        }
        sent += near.write(b"the last words").expect("write");
        near.shutdown_write().expect("shutdown");
        let mut ended = false;
        while !ended {
            let (more, end) = read_by_events(&mut far, &mut poll, room);
            (got, ended) = (got + more, end);
        }
        assert_eq!(got, sent);
    }
}

#[test]
fn what_came_with_the_handshakes_last_bytes_is_unread_and_not_lost() {
    let authority = Authority::new();
    let server = Tls::new().identity(authority.identity(&["localhost"]));
    let (mut near, mut far) = ends(&Tls::new().ca_file(authority.ca()), "localhost", &server);
    assert!(!near.handshake().expect("its hello"));
    readable(&mut far);
    assert!(!far.handshake().expect("its answer"));
    readable(&mut near);
    assert!(near.handshake().expect("the client is done"));
    write_all(&mut near, b"at once");
    readable(&mut far);
    assert!(far.handshake().expect("the server is done"));
    assert!(far.has_unread());
    assert_eq!(read_exact(&mut far, 7), b"at once");
}

/// Believes everybody, after a whole TLS connection of its own.
#[derive(Debug)]
struct Curious(Arc<dyn rustls::client::danger::ServerCertVerifier>);

impl rustls::client::danger::ServerCertVerifier for Curious {
    fn verify_server_cert(
        &self,
        own: &rustls::pki_types::CertificateDer<'_>,
        chain: &[rustls::pki_types::CertificateDer<'_>],
        name: &rustls::pki_types::ServerName<'_>,
        ocsp: &[u8],
        now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        let (mut near, mut far) = any_standing();
        write_all(&mut near, b"hello");
        assert_eq!(read_exact(&mut far, 5), b"hello");
        self.0.verify_server_cert(own, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[test]
fn a_verifier_is_the_programs_code_and_may_use_tls_itself() {
    let authority = Authority::new();
    let server = Tls::new().identity(authority.identity(&["localhost"]));
    let config = rustls::ClientConfig::builder_with_provider(settings::provider().clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Curious(verify::nothing())))
        .with_no_client_auth();
    let client = Tls::new().client_config(Arc::new(config));
    let (mut near, mut far) = standing(&client, "localhost", &server);
    write_all(&mut far, b"hello");
    assert_eq!(read_exact(&mut near, 5), b"hello");
}

#[test]
fn a_farewell_waits_behind_what_is_stuck() {
    let (mut near, mut far) = any_standing();
    let block = vec![1; 64 << 10];
    let mut sent = 0;
    while !near.wants_write() {
        sent += near.write(&block).expect("write");
    }
    assert!(!near.shutdown_write().expect("stuck"));
    let mut got = 0;
    let mut buffer = vec![0; 64 << 10];
    let mut left = false;
    loop {
        match far.read(&mut buffer) {
            Ok(0) => break,
            Ok(some) => got += some,
            Err(e) if e.kind() == ErrorKind::WouldBlock && left => readable(&mut far),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                writable(&mut near);
                left = near.shutdown_write().expect("shutdown");
            }
            Err(e) => panic!("read: {e}"),
        }
        left = left || near.shutdown_write().expect("shutdown");
    }
    assert_eq!(got, sent);
}

#[test]
fn nothing_is_taken_before_the_handshake_is_complete() {
    let authority = Authority::new();
    let server = Tls::new().identity(authority.identity(&["localhost"]));
    let (mut near, _far) = ends(&Tls::new().ca_file(authority.ca()), "localhost", &server);
    assert_eq!(near.write(b"early").expect_err("early").kind(), ErrorKind::WouldBlock);
    assert!(!near.handshake().expect("under way"));
}

#[test]
fn a_server_that_speaks_plain_text_is_said_to() {
    let client = Tls::new().client().expect("client");
    for (says, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not speak TLS, but plain HTTP"),
        (b"220 mail.example\r\n", "the peer does not speak TLS"),
        (b"x", "the peer does not speak TLS"),
    ] {
        let (near, mut far) = tcp_pair();
        let mut near = near.over_tls_client(&client, "localhost").expect("client");
        assert!(!near.handshake().expect("under way"));
        write_all(&mut far, says);
        readable(&mut near);
        let failure = near.handshake().expect_err("no TLS");
        assert_eq!(failure.kind, FailureKind::Tls);
        assert!(failure.reason.contains(words), "{failure:?}");
    }
}

#[test]
fn a_client_that_speaks_plain_text_is_said_to() {
    let authority = Authority::new();
    let server = Tls::new().identity(authority.identity(&["localhost"])).server().expect("server");
    let (mut near, far) = tcp_pair();
    let mut far = far.over_tls_server(&server).expect("server");
    write_all(&mut near, b"GET / HTTP/1.1\r\n\r\n");
    readable(&mut far);
    let failure = far.handshake().expect_err("no TLS");
    assert!(failure.reason.contains("does not speak TLS, but plain HTTP"), "{failure:?}");
}

#[test]
fn a_peer_that_ends_within_the_handshake_is_a_failure_and_no_endless_loop() {
    let client = Tls::new().client().expect("client");
    let (near, mut far) = tcp_pair();
    let mut near = near.over_tls_client(&client, "localhost").expect("client");
    assert!(!near.handshake().expect("under way"));
    far.shutdown_write().expect("shutdown");
    readable(&mut near);
    let failure = near.handshake().expect_err("ended");
    assert!(failure.reason.contains("does it speak TLS there?"), "{failure:?}");

    // RUSTSEC-2024-0336: a farewell instead of a handshake.
    const CLOSE_NOTIFY: [u8; 7] = [21, 3, 3, 0, 2, 1, 0];
    let (near, mut far) = tcp_pair();
    let mut near = near.over_tls_client(&client, "localhost").expect("client");
    write_all(&mut far, &CLOSE_NOTIFY);
    far.shutdown_write().expect("shutdown");
    readable(&mut near);
    loop {
        match near.handshake() {
            Ok(done) => assert!(!done),
            Err(failure) => break assert_eq!(failure.kind, FailureKind::Tls),
        }
        readable(&mut near);
    }
}

#[test]
fn a_handshake_that_comes_byte_by_byte_stands() {
    let authority = Authority::new();
    let client = Tls::new().ca_file(authority.ca()).client().expect("client");
    let server = Tls::new().identity(authority.identity(&["localhost"])).server().expect("server");
    let ((near, mut near_wire), (mut far_wire, far)) = (tcp_pair(), tcp_pair());
    let mut near = near.over_tls_client(&client, "localhost").expect("client");
    let mut far = far.over_tls_server(&server).expect("server");
    let (mut near_stands, mut far_stands) = (false, false);
    let mut turns = 0;
    while !(near_stands && far_stands) {
        turns += 1;
        assert!(turns < 100_000, "it goes on");
        near_stands = near_stands || near.handshake().expect("client");
        far_stands = far_stands || far.handshake().expect("server");
        pass_a_byte(&mut near_wire, &mut far_wire, &mut far);
        pass_a_byte(&mut far_wire, &mut near_wire, &mut near);
    }
}

fn pass_a_byte(from: &mut Stream, to: &mut Stream, end: &mut Stream) {
    let mut byte = [0];
    if matches!(from.read(&mut byte), Ok(1)) {
        write_all(to, &byte);
        readable(end);
    }
}

#[test]
fn broken_records_are_failures_in_words_and_the_peer_gets_an_alert() {
    let (mut near, mut far) = any_standing();
    // An application record that nobody encrypted.
    let socket = tls_of_mut(&mut near).socket_mut();
    use std::io::Write;
    let garbage = [&[23, 3, 3, 0, 32][..], &[0x55; 32]].concat();
    assert_eq!(socket.write(&garbage).expect("write"), garbage.len());
    let error = read_some(&mut far, &mut [0; 8]).expect_err("broken");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let failure = far.failure(error);
    assert_eq!(failure.kind, FailureKind::Tls);
    assert!(failure.reason.contains("the client broke TLS"), "{failure:?}");
    assert!(!far.has_unread());
    let error = read_some(&mut near, &mut [0; 8]).expect_err("alert");
    assert!(near.failure(error).reason.contains("BadRecordMac"));
}

#[test]
fn accepted_sockets_speak_tls_too() {
    let authority = Authority::new();
    let server = Tls::new().identity(authority.identity(&["127.0.0.1"])).server().expect("server");
    let client = Tls::new().ca_file(authority.ca()).client().expect("client");
    let place = crate::transport::Place::Ip(crate::transport::testing::loopback());
    let mut listener = Listener::bind(&place, 16, false, None).expect("bind");
    let address = listener.local_addr().expect("address");
    let near = Stream::tcp(crate::transport::tcp::dial(address, None).expect("dial"));
    crate::transport::testing::Watch::on(&mut listener, Interest::READABLE).wait();
    let (far, _) = listener.accept().expect("accept");
    let mut near = near.over_tls_client(&client, "127.0.0.1").expect("client");
    let mut far = far.over_tls_server(&server).expect("server");
    let (a, b) = shake(&mut near, &mut far);
    a.and(b).expect("handshake");
    assert_eq!(far.peer_addr(), near.local_addr());
}
