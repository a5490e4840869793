//! What the tables of the RFCs share: `play.rs` and `bench.rs` play one of our endpoints against a
//! bare socket, `case.rs` and `row.rs` say what must come of it, `run.rs` plays all rows and holds
//! the page to what it found.
//!
//! A crate that uses it has `crate::support` as well.
#![allow(dead_code)]
pub(crate) mod bench;
pub(crate) mod case;
#[path = "../conformance.rs"]
mod conformance;
mod names;
pub(crate) mod play;
pub(crate) mod row;
pub(crate) mod run;
