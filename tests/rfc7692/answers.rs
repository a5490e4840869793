//! §5.1, §7, §7.1: what our client makes of a server's answer.
use crate::play::Act;
use crate::row::{Case, End, Row, TEXT, fails, frame, passes, raw, row, text};
use crate::setup::{DEFLATE, EXTENSIONS, HELLO, RSV1, everything, peer};
use crate::support::endpoint::Ours;
use workerman::Deflate;

/// Our client takes this answer: what comes may be compressed.
fn takes(wishes: &str, deflate: Deflate, answer: &str) -> Case {
    passes([frame(TEXT | RSV1, HELLO)], [text("Hello")])
        .with(&peer("answered", wishes, Some(deflate), &[answer]))
        .only(Ours::Client)
}

/// Our client fails the connection, and says this.
fn refuses(wishes: &str, deflate: Option<Deflate>, answer: &[&str], part: &'static str) -> Case {
    passes([], [])
        .with(&peer("answered", wishes, deflate, answer))
        .only(Ours::Client)
        .ends(End::Refuses(part))
}

/// Whatever the program wanted.
fn wrong(answer: &str, part: &'static str) -> Case {
    refuses("", Some(Deflate::new()), &[answer], part)
}

pub(crate) fn rows() -> Vec<Row> {
    [general(), fails_at(), takeover(), windows()].into_iter().flatten().collect()
}

fn general() -> Vec<Row> {
    let long = "plain ".repeat(500);
    let plain = peer("answered", "Deflate::new()", Some(Deflate::new()), &[]);
    vec![
        row("5.1-accepted", "A client to whom the server agrees uses the extension.").case(takes(
            "",
            everything(),
            DEFLATE,
        )),
        row("5.1-declined", "A client to whom the server names nothing goes without it.")
            .case(
                passes([frame(TEXT, "plain")], [text("plain")])
                    .acts([Act::Text(long.clone())])
                    .sends(&[(TEXT, long.as_bytes())])
                    .with(&plain)
                    .only(Ours::Client),
            )
            .case(fails(1002, [raw(&[TEXT | RSV1])]).with(&plain).only(Ours::Client)),
        row("5.1-not-offered", "An answer to what was not offered fails the connection.")
            .case(
                refuses("no compression", None, &[DEFLATE], "nobody asked for")
                    .header(EXTENSIONS, None),
            )
            .case(wrong("x-foo", "nobody asked for: x-foo"))
            .case(wrong("permessage-bzip2", "nobody asked for: permessage-bzip2")),
        row("5.1-rsv1-twice", "An answer with two extensions that want RSV1 fails the connection.")
            .case(wrong("permessage-deflate, permessage-deflate", "twice"))
            .case(refuses("", Some(Deflate::new()), &[DEFLATE, DEFLATE], "twice"))
            .case(wrong("permessage-deflate, x-rsv1", "nobody asked for: x-rsv1"))
            .case(wrong("x-rsv1, permessage-deflate", "nobody asked for: x-rsv1")),
        row(
            "5-grammar-answer",
            "An answer that cannot be read fails the connection (RFC 6455 §9.1).",
        )
        .case(wrong("permessage-deflate; client_max_window_bits=\"10", "cannot be read"))
        .case(wrong("permessage-deflate;", "cannot be read"))
        .case(takes(
            "",
            Deflate::new(),
            "permessage-deflate; client_max_window_bits=\"10\"",
        )),
    ]
}

fn fails_at() -> Vec<Row> {
    vec![
        row("7-fail-unknown", "A client fails at a parameter that is not defined.")
            .case(wrong("permessage-deflate; foo=1", "\"foo\" is no parameter"))
            .case(wrong(
                "permessage-deflate; Server_No_Context_Takeover",
                "\"Server_No_Context_Takeover\" is no parameter",
            )),
        row("7-fail-value", "A client fails at a value that is none.")
            .case(wrong("permessage-deflate; client_no_context_takeover=1", "may have none"))
            .case(wrong("permessage-deflate; server_no_context_takeover=true", "may have none"))
            .case(wrong("permessage-deflate; server_max_window_bits", "has no value"))
            .case(wrong("permessage-deflate; client_max_window_bits", "has no value")),
        row("7-fail-twice", "A client fails at a parameter that stands there twice.")
            .case(wrong(
                "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
                "server_no_context_takeover stands there twice",
            ))
            .case(wrong(
                "permessage-deflate; client_max_window_bits=9; client_max_window_bits=9",
                "client_max_window_bits stands there twice",
            )),
        row("7.1.2-fail", "A client fails at a window that is no number of 8 to 15.").cases(
            ["7", "16", "0", "08", "-9", "+9", "256", "nine"].iter().flat_map(|value| {
                ["server", "client"].map(|who| {
                    let answer = format!("permessage-deflate; {who}_max_window_bits={value}");
                    wrong(&answer, "8 to 15")
                })
            }),
        ),
    ]
}

fn takeover() -> Vec<Row> {
    let forget = Deflate::new().server_no_context_takeover(true);
    vec![
        row("7.1.1-answer", "Both no_context_takeover may come without having been offered.").case(
            takes(
                "",
                Deflate::new(),
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ),
        ),
        row(
            "7.1.1.1-not-granted",
            "A client fails where server_no_context_takeover was asked for and is not granted.",
        )
        .case(refuses(
            "server_no_context_takeover(true)",
            Some(forget),
            &[DEFLATE],
            "server_no_context_takeover was asked for",
        ))
        .case(takes(
            "server_no_context_takeover(true)",
            forget,
            "permessage-deflate; server_no_context_takeover",
        )),
    ]
}

fn windows() -> Vec<Row> {
    let asks = Deflate::new().server_max_window_bits(10).expect("a window");
    let small = Deflate::new().client_max_window_bits(10).expect("a window");
    let fixed = Deflate::new().client_max_window_bits(15).expect("a window");
    let (server, client) = ("server_max_window_bits(10)", "client_max_window_bits(10)");
    vec![
        row(
            "7.1.2.1-answer",
            "A server's window that was not asked for, or a smaller one, is taken.",
        )
        .cases((8..=15).map(|n| {
            let answer = format!("permessage-deflate; server_max_window_bits={n}");
            takes("", Deflate::new(), &answer)
        }))
        .case(takes(server, asks, "permessage-deflate; server_max_window_bits=10"))
        .case(takes(server, asks, "permessage-deflate; server_max_window_bits=9")),
        row("7.1.2.1-not-granted", "A client fails at a wider window than asked for, or at none.")
            .case(refuses(
                server,
                Some(asks),
                &["permessage-deflate; server_max_window_bits=11"],
                "server_max_window_bits=10 was asked for",
            ))
            .case(refuses(
                server,
                Some(asks),
                &[DEFLATE],
                "server_max_window_bits=10 was asked for",
            )),
        row("7.1.2.2-answer", "A client takes a window of its own that is as it said or smaller.")
            .case(takes(client, small, "permessage-deflate; client_max_window_bits=10"))
            .case(takes(client, small, "permessage-deflate; client_max_window_bits=9"))
            .case(takes("", Deflate::new(), "permessage-deflate; client_max_window_bits=15"))
            .case(takes(client, small, DEFLATE)),
        row("7.1.2.2-too-wide", "A client fails at a wider window of its own than it said.").case(
            refuses(
                client,
                Some(small),
                &["permessage-deflate; client_max_window_bits=11"],
                "client_max_window_bits=11, and 10 was offered",
            ),
        ),
        row(
            "7.1.2.2-unoffered",
            "A client fails at client_max_window_bits where it did not offer it.",
        )
        .case(refuses(
            "client_max_window_bits(15)",
            Some(fixed),
            &["permessage-deflate; client_max_window_bits=10"],
            "client_max_window_bits was not offered",
        )),
    ]
}
