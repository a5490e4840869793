//! Addresses, from any text.
use super::address::{ClientAddress, ListenAddress};

/// What is refused says so; what is accepted can be said again.
pub fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (name, secure) in [("ws", Some("wss")), ("tcp", Some("ssl")), ("text", None)] {
        if let Ok(address) = ClientAddress::parse(&text, name, secure) {
            for secure in [false, true] {
                assert!(!address.host.is_empty() && !address.path.is_empty(), "{address:?}");
                let header = address.host_header(secure);
                let wild = |c: char| c.is_ascii_control() || c == ' ';
                assert!(!header.contains(wild) && !address.path.contains(wild), "{address:?}");
                assert!(!address.peer(secure).is_empty());
            }
        }
        let _ = ListenAddress::parse(&text, name);
    }
}
