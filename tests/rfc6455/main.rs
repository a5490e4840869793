//! RFC 6455, sentence by sentence where it binds an endpoint, and the families of cases that
//! conformance suites feed: over sockets, in both roles, whole and octet by octet.
//!
//! `tests/support/rows/run.rs` says what a run of them is.
#[path = "../support/rows/mod.rs"]
mod rows;
#[path = "../support/mod.rs"]
mod support;

mod closing;
mod fragments;
mod framing;
mod handshake_client;
mod handshake_server;
mod limits;
mod others;
mod pings;
mod sending;
mod utf8;

use row::Row;
use rows::{play, row, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let sections: [fn() -> Vec<Row>; 10] = [
        handshake_client::rows,
        handshake_server::rows,
        framing::rows,
        fragments::rows,
        pings::rows,
        closing::rows,
        utf8::rows,
        sending::rows,
        limits::rows,
        others::rows,
    ];
    let rows = sections.iter().flat_map(|rows| rows()).collect();
    run::all("RFC 6455", "cargo test --test rfc6455", rows)
}
