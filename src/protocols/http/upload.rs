//! Forms too large for memory, as they arrive: fields are kept, files go to disk.
use super::files::Upload;
use super::framing::Refused;
use super::multipart::{MOST_PARTS, PART_HEAD_BYTES, delimiter, find, part_head, too_many_parts};

/// The fields of a form may take so much memory, whatever its files take on disk.
const FIELD_BYTES: usize = 1 << 20;

/// A form so far: what is kept reads as a form itself, without the files that went to disk.
#[derive(Debug)]
pub(super) struct Form {
    delimiter: Vec<u8>,
    /// Arrived and not divided yet.
    pending: Vec<u8>,
    place: Place,
    pub(super) kept: Vec<u8>,
    pub(super) uploads: Vec<(usize, Upload)>,
    parts: usize,
    /// Where the data of the part that is on begins in `kept`.
    data_from: usize,
    /// Files stay in memory while all that is kept is below.
    memory_bytes: usize,
    /// What the names of temporary files begin with.
    prefix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Preamble,
    /// Behind a delimiter: another part, or the end.
    Delimited,
    Head,
    Field,
    File,
    /// As `File`, and the last upload is its own.
    OnDisk,
    Epilogue,
}

impl Form {
    pub(super) fn new(boundary: &str, memory_bytes: usize, random: [u8; 16]) -> Self {
        let number = u128::from_ne_bytes(random);
        Form {
            delimiter: delimiter(boundary),
            // As if a line had ended before it: a form begins with its delimiter.
            pending: b"\r\n".to_vec(),
            place: Place::Preamble,
            kept: Vec::new(),
            uploads: Vec::new(),
            parts: 0,
            data_from: 0,
            memory_bytes,
            prefix: format!("workerman-{number:032x}"),
        }
    }

    /// More of the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if self.place == Place::Epilogue {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(used) = self.step(&pending[at..])? {
            at += used;
        }
        pending.drain(..at);
        self.pending = pending;
        Ok(())
    }

    /// The lines of the uploads, for [`UploadedFile`](super::UploadedFile).
    pub(super) fn spilled(&self) -> String {
        let line =
            |(at, upload): &(usize, Upload)| format!("{at} {} {}\n", upload.bytes(), upload.path());
        self.uploads.iter().map(line).collect()
    }

    /// Divides what is at the front. `None`: more must come first.
    fn step(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        match self.place {
            Place::Epilogue => Ok((!bytes.is_empty()).then_some(bytes.len())),
            Place::Delimited => self.delimited(bytes),
            Place::Head => self.head(bytes),
            Place::Preamble | Place::Field | Place::File | Place::OnDisk => self.data(bytes),
        }
    }

    fn delimited(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.parts += 1;
                if self.parts > MOST_PARTS {
                    return Err(too_many_parts());
                }
                self.place = Place::Head;
                // The line's end is left: a part without header lines goes on with its double.
                Ok(Some(0))
            }
            [b'-', b'-', ..] => {
                self.kept.extend_from_slice(b"--\r\n");
                self.place = Place::Epilogue;
                Ok(Some(2))
            }
            [_, _, ..] => Err(Refused::new(400, "a form whose delimiter ends wrongly")),
            _ => Ok(None),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            // Its end may lie half in what has come.
            return match bytes.len() >= PART_HEAD_BYTES + 4 {
                true => Err(long_head()),
                false => Ok(None),
            };
        };
        if end > PART_HEAD_BYTES {
            return Err(long_head());
        }
        let head = &bytes[..end + 4];
        let is_file = part_head(&head[2..]).file_name.is_some();
        self.place = if is_file { Place::File } else { Place::Field };
        self.keep(head)?;
        self.data_from = self.kept.len();
        Ok(Some(head.len()))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        if let Some(end) = find(bytes, &self.delimiter) {
            self.take(&bytes[..end])?;
            if let (Place::OnDisk, Some((_, upload))) = (self.place, self.uploads.last_mut()) {
                upload.close();
            }
            let delimiter = std::mem::take(&mut self.delimiter);
            let kept = self.keep(&delimiter);
            self.delimiter = delimiter;
            self.place = Place::Delimited;
            return kept.map(|()| Some(end + self.delimiter.len()));
        }
        // The last bytes may be the beginning of a delimiter.
        let sure = (bytes.len() + 1).saturating_sub(self.delimiter.len());
        self.take(&bytes[..sure])?;
        Ok((sure > 0).then_some(sure))
    }

    /// Data of the part that is on.
    fn take(&mut self, data: &[u8]) -> Result<(), Refused> {
        match self.place {
            Place::Field => self.keep(data),
            Place::File if self.kept.len() + data.len() <= self.memory_bytes => self.keep(data),
            Place::File => self.begin_upload().and_then(|()| self.upload(data)),
            Place::OnDisk => self.upload(data),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if self.kept.len() + bytes.len() > FIELD_BYTES.max(self.memory_bytes) + PART_HEAD_BYTES {
            return Err(Refused::new(413, "a form whose fields are too large for memory"));
        }
        self.kept.extend_from_slice(bytes);
        Ok(())
    }

    /// The part that is on goes to disk, with what is here of it.
    fn begin_upload(&mut self) -> Result<(), Refused> {
        let begin = self.data_from;
        let name = format!("{}-{}", self.prefix, self.uploads.len());
        let mut upload = Upload::create(&name).map_err(unkept)?;
        upload.append(&self.kept[begin..]).map_err(unkept)?;
        self.kept.truncate(begin);
        self.uploads.push((self.parts - 1, upload));
        self.place = Place::OnDisk;
        Ok(())
    }

    fn upload(&mut self, data: &[u8]) -> Result<(), Refused> {
        match self.uploads.last_mut() {
            Some((_, upload)) => upload.append(data).map_err(unkept),
            None => Ok(()),
        }
    }
}

fn long_head() -> Refused {
    Refused::new(400, "a form's part with too long a head")
}

/// The disk is full, or not ours: the client has done nothing wrong.
fn unkept(e: std::io::Error) -> Refused {
    Refused::new(500, format!("an uploaded file cannot be kept: {e}"))
}

#[cfg(test)]
mod tests {
    use super::super::UploadedFile;
    use super::super::multipart::Parts;
    use super::*;

    fn form(memory_bytes: usize, body: &[u8], cut: usize, name: u8) -> Result<Form, Refused> {
        let mut form = Form::new("x", memory_bytes, [name; 16]);
        for piece in body.chunks(cut) {
            form.feed(piece)?;
        }
        Ok(form)
    }

    fn body(file: &str) -> Vec<u8> {
        format!(
            "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n--x\r\n\
             Content-Disposition: form-data; name=\"f\"; filename=\"f.txt\"\r\n\r\n{file}\r\n--x\
             \r\nContent-Disposition: form-data; name=\"b\"\r\n\r\ntwo\r\n--x--\r\n"
        )
        .into_bytes()
    }

    #[test]
    fn a_large_file_goes_to_disk_wherever_the_pieces_were_cut() {
        let file = "0123456789\r\n\r\n-\r\n--".repeat(20);
        let body = body(&file);
        for cut in (1..40).chain([body.len()]) {
            let form = form(200, &body, cut, 1).expect("a form");
            let spilled = form.spilled();
            let parts: Vec<_> = Parts::new(&form.kept, "x").collect();
            assert_eq!(parts.len(), 3, "{cut}");
            assert_eq!((parts[0].data, parts[2].data), (&b"one"[..], &b"two"[..]));
            let upload = UploadedFile::among(Parts::new(&form.kept, "x"), &spilled)[0];
            assert_eq!((upload.size(), upload.bytes()), (file.len() as u64, None));
            let path = upload.path().expect("on disk").to_owned();
            assert_eq!(std::fs::read(&path).expect("its content"), file.as_bytes());
            drop(form);
            assert!(!path.exists(), "it goes with the form");
        }
    }

    #[test]
    fn a_form_keeps_no_descriptor_of_a_file_that_has_come_whole() {
        let field = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n0123456789\r\n";
        let file = "--x\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\nz\r\n";
        let body = format!("{field}{}", file.repeat(3)) + "--x";
        let form = form(10, body.as_bytes(), 5, 4).expect("a form");
        assert_eq!(form.uploads.len(), 3);
        assert!(form.uploads.iter().all(|(_, upload)| !upload.is_open()));
        assert_eq!(std::fs::read(form.uploads[1].1.path()).expect("its content"), b"z");
    }

    #[test]
    fn the_head_of_a_part_is_judged_the_same_wherever_the_pieces_were_cut() {
        for extra in 0..40 {
            let padding = "v".repeat(PART_HEAD_BYTES - 60 + extra);
            let head = format!("--x\r\nContent-Disposition: form-data; name=a\r\nA: {padding}");
            let body = head + "\r\n\r\nvalue\r\n--x--";
            let whole = form(1 << 20, body.as_bytes(), body.len(), 5).map(|form| form.kept);
            let bytewise = form(1 << 20, body.as_bytes(), 1, 5).map(|form| form.kept);
            assert_eq!(whole, bytewise, "{extra}");
            if let Ok(kept) = whole {
                assert_eq!(Parts::new(&kept, "x").count(), 1, "{extra}");
            }
        }
    }

    #[test]
    fn a_small_file_stays_in_memory() {
        let form = form(1000, &body("small"), 3, 2).expect("a form");
        assert_eq!(form.spilled(), "");
        let upload = UploadedFile::among(Parts::new(&form.kept, "x"), "")[0];
        assert_eq!((upload.bytes(), upload.path()), (Some(&b"small"[..]), None));
        assert_eq!((upload.name(), upload.file_name()), ("f", "f.txt"));
    }

    #[test]
    fn what_would_fill_the_memory_is_refused() {
        let head = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n";
        let field = format!("{head}{}", "v".repeat(FIELD_BYTES + PART_HEAD_BYTES));
        assert_eq!(form(10, field.as_bytes(), 5000, 3).expect_err("a field").status, 413);
        let parts = format!("{head}\r\n").repeat(MOST_PARTS + 1);
        assert_eq!(form(10, parts.as_bytes(), 5000, 3).expect_err("parts").status, 413);
        let long = format!("--x\r\nA: {}", "v".repeat(PART_HEAD_BYTES));
        assert_eq!(form(10, long.as_bytes(), 5000, 3).expect_err("a head").status, 400);
        assert_eq!(form(10, b"--xyz", 1, 3).expect_err("a delimiter").status, 400);
    }
}
