//! TLS: its settings for both roles (PHP's `ssl` context array), and the stream that speaks it.
use crate::{Error, FailureKind};
use std::io;
use std::path::{Path, PathBuf};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
use std::sync::{Arc, OnceLock};

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
mod absent;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod failure;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod pem;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod settings;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod stream;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod verify;

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
pub(crate) use absent::{ClientSettings, ServerSettings, TlsStream, default_client};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub(crate) use settings::{ClientSettings, ServerSettings, default_client};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub(crate) use stream::TlsStream;

/// What lies under a protocol: PHP's `$connection->transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Transport {
    /// A bare socket.
    #[default]
    Tcp,
    /// TLS.
    Ssl,
}

/// TLS settings: PHP's `ssl` context array.
///
/// A client needs none: it trusts the roots that browsers trust, and the certificate must carry
/// the host of the address. A server needs its certificate and key.
///
/// Files are read when the settings are given to a worker or connection (or to
/// [`check`](Tls::check)); what is wrong with them is that call's `Err`. The client's side is
/// then kept with the value and its clones, so that a thousand connections read their files once
/// and resume each other's TLS sessions; a server's files are read each time they are given, so
/// giving them again is how a renewed certificate gets in.
///
/// ```no_run
/// use workerman::Tls;
///
/// # fn main() -> Result<(), workerman::Error> {
/// let server = Tls::new().identity_files("fullchain.pem", "privkey.pem");
/// let client = Tls::new().ca_file("our-ca.pem");
/// server.check()?;
/// client.check()?;
/// # Ok(()) }
/// ```
///
/// | PHP | here |
/// |---|---|
/// | `local_cert`, `local_pk` | [`Tls::identity`], [`Tls::identity_files`] |
/// | `cafile` | [`Tls::ca_file`] |
/// | `peer_name` | [`Tls::peer_name`] |
/// | `SNI_server_certs` | [`Tls::identity_for`] |
/// | `verify_peer` of a server | [`Tls::require_client_certs`] |
/// | `verify_peer => false` | [`Tls::danger_accept_invalid_certs`] |
/// | `passphrase` | decrypt the key once: `openssl pkey -in key.pem -out plain.pem` |
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    not(any(feature = "tls", feature = "tls-aws-lc")),
    expect(dead_code, reason = "without TLS the settings lead nowhere")
)]
pub struct Tls {
    identity: Option<Identity>,
    further: Vec<(String, Identity)>,
    ca_file: Option<PathBuf>,
    peer_name: Option<String>,
    accept_invalid: bool,
    client_ca: Option<PathBuf>,
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    client_config: Option<Arc<rustls::ClientConfig>>,
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    server_config: Option<Arc<rustls::ServerConfig>>,
    /// The client's side, made once for this value and its clones.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    made: Arc<OnceLock<Arc<ClientSettings>>>,
}

/// Where a certificate chain and its key are; both may be in one file.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(any(feature = "tls", feature = "tls-aws-lc")),
    expect(dead_code, reason = "without TLS the files are not read")
)]
struct Identity {
    chain: PathBuf,
    key: PathBuf,
}

impl Tls {
    /// No certificate of our own; of a server's, the public roots and the address' host are asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Certificate chain and key in one PEM file (`local_cert`): what a server shows, or a client
    /// that is asked for a certificate.
    pub fn identity(self, pem: impl AsRef<Path>) -> Self {
        let pem = pem.as_ref();
        self.identity_files(pem, pem)
    }

    /// As [`identity`](Tls::identity), in two PEM files (`local_cert` and `local_pk`).
    pub fn identity_files(self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        let identity = Some(Identity::new(chain.as_ref(), key.as_ref()));
        Tls { identity, ..self.altered() }
    }

    /// Client: trust the certificates in this file, and those they signed, instead of the public
    /// roots (`cafile`).
    pub fn ca_file(self, pem: impl AsRef<Path>) -> Self {
        Tls { ca_file: Some(pem.as_ref().to_path_buf()), ..self.altered() }
    }

    /// Client: the name that the certificate must carry, where it is not the address' host
    /// (`peer_name`).
    pub fn peer_name(self, name: &str) -> Self {
        Tls { peer_name: Some(name.to_string()), ..self.altered() }
    }

    /// Client: take any certificate, whoever signed it and whatever it names (`verify_peer =>
    /// false`, `allow_self_signed => true`). Whoever sits between can then read and change what
    /// is sent. For a server of your own use [`ca_file`](Tls::ca_file).
    pub fn danger_accept_invalid_certs(self) -> Self {
        Tls { accept_invalid: true, ..self.altered() }
    }

    /// Server: a further identity, chosen by the name that the client asks for (SNI). `host` may
    /// begin with `*.`, for one label. Other names get [`identity`](Tls::identity)'s certificate;
    /// without one they are refused.
    pub fn identity_for(mut self, host: &str, pem: impl AsRef<Path>) -> Self {
        let pem = pem.as_ref();
        self.further.push((host.to_string(), Identity::new(pem, pem)));
        self
    }

    /// Server: clients must show a certificate that these roots signed (`verify_peer => true`).
    pub fn require_client_certs(self, ca_pem: impl AsRef<Path>) -> Self {
        Tls { client_ca: Some(ca_pem.as_ref().to_path_buf()), ..self }
    }

    /// Client: a ready configuration, for what this builder does not offer. Of the rest only
    /// [`peer_name`](Tls::peer_name) goes with it.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    pub fn client_config(self, config: Arc<rustls::ClientConfig>) -> Self {
        Tls { client_config: Some(config), ..self.altered() }
    }

    /// Server: a ready configuration, for what this builder does not offer; nothing goes with it.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    pub fn server_config(self, config: Arc<rustls::ServerConfig>) -> Self {
        Tls { server_config: Some(config), ..self }
    }

    /// Reads every file that is named here.
    ///
    /// # Errors
    /// [`Error::Tls`] says what is wrong, and with which file.
    pub fn check(&self) -> Result<(), Error> {
        self.client()?;
        if self.is_for_servers() {
            self.server()?;
        }
        Ok(())
    }

    fn is_for_servers(&self) -> bool {
        #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
        if self.server_config.is_some() {
            return true;
        }
        self.identity.is_some() || !self.further.is_empty() || self.client_ca.is_some()
    }

    /// What was made of the earlier settings no longer holds.
    fn altered(self) -> Self {
        Tls {
            #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
            made: Arc::default(),
            ..self
        }
    }
}

impl Identity {
    fn new(chain: &Path, key: &Path) -> Self {
        Identity { chain: chain.to_path_buf(), key: key.to_path_buf() }
    }
}

/// Why a TLS connection could not be opened, or ended.
#[derive(Debug)]
pub(crate) struct TlsFailure {
    pub(crate) kind: FailureKind,
    /// In words, with the remedy where there is one.
    pub(crate) reason: String,
    /// What the system said, where it said something.
    pub(crate) io: Option<io::Error>,
}

impl TlsFailure {
    fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        TlsFailure { kind, reason: reason.into(), io: None }
    }

    pub(super) fn of_socket(error: io::Error) -> Self {
        TlsFailure { kind: FailureKind::Reset, reason: error.to_string(), io: Some(error) }
    }

    pub(super) fn twice() -> Self {
        Self::new(FailureKind::Tls, "the connection speaks TLS already")
    }
}

#[cfg(all(test, any(feature = "tls", feature = "tls-aws-lc")))]
mod tests;
