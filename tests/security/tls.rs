//! Whom a client believes, and handshakes that are made to break.
use crate::counting::peak_of_thread;
use crate::support::peers::{Peer, read_to_end};
use crate::support::*;
use crate::{computing, finish};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use workerman::prelude::*;
use workerman::{FailureKind, Limits};

/// An authority and what it signs, in a folder that goes with the test.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("workerman-security-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("an authority").pem();
        std::fs::write(folder.join("ca.pem"), &pem).expect("a file");
        Authority { folder, issuer: Issuer::new(params, key), pem }
    }

    fn trusted(&self) -> Tls {
        Tls::new().ca_file(self.folder.join("ca.pem"))
    }

    /// Certificate and key as the parameters say, in one file.
    fn identity(&self, params: &CertificateParams) -> PathBuf {
        let key = KeyPair::generate().expect("a key");
        let own = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = self.folder.join("own.pem");
        std::fs::write(&file, own.pem() + &key.serialize_pem()).expect("a file");
        file
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_string()]).expect("parameters")
}

fn with_ip(address: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    let ip: IpAddr = address.parse().expect("an address");
    params.subject_alt_names = vec![SanType::IpAddress(ip)];
    params
}

/// An echo of lines over TLS in this loop.
fn serving(identity: &PathBuf, limits: Limits) -> (Worker<Text>, SocketAddr) {
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    worker.set_transport(Transport::Ssl);
    worker.set_tls(Tls::new().identity(identity)).expect("an identity");
    worker.set_limits(limits);
    worker.on_message(|con, line| con.send(line));
    Worker::turn(0).expect("the first turn");
    (worker, worker.local_addr().expect("it listens"))
}

/// Dials a server with this identity by this name: `None`, or why it was not opened.
fn refusal(identity: &PathBuf, host: &str, tls: &Tls) -> Option<(FailureKind, String)> {
    let (worker, addr) = serving(identity, Limits::new());
    let address = format!("text://{host}:{}", addr.port());
    let con = AsyncTcpConnection::<Text>::new(&address).expect("an address");
    con.set_transport(Transport::Ssl);
    con.set_tls(tls.clone()).expect("settings");
    let end = Rc::new(RefCell::new(None));
    let e = end.clone();
    con.on_connect(move |con| {
        e.borrow_mut().get_or_insert(None);
        con.destroy();
    });
    let e = end.clone();
    con.on_error(move |_, _, failure| {
        let why = Some((failure.kind(), failure.to_string()));
        e.borrow_mut().get_or_insert(why);
    });
    con.connect();
    turn_until(|| end.borrow().is_some() && con.status() == Status::Closed);
    worker.unlisten();
    end.take().flatten()
}

#[track_caller]
fn assert_refused(identity: &PathBuf, host: &str, tls: &Tls, says: &str) {
    let why = refusal(identity, host, tls);
    let right = why
        .as_ref()
        .is_some_and(|(kind, text)| *kind == FailureKind::Certificate && text.contains(says));
    assert!(right, "{host}: {why:?}");
}

#[test]
fn cve_2020_11050_a_certificate_for_another_name_is_refused() {
    // Also RUSTSEC-2016-0002, -2023-0027, -2023-0029, -2026-0141 and others: the chain is right.
    let authority = Authority::new();
    let own = authority.identity(&named("localhost"));
    assert_eq!(refusal(&own, "localhost", &authority.trusted()), None);
    for name in ["evil.test", "localhost.evil.test", "*.localhost", "ocalhost"] {
        let other = authority.identity(&named(name));
        assert_refused(&other, "localhost", &authority.trusted(), name);
    }
}

#[test]
fn cve_2020_11050_an_ip_address_is_no_name() {
    // A certificate for an address carries just that address; a name that leads there is none.
    let authority = Authority::new();
    let own = authority.identity(&with_ip("127.0.0.1"));
    assert_eq!(refusal(&own, "127.0.0.1", &authority.trusted()), None);
    for params in [with_ip("127.0.0.2"), named("localhost")] {
        let other = authority.identity(&params);
        assert_refused(&other, "127.0.0.1", &authority.trusted(), "not 127.0.0.1");
    }
}

#[test]
fn cve_2020_11050_an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let mut params = named("localhost");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    let expired = authority.identity(&params);
    assert_refused(&expired, "localhost", &authority.trusted(), "expired");
}

#[test]
fn cve_2020_11050_a_certificate_that_signed_itself_is_refused() {
    let own = crate::support::peers::identity();
    let path = own.path().to_path_buf();
    let authority = Authority::new();
    assert_refused(&path, "localhost", &authority.trusted(), "self-signed");
}

#[test]
fn cve_2020_11050_a_certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = other.identity(&named("localhost"));
    assert_eq!(refusal(&own, "localhost", &other.trusted()), None);
    let why = refusal(&own, "localhost", &authority.trusted());
    assert!(why.is_some_and(|(kind, _)| kind == FailureKind::Certificate));
    let why = refusal(&own, "localhost", &Tls::new());
    assert!(why.is_some_and(|(kind, _)| kind == FailureKind::Certificate));
}

/// A client of TLS that does nothing by itself.
fn session(authority: &Authority) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM");
    roots.add(der).expect("a root");
    #[cfg(feature = "tls-aws-lc")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "tls-aws-lc"))]
    let provider = rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a session")
}

#[test]
fn cve_2026_45416_a_hello_that_is_long_in_coming_ends_at_the_deadline() {
    // A byte now and then does not put it off, and what is announced is not allocated.
    let authority = Authority::new();
    let own = authority.identity(&named("localhost"));
    let (worker, addr) = serving(&own, Limits::new().opening(0.5));
    let slow = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        // A record of 16 KiB with a hello of 16 MiB.
        stream.write_all(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff").expect("it is read");
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("an option");
        (0..250).any(|_| {
            let written = stream.write_all(b"x").is_err();
            written || stream.read(&mut [0; 100]).is_ok()
        })
    });
    let peak = peak_of_thread(|| {
        assert!(finish(slow), "a byte now and then kept it open");
    });
    assert!(peak < 128 << 10, "{peak} bytes for a hello that never came");
    turn_until(|| worker.connections().is_empty());
}

#[test]
fn rustsec_2024_0336_a_farewell_inside_the_handshake_ends_it() {
    // A server whose first record is close_notify, before which nothing is authentic, and that then
    // ends the socket, or leaves it open: no endless loop, and no time is spent in it.
    const FAREWELL: &[u8] = b"\x15\x03\x03\x00\x02\x01\x00";
    for (ends, why) in [(true, "Tls"), (false, "Deadline")] {
        let peer = Peer::with_one(move |mut stream| {
            stream.write_all(FAREWELL).expect("a farewell");
            if ends {
                stream.shutdown(Shutdown::Write).expect("an end");
            }
            read_to_end(&mut stream);
        });
        let address = peer.tcp().replace("tcp:", "text:");
        let (tell, told) = mpsc::channel();
        // In a thread of its own: an endless loop would not come back.
        std::thread::spawn(move || {
            let passed = computing(|| {
                let con = AsyncTcpConnection::<Text>::new(&address).expect("an address");
                con.set_transport(Transport::Ssl);
                con.set_limits(Limits::new().opening(0.5));
                let tell = tell.clone();
                con.on_error(move |_, _, failure| {
                    let _ = tell.send(Told::Why(failure.kind()));
                });
                con.connect();
                turn_until(|| con.status() == Status::Closed);
            });
            tell.send(Told::Computed(passed)).is_err()
        });
        let next = || told.recv_timeout(PATIENCE / 4).expect("it comes to an end");
        let (kind, passed) = (next(), next());
        assert!(matches!(kind, Told::Why(kind) if format!("{kind:?}") == why), "{kind:?}: {why}");
        let little = |passed| passed < Duration::from_millis(300);
        assert!(matches!(passed, Told::Computed(t) if little(t)), "{passed:?}");
    }
}

#[derive(Debug)]
enum Told {
    Why(FailureKind),
    Computed(Duration),
}

#[test]
fn rustsec_2024_0399_a_hello_in_records_of_one_byte_is_read() {
    // Fragmented by TLS and by TCP: no panic, and the handshake goes on.
    let authority = Authority::new();
    let own = authority.identity(&named("localhost"));
    let (_worker, addr) = serving(&own, Limits::new());
    let mut client = session(&authority);
    let peer = std::thread::spawn(move || {
        let mut whole = Vec::new();
        client.write_tls(&mut whole).expect("memory");
        let mut stream = raw_connect(addr);
        for byte in &whole[5..] {
            stream.write_all(&[whole[0], whole[1], whole[2], 0, 1, *byte]).expect("it is read");
        }
        let mut peer = StreamOwned::new(client, stream);
        peer.write_all(b"hello\n").expect("it is read");
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).expect("an answer");
        answer
    });
    assert_eq!(&finish(peer), b"hello\n");
}

#[test]
fn rustsec_2020_0043_ciphertext_waits_in_pieces() {
    // A large message to a peer that never reads: it waits once, and not encrypted a second time.
    const LENGTH: usize = 8 << 20;
    let authority = Authority::new();
    let own = authority.identity(&named("localhost"));
    let (worker, addr) = serving(&own, Limits::new());
    let mut client = session(&authority);
    let peer = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        while client.is_handshaking() {
            client.complete_io(&mut stream).expect("a handshake");
        }
        (client, stream)
    });
    let _held = finish(peer);
    turn_until(|| {
        worker.connections().first().is_some_and(|con| con.status() == Status::Established)
    });
    let con = worker.connections()[0];
    let message = vec![b'x'; LENGTH];
    let peak = peak_of_thread(|| {
        assert_ne!(con.send(&message[..]), Sent::Dropped);
        turn_for(Duration::from_millis(50));
    });
    assert!(con.send_buffer_len() > LENGTH / 4, "somebody has read");
    assert!(peak < (LENGTH + (1 << 20)) as isize, "{peak} bytes for {LENGTH}");
}
