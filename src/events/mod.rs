//! The event loop.
pub(crate) mod slab;
pub(crate) mod wheel;
