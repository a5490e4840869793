//! WebSocket (RFC 6455).
/// Ws.
#[derive(Debug, Default)]
pub struct Ws;
/// Websocket.
#[derive(Debug, Default)]
pub struct Websocket;
/// WebsocketType.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebsocketType {
    /// Text.
    Blob,
    /// Binary.
    ArrayBuffer,
}
/// What a client's settings add to its handshake.
#[derive(Debug, Default)]
pub(crate) struct Opening;
