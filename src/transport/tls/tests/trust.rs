//! Who is believed, who is not, and what is said about it.
use super::*;
use crate::transport::testing::{read_exact, read_some, write_all};
use rustls::HandshakeKind;

#[test]
fn the_right_authority_and_name_are_believed() {
    let authority = Authority::new();
    let client = Tls::new().ca_file(authority.ca());
    for (names, host) in [
        (&["localhost"][..], "localhost"),
        (&["a.example", "b.example"], "B.Example"),
        (&["*.a.example"], "any.a.example"),
        (&["a.example"], "a.example."),
        (&["127.0.0.1"], "127.0.0.1"),
        (&["::1"], "::1"),
    ] {
        let server = Tls::new().identity(authority.identity(names));
        let (mut near, mut far) = standing(&client, host, &server);
        write_all(&mut near, b"hello");
        assert_eq!(read_exact(&mut far, 5), b"hello");
    }
}

#[test]
fn an_unknown_authority_is_named_with_the_option_that_would_trust_it() {
    let (ours, theirs) = (Authority::new(), Authority::called("another"));
    let server = Tls::new().identity(theirs.identity(&["localhost"]));
    for client in [Tls::new(), Tls::new().ca_file(ours.ca())] {
        let reason = distrust(&client, "localhost", &server);
        assert!(reason.contains("certificate of localhost is signed by an unknown"), "{reason}");
        assert!(reason.contains("Tls::ca_file"), "{reason}");
    }
    let namesake = Authority::called("another");
    let reason = distrust(&Tls::new().ca_file(namesake.ca()), "localhost", &server);
    assert!(reason.contains("signed by another key"), "{reason}");
}

#[test]
fn a_wrong_name_is_told_with_the_names_that_the_certificate_has() {
    let authority = Authority::new();
    let client = Tls::new().ca_file(authority.ca());
    let server = Tls::new().identity(authority.identity(&["a.example", "*.b.example"]));
    for host in ["localhost", "x.a.example", "b.example", "x.y.b.example", "127.0.0.1"] {
        let reason = distrust(&client, host, &server);
        assert!(reason.contains(&format!("names a.example, *.b.example, not {host}")), "{reason}");
        assert!(reason.contains("Tls::peer_name(\"a.example\")"), "{reason}");
    }
    let server = Tls::new().identity(authority.identity(&["127.0.0.2"]));
    let reason = distrust(&client, "127.0.0.1", &server);
    assert!(reason.contains("names 127.0.0.2, not 127.0.0.1"), "{reason}");
    let server = Tls::new().identity(authority.identity(&[]));
    let reason = distrust(&client, "localhost", &server);
    assert!(reason.contains("names nobody"), "{reason}");
}

#[test]
fn peer_name_is_the_name_that_counts() {
    let authority = Authority::new();
    let server = Tls::new().identity(authority.identity(&["a.example"]));
    let client = Tls::new().ca_file(authority.ca()).peer_name("a.example");
    standing(&client, "127.0.0.1", &server);
    let client = client.peer_name("b.example");
    let reason = distrust(&client, "a.example", &server);
    assert!(reason.contains("not b.example"), "{reason}");
    let error = Tls::new().peer_name("no name").check().expect_err("no name");
    assert!(error.to_string().contains("`no name`"), "{error}");
}

#[test]
fn certificates_out_of_their_time_are_told_with_the_dates() {
    let authority = Authority::new();
    let client = Tls::new().ca_file(authority.ca());
    let old = authority.identity_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 29);
    });
    let reason = distrust(&client, "localhost", &Tls::new().identity(old));
    assert!(reason.contains("expired on 2020-02-29 00:00:00 UTC, and it is 2"), "{reason}");
    let early = authority.identity_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
        params.not_after = date_time_ymd(4001, 1, 1);
    });
    let reason = distrust(&client, "localhost", &Tls::new().identity(early));
    assert!(reason.contains("begins on 4000-01-01 00:00:00 UTC"), "{reason}");
}

#[test]
fn a_self_signed_certificate_is_believed_only_when_it_is_named() {
    let folder = Folder::new("self");
    let own = self_signed(&folder, "localhost", false);
    let server = Tls::new().identity(&own);
    let reason = distrust(&Tls::new(), "localhost", &server);
    assert!(reason.contains("localhost is self-signed"), "{reason}");
    assert!(reason.contains("Tls::ca_file"), "{reason}");
    assert!(reason.contains("Tls::danger_accept_invalid_certs"), "{reason}");
    standing(&Tls::new().ca_file(&own), "localhost", &server);
    let reason = distrust(&Tls::new().ca_file(&own), "other", &server);
    assert!(reason.contains("names localhost, not other"), "{reason}");
}

#[test]
fn an_authoritys_certificate_does_not_stand_for_a_server_and_the_message_says_what_to_do() {
    let folder = Folder::new("self");
    let own = self_signed(&folder, "localhost", true);
    let reason = distrust(&Tls::new().ca_file(&own), "localhost", &Tls::new().identity(&own));
    assert!(reason.contains("CA:TRUE") && reason.contains("basicConstraints=CA:FALSE"), "{reason}");
}

#[test]
fn only_the_dangerous_name_believes_anybody() {
    let folder = Folder::new("danger");
    let server = Tls::new().identity(self_signed(&folder, "a.example", true));
    standing(&Tls::new().danger_accept_invalid_certs(), "b.example", &server);
    let error = Tls::new().danger_accept_invalid_certs().ca_file("x").check();
    assert!(error.expect_err("contradiction").to_string().contains("contradict"));
}

#[test]
fn a_server_may_require_certificates_of_its_clients() {
    let (authority, stranger) = (Authority::new(), Authority::called("another"));
    let server = Tls::new()
        .identity(authority.identity(&["localhost"]))
        .require_client_certs(authority.ca());
    let client = Tls::new().ca_file(authority.ca());

    let known = client.clone().identity(authority.identity(&["a client"]));
    let (mut near, mut far) = standing(&known, "localhost", &server);
    write_all(&mut near, b"hello");
    assert_eq!(read_exact(&mut far, 5), b"hello");

    let (mut near, mut far) = ends(&client, "localhost", &server);
    let failure = shake(&mut near, &mut far).1.expect_err("no certificate");
    assert_eq!(failure.kind, FailureKind::Certificate);
    assert!(failure.reason.contains("showed no certificate"), "{failure:?}");
    // Under TLS 1.3 the client hears of it only after its own handshake.
    let error = read_some(&mut near, &mut [0; 8]).expect_err("refused");
    let failure = near.failure(error);
    assert!(failure.reason.contains("asks for a client's certificate: Tls::identity"));

    let unknown = client.identity(stranger.identity(&["a client"]));
    let (mut near, mut far) = ends(&unknown, "localhost", &server);
    let failure = shake(&mut near, &mut far).1.expect_err("unknown certificate");
    assert!(failure.reason.contains("client's certificate is not trusted"), "{failure:?}");
    let error = read_some(&mut near, &mut [0; 8]).expect_err("refused");
    assert!(near.failure(error).reason.contains("does not trust our certificate"));
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let authority = Authority::new();
    let client = Tls::new().ca_file(authority.ca());
    let named = Tls::new()
        .identity_for("a.example", authority.identity(&["a.example"]))
        .identity_for("*.b.example", authority.identity(&["*.b.example"]));
    let server = named.clone().identity(authority.identity(&["localhost", "127.0.0.1"]));
    for host in ["a.example", "A.EXAMPLE", "x.b.example", "localhost", "127.0.0.1"] {
        standing(&client, host, &server);
    }
    let reason = distrust(&client, "x.y.b.example", &server);
    assert!(reason.contains("names localhost, 127.0.0.1, not"), "{reason}");

    let (mut near, mut far) = ends(&client, "c.example", &named);
    let (client, server) = shake(&mut near, &mut far);
    assert_eq!(client.expect_err("no certificate for it").kind, FailureKind::Tls);
    assert_eq!(server.expect_err("no certificate for it").kind, FailureKind::Tls);

    let wrong = named.identity_for("c.example", authority.identity(&["d.example"]));
    let error = wrong.check().expect_err("not for that name").to_string();
    assert!(error.contains("d.example.pem is not for that name"), "{error}");
}

fn of_version(
    version: &'static rustls::SupportedProtocolVersion,
    authority: &Authority,
) -> Arc<rustls::ClientConfig> {
    let roots = pem::roots(&authority.ca()).expect("roots");
    let config = rustls::ClientConfig::builder_with_provider(settings::provider().clone())
        .with_protocol_versions(&[version])
        .expect("version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[test]
fn both_versions_of_tls_are_spoken_and_a_second_connection_resumes_the_first() {
    let authority = Authority::new();
    let server = Tls::new().identity(authority.identity(&["localhost"])).server().expect("server");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Tls::new().client_config(of_version(version, &authority));
        let client = client.client().expect("client");
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (near, far) = tcp_pair();
            let mut near = near.over_tls_client(&client, "localhost").expect("client");
            let mut far = far.over_tls_server(&server).expect("server");
            let (a, b) = shake(&mut near, &mut far);
            a.and(b).expect("handshake");
            // The tickets come behind the handshake.
            write_all(&mut far, b"hello");
            assert_eq!(read_exact(&mut near, 5), b"hello");
            let session = tls_of(&near).session();
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.handshake_kind(), Some(expected), "{version:?}");
        }
    }
}

#[test]
fn clones_of_settings_resume_each_other_and_the_default_is_one_a_thread() {
    let authority = Authority::new();
    let client = Tls::new().ca_file(authority.ca());
    let first = client.client().expect("client");
    assert!(Arc::ptr_eq(&first, &client.clone().client().expect("client")));
    let other = client.peer_name("a.example").client().expect("client");
    assert!(!Arc::ptr_eq(&first, &other));
    let default = default_client().expect("default");
    assert!(Arc::ptr_eq(&default, &default_client().expect("default")));
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let authority = Authority::new();
    let folder = &authority.folder;
    let good = authority.identity(&["localhost"]);
    let (certificate, key) = authority.issue(&["localhost"], |_| {});
    let certificate = folder.write("certificate.pem", certificate.pem());
    let key_file = folder.write("key.pem", key.serialize_pem());
    let der = folder.write("binary.der", key.serialize_der());
    let empty = folder.write("empty.pem", "");
    let encrypted = folder.write("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n");
    let old = folder
        .write("old.pem", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n");
    let missing = folder.path("missing.pem");
    let rows = [
        (Tls::new().identity(&missing), "cannot read ", "missing.pem: No such file"),
        (Tls::new().ca_file(&missing), "cannot read ", "missing.pem: No such file"),
        (Tls::new().identity(&certificate), "certificate.pem: no private key in it", "is missing"),
        (Tls::new().identity(&key_file), "key.pem: no certificate in it", "is missing"),
        (Tls::new().ca_file(&key_file), "key.pem: no certificate in it", "is missing"),
        (Tls::new().identity_files(&der, &key_file), "binary.der: ", "x509 -inform der"),
        (Tls::new().identity_files(&certificate, &der), "binary.der: ", "pkey -inform der"),
        (Tls::new().identity(&empty), "empty.pem: ", "no certificate in it"),
        (Tls::new().identity_files(&good, &key_file), "localhost.pem", "key.pem is not the one"),
        (Tls::new().identity_files(&certificate, &encrypted), "locked.pem", "`openssl pkey -in "),
        (Tls::new().identity_files(&certificate, &old), "old.pem", "decrypt it once"),
        (Tls::new().require_client_certs(&good), "a server needs a certificate", "identity_files"),
        (Tls::new().identity(&good).require_client_certs(&missing), "missing.pem", "No such file"),
    ];
    for (tls, part, other) in rows {
        let error = tls.check().expect_err(part);
        assert!(matches!(error, Error::Tls { .. }));
        let error = error.to_string();
        assert!(error.contains(part) && error.contains(other), "{part}, {other}: {error}");
    }
    Tls::new().identity_files(&certificate, &key_file).check().expect("these belong together");
    Tls::new().check().expect("a client needs nothing");
}

#[test]
fn a_renewed_certificate_gets_in_when_the_settings_are_given_again() {
    let authority = Authority::new();
    let client = Tls::new().ca_file(authority.ca());
    let (old, key) = authority.issue(&["old.example"], |_| {});
    let file = authority.folder.write("server.pem", old.pem() + &key.serialize_pem());
    let server = Tls::new().identity(&file);
    standing(&client, "old.example", &server);
    let (new, key) = authority.issue(&["new.example"], |_| {});
    authority.folder.write("server.pem", new.pem() + &key.serialize_pem());
    standing(&client, "new.example", &server);
}

#[test]
fn a_ready_configuration_decides_alone() {
    let authority = Authority::new();
    let config = of_version(&rustls::version::TLS13, &authority);
    let error = Tls::new().client_config(config.clone()).ca_file("x").check();
    assert!(error.expect_err("two roots").to_string().contains("only peer_name goes with it"));
    let server = Tls::new().identity(authority.identity(&["localhost"]));
    standing(&Tls::new().client_config(config.clone()), "localhost", &server);

    // Its own verifier's error is told as well.
    let reason = distrust(&Tls::new().client_config(config), "other", &server);
    assert!(reason.contains("names localhost, not other"), "{reason}");

    let ready = server.server().expect("server").config.clone();
    let error = Tls::new().server_config(ready.clone()).identity("x").server();
    assert!(error.expect_err("two").to_string().contains("none of the other settings"));
    let ready = Tls::new().server_config(ready);
    ready.check().expect("ready");
    standing(&Tls::new().ca_file(authority.ca()), "localhost", &ready);
}
