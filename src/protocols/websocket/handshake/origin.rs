//! Whose pages may connect. A browser sends cookies along with every WebSocket, whichever page
//! opens it, and only the server can tell by the `Origin` header which page that was (RFC 6455
//! §10.2).
use crate::Error;
use crate::protocols::http::FieldLines;
use crate::protocols::websocket::deflate::Deflate;

/// Scheme, host and port of a page: `https://example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: String,
    /// `None`: the scheme's own.
    port: Option<u16>,
}

impl Origin {
    /// As a browser writes it into the header (RFC 6454 §6.2), and as `allow_origin` takes it.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| {
            Err(Error::address(text, format!("{reason}; an origin looks like https://example.com")))
        };
        if matches!(text, "*" | "null" | "http://*" | "https://*") {
            return wrong("every origin, also none, is worker.allow_any_origin()");
        }
        if text.contains('*') {
            return wrong(
                "a `*` stands for nothing: one allow_origin for each host, or \
                 worker.allow_any_origin()",
            );
        }
        let Some((scheme, authority)) = text.split_once("://") else {
            return wrong(&format!("the scheme is missing: write `https://{text}`"));
        };
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        {
            return wrong("the scheme is none");
        }
        if let Some(end) = authority.find(['/', '?', '#']).filter(|end| *end > 0) {
            let authority = &authority[..end];
            return wrong(&format!(
                "it ends with the host or its port: write `{scheme}://{authority}`"
            ));
        }
        let (host, port) = split_port(authority);
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b);
        if host.is_empty() || !host.bytes().all(fits) {
            return wrong("behind the scheme stands a host, and perhaps a port, but nothing else");
        }
        let scheme = scheme.to_ascii_lowercase();
        let port = match (port, &*scheme) {
            (None, _) => None,
            (Some(port), scheme) => match (port.parse(), scheme) {
                (Ok(80), "http") | (Ok(443), "https") => None,
                (Ok(port), _) => Some(port),
                (Err(_), _) => return wrong("the port is no number up to 65535"),
            },
        };
        Ok(Origin { scheme, host: host.to_ascii_lowercase(), port })
    }
}

/// What a listening worker says about pages; shared by its connections.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Beside those of the server's own host.
    pub(crate) allowed: Vec<Origin>,
    /// Every page may connect.
    pub(crate) any: bool,
    /// The listener's address is a loopback one.
    pub(crate) loopback_listener: bool,
    /// Beside pages: whether those who offer compression get it.
    pub(crate) deflate: Option<Deflate>,
    /// Its connections speak TLS.
    pub(crate) over_tls: bool,
}

impl Admission {
    /// Whether this request comes from a page that may connect, or from no page.
    pub(crate) fn judge_request(&self, fields: FieldLines) -> Result<(), String> {
        let mut origins = fields.all("Origin");
        match (origins.next(), origins.next()) {
            (Some(_), Some(_)) => Err("a request with two Origin headers".into()),
            (origin, _) => self.judge(origin, fields.all("Host").next().unwrap_or("")),
        }
    }

    /// Whether a page of `origin` may connect to `host` (the header's value); `Err` says which call
    /// would admit it.
    pub(super) fn judge(&self, origin: Option<&str>, host: &str) -> Result<(), String> {
        // No browser: a program writes whatever it likes.
        let Some(origin) = origin else { return Ok(()) };
        if self.any {
            return Ok(());
        }
        let Ok(page) = Origin::parse(origin) else {
            return Err(format!(
                "a page of the origin {origin:?} (a local file or a sandboxed frame) \
                 may not connect; worker.allow_any_origin() admits every page"
            ));
        };
        if self.allowed.contains(&page) {
            return Ok(());
        }
        let remedy = format!("worker.allow_origin({origin:?}) admits it");
        let (own, _) = split_port(host);
        if !is_same_host(&page.host, own) {
            return Err(format!(
                "a page of {origin} may not connect to a server of another host ({host}); {remedy}"
            ));
        }
        // DNS rebinding: a page of evil.test whose name was made to point to 127.0.0.1 says
        // evil.test in both headers.
        if self.loopback_listener && !is_loopback(own) {
            return Err(format!(
                "a page of {origin} may not reach a listener on this machine \
                 by the name {host}; {remedy}"
            ));
        }
        Ok(())
    }
}

/// Ports do not count; the names of this very machine are one.
fn is_same_host(page: &str, own: &str) -> bool {
    let local = |host: &str| {
        ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| name.eq_ignore_ascii_case(host))
    };
    page.eq_ignore_ascii_case(own) || (local(page) && local(own))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `host:port`, the host of an IPv6 address with its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(admission: &Admission, origin: &str, host: &str) -> Result<(), String> {
        admission.judge(Some(origin), host)
    }

    #[test]
    fn a_page_of_the_same_host_passes_whatever_the_ports_and_cases() {
        let admission = Admission::default();
        for (origin, host) in [
            ("https://example.com", "example.com"),
            ("http://EXAMPLE.com:8080", "example.com:9000"),
            ("http://localhost:3000", "127.0.0.1:9000"),
            ("http://[::1]:3000", "localhost"),
            ("http://127.0.0.1", "[::1]:9000"),
            ("http://192.168.0.7", "192.168.0.7:80"),
        ] {
            assert_eq!(judge(&admission, origin, host), Ok(()), "{origin} to {host}");
        }
    }

    #[test]
    fn a_page_of_another_host_is_refused_and_the_text_shows_the_call_that_admits_it() {
        let admission = Admission::default();
        for (origin, host) in [
            ("https://evil.test", "example.com"),
            ("https://example.com.evil.test", "example.com"),
            ("https://sub.example.com", "example.com"),
            ("https://evil.test", "localhost"),
            ("https://localhost", "example.com"),
        ] {
            let text = judge(&admission, origin, host).expect_err(origin);
            assert!(text.contains(&format!("worker.allow_origin({origin:?})")), "{text}");
        }
    }

    #[test]
    fn the_null_origin_and_what_is_no_origin_do_not_pass() {
        let admission = Admission::default();
        for origin in ["null", "", "example.com", "://x", "file://", "https://a/b", "https://u@a"] {
            let text = judge(&admission, origin, "example.com").expect_err(origin);
            assert!(text.contains("worker.allow_any_origin()"), "{text}");
        }
        assert_eq!(judge(&Admission { any: true, ..admission }, "null", "example.com"), Ok(()));
    }

    #[test]
    fn an_admitted_origin_passes_with_exactly_its_scheme_and_port() {
        let allowed = vec![Origin::parse("https://Example.com:443").expect("an origin")];
        let admission = Admission { allowed, ..Admission::default() };
        assert_eq!(judge(&admission, "https://example.com", "other.test"), Ok(()));
        for origin in ["http://example.com", "https://example.com:8443", "https://a.example.com"] {
            assert!(judge(&admission, origin, "other.test").is_err(), "{origin}");
        }
    }

    #[test]
    fn without_an_origin_it_is_no_browser_and_passes() {
        let admission = Admission { loopback_listener: true, ..Admission::default() };
        assert_eq!(admission.judge(None, "anything"), Ok(()));
    }

    #[test]
    fn a_loopback_listener_wants_a_loopback_host_against_dns_rebinding() {
        let admission = Admission { loopback_listener: true, ..Admission::default() };
        let text = judge(&admission, "http://evil.test", "evil.test").expect_err("rebinding");
        assert!(text.contains("worker.allow_origin(\"http://evil.test\")"), "{text}");
        for host in ["localhost:1", "127.0.0.1", "[::1]:1"] {
            assert_eq!(judge(&admission, "http://localhost:3000", host), Ok(()));
        }
        assert_eq!(judge(&admission, "http://127.0.0.2", "127.0.0.2:80"), Ok(()));
        // Behind a proxy on the same machine the public name is right, and then it is allowed by
        // name.
        let allowed = vec![Origin::parse("https://example.com").expect("an origin")];
        let admission = Admission { allowed, ..admission };
        assert_eq!(judge(&admission, "https://example.com", "example.com"), Ok(()));
    }

    #[test]
    fn what_is_no_origin_is_an_error_that_shows_one() {
        for wrong in ["example.com", "https://", "https://a/", "https://a:x", "1://a", "null"] {
            let error = Origin::parse(wrong).expect_err(wrong).to_string();
            assert!(error.contains("looks like https://example.com"), "{error}");
        }
        for (wrong, remedy) in [
            ("*", "worker.allow_any_origin()"),
            ("https://*", "worker.allow_any_origin()"),
            ("null", "worker.allow_any_origin()"),
            ("https://*.a.test", "one allow_origin for each"),
            ("https://a.test/", "write `https://a.test`"),
            ("https://a.test:8443/x?y", "write `https://a.test:8443`"),
            ("a.test", "write `https://a.test`"),
        ] {
            let error = Origin::parse(wrong).expect_err(wrong).to_string();
            assert!(error.contains(remedy), "{error}");
        }
        assert!(Origin::parse("chrome-extension://abcdef").is_ok());
        assert!(Origin::parse("https://[2001:db8::1]:8443").is_ok());
    }
}
