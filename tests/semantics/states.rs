//! States: what leads from one to the next, and what is delivered.
