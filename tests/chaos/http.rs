//! HTTP: an oracle's message is a request's body, and an answer's. The client knows only bytes.
use crate::oracle::Who;
use crate::play::{Current, Run, serve, server, with_run};
use std::cell::RefCell;
use std::rc::Rc;
use workerman::prelude::*;

pub(crate) fn request(body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: chaos\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Takes the first whole answer: its status and body. `Err`: that is none.
fn answer(bytes: &mut Vec<u8>) -> Result<Option<(u16, Vec<u8>)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let field = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let (Some(status), Some(Ok(length))) = (status, field.map(str::parse::<usize>)) else {
        return Err(head);
    };
    let whole = end + 4 + length;
    if bytes.len() < whole {
        return Ok(None);
    }
    let body = bytes[end + 4..whole].to_vec();
    bytes.drain(..whole);
    Ok(Some((status, body)))
}

/// What the client does with what comes: each request has one answer, in order, or none.
pub(crate) fn hears(run: Rc<Run>, client: usize) -> impl Fn(AsyncTcpConnection<Tcp>, &[u8]) {
    let waiting: RefCell<(Option<Who>, Vec<u8>)> = RefCell::default();
    move |_, bytes| {
        let me = run.current(client);
        let mut waiting = waiting.borrow_mut();
        if waiting.0 != Some(me) {
            *waiting = (Some(me), Vec::new());
        }
        waiting.1.extend_from_slice(bytes);
        loop {
            match answer(&mut waiting.1) {
                Ok(None) => return,
                Ok(Some((200, body))) => run.client_heard(client, &body),
                // It took too long, and the server says so.
                Ok(Some((408, _))) => run.oracle.note(format!("{me:?}: 408")),
                other => {
                    run.oracle.with(|state| state.suspect(me, format!("{me:?}: {other:?}")));
                    waiting.1.clear();
                    return;
                }
            }
        }
    }
}

pub(crate) fn serve_http(worker: Worker<Http>, current: &Current) {
    serve(worker, current);
    let now = current.clone();
    worker.on_connect(move |con| {
        with_run(&now, |run| {
            run.oracle.connect(server(con));
            run.oracle.ready(server(con));
        });
    });
    let now = current.clone();
    worker.on_message(move |con, request| {
        with_run(&now, |run| {
            // Whoever asked what nobody can ask has no answer, and no connection.
            if !run.server_heard(con.any(), request.body()) {
                con.close();
            }
        });
    });
    let now = current.clone();
    worker.on_close(move |con| with_run(&now, |run| run.oracle.close(server(con), None)));
}
