//! What only WebSocket connections have.
use super::callbacks::{
    WebsocketCallbacks, control, farewell, replace_websocket, request, response,
};
use super::flag;
use super::{Client, Connection, Role, Server};
use crate::{
    Error, Farewell, Interval, Outcome, Protocol, Request, Response, Sent, Websocket,
    WebsocketType, Ws,
};
use std::time::Duration;

pub use crate::protocols::websocket::WebsocketSession;

impl<P: Protocol, R: Role> Connection<P, R> {
    fn set_websocket_callback<C>(
        &self,
        place: impl FnOnce(&mut WebsocketCallbacks<P, R>) -> &mut Option<C>,
        new: C,
    ) {
        let old = self.with_slot(|_, slot| {
            slot.core.set(flag::RELOAD);
            let old = replace_websocket(&slot.callbacks, place, Some(new));
            slot.tell_wants();
            old
        });
        drop(old);
    }
}

impl<P: WebsocketSession, R: Role> Connection<P, R> {
    /// What `send` makes of every message, in this session and later ones; until it is called, each
    /// message's own kind decides. (Manual: websocketType.)
    pub fn set_websocket_type(&self, kind: WebsocketType) {
        self.with_slot(|_, slot| {
            slot.core.with_dialer(|dialer| dialer.opening.set_kind(Some(kind)));
            slot.ask(Farewell::Asked, |protocol, _| protocol.session_mut().set_kind(Some(kind)));
            if let Some(client) = &slot.client
                && let Ok(mut next) = client.next.try_borrow_mut()
                && let Some(next) = next.as_mut()
            {
                next.session_mut().set_kind(Some(kind));
            }
        });
    }

    /// What [`set_websocket_type`](Self::set_websocket_type) set.
    pub fn websocket_type(&self) -> Option<WebsocketType> {
        self.with_slot(|_, slot| {
            let of_session = slot.ask(Farewell::Asked, |p, _| p.session().kind());
            let of_opening = || slot.core.dialer().and_then(|dialer| dialer.opening.kind());
            of_session.and_then(|(kind, _)| kind).or_else(of_opening)
        })
        .flatten()
    }

    /// Close frame with this code and reason; `on_close` follows once the peer has answered or the
    /// closing deadline has passed. Codes: 1000 to 1014 as RFC 6455 §7.4 allows, or 3000 to 4999;
    /// the reason has at most 123 bytes. Otherwise a log line says so, and 1000 is sent.
    pub fn close_websocket(&self, code: u16, reason: &str) {
        let wrong = self.with_slot(|_, slot| {
            slot.ask(Farewell::Asked, |p, _| p.session_mut().set_close(code, reason).err())
        });
        if let Some(Some((Some(wrong), _))) = wrong {
            log::error!("{self:?}: close_websocket: {wrong}");
        }
        self.close();
    }

    /// In `on_close`: the peer's code, 1005 for a close frame without one, 1006 for none. `None`
    /// while the session is on, and where there was none.
    pub fn close_code(&self) -> Option<u16> {
        self.with_slot(|_, slot| {
            // In `on_close` a reconnect that was asked for is another stage already; the value of
            // the session that ended is there until that returns.
            let ended = slot.core.stage() != super::Stage::Open;
            let asked = slot.ask(Farewell::Asked, |p, _| p.session().close_code());
            match asked {
                Some((Some(code), _)) => Some(code),
                Some((None, _)) if ended => Some(1006),
                _ => None,
            }
        })
        .flatten()
    }

    /// Sends a ping of at most 125 bytes. Its answer comes to `on_websocket_pong`, and a client's
    /// `latency` tells how long it took.
    pub fn ping(&self, payload: &[u8]) -> Sent {
        self.with_slot(|lp, slot| {
            let sent = slot.send_control(lp, |protocol, out, cx| {
                protocol.session_mut().set_wants_pongs(true);
                protocol.put_ping(payload, out, cx)
            });
            if sent != Sent::Dropped {
                let now = lp.read_clock();
                slot.core.with_heartbeat(|beat| beat.asked(now, payload));
            }
            sent
        })
        .unwrap_or(Sent::Dropped)
    }

    /// Sends a pong that nobody asked for; the answer to each ping goes out by itself.
    pub fn pong(&self, payload: &[u8]) -> Sent {
        self.with_slot(|lp, slot| {
            slot.send_control(lp, |protocol, out, cx| protocol.put_pong(payload, out, cx))
        })
        .unwrap_or(Sent::Dropped)
    }

    /// A ping has come; its pong is on its way already. (RFC 6455 §5.5.2; manual:
    /// onWebSocketPing.)
    pub fn on_websocket_ping<O: Outcome>(&self, f: impl FnMut(Self, &[u8]) -> O + 'static) {
        self.set_websocket_callback(|callbacks| &mut callbacks.ping, control(f));
    }

    /// A pong has come: the answer to a [`ping`](Self::ping), also to the heartbeat's, or one that
    /// nobody asked for. (RFC 6455 §5.5.3; manual: onWebSocketPong.)
    pub fn on_websocket_pong<O: Outcome>(&self, f: impl FnMut(Self, &[u8]) -> O + 'static) {
        self.set_websocket_callback(|callbacks| &mut callbacks.pong, control(f));
    }

    /// The peer's close frame: code (1005 for none) and reason. Not called where it sent none, nor
    /// for its answer to ours.
    pub fn on_websocket_close<O: Outcome>(&self, f: impl FnMut(Self, u16, &str) -> O + 'static) {
        self.set_websocket_callback(|callbacks| &mut callbacks.farewell, farewell(f));
    }
}

impl Connection<Ws, Client> {
    /// Time between pings (25 s); 0 turns them off. It takes effect at once. (Manual:
    /// websocketPingInterval.)
    pub fn set_websocket_ping_interval(&self, every: impl Into<Interval>) {
        let every = every.into().duration();
        self.with_slot(|lp, slot| {
            slot.core.with_dialer(|dialer| dialer.pace.set_every(every));
            let now = lp.read_clock();
            slot.core.with_heartbeat(|beat| beat.set_every(now, every));
            slot.core.rearm(lp);
        });
    }

    /// How long the peer may stay silent after a ping before it counts as dead (20 s); 0 turns the
    /// check off.
    pub fn set_websocket_pong_timeout(&self, after: impl Into<Interval>) {
        let after = after.into().duration();
        self.with_slot(|lp, slot| {
            slot.core.with_dialer(|dialer| dialer.pace.set_timeout(after));
            slot.core.rearm(lp);
        });
    }

    /// Headers of the handshake, in this order and as they are written, in place of those set
    /// before; `Host` replaces the generated one. From the next opening on. (Manual: headers.)
    ///
    /// # Errors
    /// [`Error::Header`]: a name or value that HTTP forbids is refused here, never altered, and
    /// nothing is set.
    pub fn set_headers<N: AsRef<str>, V: AsRef<str>>(
        &self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Result<(), Error> {
        // Iterators of the program's own run here, under no borrow.
        let headers: Vec<(String, String)> = headers
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
            .collect();
        self.change_opening(|opening| opening.set_headers(headers))
    }

    /// The `Origin` header. From the next opening on.
    ///
    /// # Errors
    /// [`Error::Header`], as for [`set_headers`](Self::set_headers).
    pub fn set_websocket_origin(&self, origin: &str) -> Result<(), Error> {
        self.change_opening(|opening| opening.set_origin(origin))
    }

    /// Subprotocols to ask for, separated by commas. The server may choose one of them; another one
    /// fails the handshake.
    ///
    /// # Errors
    /// [`Error::Header`]: a name that is no token.
    pub fn set_websocket_client_protocol(&self, protocols: &str) -> Result<(), Error> {
        self.change_opening(|opening| opening.set_protocols(protocols))
    }

    /// Offers compression (permessage-deflate, RFC 7692); the server may decline. From the next
    /// opening on. An answer that was not offered fails the handshake.
    ///
    /// ```
    /// use workerman::prelude::*;
    /// use workerman::Deflate;
    ///
    /// # fn main() -> Result {
    /// let con = AsyncTcpConnection::<Ws>::new("ws://127.0.0.1:8080")?;
    /// con.set_websocket_deflate(Deflate::default());
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "deflate")]
    pub fn set_websocket_deflate(&self, deflate: crate::Deflate) {
        self.with_slot(|_, slot| {
            slot.core.with_dialer(|dialer| dialer.opening.set_deflate(deflate));
        });
    }

    fn change_opening(
        &self,
        change: impl FnOnce(&mut crate::protocols::websocket::Opening) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let changed =
            self.with_slot(|_, slot| slot.core.with_dialer(|dialer| change(&mut dialer.opening)));
        changed.flatten().unwrap_or(Ok(()))
    }

    /// Round trip of the latest answered ping, from its write to its pong's arrival.
    pub fn latency(&self) -> Option<Duration> {
        self.with_slot(|_, slot| slot.core.with_heartbeat(|beat| beat.latency)).flatten().flatten()
    }

    /// The handshake is complete: the server's 101, which prints as its head. What was sent before
    /// leaves ahead of what is sent here. (Manual: onWebSocketConnect.)
    pub fn on_websocket_connect<O: Outcome>(&self, f: impl FnMut(Self, &Response) -> O + 'static) {
        self.set_callback(|callbacks| &mut callbacks.opened, response(f));
    }
}

impl Connection<Websocket, Server> {
    /// The handshake is read and not yet answered: [`refuse`](Self::refuse) it, choose the
    /// subprotocol or add headers by [`set_headers`](Self::set_headers). `close()` answers 403, an
    /// `Err` 500. The request ends with the callback. (Manual: onWebSocketConnect.)
    pub fn on_websocket_connect<O: Outcome>(&self, f: impl FnMut(Self, &Request) -> O + 'static) {
        self.set_websocket_callback(|callbacks| &mut callbacks.upgrade, request(f));
    }

    /// The 101 is queued: what is sent from here on follows it. (Manual: onWebSocketConnected.)
    pub fn on_websocket_connected<O: Outcome>(&self, f: impl FnMut(Self, &Request) -> O + 'static) {
        self.set_websocket_callback(|callbacks| &mut callbacks.upgraded, request(f));
    }

    /// Inside `on_websocket_connect`: further lines of the 101; `Sec-WebSocket-Protocol` chooses
    /// one that the client offered.
    ///
    /// # Errors
    /// [`Error::Header`] for what HTTP forbids; [`Error::Command`] once the handshake is answered.
    pub fn set_headers<N: AsRef<str>, V: AsRef<str>>(
        &self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Result<(), Error> {
        // Iterators of the program's own run here, under no borrow.
        let headers: Vec<(String, String)> = headers
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
            .collect();
        let asked = self.with_slot(|_, slot| {
            slot.ask(Farewell::Asked, |protocol, _| protocol.set_headers(headers))
        });
        asked.flatten().map_or(Ok(()), |(set, _)| set)
    }

    /// Inside `on_websocket_connect`: this answer instead of the 101. One that cannot be sent
    /// becomes a 403, and a log line.
    pub fn refuse(&self, response: Response) {
        let asked = self.with_slot(|_, slot| {
            slot.ask(Farewell::Asked, |protocol, _| protocol.refuse(response))
        });
        if let Some(Some((Err(e), _))) = asked {
            log::error!("{self:?}: refuse: {e}");
        }
    }
}
