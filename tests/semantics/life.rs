//! Reconnect, and the life of a handle.
