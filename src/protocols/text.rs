//! `text://`: to be written.
/// Text.
#[derive(Debug, Default)]
pub struct Text;
