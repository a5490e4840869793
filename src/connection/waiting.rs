//! What waits to be sent, counted in the ways that the rules ask for.
use super::core::Core;
use crate::transport::Stream;

impl Core {
    /// Bytes of this session's own that wait, in the TLS session too: without those for a session
    /// to come.
    pub(crate) fn unsent(&self) -> usize {
        let state = self.state.borrow();
        let out = state.out.as_ref().map_or(0, |out| out.unsent());
        let held_back = state.stream.as_ref().map_or(0, Stream::unflushed);
        out + held_back + state.rare.as_ref().map_or(0, |rare| rare.pong.len())
    }

    /// Of all bytes written those that the kernel is known to have taken.
    pub(crate) fn taken(&self) -> u64 {
        let held_back = self.state.borrow().stream.as_ref().map_or(0, Stream::unflushed);
        self.bytes_written.get().saturating_sub(held_back as u64)
    }

    /// What counts against the limit: all that waits but the protocol's own answers.
    pub(crate) fn counted(&self) -> usize {
        let answers = self.peek_rare(|rare| rare.pong.len() + rare.answers_waiting).unwrap_or(0);
        self.send_buffer_len().saturating_sub(answers)
    }

    /// Every byte that the kernel has not taken.
    pub(crate) fn send_buffer_len(&self) -> usize {
        self.unsent() + self.peek_rare(|rare| rare.ahead.len()).unwrap_or(0)
    }
}
