//! Workerman's worker/connection model in Rust: WebSocket clients and servers with plain callbacks,
//! without `async`.
#![forbid(unsafe_code)]

pub mod connection;
pub mod data;
pub mod error;
pub mod events;
pub mod interval;
pub mod limits;
pub mod protocols;
mod random;
pub mod timer;
mod transport;
pub mod worker;

pub use connection::{
    AnyConnection, AsyncTcpConnection, Client, Connection, Role, Server, Status, TcpConnection,
    Token,
};
pub use data::{Data, Payload};
pub use error::{Error, ErrorCode, Failure, FailureKind, Outcome, Phase, Result, Sent, Verdict};
pub use events::{LoopHandle, Watch, on_readable, on_signal};
pub use interval::Interval;
pub use limits::Limits;
pub use protocols::{
    Chunk, Context, Cookie, Dial, Farewell, Frame, Http, Input, Protocol, Reply, Request, Response,
    SameSite, Serve, ServerSentEvent, Tcp, Text, UploadedFile, Violation, Websocket,
    WebsocketSession, WebsocketType, Ws,
};
pub use timer::Timer;
pub use transport::{Tls, Transport};
pub use worker::{RunStatus, Running, Worker, WorkerRef, spawn};

/// What a program written in Workerman's style imports.
pub mod prelude {
    pub use crate::{
        AsyncTcpConnection, Data, ErrorCode, Failure, Frame, Http, Protocol, Request, Response,
        Result, Sent, Status, Tcp, TcpConnection, Text, Timer, Tls, Transport, Websocket, Worker,
        Ws,
    };
}

/// The programs of these pages compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/porting.md")]
mod pages {}
