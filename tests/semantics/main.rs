//! One test a promise: what every call answers, and in which order things happen.
#[path = "../support/mod.rs"]
mod support;

mod accepted;
mod answers;
mod backpressure;
mod bad_luck;
mod callbacks;
mod cancelling;
mod closing;
mod ends;
mod half_open;
mod handles;
mod life;
mod listening;
mod liveness;
mod order;
mod panics;
mod pausing;
mod peers;
mod protocols;
mod re_entrancy;
mod revived;
mod running;
mod sending;
mod states;
mod stopping;
#[cfg(feature = "tls")]
mod tls_ends;
#[cfg(feature = "tls")]
mod tls_openings;
mod violations;
