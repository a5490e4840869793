//! A request as programs see it: a view of a head that was read once.
use super::head::{Fields, HeadFault, Span, fault, places, span};
use std::borrow::Cow;
use std::fmt;

/// A request that a server received. It borrows the connection's buffer, so it ends with the
/// callback.
///
/// Names of headers are compared without regard to case; parameters are percent-decoded, header
/// values are as they came.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    head: &'a RequestHead,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// `GET`, `POST` and so on, as it came.
    pub fn method(&self) -> &'a str {
        self.head.fields.slice(&self.head.method)
    }

    /// The path without the query, as it came: `/chat`.
    pub fn path(&self) -> &'a str {
        let uri = self.uri();
        uri.split_once('?').map_or(uri, |(path, _)| path)
    }

    /// Path and query, as they came: `/chat?room=1`.
    pub fn uri(&self) -> &'a str {
        self.head.fields.slice(&self.head.target)
    }

    /// What stands behind the `?`, as it came; empty where there is none.
    pub fn query_string(&self) -> &'a str {
        self.uri().split_once('?').map_or("", |(_, query)| query)
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.head.fields.all(name).next()
    }

    /// All headers in their order, repeated ones too.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.head.fields.iter()
    }

    /// The `Host` header: with a port where the client wrote one.
    pub fn host(&self) -> &'a str {
        self.header("host").unwrap_or("")
    }

    /// A parameter of the query string, decoded; the last one where it is repeated, as in PHP.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let parameter = parameters(self.query_string()).rfind(|(key, _)| key == name);
        parameter.map(|(_, value)| value)
    }

    /// All parameters of the query string in their order, decoded, repeated ones too.
    pub fn get_all(&self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        parameters(self.query_string()).collect()
    }

    /// A field of a form in the body.
    pub fn post(&self, name: &str) -> Option<Cow<'a, str>> {
        self.post_all().into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All fields of a form in the body in their order.
    pub fn post_all(&self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        Vec::new()
    }

    /// A cookie's value, as it came.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.head.fields.all("cookie").flat_map(|value| value.split(';'));
        pairs.find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key.trim() == name).then(|| value.trim())
        })
    }

    pub(crate) fn head(&self) -> &'a RequestHead {
        self.head
    }

    /// The body; empty where there is none.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The body as text; empty where it is not UTF-8.
    pub fn raw_body(&self) -> &'a str {
        std::str::from_utf8(self.body).unwrap_or("")
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("uri", &self.uri())
            .field("headers", &self.headers().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// The head of a request, read once: its text, and where everything lies in it.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    fields: Fields,
    method: Span,
    target: Span,
    /// 0 or 1: the number behind `HTTP/1.`.
    minor_version: u8,
}

impl RequestHead {
    /// Reads a head that [`HeadScan`](super::HeadScan) found.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, HeadFault> {
        let text = Fields::text_of(head);
        let mut places = places(&text);
        let mut parsed = httparse::Request::new(&mut places);
        match parsed.parse(text.as_bytes()).map_err(fault)? {
            httparse::Status::Complete(length) if length == text.len() => {}
            _ => return Err(HeadFault::Malformed("a head that ends too early")),
        }
        let (Some(method), Some(target), Some(minor_version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(HeadFault::Malformed("a request line that is none"));
        };
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HeadFault::Malformed("a request target that is not ASCII"));
        }
        let (method, target) = (span(&text, method), span(&text, target));
        let fields = Fields::new(&text, parsed.headers)?;
        drop(places);
        let head = RequestHead { fields: fields.with_text(text), method, target, minor_version };
        head.check_host()?;
        Ok(head)
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request { head: self, body: &[] }
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(crate) fn is_http_1_1(&self) -> bool {
        self.minor_version == 1
    }

    /// RFC 9112 §3.2: a server must refuse a request without `Host`, with two, or with one that is
    /// no host.
    fn check_host(&self) -> Result<(), HeadFault> {
        let mut hosts = self.fields.all("host");
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if is_host(host) => Ok(()),
            (Some(_), None) => Err(HeadFault::Malformed("a Host header that names no host")),
            (Some(_), Some(_)) => Err(HeadFault::Malformed("two Host headers")),
            (None, _) => Err(HeadFault::Malformed("no Host header")),
        }
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:[]%".contains(&b))
}

fn parameters(query: &str) -> impl DoubleEndedIterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// `%41` and `+` undone; a `%` that begins no such thing stays, bytes that are not UTF-8 become
/// U+FFFD.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        bytes.push(match (first, behind) {
            (b'+', _) => b' ',
            (b'%', [high, low, ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = &behind[2..];
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *first,
        });
    }
    Cow::Owned(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> RequestHead {
        RequestHead::parse(text.as_bytes()).expect(text)
    }

    fn fault_of(text: &str) -> HeadFault {
        RequestHead::parse(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn a_request_shows_what_the_client_wrote() {
        let head = head(
            "GET /chat/a%20b?room=1&name=J%C3%BCrgen+X&room=2&flag HTTP/1.1\r\nHost: h.test:81\r\n\
             Cookie: a=1; PHPSID = x y\r\nX-Twice: one\r\nx-twice: two\r\ncookie: b=2=3\r\n\r\n",
        );
        let request = head.request();
        assert_eq!(request.method(), "GET");
        assert_eq!(request.path(), "/chat/a%20b");
        assert_eq!(request.uri(), "/chat/a%20b?room=1&name=J%C3%BCrgen+X&room=2&flag");
        assert_eq!(request.query_string(), "room=1&name=J%C3%BCrgen+X&room=2&flag");
        assert_eq!(request.host(), "h.test:81");
        assert_eq!(request.header("X-TWICE"), Some("one"));
        assert_eq!(request.header("absent"), None);
        assert_eq!(request.headers().filter(|(n, _)| n.eq_ignore_ascii_case("x-twice")).count(), 2);
        assert_eq!(request.get("name").as_deref(), Some("Jürgen X"));
        assert_eq!(request.get("room").as_deref(), Some("2"));
        assert_eq!(request.get("flag").as_deref(), Some(""));
        assert_eq!(request.get("absent"), None);
        assert_eq!(request.get_all().len(), 4);
        let cookies = ["a", "PHPSID", "b", "c"].map(|name| request.cookie(name));
        assert_eq!(cookies, [Some("1"), Some("x y"), Some("2=3"), None]);
        assert_eq!((request.body(), request.raw_body()), (&b""[..], ""));
        assert_eq!((request.post("a"), request.post_all().len()), (None, 0));
        assert!(format!("{request:?}").contains("/chat/a%20b"));
    }

    #[test]
    fn a_request_is_a_view_that_copies_and_outlives_the_variable() {
        let head = head("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
        let path = {
            let request = head.request();
            let copy = request;
            assert_eq!(request.host(), copy.host());
            copy.path()
        };
        assert_eq!(path, "/x");
        assert_eq!(head.request().query_string(), "");
    }

    #[test]
    fn escapes_that_are_none_stay_and_bytes_that_are_no_text_are_replaced() {
        assert_eq!(decoded("%4"), "%4");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%41"), "%zzA");
        assert_eq!(decoded("%+1"), "% 1");
        assert_eq!(decoded("%ff"), "\u{fffd}");
        assert!(matches!(decoded("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_request_needs_exactly_one_host() {
        assert_eq!(fault_of("GET / HTTP/1.1\r\n\r\n"), HeadFault::Malformed("no Host header"));
        assert_eq!(
            fault_of("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
            HeadFault::Malformed("two Host headers")
        );
        for host in ["", "a b", "a/b", "user@h", "ü"] {
            fault_of(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        }
        for host in ["h", "H.test:80", "[::1]:8080", "127.0.0.1"] {
            head(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        }
    }

    #[test]
    fn a_head_outside_the_grammar_is_refused() {
        for text in [
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n: empty\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /ü HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /\r\nHost: h\r\n\r\n",
            "\u{1} / HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            fault_of(text);
        }
    }

    #[test]
    fn bytes_above_127_in_a_value_are_utf_8_or_latin_1() {
        let utf8 = head("GET / HTTP/1.1\r\nHost: h\r\nX: é\r\n\r\n");
        assert_eq!(utf8.request().header("x"), Some("é"));
        let latin = RequestHead::parse(b"GET / HTTP/1.1\r\nHost: h\r\nX: \xe9\r\nY: z\r\n\r\n");
        let latin = latin.expect("latin-1 is read");
        assert_eq!(latin.request().header("x"), Some("é"));
        assert_eq!(latin.request().header("y"), Some("z"));
    }
}
