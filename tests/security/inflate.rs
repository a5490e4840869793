//! Compressed messages that are small, and not meant well.
