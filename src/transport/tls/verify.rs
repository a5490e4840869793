//! Whom a client believes. rustls' own rules decide; a self-signed certificate is told apart,
//! because its remedy is another one.
use super::settings::provider;
use crate::Error;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;
use std::{error, fmt};

/// The certificate must lead to one of these roots and carry the name.
pub(super) fn against(roots: Arc<RootCertStore>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let rules = WebPkiServerVerifier::builder_with_provider(roots, provider().clone())
        .build()
        .map_err(|e| Error::tls(format!("the roots of trust cannot be used: {e}")))?;
    Ok(Arc::new(Verify(rules)))
}

/// Any certificate will do. Its key must still have signed the handshake.
pub(super) fn nothing() -> Arc<dyn ServerCertVerifier> {
    Arc::new(AcceptAny)
}

#[derive(Debug)]
struct Verify(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Verify {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let error = match self.0.verify_server_cert(own, chain, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(error)) => error,
            result => return result,
        };
        let distrusted = match &error {
            CertificateError::UnknownIssuer => Some(Distrusted::SelfSigned),
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                Some(Distrusted::Authority)
            }
            _ => None,
        };
        match distrusted {
            Some(Distrusted::SelfSigned) if !is_self_signed(own) => Err(error.into()),
            Some(why) => Err(CertificateError::Other(OtherError(Arc::new(why))).into()),
            None => Err(error.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.0.root_hint_subjects()
    }
}

#[derive(Debug)]
struct AcceptAny;

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _own: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What rustls' errors do not tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distrusted {
    /// Signed by itself, and no root of trust.
    SelfSigned,
    /// May sign others, and so cannot stand for a server.
    Authority,
}

impl fmt::Display for Distrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Distrusted::SelfSigned => "self-signed and not trusted",
            Distrusted::Authority => "an authority's own certificate",
        })
    }
}

impl error::Error for Distrusted {}

/// Issuer and subject are the same: for the words of an error only, nothing is believed because
/// of it.
fn is_self_signed(certificate: &[u8]) -> bool {
    issuer_and_subject(certificate).is_some_and(|(issuer, subject)| issuer == subject)
}

/// RFC 5280 §4.1: `Certificate { tbs { [0] version?, serial, signature, issuer, validity, subject
/// … } … }`
fn issuer_and_subject(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(certificate)?;
    let (_, tbs, _) = element(certificate)?;
    let (tag, _, after) = element(tbs)?;
    let rest = if tag == VERSION { element(after)?.2 } else { after };
    let (_, _, rest) = element(rest)?;
    let (_, issuer, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (_, subject, _) = element(rest)?;
    Some((issuer, subject))
}

/// Tag, content and what follows, of a DER element of at most 64 KiB.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let length = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
            (usize::from(length), rest.get(2..)?)
        }
        _ => return None,
    };
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_bytes_are_no_certificate_and_no_panic() {
        for odd in [&b""[..], b"\x30", b"\x30\x82", b"\x30\x82\xff\xff\x00", b"\x30\x84\0\0\0\x01"]
        {
            assert!(!is_self_signed(odd));
        }
    }
}
