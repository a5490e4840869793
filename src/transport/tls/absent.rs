//! The same names without TLS: every way to a TLS connection is an error that says what to enable.
use super::{Tls, TlsFailure};
use crate::Error;
use crate::transport::Socket;
use std::io::{self, IoSlice};
use std::sync::Arc;

const REMEDY: &str = "built without TLS: enable the feature `tls` of workerman (or `tls-aws-lc`)";

/// There is none.
#[derive(Debug)]
pub(crate) enum ClientSettings {}

/// There is none.
#[derive(Debug)]
pub(crate) enum ServerSettings {}

/// There is none.
#[derive(Debug)]
pub(crate) enum TlsStream {}

impl Tls {
    pub(crate) fn client(&self) -> Result<Arc<ClientSettings>, Error> {
        Err(Error::tls(REMEDY))
    }

    pub(crate) fn server(&self) -> Result<Arc<ServerSettings>, Error> {
        Err(Error::tls(REMEDY))
    }
}

pub(crate) fn default_client() -> Result<Arc<ClientSettings>, Error> {
    Err(Error::tls(REMEDY))
}

#[cfg(test)]
impl TlsStream {
    pub(crate) fn wants_write(&self) -> bool {
        match *self {}
    }
}

impl TlsStream {
    pub(crate) fn client(
        settings: &ClientSettings,
        _host: &str,
        _socket: Socket,
    ) -> Result<Self, TlsFailure> {
        match *settings {}
    }

    pub(crate) fn server(settings: &ServerSettings, _socket: Socket) -> Result<Self, TlsFailure> {
        match *settings {}
    }

    pub(crate) fn handshake(&mut self) -> Result<bool, TlsFailure> {
        match *self {}
    }

    pub(crate) fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn drained(&self) -> bool {
        match *self {}
    }

    pub(crate) fn has_unread(&self) -> bool {
        match *self {}
    }

    pub(crate) fn write_vectored(&mut self, _bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn flush_transport(&mut self) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn unflushed(&self) -> usize {
        match *self {}
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn failure(&self, _error: io::Error) -> TlsFailure {
        match *self {}
    }

    pub(crate) fn socket(&self) -> &Socket {
        match *self {}
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_every_use_names_the_feature() {
        let tls = Tls::new().ca_file("x").peer_name("y").danger_accept_invalid_certs();
        let errors = [
            tls.check().expect_err("no TLS"),
            tls.server().expect_err("no TLS"),
            default_client().expect_err("no TLS"),
        ];
        for error in errors {
            assert!(matches!(error, Error::Tls { .. }));
            assert!(error.to_string().contains("enable the feature `tls`"), "{error}");
        }
    }
}
