//! A request as programs see it: a view of a head and a body that lie in the connection's buffer.
use super::form::parameters;
use super::head::{FieldLines, HeadFault, Span, fault, places, span, text_of};
use super::multipart::{Parts, UploadedFile, boundary_of};
use super::session::{self, Session};
use crate::protocols::Doors;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};

/// So many fields are read without memory of their own.
const USUAL_FIELDS: usize = 64;

/// A request that a server received. It borrows the connection's buffer, so it ends with the
/// callback.
///
/// Names of headers are compared without regard to case; parameters are percent-decoded, header
/// values are as they came.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    text: &'a str,
    layout: Layout,
    content: Content<'a>,
}

/// What follows a head.
#[derive(Clone, Copy, Default)]
pub(super) struct Content<'a> {
    pub(super) body: &'a [u8],
    /// The files of a form that went to disk, a line each; empty for a body that is whole.
    pub(super) spilled: &'a str,
    /// Whether the worker admits the page that asks for another protocol; `None`: nobody has
    /// judged that.
    pub(super) admitted: Option<bool>,
    /// Lines behind a chunked body.
    pub(super) trailers: &'a str,
    /// `None`: nobody answers it over http.
    pub(super) origin: Option<Origin>,
}

/// Which request it is, and where it came from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) number: u64,
    pub(super) doors: &'static Doors,
    pub(super) remote: Option<SocketAddr>,
    pub(super) over_tls: bool,
}

impl<'a> Request<'a> {
    pub(super) fn new(text: &'a str, layout: Layout, content: Content<'a>) -> Self {
        Request { text, layout, content }
    }

    /// `GET`, `POST` and so on, as it came.
    pub fn method(&self) -> &'a str {
        slice(self.text, &self.layout.method)
    }

    /// The path without the query, as it came: `/chat`.
    pub fn path(&self) -> &'a str {
        let uri = self.uri();
        let path = uri.split_once('?').map_or(uri, |(path, _)| path);
        if path.starts_with('/') {
            return path;
        }
        // RFC 9112 §3.2.2: clients of a proxy name the whole address, and a server takes it.
        match path.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => path,
        }
    }

    /// Path and query, as they came: `/chat?room=1`.
    pub fn uri(&self) -> &'a str {
        slice(self.text, &self.layout.target)
    }

    /// What stands behind the `?`, as it came; empty where there is none.
    pub fn query_string(&self) -> &'a str {
        self.uri().split_once('?').map_or("", |(_, query)| query)
    }

    /// `1.1` or `1.0`.
    pub fn protocol_version(&self) -> &'static str {
        if self.layout.minor_version == 1 { "1.1" } else { "1.0" }
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.fields().all(name).next()
    }

    /// All headers in their order, repeated ones too.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.fields().iter()
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

    /// A field of a form in the body (`application/x-www-form-urlencoded` or
    /// `multipart/form-data`), the last one where it is repeated. JSON is read from
    /// [`raw_body`](Request::raw_body).
    pub fn post(&self, name: &str) -> Option<Cow<'a, str>> {
        self.post_all().into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All fields of a form in the body in their order; files are in [`files`](Request::files).
    pub fn post_all(&self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        let of = self.header("content-type").unwrap_or("");
        if let Some(parts) = self.parts() {
            let fields = parts.filter(|part| part.file_name.is_none());
            return fields
                .map(|part| (Cow::Borrowed(part.name), String::from_utf8_lossy(part.data)))
                .collect();
        }
        let kind = of.split(';').next().unwrap_or("").trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Vec::new();
        }
        parameters(self.raw_body()).collect()
    }

    /// The file that a form sent under this name.
    ///
    /// ```
    /// use workerman::{Request, Response};
    ///
    /// fn keep(request: Request) -> Response {
    ///     match request.file("photo") {
    ///         Some(photo) => match photo.save_as("photo.jpg") {
    ///             Ok(()) => Response::from(format!("{} bytes, thank you", photo.size())),
    ///             Err(_) => Response::new(500),
    ///         },
    ///         None => Response::new(400).with_body("a photo, please"),
    ///     }
    /// }
    /// ```
    pub fn file(&self, name: &str) -> Option<UploadedFile<'a>> {
        self.files().into_iter().find(|file| file.name() == name)
    }

    /// All files of a form in their order.
    pub fn files(&self) -> Vec<UploadedFile<'a>> {
        self.parts().map_or_else(Vec::new, |parts| UploadedFile::among(parts, self.content.spilled))
    }

    /// A cookie's value, as it came.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.cookies().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All cookies in their order, as they came.
    pub fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let pairs = self.fields().all("cookie").flat_map(|value| value.split(';'));
        pairs.filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.trim(), value.trim()))
    }

    /// The body; empty where there is none. Empty, too, for a form whose files went to disk: see
    /// [`files`](Request::files).
    pub fn body(&self) -> &'a [u8] {
        if self.content.spilled.is_empty() { self.content.body } else { &[] }
    }

    /// The body as text; empty where it is not UTF-8.
    pub fn raw_body(&self) -> &'a str {
        std::str::from_utf8(self.body()).unwrap_or("")
    }

    /// A header that came behind a body in chunks (RFC 9110 §6.5): the first one of this name,
    /// whatever its case. They never mix with [`header`](Request::header), and count against
    /// `Limits::head_bytes` and `Limits::headers` of their own.
    pub fn trailer(&self, name: &str) -> Option<&'a str> {
        FieldLines(self.content.trailers).all(name).next()
    }

    /// The browser's session: values that are kept between its requests under an id in a cookie.
    /// The first call of a request reads it; it is saved when the request is answered. A client
    /// without one, or with an id that is not ours, gets a fresh one; an empty one is not kept, and
    /// has no cookie. See [`SessionOptions`](crate::SessionOptions) for name, lifetime and place.
    ///
    /// ```
    /// use workerman::{Http, Request, TcpConnection};
    ///
    /// fn visit(con: TcpConnection<Http>, request: Request) -> workerman::Result {
    ///     let session = request.session()?;
    ///     let visits = session.get("visits").and_then(|n| n.parse().ok()).unwrap_or(0) + 1;
    ///     session.set("visits", visits);
    ///     con.send(format!("visit number {visits}"));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// The store cannot be read: what the system says of its file. A request that is not answered
    /// over http has no session (the one in `on_websocket_connect`).
    pub fn session(&self) -> io::Result<Session> {
        let Some(origin) = self.content.origin else {
            return Err(io::Error::other("only requests to an http worker have a session"));
        };
        session::session(origin.number, origin.doors, origin.over_tls, self.cookies())
    }

    /// Where the client is; `None` on a unix socket. Behind a proxy that is the proxy: see its
    /// `X-Forwarded-For`, which anybody else could have written.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.content.origin?.remote
    }

    /// The client's address without its port.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.remote_addr().map(|addr| addr.ip())
    }

    /// The head as it came, with its empty line.
    pub fn raw_head(&self) -> &'a str {
        self.text
    }

    pub(crate) fn fields(&self) -> FieldLines<'a> {
        self.layout.fields(self.text)
    }

    pub(crate) fn admitted(&self) -> Option<bool> {
        self.content.admitted
    }

    /// A copy that outlives the callback.
    pub(crate) fn to_head(self) -> RequestHead {
        RequestHead { text: self.text.into(), layout: self.layout }
    }

    fn parts(&self) -> Option<Parts<'a>> {
        let boundary = boundary_of(self.header("content-type")?)?;
        Some(Parts::new(self.content.body, boundary))
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("uri", &self.uri())
            .field("headers", &self.headers().collect::<Vec<_>>())
            .field("body_bytes", &self.content.body.len())
            .finish()
    }
}

/// Where everything lies in the text of a head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout {
    method: Place,
    target: Place,
    /// Where the field lines begin.
    fields: u32,
    /// 0 or 1: the number behind `HTTP/1.`.
    minor_version: u8,
}

/// A span that copies.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    from: u32,
    to: u32,
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Place { from: span.start, to: span.end }
    }
}

fn slice<'a>(text: &'a str, place: &Place) -> &'a str {
    text.get(place.from as usize..place.to as usize).unwrap_or("")
}

impl Layout {
    /// Reads the text of a head that [`HeadScan`](super::HeadScan) found.
    pub(super) fn parse(text: &str) -> Result<Self, HeadFault> {
        Layout::parse_with(text, |_, _| ()).map(|(layout, ())| layout)
    }

    /// The same, and `judge` sees the fields while they are divided: to divide them again for it
    /// would take as long.
    pub(super) fn parse_with<T>(
        text: &str,
        judge: impl FnOnce(&Layout, &[httparse::Header]) -> T,
    ) -> Result<(Self, T), HeadFault> {
        let mut usual = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(text.as_bytes(), &mut usual) {
            Err(httparse::Error::TooManyHeaders) => {
                let mut places = places(text);
                let mut parsed = httparse::Request::new(&mut places);
                let status = parsed.parse(text.as_bytes()).map_err(fault)?;
                let layout = Layout::of(text, status, &parsed)?;
                Ok((layout, judge(&layout, parsed.headers)))
            }
            Err(e) => Err(fault(e)),
            Ok(status) => {
                let layout = Layout::of(text, status, &parsed)?;
                Ok((layout, judge(&layout, parsed.headers)))
            }
        }
    }

    fn of(
        text: &str,
        status: httparse::Status<usize>,
        parsed: &httparse::Request,
    ) -> Result<Self, HeadFault> {
        if status != httparse::Status::Complete(text.len()) {
            return Err(HeadFault::Malformed("a head that ends too early"));
        }
        let (Some(method), Some(target), Some(minor_version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(HeadFault::Malformed("a request line that is none"));
        };
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HeadFault::Malformed("a request target that is not ASCII"));
        }
        check_host(parsed, minor_version)?;
        let (method, target) = (span(text, method), span(text, target));
        // Behind the target: ` HTTP/1.x` and the line's end.
        let fields = target.end + " HTTP/1.1\r\n".len() as u32;
        Ok(Layout { method: method.into(), target: target.into(), fields, minor_version })
    }

    pub(super) fn is_http_1_1(&self) -> bool {
        self.minor_version == 1
    }

    pub(super) fn fields<'a>(&self, text: &'a str) -> FieldLines<'a> {
        FieldLines(text.get(self.fields as usize..).unwrap_or(""))
    }

    pub(super) fn method<'a>(&self, text: &'a str) -> &'a str {
        slice(text, &self.method)
    }

    pub(super) fn target<'a>(&self, text: &'a str) -> &'a str {
        slice(text, &self.target)
    }
}

/// RFC 9112 §3.2: a server must refuse a request without `Host`, with two, or with one that is no
/// host. HTTP/1.0 knew none.
fn check_host(parsed: &httparse::Request, minor_version: u8) -> Result<(), HeadFault> {
    let mut hosts = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host.value) => Ok(()),
        (Some(_), None) => Err(HeadFault::Malformed("a Host header that names no host")),
        (Some(_), Some(_)) => Err(HeadFault::Malformed("two Host headers")),
        (None, _) if minor_version == 0 => Ok(()),
        (None, _) => Err(HeadFault::Malformed("no Host header")),
    }
}

fn is_host(host: &[u8]) -> bool {
    let marks = |b: u8| {
        matches!(
            b,
            b'!' | b'$'..=b'+' | b'-' | b'.' | b':' | b';' | b'=' | b'[' | b']' | b'_' | b'~'
        )
    };
    let fits = |&b: &u8| b.is_ascii_alphanumeric() || marks(b);
    !host.is_empty() && host.iter().all(fits)
}

/// The head of a request that outlives its buffer.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    text: String,
    layout: Layout,
}

impl RequestHead {
    /// Reads a head that [`HeadScan`](super::HeadScan) found.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, HeadFault> {
        let text = text_of(head).into_owned();
        let layout = Layout::parse(&text)?;
        Ok(RequestHead { text, layout })
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request::new(&self.text, self.layout, Content::default())
    }

    pub(crate) fn fields(&self) -> FieldLines<'_> {
        self.layout.fields(&self.text)
    }

    pub(crate) fn is_http_1_1(&self) -> bool {
        self.layout.is_http_1_1()
    }
}

#[cfg(test)]
mod tests {
    use super::super::form::decoded;
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
