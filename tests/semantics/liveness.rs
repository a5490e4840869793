//! WebSocket liveness and the origin rule.
