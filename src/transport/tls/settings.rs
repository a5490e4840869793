//! What the settings become: rustls' configurations, with the provider always named.
use super::{Identity, Tls, pem, verify};
use crate::Error;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

/// A client's side, ready; its TLS sessions are remembered here, so that a reconnect resumes.
#[derive(Debug)]
pub(crate) struct ClientSettings {
    pub(super) config: Arc<ClientConfig>,
    /// Instead of the address' host.
    pub(super) peer_name: Option<ServerName<'static>>,
}

/// A server's side, ready.
#[derive(Debug)]
pub(crate) struct ServerSettings {
    pub(super) config: Arc<ServerConfig>,
}

thread_local! {
    static DEFAULT: RefCell<Option<Arc<ClientSettings>>> = const { RefCell::new(None) };
}

/// What a client without settings uses: one for all of a thread, so that they share their sessions.
pub(crate) fn default_client() -> Result<Arc<ClientSettings>, Error> {
    let known = DEFAULT.try_with(|default| default.borrow().clone()).ok().flatten();
    if let Some(settings) = known {
        return Ok(settings);
    }
    let config = client_config(public_roots()?, None)?;
    let settings = Arc::new(ClientSettings { config: Arc::new(config), peer_name: None });
    // While the thread's locals are torn down there is nothing to remember it in.
    let _ = DEFAULT.try_with(|default| default.replace(Some(settings.clone())));
    Ok(settings)
}

impl Tls {
    /// The client's side; reads the files the first time.
    pub(crate) fn client(&self) -> Result<Arc<ClientSettings>, Error> {
        if let Some(made) = self.made.get() {
            return Ok(made.clone());
        }
        let settings = self.make_client()?;
        Ok(self.made.get_or_init(|| settings).clone())
    }

    fn make_client(&self) -> Result<Arc<ClientSettings>, Error> {
        let peer_name = self.peer_name.as_deref().map(server_name).transpose()?;
        if let Some(config) = self.client_config.clone() {
            if self.ca_file.is_some() || self.identity.is_some() || self.accept_invalid {
                return Err(Error::tls(
                    "client_config brings its own roots, identity and verifier: of the other \
                     settings only peer_name goes with it",
                ));
            }
            return Ok(Arc::new(ClientSettings { config, peer_name }));
        }
        let verifier: Arc<dyn ServerCertVerifier> = match (&self.ca_file, self.accept_invalid) {
            (Some(_), true) => {
                return Err(Error::tls(
                    "ca_file and danger_accept_invalid_certs contradict each other: leave out \
                     danger_accept_invalid_certs",
                ));
            }
            (Some(file), false) => verify::against(pem::roots(file)?)?,
            (None, true) => verify::nothing(),
            (None, false) => public_roots()?,
        };
        let identity = match &self.identity {
            Some(files) => Some(pem::identity(files, provider())?),
            None => None,
        };
        let config = Arc::new(client_config(verifier, identity)?);
        Ok(Arc::new(ClientSettings { config, peer_name }))
    }

    /// The server's side; reads the files each time.
    pub(crate) fn server(&self) -> Result<Arc<ServerSettings>, Error> {
        let own = self.identity.is_some() || !self.further.is_empty() || self.client_ca.is_some();
        if let Some(config) = self.server_config.clone() {
            if own {
                return Err(Error::tls(
                    "server_config brings its own certificates: none of the other settings \
                     goes with it",
                ));
            }
            return Ok(Arc::new(ServerSettings { config }));
        }
        if self.identity.is_none() && self.further.is_empty() {
            return Err(Error::tls(
                "a server needs a certificate and its key: \
                 Tls::new().identity_files(\"fullchain.pem\", \"privkey.pem\")",
            ));
        }
        let identities = Identities::read(self.identity.as_ref(), &self.further)?;
        let builder = ServerConfig::builder_with_provider(provider().clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(pem::roots(file)?, provider().clone())
                    .build()
                    .map_err(|e| Error::tls(format!("{}: {e}", file.display())))?,
            ),
        };
        let mut config = builder.with_cert_resolver(Arc::new(identities));
        // The client keeps the session, encrypted by a key of this process: nothing to store here.
        config.ticketer = ticketer().map_err(unusable)?;
        Ok(Arc::new(ServerSettings { config: Arc::new(config) }))
    }
}

pub(super) fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    // The DNS' absolute form; certificates do not have it.
    let plain = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(plain.to_string())
        .map_err(|_| Error::tls(format!("`{name}` is no name that a certificate can carry")))
}

/// Named wherever it is needed and never installed for the process: that is the program's to do.
pub(super) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        #[cfg(feature = "tls-aws-lc")]
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        #[cfg(not(feature = "tls-aws-lc"))]
        let provider = rustls::crypto::ring::default_provider();
        Arc::new(provider)
    })
}

fn ticketer() -> Result<Arc<dyn rustls::server::ProducesTickets>, rustls::Error> {
    #[cfg(feature = "tls-aws-lc")]
    return rustls::crypto::aws_lc_rs::Ticketer::new();
    #[cfg(not(feature = "tls-aws-lc"))]
    rustls::crypto::ring::Ticketer::new()
}

/// Mozilla's list, as it was when this was built: the same on every machine, also in an empty
/// container.
fn public_roots() -> Result<Arc<dyn ServerCertVerifier>, Error> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS
        .get_or_init(|| Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }));
    verify::against(roots.clone())
}

fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
    })
}

fn unusable(error: rustls::Error) -> Error {
    Error::tls(format!("the TLS library cannot be used: {error}"))
}

/// Which certificate a server shows, by the name that the client asks for.
#[derive(Debug)]
struct Identities {
    /// Lower case; may begin with `*.`.
    named: Vec<(String, Arc<CertifiedKey>)>,
    /// For clients that ask for another name, or for none.
    other: Option<Arc<CertifiedKey>>,
}

impl Identities {
    fn read(other: Option<&Identity>, further: &[(String, Identity)]) -> Result<Self, Error> {
        let other = other.map(|files| pem::identity(files, provider())).transpose()?;
        let mut named = Vec::with_capacity(further.len());
        for (host, files) in further {
            let identity = pem::identity(files, provider())?;
            let example = host.replacen("*.", "any.", usize::from(host.starts_with("*.")));
            let name = server_name(&example)?;
            let carries = identity
                .end_entity_cert()
                .and_then(ParsedCertificate::try_from)
                .and_then(|certificate| rustls::client::verify_server_name(&certificate, &name));
            if let Err(e) = carries {
                return Err(Error::tls(format!(
                    "identity_for(\"{host}\", …): the certificate in {} is not for that name: {e}",
                    files.chain.display()
                )));
            }
            named.push((host.to_ascii_lowercase(), identity));
        }
        Ok(Identities { named, other })
    }

    fn of(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let exact = self.named.iter().find(|(host, _)| *host == name);
        let wild = || {
            self.named.iter().find(|(host, _)| {
                host.strip_prefix("*.").is_some_and(|domain| Some(domain) == parent)
            })
        };
        exact.or_else(wild).map(|(_, identity)| identity)
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.of(name));
        named.or(self.other.as_ref()).cloned()
    }
}
