//! What one run has brought, and in which words two runs differ.
use std::fmt::{self, Debug, Write};

/// What came of a stream, as a record that can be compared: whole messages, and pieces of a longer
/// content that may be cut anywhere.
///
/// A [`Check`](super::Check) hands it to the closure that shows it messages; a
/// [`Sample`](super::Sample) holds what is expected in the same way.
#[derive(Clone, Default)]
pub struct Seen {
    pub(super) marks: Vec<Mark>,
    /// Where the package ends of which is told now.
    end: usize,
}

/// One message, and where its package ended.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) what: What,
    pub(super) end: usize,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum What {
    Message(String),
    Pieces(Vec<u8>),
}

impl Seen {
    /// A message, as `{:?}` prints it.
    pub fn message(&mut self, message: impl Debug) {
        let what = What::Message(format!("{message:?}"));
        self.marks.push(Mark { what, end: self.end });
    }

    /// A piece of something longer: how the pieces are cut may depend on how the bytes arrive, what
    /// they are together may not.
    pub fn piece(&mut self, bytes: &[u8]) {
        let end = self.end;
        if let Some(Mark { what: What::Pieces(pieces), end: last }) = self.marks.last_mut() {
            pieces.extend_from_slice(bytes);
            *last = end;
            return;
        }
        self.marks.push(Mark { what: What::Pieces(bytes.to_vec()), end });
    }

    pub(super) fn at_end(&mut self, end: usize) {
        self.end = end;
    }

    /// Those of another, which begin so many bytes later.
    pub(super) fn append(&mut self, other: &Seen, offset: usize) {
        for mark in &other.marks {
            self.end = mark.end + offset;
            match &mark.what {
                What::Message(_) => {
                    self.marks.push(Mark { what: mark.what.clone(), end: self.end });
                }
                What::Pieces(bytes) => self.piece(bytes),
            }
        }
    }
}

impl Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.marks.iter().map(|mark| &mark.what)).finish()
    }
}

impl Debug for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Message(text) => f.write_str(&shortened(text)),
            What::Pieces(bytes) => write!(f, "pieces of {}", shown(bytes)),
        }
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By the peer's end: so many bytes never became a package.
    Open {
        rest: usize,
    },
    /// The protocol asked for it.
    Closed,
    Violation(String),
}

impl Default for End {
    fn default() -> Self {
        End::Open { rest: 0 }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Open { rest: 0 } => f.write_str("nothing is left over"),
            End::Open { rest } => write!(f, "{rest} bytes never become a package"),
            End::Closed => f.write_str("the protocol closes"),
            End::Violation(text) => write!(f, "a violation ({text})"),
        }
    }
}

/// All of a run.
#[derive(Clone, Default)]
pub(super) struct Record {
    pub(super) seen: Seen,
    pub(super) answers: Vec<u8>,
    pub(super) end: End,
    /// Where each package ended, also those that gave no message.
    pub(super) ends: Vec<usize>,
    /// How it stood, and how many messages there were, when the peer's end came.
    pub(super) at_eof: usize,
    pub(super) ended_before_eof: bool,
}

impl Record {
    /// In what `other` differs from this one, which is called `name`.
    pub(super) fn difference(&self, name: &str, other: &Record) -> Option<String> {
        if let Some(difference) = self.differing_message(name, other) {
            return Some(difference);
        }
        let alike = match (&self.end, &other.end) {
            // The words may tell of lengths that depend on what had arrived.
            (End::Violation(_), End::Violation(_)) => true,
            (one, two) => one == two,
        };
        if !alike {
            return Some(format!("{name} at the end {}, here {}", self.end, other.end));
        }
        if self.answers != other.answers {
            let (one, two) = (shown(&self.answers), shown(&other.answers));
            return Some(format!("{name} the protocol answers {one}, here {two}"));
        }
        None
    }

    fn differing_message(&self, name: &str, other: &Record) -> Option<String> {
        let (ours, theirs) = (&self.seen.marks, &other.seen.marks);
        for number in 0..ours.len().max(theirs.len()) {
            let told = |mark: Option<&Mark>| match mark {
                Some(mark) => format!("{:?}", mark.what),
                None => "missing".into(),
            };
            let (one, two) = (ours.get(number), theirs.get(number));
            if one.map(|mark| &mark.what) != two.map(|mark| &mark.what) {
                let tell = |mark, record: &Record| match mark {
                    Some(_) => told(mark),
                    None => format!("missing ({})", record.end),
                };
                let (one, two) = (tell(one, self), tell(two, other));
                return Some(format!("message {} is {one} {name}, here {two}", number + 1));
            }
            if let (Some(one), Some(two)) = (one, two)
                && one.end != two.end
            {
                let (what, one, two) = (told(Some(one)), one.end, two.end);
                let number = number + 1;
                return Some(format!(
                    "message {number}, {what}, ends at byte {one} {name}, here at byte {two}"
                ));
            }
        }
        None
    }

    /// Whether this is what came of a stream that was cut off, as `whole` came of all of it.
    pub(super) fn begins(&self, whole: &Record) -> Result<(), String> {
        for (number, mark) in self.seen.marks[..self.at_eof].iter().enumerate() {
            let same = match (&mark.what, whole.seen.marks.get(number).map(|mark| &mark.what)) {
                (What::Pieces(part), Some(What::Pieces(all))) => all.starts_with(part),
                (one, Some(two)) => one == two,
                (_, None) => false,
            };
            if !same {
                let (number, what) = (number + 1, &mark.what);
                return Err(format!("message {number} is {what:?}, which the whole has not"));
            }
        }
        match (&self.end, &whole.end) {
            (End::Violation(text), End::Open { .. }) if self.ended_before_eof => {
                Err(format!("it is a violation ({text}) before the peer's end, the whole is none"))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes as they would stand in a `b""`, the first of them.
pub(super) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 48;
    let mut text = format!("b\"{}", bytes[..bytes.len().min(SHOWN)].escape_ascii());
    let length = bytes.len();
    let _ = match length > SHOWN {
        true => write!(text, "…\" ({length} bytes)"),
        false => write!(text, "\""),
    };
    text
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 120;
    match text.char_indices().nth(SHOWN) {
        None => text.into(),
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
    }
}
