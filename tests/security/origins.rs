//! Whose pages may open WebSockets. A browser's own view of it is in `tests/interop/browser.rs`.
use crate::support::peers::start;
use crate::{status, upgrade};
use workerman::prelude::*;

#[test]
fn cve_2019_13209_a_page_of_another_host_opens_nothing() {
    // Also CVE-2021-1403 (CWE-1385): cookies come along whichever page connects.
    let (_worker, addr) = start::<Websocket>();
    for origin in [
        "https://evil.test",
        "http://127.0.0.1.evil.test",
        "http://evil.test#127.0.0.1",
        "https://127.0.0.1@evil.test",
        "null",
        "file://",
    ] {
        assert_eq!(status(addr, upgrade(&format!("Origin: {origin}\r\n"))), 403, "{origin}");
    }
}

#[test]
fn rustsec_2026_0189_a_name_that_was_made_to_lead_here_opens_nothing() {
    // Also RUSTSEC-2026-0140. DNS rebinding: the page is of the host that it asks for, and that
    // name is none of this machine's.
    let (_worker, addr) = start::<Websocket>();
    for name in ["evil.test", "evil.test:8080", "localhost.evil.test", "127.0.0.1.evil.test"] {
        let request = upgrade(&format!("Origin: http://{name}\r\n"));
        let request = request.replace("Host: 127.0.0.1", &format!("Host: {name}"));
        assert_eq!(status(addr, request), 403, "{name}");
    }
}
