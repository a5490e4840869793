//! One word of flags a connection.

/// The handshake is not complete: what the program sends waits.
pub(crate) const HELD: u32 = 1;
/// A write has met a full socket, and bytes still wait.
pub(crate) const BLOCKED: u32 = 1 << 1;
/// On the loop's dirty list.
pub(crate) const DIRTY: u32 = 1 << 2;
/// Its own part of the turn is on: what is sent leaves at the end of it.
pub(crate) const SERVING: u32 = 1 << 3;
/// The program has paused reading.
pub(crate) const PAUSED: u32 = 1 << 4;
/// Not read until its own bytes have left.
pub(crate) const CHOKED: u32 = 1 << 5;
/// `on_buffer_full` was due since the buffer was last empty.
pub(crate) const FULL: u32 = 1 << 6;
/// Packages that may be whole wait in `rest` for the end of a pause.
pub(crate) const PARKED: u32 = 1 << 7;
/// The peer's end has been read.
pub(crate) const EOF: u32 = 1 << 8;
pub(crate) const HALF_OPEN: u32 = 1 << 9;
/// Our direction is to end behind what is queued.
pub(crate) const SHUT: u32 = 1 << 10;
/// Our direction has ended.
pub(crate) const SHUT_DONE: u32 = 1 << 11;
/// Not served while its own send buffer is full.
pub(crate) const BACKPRESSURE: u32 = 1 << 12;
/// `on_connect` was delivered in this session.
pub(crate) const OPENED: u32 = 1 << 13;
/// Callbacks were replaced: the running batch looks again.
pub(crate) const RELOAD: u32 = 1 << 14;
/// A reconnect follows the end of this session.
pub(crate) const AGAIN: u32 = 1 << 15;
/// A cancelled reconnect: the handle outlives its session.
pub(crate) const KEEP: u32 = 1 << 16;
pub(crate) const CLIENT: u32 = 1 << 17;
/// On the loop's ready list.
pub(crate) const LISTED: u32 = 1 << 18;
/// The time of the last byte in is of interest.
pub(crate) const WATCH_INPUT: u32 = 1 << 19;
/// Deadlines have changed.
pub(crate) const REARM: u32 = 1 << 20;
/// Judge the peer's silence after the next read.
pub(crate) const JUDGE: u32 = 1 << 21;
/// Another protocol has taken the socket over.
pub(crate) const UPGRADED: u32 = 1 << 22;
/// It is to dial because of a reconnect, which may be taken back until the dial begins.
pub(crate) const RECALLABLE: u32 = 1 << 23;
/// Answers of the protocol's own wait in `Rare`, or are counted there.
pub(crate) const ANSWERS: u32 = 1 << 30;

/// Its stage is another than `Open`: one look at the flags tells all that is unusual.
pub(crate) const NOT_OPEN: u32 = 1 << 31;

/// Events to deliver, in their order.
pub(crate) const ON_FULL: u32 = 1 << 24;
pub(crate) const ON_FAILED: u32 = 1 << 25;
pub(crate) const ON_DRAINED: u32 = 1 << 26;
pub(crate) const ON_END: u32 = 1 << 27;
pub(crate) const ON_CLOSED: u32 = 1 << 28;
pub(crate) const EVENTS: u32 = ON_FULL | ON_FAILED | ON_DRAINED | ON_END | ON_CLOSED;
/// On the loop's queue.
pub(crate) const QUEUED: u32 = 1 << 29;
