//! What a program sends over http: a body, a whole response, or one piece of a body after another.
use super::is_control;
use crate::{Data, Payload, Response};
use std::borrow::Cow;

/// What `send` takes on an http connection: text or bytes (status 200), a [`Response`], a
/// [`Chunk`], a [`ServerSentEvent`].
///
/// ```
/// use workerman::{Chunk, Http, Response, ServerSentEvent, TcpConnection};
///
/// fn answer(con: TcpConnection<Http>, path: &str) {
///     match path {
///         "/" => con.send("hello"),
///         "/data" => con.send(&[1, 2, 3]),
///         "/pieces" => {
///             con.send(Response::new(200).with_header("Transfer-Encoding", "chunked"));
///             con.send(Chunk::new("one piece, "));
///             con.send(Chunk::new("and another"));
///             con.send(Chunk::end())
///         }
///         "/events" => {
///             con.send(Response::new(200).with_header("Content-Type", "text/event-stream"));
///             con.send(ServerSentEvent::new("the first of many").event("news").id(1))
///         }
///         _ => con.send(Response::new(404)),
///     };
/// }
/// ```
#[derive(Debug)]
pub struct Reply<'a>(pub(super) Kind<'a>);

#[derive(Debug)]
pub(super) enum Kind<'a> {
    Plain(Payload<'a>),
    Response(Box<Response>),
    Chunk(Chunk<'a>),
    Event(ServerSentEvent),
}

impl Reply<'_> {
    /// Whether it begins the answer itself, not one of the 1xx before it.
    #[inline]
    pub(super) fn is_final(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => true,
            Kind::Response(response) => response.status() >= 200,
            Kind::Chunk(_) | Kind::Event(_) => false,
        }
    }
}

/// A piece of a body whose length nobody knows yet. Before the first one a [`Response`] with
/// `Transfer-Encoding: chunked` is sent; an empty one is the end.
#[derive(Debug)]
pub struct Chunk<'a>(pub(super) Payload<'a>);

impl<'a> Chunk<'a> {
    /// The next piece. An empty one is the end, as in PHP.
    pub fn new(data: impl Into<Payload<'a>>) -> Self {
        Chunk(data.into())
    }

    /// The end of the body.
    pub fn end() -> Self {
        Chunk(Payload::text(""))
    }
}

/// An event for a browser's `EventSource`. Before the first one a [`Response`] with
/// `Content-Type: text/event-stream` is sent; `close()` ends the stream.
///
/// ```
/// use workerman::ServerSentEvent;
///
/// let event = ServerSentEvent::new("line one\nline two").event("news").id(7).retry(1.5);
/// let expected = "event: news\nid: 7\nretry: 1500\ndata: line one\ndata: line two\n\n";
/// assert_eq!(event.to_string(), expected);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ServerSentEvent {
    event: Option<String>,
    id: Option<String>,
    retry_ms: Option<u128>,
    data: Option<String>,
}

impl ServerSentEvent {
    /// An event with this data, which may have several lines.
    pub fn new(data: impl std::fmt::Display) -> Self {
        ServerSentEvent { data: Some(data.to_string()), ..Self::default() }
    }

    /// What it is called; without one it is a `message`.
    pub fn event(self, event: impl std::fmt::Display) -> Self {
        ServerSentEvent { event: Some(event.to_string()), ..self }
    }

    /// What a browser that connects again sends as `Last-Event-ID`.
    pub fn id(self, id: impl std::fmt::Display) -> Self {
        ServerSentEvent { id: Some(id.to_string()), ..self }
    }

    /// How long a browser that has lost the connection waits before it connects again.
    pub fn retry(self, after: impl Into<crate::Interval>) -> Self {
        ServerSentEvent { retry_ms: Some(after.into().duration().as_millis()), ..self }
    }

    /// A line end in a name or an id would begin another field.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let wrong =
            |text: &Option<String>| text.as_ref().is_some_and(|text| text.bytes().any(is_control));
        (wrong(&self.event) || wrong(&self.id))
            .then_some("an event's name or id holds a control character: take it out")
    }
}

/// As it goes over the wire.
impl std::fmt::Display for ServerSentEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(event) = &self.event {
            writeln!(f, "event: {event}")?;
        }
        if let Some(id) = &self.id {
            writeln!(f, "id: {id}")?;
        }
        if let Some(retry) = self.retry_ms {
            writeln!(f, "retry: {retry}")?;
        }
        if let Some(data) = &self.data {
            // Each of the three ends a line there, so none may stay inside one.
            for line in data.replace("\r\n", "\n").split(['\r', '\n']) {
                writeln!(f, "data: {line}")?;
            }
        }
        f.write_str("\n")
    }
}

macro_rules! plain {
    ($($ty:ty)*) => {$(
        impl<'a> From<$ty> for Reply<'a> {
            fn from(body: $ty) -> Self {
                Reply(Kind::Plain(body.into()))
            }
        }
    )*};
}
plain! {
    &'a str String &'a String Cow<'a, str> Box<str> std::rc::Rc<str>
    &'a [u8] Vec<u8> &'a Vec<u8> Cow<'a, [u8]> Data<'a> &'a Data<'a>
    std::fmt::Arguments<'a> char bool
    i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64
}

impl<'a> From<Payload<'a>> for Reply<'a> {
    fn from(body: Payload<'a>) -> Self {
        Reply(Kind::Plain(body))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Reply<'a> {
    fn from(body: &'a [u8; N]) -> Self {
        Reply(Kind::Plain(body.into()))
    }
}

impl From<Response> for Reply<'_> {
    fn from(response: Response) -> Self {
        Reply(Kind::Response(Box::new(response)))
    }
}

impl<'a> From<Chunk<'a>> for Reply<'a> {
    fn from(chunk: Chunk<'a>) -> Self {
        Reply(Kind::Chunk(chunk))
    }
}

impl From<ServerSentEvent> for Reply<'_> {
    fn from(event: ServerSentEvent) -> Self {
        Reply(Kind::Event(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_field_by_field_and_its_data_line_by_line() {
        assert_eq!(
            ServerSentEvent::new("a\r\nb\rc\n").to_string(),
            "data: a\ndata: b\ndata: c\ndata: \n\n"
        );
        assert_eq!(ServerSentEvent::new("").to_string(), "data: \n\n");
        assert_eq!(ServerSentEvent::default().retry(2).to_string(), "retry: 2000\n\n");
    }

    #[test]
    fn an_event_whose_name_would_begin_another_field_has_a_fault() {
        assert!(ServerSentEvent::new("x").event("a\ndata: b").fault().is_some());
        assert!(ServerSentEvent::new("x").id("a\rb").fault().is_some());
        assert!(ServerSentEvent::new("x\ny").event("a").id("b").fault().is_none());
    }
}
