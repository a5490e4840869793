//! Offers and answers, right and wrong ones.
use super::*;

const BARE: &str = "permessage-deflate";

fn deflate() -> Deflate {
    Deflate::default()
}

fn remembering() -> Deflate {
    deflate().server_no_context_takeover(false).client_no_context_takeover(false)
}

fn server_bits(bits: u8) -> Deflate {
    remembering().server_max_window_bits(bits).expect("a window")
}

fn client_bits(bits: u8) -> Deflate {
    remembering().client_max_window_bits(bits).expect("a window")
}

/// The answer's parameters.
fn accepts(server: Deflate, offers: &[&str]) -> Option<String> {
    let (answer, _) = server.accept(offers.iter().copied())?;
    Some(answer.strip_prefix(BARE).expect("its name").trim_start_matches("; ").to_owned())
}

fn answered(client: Deflate, answer: &str) -> Result<Option<Agreement>, String> {
    client.check_answer([answer].into_iter())
}

#[test]
fn what_a_client_offers_is_what_its_program_set() {
    assert_eq!(deflate().offer(), "permessage-deflate; client_max_window_bits");
    let all = deflate()
        .server_no_context_takeover(true)
        .client_no_context_takeover(true)
        .server_max_window_bits(10)
        .and_then(|deflate| deflate.client_max_window_bits(9))
        .expect("windows");
    assert_eq!(
        all.offer(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         server_max_window_bits=10; client_max_window_bits=9"
    );
    assert_eq!(client_bits(15).offer(), BARE);
    assert_eq!(server_bits(8).offer(), format!("{BARE}; server_max_window_bits=8; {CLIENT_BITS}"));
}

#[test]
fn a_server_forgets_and_lets_forget_unless_told_otherwise() {
    let forgets = "server_no_context_takeover; client_no_context_takeover";
    assert_eq!(accepts(deflate(), &[BARE]).as_deref(), Some(forgets));
    assert_eq!(accepts(remembering(), &[BARE]).as_deref(), Some(""));
    let asked = format!("{BARE}; {SERVER_FORGETS}");
    assert_eq!(accepts(remembering(), &[&asked]).as_deref(), Some(SERVER_FORGETS));
    let hinted = format!("{BARE}; {CLIENT_FORGETS}");
    assert_eq!(accepts(remembering(), &[&hinted]).as_deref(), Some(CLIENT_FORGETS));
    let (_, agreed) = deflate().accept([BARE].into_iter()).expect("accepted");
    assert!(!agreed.we_take_over && !agreed.peer_takes_over);
    let (_, agreed) = remembering().accept([BARE].into_iter()).expect("accepted");
    assert!(agreed.we_take_over && agreed.peer_takes_over);
}

#[test]
fn a_server_keeps_to_the_window_that_is_asked_for_and_to_its_own() {
    for (server, offer, answer, bits) in [
        (remembering(), "server_max_window_bits=15", "server_max_window_bits=15", Some(15)),
        (remembering(), "server_max_window_bits=9", "server_max_window_bits=9", Some(9)),
        (server_bits(10), "server_max_window_bits=12", "server_max_window_bits=10", Some(10)),
        (server_bits(12), "server_max_window_bits=10", "server_max_window_bits=10", Some(10)),
        (server_bits(10), "client_max_window_bits", "server_max_window_bits=10", Some(10)),
        // Its own window is the smallest: it does not compress.
        (server_bits(8), "client_max_window_bits", "server_max_window_bits=8", None),
        (remembering(), "client_max_window_bits", "", Some(15)),
        (remembering(), "client_max_window_bits=8", "", Some(15)),
        (client_bits(10), "client_max_window_bits", "client_max_window_bits=10", Some(15)),
        (client_bits(10), "client_max_window_bits=12", "client_max_window_bits=10", Some(15)),
        (client_bits(10), "client_max_window_bits=9", "", Some(15)),
        (client_bits(8), "client_max_window_bits", "client_max_window_bits=8", Some(15)),
    ] {
        let offer = format!("{BARE}; {offer}");
        assert_eq!(accepts(server, &[&offer]).as_deref(), Some(answer), "{offer}");
        let (_, agreed) = server.accept([&*offer].into_iter()).expect("accepted");
        assert_eq!(agreed.our_bits, bits, "{offer}");
    }
    // A client that cannot be told how small its window should be.
    assert_eq!(accepts(client_bits(10), &[BARE]), None);
}

#[test]
fn an_offer_that_cannot_be_accepted_is_declined() {
    for wrong in [
        "server_max_window_bits=8",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=010",
        "server_max_window_bits=+9",
        "server_max_window_bits=1e1",
        "server_max_window_bits=99999999999",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=08",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits; client_max_window_bits=10",
        "unknown",
        "Server_no_context_takeover",
        "client_max_window_bits; x=y",
    ] {
        assert_eq!(accepts(remembering(), &[&format!("{BARE}; {wrong}")]), None, "{wrong}");
        // The next one is asked.
        let both = format!("{BARE}; {wrong}, {BARE}; {SERVER_FORGETS}");
        assert_eq!(accepts(remembering(), &[&both]).as_deref(), Some(SERVER_FORGETS), "{wrong}");
    }
    for other in
        ["", " , ,", "x-webkit-deflate-frame", "permessage-bzip2; a=b", "Permessage-Deflate"]
    {
        assert_eq!(accepts(remembering(), &[other]), None, "{other}");
    }
}

#[test]
fn the_first_acceptable_offer_wins_over_several_headers_too() {
    let (small, forgets) =
        (format!("{BARE}; {SERVER_BITS}=9"), format!("{BARE}; {SERVER_FORGETS}"));
    let both = format!("x, {small}, {forgets}");
    assert_eq!(accepts(remembering(), &[&both]).as_deref(), Some("server_max_window_bits=9"));
    let lines = ["x; y=\"a\"", &*forgets, &*small];
    assert_eq!(accepts(remembering(), &lines).as_deref(), Some(SERVER_FORGETS));
}

#[test]
fn quotes_and_blanks_are_read_as_the_grammar_says() {
    for same in [
        "permessage-deflate;server_max_window_bits=10",
        "permessage-deflate ; server_max_window_bits = 10",
        "\tpermessage-deflate;\t server_max_window_bits=\"10\" ",
        "permessage-deflate; server_max_window_bits=\"1\\0\"",
        ",, permessage-deflate; server_max_window_bits=10 ,",
        "foo; bar=\"baz\", permessage-deflate; server_max_window_bits=10",
    ] {
        assert_eq!(accepts(remembering(), &[same]).as_deref(), Some("server_max_window_bits=10"));
        assert_eq!(check_offers([same].into_iter()), Ok(()));
    }
    for broken in [
        ";",
        "=",
        "permessage-deflate;",
        "permessage-deflate; =1",
        "permessage-deflate; a=",
        "permessage-deflate; a=\"",
        "permessage-deflate; a=\"b",
        "permessage-deflate; a=\"b,c\"",
        "permessage-deflate; a=\"\"",
        "permessage-deflate; a=\"b\\",
        "permessage-deflate x",
        "permessage-deflate; a=\"b\"c",
        "perm\u{e9}ssage",
        "permessage-deflate; a=b=c",
    ] {
        assert_eq!(accepts(remembering(), &[broken]), None, "{broken}");
        assert!(check_offers([broken].into_iter()).is_err(), "{broken}");
        assert!(answered(deflate(), broken).is_err(), "{broken}");
    }
}

#[test]
fn what_a_server_may_answer_is_what_then_holds() {
    let silent = deflate().check_answer([""; 0].into_iter());
    assert_eq!(silent, Ok(None), "it does not compress");
    assert_eq!(answered(deflate(), " , "), Ok(None));
    for (client, answer, expected) in [
        (deflate(), "", (Some(15), true, true)),
        (deflate(), "; server_no_context_takeover", (Some(15), true, false)),
        (deflate(), "; client_no_context_takeover", (Some(15), false, true)),
        (deflate(), "; server_max_window_bits=8", (Some(15), true, true)),
        (deflate(), "; client_max_window_bits=9", (Some(9), true, true)),
        (deflate(), "; client_max_window_bits=\"9\"", (Some(9), true, true)),
        // The compressor cannot do with less than 9.
        (deflate(), "; client_max_window_bits=8", (None, true, true)),
        (client_bits(12), "", (Some(12), true, true)),
        (client_bits(12), "; client_max_window_bits=12", (Some(12), true, true)),
        (client_bits(8), "", (None, true, true)),
        (server_bits(12), "; server_max_window_bits=9", (Some(15), true, true)),
        (deflate().client_no_context_takeover(true), "", (Some(15), false, true)),
    ] {
        let agreed = answered(client, &format!("{BARE}{answer}")).expect(answer).expect(answer);
        let Agreement { our_bits, we_take_over, peer_takes_over, .. } = agreed;
        assert_eq!((our_bits, we_take_over, peer_takes_over), expected, "{answer}");
    }
}

#[test]
fn a_servers_nonsense_is_a_failure_that_names_it() {
    let forget = deflate().server_no_context_takeover(true);
    for (client, answer, says) in [
        (deflate(), "x-webkit-deflate-frame", "nobody asked for: x-webkit-deflate-frame"),
        (deflate(), "permessage-deflate, foo", "nobody asked for: foo"),
        (deflate(), "permessage-deflate, permessage-deflate", "twice"),
        (deflate(), "permessage-deflate; foo", "\"foo\" is no parameter"),
        (deflate(), "permessage-deflate; foo=1", "\"foo\" is no parameter"),
        (deflate(), "permessage-deflate; server_max_window_bits", "has no value"),
        (deflate(), "permessage-deflate; client_max_window_bits", "has no value"),
        (deflate(), "permessage-deflate; server_max_window_bits=16", "8 to 15"),
        (deflate(), "permessage-deflate; server_max_window_bits=7", "8 to 15"),
        (deflate(), "permessage-deflate; server_max_window_bits=09", "8 to 15"),
        (deflate(), "permessage-deflate; client_max_window_bits=0", "8 to 15"),
        (deflate(), "permessage-deflate; server_no_context_takeover=1", "may have none"),
        (
            deflate(),
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "client_no_context_takeover stands there twice",
        ),
        (deflate(), "permessage-deflate; server_max_window_bits=\"1 0\"", "cannot be read"),
        (client_bits(15), "permessage-deflate; client_max_window_bits=15", "was not offered"),
        (client_bits(10), "permessage-deflate; client_max_window_bits=11", "and 10 was offered"),
        (server_bits(10), "permessage-deflate", "server_max_window_bits=10 was asked for"),
        (
            server_bits(10),
            "permessage-deflate; server_max_window_bits=11",
            "server_max_window_bits=10 was asked for",
        ),
        (forget, "permessage-deflate", "server_no_context_takeover was asked for"),
    ] {
        let error = answered(client, answer).expect_err(answer);
        assert!(error.contains(says), "{answer}: {error}");
        assert!(error.starts_with("the server"), "{error}");
    }
    let two = deflate().check_answer([BARE, BARE].into_iter()).expect_err("twice");
    assert!(two.contains("twice"), "{two}");
}
