//! One test a promise: what every call answers, and in which order things happen.
#[path = "../support/mod.rs"]
mod support;

mod bad_luck;
mod callbacks;
mod closing;
mod life;
mod listening;
mod liveness;
mod order;
mod panics;
mod protocols;
mod re_entrancy;
mod running;
mod sending;
mod states;
mod stopping;
