//! Workerman's worker/connection model in Rust: WebSocket clients and servers with plain callbacks,
//! without `async`.
//!
//! A [`Worker`] is what runs; an [`AsyncTcpConnection`] is a client, a [`TcpConnection`] one that a
//! worker accepted. The type parameter is the protocol: [`Ws`] for WebSocket clients, [`Websocket`]
//! for servers, [`Tcp`], [`Text`], [`Frame`], or a [`Protocol`] of your own.
//!
//! ```
//! use workerman::prelude::*;
//!
//! fn main() -> Result {
//!     let chat = Worker::<Websocket>::listen("websocket://127.0.0.1:0")?;
//!     chat.on_message(move |_, data| {
//!         for con in chat.connections() {
//!             con.send(data);
//!         }
//!     });
//!     chat.on_worker_start(|chat| {
//!         let address = chat.local_addr().ok_or("it does not listen")?;
//!         let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{address}"))?;
//!         con.on_websocket_connect(|con, _| con.send("hello"));
//!         con.on_message(|_, data| {
//!             println!("recv: {data}");
//!             Worker::stop_all();
//!         });
//!         con.on_error(|_, _, failure| println!("error: {failure}"));
//!         con.on_close(|con| con.reconnect(1));
//!         con.connect();
//!         Ok(())
//!     });
//!     Worker::run_all()
//! }
//! ```
//!
//! - **Everything runs in one thread**, the one that calls [`Worker::run_all`]. Connections,
//!   workers and timers are handles: numbers that are `Copy`, so that every closure can own them.
//!   One whose object is gone does nothing.
//! - **Callbacks never nest.** What a callback causes (`on_close`, `on_buffer_full`) is delivered
//!   when it has returned. What it may end with is an [`Outcome`]: mind `Ok(())` where it uses `?`.
//! - **Errors** show where the mistake is: in the set-up as an [`Error`], in the network or the
//!   peer as a [`Failure`] in `on_error`, in a callback as its `Err`. What nobody asked to hear of
//!   is a line of the log.
//! - **Lengths of time** are seconds, whole or not, or a [`Duration`](std::time::Duration): see
//!   [`Interval`]. Sizes are bytes. Every limit has a default: see [`Limits`].
//! - **Other threads** send through [`LoopHandle::defer`] and a [`Token`].
//! - **Tests** start servers by [`spawn`]; programs with a loop of their own call [`Worker::turn`].
//! - Once a second: [`Timer`]. TLS: [`Tls`]. Datagrams: [`Udp`], [`AsyncUdpConnection`]. Signals
//!   and foreign descriptors: [`on_signal`], [`on_readable`].
#![forbid(unsafe_code)]

pub mod connection;
pub mod data;
pub mod error;
pub mod events;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod interval;
pub mod limits;
pub mod protocols;
mod random;
pub mod timer;
mod transport;
pub mod worker;

pub use connection::{
    AnyConnection, AsyncTcpConnection, AsyncUdpConnection, Client, Connection, Role, Server,
    Status, TcpConnection, Token, UdpConnection,
};
pub use data::{Data, Payload};
pub use error::{Error, ErrorCode, Failure, FailureKind, Outcome, Phase, Result, Sent, Verdict};
pub use events::{LoopHandle, Watch, on_readable, on_signal};
pub use interval::Interval;
pub use limits::Limits;
#[cfg(feature = "deflate")]
pub use protocols::Deflate;
pub use protocols::{
    Chunk, Context, Cookie, Dial, Farewell, FileSessions, Frame, Http, Input, Prepare, Prepared,
    Protocol, Reply, Request, Response, SameSite, Serve, ServerSentEvent, Session, SessionOptions,
    SessionStore, Tcp, Text, Udp, UploadedFile, Violation, Websocket, WebsocketSession,
    WebsocketType, Ws,
};
pub use timer::Timer;
pub use transport::{Tls, Transport};
pub use worker::{Listen, RunStatus, Running, Worker, WorkerRef, spawn};

/// What a program written in Workerman's style imports.
pub mod prelude {
    pub use crate::{
        AsyncTcpConnection, AsyncUdpConnection, Data, ErrorCode, Failure, Frame, Http, Prepare,
        Protocol, Request, Response, Result, Sent, Status, Tcp, TcpConnection, Text, Timer, Tls,
        Transport, Udp, UdpConnection, Websocket, Worker, Ws,
    };
}

/// The programs of these pages compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/porting.md")]
#[doc = include_str!("../docs/protocols.md")]
mod pages {}
