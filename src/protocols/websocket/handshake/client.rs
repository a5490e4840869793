//! The client's side: the request in Workerman's order, and the check of the server's answer (RFC
//! 6455 §4.1).
use super::{accept_for, check_ours, check_protocols};
use crate::protocols::http::{HeadFault, HeadScan, check_header, list};
use crate::protocols::websocket::WebsocketType;
use crate::protocols::websocket::deflate::{Agreement, Deflate};
use crate::protocols::{Context, Input, Target, Violation};
use crate::{Error, Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use std::fmt::Write;

/// A refusal's body is kept up to here.
pub(super) const BODY_MOST: usize = 64 << 10;

/// What a client's settings add to its handshake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    headers: Box<[(Box<str>, Box<str>)]>,
    origin: Option<Box<str>>,
    protocols: Option<Box<str>>,
    kind: Option<WebsocketType>,
    deflate: Option<Box<Deflate>>,
}

impl Opening {
    /// Further headers, in place of those set before; none is taken if one of them is wrong.
    pub(crate) fn set_headers<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Result<(), Error> {
        let mut checked: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in headers {
            let (name, value) = (name.as_ref(), value.as_ref());
            check_ours(name, value)?;
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            if is("Sec-WebSocket-Protocol") {
                check_protocols(value)?;
            }
            let once = is("Host") || is("Origin") || is("Sec-WebSocket-Protocol");
            if once && checked.iter().any(|(other, _)| is(other)) {
                return Err(Error::header(name, "it is given twice, and may stand there once"));
            }
            checked.push((name.into(), value.into()));
        }
        self.headers = checked.into();
        Ok(())
    }

    pub(crate) fn set_origin(&mut self, origin: &str) -> Result<(), Error> {
        check_header("Origin", origin)?;
        self.origin = Some(origin.into());
        Ok(())
    }

    /// One subprotocol, or several with commas between them, the dearest first.
    pub(crate) fn set_protocols(&mut self, protocols: &str) -> Result<(), Error> {
        check_protocols(protocols)?;
        self.protocols = Some(protocols.into());
        Ok(())
    }

    pub(crate) fn set_kind(&mut self, kind: Option<WebsocketType>) {
        self.kind = kind;
    }

    pub(crate) fn kind(&self) -> Option<WebsocketType> {
        self.kind
    }

    #[cfg(feature = "deflate")]
    pub(crate) fn set_deflate(&mut self, deflate: Deflate) {
        self.deflate = Some(Box::new(deflate));
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }
}

/// The server's 101, and what it agrees to.
type Agreed = (Box<Response>, Option<Agreement>);

/// A handshake from the address to the verified answer.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// The request up to its key, which is drawn anew for each session.
    before_key: String,
    behind_key: String,
    /// The subprotocols asked for, as written.
    asked: String,
    accept: String,
    scan: HeadScan,
    refusal: Option<Refusal>,
    /// What was offered.
    deflate: Option<Deflate>,
}

impl Asking {
    pub(crate) fn new(target: &Target<'_>) -> Self {
        let (before_key, behind_key) = request_around_key(target);
        let opening = target.opening;
        let asked = opening.header("Sec-WebSocket-Protocol").or(opening.protocols.as_deref());
        let asked = asked.unwrap_or("").into();
        let deflate = opening.deflate.as_deref().copied();
        Asking { before_key, behind_key, asked, deflate, ..Asking::default() }
    }

    /// The transport stands: the request leaves.
    pub(crate) fn start(&mut self, cx: &mut Context) {
        let mut nonce = [0; 16];
        cx.random(&mut nonce);
        let key = BASE64_STANDARD.encode(nonce);
        self.accept = accept_for(&key);
        cx.reply(std::mem::take(&mut self.before_key).as_bytes());
        cx.reply(key.as_bytes());
        cx.reply(std::mem::take(&mut self.behind_key).as_bytes());
    }

    pub(crate) fn input(&mut self, buffer: &[u8], cx: &Context) -> Result<Input, Violation> {
        if buffer.is_empty() {
            return Ok(Input::Partial);
        }
        if self.refusal.is_some() {
            return Ok(Input::Package(buffer.len()));
        }
        const BEGINNING: &[u8] = b"HTTP/1.";
        let compared = buffer.len().min(BEGINNING.len());
        if buffer[..compared] != BEGINNING[..compared] {
            // RFC 8446 §5.1: 21 is an alert, which is how TLS answers a request that is none of its
            // own.
            return Err(Violation::new(match buffer[0] {
                21 => "the server speaks TLS: connect with wss:// instead of ws://",
                _ => {
                    "the server's answer to the handshake is not HTTP/1.1: \
                     another service listens there"
                }
            }));
        }
        match self.scan.find(buffer, cx.limits()) {
            Ok(Some(length)) => Ok(Input::Package(length)),
            Ok(None) => Ok(Input::Partial),
            Err(fault) => Err(unreadable(fault, cx)),
        }
    }

    /// `Some`: the server has agreed. `None`: it refuses, and the rest of its answer is awaited.
    pub(crate) fn decode(
        &mut self,
        package: &[u8],
        cx: &mut Context,
    ) -> Result<Option<Agreed>, Violation> {
        if let Some(refusal) = &mut self.refusal {
            refusal.feed(package);
            return self.refused_if_complete(cx);
        }
        let response = Response::parse(package).map_err(|fault| unreadable(fault, cx))?;
        if response.status() != 101 {
            self.refusal = Some(Refusal::new(response));
            return self.refused_if_complete(cx);
        }
        match self.check(&response) {
            Ok(agreed) => Ok(Some((Box::new(response), agreed))),
            Err(text) => {
                cx.refused(response);
                Err(Violation::new(text))
            }
        }
    }

    /// The server will send no more, or the time is up.
    pub(crate) fn eof(&mut self, cx: &mut Context) -> Violation {
        match self.refusal.take() {
            Some(refusal) => refusal.told(cx),
            None if self.scan.has_begun() => Violation::new(
                "the server closed the connection inside its answer to the handshake",
            ),
            None => Violation::new(
                "the server closed the connection before its answer to the handshake",
            ),
        }
    }

    fn refused_if_complete(&mut self, cx: &mut Context) -> Result<Option<Agreed>, Violation> {
        match self.refusal.take_if(|refusal| refusal.is_complete()) {
            Some(refusal) => Err(refusal.told(cx)),
            None => Ok(None),
        }
    }

    /// RFC 6455 §4.1, the numbered list behind "the client MUST validate the server's response".
    fn check(&self, response: &Response) -> Result<Option<Agreement>, String> {
        let one = |name: &str| {
            let mut values = response.all(name);
            match (values.next(), values.next()) {
                (Some(value), None) => Ok(value),
                (None, _) => Err(format!("the server's 101 has no {name} header")),
                (Some(_), Some(_)) => Err(format!("the server's 101 has two {name} headers")),
            }
        };
        if !response.is_http_1_1() {
            return Err("the server answers 101 in HTTP/1.0, which knows no upgrade".into());
        }
        let upgrade = one("Upgrade")?;
        if !upgrade.eq_ignore_ascii_case("websocket") {
            return Err(format!("the server upgrades to {upgrade:?}, not to websocket"));
        }
        let mut connection = response.all("Connection").flat_map(list);
        if !connection.any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Err("the server's 101 has no Connection: Upgrade header".into());
        }
        if one("Sec-WebSocket-Accept")? != self.accept {
            return Err("the server's Sec-WebSocket-Accept does not belong to our key: \
                        it has not read this request"
                .into());
        }
        let agreed = self.check_extensions(response)?;
        let chosen: Vec<&str> = response.all("Sec-WebSocket-Protocol").collect();
        match chosen[..] {
            [] => Ok(agreed),
            [chosen] if list(&self.asked).any(|asked| asked == chosen) => Ok(agreed),
            [chosen] => {
                Err(format!("the server chose the subprotocol {chosen:?}, which was not asked for"))
            }
            _ => Err("the server's 101 has two Sec-WebSocket-Protocol headers".into()),
        }
    }

    fn check_extensions(&self, response: &Response) -> Result<Option<Agreement>, String> {
        let mut values = response.all("Sec-WebSocket-Extensions");
        if let Some(offered) = &self.deflate {
            return offered.check_answer(values);
        }
        match values.find_map(|value| list(value).next()) {
            None => Ok(None),
            Some(extension) => {
                Err(format!("the server uses an extension nobody asked for: {extension}"))
            }
        }
    }
}

/// Exactly Workerman's order; each part stands on a line of its own here.
fn request_around_key(target: &Target<'_>) -> (String, String) {
    let opening = target.opening;
    let mut before = format!("GET {} HTTP/1.1\r\n", target.path);
    let mut line = |name: &str, value: &str| {
        if opening.header(name).is_none() {
            let _ = write!(before, "{name}: {value}\r\n");
        }
    };
    line("Host", target.host);
    line("Connection", "Upgrade");
    line("Upgrade", "websocket");
    if let Some(origin) = &opening.origin {
        line("Origin", origin);
    }
    if let Some(protocols) = &opening.protocols {
        line("Sec-WebSocket-Protocol", protocols);
    }
    line("Sec-WebSocket-Version", "13");
    before.push_str("Sec-WebSocket-Key: ");

    let mut behind = String::from("\r\n");
    if let Some(deflate) = &opening.deflate {
        let _ = write!(behind, "Sec-WebSocket-Extensions: {}\r\n", deflate.offer());
    }
    for (name, value) in opening.headers.iter() {
        let _ = write!(behind, "{name}: {value}\r\n");
    }
    if let (Some(userinfo), None) = (target.userinfo, opening.header("Authorization")) {
        let credentials = BASE64_STANDARD.encode(userinfo);
        let _ = write!(behind, "Authorization: Basic {credentials}\r\n");
    }
    behind.push_str("\r\n");
    (before, behind)
}

fn unreadable(fault: HeadFault, cx: &Context) -> Violation {
    let limits = cx.limits();
    Violation::new(match fault {
        HeadFault::TooLong => format!(
            "the server's answer to the handshake has a head of more than {} bytes \
             (Limits::head_bytes)",
            limits.head_bytes
        ),
        HeadFault::TooManyFields => format!(
            "the server's answer to the handshake has more than {} headers (Limits::headers)",
            limits.headers
        ),
        HeadFault::Malformed(what) => {
            format!("the server's answer to the handshake is no right HTTP: {what}")
        }
    })
}

/// An answer other than 101, while its body is awaited.
#[derive(Debug)]
struct Refusal {
    response: Response,
    body: Vec<u8>,
    rest: Rest,
}

/// How the body ends (RFC 9112 §6.3), and what of it is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Bytes(usize),
    UntilEnd,
    Chunked(Chunk),
}

/// Where in the chunked coding (RFC 9112 §7.1) the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size(usize),
    /// Behind the size: an extension, or the line's end.
    Line(usize),
    Data(usize),
    /// The line end behind the data.
    DataEnd,
}

impl Refusal {
    fn new(response: Response) -> Self {
        let lengths: Vec<&str> = response.all("Content-Length").collect();
        let chunked = response.all("Transfer-Encoding").flat_map(list).last();
        let rest = match (response.status(), chunked, &lengths[..]) {
            (100..=199 | 204 | 304, _, _) => Rest::Bytes(0),
            (_, Some(last), _) if last.eq_ignore_ascii_case("chunked") => {
                Rest::Chunked(Chunk::Size(0))
            }
            (_, None, [length]) => {
                length.parse().map_or(Rest::UntilEnd, |length: usize| Rest::Bytes(length))
            }
            _ => Rest::UntilEnd,
        };
        Refusal { response, body: Vec::new(), rest }
    }

    fn is_complete(&self) -> bool {
        self.rest == Rest::Bytes(0) || self.body.len() >= BODY_MOST
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_complete() {
            let awaited = match self.rest {
                Rest::Bytes(n) | Rest::Chunked(Chunk::Data(n)) => n,
                Rest::UntilEnd => usize::MAX,
                Rest::Chunked(chunk) => {
                    self.rest = chunk.after(bytes[0]);
                    bytes = &bytes[1..];
                    continue;
                }
            };
            let taken = awaited.min(bytes.len()).min(BODY_MOST - self.body.len());
            let (data, behind) = bytes.split_at(taken);
            self.body.extend_from_slice(data);
            bytes = behind;
            self.rest = match self.rest {
                Rest::Bytes(n) => Rest::Bytes(n - taken),
                Rest::Chunked(Chunk::Data(n)) if n == taken => Rest::Chunked(Chunk::DataEnd),
                Rest::Chunked(Chunk::Data(n)) => Rest::Chunked(Chunk::Data(n - taken)),
                rest => rest,
            };
        }
    }

    fn told(mut self, cx: &mut Context) -> Violation {
        let text = explanation(&self.response);
        self.response.set_body(self.body);
        cx.refused(self.response);
        Violation::new(text)
    }
}

impl Chunk {
    /// What is wrong ends the body: only a message for a person is lost.
    fn after(self, byte: u8) -> Rest {
        match (self, byte) {
            (Chunk::Size(size), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0) as usize;
                let size = size.checked_mul(16).map_or(usize::MAX, |size| size | digit);
                Rest::Chunked(Chunk::Size(size))
            }
            (Chunk::Size(0) | Chunk::Line(0), b'\n') => Rest::Bytes(0),
            (Chunk::Size(size) | Chunk::Line(size), b'\n') => Rest::Chunked(Chunk::Data(size)),
            (Chunk::Size(size) | Chunk::Line(size), _) => Rest::Chunked(Chunk::Line(size)),
            (Chunk::DataEnd, b'\r') => Rest::Chunked(Chunk::DataEnd),
            (Chunk::DataEnd, b'\n') => Rest::Chunked(Chunk::Size(0)),
            (Chunk::Data(_) | Chunk::DataEnd, _) => Rest::Bytes(0),
        }
    }
}

/// What the server said, and what to do about it.
fn explanation(response: &Response) -> String {
    let (status, reason) = (response.status(), response.reason());
    let mut text = format!("the server answered {status}");
    if !reason.is_empty() {
        let _ = write!(text, " {reason}");
    }
    let remedy = match (status, response.header("Location")) {
        (301 | 302 | 303 | 307 | 308, Some(location)) => {
            let _ = write!(text, " to {location}");
            "redirects are not followed, connect to that address"
        }
        (200..=299, _) => "a page, but no WebSocket is served at this address; check its path",
        (400, _) => "it finds the request wrong; its body may say why",
        (401, _) => {
            "it wants credentials: user:password@ in the address, or an Authorization header"
        }
        (403, _) => "it admits other clients: it may want another Origin, a cookie, a token",
        (404 | 405 | 410, _) => "no WebSocket is served at this path; check the address",
        (407, _) => "a proxy on the way wants credentials",
        (426, _) => "it wants another protocol or version than WebSocket 13",
        (429 | 503, _) => "it is too busy; reconnect later",
        (500..=599, _) => "it failed; reconnect later",
        _ => "a WebSocket begins with 101",
    };
    let _ = write!(text, ": {remedy}");
    if let Some(after) = response.header("Retry-After") {
        let _ = write!(text, " (Retry-After: {after})");
    }
    text
}

#[cfg(test)]
mod tests;
