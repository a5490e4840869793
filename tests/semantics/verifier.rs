//! A certificate verifier of the program's own runs inside the opening, and may call the library.
use crate::support::peers::identity;
use crate::support::{Transcript, turn_until};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use workerman::prelude::*;

thread_local! {
    /// Called by the verifier of this thread.
    static HOOK: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Trusts everybody, after it has called `HOOK`.
#[derive(Debug)]
struct Calling;

impl ServerCertVerifier for Calling {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hook = HOOK.with(|hook| hook.borrow().clone());
        if let Some(hook) = hook {
            hook();
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}

/// A server of TLS lines, and a client whose verifier calls `HOOK`; both in this thread.
fn pair() -> (AsyncTcpConnection<Text>, Transcript) {
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    worker.set_transport(Transport::Ssl);
    worker.set_tls(Tls::new().identity(identity().path())).expect("an identity");
    worker.on_message(|con, line| con.send(line));
    assert!(Worker::turn(0).expect("a turn"));
    let addr = worker.local_addr().expect("it listens");
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Calling))
        .with_no_client_auth();
    config.enable_sni = true;
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{addr}")).expect("an address");
    con.set_transport(Transport::Ssl);
    con.set_tls(Tls::new().client_config(Arc::new(config))).expect("a configuration");
    let seen = Transcript::new();
    let s = seen.clone();
    con.on_connect(move |_| s.note("connect"));
    let s = seen.clone();
    con.on_message(move |_, line| s.note(line));
    let s = seen.clone();
    con.on_error(move |_, code, _| s.note(format!("{code:?}")));
    let s = seen.clone();
    con.on_close(move |_| s.note("close"));
    (con, seen)
}

fn at_verifying(f: impl Fn() + 'static) {
    HOOK.set(Some(Rc::new(f)));
}

#[test]
fn a_verifier_may_send_to_its_own_connection_and_ask_anything_of_it() {
    let (con, seen) = pair();
    let s = seen.clone();
    at_verifying(move || {
        s.note(format!("verifying: {} {:?}", con.status(), con.send("from the verifier")));
        con.set("data".to_string());
        con.set_max_send_buffer_size(1 << 20);
        con.flush();
        let _ = (con.remote_addr(), con.local_addr(), con.send_buffer_len(), format!("{con:?}"));
        s.note(format!("a turn: {}", Worker::turn(0).is_ok()));
        Timer::delay(0, || ());
    });
    con.connect();
    turn_until(|| seen.lines().len() == 4);
    seen.assert(&[
        "verifying: CONNECTING Buffered",
        "a turn: false",
        "connect",
        "from the verifier",
    ]);
    assert_eq!(con.get::<String>().as_deref(), Some("data"));
}

#[test]
fn a_connection_that_its_verifier_ends_has_no_session() {
    for destroys in [false, true] {
        let (con, seen) = pair();
        at_verifying(move || if destroys { con.destroy() } else { con.close() });
        con.connect();
        turn_until(|| seen.has("close"));
        crate::support::turn_for(std::time::Duration::from_millis(20));
        seen.assert(&["close"]);
        assert_eq!((con.status(), con.id()), (Status::Closed, 0));
    }
}

#[test]
fn a_verifier_may_have_its_connection_dialled_again() {
    let (con, seen) = pair();
    let first = Cell::new(true);
    at_verifying(move || {
        if first.replace(false) {
            con.reconnect(0);
        }
    });
    con.connect();
    con.send("hello");
    turn_until(|| seen.lines().len() >= 2);
    seen.assert(&["close", "connect"]);
}
