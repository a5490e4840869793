//! Certificates and keys from PEM files; what is wrong names the file.
use super::Identity;
use crate::Error;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The certificates in a file as roots of trust.
pub(super) fn roots(file: &Path) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in certificates(file)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|e| {
            wrong(file, format!("certificate {} cannot be a root of trust: {e}", at + 1))
        })?;
    }
    Ok(Arc::new(roots))
}

/// A certificate chain and the key that belongs to it.
pub(super) fn identity(
    files: &Identity,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, Error> {
    let chain = certificates(&files.chain)?;
    let key = private_key(&files.key)?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|e| wrong(&files.key, format!("the key cannot be used: {e}")))?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        // Of a key that cannot say what its public half is, the handshake will tell.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok(Arc::new(identity))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(Error::tls(format!(
            "the key in {} is not the one of the first certificate in {}: \
             the server's own certificate comes first, those that signed it follow",
            files.key.display(),
            files.chain.display()
        ))),
        Err(e) => Err(wrong(&files.chain, format!("the certificate cannot be used: {e}"))),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(file)?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong(file, format!("not a PEM file: {e}")))?;
    if found.is_empty() {
        return Err(wrong(file, format!("no certificate in it; {}", hint(&text, "CERTIFICATE"))));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(file)?;
    if contains(&text, "ENCRYPTED PRIVATE KEY") || contains(&text, "Proc-Type: 4,ENCRYPTED") {
        return Err(wrong(
            file,
            format!(
                "the key is encrypted with a passphrase; decrypt it once: \
                 `openssl pkey -in {} -out plain.pem`",
                file.display()
            ),
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| match e {
        rustls::pki_types::pem::Error::NoItemsFound => {
            wrong(file, format!("no private key in it; {}", hint(&text, "PRIVATE KEY")))
        }
        e => wrong(file, format!("not a PEM file: {e}")),
    })
}

fn hint(text: &[u8], wanted: &str) -> String {
    match contains(text, "-----BEGIN ") {
        true => format!("a part `-----BEGIN {wanted}-----` is missing"),
        false => format!(
            "a PEM file has a line `-----BEGIN {wanted}-----`; \
             a binary one (DER) is turned into PEM by `openssl {} -inform der`",
            if wanted == "CERTIFICATE" { "x509" } else { "pkey" }
        ),
    }
}

fn contains(text: &[u8], wanted: &str) -> bool {
    text.windows(wanted.len()).any(|part| part == wanted.as_bytes())
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|e| Error::tls(format!("cannot read {}: {e}", file.display())))
}

fn wrong(file: &Path, reason: String) -> Error {
    Error::tls(format!("{}: {reason}", file.display()))
}
