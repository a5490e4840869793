//! §5, §7.1: what our client offers, and what our server makes of an offer.
use crate::play::Act;
use crate::row::{Case, End, Row, TEXT, fails, frame, passes, raw, row, text};
use crate::setup::{DEFLATE, EXTENSIONS, HELLO, RSV1, alone, everything, peer};
use crate::support::endpoint::Ours;
use workerman::Deflate;

pub(crate) fn rows() -> Vec<Row> {
    [offered(), chosen(), declined(), takeover(), windows()].into_iter().flatten().collect()
}

/// Our client's handshake has this offer; a server that answers nothing is fine.
fn offers(wishes: &str, deflate: Deflate, offer: &str) -> Case {
    passes([frame(TEXT, "plain")], [text("plain")])
        .with(&alone(wishes, deflate))
        .only(Ours::Client)
        .header(EXTENSIONS, Some(offer))
}

/// Our server agrees by this answer: what comes may be compressed.
fn accepts(wishes: &str, deflate: Deflate, offer: &[&str], answer: &str) -> Case {
    passes([frame(TEXT | RSV1, HELLO)], [text("Hello")])
        .with(&peer("offered", wishes, Some(deflate), offer))
        .only(Ours::Server)
        .header(EXTENSIONS, Some(answer))
}

/// Our server answers nothing: what it sends is plain, and what comes may not be compressed.
fn declines(wishes: &str, deflate: Option<Deflate>, offer: &str) -> [Case; 2] {
    let setup = peer("offered", wishes, deflate, &[offer]);
    let long = "plain ".repeat(500);
    [
        passes([frame(TEXT, "plain")], [text("plain")])
            .acts([Act::Text(long.clone())])
            .sends(&[(TEXT, long.as_bytes())]),
        fails(1002, [raw(&[TEXT | RSV1])]),
    ]
    .map(|case| case.with(&setup).only(Ours::Server).header(EXTENSIONS, None))
}

/// Of one that can do everything.
fn declines_all(offers: &[&str]) -> Vec<Case> {
    offers.iter().flat_map(|offer| declines("", Some(everything()), offer)).collect()
}

fn bits(server: u8, client: u8) -> Deflate {
    let deflate = Deflate::new().server_max_window_bits(server);
    deflate.and_then(|d| d.client_max_window_bits(client)).expect("windows")
}

fn offered() -> Vec<Row> {
    let plain = Deflate::new();
    let one = |server, client| {
        plain.server_no_context_takeover(server).client_no_context_takeover(client)
    };
    vec![
        row("5-offer", "A client offers by naming the extension, and only where it wants it.")
            .case(passes([], []).only(Ours::Client).header(EXTENSIONS, None))
            .case(offers("Deflate::new()", plain, "permessage-deflate; client_max_window_bits")),
        row("7.1.1.1-offer", "A client asks for server_no_context_takeover, which has no value.")
            .case(offers(
                "server_no_context_takeover(true)",
                one(true, false),
                "permessage-deflate; server_no_context_takeover; client_max_window_bits",
            )),
        row("7.1.1.2-offer", "A client hints client_no_context_takeover, which has no value.")
            .case(offers(
                "client_no_context_takeover(true)",
                one(false, true),
                "permessage-deflate; client_no_context_takeover; client_max_window_bits",
            )),
        row("7.1.2-offer", "Windows are decimal numbers, 8 to 15, without leading zeros.").cases(
            (8..=14).map(|n| {
                let offer = format!(
                    "permessage-deflate; server_max_window_bits={n}; client_max_window_bits={n}"
                );
                offers(&format!("windows of {n} bits"), bits(n, n), &offer)
            }),
        ),
        row(
            "7.1.2.2-offer",
            "A client names client_max_window_bits where the server may choose, without a value or \
             with a hint.",
        )
        .case(offers("no window", plain, "permessage-deflate; client_max_window_bits"))
        .case(offers(
            "client_max_window_bits(10)",
            plain.client_max_window_bits(10).expect("a window"),
            "permessage-deflate; client_max_window_bits=10",
        ))
        .case(offers(
            "client_max_window_bits(15), which is not to be negotiated",
            plain.client_max_window_bits(15).expect("a window"),
            "permessage-deflate",
        )),
    ]
}

fn chosen() -> Vec<Row> {
    let fallback = "permessage-deflate; client_max_window_bits; server_max_window_bits=10, \
                    permessage-deflate; client_max_window_bits";
    vec![
        row("5.1-accept", "A server accepts by naming the extension in its answer.").case(accepts(
            "",
            everything(),
            &[DEFLATE],
            DEFLATE,
        )),
        row("5.1-decline", "A server that does not want it names nothing, and it is not in use.")
            .cases(declines("", None, DEFLATE)),
        row("5.1-unknown", "Extensions that a server does not have are left alone.")
            .cases(declines_all(&["x-foo; a=\"b\"", "x-foo, x-bar; permessage-deflate"])),
        row(
            "5.1-preference",
            "The order of offers is the client's preference: the first that can be.",
        )
        .case(accepts(
            "",
            everything(),
            &["permessage-deflate; server_no_context_takeover, permessage-deflate"],
            "permessage-deflate; server_no_context_takeover",
        ))
        .case(accepts(
            "",
            everything(),
            &["permessage-deflate, permessage-deflate; server_no_context_takeover"],
            DEFLATE,
        ))
        .case(accepts(
            "",
            everything(),
            &["permessage-deflate; server_max_window_bits=9", "permessage-deflate"],
            "permessage-deflate; server_max_window_bits=9",
        )),
        row("5.1-rsv1", "Two extensions that want RSV1 are not accepted together: one answer.")
            .case(accepts("", everything(), &["permessage-deflate, permessage-deflate"], DEFLATE))
            .case(accepts("", everything(), &["x-rsv1, permessage-deflate"], DEFLATE)),
        row("5.2-fallback", "What cannot be accepted is passed over for the next offer.")
            .case(accepts(
                "",
                everything(),
                &["permessage-foo; use_y, permessage-foo, permessage-deflate"],
                DEFLATE,
            ))
            .case(accepts(
                "",
                everything(),
                &["permessage-deflate; foo, permessage-deflate; server_max_window_bits=9"],
                "permessage-deflate; server_max_window_bits=9",
            )),
        row("7.1.3-examples", "The offers of the RFC's examples are understood.")
            .case(accepts("", everything(), &[DEFLATE], DEFLATE))
            .case(accepts(
                "",
                everything(),
                &["permessage-deflate; client_max_window_bits; \
                 server_max_window_bits=10"],
                "permessage-deflate; server_max_window_bits=10",
            ))
            .case(accepts(
                "",
                everything(),
                &[fallback],
                "permessage-deflate; server_max_window_bits=10",
            )),
        row(
            "5-grammar",
            "A list of extensions that cannot be read fails the handshake (RFC 6455 §9.1).",
        )
        .cases(["permessage-deflate;", "permessage-deflate; a=\"b", "=", "a b"].map(|wrong| {
            passes([], [])
                .with(&peer("offered", "", Some(everything()), &[wrong]))
                .only(Ours::Server)
                .ends(End::Status(400))
        }))
        // Without extensions of its own nobody reads the header.
        .case(
            passes([], [])
                .with(&peer("offered", "no compression", None, &["permessage-deflate;"]))
                .only(Ours::Server)
                .header(EXTENSIONS, None),
        ),
    ]
}

fn declined() -> Vec<Row> {
    vec![
        row(
            "7-decline-unknown",
            "A server declines an offer with a parameter that is not defined.",
        )
        .cases(declines_all(&[
            "permessage-deflate; foo",
            "permessage-deflate; foo=1; server_no_context_takeover",
            "permessage-deflate; Server_No_Context_Takeover",
        ])),
        row("7-decline-value", "A server declines an offer with a value that is none.")
            .cases(declines_all(&[
                "permessage-deflate; server_no_context_takeover=true",
                "permessage-deflate; client_no_context_takeover=1",
                "permessage-deflate; client_no_context_takeover=\"1\"",
                "permessage-deflate; server_max_window_bits",
            ]))
            .fed("parameters that have no value with one, server_max_window_bits without"),
        row("7-decline-twice", "A server declines an offer that has a parameter twice.").cases(
            declines_all(&[
                "permessage-deflate; client_max_window_bits; client_max_window_bits",
                "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
                "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            ]),
        ),
        row("7-decline-unsupported", "A server declines a configuration that it does not have.")
            .cases(declines_all(&["permessage-deflate; server_max_window_bits=8"]))
            .cases(declines(
                "client_max_window_bits(10)",
                Some(everything().client_max_window_bits(10).expect("a window")),
                DEFLATE,
            )),
        row("7.1.2-decline", "A window is a decimal number, 8 to 15, without leading zeros.")
            .cases(
                ["7", "16", "0", "09", "-9", "+9", "9.0", "0xa", "1e1", "256", "nine"]
                    .iter()
                    .flat_map(|value| {
                        ["server", "client"]
                            .map(|who| format!("permessage-deflate; {who}_max_window_bits={value}"))
                    })
                    .flat_map(|offer| declines("", Some(everything()), &offer)),
            )
            .fed(
                "server_max_window_bits and client_max_window_bits of 7, 16, 0, 09, -9, +9, 9.0, \
                  0xa, 1e1, 256, nine",
            ),
    ]
}

fn takeover() -> Vec<Row> {
    vec![
        row("7.1.1.1-granted", "A server grants server_no_context_takeover by naming it.").case(
            accepts(
                "",
                everything(),
                &["permessage-deflate; server_no_context_takeover"],
                "permessage-deflate; server_no_context_takeover",
            ),
        ),
        row("7.1.1-unasked", "A server may name either where it was not offered.").case(accepts(
            "Deflate::new()",
            Deflate::new(),
            &[DEFLATE],
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        )),
        row("7.1.1.2-hint", "A server may take up the hint client_no_context_takeover.").case(
            accepts(
                "",
                everything(),
                &["permessage-deflate; client_no_context_takeover"],
                "permessage-deflate; client_no_context_takeover",
            ),
        ),
    ]
}

fn windows() -> Vec<Row> {
    let with = |deflate: Result<Deflate, workerman::Error>| deflate.expect("a window");
    let granted = |n: u8| {
        let same = format!("permessage-deflate; server_max_window_bits={n}");
        accepts("", everything(), &[&same], &same)
    };
    vec![
        row(
            "7.1.2.1-granted",
            "A server grants server_max_window_bits by the same or a smaller one.",
        )
        .cases((9..=15).map(granted))
        .case(accepts(
            "server_max_window_bits(10)",
            with(everything().server_max_window_bits(10)),
            &["permessage-deflate; server_max_window_bits=12"],
            "permessage-deflate; server_max_window_bits=10",
        )),
        row("7.1.2.1-unasked", "A server may limit itself though nobody asked.").case(accepts(
            "server_max_window_bits(10)",
            with(everything().server_max_window_bits(10)),
            &[DEFLATE],
            "permessage-deflate; server_max_window_bits=10",
        )),
        row("7.1.2.2-chosen", "Where the client lets it a server chooses the client's window.")
            .case(accepts(
                "client_max_window_bits(10)",
                with(everything().client_max_window_bits(10)),
                &["permessage-deflate; client_max_window_bits"],
                "permessage-deflate; client_max_window_bits=10",
            ))
            .case(accepts(
                "client_max_window_bits(10)",
                with(everything().client_max_window_bits(10)),
                &["permessage-deflate; client_max_window_bits=12"],
                "permessage-deflate; client_max_window_bits=10",
            )),
        row("7.1.2.2-hint", "A client's hint of its own limit needs no answer.").case(accepts(
            "",
            everything(),
            &["permessage-deflate; client_max_window_bits=9"],
            DEFLATE,
        )),
        row(
            "7.1.2.2-not-offered",
            "No client_max_window_bits in the answer where it was not offered.",
        )
        .case(accepts("", everything(), &[DEFLATE], DEFLATE))
        .cases(declines(
            "client_max_window_bits(9)",
            Some(with(everything().client_max_window_bits(9))),
            "permessage-deflate; server_max_window_bits=12",
        )),
    ]
}
