//! RFC 7692, statement by statement where it binds an endpoint: over sockets, in both roles, whole
//! and octet by octet.
//!
//! `tests/support/rows/run.rs` says what a run of them is.
#[path = "../support/rows/mod.rs"]
mod rows;
#[path = "../support/mod.rs"]
mod support;

mod answers;
mod blocks;
mod distance;
mod framing;
mod offers;
mod others;
mod sending;
mod setup;

use row::Row;
use rows::{play, row, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let sections: [fn() -> Vec<Row>; 6] =
        [offers::rows, answers::rows, framing::rows, blocks::rows, sending::rows, others::rows];
    let rows = sections.iter().flat_map(|rows| rows()).collect();
    run::all("RFC 7692", "cargo test --test rfc7692", rows)
}
