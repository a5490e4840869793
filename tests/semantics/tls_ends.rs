//! How sessions end under TLS: with its farewell, or cut off.
use crate::peers::*;
use crate::support::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::{env, fs, process};
use workerman::prelude::*;
use workerman::{Connection, Limits, Role, Serve};

/// Files that vanish with the test.
pub(crate) struct Certificates {
    pub(crate) folder: PathBuf,
    authority: String,
}

impl Certificates {
    /// One for 127.0.0.1, and whose word it stands on.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("workerman-ends-{}-{count}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let issuer = issuer.expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("parameters");
        let own = params.signed_by(&key, &issuer).expect("a certificate");
        let pem = own.pem() + &key.serialize_pem();
        fs::write(folder.join("own.pem"), pem).expect("a file");
        fs::write(folder.join("ca.pem"), issuer.pem()).expect("a file");
        Certificates { folder, authority: issuer.pem() }
    }

    /// A peer that knows only rustls, and trusts the authority.
    pub(crate) fn dial(&self, addr: SocketAddr) -> Peer {
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(self.authority.as_bytes()).expect("PEM");
        roots.add(der).expect("a root");
        let provider = Arc::new(crypto_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "127.0.0.1".try_into().expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a session");
        Peer(StreamOwned::new(tls, raw_connect(addr)))
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) struct Peer(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl Peer {
    pub(crate) fn says(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it is taken");
        self.0.flush().expect("it leaves");
    }

    /// TLS's farewell, then a FIN.
    fn ends(&mut self) {
        self.0.conn.send_close_notify();
        self.0.flush().expect("it leaves");
        self.is_cut_off();
    }

    /// A FIN alone.
    fn is_cut_off(&mut self) {
        self.0.sock.shutdown(Shutdown::Write).expect("its end");
    }
}

pub(crate) fn secure<P: Serve>(worker: Worker<P>, certificates: &Certificates) -> SocketAddr {
    let tls = Tls::new().identity(certificates.folder.join("own.pem"));
    worker.set_tls(tls).expect("a certificate");
    worker.set_transport(Transport::Ssl);
    listening(worker)
}

/// A blocking peer in a thread of its own.
fn peer<T: Send + 'static>(
    certificates: &Certificates,
    addr: SocketAddr,
    talk: impl FnOnce(Peer) -> T + Send + 'static,
) -> JoinHandle<T> {
    let peer = certificates.dial(addr);
    thread::spawn(move || talk(peer))
}

fn noted_lines<R: Role>(con: Connection<Text, R>, transcript: &Transcript) {
    noted_end(con, transcript);
    let t = transcript.clone();
    con.on_message(move |con, line| {
        t.note(line);
        con.send(line)
    });
}

#[test]
fn close_notify_is_an_orderly_end() {
    // Packages are delivered, the answer leaves, and our own close_notify behind it: the peer reads
    // an end, not a truncation.
    let certificates = Certificates::new();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_connect(move |con| noted_lines(con, &t));
    let addr = secure(worker, &certificates);
    let talking = peer(&certificates, addr, |mut peer| {
        peer.says(b"one\ntwo\n");
        peer.ends();
        let mut answer = String::new();
        peer.0.read_to_string(&mut answer).map(|_| answer)
    });
    assert_eq!(turned(talking).expect("no truncation"), "one\ntwo\n");
    turn_until(|| seen.has("close"));
    seen.assert(&["one", "two", "close"]);
}

#[test]
fn close_says_close_notify_behind_what_is_queued() {
    // A megabyte, then the end.
    let certificates = Certificates::new();
    let worker = Worker::<Tcp>::listen("tcp://127.0.0.1:0").expect("a worker");
    worker.on_message(|con, _| con.close_with(vec![b'x'; 1 << 20]));
    let addr = secure(worker, &certificates);
    let talking = peer(&certificates, addr, |mut peer| {
        peer.says(b"go");
        let mut all = Vec::new();
        peer.0.read_to_end(&mut all).map(|_| all)
    });
    assert_eq!(turned(talking).expect("no truncation").len(), 1 << 20);
}

#[test]
fn a_fin_without_close_notify_is_a_truncation() {
    // Packages before it are delivered; on_eof is not asked; on_error(SessionFail, Truncated).
    let certificates = Certificates::new();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_connect(move |con| noted_lines(con, &t));
    let addr = secure(worker, &certificates);
    let talking = peer(&certificates, addr, |mut peer| {
        peer.says(b"one\ntw");
        peer.is_cut_off();
        let mut rest = Vec::new();
        let _ = peer.0.read_to_end(&mut rest);
    });
    turned(talking);
    turn_until(|| seen.has("close"));
    seen.assert(&["one", "SessionFail Truncated", "close"]);
}

#[test]
fn behind_the_close_frames_a_missing_close_notify_is_nobodys_fault() {
    // Many servers and clients leave it out there.
    let certificates = Certificates::new();
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_connect(move |con| {
        noted_end(con, &t);
        let t = t.clone();
        con.on_close(move |con| t.note(format_args!("close {:?}", con.close_code())));
    });
    let addr = secure(worker, &certificates);
    let talking = peer(&certificates, addr, |mut peer| {
        peer.says(UPGRADE.as_bytes());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            peer.0.read_exact(&mut byte).expect("the 101");
            head.push(byte[0]);
        }
        peer.says(&client_frame(0x88, &[0x03, 0xe8]));
        peer.is_cut_off();
        let mut answer = [0; 4];
        peer.0.read_exact(&mut answer).expect("the answer");
        answer
    });
    assert_eq!(turned(talking), [0x88, 2, 0x03, 0xe8]);
    turn_until(|| seen.lines().len() == 1);
    seen.assert(&["close Some(1000)"]);
}

#[test]
fn a_client_under_tls_ends_as_orderly() {
    // Both roles of the library's own: what is queued, the farewell, close_notify, FIN.
    let certificates = Certificates::new();
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_message(move |_, data| t.note(data.len()));
    let t = seen.clone();
    worker.on_error(move |_, code, failure| t.note(format_args!("{code:?} {failure}")));
    let t = seen.clone();
    worker.on_close(move |con| t.note(format_args!("server {:?}", con.close_code())));
    let addr = secure(worker, &certificates);
    let con = client::<Ws>("wss", addr);
    con.set_tls(Tls::new().ca_file(certificates.folder.join("ca.pem"))).expect("a root");
    let ended = Transcript::new();
    noted_end(con, &ended);
    con.on_websocket_connect(|con, _| {
        con.send(vec![0; 1 << 20]);
        con.close_websocket(3000, "done");
    });
    con.connect();
    turn_until(|| con.id() == 0 && seen.lines().len() == 2);
    seen.assert(&["1048576", "server Some(3000)"]);
    ended.assert(&["close"]);
}

#[test]
fn a_client_that_is_cut_off_is_told() {
    // The same on the dialling side: an answer may have been cut short.
    let certificates = Certificates::new();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let addr = secure(worker, &certificates);
    // A relay that knows no TLS passes a FIN on, and nothing before it.
    let (listener, relay) = raw_listener();
    let con = client::<Text>("text", relay);
    con.set_transport(Transport::Ssl);
    con.set_tls(Tls::new().ca_file(certificates.folder.join("ca.pem"))).expect("a root");
    let seen = Transcript::new();
    noted(con, &seen);
    con.connect();
    let relaying = thread::spawn(move || {
        let (near, far) = (raw_accept(&listener), raw_connect(addr));
        copying(&near, &far);
        copying(&far, &near);
        (near, far)
    });
    turn_until(|| seen.has("connect"));
    let (near, far) = turned(relaying);
    near.shutdown(Shutdown::Write).expect("the cut");
    turn_until(|| con.id() == 0);
    seen.assert(&["connect", "SessionFail Truncated", "close"]);
    far.shutdown(Shutdown::Both).expect("the end of the relay");
}

/// Copies until either end is gone.
fn copying(from: &TcpStream, to: &TcpStream) {
    let mut from = from.try_clone().expect("a half");
    let mut to = to.try_clone().expect("a half");
    thread::spawn(move || io::copy(&mut from, &mut to));
}

#[test]
fn what_tls_holds_back_is_counted_and_its_loss_is_told() {
    // send_buffer_len() counts every byte that the kernel has not taken; a peer that never reads
    // costs on_error(SendFail) also where only the TLS session still holds some.
    let certificates = Certificates::new();
    let worker = Worker::<Tcp>::listen("tcp://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().closing(0.2));
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_connect(move |con| noted_end(con, &t));
    let addr = secure(worker, &certificates);
    let mut silent = certificates.dial(addr);
    let silent = thread::spawn(move || {
        silent.says(b"here");
        silent
    });
    let _silent = turned(silent);
    turn_until(|| worker.connections().iter().any(|con| con.bytes_read() == 4));
    let con = worker.connections()[0];
    loop {
        assert_eq!(con.send([b'x'; 1 << 10]), Sent::Flushed);
        con.flush();
        // No byte more, but the answer tells whether a write has met a full socket.
        if con.send_raw(&[]) == Sent::Buffered {
            break;
        }
    }
    assert_ne!(con.send_buffer_len(), 0);
    con.close();
    turn_until(|| con.id() == 0);
    seen.assert(&["SendFail ClientClosed", "close"]);
}

/// What rustls encrypts with, as the features have it.
fn crypto_provider() -> rustls::crypto::CryptoProvider {
    #[cfg(feature = "tls-aws-lc")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "tls-aws-lc"))]
    let provider = rustls::crypto::ring::default_provider();
    provider
}
