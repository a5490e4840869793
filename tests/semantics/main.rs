//! One test a promise: what every call answers, and in which order things happen.
#[path = "../support/mod.rs"]
mod support;

mod accepted;
mod answers;
mod backpressure;
mod bad_luck;
mod callbacks;
mod closing;
mod ends;
mod half_open;
mod handles;
mod life;
mod liveness;
mod order;
mod pausing;
mod peers;
mod running;
mod sending;
mod states;
#[cfg(feature = "tls")]
mod tls_ends;
