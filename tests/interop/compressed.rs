//! permessage-deflate with those who have it: both turn it on by themselves where it is offered.
use crate::clients::conversation_with;
use crate::peers::Peer;
use crate::servers::driven_with;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::channel;
use workerman::Deflate;

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// The usual one, one that remembers nothing, and one with small windows.
fn settings() -> [Deflate; 3] {
    let usual = Deflate::new().threshold(0);
    let forgetful = usual.server_no_context_takeover(true).client_no_context_takeover(true);
    let small = usual.server_no_context_takeover(false).client_no_context_takeover(false);
    let small = small.server_max_window_bits(10).and_then(|d| d.client_max_window_bits(9));
    [usual, forgetful, small.expect("windows")]
}

fn client_with(peer: Peer, path: &str) {
    for deflate in settings() {
        let agreed = Rc::new(RefCell::new(String::new()));
        let to = agreed.clone();
        conversation_with(peer, path, None, move |con, log| {
            con.set_websocket_deflate(deflate);
            let log = log.clone();
            con.on_websocket_connect(move |_, response| {
                log.borrow_mut().push(format!("open {}", response.status()));
                to.replace(response.header(EXTENSIONS).unwrap_or_default().to_owned());
            });
        });
        let agreed = agreed.take();
        assert!(agreed.starts_with("permessage-deflate"), "{peer:?} has agreed on {agreed:?}");
    }
}

fn server_with(peer: Peer) {
    for deflate in settings() {
        let (tell, told) = channel();
        driven_with(peer, false, move |worker| {
            worker.set_websocket_deflate(deflate);
            worker.on_websocket_connect(move |_, request| {
                tell.send(request.header(EXTENSIONS).unwrap_or_default().to_owned())?;
                Ok(())
            });
        });
        let offered = told.recv().expect("it has connected");
        assert!(offered.starts_with("permessage-deflate"), "{peer:?} offers {offered:?}");
    }
}

#[test]
fn python_echoes_what_we_compress() {
    client_with(Peer::Python, "/");
    client_with(Peer::Python, "/fragments");
}

#[test]
fn node_echoes_what_we_compress() {
    client_with(Peer::Node, "/");
    client_with(Peer::Node, "/fragments");
}

#[test]
fn python_drives_our_compressing_server() {
    server_with(Peer::Python);
}

#[test]
fn node_drives_our_compressing_server() {
    server_with(Peer::Node);
}
