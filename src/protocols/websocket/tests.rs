//! Two machines, a client and a server, talk from the first byte to the last.
use super::testing::*;
use super::*;
use crate::Limits;
use crate::protocols::testing::{Line, Seen, talk};
use crate::protocols::{Dial, Event, Target};

fn pair(opening: &Opening) -> (Line<Ws>, Line<Websocket>) {
    let mut ws = Ws::default();
    ws.address(&Target { host: "h.test", path: "/chat?room=1", userinfo: None, opening });
    let (mut client, mut server) = (Line::new(ws), Line::new(Websocket::default()));
    server.connect();
    client.connect();
    (client, server)
}

#[test]
fn a_whole_conversation_is_the_same_whatever_the_pieces() {
    for cut in [1, 2, 3, 5, 100, 100_000] {
        let (mut client, mut server) = pair(&Opening::default());
        client.send("before the handshake");
        server.send("from the first moment");
        talk(&mut client, &mut server, cut);
        client.send(&b"\0\xff"[..]);
        server.send("é".repeat(10_000));
        talk(&mut client, &mut server, cut);
        assert!(client.append(|ws, out, cx| ws.heartbeat(out, cx)));
        talk(&mut client, &mut server, cut);
        assert!(client.close());
        client.out.extend(frame(Role::Server, 0x81, b"behind the close frame"));
        server.send("too late");
        talk(&mut client, &mut server, cut);
        assert_eq!(
            server.seen,
            [
                Seen::Upgrade("/chat".into()),
                Seen::Upgraded,
                Seen::text("before the handshake"),
                Seen::binary(b"\0\xff"),
                Seen::closed(1000, "", true),
            ]
        );
        let [opened, first, second, Seen::Pong(pong), closed] = &client.seen[..] else {
            panic!("{client:?}")
        };
        assert_eq!(*opened, Seen::Opened(101));
        assert_eq!(*first, Seen::text("from the first moment"));
        assert_eq!(*second, Seen::Text("é".repeat(10_000)));
        assert_eq!(pong.len(), 8);
        assert_eq!(*closed, Seen::closed(1000, "", false));
        assert_eq!(client.protocol.session().close_code(), Some(1000));
    }
}

#[test]
fn both_may_close_at_once() {
    for cut in [1, 100] {
        let (mut client, mut server) = pair(&Opening::default());
        talk(&mut client, &mut server, cut);
        client.seen.clear();
        server.seen.clear();
        assert!(client.protocol.session_mut().set_close(4001, "client").is_ok());
        assert!(server.protocol.session_mut().set_close(4002, "server").is_ok());
        assert!(client.close() && server.close());
        talk(&mut client, &mut server, cut);
        assert_eq!(client.seen, [Seen::closed(4002, "server", false)]);
        assert_eq!(server.seen, [Seen::closed(4001, "client", false)]);
    }
}

#[test]
fn a_subprotocol_is_offered_and_chosen() {
    let mut opening = Opening::default();
    opening.set_protocols("v1, v2").expect("subprotocols");
    let (mut client, mut server) = pair(&opening);
    server.program = Some(Box::new(|websocket, event| {
        if let Event::Upgrade(head) = event {
            assert_eq!(head.request().get("room").as_deref(), Some("1"));
            let chosen = websocket.set_headers([("Sec-WebSocket-Protocol", "v2")]);
            chosen.expect("it was offered");
        }
    }));
    talk(&mut client, &mut server, 7);
    assert_eq!(client.seen, [Seen::Opened(101)]);
}

#[test]
fn a_refusal_of_the_server_is_the_clients_failure_with_its_body() {
    let (mut client, mut server) = pair(&Opening::default());
    server.program = Some(Box::new(|websocket, _| {
        let _ =
            websocket.refuse(Response::new(429).with_header("Retry-After", 9).with_body("slow"));
    }));
    talk(&mut client, &mut server, 1);
    let Some(Seen::Violation { text, refusal, .. }) = client.seen.pop() else { panic!() };
    assert!(text.contains("429 Too Many Requests") && text.contains("Retry-After: 9"), "{text}");
    assert_eq!(refusal, Some((429, b"slow".to_vec())));
    assert_eq!(server.seen.last(), Some(&Seen::CloseAsked));
}

#[test]
fn a_violation_is_told_to_the_peer_who_hears_it_as_a_close_frame() {
    let (mut client, mut server) = pair(&Opening::default());
    talk(&mut client, &mut server, 1000);
    server.limits = Limits::new().message_bytes(10);
    client.send("more than ten bytes");
    talk(&mut client, &mut server, 1000);
    assert_eq!(server.violation_code(), Some(1009));
    let Some(Seen::Closed { code: 1009, reason, first: true }) = client.seen.last() else {
        panic!("{client:?}")
    };
    assert!(reason.contains("Limits::message_bytes"), "{reason}");
}
