//! What `send` answers, and what becomes of the bytes.
