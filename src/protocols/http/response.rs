//! A response: made to be sent, or read from the wire.
use super::check_header;
use super::cookie::Cookie;
use super::head::{HeadFault, fault, places, text_of};
use crate::Error;
use std::fmt;
use std::path::Path;

/// A response: to send, with Workerman's `with…`; or the server's 101, to read. Prints as its head.
///
/// ```
/// use workerman::Response;
///
/// let response = Response::new(403).with_header("Retry-After", 60).with_body("not today");
/// assert_eq!(response.status(), 403);
/// assert_eq!(response.header("retry-after"), Some("60"));
/// assert_eq!(response.to_string(), "HTTP/1.1 403 Forbidden\r\nRetry-After: 60\r\n\r\n");
/// ```
#[derive(Debug)]
pub struct Response {
    status: u16,
    reason: Box<str>,
    headers: Vec<(Box<str>, Box<str>)>,
    body: Vec<u8>,
    /// As it came; empty for one that was made here.
    received: Box<str>,
    /// The first thing in it that cannot be sent.
    fault: Option<Box<Error>>,
    /// Sent in place of the body.
    file: Option<Box<FromFile>>,
}

/// A file in place of a body.
#[derive(Debug)]
pub(super) struct FromFile {
    pub(super) path: Box<Path>,
    /// So much of it: where that begins, and how long it is.
    pub(super) part: Option<(u64, Option<u64>)>,
}

impl Response {
    /// A response without headers and body.
    pub fn new(status: u16) -> Self {
        Response {
            status,
            reason: reason_of(status).into(),
            headers: Vec::new(),
            body: Vec::new(),
            received: "".into(),
            fault: None,
            file: None,
        }
    }

    /// One more header. A name or value that HTTP forbids keeps the response from being sent, and
    /// the error names it; it is never altered.
    pub fn with_header(mut self, name: &str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        if let Err(error) = check_header(name, &value) {
            self.fault.get_or_insert(Box::new(error));
        }
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Several headers, in their order.
    pub fn with_headers<N: AsRef<str>, V: fmt::Display>(
        self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        headers
            .into_iter()
            .fold(self, |response, (name, value)| response.with_header(name.as_ref(), value))
    }

    /// None of the headers of this name, whatever its case.
    ///
    /// ```
    /// use workerman::Response;
    ///
    /// let response = Response::new(200).with_header("X-A", 1).with_header("x-a", 2);
    /// assert_eq!(response.without_header("X-A").header("x-a"), None);
    /// ```
    pub fn without_header(mut self, name: &str) -> Self {
        self.forget(name);
        self
    }

    /// A `Set-Cookie` header without attributes. What RFC 6265 §4.1.1 permits in neither name nor
    /// value keeps the response from being sent: a `;` would begin an attribute.
    pub fn cookie(self, name: &str, value: &str) -> Self {
        self.with_cookie(Cookie::new(name, value))
    }

    /// A redirect to this address: 302, and a GET follows. Another status is for
    /// [`with_status`](Response::with_status).
    ///
    /// ```
    /// use workerman::Response;
    ///
    /// let moved = Response::redirect("/there").with_status(301);
    /// assert_eq!((moved.status(), moved.header("location")), (301, Some("/there")));
    /// ```
    pub fn redirect(location: &str) -> Self {
        Response::new(302).with_header("Location", location)
    }

    /// This status instead of the one before.
    pub fn with_status(self, status: u16) -> Self {
        Response { status, reason: reason_of(status).into(), ..self }
    }

    /// A `Set-Cookie` header with attributes.
    ///
    /// ```
    /// use workerman::{Cookie, Response};
    ///
    /// let cookie = Cookie::new("sid", "31d4d96e407aad42").path("/").http_only();
    /// let response = Response::from("hello").with_cookie(cookie);
    /// let expected = "sid=31d4d96e407aad42; Path=/; HttpOnly";
    /// assert_eq!(response.header("set-cookie"), Some(expected));
    /// ```
    pub fn with_cookie(mut self, cookie: Cookie) -> Self {
        let (line, fault) = cookie.into_line();
        if let Some(error) = fault {
            self.fault.get_or_insert(Box::new(error));
        }
        self.headers.push(("Set-Cookie".into(), line.into()));
        self
    }

    /// This file in place of a body. It is sent piece by piece, never read whole; conditional
    /// requests and ranges are answered (206, 304, 412, 416); a file that is not there makes it a
    /// 404, one that may not be read a 403. The path is opened as it stands: never build it from
    /// what a client sent without looking for `..` in it.
    ///
    /// ```
    /// use workerman::Response;
    ///
    /// let response = Response::new(200).with_file("public/film.mp4");
    /// assert_eq!(response.body(), b"");
    /// ```
    pub fn with_file(self, path: impl AsRef<Path>) -> Self {
        let file = FromFile { path: path.as_ref().into(), part: None };
        Response { file: Some(Box::new(file)), ..self }
    }

    /// A part of this file in place of a body: `length` bytes from `offset` on, `None` for all that
    /// follows; what would lie behind the file's end is not sent. The client's own range is not
    /// looked at: this is for programs that have chosen the part themselves. With status 206 the
    /// `Content-Range` header is written, too. A part that begins behind the end is a 416. (Manual:
    /// `withFile($path, $offset, $length)`.)
    ///
    /// ```
    /// use workerman::Response;
    ///
    /// let second_kilobyte = Response::new(206).with_file_range("film.mp4", 1024, 1024);
    /// let all_but_the_first = Response::new(200).with_file_range("log.txt", 512, None);
    /// # assert_eq!((second_kilobyte.status(), all_but_the_first.status()), (206, 200));
    /// ```
    pub fn with_file_range(
        self,
        path: impl AsRef<Path>,
        offset: u64,
        length: impl Into<Option<u64>>,
    ) -> Self {
        let part = Some((offset, length.into()));
        let file = FromFile { path: path.as_ref().into(), part };
        Response { file: Some(Box::new(file)), ..self }
    }

    /// This body instead of the one before.
    pub fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        Response { body: body.into(), ..self }
    }

    /// The number: 101, 403.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What stands behind the number in the first line; may be empty.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers in their order, repeated ones too.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The body; of a refused handshake up to 64 KiB.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Reads a head from the wire.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, HeadFault> {
        let text = text_of(head);
        let mut places = places(&text);
        let mut parsed = httparse::Response::new(&mut places);
        match parsed.parse(text.as_bytes()).map_err(fault)? {
            httparse::Status::Complete(length) if length == text.len() => {}
            _ => return Err(HeadFault::Malformed("a head that ends too early")),
        }
        let Some(status @ 100..=999) = parsed.code else {
            return Err(HeadFault::Malformed("a status line that is none"));
        };
        let reason = parsed.reason.unwrap_or("").into();
        let mut headers: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            let value = std::str::from_utf8(field.value)
                .map_err(|_| HeadFault::Malformed("a field that is no text"))?;
            headers.push((field.name.into(), value.into()));
        }
        Ok(Response { reason, headers, received: text.into(), ..Response::new(status) })
    }

    pub(crate) fn is_http_1_1(&self) -> bool {
        self.received.is_empty() || self.received.starts_with("HTTP/1.1")
    }

    pub(super) fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    pub(super) fn take_file(&mut self) -> Option<Box<FromFile>> {
        self.file.take()
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    pub(crate) fn set_body(&mut self, body: Vec<u8>) {
        self.body = body;
    }

    /// Why it cannot be sent, if it cannot.
    pub(crate) fn take_fault(&mut self) -> Option<Error> {
        self.fault.take().map(|error| *error)
    }

    /// The values of all headers of this name, whatever its case.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.received.is_empty() {
            return f.write_str(&self.received);
        }
        write!(f, "HTTP/1.1 {} {}\r\n", self.status, self.reason)?;
        for (name, value) in self.headers() {
            write!(f, "{name}: {value}\r\n")?;
        }
        f.write_str("\r\n")
    }
}

/// Status 200 and this body.
impl From<&str> for Response {
    fn from(body: &str) -> Self {
        Response::new(200).with_body(body)
    }
}

/// Status 200 and this body.
impl From<String> for Response {
    fn from(body: String) -> Self {
        Response::new(200).with_body(body)
    }
}

/// RFC 9110 §15 and the registry behind it.
pub(super) fn reason_of(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_received_response_prints_exactly_as_it_came() {
        let head =
            "HTTP/1.1 101 Strange  Reason\r\nupgrade:websocket\r\nX:  two \r\nx: three\r\n\r\n";
        let response = Response::parse(head.as_bytes()).expect("a head");
        assert_eq!(response.to_string(), head);
        assert_eq!((response.status(), response.reason()), (101, "Strange  Reason"));
        assert_eq!(response.header("UPGRADE"), Some("websocket"));
        assert_eq!(response.header("x"), Some("two"));
        assert_eq!(response.all("X").collect::<Vec<_>>(), ["two", "three"]);
        assert_eq!(response.headers().count(), 3);
        assert_eq!(response.body(), b"");
    }

    #[test]
    fn a_status_line_without_a_reason_is_read() {
        for head in ["HTTP/1.1 101\r\n\r\n", "HTTP/1.1 101 \r\n\r\n"] {
            let response = Response::parse(head.as_bytes()).expect(head);
            assert_eq!((response.status(), response.reason()), (101, ""));
            assert_eq!(response.to_string(), head);
        }
    }

    #[test]
    fn a_head_outside_the_grammar_is_refused() {
        for head in [
            "HTTP/1.1 1x1 No\r\n\r\n",
            "HTTP/1.1 99 No\r\n\r\n",
            "HTTP/3.1 101 No\r\n\r\n",
            "HTTP/1.1 101 OK\r\nName : value\r\n\r\n",
            "HTTP/1.1 101 OK\r\nno colon\r\n\r\n",
            "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        ] {
            assert!(Response::parse(head.as_bytes()).is_err(), "{head}");
        }
    }

    #[test]
    fn what_is_made_keeps_its_headers_in_order_and_prints_as_a_head() {
        let response = Response::new(418)
            .with_headers([("A", 1), ("B", 2)])
            .cookie("sid", "abc")
            .with_body("tea")
            .with_header("a", "3");
        assert_eq!(
            response.to_string(),
            "HTTP/1.1 418 Unknown\r\nA: 1\r\nB: 2\r\nSet-Cookie: sid=abc\r\na: 3\r\n\r\n"
        );
        assert_eq!(response.body(), b"tea");
        let (from_str, from_string) = (Response::from("x"), Response::from(String::from("x")));
        assert_eq!((from_str.status(), from_str.body()), (200, &b"x"[..]));
        assert_eq!((from_string.status(), from_string.body()), (200, &b"x"[..]));
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_remembered_and_named() {
        let mut bad = Response::new(200).with_header("X", "a\r\nSet-Cookie: b").with_header("Y", 1);
        let fault = bad.take_fault().expect("a fault").to_string();
        assert!(fault.contains("\"X\"") && fault.contains("line end"), "{fault}");
        for value in ["a; Secure", "a b", "a\"", "é", "a\r\n"] {
            assert!(Response::new(200).cookie("sid", value).take_fault().is_some(), "{value:?}");
        }
        assert!(Response::new(200).cookie("s id", "x").take_fault().is_some());
        assert!(Response::new(200).cookie("sid", "x=1").take_fault().is_none());
    }
}
