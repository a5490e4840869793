//! §1.3, §4.2, §4.4, §10.2: what our server makes of a request.
use crate::play::{Bench, Leave, Script, WHOLE, usual_request};
use crate::row::{Row, row, same};
use crate::support::endpoint::{Ours, frame_to};
use std::rc::Rc;
use workerman::prelude::*;

/// The usual request with this line in place of the one that begins so (or as a further one).
fn with(lines: &[(&str, &str)]) -> String {
    let mut request: Vec<String> =
        usual_request().trim_end().split("\r\n").map(String::from).collect();
    for (begins, line) in lines {
        let place = request.iter().position(|old| !begins.is_empty() && old.starts_with(begins));
        match (place, line.is_empty()) {
            (Some(at), true) => drop(request.remove(at)),
            (Some(at), false) => request[at] = line.to_string(),
            (None, _) => request.push(line.to_string()),
        }
    }
    request.join("\r\n") + "\r\n\r\n"
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

type SetServer = Rc<dyn Fn(TcpConnection<Websocket>, &Request)>;

/// Plays the request; the head of the answer.
fn asked(
    bench: &Bench,
    cut: usize,
    request: &str,
    status: &str,
    set: Option<SetServer>,
) -> Result<String, String> {
    let mut script = Script::new(Ours::Server, cut);
    let bytes = request.as_bytes().to_vec();
    script.opens = Some(Rc::new(move |_| bytes.clone()));
    script.set_server = set;
    let heard = bench.play(&script)?;
    let line = heard.head.lines().next().unwrap_or("");
    same("begins with the status", &line.split(' ').nth(1).unwrap_or(""), &status)?;
    same("opened", &heard.opened, &(status == "101"))?;
    if status == "101" {
        same("failures", &heard.failures.len(), &0)?;
        same("frames", &heard.frames.len(), &1)?;
    } else {
        same("frames", &heard.frames.len(), &0)?;
    }
    Ok(heard.head)
}

type Lines = &'static [(&'static str, &'static str)];

/// Each of these requests gets this answer, which has these headers.
fn answers(row: Row, status: &'static str, requests: &'static [Lines], has: Lines) -> Row {
    let shown: Vec<String> = requests
        .iter()
        .map(|lines| {
            let lines = lines.iter().map(|(begins, line)| match *line {
                "" => format!("no {begins}"),
                line => line.to_string(),
            });
            let lines = lines.collect::<Vec<_>>().join(", ");
            if lines.is_empty() { "nothing else".into() } else { lines }
        })
        .collect();
    let has_shown: Vec<String> =
        has.iter().map(|(name, value)| format!(", {name}: {value}")).collect();
    row.own(&[Ours::Server], &[WHOLE, 1], move |bench, _, cut| {
        for lines in requests {
            let request = with(lines);
            let head = asked(bench, cut, &request, status, None)
                .map_err(|wrong| format!("{request:?}: {wrong}"))?;
            for (name, value) in has {
                same(name, &header(&head, name), &Some(*value))?;
            }
        }
        Ok(())
    })
    .times(requests.len())
    .fed(&format!("`{}`", shown.join("` / `").escape_default().to_string().replace("\\'", "'")))
    .expected(&format!("{status}{}", has_shown.concat()))
}

pub(crate) fn rows() -> Vec<Row> {
    [request(), answer(), versions(), origins()].into_iter().flatten().collect()
}

const ACCEPTED: Lines = &[
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
];

fn request() -> Vec<Row> {
    let refuses = |id, says, requests| answers(row(id, says), "400", requests, &[]);
    let takes = |id, says, requests| answers(row(id, says), "101", requests, ACCEPTED);
    vec![
        takes("1.3-example", "The example's key gets the example's answer.", &[&[]]),
        answers(
            row("4.2.1-get", "The handshake is a GET request."),
            "405",
            &[&[("GET", "POST /chat HTTP/1.1")], &[("GET", "HEAD /chat HTTP/1.1")]],
            &[("Allow", "GET")],
        ),
        refuses(
            "4.2.1-version-of-http",
            "The handshake is of HTTP/1.1 at least.",
            &[&[("GET", "GET /chat HTTP/1.0")], &[("GET", "GET /chat HTTP/0.9")]],
        ),
        refuses(
            "4.2.1-target",
            "The request's target is a path.",
            &[&[("GET", "GET chat HTTP/1.1")]],
        ),
        refuses(
            "4.2.1-host",
            "A Host header is needed, once.",
            &[&[("Host", "")], &[("", "Host: other")]],
        ),
        refuses(
            "4.2.1-upgrade",
            "An Upgrade header that names websocket is needed.",
            &[
                &[("Upgrade", "")],
                &[("Upgrade", "Upgrade: h2c")],
                &[("Upgrade", "Upgrade: websockets")],
            ],
        ),
        takes(
            "4.2.1-upgrade-case",
            "Upgrade names websocket in any case of letters, perhaps among others.",
            &[&[("Upgrade", "UPGRADE: WebSocket")], &[("Upgrade", "Upgrade: h2c, websocket")]],
        ),
        refuses(
            "4.2.1-connection",
            "A Connection header that names Upgrade is needed.",
            &[
                &[("Connection", "")],
                &[("Connection", "Connection: keep-alive")],
                &[("Connection", "Connection: upgraded")],
            ],
        ),
        takes(
            "4.2.1-connection-case",
            "Connection names Upgrade in any case of letters, perhaps among others.",
            &[
                &[("Connection", "Connection: keep-alive, upgrade")],
                &[("Connection", "connection: UPGRADE")],
                &[("Connection", "Connection: keep-alive"), ("", "Connection: Upgrade")],
            ],
        ),
        refuses(
            "4.2.1-key",
            "A Sec-WebSocket-Key of 16 octets in base64 is needed, once.",
            &[
                &[("Sec-WebSocket-Key", "")],
                &[("Sec-WebSocket-Key", "Sec-WebSocket-Key: ")],
                &[("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j")],
                &[("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXM=")],
                &[("Sec-WebSocket-Key", "Sec-WebSocket-Key: the*sample*nonce********==")],
                &[("", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")],
            ],
        ),
        takes(
            "4.2.1-others",
            "Headers that a server does not know are let pass.",
            &[
                &[("", "X-Custom: 1"), ("", "Cookie: a=b")],
                &[("", "Sec-WebSocket-Protocol: chat, superchat")],
                &[("", "Sec-WebSocket-Extensions: x-unknown; a=1, permessage-nothing")],
            ],
        ),
        takes(
            "4.2.1-any-order",
            "Headers come in any order and in any case.",
            &[&[
                ("Host", "sec-websocket-version: 13"),
                ("Sec-WebSocket-Version", "host: 127.0.0.1"),
            ]],
        ),
        refuses(
            "4.2.1-body",
            "A request with a body is none.",
            &[&[("", "Content-Length: 5")], &[("", "Transfer-Encoding: chunked")]],
        ),
        refuses(
            "4.2.1-malformed",
            "What is no HTTP is refused.",
            &[
                &[("GET", "GET /chat")],
                &[("GET", "\u{16}\u{3}\u{1}")],
                &[("", "no colon")],
                &[("", " folded: yes")],
            ],
        ),
    ]
}

fn answer() -> Vec<Row> {
    let server = &[Ours::Server];
    vec![
        row("4.2.2-nothing-more", "The 101 names no extension or subprotocol that was not agreed.")
            .own(server, &[WHOLE, 1], |bench, _, cut| {
                let request = with(&[
                    ("", "Sec-WebSocket-Protocol: chat"),
                    ("", "Sec-WebSocket-Extensions: x-unknown"),
                ]);
                let head = asked(bench, cut, &request, "101", None)?;
                same("a protocol", &header(&head, "Sec-WebSocket-Protocol"), &None)?;
                same("an extension", &header(&head, "Sec-WebSocket-Extensions"), &None)
            })
            .fed("`Sec-WebSocket-Protocol: chat`, `Sec-WebSocket-Extensions: x-unknown`")
            .expected("101 with neither header"),
        row("4.2.2-subprotocol", "A subprotocol is one of those that the client offered.")
            .own(server, &[WHOLE, 1], |bench, _, cut| {
                let request = with(&[("", "Sec-WebSocket-Protocol: chat, superchat")]);
                let set: SetServer = Rc::new(|con, _| {
                    let choose = |name| con.set_headers([("Sec-WebSocket-Protocol", name)]);
                    assert!(choose("other").is_err(), "nobody offered it");
                    choose("superchat").expect("it was offered");
                });
                let head = asked(bench, cut, &request, "101", Some(set))?;
                same("it", &header(&head, "Sec-WebSocket-Protocol"), &Some("superchat"))
            })
            .fed("`Sec-WebSocket-Protocol: chat, superchat`; we choose \"other\", then \"superchat\"")
            .expected("\"other\" is an error; 101, Sec-WebSocket-Protocol: superchat"),
        row("4.2.2-403", "The program may refuse: 403, or what it says.")
            .own(server, &[WHOLE, 1], |bench, _, cut| {
                let closes: SetServer = Rc::new(|con, _| con.close());
                asked(bench, cut, &with(&[]), "403", Some(closes))?;
                let refuses: SetServer =
                    Rc::new(|con, _| con.refuse(Response::new(404).with_body("no such chat")));
                asked(bench, cut, &with(&[]), "404", Some(refuses))?;
                let asks: SetServer = Rc::new(|con, _| {
                    let realm = ("WWW-Authenticate", "Basic realm=\"chat\"");
                    con.refuse(Response::new(401).with_headers([realm]));
                });
                let head = asked(bench, cut, &with(&[]), "401", Some(asks))?;
                same("it", &header(&head, "WWW-Authenticate").is_some(), &true)?;
                let leads: SetServer = Rc::new(|con, _| {
                    con.refuse(Response::new(302).with_header("Location", "/other"));
                });
                asked(bench, cut, &with(&[]), "302", Some(leads)).map(drop)
            })
            .fed("a right request; we: close(), refuse(404), refuse(401), refuse(302)")
            .expected("403, 404, 401, 302, and no session"),
        row("4.2.2-data-behind", "Frames in one segment with the request are taken behind it.")
            .own(server, &[WHOLE, 1], |bench, _, cut| {
                let mut script = Script::new(Ours::Server, cut);
                let mut bytes = usual_request().into_bytes();
                bytes.extend(frame_to(Ours::Server, 0x81, b"early"));
                script.opens = Some(Rc::new(move |_| bytes.clone()));
                let heard = bench.play(&script)?;
                same("heard", &heard.events[0], &crate::row::text("early"))
            })
            .fed("a right request and text \"early\" at once")
            .expected("101, then the message"),
        row("4.2.1-no-data-before", "Frames before the handshake are no request.")
            .own(server, &[WHOLE, 1], |bench, _, cut| {
                let mut script = Script::new(Ours::Server, cut);
                script.opens = Some(Rc::new(|_| frame_to(Ours::Server, 0x81, b"early")));
                script.leave = Leave::Waits;
                let heard = bench.play(&script)?;
                same("400", &heard.head.starts_with("HTTP/1.1 400 "), &true)?;
                same("heard", &heard.events, &Vec::new())
            })
            .fed("text \"early\"")
            .expected("400"),
        row("4.2.1-deadline", "A request that is never finished ends at a deadline.")
            .own(server, &[WHOLE], |bench, _, cut| {
                let mut script = Script::new(Ours::Server, cut);
                script.limits = workerman::Limits::new().opening(0.2);
                script.opens = Some(Rc::new(|_| b"GET /chat HTTP/1.1\r\n".to_vec()));
                let heard = bench.play(&script)?;
                same("opened", &heard.opened, &false)?;
                same("failures", &heard.failures.len(), &1)
            })
            .fed("`GET /chat HTTP/1.1⏎`, then silence; limit of 0.2 s")
            .expected("ended, on_error(SessionFail)"),
        row("10.4-head", "A head has limits of octets and of lines.")
            .own(server, &[WHOLE, 1], |bench, _, cut| {
                let long = format!("X: {}", "x".repeat(17_000));
                asked(bench, cut, &with(&[("", &long)]), "431", None)?;
                let many = vec![("", "X: y"); 101];
                asked(bench, cut, &with(&many), "431", None).map(drop)
            })
            .fed("a head of 17 KB; one of 106 lines")
            .expected("431"),
    ]
}

fn versions() -> Vec<Row> {
    let has: Lines = &[("Sec-WebSocket-Version", "13")];
    vec![answers(
        row("4.4-version", "Another version than 13, or none, is told which one it may be."),
        "426",
        &[
            &[("Sec-WebSocket-Version", "")],
            &[("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8")],
            &[("Sec-WebSocket-Version", "Sec-WebSocket-Version: 12")],
            &[("Sec-WebSocket-Version", "Sec-WebSocket-Version: 14")],
            &[("Sec-WebSocket-Version", "Sec-WebSocket-Version: 013")],
            &[("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8")],
            &[("", "Sec-WebSocket-Version: 8")],
        ],
        has,
    )]
}

fn origins() -> Vec<Row> {
    vec![
        answers(
            row("10.2-foreign", "A page of another host is refused with 403."),
            "403",
            &[
                &[("", "Origin: https://evil.example")],
                &[("", "Origin: null")],
                &[("", "Origin: http://127.0.0.1.evil.example")],
                &[("", "Origin: http://127.0.0.1"), ("", "Origin: http://127.0.0.1")],
            ],
            &[],
        ),
        answers(
            row(
                "10.2-own",
                "Pages of the server's own host may connect, and programs that are no pages.",
            ),
            "101",
            &[
                &[],
                &[("", "Origin: http://127.0.0.1")],
                &[("", "Origin: https://127.0.0.1:8443")],
                &[("", "Origin: http://localhost")],
            ],
            ACCEPTED,
        ),
        row("10.2-allowed", "The program may allow pages of others by name.")
            .own(&[Ours::Server], &[WHOLE, 1], |bench, _, cut| {
                let worker = bench.worker();
                worker.allow_origin("https://friend.example").map_err(|e| e.to_string())?;
                let friend = with(&[("", "Origin: https://friend.example")]);
                asked(bench, cut, &friend, "101", None)?;
                let other = with(&[("", "Origin: https://friend.example:444")]);
                asked(bench, cut, &other, "403", None).map(drop)
            })
            .fed("`Origin: https://friend.example`, which is allowed; the same with port 444")
            .expected("101; 403"),
        answers(
            row(
                "10.7-host",
                "A name of another host is refused on a loopback address (for pages).",
            ),
            "403",
            &[&[("Host", "Host: evil.example"), ("", "Origin: http://evil.example")]],
            &[],
        ),
    ]
}
