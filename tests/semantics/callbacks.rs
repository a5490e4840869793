//! When callbacks fail, and what user code may do: it never runs under a borrow.
