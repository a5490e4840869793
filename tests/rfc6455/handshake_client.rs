//! §3, §4.1: what our client asks, and what it makes of the answer.
use crate::play::{Bench, Script, WHOLE};
use crate::row::{Row, row, same};
use crate::support::accept_head;
use crate::support::endpoint::{Ours, frame_to};
use base64::Engine;
use std::collections::HashSet;
use std::rc::Rc;
use workerman::prelude::*;
use workerman::{FailureKind, Limits, Phase};

const CLIENT: &[Ours] = &[Ours::Client];

/// How the right answer is made another one.
type Edit = fn(&str) -> String;

/// What must be said of it; `None`: it is right.
type Verdict = Option<&'static str>;

fn answered(bench: &Bench, cut: usize, edit: Edit, verdict: Verdict) -> Result<String, String> {
    let mut script = Script::new(Ours::Client, cut);
    script.opens = Some(Rc::new(move |request| edit(&accept_head(request)).into_bytes()));
    let heard = bench.play(&script)?;
    let Some(part) = verdict else {
        same("failures", &heard.failures, &Vec::new())?;
        same("opened", &heard.opened, &true)?;
        return Ok(heard.head);
    };
    same("opened", &heard.opened, &false)?;
    same("frames", &heard.frames.len(), &0)?;
    match &heard.failures[..] {
        [(ErrorCode::ConnectFail, FailureKind::Handshake, Phase::Handshake, said)]
            if said.contains(part) =>
        {
            Ok(heard.head)
        }
        failures => Err(format!("{failures:?}, not {part:?}")),
    }
}

/// Each of these answers is judged so.
fn judges(row: Row, answers: &'static [(&'static str, Edit, Verdict)]) -> Row {
    let fed: Vec<&str> = answers.iter().map(|(name, ..)| *name).collect();
    let mut expected: Vec<String> = Vec::new();
    for (.., verdict) in answers {
        let text = match verdict {
            None => "the session opens".into(),
            Some(part) => format!("on_error(ConnectFail): \"… {part} …\""),
        };
        if !expected.contains(&text) {
            expected.push(text);
        }
    }
    row.own(CLIENT, &[WHOLE, 1], move |bench, _, cut| {
        for (name, edit, verdict) in answers {
            answered(bench, cut, *edit, *verdict).map_err(|wrong| format!("{name}: {wrong}"))?;
        }
        Ok(())
    })
    .times(answers.len())
    .fed(&format!("101 with: {}", fed.join(" / ")))
    .expected(&expected.join(" / "))
}

/// The right answer without a line, or with another in its place.
fn line(answer: &str, begins: &str, line: &str) -> String {
    let mut lines: Vec<&str> = answer.trim_end().split("\r\n").collect();
    lines.retain(|old| begins.is_empty() || !old.starts_with(begins));
    lines.extend((!line.is_empty()).then_some(line));
    lines.join("\r\n") + "\r\n\r\n"
}

fn first_line(answer: &str, first: &str) -> String {
    let (_, behind) = answer.split_once("\r\n").unwrap_or(("", answer));
    format!("{first}\r\n{behind}")
}

pub(crate) fn rows() -> Vec<Row> {
    [addresses(), request(), answer(), agreed(), refusals()].into_iter().flatten().collect()
}

/// Asks our client's request of it.
fn asks(row: Row, set: fn(AsyncTcpConnection<Ws>), check: fn(&str) -> Result<(), String>) -> Row {
    row.own(CLIENT, &[WHOLE, 1], move |bench, _, cut| {
        let mut script = Script::new(Ours::Client, cut);
        script.set_client = Some(Rc::new(set));
        let heard = bench.play(&script)?;
        same("failures", &heard.failures, &Vec::new())?;
        check(&heard.head)
    })
    .fed("a right 101")
}

fn one<'a>(head: &'a str, name: &str) -> Result<&'a str, String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let found: Vec<&str> = lines
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect();
    match found[..] {
        [value] => Ok(value),
        _ => Err(format!("{} lines {name} in {head:?}", found.len())),
    }
}

fn nothing(_: AsyncTcpConnection<Ws>) {}

fn addresses() -> Vec<Row> {
    let refused = ["ws://", "ws://:80/", "ws://host:70000/", "ws://ho st/", "http://host/", "host"];
    vec![
        row("3-valid", "An address that is none is refused before anything is sent.")
            .own(CLIENT, &[WHOLE], move |_, _, _| {
                for address in refused {
                    let made = AsyncTcpConnection::<Ws>::new(address);
                    same(address, &made.is_err(), &true)?;
                }
                Ok(())
            })
            .fed(&format!("`{}`", refused.join("` / `")))
            .expected("new() is an error"),
        row("3-ports", "Port 80 stands for ws, 443 for wss, where the address names none.")
            .own(CLIENT, &[WHOLE], |_, _, _| {
                for (address, host) in [
                    ("ws://example.com/a", "example.com:80"),
                    ("ws://example.com:81/a", "example.com:81"),
                    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
                    ("wss://example.com/a", "example.com:443"),
                ] {
                    let con = AsyncTcpConnection::<Ws>::new(address).map_err(|e| e.to_string())?;
                    same(address, &con.remote_address(), &host.into())?;
                    con.close();
                }
                Ok(())
            })
            .fed("`ws://example.com/a` / `ws://example.com:81/a` / `wss://example.com/a`")
            .expected("ports 80, 81 and 443"),
        row("3-fragment", "What stands behind # is no part of what is asked for.")
            .own(CLIENT, &[WHOLE], |bench, _, _| {
                let target = bench.target_of("/chat?a=1#part")?;
                same("target", &*target, "/chat?a=1")
            })
            .fed("`ws://…/chat?a=1#part`")
            .expected("`GET /chat?a=1`"),
        row("3-resource", "The resource is path and query; an empty path is a slash.")
            .own(CLIENT, &[WHOLE], |bench, _, _| {
                for (written, asked) in
                    [("", "/"), ("/", "/"), ("?q=1", "/?q=1"), ("/a/b?c=d&e", "/a/b?c=d&e")]
                {
                    same("target", &*bench.target_of(written)?, asked)?;
                }
                Ok(())
            })
            .fed("nothing / `/` / `?q=1` / `/a/b?c=d&e`")
            .expected("`/` / `/` / `/?q=1` / `/a/b?c=d&e`"),
    ]
}

fn request() -> Vec<Row> {
    vec![
        asks(
            row("4.1-get", "The request is a GET of HTTP/1.1 for the address's resource."),
            nothing,
            |head| {
                let first = head.lines().next().unwrap_or("");
                same("first line", first, "GET /chat?room=1 HTTP/1.1")
            },
        )
        .expected("`GET /chat?room=1 HTTP/1.1`"),
        asks(
            row("4.1-host", "The Host is the address's, with the port where that is not 80."),
            nothing,
            |head| {
                let host = one(head, "Host")?;
                same("host and port", &host.starts_with("127.0.0.1:"), &true)
            },
        )
        .expected("`Host: 127.0.0.1:PORT`"),
        asks(
            row("4.1-upgrade", "The request asks for the upgrade to websocket."),
            nothing,
            |head| {
                same("Upgrade", one(head, "Upgrade")?, "websocket")?;
                same("Connection", one(head, "Connection")?, "Upgrade")
            },
        )
        .expected("`Upgrade: websocket`, `Connection: Upgrade`"),
        asks(row("4.1-version", "The request is for version 13."), nothing, |head| {
            same("version", one(head, "Sec-WebSocket-Version")?, "13")
        })
        .expected("`Sec-WebSocket-Version: 13`"),
        row("4.1-key", "The key is 16 octets in base64, drawn anew for each connection.")
            .own(CLIENT, &[WHOLE], |bench, _, cut| {
                let mut keys = HashSet::new();
                for _ in 0..20 {
                    let head = bench.play(&Script::new(Ours::Client, cut))?.head;
                    let key = one(&head, "Sec-WebSocket-Key")?;
                    let octets = base64::engine::general_purpose::STANDARD.decode(key);
                    same("octets", &octets.map(|octets| octets.len()), &Ok(16))?;
                    keys.insert(key.to_owned());
                }
                same("different keys", &keys.len(), &20)
            })
            .fed("20 connections")
            .expected("20 different keys"),
        asks(
            row(
                "4.1-origin",
                "A client that is no browser sends an Origin if its program says so.",
            ),
            |con| con.set_websocket_origin("https://example.com").expect("an origin"),
            |head| same("it", one(head, "Origin")?, "https://example.com"),
        )
        .expected("`Origin: https://example.com`"),
        asks(
            row("4.1-subprotocols", "Subprotocols are tokens, each once."),
            |con| {
                for wrong in ["a b", "chat, chat", "", "a\u{e9}", "a;b"] {
                    con.set_websocket_client_protocol(wrong).expect_err(wrong);
                }
                con.set_websocket_client_protocol("mqtt").expect("a subprotocol");
                con.set_websocket_client_protocol("").expect_err("none is named");
            },
            |_| Ok(()),
        )
        .fed("`a b` / `chat, chat` / nothing / `aé` / `a;b`")
        .expected("set_websocket_client_protocol is an error"),
        asks(
            row("4.1-once", "No header of the handshake can be written twice by the program."),
            |con| {
                for name in ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"]
                {
                    con.set_headers([(name, "x")]).expect_err(name);
                }
                con.set_headers([("X-One", "a"), ("X-Two", "b")]).expect("others");
            },
            |head| {
                one(head, "Upgrade")?;
                one(head, "Sec-WebSocket-Key")?;
                same("ours", &(one(head, "X-One")?, one(head, "X-Two")?), &("a", "b"))
            },
        )
        .expected("set_headers is an error for those, and sets others"),
        asks(
            row("9.1-offer", "A client offers no extension that it does not have."),
            nothing,
            |head| match one(head, "Sec-WebSocket-Extensions") {
                Ok(offer) => Err(format!("it offers {offer}")),
                Err(_) => Ok(()),
            },
        )
        .expected("no `Sec-WebSocket-Extensions` unless the program asks for compression"),
    ]
}

fn answer() -> Vec<Row> {
    vec![
        judges(
            row("4.1-right", "A right answer opens the session, whatever its case and order."),
            &[
                ("nothing else", |a| a.into(), None),
                ("`upgrade: WEBSOCKET`", |a| line(a, "Upgrade", "upgrade: WEBSOCKET"), None),
                ("`CONNECTION: upgrade`", |a| line(a, "Connection", "CONNECTION: upgrade"), None),
                (
                    "`Connection: keep-alive, Upgrade`",
                    |a| line(a, "Connection", "Connection: keep-alive, Upgrade"),
                    None,
                ),
                ("another reason phrase", |a| first_line(a, "HTTP/1.1 101 Welcome"), None),
                ("none", |a| first_line(a, "HTTP/1.1 101 "), None),
                ("further headers", |a| line(a, "", "Server: x\r\nSet-Cookie: a=b"), None),
            ],
        ),
        judges(
            row("4.1-no-upgrade", "An answer without Upgrade: websocket fails the connection."),
            &[
                ("no Upgrade", |a| line(a, "Upgrade", ""), Some("no Upgrade header")),
                (
                    "`Upgrade: h2c`",
                    |a| line(a, "Upgrade", "Upgrade: h2c"),
                    Some("not to websocket"),
                ),
                ("two of them", |a| line(a, "", "Upgrade: h2c"), Some("two Upgrade headers")),
            ],
        ),
        judges(
            row("4.1-no-connection", "An answer without Connection: Upgrade fails the connection."),
            &[
                ("no Connection", |a| line(a, "Connection", ""), Some("no Connection: Upgrade")),
                (
                    "`Connection: close`",
                    |a| line(a, "Connection", "Connection: close"),
                    Some("no Connection: Upgrade"),
                ),
            ],
        ),
        judges(
            row(
                "4.1-accept",
                "An answer without the Accept that belongs to the key fails the connection.",
            ),
            &[
                (
                    "no Accept",
                    |a| line(a, "Sec-WebSocket-Accept", ""),
                    Some("no Sec-WebSocket-Accept header"),
                ),
                (
                    "the example's Accept",
                    |a| {
                        let other = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
                        line(a, "Sec-WebSocket-Accept", other)
                    },
                    Some("does not belong to our key"),
                ),
                (
                    "an empty one",
                    |a| line(a, "Sec-WebSocket-Accept", "Sec-WebSocket-Accept: "),
                    Some("does not belong to our key"),
                ),
                (
                    "one letter more",
                    |a| a.replace("Accept: ", "Accept: X"),
                    Some("does not belong to our key"),
                ),
            ],
        ),
        judges(
            row("4.1-accept-spaces", "Spaces around the Accept are no part of it."),
            &[(
                "two spaces before it, one behind",
                |a| {
                    let spaced = a.replace("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept:   ");
                    spaced.replace("=\r\n", "= \t\r\n")
                },
                None,
            )],
        ),
        judges(
            row("4.1-http", "An answer that is not HTTP/1.1 fails the connection."),
            &[
                (
                    "`HTTP/1.0 101`",
                    |a| first_line(a, "HTTP/1.0 101 Switching Protocols"),
                    Some("1.0"),
                ),
                ("`SSH-2.0-x`", |a| first_line(a, "SSH-2.0-x"), Some("not HTTP/1.1")),
                ("`HTTP/1.1 x`", |a| first_line(a, "HTTP/1.1 x"), Some("no right HTTP")),
                ("a line without a colon", |a| line(a, "", "no colon"), Some("no right HTTP")),
                ("a folded line", |a| line(a, "", " folded"), Some("no right HTTP")),
            ],
        ),
        row("4.1-late", "An answer that never comes ends at a deadline.")
            .own(CLIENT, &[WHOLE], |bench, _, cut| {
                let mut script = Script::new(Ours::Client, cut);
                script.limits = Limits::new().opening(0.2);
                script.opens = Some(Rc::new(|_| b"HTTP/1.1 101 Switch".to_vec()));
                let heard = bench.play(&script)?;
                same("opened", &heard.opened, &false)?;
                let codes: Vec<ErrorCode> = heard.failures.iter().map(|f| f.0).collect();
                same("failures", &codes, &vec![ErrorCode::ConnectFail])
            })
            .fed("`HTTP/1.1 101 Switch`, then silence; limit of 0.2 s")
            .expected("on_error(ConnectFail)"),
        row("4.1-data-behind", "Frames in one segment with the 101 are taken behind it.")
            .own(CLIENT, &[WHOLE, 1], |bench, _, cut| {
                let mut script = Script::new(Ours::Client, cut);
                script.opens = Some(Rc::new(|request| {
                    let frame = frame_to(Ours::Client, 0x81, b"early");
                    [accept_head(request).as_bytes(), &frame].concat()
                }));
                let heard = bench.play(&script)?;
                same("heard", &heard.events[0], &crate::row::text("early"))
            })
            .fed("a right 101 and text \"early\" at once")
            .expected("the session opens, then the message"),
    ]
}

fn agreed() -> Vec<Row> {
    vec![
        judges(
            row("4.1-extension", "An extension that was not asked for fails the connection."),
            &[
                (
                    "`Sec-WebSocket-Extensions: x-foo`",
                    |a| line(a, "", "Sec-WebSocket-Extensions: x-foo"),
                    Some("nobody asked for"),
                ),
                (
                    "`Sec-WebSocket-Extensions: permessage-deflate`",
                    |a| line(a, "", "Sec-WebSocket-Extensions: permessage-deflate"),
                    Some("nobody asked for"),
                ),
                (
                    "`Sec-WebSocket-Extensions: ;;`",
                    |a| line(a, "", "Sec-WebSocket-Extensions: ;;"),
                    Some("nobody asked for"),
                ),
            ],
        ),
        judges(
            row("4.1-subprotocol", "A subprotocol that was not asked for fails the connection."),
            &[(
                "`Sec-WebSocket-Protocol: chat`",
                |a| line(a, "", "Sec-WebSocket-Protocol: chat"),
                Some("was not asked for"),
            )],
        ),
        row(
            "4.1-subprotocol-chosen",
            "One of the subprotocols asked for is accepted, no other, and not two.",
        )
        .own(CLIENT, &[WHOLE, 1], |bench, _, cut| {
            for (answer, opened) in [
                ("", true),
                ("Sec-WebSocket-Protocol: superchat\r\n", true),
                ("Sec-WebSocket-Protocol: Chat\r\n", false),
                ("Sec-WebSocket-Protocol: chat, superchat\r\n", false),
                ("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n", false),
            ] {
                let mut script = Script::new(Ours::Client, cut);
                script.set_client = Some(Rc::new(|con| {
                    con.set_websocket_client_protocol("chat, superchat").expect("two names");
                }));
                script.opens = Some(Rc::new(move |request| {
                    let line = format!("\r\n{answer}\r\n");
                    accept_head(request).replace("\r\n\r\n", &line).into_bytes()
                }));
                let heard = bench.play(&script)?;
                let asked = one(&heard.head, "Sec-WebSocket-Protocol")?;
                same("asked", asked, "chat, superchat")?;
                same(answer, &heard.opened, &opened)?;
            }
            Ok(())
        })
        .fed("asked for `chat, superchat`; answered none, superchat, Chat, both, chat twice")
        .expected("the session opens for the first two, and fails for the others"),
    ]
}

fn refusals() -> Vec<Row> {
    const STATUS: &[(&str, Edit, Verdict)] = &[
        ("status 200", |_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".into(), Some("200 OK")),
        ("status 400", |_| "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n".into(), Some("400 Bad")),
        (
            "status 401",
            |_| "HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n".into(),
            Some("credentials"),
        ),
        (
            "status 302",
            |_| "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n".into(),
            Some("redirects are not followed"),
        ),
        (
            "status 426",
            |_| {
                let version = "Sec-WebSocket-Version: 14";
                format!("HTTP/1.1 426 Old\r\n{version}\r\nContent-Length: 0\r\n\r\n")
            },
            Some("426 Old"),
        ),
        ("status 503", |_| "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".into(), Some("503")),
    ];
    vec![judges(
        row("4.1-status", "Any other status than 101 is HTTP's answer, and no session opens."),
        STATUS,
    )]
}
