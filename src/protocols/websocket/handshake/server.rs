//! The server's side: the check of the request (RFC 6455 §4.2.1), and the answer.
use super::origin::Admission;
use super::{accept_for, check_ours};
use crate::protocols::http::{HeadFault, HeadScan, RequestHead, list};
use crate::protocols::websocket::deflate::{self, Agreement, Deflate};
use crate::protocols::{Context, Event, Input, Violation};
use crate::{Error, Farewell, Request, Response};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use std::fmt::Write;
use std::rc::Rc;

/// A key is random bytes; whether the bits that belong to no byte are zeros is nobody's concern.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// A handshake from the first byte of the request to the answer.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    scan: HeadScan,
    admission: Option<Rc<Admission>>,
    /// Read and found right; the program decides.
    request: Option<Box<RequestHead>>,
    accept: String,
    headers: Vec<(Box<str>, Box<str>)>,
    refusal: Option<Response>,
    deflate: Option<Deflate>,
}

/// How a handshake ends.
#[derive(Debug)]
pub(crate) enum Verdict {
    Admitted(Box<RequestHead>, Option<Agreement>),
    Refused,
}

impl Answering {
    pub(crate) fn admit_by(&mut self, admission: Rc<Admission>) {
        self.deflate = admission.deflate;
        self.admission = Some(admission);
    }

    #[cfg(feature = "deflate")]
    pub(crate) fn deflate_by(&mut self, deflate: Deflate) {
        self.deflate = Some(deflate);
    }

    /// One whose request an HTTP server has read, and whose origin it has judged.
    pub(crate) fn accepted(request: &Request) -> Result<Self, Response> {
        let head = request.to_head();
        let accept = check(&head).map_err(Refused::into_response)?;
        let verdict = match request.admitted() {
            Some(true) => Ok(()),
            Some(false) => {
                let origin = request.header("origin").unwrap_or("");
                Err(format!("a page of {origin} may not connect; worker.allow_origin admits it"))
            }
            None => Admission::default().judge_request(request.fields()),
        };
        if let Err(text) = verdict {
            tell_of_foreign(&text);
            return Err(foreign(text).into_response());
        }
        Ok(Answering { accept, request: Some(Box::new(head)), ..Answering::default() })
    }

    /// The request is read, and the program has not been asked, or not answered.
    pub(crate) fn is_asked(&self) -> bool {
        self.request.is_some()
    }

    pub(crate) fn input(&mut self, buffer: &[u8], cx: &mut Context) -> Result<Input, Violation> {
        if self.is_asked() {
            return Ok(Input::Partial);
        }
        match self.scan.find(buffer, cx.limits()) {
            Ok(Some(length)) => Ok(Input::Package(length)),
            Ok(None) => Ok(Input::Partial),
            Err(fault) => Err(refused(fault, buffer.first() == Some(&22)).answer(cx)),
        }
    }

    pub(crate) fn decode(&mut self, head: &[u8], cx: &mut Context) -> Result<(), Violation> {
        let read = RequestHead::parse(head).map_err(|fault| refused(fault, false));
        let checked = read.and_then(|request| {
            let accept = check(&request)?;
            self.check_origin(&request)?;
            self.check_extensions(&request)?;
            Ok((accept, Box::new(request)))
        });
        match checked {
            Ok((accept, request)) => {
                self.accept = accept;
                self.request = Some(request.clone());
                cx.note(Event::Upgrade(request));
                Ok(())
            }
            Err(refused) => Err(refused.answer(cx)),
        }
    }

    /// Further lines of the 101, in place of those set before; none is taken if one of them is
    /// wrong.
    pub(crate) fn set_headers<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Result<(), Error> {
        let mut checked: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in headers {
            let (name, value) = (name.as_ref(), value.as_ref());
            check_ours(name, value)?;
            if name.eq_ignore_ascii_case("Sec-WebSocket-Protocol") {
                self.check_choice(name, value)?;
                if checked.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                    return Err(Error::header(name, "one subprotocol is chosen, not two"));
                }
            }
            checked.push((name.into(), value.into()));
        }
        self.headers = checked;
        Ok(())
    }

    /// This answer instead of the 101; a wrong one refuses with 403, and the error says what was
    /// wrong with it.
    pub(crate) fn refuse(&mut self, mut response: Response) -> Result<(), Error> {
        let fault = response.take_fault().or_else(|| check_refusal(&response).err());
        let (response, result) = match fault {
            None => (response, Ok(())),
            Some(error) => (forbidden(), Err(error)),
        };
        self.refusal = Some(response);
        result
    }

    /// The program closes instead of agreeing, or its callback has failed.
    pub(crate) fn deny(&mut self, why: Farewell) {
        self.refusal.get_or_insert_with(|| match why {
            Farewell::CallbackFailed => failed(),
            _ => forbidden(),
        });
    }

    /// Writes the 101, or what the program refused with.
    pub(crate) fn answer(&mut self, cx: &mut Context) -> Option<Verdict> {
        let request = self.request.take()?;
        if let Some(refusal) = self.refusal.take() {
            cx.reply(&bytes_of(&refusal));
            return Some(Verdict::Refused);
        }
        let mut head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            self.accept
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let offers = request.fields().all(EXTENSIONS);
        let accepted = self.deflate.and_then(|deflate| deflate.accept(offers));
        let agreed = accepted.map(|(answer, agreed)| {
            let _ = write!(head, "{EXTENSIONS}: {answer}\r\n");
            agreed
        });
        head.push_str("\r\n");
        cx.reply(head.as_bytes());
        Some(Verdict::Admitted(request, agreed))
    }

    /// RFC 6455 §4.2.2, step 5.5: one of those that the client offered.
    fn check_choice(&self, name: &str, chosen: &str) -> Result<(), Error> {
        let Some(request) = &self.request else {
            let reason =
                "what the client offers is not known yet: choose inside on_websocket_connect";
            return Err(Error::header(name, reason));
        };
        let mut offered = request.fields().all("Sec-WebSocket-Protocol").flat_map(list);
        if offered.any(|offer| offer == chosen) {
            return Ok(());
        }
        Err(Error::header(name, format!("the client did not offer {chosen:?}; it would hang up")))
    }

    /// RFC 6455 §9.1: a list that is none fails the connection, where somebody reads it.
    fn check_extensions(&self, request: &RequestHead) -> Result<(), Refused> {
        if self.deflate.is_none() {
            return Ok(());
        }
        deflate::check_offers(request.fields().all(EXTENSIONS))
            .map_err(|e| Refused::new(400, format!("The {EXTENSIONS} cannot be read: {e}.")))
    }

    fn check_origin(&self, request: &RequestHead) -> Result<(), Refused> {
        let verdict = match &self.admission {
            Some(admission) => admission.judge_request(request.fields()),
            None => Admission::default().judge_request(request.fields()),
        };
        verdict.map_err(foreign)
    }
}

/// Once in a thread as a warning: it may be a page of one's own. Here no worker is in sight.
fn tell_of_foreign(text: &str) {
    use std::cell::Cell;
    thread_local! {
        static TOLD: Cell<bool> = const { Cell::new(false) };
    }
    match TOLD.try_with(|told| told.replace(true)) {
        Ok(false) => log::warn!("a WebSocket is refused: {text} (further ones are debug lines)"),
        _ => log::debug!("a WebSocket is refused: {text}"),
    }
}

/// The page's owner is not told how to be let in; the log is.
fn foreign(text: String) -> Refused {
    let told = "Pages of this origin may not connect here.".into();
    Refused { status: 403, headers: &[], told, text }
}

/// A request that is refused: what the client is told, and what the program is.
#[derive(Debug)]
struct Refused {
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    told: String,
    text: String,
}

impl Refused {
    fn new(status: u16, text: impl Into<String>) -> Self {
        let text = text.into();
        Refused { status, headers: &[], told: text.clone(), text }
    }

    fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Refused { headers, ..self }
    }

    fn into_response(self) -> Response {
        Response::new(self.status)
            .with_headers(self.headers.iter().copied())
            .with_header("Content-Type", "text/plain; charset=utf-8")
            .with_body(self.told + "\n")
    }

    fn answer(self, cx: &mut Context) -> Violation {
        let violation = Violation::new(self.text.clone()).code(self.status);
        cx.reply(&bytes_of(&self.into_response()));
        violation
    }
}

fn refused(fault: HeadFault, speaks_tls: bool) -> Refused {
    match fault {
        // RFC 8446 §5.1: 22 begins a handshake of TLS.
        _ if speaks_tls => Refused::new(
            400,
            "The client speaks TLS and this listener does not: \
             connect with ws://, or give the worker a certificate.",
        ),
        HeadFault::TooLong => {
            Refused::new(431, "The request's head is too long (Limits::head_bytes).")
        }
        HeadFault::TooManyFields => {
            Refused::new(431, "The request has too many headers (Limits::headers).")
        }
        HeadFault::Malformed(what) => {
            Refused::new(400, format!("The request is no right HTTP/1.1: {what}."))
        }
    }
}

/// The `Sec-WebSocket-Accept` for a right request (RFC 6455 §4.2.1).
fn check(head: &RequestHead) -> Result<String, Refused> {
    const WEBSOCKET: &str = "This address serves WebSocket (RFC 6455)";
    let (request, fields) = (head.request(), head.fields());
    let has = |name: &str, token: &str| {
        fields.all(name).flat_map(list).any(|item| item.eq_ignore_ascii_case(token))
    };
    if request.method() != "GET" {
        let text = format!("{WEBSOCKET}, and its handshake is a GET request.");
        return Err(Refused::new(405, text).with(&[("Allow", "GET")]));
    }
    if !head.is_http_1_1() {
        return Err(Refused::new(400, format!("{WEBSOCKET}, and its handshake needs HTTP/1.1.")));
    }
    if !request.uri().starts_with('/') {
        return Err(Refused::new(400, "The request's target must begin with a slash."));
    }
    // RFC 9112 §6: a body here would be the first frames to us and something else to a proxy.
    if fields.all("Transfer-Encoding").next().is_some()
        || fields.all("Content-Length").any(|length| length != "0")
    {
        return Err(Refused::new(400, "A WebSocket handshake has no body."));
    }
    if !has("Upgrade", "websocket") {
        let text = format!("{WEBSOCKET}; connect with a WebSocket client (Upgrade: websocket).");
        return Err(Refused::new(426, text).with(&[("Upgrade", "websocket")]));
    }
    if !has("Connection", "upgrade") {
        return Err(Refused::new(
            400,
            "The request has no Connection: Upgrade header; does a proxy on the way drop it?",
        ));
    }
    // RFC 6455 §4.4.
    let mut versions = fields.all("Sec-WebSocket-Version");
    if (versions.next(), versions.next()) != (Some("13"), None) {
        let text = format!("{WEBSOCKET}, version 13 of it.");
        return Err(Refused::new(426, text)
            .with(&[("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")]));
    }
    let mut keys = fields.all("Sec-WebSocket-Key");
    match (keys.next(), keys.next()) {
        (Some(key), None) if KEY.decode(key).is_ok_and(|bytes| bytes.len() == 16) => {
            Ok(accept_for(key))
        }
        _ => Err(Refused::new(400, "The Sec-WebSocket-Key must be 16 bytes in base64, once.")),
    }
}

/// What went wrong is the log's business, not a stranger's.
fn failed() -> Response {
    Response::new(500)
        .with_header("Content-Type", "text/plain; charset=utf-8")
        .with_body("The server failed to answer.\n")
}

fn forbidden() -> Response {
    Response::new(403)
        .with_header("Content-Type", "text/plain; charset=utf-8")
        .with_body("The server does not want this connection.\n")
}

/// Whether it can stand in place of a 101 and be the last thing that is said.
fn check_refusal(response: &Response) -> Result<(), Error> {
    let status = response.status();
    if !(200..=599).contains(&status) {
        return Err(Error::command(format!("a handshake cannot be refused with status {status}")));
    }
    if response.header("Transfer-Encoding").is_some() {
        return Err(Error::header("Transfer-Encoding", "a refusal is sent with its length"));
    }
    let length = response.body().len().to_string();
    if response.all("Content-Length").any(|given| given != length) {
        return Err(Error::header("Content-Length", format!("the body is {length} bytes long")));
    }
    Ok(())
}

fn bytes_of(response: &Response) -> Vec<u8> {
    let (status, body) = (response.status(), response.body());
    let mut head = format!("HTTP/1.1 {status} {}\r\n", response.reason());
    let mut line = |name: &str, value: &str| {
        let _ = write!(head, "{name}: {value}\r\n");
    };
    for (name, value) in response.headers() {
        if !name.eq_ignore_ascii_case("Connection") && !name.eq_ignore_ascii_case("Content-Length")
        {
            line(name, value);
        }
    }
    line("Connection", "close");
    // RFC 9110 §8.6: no length where there can be no body.
    let has_body = !matches!(status, 204 | 304);
    if has_body {
        if !body.is_empty() && response.header("Content-Type").is_none() {
            line("Content-Type", "text/html;charset=utf-8");
        }
        line("Content-Length", &body.len().to_string());
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    if has_body {
        bytes.extend_from_slice(body);
    }
    bytes
}

#[cfg(test)]
mod tests;
