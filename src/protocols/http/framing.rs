//! How a request's body is framed (RFC 9112 §6), and every head that is refused for what it says
//! about that: two readings of one message are how requests are smuggled past a proxy.
use super::head::span;
use super::request::Layout;
use super::{HeadFault, list};
use crate::Limits;
use std::borrow::Cow;

/// A request that is refused: the status, and what the client and the program are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) why: Cow<'static, str>,
}

impl Refused {
    pub(super) fn new(status: u16, why: impl Into<Cow<'static, str>>) -> Self {
        Refused { status, why: why.into() }
    }
}

/// How much body follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes; 0 where there is none.
    Length(usize),
    Chunked,
}

/// What a head says about its message and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) body: Body,
    pub(super) is_head: bool,
    pub(super) is_http_1_1: bool,
    /// The connection may serve another request.
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    /// It asks for something under conditions, or for a range.
    pub(super) conditional: bool,
    pub(super) multipart: bool,
    /// It asks for another protocol.
    pub(super) upgrades: bool,
}

/// Those that Workerman serves; RFC 9110 §9.1: 501 for what a server does not know.
const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"];

impl Framing {
    /// Reads a head, and what it says.
    pub(super) fn read(
        text: &str,
        limits: &Limits,
    ) -> Result<(Layout, Result<Self, Refused>), HeadFault> {
        Layout::parse_with(text, |layout, fields| Framing::of(text, layout, fields, limits))
    }

    fn of(
        text: &str,
        layout: &Layout,
        fields: &[httparse::Header],
        limits: &Limits,
    ) -> Result<Self, Refused> {
        let method = layout.method(text);
        if !METHODS.contains(&method) {
            return Err(Refused::new(501, "a method that this server does not know"));
        }
        let mut framing = Framing {
            body: Body::Length(0),
            is_head: method == "HEAD",
            is_http_1_1: layout.is_http_1_1(),
            keep_alive: layout.is_http_1_1(),
            expects_continue: false,
            conditional: false,
            multipart: false,
            upgrades: false,
        };
        let (mut length, mut coding) = (None, None);
        let mut host = "";
        for field in fields {
            let name = field.name;
            // The length tells most names apart without a look at them.
            if !matches!(name.len(), 4..=8 | 10 | 12..=14 | 17 | 19) {
                continue;
            }
            let value = text_in(text, field.value);
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => host = value,
                6 if name.eq_ignore_ascii_case("expect") => framing.expect(value)?,
                7 if name.eq_ignore_ascii_case("upgrade") => framing.upgrades = true,
                10 if name.eq_ignore_ascii_case("connection") => framing.connection(value),
                12 if name.eq_ignore_ascii_case("content-type") => {
                    framing.multipart = super::multipart::boundary_of(value).is_some();
                }
                14 if name.eq_ignore_ascii_case("content-length") => once(&mut length, value)?,
                17 if name.eq_ignore_ascii_case("transfer-encoding") => once(&mut coding, value)?,
                5 | 8 | 13 | 17 | 19 if is_condition(name) => framing.conditional = true,
                _ => {}
            }
        }
        check_target(layout.target(text), method, host)?;
        framing.body = framing.judge_body(length, coding, limits)?;
        Ok(framing)
    }

    fn judge_body(
        &self,
        length: Option<&str>,
        coding: Option<&str>,
        limits: &Limits,
    ) -> Result<Body, Refused> {
        match (length, coding) {
            (None, None) => Ok(Body::Length(0)),
            // RFC 9112 §6.1: "ought to be handled as an error", and is the smuggler's first try.
            (Some(_), Some(_)) => {
                Err(Refused::new(400, "both Content-Length and Transfer-Encoding"))
            }
            (Some(length), None) => {
                if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(Refused::new(400, "a Content-Length that is no number"));
                }
                match length.parse::<usize>() {
                    Ok(length) if length <= limits.message_bytes => Ok(Body::Length(length)),
                    _ => Err(too_large(limits)),
                }
            }
            // RFC 9112 §6.1: HTTP/1.0 has no such field; who sends it is misread by somebody.
            (None, Some(_)) if !self.is_http_1_1 => {
                Err(Refused::new(400, "Transfer-Encoding in HTTP/1.0"))
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Ok(Body::Chunked),
            (None, Some(coding)) => {
                let mut codings = list(coding).peekable();
                let well_formed = codings.peek().is_some() && codings.all(super::is_token);
                let status = if well_formed { 501 } else { 400 };
                Err(Refused::new(status, "a Transfer-Encoding other than chunked"))
            }
        }
    }

    /// RFC 9110 §10.1.1: the only expectation there is; another one is 417 there, and closes here.
    fn expect(&mut self, value: &str) -> Result<(), Refused> {
        if !value.eq_ignore_ascii_case("100-continue") {
            return Err(Refused::new(417, "an expectation other than 100-continue"));
        }
        // From HTTP/1.0 it is to be ignored.
        self.expects_continue = self.is_http_1_1;
        Ok(())
    }

    /// RFC 9112 §9.3.
    fn connection(&mut self, value: &str) {
        for option in list(value) {
            if option.eq_ignore_ascii_case("close") {
                self.keep_alive = false;
                return;
            }
            if option.eq_ignore_ascii_case("keep-alive") && !self.is_http_1_1 {
                self.keep_alive = true;
            }
        }
    }
}

/// The text at the place of `part`, which is a slice of it.
fn text_in<'a>(text: &'a str, part: &[u8]) -> &'a str {
    let place = span(text, part);
    text.get(place.start as usize..place.end as usize).unwrap_or("")
}

pub(super) fn too_large(limits: &Limits) -> Refused {
    let limit = limits.message_bytes;
    Refused::new(413, format!("a body above the limit of {limit} bytes (Limits::message_bytes)"))
}

fn is_condition(name: &str) -> bool {
    ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]
        .iter()
        .any(|condition| name.eq_ignore_ascii_case(condition))
}

/// Repeated, also with equal values: RFC 9112 §6.3 lets a proxy merge or choose, so nobody knows
/// which one it took.
fn once<'a>(place: &mut Option<&'a str>, value: &'a str) -> Result<(), Refused> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refused::new(400, "a framing header that is repeated")),
    }
}

/// RFC 9112 §3.2: a path; `*` for OPTIONS; a whole address that agrees with `Host`, which it would
/// otherwise outvote.
fn check_target(target: &str, method: &str, host: &str) -> Result<(), Refused> {
    if target.contains('#') {
        return Err(Refused::new(400, "a request target with a fragment"));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(());
    }
    let (scheme, rest) = target.split_once("://").unwrap_or(("", ""));
    let authority = rest.split(['/', '?']).next().unwrap_or("");
    let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    match http && !authority.is_empty() && authority.eq_ignore_ascii_case(host) {
        true => Ok(()),
        false => Err(Refused::new(400, "a request target that is no path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(request: &str) -> Result<Framing, Refused> {
        let text = format!("{request}\r\n\r\n");
        Framing::read(&text, &Limits::new().message_bytes(1000)).expect(request).1
    }

    fn body(more: &str) -> Body {
        framing(&format!("POST / HTTP/1.1\r\nHost: h{more}")).expect(more).body
    }

    fn status(more: &str) -> u16 {
        framing(&format!("POST / HTTP/1.1\r\nHost: h{more}")).expect_err(more).status
    }

    #[test]
    fn a_body_is_counted_or_chunked_or_not_there() {
        assert_eq!(body(""), Body::Length(0));
        assert_eq!(body("\r\nContent-Length: 0"), Body::Length(0));
        assert_eq!(body("\r\ncontent-LENGTH:  1000 "), Body::Length(1000));
        assert_eq!(body("\r\nContent-Length: 0007"), Body::Length(7));
        assert_eq!(body("\r\nTransfer-Encoding: Chunked"), Body::Chunked);
    }

    #[test]
    fn a_body_above_the_limit_is_refused_by_its_head() {
        assert_eq!(status("\r\nContent-Length: 1001"), 413);
        assert_eq!(status("\r\nContent-Length: 99999999999999999999999999"), 413);
    }

    #[test]
    fn a_connection_is_kept_as_its_version_and_its_options_say() {
        for (request, kept) in [
            ("GET / HTTP/1.1\r\nHost: h", true),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: close", false),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: x, CLOSE", false),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, close", false),
            ("GET / HTTP/1.0", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive", true),
        ] {
            assert_eq!(framing(request).expect(request).keep_alive, kept, "{request}");
        }
    }

    #[test]
    fn targets_are_paths_a_star_or_an_address_that_agrees_with_host() {
        for target in ["/", "/a?b", "http://h/a", "HTTPS://H", "http://h?x"] {
            framing(&format!("GET {target} HTTP/1.1\r\nHost: h")).expect(target);
        }
        framing("OPTIONS * HTTP/1.1\r\nHost: h").expect("a star");
        for target in ["*", "a", "http://other/", "ftp://h/", "http:///", "/a#b", "h:80"] {
            let refused = framing(&format!("GET {target} HTTP/1.1\r\nHost: h")).expect_err(target);
            assert_eq!(refused.status, 400, "{target}");
        }
    }

    #[test]
    fn conditions_expectations_and_forms_are_noticed() {
        for name in ["Range", "If-Range", "IF-MATCH", "If-None-Match", "If-Modified-Since"] {
            let noticed = framing(&format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: x"));
            assert!(noticed.expect(name).conditional, "{name}");
        }
        let plain = framing("GET / HTTP/1.1\r\nHost: h\r\nAccept: */*").expect("a head");
        assert!(!plain.conditional && !plain.expects_continue && !plain.multipart);
        let expects = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue";
        assert!(framing(expects).expect(expects).expects_continue);
        assert!(!framing("POST / HTTP/1.0\r\nExpect: 100-continue").expect("1.0").expects_continue);
        assert_eq!(status("\r\nExpect: 200-ok"), 417);
    }
}
