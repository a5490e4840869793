//! Workerman's worker/connection model in Rust: WebSocket clients and servers with plain callbacks,
//! without `async`.
#![forbid(unsafe_code)]
#![allow(dead_code, unused_imports, unreachable_pub)]

pub mod data;
pub mod error;
mod events;
pub mod interval;
pub mod limits;
pub mod protocols;
mod random;
pub mod timer;
mod transport;

pub use data::{Data, Payload};
pub use error::{Error, ErrorCode, Failure, FailureKind, Outcome, Phase, Result, Sent};
pub use interval::Interval;
pub use limits::Limits;
pub use protocols::{
    Context, Dial, Farewell, Frame, Input, Protocol, Request, Response, Serve, Tcp, Text,
    Violation, Websocket, WebsocketType, Ws,
};
pub use timer::Timer;
