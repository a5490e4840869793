//! One test a promise: what every call answers, and in which order things happen.
#[path = "../support/mod.rs"]
mod support;

mod accepted;
mod answers;
mod backpressure;
mod bad_luck;
mod callbacks;
mod cancelling;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod certificates;
mod closing;
#[cfg(feature = "deflate")]
mod compressed;
mod ends;
mod half_open;
mod handles;
mod late;
mod life;
mod listening;
mod liveness;
mod order;
mod origins;
mod overriding;
mod panics;
mod pausing;
mod peers;
mod processes;
mod protocols;
mod re_entrancy;
mod revived;
mod running;
mod scenarios;
mod sending;
mod states;
mod stopping;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod tls_ends;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod tls_openings;
mod topics;
mod transcripts;
mod udp;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod verifier;
mod violations;
