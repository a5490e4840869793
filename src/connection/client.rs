//! What only a client has: its address, its opening, its next session.
use super::callbacks::Callbacks;
use super::core::{Core, Settings, Stage};
use super::dial::Dialer;
use super::flag;
use super::slot::{ClientSide, Slot};
use super::{Client, Connection, warn_stale};
use crate::events::with_loop;
use crate::protocols::{Target, Terms};
use crate::transport::ClientAddress;
use crate::{Dial, Error, Interval, Limits, Protocol, Tls, Transport};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

// The bounds stand at the function: so a type that is no client's is told what to write.
impl<P: Protocol> Connection<P, Client> {
    /// A client for `scheme://host:port/path`: the scheme is `P`'s (for `Ws` also `wss`), `tcp`,
    /// `ssl` or `unix`. Nothing is dialled before [`connect`](Self::connect). (Manual:
    /// AsyncTcpConnection::__construct.)
    ///
    /// # Errors
    /// [`Error::Address`] names the part that is wrong, and what to write instead.
    ///
    /// ```
    /// use workerman::prelude::*;
    ///
    /// assert!(AsyncTcpConnection::<Ws>::new("wss://example.com/feed").is_ok());
    /// let e = AsyncTcpConnection::<Ws>::new("websocket://example.com").unwrap_err();
    /// assert!(e.to_string().contains("ws://"));
    /// ```
    pub fn new(address: &str) -> Result<Self, Error>
    where
        P: Dial + Default,
    {
        Self::new_with(address, P::default)
    }
}

impl<P: Dial> Connection<P, Client> {
    /// For protocols that need settings: `make` is called for each session, and for the next one
    /// when something is sent ahead of it.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn new_with(address: &str, make: impl Fn() -> P + 'static) -> Result<Self, Error> {
        let address = ClientAddress::parse(address, P::NAME, P::SECURE)?;
        let limits = Limits::shared();
        let mut flags = flag::CLIENT;
        if limits.idle != std::time::Duration::MAX {
            flags |= flag::WATCH_INPUT;
        }
        let terms = Terms { limits, remote_host: address.host.clone() };
        let settings = Settings { terms, owner: None };
        let side = ClientSide {
            make: Box::new(move |made, core| {
                let mut protocol = made.unwrap_or_else(&make);
                tell_address(&mut protocol, core);
                protocol
            }),
            next: RefCell::new(None),
        };
        let dialer = Box::new(Dialer::new(address));
        let key = with_loop(|lp| {
            let id = lp.next_id();
            lp.insert_with(|key| {
                let core = Core::new(key, id, flags, Stage::Initial, Rc::new(settings));
                core.with_rare(|rare| rare.dialer = Some(dialer));
                let callbacks = Rc::new(Callbacks::default());
                Rc::new(Slot::<P, Client>::new(core, None, callbacks, Some(Box::new(side))))
            })
        });
        match key {
            Some(key) => Ok(Connection::of(key)),
            None => Err(Error::command("a connection cannot be made while its thread ends")),
        }
    }

    /// Dials in the next turn; errors always come from the loop. While it is connecting or
    /// connected it does nothing. (Manual: AsyncTcpConnection::connect.)
    pub fn connect(&self) {
        if self.with_slot(|lp, slot| slot.connect(lp)).is_none() {
            warn_stale("connect");
        }
    }

    /// Connects again after so long, with the same handle, callbacks, settings and user data; the
    /// protocol begins afresh. Called again before it dials, the last call wins; `close` cancels
    /// it. On an open connection: closes it first. (Manual: AsyncTcpConnection::reconnect.)
    ///
    /// Seconds or a `Duration`; negative and NaN count as 0. 0 dials in the next turn.
    ///
    /// Call it inside `on_close` (or `on_error`): when `on_close` has returned without it the
    /// handle has ended, and a later call only logs a warning.
    ///
    /// ```
    /// use workerman::prelude::*;
    ///
    /// let con = AsyncTcpConnection::<Ws>::new("ws://127.0.0.1:1234")?;
    /// let mut wait = 0.5;
    /// con.on_close(move |con| {
    ///     wait = f64::min(wait * 2.0, 30.0);
    ///     con.reconnect(wait);
    /// });
    /// # Ok::<(), workerman::Error>(())
    /// ```
    pub fn reconnect(&self, after: impl Into<Interval>) {
        let after = after.into().duration();
        if self.with_slot(|lp, slot| slot.reconnect(lp, after)).is_none() {
            warn_stale("reconnect");
        }
    }

    /// Takes a reconnect back. The handle is then as `new` made it: `connect` dials, `close` ends
    /// it.
    pub fn cancel_reconnect(&self) {
        self.with_slot(|lp, slot| slot.cancel_reconnect(lp));
    }

    /// [`Transport::Ssl`] makes `ws://host` mean what `wss://host` does. From the next opening on.
    pub fn set_transport(&self, transport: Transport) {
        self.with_slot(|_, slot| {
            slot.core.with_dialer(|dialer| dialer.secure = transport == Transport::Ssl);
        });
    }

    /// TLS settings for the next opening: PHP's `ssl` context array. They do not turn TLS on; the
    /// address or [`set_transport`](Self::set_transport) does.
    ///
    /// # Errors
    /// [`Error::Tls`]: a file that cannot be read or used, by its name.
    pub fn set_tls(&self, tls: Tls) -> Result<(), Error> {
        let client = tls.client()?;
        let old = self.with_slot(|_, slot| {
            slot.core.with_dialer(|dialer| dialer.tls.replace(client)).flatten()
        });
        drop(old);
        Ok(())
    }

    /// The local address to dial from (`socket.bindto`). From the next opening on.
    pub fn bind_to(&self, local: SocketAddr) {
        self.with_slot(|_, slot| {
            slot.core.with_dialer(|dialer| dialer.bind_to = Some(Box::new(local)))
        });
    }

    /// The host of the address; empty on a stale handle.
    pub fn remote_host(&self) -> String {
        self.with_slot(|_, slot| slot.core.settings().terms.remote_host.to_string())
            .unwrap_or_default()
    }

    /// Path and query of the address: PHP's `getRemoteURI`.
    pub fn remote_uri(&self) -> String {
        let uri = self.with_slot(|_, slot| {
            slot.core.dialer().map(|dialer| dialer.address.path.to_string()).unwrap_or_default()
        });
        uri.unwrap_or_default()
    }
}

/// What the address says beside host and port.
fn tell_address<P: Dial>(protocol: &mut P, core: &Core) {
    let told = core.dialer().map(|dialer| {
        let address = &dialer.address;
        let host = address.host_header(dialer.secure);
        (host, address.path.clone(), address.userinfo.clone(), dialer.opening.clone())
    });
    if let Some((host, path, userinfo, opening)) = told {
        protocol.address(&Target {
            host: &host,
            path: &path,
            userinfo: userinfo.as_deref(),
            opening: &opening,
        });
    }
}
