//! The one place where HTTP touches files: those that are sent, and those that were uploaded.
pub(super) use std::fs::File;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file on its way to a client.
#[derive(Debug)]
pub(super) struct Sending {
    file: File,
    left: u64,
}

/// What a file says about itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

/// Opens a regular file. Anything else may have no end, or wait for one.
pub(super) fn open(path: &Path) -> io::Result<(File, About)> {
    // Asked before it is opened, too: to open some devices is to do something.
    if !fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    open_at_once(path)
}

/// What stands there may have changed since it was asked: a pipe that took the file's place is
/// opened without waiting for its other end (`O_NONBLOCK`, which means nothing for a regular file,
/// open(2)), and the opened file itself is judged.
fn open_at_once(path: &Path) -> io::Result<(File, About)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NONBLOCK.bits() as i32,
    );
    let file = options.open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(not_regular());
    }
    let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok((file, About { bytes: about.len(), modified }))
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "not a regular file")
}

impl Sending {
    /// `bytes` of it, from `from` on.
    pub(super) fn new(mut file: File, from: u64, bytes: u64) -> io::Result<Self> {
        if from > 0 {
            file.seek(SeekFrom::Start(from))?;
        }
        Ok(Sending { file, left: bytes })
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Appends the next piece. A file that has become shorter is an error: its length was promised.
    pub(super) fn append(&mut self, at_most: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let length = self.left.min(at_most as u64);
        let before = out.len();
        out.reserve(length as usize);
        (&mut self.file).take(length).read_to_end(out)?;
        if (out.len() - before) as u64 != length {
            out.truncate(before);
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= length;
        Ok(())
    }
}

/// An uploaded file on disk; it goes with its last owner unless it was moved away.
#[derive(Debug)]
pub(super) struct Upload {
    path: PathBuf,
    /// Open while it grows: a form may have more files than a process may have descriptors.
    file: Option<File>,
    bytes: u64,
}

impl Upload {
    /// A fresh file that only this user can read. `name` is nobody's to guess.
    pub(super) fn create(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(name);
        if path.to_str().is_none_or(|path| path.contains('\n')) {
            return Err(io::Error::other("the folder for temporary files is no line of text"));
        }
        let file = private().create_new(true).open(&path)?;
        Ok(Upload { path, file: Some(file), bytes: 0 })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            self.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// It has come whole.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn path(&self) -> &str {
        self.path.to_str().unwrap_or("")
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Moved away by the program, or gone already: either is right.
        let _ = fs::remove_file(&self.path);
    }
}

/// Keeps what was uploaded into memory.
pub(super) fn write(to: &Path, bytes: &[u8]) -> io::Result<()> {
    in_place_of(to, |file| file.write_all(bytes))
}

/// Moves what was uploaded to disk; over the border of a file system it is copied.
pub(super) fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    let mut source = File::open(from)?;
    in_place_of(to, |file| io::copy(&mut source, file).map(drop))
}

/// A file of this user's alone that takes the place of another one when it is whole.
pub(super) fn in_place_of(
    to: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let (beside, mut file) = fresh_beside(to)?;
    let done = write(&mut file).and_then(|()| fs::rename(&beside, to));
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done
}

/// A name that nobody else has in the folder of `to`.
fn fresh_beside(to: &Path) -> io::Result<(PathBuf, File)> {
    let name = to.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    for _ in 0..8 {
        let mut random = [0; 8];
        crate::random::fill(&mut random);
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{:016x}", u64::from_ne_bytes(random)));
        let beside = to.with_file_name(beside);
        match private().create_new(true).open(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// To write, and for this user alone where it is made.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_pipe_that_took_the_files_place_after_the_look_is_refused_without_waiting() {
        let path = std::env::temp_dir().join(format!("workerman-pipe-{}", std::process::id()));
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a pipe");
        let (tell, told) = mpsc::channel();
        let at = path.clone();
        std::thread::spawn(move || tell.send(open_at_once(&at).map(drop)));
        let opened = told.recv_timeout(Duration::from_secs(10));
        fs::remove_file(&path).expect("its end");
        let error = opened.expect("it must not wait for a writer").expect_err("no file");
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }
}
