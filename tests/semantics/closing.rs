//! How sessions end: `close`, `destroy`, the peer's end, pauses.
