//! The server's side of a connection: requests in their order, each answered before the next one
//! is read.
use super::answer::{Exchange, Stage, refusal};
use super::chunked::Chunked;
use super::collected::{Collected, Collecting, Sink};
use super::conditional::Conditions;
use super::framing::{Body, Framing, Refused};
use super::head::text_of;
use super::multipart::{Parts, boundary_of, too_many_parts};
use super::reply::{Kind, Reply};
use super::request::{Content, Layout, Origin};
use super::session::{Number, Seat};
use super::upload::Form;
use super::{FieldLines, HeadFault, HeadScan};
use crate::protocols::websocket::Admission;
use crate::protocols::{Context, Input, Protocol, Serve, Violation};
use crate::{Farewell, Payload, Request};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

/// An HTTP/1.1 server's side of a connection: `http://`.
///
/// Requests come one after another: the next one is delivered once this one is answered, also where
/// the client does not wait for that. An answer may be sent later, from a timer or another
/// connection's callback.
///
/// ```
/// use workerman::{Http, Response, Worker};
///
/// # fn main() -> workerman::Result {
/// let worker = Worker::<Http>::listen("http://127.0.0.1:0")?;
/// worker.on_message(|con, request| match request.path() {
///     "/" => con.send("hello"),
///     _ => con.send(Response::new(404).with_body("not found")),
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Http {
    scan: HeadScan,
    reading: Reading,
    exchange: Exchange,
    phase: Phase,
    /// When the phase began; of a body, when its last byte came.
    since: Option<Instant>,
    /// Of the body that is coming: when it began, and how much of it is here.
    body: Option<Box<(Instant, usize)>>,
    /// The client has said all it will say; an answer is still owed.
    half_closed: bool,
    /// The worker stops gracefully: the next answer is the last.
    last: bool,
    /// The deadline that is set. One that rings too early is set anew: cheaper than moving it with
    /// every request.
    armed: Option<Instant>,
    /// Another request has come before this one was answered.
    waiting: bool,
    /// An empty line before a request was passed over.
    passed_over: bool,
    /// Files of the last form that went to disk.
    uploads: Option<Box<Form>>,
    remote: Option<SocketAddr>,
    /// Whose pages may open WebSockets here.
    admission: Option<Rc<Admission>>,
}

/// What the connection's time is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// A head, or what precedes the first one: `limits.opening`, whatever comes meanwhile.
    #[default]
    Head,
    /// Between two requests: `limits.http_idle`.
    Idle,
    /// A body: `limits.body_idle` without a byte, `limits.body_rate` in all.
    Body,
    /// The program's turn: `limits.answer` until it begins to answer; for a client that has
    /// half-closed [`OWED`] at most, from one piece to the next.
    Answering,
}

#[derive(Debug, Default)]
enum Reading {
    #[default]
    Head,
    /// An empty line that a client left behind its last body.
    EmptyLine,
    /// Head and body are delivered where they lie. The text is that of a head whose bytes are not
    /// UTF-8; empty for all others.
    Whole(Box<str>, Head),
    /// The body is collected as it comes.
    Collected(Box<Collected>),
}

/// A head that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    layout: Layout,
    framing: Framing,
    bytes: usize,
    body: usize,
}

impl Http {
    // ------------------------------------------------------------------ reading

    fn head_input(&mut self, buffer: &[u8], cx: &mut Context) -> Result<Input, Violation> {
        if !self.scan.has_begun() && !self.passed_over && buffer.first() == Some(&b'\r') {
            // RFC 9112 §2.2: one empty line before a request is passed over.
            match buffer {
                [_] => return Ok(Input::Partial),
                [_, b'\n', ..] => {
                    self.passed_over = true;
                    self.reading = Reading::EmptyLine;
                    return Ok(Input::Package(2));
                }
                _ => {}
            }
        }
        let bytes = match self.scan.find(buffer, cx.limits()) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                if self.phase != Phase::Head {
                    self.enter(Phase::Head, cx);
                }
                return Ok(Input::Partial);
            }
            Err(fault) => return Err(self.refuse(judged(fault), cx)),
        };
        match self.read_head(&buffer[..bytes], cx) {
            Ok(()) => self.body_input(buffer, cx),
            Err(refused) => Err(self.refuse(refused, cx)),
        }
    }

    #[inline]
    fn read_head(&mut self, bytes: &[u8], cx: &mut Context) -> Result<(), Refused> {
        let text = text_of(bytes);
        let (layout, framing) = Framing::read(&text, cx.limits()).map_err(judged)?;
        let framing = framing?;
        let mut head = Head { layout, framing, bytes: bytes.len(), body: 0 };
        let (body, collected) = match framing.body {
            Body::Length(length) => {
                head.body = length;
                let to_disk = framing.multipart && length > cx.limits().upload_memory_bytes;
                (Collecting::Counted { left: length }, to_disk)
            }
            Body::Chunked => (Collecting::Chunked(Chunked::default()), true),
        };
        if !collected {
            let latin = if let Cow::Owned(text) = text { text } else { String::new() };
            self.reading = Reading::Whole(latin.into(), head);
            return Ok(());
        }
        let kind = layout.fields(&text).all("content-type").next().unwrap_or("");
        let sink = match boundary_of(kind) {
            Some(boundary) => {
                let mut random = [0; 16];
                cx.random(&mut random);
                let memory = cx.limits().upload_memory_bytes;
                Sink::Form(Box::new(Form::new(boundary, memory, random)))
            }
            None => Sink::Memory(Vec::new()),
        };
        let text = text.into_owned();
        let collected = Collected { head, text, begun: false, body, sink, bytes: 0 };
        self.reading = Reading::Collected(Box::new(collected));
        Ok(())
    }

    /// More of a request whose head has been read.
    fn body_input(&mut self, buffer: &[u8], cx: &mut Context) -> Result<Input, Violation> {
        let (head, complete) = match &mut self.reading {
            Reading::Whole(latin, head) => {
                let whole = head.bytes.saturating_add(head.body);
                if buffer.len() < whole {
                    (*head, Input::PartialOf(whole))
                } else if head.framing.multipart && has_too_many_parts(latin, head, buffer) {
                    return Err(self.refuse(too_many_parts(), cx));
                } else {
                    return Ok(Input::Package(whole));
                }
            }
            Reading::Collected(collected) if !collected.begun => {
                (collected.head, Input::Package(collected.head.bytes))
            }
            Reading::Collected(collected) => {
                let fed = collected.feed(buffer, cx);
                let bytes = collected.bytes;
                self.more_body(bytes, cx);
                return fed.map(Input::Package).map_err(|refused| self.refuse(refused, cx));
            }
            Reading::Head | Reading::EmptyLine => return Ok(Input::Partial),
        };
        let first = self.phase != Phase::Body;
        if first {
            self.enter(Phase::Body, cx);
        }
        self.more_body(buffer.len().saturating_sub(head.bytes), cx);
        // RFC 9110 §10.1.1: not where the body has begun to come.
        if first && head.framing.expects_continue && buffer.len() == head.bytes {
            cx.reply(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        Ok(complete)
    }

    // ------------------------------------------------------------------ delivering

    /// Whether its page is admitted, where it asks for another protocol.
    fn begin_exchange(&mut self, head: &Head, text: &str) -> Option<bool> {
        let framing = head.framing;
        let conditions = framing.conditional.then(|| {
            let is_get = head.layout.method(text) == "GET";
            Box::new(Conditions::of(head.layout.fields(text), is_get))
        });
        self.exchange = Exchange {
            stage: Stage::Awaited,
            is_head: framing.is_head,
            is_http_1_1: framing.is_http_1_1,
            keep_alive: framing.keep_alive && !self.last,
            conditions,
            file: None,
            number: Number::next(),
        };
        self.phase = Phase::Answering;
        self.body = None;
        self.scan = HeadScan::default();
        self.passed_over = false;
        self.uploads = None;
        framing.upgrades.then(|| self.admits(head.layout.fields(text)))
    }

    /// Of the exchange that has begun.
    fn origin(&self, cx: &Context) -> Option<Origin> {
        let over_tls = self.admission.as_ref().is_some_and(|admission| admission.over_tls);
        let seat = Seat { number: self.exchange.number.get(), over_tls, doors: cx.scene.doors };
        Some(Origin { seat, remote: self.remote })
    }

    #[cold]
    fn admits(&self, fields: FieldLines) -> bool {
        match &self.admission {
            Some(admission) => admission.judge_request(fields).is_ok(),
            None => Admission::default().judge_request(fields).is_ok(),
        }
    }

    fn deliver<'a>(
        &mut self,
        latin: &str,
        head: Head,
        package: &'a [u8],
        scratch: &'a mut Vec<u8>,
        cx: &Context,
    ) -> Request<'a> {
        let (bytes, body) = package.split_at(head.bytes.min(package.len()));
        let text = if latin.is_empty() {
            std::str::from_utf8(bytes).unwrap_or("")
        } else {
            scratch.extend_from_slice(latin.as_bytes());
            std::str::from_utf8(scratch).unwrap_or("")
        };
        let admitted = self.begin_exchange(&head, text);
        let content = Content { body, admitted, origin: self.origin(cx), ..Content::default() };
        Request::new(text, head.layout, content)
    }

    /// Body, head, the list of files and the trailers go into `scratch`, where the program may see
    /// them.
    fn deliver_collected<'a>(
        &mut self,
        collected: Collected,
        scratch: &'a mut Vec<u8>,
        cx: &Context,
    ) -> Request<'a> {
        let Collected { head, text, sink, body, .. } = collected;
        let trailers = match body {
            Collecting::Chunked(chunked) => chunked.into_trailers(),
            Collecting::Counted { .. } => String::new(),
        };
        let admitted = self.begin_exchange(&head, &text);
        let spilled = match sink {
            Sink::Memory(body) => {
                *scratch = body;
                String::new()
            }
            Sink::Form(mut form) => {
                *scratch = std::mem::take(&mut form.kept);
                let spilled = form.spilled();
                self.uploads = Some(form);
                spilled
            }
        };
        let body = scratch.len();
        scratch.extend_from_slice(text.as_bytes());
        scratch.extend_from_slice(spilled.as_bytes());
        scratch.extend_from_slice(trailers.as_bytes());
        let (body, rest) = scratch.split_at(body);
        let rest = std::str::from_utf8(rest).unwrap_or("");
        let (text, rest) = rest.split_at_checked(text.len()).unwrap_or(("", ""));
        let (spilled, trailers) = rest.split_at_checked(spilled.len()).unwrap_or(("", ""));
        let content = Content { body, spilled, trailers, admitted, origin: self.origin(cx) };
        Request::new(text, head.layout, content)
    }

    // ------------------------------------------------------------------ answering

    /// An answer is complete: the connection ends, or serves the next request.
    #[inline]
    fn answered(&mut self, cx: &mut Context) {
        if !self.exchange.keep_alive {
            cx.close();
            return;
        }
        self.enter(Phase::Idle, cx);
        if self.waiting {
            self.waiting = false;
            cx.read_on();
        }
    }

    /// Tells the client what was wrong; the connection ends with it (RFC 9112 §9.6).
    #[cold]
    fn refuse(&mut self, refused: Refused, cx: &mut Context) -> Violation {
        let mut answer = Vec::new();
        refusal(&refused, &mut answer, cx);
        cx.reply(&answer);
        Violation::new(refused.why).code(refused.status)
    }
}

/// A form that lies in memory is judged as one that goes to disk is.
fn has_too_many_parts(latin: &str, head: &Head, buffer: &[u8]) -> bool {
    let (bytes, behind) = buffer.split_at(head.bytes.min(buffer.len()));
    let text = if latin.is_empty() { text_of(bytes) } else { Cow::Borrowed(latin) };
    let kind = head.layout.fields(&text).all("content-type").next().unwrap_or("");
    let body = &behind[..head.body.min(behind.len())];
    boundary_of(kind).is_some_and(|boundary| Parts::are_too_many(body, boundary))
}

fn judged(fault: HeadFault) -> Refused {
    match fault {
        HeadFault::TooLong => Refused::new(431, "a head that is too long (Limits::head_bytes)"),
        HeadFault::TooManyFields => Refused::new(431, "too many headers (Limits::headers)"),
        HeadFault::Malformed(what) => Refused::new(400, what),
    }
}

impl Protocol for Http {
    const NAME: &'static str = "http";
    const RUNS_NO_PROGRAM_CODE: bool = true;
    const PIECES_OUTLAST_CLOSE: bool = true;
    /// The limit counts a body without its head and its chunks' lines.
    const JUDGES_LENGTH: bool = true;
    type Incoming<'a> = Request<'a>;
    type Outgoing<'a> = Reply<'a>;

    fn input(&mut self, buffer: &mut [u8], cx: &mut Context) -> Result<Input, Violation> {
        if self.exchange.stage != Stage::Idle {
            // Whatever is sent next answers the request before: this one waits for that.
            if !self.waiting {
                self.waiting = true;
                cx.read_no_further();
            }
            return Ok(Input::Partial);
        }
        match &self.reading {
            Reading::Head | Reading::EmptyLine => self.head_input(buffer, cx),
            _ => self.body_input(buffer, cx),
        }
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Request<'a>>, Violation> {
        match std::mem::take(&mut self.reading) {
            Reading::Head | Reading::EmptyLine => Ok(None),
            Reading::Whole(latin, head) => {
                self.await_answer(cx);
                Ok(Some(self.deliver(&latin, head, package, scratch, cx)))
            }
            Reading::Collected(collected) if collected.begun && collected.is_whole() => {
                self.await_answer(cx);
                Ok(Some(self.deliver_collected(*collected, scratch, cx)))
            }
            Reading::Collected(mut collected) => {
                collected.begun = true;
                self.reading = Reading::Collected(collected);
                Ok(None)
            }
        }
    }

    #[inline]
    fn encode(
        &mut self,
        message: Reply<'_>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation> {
        if let Some(lent) = self.encode_split(message, out, cx)? {
            out.extend_from_slice(&lent);
        }
        Ok(())
    }

    #[inline]
    fn encode_split<'m>(
        &mut self,
        message: Self::Outgoing<'m>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Cow<'m, [u8]>>, Violation> {
        let lent = self.exchange.encode(message, out, cx)?;
        if self.exchange.stage == Stage::Idle {
            self.answered(cx);
        } else {
            self.piece_sent(cx);
        }
        Ok(lent)
    }

    fn encode_payload(
        &mut self,
        payload: Payload,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation> {
        self.encode(Reply(Kind::Plain(payload)), out, cx)
    }

    fn on_connect(&mut self, cx: &mut Context) {
        cx.judge_silence();
        self.enter(Phase::Head, cx);
    }

    fn on_timer(&mut self, cx: &mut Context) -> Result<(), Violation> {
        self.armed = None;
        let Some(due) = self.due(cx) else { return Ok(()) };
        if cx.now() < due {
            self.armed = Some(due);
            cx.set_deadline(Some(due));
            return Ok(());
        }
        if self.phase == Phase::Answering {
            return self.answer_is_late(cx);
        }
        if self.phase == Phase::Idle || !self.scan.has_begun() {
            // RFC 9112 §9.5: nobody is owed anything between two requests.
            cx.close();
            return Ok(());
        }
        Err(self.refuse(Refused::new(408, "the rest of the request did not come in time"), cx))
    }

    fn on_writable(&mut self, out: &mut Vec<u8>, cx: &mut Context) -> Result<(), Violation> {
        if self.exchange.stage != Stage::File {
            return Ok(());
        }
        self.exchange.append_piece(out)?;
        if self.exchange.stage == Stage::Idle {
            self.answered(cx);
        }
        Ok(())
    }

    /// RFC 9112 §9.6 lets a client end its own direction behind its last request: what it asked
    /// for is still owed.
    fn on_eof<'a>(
        &mut self,
        _: &'a mut [u8],
        _: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Request<'a>>, Violation> {
        if self.exchange.is_owed() {
            self.exchange.keep_alive = false;
            self.half_closed = true;
            self.enter(Phase::Answering, cx);
            cx.read_no_further();
        }
        Ok(None)
    }

    fn hears_again(&mut self, cx: &mut Context) {
        self.forgive_rest(cx.now());
    }

    fn on_unsent(&mut self, out: &mut Vec<u8>, cx: &mut Context) {
        if self.exchange.stage == Stage::Awaited {
            refusal(&Refused::new(500, "the server could not make its answer"), out, cx);
            self.exchange.stage = Stage::Idle;
            self.exchange.keep_alive = false;
            cx.close();
        }
    }

    fn on_last(&mut self, _: &mut Context) {
        self.last = true;
        self.exchange.keep_alive = false;
    }

    fn on_closing(&mut self, out: &mut Vec<u8>, cx: &mut Context) -> bool {
        let refused = match (self.exchange.stage, cx.farewell()) {
            (Stage::Awaited, Farewell::CallbackFailed) => {
                Some(Refused::new(500, "the server has failed at this request"))
            }
            (Stage::Awaited, Farewell::Stopping) => Some(Refused::new(503, "the server stops")),
            (_, Farewell::Asked) => {
                self.exchange.end_pieces(out);
                None
            }
            // A body that breaks off must not look whole.
            _ => None,
        };
        if let Some(refused) = refused {
            refusal(&refused, out, cx);
            self.exchange.stage = Stage::Idle;
        }
        self.exchange.keep_alive = false;
        false
    }
}

impl Serve for Http {
    fn accepted_by(&mut self, admission: &Rc<Admission>) {
        self.admission = Some(admission.clone());
    }

    fn accepted_from(&mut self, remote: Option<SocketAddr>) {
        self.remote = remote;
    }
}

mod time;

#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code))]
pub(super) mod testing;
#[cfg(test)]
mod tests;
