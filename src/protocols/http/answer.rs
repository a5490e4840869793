//! Answers on their way out: heads (RFC 9112 §4), lengths (§6), and bodies in one piece or many.
use super::conditional::{Conditions, Plan, tag};
use super::date::{self, date};
use super::files::{self, About, File, Sending};
use super::reply::{Chunk, Kind, Reply};
use super::response::FromFile;
use super::response::reason_of;
use super::{Refused, list};
use crate::protocols::tcp::LENT_FROM;
use crate::protocols::{Context, Violation};
use crate::{Payload, Response};
use std::borrow::Cow;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::Path;

/// So much of a file is read at once.
pub(super) const PIECE_BYTES: usize = 64 << 10;

const TEXT: &str = "text/html;charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// One request and how far its answer has come.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) stage: Stage,
    pub(super) is_head: bool,
    pub(super) is_http_1_1: bool,
    /// The connection serves another request after this one.
    pub(super) keep_alive: bool,
    pub(super) conditions: Option<Box<Conditions>>,
    pub(super) file: Option<Box<Sending>>,
    /// The session's `Set-Cookie` line.
    pub(super) cookie: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// No request waits for an answer.
    #[default]
    Idle,
    /// A request was delivered.
    Awaited,
    /// The program sends one piece after another. `mute`: to a client that asked for the head
    /// alone. `endless`: events, until the client leaves.
    Pieces { chunked: bool, mute: bool, endless: bool },
    /// A file is sent, whenever there is room for the next piece.
    File,
}

/// How long a body is.
#[derive(Clone, Copy)]
enum Length {
    None,
    Of(u64),
    Chunked,
    /// Until the connection ends.
    Open,
}

type Encoded<'m> = Result<Option<Cow<'m, [u8]>>, Violation>;

impl Exchange {
    /// A client that will ask nothing more still waits for something. One that looks at events has
    /// left.
    pub(super) fn is_owed(&self) -> bool {
        matches!(self.stage, Stage::Awaited | Stage::Pieces { endless: false, .. })
    }

    /// Appends this reply; a large body is lent.
    pub(super) fn encode<'m>(
        &mut self,
        reply: Reply<'m>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Encoded<'m> {
        match (reply.0, self.stage) {
            (Kind::Plain(body), Stage::Awaited) => Ok(self.plain(body, out, cx)),
            (Kind::Response(response), Stage::Awaited) => self.response(*response, out, cx),
            (Kind::Chunk(chunk), Stage::Pieces { .. }) => self.chunk(chunk, out),
            (Kind::Event(event), Stage::Pieces { .. }) => match event.fault() {
                Some(fault) => Err(Violation::new(fault)),
                None => self.chunk(Chunk::new(event.to_string()), out),
            },
            (_, Stage::Idle) => Err(Violation::new(
                "no request waits for an answer: each one is answered once, in its order",
            )),
            (Kind::Chunk(_) | Kind::Event(_), Stage::Awaited) => Err(Violation::new(
                "a Response begins a body in pieces: send one with `Transfer-Encoding: chunked` or \
                 `Content-Type: text/event-stream` first",
            )),
            (_, Stage::Pieces { .. } | Stage::File) => Err(Violation::new(
                "the answer before is not complete: a body in pieces ends with Chunk::end()",
            )),
        }
    }

    /// What is sent most.
    #[inline]
    fn plain<'m>(
        &mut self,
        body: Payload<'m>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Option<Cow<'m, [u8]>> {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nDate: ");
        out.extend_from_slice(&date(cx.system_time()));
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(if body.is_text() { TEXT } else { BYTES }.as_bytes());
        out.extend_from_slice(b"\r\n");
        self.end_head(Length::Of(body.as_bytes().len() as u64), out);
        self.stage = Stage::Idle;
        if self.is_head { None } else { put_body(body.into_bytes(), out) }
    }

    fn response(
        &mut self,
        mut response: Response,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Encoded<'static> {
        if let Some(fault) = response.take_fault() {
            return Err(Violation::new(fault.to_string()));
        }
        let status = response.status();
        if status == 101 || !(100..=599).contains(&status) {
            let reason = format!("the status {status} is none that can be sent");
            return Err(Violation::new(reason + ": another protocol begins with upgrade_with"));
        }
        if status < 200 {
            self.interim(&response, out);
            return Ok(None);
        }
        let (file, body) = (response.take_file(), response.take_body());
        // RFC 9110 §15.3.5, §15.4.5: these have none, whatever is said about it.
        let bodyless = matches!(status, 204 | 304);
        if bodyless && (file.is_some() || !body.is_empty()) {
            return Err(Violation::new(format!("a response {status} has no body")));
        }
        if let Some(file) = file {
            return self.file(response, *file, out, cx);
        }
        self.check_length(&response, body.len())?;
        if !bodyless && in_pieces(&response)? {
            return self.begin_pieces(&response, body, out, cx);
        }
        let length = if bodyless { Length::None } else { Length::Of(body.len() as u64) };
        self.put_head(&response, length, out, cx);
        self.stage = Stage::Idle;
        Ok(if self.is_head { None } else { put_body(Cow::Owned(body), out) })
    }

    /// A length that the program states must be the right one. For HEAD and 304 it is that of a
    /// body which is not sent (RFC 9110 §8.6).
    fn check_length(&self, response: &Response, length: usize) -> Result<(), Violation> {
        let free = response.status() == 304 || (self.is_head && length == 0);
        for stated in response.all("content-length") {
            let number = stated.parse::<u64>().ok();
            if number.is_none() || (!free && number != Some(length as u64)) {
                let reason = format!("Content-Length {stated:?} for a body of {length} bytes");
                return Err(Violation::new(reason + ": leave it out"));
            }
        }
        Ok(())
    }

    /// RFC 9110 §15.2: a client of HTTP/1.0 does not know such a response.
    fn interim(&self, response: &Response, out: &mut Vec<u8>) {
        if self.is_http_1_1 {
            put_status(response.status(), response.reason(), out);
            for (name, value) in response.headers() {
                put_field(name, value, out);
            }
            out.extend_from_slice(b"\r\n");
        }
    }

    fn begin_pieces(
        &mut self,
        response: &Response,
        body: Vec<u8>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Encoded<'static> {
        let chunked = self.is_http_1_1;
        // RFC 9112 §6.1: HTTP/1.0 knows no chunks; there the end of the connection ends the body.
        self.keep_alive &= chunked;
        self.put_head(response, if chunked { Length::Chunked } else { Length::Open }, out, cx);
        let endless = response.header("transfer-encoding").is_none();
        self.stage = Stage::Pieces { chunked, mute: self.is_head, endless };
        if self.is_head && endless {
            // Nobody ends a stream of events.
            self.stage = Stage::Idle;
        }
        if body.is_empty() { Ok(None) } else { self.chunk(Chunk::new(body), out) }
    }

    fn chunk<'m>(&mut self, chunk: Chunk<'_>, out: &mut Vec<u8>) -> Encoded<'m> {
        let Stage::Pieces { chunked, mute, .. } = self.stage else { return Ok(None) };
        let data = chunk.0.as_bytes();
        if data.is_empty() {
            self.end_pieces(out);
        } else if chunked && !mute {
            let _ = write!(out, "{:x}\r\n", data.len());
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        } else if !mute {
            out.extend_from_slice(data);
        }
        Ok(None)
    }

    /// The last chunk (RFC 9112 §7.1).
    pub(super) fn end_pieces(&mut self, out: &mut Vec<u8>) {
        if let Stage::Pieces { chunked: true, mute: false, .. } = self.stage {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        if matches!(self.stage, Stage::Pieces { .. }) {
            self.stage = Stage::Idle;
        }
    }

    // ------------------------------------------------------------------ files

    fn file(
        &mut self,
        mut response: Response,
        FromFile { path, part }: FromFile,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Encoded<'static> {
        let path = &*path;
        let (file, about) = match files::open(path) {
            Ok(opened) => opened,
            Err(e) => {
                let status = match e.kind() {
                    ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput => 404,
                    ErrorKind::PermissionDenied => 403,
                    _ => 500,
                };
                return self.response(short(status, reason_of(status)), out, cx);
            }
        };
        // The program may have asked for it when the file was longer.
        response.forget("content-length");
        if let Some((offset, length)) = part {
            let to = length.map_or(about.bytes, |n| offset.saturating_add(n).min(about.bytes));
            return self.chosen_part(response, (file, about, path), offset..to, out, cx);
        }
        let tag = tag(&about);
        let plan = match (&self.conditions, response.status()) {
            (Some(conditions), 200) => conditions.plan(&about, &tag),
            _ => Plan::Whole,
        };
        let response = with_validators(response, path, &about, &tag);
        match plan {
            Plan::Whole => self.begin_file(response, file, 0, about.bytes, out, cx),
            Plan::Part(range) => {
                let (from, to, all) = (range.start, range.end, about.bytes);
                let response = response
                    .with_status(206)
                    .with_header("Content-Range", format_args!("bytes {from}-{}/{all}", to - 1));
                self.begin_file(response, file, from, to - from, out, cx)
            }
            Plan::NotModified => self.response(response.with_status(304), out, cx),
            Plan::PreconditionFailed => self.response(short(412, reason_of(412)), out, cx),
            Plan::Unsatisfiable => self.unsatisfiable(&about, out, cx),
        }
    }

    /// RFC 9110 §14.4: how long it is, so that the client may ask better.
    fn unsatisfiable(
        &mut self,
        about: &About,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Encoded<'static> {
        let all = format_args!("bytes */{}", about.bytes);
        let response = short(416, reason_of(416)).with_header("Content-Range", all);
        self.response(response, out, cx)
    }

    /// The part of a file that the program has chosen. Validators are the whole file's: only a 206
    /// says whose part it is.
    fn chosen_part(
        &mut self,
        mut response: Response,
        (file, about, path): (File, About, &Path),
        Range { start, end }: Range<u64>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Encoded<'static> {
        let is_206 = response.status() == 206;
        if start > about.bytes || (is_206 && start >= end) {
            return self.unsatisfiable(&about, out, cx);
        }
        if is_206 {
            let range = format_args!("bytes {start}-{}/{}", end - 1, about.bytes);
            response = with_validators(response, path, &about, &tag(&about));
            response = response.with_header("Content-Range", range);
        } else if response.header("content-type").is_none() {
            response = response.with_header("Content-Type", kind_of(path));
        }
        self.begin_file(response, file, start, end.max(start) - start, out, cx)
    }

    fn begin_file(
        &mut self,
        response: Response,
        file: File,
        from: u64,
        bytes: u64,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Encoded<'static> {
        let mut sending = Sending::new(file, from, bytes)?;
        self.put_head(&response, Length::Of(bytes), out, cx);
        self.stage = Stage::Idle;
        if self.is_head {
            return Ok(None);
        }
        if bytes <= PIECE_BYTES as u64 {
            if let Err(e) = sending.append(PIECE_BYTES, out) {
                self.stage = Stage::Awaited;
                return Err(Violation::new(format!("the file cannot be read: {e}")));
            }
            return Ok(None);
        }
        self.file = Some(Box::new(sending));
        self.stage = Stage::File;
        Ok(None)
    }

    /// The next piece of a file.
    pub(super) fn append_piece(&mut self, out: &mut Vec<u8>) -> Result<(), Violation> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let appended = file.append(PIECE_BYTES, out);
        if appended.is_err() || file.is_done() {
            self.file = None;
            self.stage = Stage::Idle;
        }
        // Its length was promised: the client must see the connection break off.
        appended.map_err(|e| Violation::new(format!("a file cannot be sent on: {e}")))
    }

    // ------------------------------------------------------------------ heads

    fn put_head(
        &mut self,
        response: &Response,
        length: Length,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) {
        put_status(response.status(), response.reason(), out);
        let (mut dated, mut typed) = (false, false);
        for (name, value) in response.headers() {
            match name.len() {
                // Ours to say: they belong to this connection, not to the response.
                10 if name.eq_ignore_ascii_case("connection") => {
                    if list(value).any(|option| option.eq_ignore_ascii_case("close")) {
                        self.keep_alive = false;
                    }
                    continue;
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => continue,
                14 if name.eq_ignore_ascii_case("content-length") => match length {
                    // RFC 9110 §8.6: none in a 204, not even 0.
                    Length::None if response.status() == 204 => continue,
                    // What the body would be long that is not sent.
                    Length::None | Length::Of(0) => {}
                    _ => continue,
                },
                4 => dated |= name.eq_ignore_ascii_case("date"),
                12 => typed |= name.eq_ignore_ascii_case("content-type"),
                _ => {}
            }
            put_field(name, value, out);
        }
        if !dated {
            out.extend_from_slice(b"Date: ");
            out.extend_from_slice(&date(cx.system_time()));
            out.extend_from_slice(b"\r\n");
        }
        if !typed && !matches!(length, Length::None | Length::Of(0)) {
            put_field("Content-Type", TEXT, out);
        }
        let stated = response.header("content-length").is_some();
        let length = if stated && matches!(length, Length::Of(0)) { Length::None } else { length };
        self.end_head(length, out);
    }

    /// The fields that frame the message, and the empty line.
    #[inline]
    fn end_head(&self, length: Length, out: &mut Vec<u8>) {
        match (self.keep_alive, self.is_http_1_1) {
            (true, true) => {}
            // RFC 9112 §9.3: what HTTP/1.0 does not take for granted.
            (true, false) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        }
        if let Some(cookie) = &self.cookie {
            put_field("Set-Cookie", cookie, out);
        }
        match length {
            Length::None | Length::Open => out.extend_from_slice(b"\r\n"),
            Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
            Length::Of(bytes) => {
                out.extend_from_slice(b"Content-Length: ");
                put_number(bytes, out);
                out.extend_from_slice(b"\r\n\r\n");
            }
        }
    }
}

/// The whole answer to a request that is refused, and to one whose callback has failed.
pub(super) fn refusal(refused: &Refused, out: &mut Vec<u8>, cx: &Context) {
    put_status(refused.status, reason_of(refused.status), out);
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(&date(cx.system_time()));
    out.extend_from_slice(b"\r\n");
    let body = format!("{} {}: {}\n", refused.status, reason_of(refused.status), refused.why);
    put_field("Content-Type", "text/plain;charset=utf-8", out);
    let closing = Exchange { is_http_1_1: true, ..Exchange::default() };
    closing.end_head(Length::Of(body.len() as u64), out);
    out.extend_from_slice(body.as_bytes());
}

fn short(status: u16, reason: &str) -> Response {
    Response::new(status)
        .with_header("Content-Type", "text/plain;charset=utf-8")
        .with_body(format!("{status} {reason}\n"))
}

fn with_validators(mut response: Response, path: &Path, about: &About, tag: &str) -> Response {
    let modified = date::written(date::seconds(about.modified));
    let modified = std::str::from_utf8(&modified).unwrap_or("");
    for (name, value) in [
        ("Content-Type", kind_of(path)),
        ("Last-Modified", modified),
        ("ETag", tag),
        ("Accept-Ranges", "bytes"),
    ] {
        if response.header(name).is_none() {
            response = response.with_header(name, value);
        }
    }
    response
}

/// What browsers must be told; the rest they save.
fn kind_of(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    match &*extension.to_ascii_lowercase() {
        "html" | "htm" => TEXT,
        "css" => "text/css;charset=utf-8",
        "js" | "mjs" => "text/javascript;charset=utf-8",
        "txt" | "md" | "log" => "text/plain;charset=utf-8",
        "csv" => "text/csv;charset=utf-8",
        "json" | "map" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        _ => BYTES,
    }
}

/// Whether the program sends this body in pieces.
fn in_pieces(response: &Response) -> Result<bool, Violation> {
    if let Some(coding) = response.header("transfer-encoding") {
        return match coding.eq_ignore_ascii_case("chunked") {
            true => Ok(true),
            false => Err(Violation::new(format!("Transfer-Encoding {coding:?} cannot be sent"))),
        };
    }
    let kind = response.header("content-type").unwrap_or("");
    let events = kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"));
    Ok(events && response.header("content-length").is_none())
}

fn put_status(status: u16, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    put_number(status.into(), out);
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put_field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn put_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

#[inline]
fn put_body<'m>(body: Cow<'m, [u8]>, out: &mut Vec<u8>) -> Option<Cow<'m, [u8]>> {
    if body.len() >= LENT_FROM {
        return Some(body);
    }
    out.extend_from_slice(&body);
    None
}
