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
