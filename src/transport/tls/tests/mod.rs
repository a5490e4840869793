//! TLS over loopback sockets, with certificates made on the spot.
use super::*;
use crate::transport::Stream;
use crate::transport::testing::{BOUND, Folder, tcp_pair};
use mio::{Events, Interest, Poll, Token};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
};

mod flow;
mod trust;

/// An authority of a test's own, and the folder that its files lie in.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: Folder,
}

impl Authority {
    fn new() -> Self {
        Self::called("an authority")
    }

    fn called(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("authority");
        Authority { issuer, folder: Folder::new("tls") }
    }

    /// The authority's own certificate.
    fn ca(&self) -> PathBuf {
        self.folder.write("ca.pem", self.issuer.pem())
    }

    /// A certificate for these names, in one file with its key.
    fn identity(&self, names: &[&str]) -> PathBuf {
        self.identity_with(names, |_| {})
    }

    fn identity_with(&self, names: &[&str], alter: impl Fn(&mut CertificateParams)) -> PathBuf {
        let (certificate, key) = self.issue(names, alter);
        let name = format!("{}.pem", names.first().unwrap_or(&"nobody")).replace('*', "any");
        self.folder.write(&name, certificate.pem() + &key.serialize_pem())
    }

    fn issue(
        &self,
        names: &[&str],
        alter: impl Fn(&mut CertificateParams),
    ) -> (Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).expect("params");
        alter(&mut params);
        let key = KeyPair::generate().expect("key");
        (params.signed_by(&key, &self.issuer).expect("sign"), key)
    }
}

/// A certificate that nobody but itself signed; may it sign others?
fn self_signed(folder: &Folder, name: &str, authority: bool) -> PathBuf {
    let mut params = CertificateParams::new(vec![name.to_string()]).expect("params");
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().expect("key");
    let certificate = params.self_signed(&key).expect("sign");
    folder.write("self.pem", certificate.pem() + &key.serialize_pem())
}

/// Both ends of a TLS connection before its handshake.
fn ends(client: &Tls, host: &str, server: &Tls) -> (Stream, Stream) {
    let (near, far) = tcp_pair();
    let client = client.client().expect("client's settings");
    let server = server.server().expect("server's settings");
    let near = near.over_tls_client(&client, host).expect("client");
    (near, far.over_tls_server(&server).expect("server"))
}

/// Both handshakes side by side, until each stands or has failed.
fn shake(near: &mut Stream, far: &mut Stream) -> (Result<(), TlsFailure>, Result<(), TlsFailure>) {
    let mut poll = Poll::new().expect("poll");
    let mut events = Events::with_capacity(8);
    let mut results = [None, None];
    for (at, end) in [&mut *near, &mut *far].into_iter().enumerate() {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(end, Token(at), both).expect("register");
    }
    while results.iter().any(Option::is_none) {
        for (at, end) in [&mut *near, &mut *far].into_iter().enumerate() {
            if results[at].is_some() {
                continue;
            }
            results[at] = match end.handshake() {
                Ok(true) => Some(Ok(())),
                Ok(false) => None,
                Err(failure) => {
                    // So that the other one does not wait.
                    let _ = end.shutdown_write();
                    Some(Err(failure))
                }
            };
        }
        if results.iter().any(Option::is_none) {
            poll.poll(&mut events, Some(BOUND)).expect("poll");
            assert!(!events.is_empty(), "the handshake stands still: {results:?}");
        }
    }
    for end in [&mut *near, &mut *far] {
        poll.registry().deregister(end).expect("deregister");
    }
    let [near, far] = results;
    (near.expect("result"), far.expect("result"))
}

/// Both ends of a connection that stands.
fn standing(client: &Tls, host: &str, server: &Tls) -> (Stream, Stream) {
    let (mut near, mut far) = ends(client, host, server);
    let (client, server) = shake(&mut near, &mut far);
    client.expect("client's handshake");
    server.expect("server's handshake");
    (near, far)
}

/// Why the client did not believe the server.
fn distrust(client: &Tls, host: &str, server: &Tls) -> String {
    let (mut near, mut far) = ends(client, host, server);
    let (client, server) = shake(&mut near, &mut far);
    let failure = client.expect_err("the client must refuse");
    assert_eq!(failure.kind, FailureKind::Certificate, "{failure:?}");
    assert!(server.is_err(), "the server learns of it");
    failure.reason
}

/// A connection that stands, its ends trusting each other.
fn any_standing() -> (Stream, Stream) {
    let authority = Authority::new();
    let server = Tls::new().identity(authority.identity(&["localhost"]));
    standing(&Tls::new().ca_file(authority.ca()), "localhost", &server)
}

fn tls_of(stream: &Stream) -> &TlsStream {
    match stream {
        Stream::Tls(tls) => tls,
        Stream::Plain { .. } => panic!("no TLS"),
    }
}

fn tls_of_mut(stream: &mut Stream) -> &mut TlsStream {
    match stream {
        Stream::Tls(tls) => tls,
        Stream::Plain { .. } => panic!("no TLS"),
    }
}
