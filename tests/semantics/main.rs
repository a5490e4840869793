//! One test a promise: what every call answers, and in which order things happen.
#[path = "../support/mod.rs"]
mod support;

mod accepted;
mod bad_luck;
mod callbacks;
mod cancelling;
mod closing;
mod handles;
mod life;
mod liveness;
mod order;
mod running;
mod sending;
mod states;
mod violations;
