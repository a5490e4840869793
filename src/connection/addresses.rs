//! Where a connection's two ends are.
use super::core::Core;
use crate::events::Loop;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

impl Core {
    pub(crate) fn set_remote(&self, remote: Option<SocketAddr>) {
        match remote {
            Some(SocketAddr::V4(v4)) => {
                self.remote_v4.set(u64::from(u32::from(*v4.ip())) << 16 | u64::from(v4.port()));
            }
            _ => {
                self.remote_v4.set(0);
                if self.peek_rare(|rare| rare.remote).flatten() != remote {
                    self.with_rare(|rare| rare.remote = remote);
                }
            }
        }
    }

    pub(crate) fn remote_addr(&self) -> Option<SocketAddr> {
        match self.remote_v4.get() {
            0 => self.peek_rare(|rare| rare.remote).flatten(),
            v4 => {
                let ip = Ipv4Addr::from((v4 >> 16) as u32);
                Some(SocketAddr::V4(SocketAddrV4::new(ip, v4 as u16)))
            }
        }
    }

    pub(crate) fn local_addr(&self, _lp: &Loop) -> Option<SocketAddr> {
        let state = self.state.borrow();
        match &state.stream {
            Some(stream) => stream.local_addr(),
            None => state.rare.as_ref().and_then(|rare| rare.local),
        }
    }

    /// The same as an address: the path alone of a unix socket.
    pub(crate) fn remote_text(&self) -> String {
        let text = self.peer_text();
        text.strip_prefix("unix://").map(str::to_owned).unwrap_or(text)
    }

    /// For messages and for printing: where the peer is, or was to be.
    pub(crate) fn peer_text(&self) -> String {
        if let Some(remote) = self.remote_addr() {
            return remote.to_string();
        }
        let state = self.state.borrow();
        let Some(rare) = state.rare.as_deref() else { return String::new() };
        match (&rare.unix_path, &rare.dialer) {
            (Some(path), _) => format!("unix://{path}"),
            (None, Some(dialer)) => dialer.target_text(),
            (None, None) => String::new(),
        }
    }
}
