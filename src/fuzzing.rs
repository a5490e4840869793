//! What the fuzz targets under `tests/fuzz` call. Only there: it takes `--cfg fuzzing`.
//!
//! Each takes any bytes, and panics where a promise does not hold.
pub use crate::protocols::fuzzing::{frame, text};
pub use crate::protocols::http::fuzzing::http_request;
#[cfg(feature = "deflate")]
pub use crate::protocols::websocket::fuzzing::deflate;
pub use crate::protocols::websocket::fuzzing::{
    handshake_client, handshake_server, session_client, session_server, websocket_frame,
};
pub use crate::transport::fuzzing::address;

/// What `tests/fuzz/linear` measures: one of ours hears these bytes in pieces of this length, and
/// no limit of its own stands in the way.
pub fn hear(who: &str, bytes: &[u8], cut: usize) {
    use crate::protocols::{fuzzing, http, websocket};
    let many = 1 << 30;
    let limits = crate::Limits::new().message_bytes(many).fragments(many).head_bytes(many);
    let limits = limits.headers(many).upload_memory_bytes(many);
    match who {
        "text" | "frame" => fuzzing::hear(who, &limits, bytes, cut),
        "http_request" => http::fuzzing::hear(&limits, bytes, cut),
        "address" => address(bytes),
        _ => websocket::fuzzing::hear_in_pieces(who, &limits, bytes, cut),
    }
}
