//! A worker's certificates: renewed while it runs, chosen by name, asked of clients.
use crate::support::log::{keep_log, logged_with};
use crate::support::{raw_connect, turn_for, turn_until};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{env, fs, process};
use workerman::prelude::*;

/// An authority and what it signs, in a folder that goes with the test.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let folder = env::temp_dir().join(format!("workerman-{name}-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("an authority").pem();
        fs::write(folder.join("ca.pem"), &pem).expect("a file");
        Authority { folder, issuer: Issuer::new(params, key), pem }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Certificate and key for this name, in one file.
    fn identity(&self, file: &str, name: &str) -> PathBuf {
        let (chain, key) = self.signed(name);
        fs::write(self.path(file), chain + &key).expect("a file");
        self.path(file)
    }

    fn signed(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.into()]).expect("parameters");
        let own = params.signed_by(&key, &self.issuer).expect("a certificate");
        (own.pem(), key.serialize_pem())
    }

    /// A peer that asks for this name, sends a line, and hands back the certificate that it was
    /// shown and what came, or what went wrong.
    fn dial(&self, addr: SocketAddr, name: &'static str) -> JoinHandle<(Seen, Session)> {
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM");
        roots.add(der).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = ClientConnection::new(Arc::new(config), name.try_into().expect("a name"));
        let mut peer = StreamOwned::new(tls.expect("a session"), raw_connect(addr));
        std::thread::spawn(move || {
            let said = said(&mut peer, "hello\n");
            let shown = peer.conn.peer_certificates().and_then(|chain| chain.first());
            let shown = shown.map(|certificate| certificate.to_vec()).unwrap_or_default();
            (Seen { shown, said }, peer)
        })
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

type Session = StreamOwned<ClientConnection, TcpStream>;

struct Seen {
    shown: Vec<u8>,
    said: Result<String, String>,
}

fn said(peer: &mut Session, line: &str) -> Result<String, String> {
    let mut answer = vec![0; line.len()];
    let talk = peer.write_all(line.as_bytes()).and_then(|()| peer.read_exact(&mut answer));
    talk.map(|()| String::from_utf8_lossy(&answer).into()).map_err(|e| e.to_string())
}

fn crypto_provider() -> rustls::crypto::CryptoProvider {
    #[cfg(feature = "tls-aws-lc")]
    return rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "tls-aws-lc"))]
    rustls::crypto::ring::default_provider()
}

fn first_in(file: &PathBuf) -> Vec<u8> {
    let text = fs::read(file).expect("the file");
    CertificateDer::from_pem_slice(&text).expect("a certificate").to_vec()
}

/// An echo of lines over TLS.
fn serving(tls: Tls) -> (Worker<Text>, SocketAddr) {
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    worker.set_transport(Transport::Ssl);
    worker.set_tls(tls).unwrap_or_else(|e| panic!("{e}"));
    worker.on_message(|con, line| con.send(line));
    Worker::turn(0).expect("the first turn");
    (worker, worker.local_addr().expect("it listens"))
}

fn turned<T>(peer: JoinHandle<T>) -> T {
    turn_until(|| peer.is_finished());
    peer.join().expect("the peer's own assertions")
}

#[test]
fn reload_tls_shows_newcomers_the_new_certificate_and_leaves_connections_alone() {
    let authority = Authority::new("renewed");
    let file = authority.identity("own.pem", "localhost");
    let old = first_in(&file);
    let (worker, addr) = serving(Tls::new().identity(&file));
    let (before, mut open) = turned(authority.dial(addr, "localhost"));
    assert_eq!(before.said.as_deref(), Ok("hello\n"));
    assert_eq!(before.shown, old);

    authority.identity("own.pem", "localhost");
    let new = first_in(&file);
    assert_ne!(new, old);
    let (unasked, _peer) = turned(authority.dial(addr, "localhost"));
    assert_eq!(unasked.shown, old, "files are read when that is asked for");
    worker.reload_tls().expect("the files are right");
    let (after, _peer) = turned(authority.dial(addr, "localhost"));
    assert_eq!((after.shown, after.said.as_deref()), (new, Ok("hello\n")));
    let still = turned(std::thread::spawn(move || said(&mut open, "still here\n")));
    assert_eq!(still.as_deref(), Ok("still here\n"));
}

#[test]
fn what_is_wrong_with_a_reload_names_the_file_and_the_old_certificates_stay() {
    let authority = Authority::new("broken");
    let (chain, key) = (authority.path("chain.pem"), authority.path("key.pem"));
    let (own, own_key) = authority.signed("localhost");
    fs::write(&chain, own).expect("a file");
    fs::write(&key, &own_key).expect("a file");
    let other = authority.identity("other.pem", "other.test");
    let ca = authority.path("ca.pem");
    let client_ca = authority.path("clients.pem");
    fs::copy(&ca, &client_ca).expect("a file");
    let tls = Tls::new().identity_files(&chain, &key).identity_for("other.test", &other);
    let (worker, addr) = serving(tls.clone());

    let (_, foreign_key) = authority.signed("localhost");
    let good = fs::read(&other).expect("the file");
    for (file, content, wants) in [
        (&key, foreign_key.as_bytes(), "chain.pem"),
        (&key, b"nothing".as_slice(), "key.pem"),
        (&other, b"nothing".as_slice(), "other.pem"),
    ] {
        let was = fs::read(file).expect("the file");
        fs::write(file, content).expect("a file");
        let error = worker.reload_tls().expect_err("one file is wrong").to_string();
        assert!(error.contains(wants), "{wants} is not in {error}");
        assert!(error.contains(&*file.file_name().expect("a name").to_string_lossy()), "{error}");
        fs::write(file, was).expect("a file");
    }
    fs::remove_file(&other).expect("the file");
    let gone = worker.reload_tls().expect_err("a file is gone").to_string();
    assert!(gone.contains("other.pem"), "{gone}");
    for name in ["localhost", "other.test"] {
        let (seen, _peer) = turned(authority.dial(addr, name));
        assert_eq!(seen.said.as_deref(), Ok("hello\n"), "{name}");
    }
    fs::write(&other, good).expect("a file");
    worker.reload_tls().expect("all are right again");
    // Of the clients' authority the same is true.
    worker.set_tls(tls.require_client_certs(&client_ca)).expect("files that are right");
    fs::write(&client_ca, "nothing").expect("a file");
    let error = worker.reload_tls().expect_err("it is wrong").to_string();
    assert!(error.contains("clients.pem"), "{error}");
}

#[test]
fn reload_tls_without_set_tls_says_what_to_call() {
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    let error = worker.reload_tls().expect_err("there is nothing to read").to_string();
    assert!(error.contains("call set_tls"), "{error}");
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let authority = Authority::new("sni");
    let files = ["one.test", "two.test"].map(|name| authority.identity(name, name));
    let wild = authority.identity("wild", "*.wild.test");
    let tls = Tls::new()
        .identity(&files[0])
        .identity_for("two.test", &files[1])
        .identity_for("*.wild.test", &wild);
    let (_worker, addr) = serving(tls);
    for (name, file) in [("one.test", &files[0]), ("two.test", &files[1]), ("a.wild.test", &wild)] {
        let (seen, _peer) = turned(authority.dial(addr, name));
        assert_eq!(seen.said.as_deref(), Ok("hello\n"), "{name}");
        assert!(seen.shown == first_in(file), "{name}");
    }
}

#[test]
fn a_client_without_the_certificate_that_is_required_gets_an_alert_and_is_a_log_line() {
    keep_log();
    let authority = Authority::new("clients");
    let own = authority.identity("own.pem", "localhost");
    let client = authority.identity("client.pem", "client.test");
    let ca = authority.path("ca.pem");
    let tls = Tls::new().identity(&own).require_client_certs(&ca);
    let (worker, addr) = serving(tls);
    for _ in 0..2 {
        let (seen, _peer) = turned(authority.dial(addr, "localhost"));
        let error = seen.said.expect_err("it has shown none");
        assert!(error.to_lowercase().contains("certificate"), "the alert is not in {error}");
    }
    turn_for(Duration::from_millis(20));
    assert_eq!(logged_with("WARN", "TLS with the client failed"), 1);
    assert_eq!(logged_with("DEBUG", "TLS with the client failed"), 1);
    assert!(worker.connections().is_empty());
    // One that has it is served.
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{addr}")).expect("an address");
    con.set_transport(Transport::Ssl);
    con.set_tls(Tls::new().identity(&client).ca_file(&ca).peer_name("localhost")).expect("files");
    let answered = std::rc::Rc::new(std::cell::Cell::new(false));
    let a = answered.clone();
    con.on_message(move |_, line| a.set(line == "hello"));
    con.send("hello");
    con.connect();
    turn_until(|| answered.get());
}
