//! Bodies that do not lie in the buffer in one piece: taken as they come.
use super::chunked::Chunked;
use super::framing::{Refused, too_large};
use super::server::Head;
use super::upload::Form;
use crate::protocols::Context;

/// A request whose body does not lie in the buffer in one piece.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) head: Head,
    pub(super) text: String,
    /// Its head has been taken out of the buffer.
    pub(super) begun: bool,
    pub(super) body: Collecting,
    pub(super) sink: Sink,
    /// Bytes of the body so far.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) enum Collecting {
    Counted { left: usize },
    Chunked(Chunked),
}

#[derive(Debug)]
pub(super) enum Sink {
    Memory(Vec<u8>),
    Form(Box<Form>),
}

impl Collected {
    /// Takes what has come of the body. How many bytes of `buffer` that is.
    pub(super) fn feed(&mut self, buffer: &[u8], cx: &Context) -> Result<usize, Refused> {
        let Collected { body, sink, bytes, .. } = self;
        let limits = cx.limits();
        let mut take = |data: &[u8]| {
            *bytes += data.len();
            if *bytes > limits.message_bytes {
                return Err(too_large(limits));
            }
            match sink {
                Sink::Memory(memory) => {
                    memory.extend_from_slice(data);
                    Ok(())
                }
                Sink::Form(form) => form.feed(data),
            }
        };
        match body {
            Collecting::Counted { left } => {
                let length = buffer.len().min(*left);
                take(&buffer[..length])?;
                *left -= length;
                Ok(length)
            }
            Collecting::Chunked(chunked) => chunked.feed(buffer, limits, &mut take),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        match &self.body {
            Collecting::Counted { left } => *left == 0,
            Collecting::Chunked(chunked) => chunked.is_done(),
        }
    }
}
