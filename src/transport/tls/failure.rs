//! What went wrong with TLS, in words, and which option would mend it.
use super::TlsFailure;
use super::verify::Distrusted;
use crate::FailureKind;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use std::io;

/// Who we are in the session, and so who the other one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    fn peer(self) -> &'static str {
        match self {
            Side::Client => "server",
            Side::Server => "client",
        }
    }
}

/// An error of the session; `host` is who the certificate had to name.
pub(super) fn of_session(error: &Error, side: Side, host: &str) -> TlsFailure {
    match (error, side) {
        (Error::InvalidCertificate(error), Side::Client) => {
            TlsFailure::new(FailureKind::Certificate, server_certificate(error, host))
        }
        (Error::InvalidCertificate(error), Side::Server) => {
            let reason = format!("the client's certificate is not trusted: {error}");
            TlsFailure::new(FailureKind::Certificate, reason)
        }
        (Error::NoCertificatesPresented, Side::Server) => TlsFailure::new(
            FailureKind::Certificate,
            "the client showed no certificate, and the server's settings require one",
        ),
        (Error::AlertReceived(alert), _) => {
            TlsFailure::new(FailureKind::Tls, alert_received(*alert, side))
        }
        (Error::PeerIncompatible(why), _) => {
            TlsFailure::new(FailureKind::Tls, incompatible(why, side))
        }
        _ => TlsFailure::new(FailureKind::Tls, format!("the {} broke TLS: {error}", side.peer())),
    }
}

/// The first bytes were none of TLS.
pub(super) fn not_tls(first: &[u8], side: Side) -> TlsFailure {
    let (http, remedy) = match side {
        Side::Client => (
            first.starts_with(b"HTTP"),
            "use the address without TLS (ws:// or tcp://), or the server's port for TLS",
        ),
        Side::Server => (
            first.len() > 2 && first.iter().take(3).all(u8::is_ascii_uppercase),
            "the client may have used ws:// or http:// where wss:// or https:// is served",
        ),
    };
    let speaks = if http { ", but plain HTTP" } else { "" };
    let reason = format!("the peer does not speak TLS{speaks}: {remedy}");
    TlsFailure::new(FailureKind::Tls, reason)
}

/// The peer's FIN came before the handshake was complete.
pub(super) fn ended_in_handshake(heard: bool, side: Side) -> TlsFailure {
    let peer = side.peer();
    let reason = match (heard, side) {
        (false, Side::Client) => {
            "the server ended the connection instead of answering in TLS: does it speak TLS there?"
                .to_string()
        }
        _ => format!("the {peer} ended the connection in the middle of the TLS handshake"),
    };
    TlsFailure::new(FailureKind::Tls, reason)
}

/// An I/O error that came up through the session: TLS' own, or the socket's.
pub(super) fn of_io(error: io::Error, side: Side, host: &str) -> TlsFailure {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return TlsFailure::new(
            FailureKind::Truncated,
            "the peer's end came without TLS's farewell (close_notify): what came last may be \
             incomplete",
        );
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(inner) => of_session(inner, side, host),
        None if error.raw_os_error().is_some() => TlsFailure::of_socket(error),
        None => {
            TlsFailure::new(FailureKind::Tls, format!("the {} broke TLS: {error}", side.peer()))
        }
    }
}

fn server_certificate(error: &CertificateError, host: &str) -> String {
    match error {
        CertificateError::UnknownIssuer => format!(
            "the certificate of {host} is signed by an unknown issuer; if that is an authority of \
             your own, name its certificate: Tls::ca_file"
        ),
        CertificateError::BadSignature => format!(
            "the certificate of {host} is signed by another key than that of the trusted \
             authority of this name; if the authority has a new one: Tls::ca_file"
        ),
        CertificateError::NotValidForName => {
            format!("the certificate does not name {host}; say which name it has: Tls::peer_name")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| plain_name(name)).collect();
            let meant = match names.iter().find(|name| !name.starts_with('*')) {
                Some(name) => format!("Tls::peer_name(\"{name}\")"),
                None => "Tls::peer_name".to_string(),
            };
            match names.is_empty() {
                true => format!(
                    "the certificate of {host} names nobody (it has no subjectAltName), so it \
                     cannot be for {host}: make one with that name"
                ),
                false => format!(
                    "the certificate names {}, not {host}; connect by such a name, or say that \
                     it is meant: {meant}",
                    names.join(", ")
                ),
            }
        }
        CertificateError::Expired => format!("the certificate of {host} has expired"),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate of {host} expired on {}, and it is {} by the clock of this machine; \
             the server needs a new one",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYet => format!("the certificate of {host} is not yet valid"),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate of {host} is not yet valid: it begins on {}, and it is {} by the \
             clock of this machine; is that right?",
            date(*not_before),
            date(*time)
        ),
        CertificateError::Revoked => format!("the certificate of {host} was revoked"),
        CertificateError::Other(other) => match other.0.downcast_ref::<Distrusted>() {
            Some(Distrusted::SelfSigned) => format!(
                "the certificate of {host} is self-signed; if it is your own, name it as trusted: \
                 Tls::ca_file, or in tests take any: Tls::danger_accept_invalid_certs"
            ),
            Some(Distrusted::Authority) => format!(
                "the certificate of {host} is an authority's own (CA:TRUE) and cannot stand for a \
                 server: make one with `openssl req -x509 -addext basicConstraints=CA:FALSE …`, \
                 or in tests take any: Tls::danger_accept_invalid_certs"
            ),
            None => format!("the certificate of {host} cannot be used: {other}"),
        },
        error => format!("the certificate of {host} is not trusted: {error}"),
    }
}

/// `DnsName("example.com")` and `IpAddress(127.0.0.1)` without what stands around.
fn plain_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn alert_received(alert: AlertDescription, side: Side) -> String {
    use AlertDescription as Alert;
    match (alert, side) {
        (Alert::CertificateRequired, Side::Client) => {
            "the server asks for a client's certificate: Tls::identity".into()
        }
        (
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::UnsupportedCertificate,
            _,
        ) => format!("the {} does not trust our certificate (alert {alert:?})", side.peer()),
        (Alert::UnrecognisedName, Side::Client) => {
            "the server has no certificate for this name (alert UnrecognisedName)".into()
        }
        (Alert::ProtocolVersion, _) => {
            format!("the {} speaks neither TLS 1.2 nor TLS 1.3", side.peer())
        }
        (Alert::HandshakeFailure, Side::Client) => {
            "the server refused the handshake (alert HandshakeFailure): it asks for a client's \
             certificate (Tls::identity), has none for this name, or shares no cipher with us"
                .into()
        }
        _ => format!("the {} sent the alert {alert:?}", side.peer()),
    }
}

fn incompatible(why: &PeerIncompatible, side: Side) -> String {
    use PeerIncompatible as Why;
    let peer = side.peer();
    match why {
        Why::ServerDoesNotSupportTls12Or13
        | Why::Tls12NotOffered
        | Why::Tls12NotOfferedOrEnabled
        | Why::SupportedVersionsExtensionRequired => {
            format!("the {peer} speaks neither TLS 1.2 nor TLS 1.3")
        }
        why => format!("nothing in common with the {peer}'s TLS: {why:?}"),
    }
}

/// `2026-01-31 23:59:59 UTC`
fn date(time: UnixTime) -> String {
    let seconds = time.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", seconds % 60)
}

/// Year, month and day of a day since 1970-01-01. Counted from 1 March of the year 0, so that the
/// leap day is the last of a year and months have lengths that one formula gives.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    const FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    let days = days + FROM_MARCH_OF_YEAR_0;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    (era * 400 + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let rows = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_704_067_199, "2023-12-31 23:59:59 UTC"),
            (1_709_164_800, "2024-02-29 00:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ];
        for (seconds, text) in rows {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            assert_eq!(date(time), text);
        }
    }

    #[test]
    fn names_of_a_certificate_are_shown_as_they_are_written() {
        assert_eq!(plain_name("DnsName(\"a.example\")"), "a.example");
        assert_eq!(plain_name("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(plain_name("odd"), "odd");
    }

    #[test]
    fn what_a_plain_peer_seems_to_speak_is_said() {
        let server = not_tls(b"HTTP/1.1 400", Side::Client).reason;
        assert!(server.contains("does not speak TLS, but plain HTTP"), "{server}");
        let server = not_tls(b"220 mail", Side::Client).reason;
        assert!(server.starts_with("the peer does not speak TLS: use"), "{server}");
        let client = not_tls(b"GET / HTTP", Side::Server).reason;
        assert!(client.contains("plain HTTP: the client"), "{client}");
    }
}
