//! What waits to be sent, counted in the ways that the rules ask for.
use super::core::Core;

impl Core {
    /// Bytes of this session's own that wait: without those for a session to come.
    pub(crate) fn unsent(&self) -> usize {
        let state = self.state.borrow();
        let out = state.out.as_ref().map_or(0, |out| out.unsent());
        out + state.rare.as_ref().map_or(0, |rare| rare.pong.len())
    }

    /// What counts against the limit: all that waits but the protocol's own answers.
    pub(crate) fn counted(&self) -> usize {
        let answers = self.peek_rare(|rare| rare.pong.len() + rare.answers_waiting).unwrap_or(0);
        self.send_buffer_len().saturating_sub(answers)
    }

    /// Every byte that the kernel has not taken, those that TLS holds among them.
    pub(crate) fn send_buffer_len(&self) -> usize {
        let state = self.state.borrow();
        let out = state.out.as_ref().map_or(0, |out| out.unsent());
        let held = state.stream.as_ref().map_or(0, |stream| stream.unflushed());
        out + held + state.rare.as_ref().map_or(0, |rare| rare.ahead.len() + rare.pong.len())
    }
}
