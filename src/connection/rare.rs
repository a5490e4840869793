//! What only some connections have, at some times: an idle accepted connection has none of it, an
//! idle client only its first part.
use super::dial::Dialer;
use super::failure::Drops;
use super::heartbeat::Heartbeat;
use super::properties::Properties;
use crate::events::Key;
use crate::{ErrorCode, Failure};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Rare {
    pub(crate) dialer: Option<Box<Dialer>>,
    pub(crate) heartbeat: Option<Box<Heartbeat>>,
    /// User data by type; `None` while a closure has it.
    pub(crate) data: Properties,
    pub(crate) reconnect_after: Duration,
    /// The turn in which the dial was asked for: it begins in a later one.
    pub(crate) dial_asked_in: u32,
    passing: Option<Box<Passing>>,
}

/// What passes: made when it is first written, read as if it were always there.
pub(crate) struct Passing {
    /// What came next waits for the protocol, not for the peer.
    pub(crate) input_waits: bool,
    /// And the peer's end behind it.
    pub(crate) eof_waits: bool,
    /// The protocol judges the peer's silence by a deadline of its own.
    pub(crate) judges_silence: bool,
    /// And reading was paused until now, which it has not been told yet.
    pub(crate) hears_again: bool,
    /// The next piece of a long body is asked for in the next turn.
    pub(crate) pieces_wait: bool,
    /// Encoded for the session to come, or for the handshake's end.
    pub(crate) ahead: Vec<u8>,
    pub(crate) ahead_messages: u64,
    pub(crate) drops: Drops,
    pub(crate) failure: Option<Box<(ErrorCode, Failure)>>,
    /// The latest pong, while the socket is full.
    pub(crate) pong: Vec<u8>,
    pub(crate) answers_waiting: usize,
    /// The protocol's own deadline.
    pub(crate) deadline: Option<Instant>,
    /// When a message of several packages, whose rest is awaited, last went on.
    pub(crate) message_moved: Option<Instant>,
    /// When the last byte came, where an idle limit asks for it.
    pub(crate) last_input: Option<Instant>,
    pub(crate) closing_since: Option<Instant>,
    /// Bytes that had left by then.
    pub(crate) closing_from: u64,
    pub(crate) farewell_left: Option<Instant>,
    pub(crate) lingering_since: Option<Instant>,
    /// All bytes written, once the last of the program's own has been.
    pub(crate) program_bytes: u64,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    /// The socket file by which an accepted connection came.
    pub(crate) unix_path: Option<String>,
    pub(crate) successor: Option<Key>,
}

impl Passing {
    const NOTHING: Passing = Passing {
        input_waits: false,
        judges_silence: false,
        hears_again: false,
        eof_waits: false,
        pieces_wait: false,
        ahead: Vec::new(),
        ahead_messages: 0,
        drops: Drops::NONE,
        failure: None,
        pong: Vec::new(),
        answers_waiting: 0,
        deadline: None,
        message_moved: None,
        last_input: None,
        closing_since: None,
        closing_from: 0,
        farewell_left: None,
        lingering_since: None,
        program_bytes: 0,
        remote: None,
        local: None,
        unix_path: None,
        successor: None,
    };
}

static NOTHING: Passing = Passing::NOTHING;

impl Rare {
    /// Fresh state for the session to come; settings, counters and user data stay, and so does what
    /// was sent ahead.
    pub(crate) fn forget_session(&mut self) {
        self.heartbeat = None;
        let Some(passing) = self.passing.as_deref_mut() else { return };
        let fresh = Passing {
            ahead: std::mem::take(&mut passing.ahead),
            ahead_messages: passing.ahead_messages,
            drops: std::mem::replace(&mut passing.drops, Drops::NONE),
            failure: passing.failure.take(),
            successor: passing.successor,
            ..Passing::NOTHING
        };
        let is_empty = fresh.ahead_messages == 0
            && fresh.failure.is_none()
            && fresh.successor.is_none()
            && !fresh.drops.waiting();
        if is_empty {
            self.passing = None;
        } else {
            *passing = fresh;
        }
    }
}

impl Deref for Rare {
    type Target = Passing;
    fn deref(&self) -> &Passing {
        self.passing.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Rare {
    fn deref_mut(&mut self) -> &mut Passing {
        self.passing.get_or_insert_with(|| Box::new(Passing::NOTHING))
    }
}
