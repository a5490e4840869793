//! What stands in for `deflate/` where that feature is off: nobody can make any of it.
use super::utf8::Utf8;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Deflate {}

#[derive(Clone, Copy, Debug)]
pub(super) enum Agreement {}

#[derive(Debug)]
pub(in crate::protocols) struct Compression {
    nobody: Agreement,
    pub(super) in_message: bool,
}

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "named by those who judge it")]
pub(in crate::protocols) enum Fault {
    Corrupt,
    NotUtf8,
    TooLong,
}

pub(super) fn check_offers<'a>(_: impl Iterator<Item = &'a str>) -> Result<(), String> {
    Ok(())
}

impl Deflate {
    pub(super) fn offer(&self) -> String {
        match *self {}
    }

    pub(super) fn check_answer<'a>(
        &self,
        _: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Agreement>, String> {
        match *self {}
    }

    pub(super) fn accept<'a>(
        &self,
        _: impl Iterator<Item = &'a str>,
    ) -> Option<(String, Agreement)> {
        match *self {}
    }
}

impl Compression {
    pub(super) fn new(agreed: Agreement) -> Self {
        match agreed {}
    }

    pub(super) fn deflate(&mut self, _: &[u8], _: impl FnOnce(&[u8])) -> bool {
        match self.nobody {}
    }

    pub(super) fn inflate(
        &mut self,
        _: &[u8],
        _: &mut Vec<u8>,
        _: usize,
        _: Option<&mut Utf8>,
    ) -> Result<(), Fault> {
        match self.nobody {}
    }

    pub(super) fn takes_its_share(&mut self) -> bool {
        match self.nobody {}
    }

    pub(super) fn finish(&mut self, _: &[u8]) -> Result<(), Fault> {
        match self.nobody {}
    }
}
