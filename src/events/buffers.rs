//! Buffers that connections borrow while they hold an incomplete package or unsent bytes, and give
//! back when empty.

use std::sync::Arc;

/// Bytes from `start` on are of interest; before it they have been dealt with.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) start: usize,
    /// Behind `bytes`, which hold nothing then: a message that was encoded once for many. Whoever
    /// appends makes it its own first.
    pub(crate) shared: Option<Arc<[u8]>>,
    /// When something last moved, in the loop's milliseconds.
    pub(crate) moved_at: u64,
    /// Incomplete package: how long it will be, if that is known.
    pub(crate) want: Option<usize>,
    /// Incomplete package: the protocol is not asked again before `want` bytes are there.
    pub(crate) wait: bool,
    /// Incomplete package read in place: `bytes` is longer than what has arrived, which ends here.
    pub(crate) filled: usize,
}

impl Buffer {
    /// Unsent bytes.
    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        self.bytes.len() - self.start + self.shared.as_ref().map_or(0, |shared| shared.len())
    }

    /// Before something is appended: what was shared is copied.
    #[inline(always)]
    pub(crate) fn own(&mut self) {
        if self.shared.is_some() {
            self.copy_shared();
        }
    }

    #[inline(never)]
    fn copy_shared(&mut self) {
        if let Some(shared) = self.shared.take() {
            self.bytes.extend_from_slice(&shared);
        }
    }

    /// The rest is set by whoever keeps a package.
    #[inline]
    fn reset(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}

/// A few small buffers, ready to serve again. Large ones are freed: kept, they would cost every
/// idle connection its share.
#[derive(Default)]
pub(crate) struct Pool {
    // Boxed on purpose: a connection keeps one pointer, and the box itself serves again.
    #[expect(clippy::vec_box, reason = "a connection holds the box, eight bytes while it is idle")]
    kept: Vec<Box<Buffer>>,
}

impl Pool {
    const KEPT: usize = 16;
    const KEPT_BYTES: usize = 8 << 10;

    #[inline]
    pub(crate) fn take(&mut self) -> Box<Buffer> {
        self.kept.pop().unwrap_or_default()
    }

    /// One that says it holds no part of a package.
    pub(crate) fn take_empty(&mut self) -> Box<Buffer> {
        let mut buffer = self.take();
        buffer.want = None;
        buffer.wait = false;
        buffer.filled = 0;
        buffer
    }

    /// Gives it back. What comes out is freed by the caller.
    #[inline]
    pub(crate) fn put(&mut self, mut buffer: Box<Buffer>) {
        let reusable = buffer.bytes.capacity() <= Self::KEPT_BYTES && buffer.shared.is_none();
        if self.kept.len() < Self::KEPT && reusable {
            buffer.reset();
            self.kept.push(buffer);
        }
    }
}
