//! `frame://`: to be written.
/// Frame.
#[derive(Debug, Default)]
pub struct Frame;
