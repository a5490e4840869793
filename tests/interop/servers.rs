//! Our server under their clients.
use crate::peers::{Authority, Peer};
use std::sync::mpsc::{Receiver, channel};
use workerman::Running;
use workerman::prelude::*;

/// Echoes, closes when asked, and tells what farewells came.
fn echo(
    authority: Option<&Authority>,
    prepare: impl FnOnce(Worker<Websocket>) + Send + 'static,
) -> (Running, Receiver<String>) {
    let (farewells, received) = channel();
    let files = authority.map(|a| (a.file("server.pem"), a.file("server.key")));
    let server = workerman::spawn(move || {
        let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0")?;
        if let Some((certificate, key)) = files {
            worker.set_transport(Transport::Ssl);
            worker.set_tls(Tls::new().identity_files(certificate, key))?;
        }
        prepare(worker);
        worker.on_message(|con, data| match data {
            Data::Text("close me") => con.close_websocket(4003, "as you wish"),
            _ => drop(con.send(data)),
        });
        let sender = farewells.clone();
        worker.on_websocket_close(move |_, code, reason| {
            sender.send(format!("{code} {reason}"))?;
            Ok(())
        });
        worker.on_close(move |con| {
            farewells.send(format!("closed {:?}", con.close_code()))?;
            Ok(())
        });
        Ok(())
    });
    (server.expect("a port of loopback is free"), received)
}

fn driven_by(peer: Peer, tls: bool) {
    driven_with(peer, tls, |_| {});
}

/// The same by a worker that `prepare` has set up.
pub(crate) fn driven_with(
    peer: Peer,
    tls: bool,
    prepare: impl FnOnce(Worker<Websocket>) + Send + 'static,
) {
    let authority = tls.then(Authority::new);
    let (server, farewells) = echo(authority.as_ref(), prepare);
    let scheme = if tls { "wss" } else { "ws" };
    let ca = authority.as_ref().map(|a| a.folder.path("ca.pem"));
    peer.drive(&format!("{scheme}://127.0.0.1:{}/", server.addr().port()), ca.as_deref());
    server.stop().expect("nothing went wrong in its callbacks");
    // The first session was closed by us and answered, the second one by the client.
    let seen: Vec<String> = farewells.iter().collect();
    assert_eq!(seen, ["closed Some(4003)", "4002 done", "closed Some(4002)"]);
}

#[test]
fn python_drives_our_server_over_ws() {
    driven_by(Peer::Python, false);
}

#[test]
fn python_drives_our_server_over_wss() {
    driven_by(Peer::Python, true);
}

#[test]
fn node_drives_our_server_over_ws() {
    driven_by(Peer::Node, false);
}

#[test]
fn node_drives_our_server_over_wss() {
    driven_by(Peer::Node, true);
}
