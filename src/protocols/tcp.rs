//! `tcp://`: to be written.
/// Tcp.
#[derive(Debug, Default)]
pub struct Tcp;
