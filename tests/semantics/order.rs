//! The order of things inside a turn.
