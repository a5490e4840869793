//! HTTP/1.1 heads: what the WebSocket handshake needs of them.
/// Request.
#[derive(Debug)]
pub struct Request<'a>(&'a str);
/// Response.
#[derive(Debug)]
pub struct Response;
/// RequestHead.
#[derive(Debug)]
pub(crate) struct RequestHead;
