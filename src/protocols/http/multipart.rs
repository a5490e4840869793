//! Forms with files (RFC 7578): the parts of a body that lies in memory.
use super::files;
use super::framing::Refused;
use std::io;
use std::path::Path;

/// The head of a part: name and kind of what follows.
pub(super) const PART_HEAD_BYTES: usize = 8 << 10;
/// Parts of one form.
pub(super) const MOST_PARTS: usize = 1_000;

/// One part of a form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    /// A part with one is a file.
    pub(super) file_name: Option<&'a str>,
    pub(super) content_type: &'a str,
    pub(super) data: &'a [u8],
}

/// The boundary that a `Content-Type` names; `None`: it is no form of this kind.
pub(super) fn boundary_of(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    // RFC 2046 §5.1.1.
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

/// A parameter of a header: `name="a b"; filename=c`. A quoted one is handed out as it stands
/// between its quotes, as browsers write it.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (key, behind) = rest.split_once('=')?;
        let value = match behind.strip_prefix('"') {
            Some(quoted) => {
                let end = closing_quote(quoted)?;
                rest = &quoted[end + 1..];
                &quoted[..end]
            }
            None => {
                let end = behind.find(';').unwrap_or(behind.len());
                rest = &behind[end..];
                behind[..end].trim()
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// The parts of a body one after another; they end where the body is no form any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    rest: &'a [u8],
    boundary: &'a str,
    left: usize,
}

impl<'a> Parts<'a> {
    pub(super) fn new(body: &'a [u8], boundary: &'a str) -> Self {
        // RFC 2046 §5.1.1: what stands before the first delimiter means nothing.
        let opening = delimiter(boundary);
        let rest = match body.starts_with(&opening[2..]) {
            true => &body[opening.len() - 2..],
            false => find(body, &opening).map_or(&[][..], |at| &body[at + opening.len()..]),
        };
        Parts { rest, boundary, left: MOST_PARTS }
    }

    /// Whether a body holds more parts than a form may have.
    pub(super) fn are_too_many(body: &'a [u8], boundary: &'a str) -> bool {
        let parts = Parts { left: MOST_PARTS + 1, ..Parts::new(body, boundary) };
        parts.count() > MOST_PARTS
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let body = self.rest.strip_prefix(b"\r\n")?;
        self.left = self.left.checked_sub(1)?;
        let window = &body[..body.len().min(PART_HEAD_BYTES + 4)];
        // A part may have no header lines at all.
        let (head, body) = match body.strip_prefix(b"\r\n") {
            Some(body) => (&[][..], body),
            None => {
                let at = find(window, b"\r\n\r\n")?;
                (&body[..at], &body[at + 4..])
            }
        };
        let closing = delimiter(self.boundary);
        let end = find(body, &closing)?;
        self.rest = &body[end + closing.len()..];
        Some(Part { data: &body[..end], ..part_head(head) })
    }
}

pub(super) fn too_many_parts() -> Refused {
    Refused::new(413, format!("a form of more than {MOST_PARTS} parts"))
}

/// What the lines above a part's data say.
pub(super) fn part_head(head: &[u8]) -> Part<'_> {
    let mut part = Part::default();
    for line in std::str::from_utf8(head).unwrap_or("").split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-disposition") {
            let parameters = value.split_once(';').map_or("", |(_, rest)| rest);
            part.name = parameter(parameters, "name").unwrap_or("");
            part.file_name = parameter(parameters, "filename");
        } else if name.eq_ignore_ascii_case("content-type") {
            part.content_type = value.trim();
        }
    }
    part
}

/// What ends a part.
pub(super) fn delimiter(boundary: &str) -> Vec<u8> {
    [b"\r\n--", boundary.as_bytes()].concat()
}

/// Where `needle`, which begins with a byte that is rare in it, stands first.
pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| rest.len() >= needle.len()) {
        let next = rest.iter().position(|byte| byte == first)?;
        at += next;
        if text[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// A line of [`Form::spilled`](super::upload::Form::spilled): a part's place, its bytes, its path.
fn on_disk(line: &str) -> Option<(usize, u64, &Path)> {
    let (place, rest) = line.split_once(' ')?;
    let (bytes, path) = rest.split_once(' ')?;
    Some((place.parse().ok()?, bytes.parse().ok()?, Path::new(path)))
}

/// A file that a form sent. In memory, or, in a form above `Limits::upload_memory_bytes`, in a
/// temporary file that lasts until the next request of this connection or its end: move it away
/// with [`save_as`](UploadedFile::save_as).
#[derive(Clone, Copy, Debug)]
pub struct UploadedFile<'a> {
    part: Part<'a>,
    spilled: Option<(u64, &'a Path)>,
}

impl<'a> UploadedFile<'a> {
    /// `spilled`: its bytes and its path, where it lies on disk.
    pub(super) fn of(part: Part<'a>, spilled: Option<(u64, &'a Path)>) -> Option<Self> {
        part.file_name?;
        Some(UploadedFile { part, spilled })
    }

    /// The files among these parts. Both come in the order of the form, so each line is looked at
    /// once.
    pub(super) fn among(parts: Parts<'a>, spilled: &'a str) -> Vec<Self> {
        let mut on_disk = spilled.lines().filter_map(on_disk).peekable();
        let files = parts.enumerate().filter_map(|(at, part)| {
            let place = on_disk.next_if(|(of, ..)| *of == at);
            UploadedFile::of(part, place.map(|(_, bytes, path)| (bytes, path)))
        });
        files.collect()
    }

    /// The name of the form's field.
    pub fn name(&self) -> &'a str {
        self.part.name
    }

    /// The file's name as the client says. Never a path to write to: whoever sends it chooses it.
    pub fn file_name(&self) -> &'a str {
        self.part.file_name.unwrap_or("")
    }

    /// The kind of file as the client says; may be empty.
    pub fn content_type(&self) -> &'a str {
        self.part.content_type
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.spilled.map_or(self.part.data.len() as u64, |(bytes, _)| bytes)
    }

    /// Its content; `None` where it lies on disk.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        self.spilled.is_none().then_some(self.part.data)
    }

    /// The temporary file; `None` where it lies in memory.
    pub fn path(&self) -> Option<&'a Path> {
        self.spilled.map(|(_, path)| path)
    }

    /// Keeps it under this path, in place of what was there, which is replaced at once and never
    /// half. Only this user may read it (0600), wherever it lay before: a program whose files
    /// others serve sets their rights itself. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// What the system says: no such folder, no right to write there, no room.
    pub fn save_as(&self, path: impl AsRef<Path>) -> io::Result<()> {
        match self.spilled {
            Some((_, from)) => files::move_to(from, path.as_ref()),
            None => files::write(path.as_ref(), self.part.data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] =
        b"ignored\r\n--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n\
        --x\r\ncontent-disposition: form-data; name=f; filename=\"C:\\\\a \\\"b\\\".txt\"\r\n\
        Content-Type: text/plain\r\n\r\n--x\r\n-\r\n\r\n--x\r\n\r\nbare\r\n--x--\r\nepilogue";

    #[test]
    fn the_parts_of_a_form_are_what_lies_between_its_delimiters() {
        let parts: Vec<Part> = Parts::new(FORM, "x").collect();
        assert_eq!(parts.len(), 3);
        assert_eq!((parts[0].name, parts[0].data), ("a", &b"one"[..]));
        assert_eq!(parts[0].file_name, None);
        assert_eq!((parts[1].name, parts[1].data), ("f", &b"--x\r\n-\r\n"[..]));
        assert_eq!(parts[1].file_name, Some("C:\\\\a \\\"b\\\".txt"));
        assert_eq!(parts[1].content_type, "text/plain");
        assert_eq!((parts[2].name, parts[2].data), ("", &b"bare"[..]));
    }

    #[test]
    fn a_form_that_breaks_off_has_the_parts_that_are_whole() {
        let counts: Vec<usize> =
            (0..FORM.len()).map(|end| Parts::new(&FORM[..end], "x").count()).collect();
        assert!(counts.is_sorted() && counts[0] == 0 && counts[FORM.len() - 1] == 3);
        assert_eq!(Parts::new(b"", "x").count(), 0);
        assert_eq!(Parts::new(b"--x--", "x").count(), 0);
        assert_eq!(Parts::new(FORM, "y").count(), 0);
    }

    #[test]
    fn a_boundary_is_named_with_quotes_or_without() {
        for (content_type, boundary) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data; charset=utf-8; BOUNDARY=\"a;b c\"", Some("a;b c")),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; x=\"boundary=no", None),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=abc", None),
        ] {
            assert_eq!(boundary_of(content_type), boundary, "{content_type}");
        }
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        assert_eq!(boundary_of(&long), None);
    }

    #[test]
    fn a_form_has_no_more_parts_than_its_limit() {
        let part = "\r\n--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv";
        let form = part.repeat(MOST_PARTS + 5) + "\r\n--x--";
        assert_eq!(Parts::new(form.as_bytes(), "x").count(), MOST_PARTS);
    }
}
