//! Sessions in files, one each: the door to the disk for them.
use super::files::in_place_of;
use super::session::SessionStore;
use std::cell::RefCell;
use std::fs::{self, DirBuilder, File, ReadDir};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const PREFIX: &str = "session_";
/// What is read of one file at most.
const FILE_BYTES: u64 = 16 << 20;
/// Files that one save looks at to find expired ones.
const LOOKED_AT: usize = 8;
/// Between two walks through the folder, and what a file that was never finished is left.
const REST: Duration = Duration::from_secs(60);

/// A file for each session, in a folder that only this user may enter (0700; the files 0600). Each
/// is written beside its place and moved there, so that no reader finds half of one. The time of
/// a file is when it expires.
///
/// Reading and writing block for as long as the disk takes: less than a millisecond where the
/// folder lies on a disk of this machine, whatever it takes on one of another.
#[derive(Debug)]
pub struct FileSessions {
    folder: PathBuf,
    walk: RefCell<Walk>,
}

/// Where the search for expired files is.
#[derive(Debug)]
struct Walk {
    folder: Option<ReadDir>,
    rests_until: SystemTime,
}

impl FileSessions {
    /// In this folder. It is made with the first session, unless it is there; then it must be this
    /// user's, and nobody else may enter it.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let walk = Walk { folder: None, rests_until: SystemTime::UNIX_EPOCH };
        FileSessions { folder: folder.into(), walk: RefCell::new(walk) }
    }

    fn place(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{PREFIX}{id}"))
    }

    /// The folder is there, and nobody else can put a session into it.
    fn check(&self) -> io::Result<()> {
        let about = match fs::symlink_metadata(&self.folder) {
            Ok(about) => about,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
                fs::symlink_metadata(&self.folder)?
            }
            Err(e) => return Err(e),
        };
        let own = about.uid() == rustix::process::geteuid().as_raw();
        if about.is_dir() && own && about.mode() & 0o077 == 0 {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "sessions are not kept in {}: it must be a folder of this user's that nobody else may \
             enter (chmod 700), or name another one by FileSessions::new",
            self.folder.display()
        )))
    }

    fn walk_on(&self, now: SystemTime) -> io::Result<()> {
        let Ok(mut walk) = self.walk.try_borrow_mut() else { return Ok(()) };
        if walk.folder.is_none() && walk.rests_until <= now {
            walk.folder = Some(fs::read_dir(&self.folder)?);
        }
        for _ in 0..LOOKED_AT {
            let Some(folder) = &mut walk.folder else { break };
            let Some(entry) = folder.next() else {
                walk.folder = None;
                walk.rests_until = now.checked_add(REST).unwrap_or(now);
                break;
            };
            let path = entry?.path();
            if let Some(grace) = grace_of(&path)
                && let Ok(time) = fs::symlink_metadata(&path).and_then(|about| about.modified())
                && time.checked_add(grace).is_some_and(|end| end <= now)
            {
                // Gone meanwhile: just as well.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

/// What is ours to remove: sessions, and those that were never finished.
fn grace_of(path: &Path) -> Option<Duration> {
    let name = path.file_name()?.to_str()?;
    match name.strip_prefix('.') {
        Some(unfinished) => unfinished.starts_with(PREFIX).then_some(REST),
        None => name.starts_with(PREFIX).then_some(Duration::ZERO),
    }
}

impl Default for FileSessions {
    /// In `workerman-sessions-` and this user's number, below the system's folder for temporary
    /// files (`TMPDIR`, or else `/tmp`).
    fn default() -> Self {
        let name = format!("workerman-sessions-{}", rustix::process::geteuid().as_raw());
        FileSessions::new(std::env::temp_dir().join(name))
    }
}

impl SessionStore for FileSessions {
    fn read(&self, id: &str, now: SystemTime) -> io::Result<Option<Vec<u8>>> {
        let path = self.place(id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        self.check()?;
        let about = file.metadata()?;
        if about.modified()? <= now {
            let _ = fs::remove_file(&path);
            return Ok(None);
        }
        let mut data = Vec::new();
        file.take(FILE_BYTES).read_to_end(&mut data)?;
        Ok(Some(data))
    }

    fn write(&self, id: &str, data: &[u8], expires: SystemTime) -> io::Result<()> {
        self.check()?;
        in_place_of(&self.place(id), |file| {
            file.write_all(data)?;
            file.set_modified(expires)
        })
    }

    fn touch(&self, id: &str, expires: SystemTime) -> io::Result<()> {
        File::options().write(true).open(self.place(id))?.set_modified(expires)
    }

    fn destroy(&self, id: &str) -> io::Result<()> {
        match fs::remove_file(self.place(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn gc(&self, now: SystemTime) -> io::Result<()> {
        self.walk_on(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("workerman-sessions-test-{}-{name}", std::process::id());
            Folder(std::env::temp_dir().join(name))
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds)
    }

    #[test]
    fn a_session_is_read_until_it_expires_and_then_its_file_goes() {
        let folder = Folder::new("expires");
        let store = FileSessions::new(&folder.0);
        assert_eq!(store.read("a", at(0)).expect("nothing"), None);
        store.write("a", b"one", at(10)).expect("written");
        store.write("a", b"two", at(10)).expect("written again");
        assert_eq!(store.read("a", at(9)).expect("read").as_deref(), Some(&b"two"[..]));
        store.touch("a", at(20)).expect("touched");
        assert!(store.read("a", at(19)).expect("read").is_some());
        assert!(store.read("a", at(20)).expect("read").is_none());
        assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 0);
        store.destroy("a").expect("gone already");
        let modes = [fs::metadata(&folder.0).expect("the folder").mode() & 0o777];
        assert_eq!(modes, [0o700]);
        store.write("b", b"x", at(10)).expect("written");
        assert_eq!(fs::metadata(store.place("b")).expect("a file").mode() & 0o777, 0o600);
    }

    #[test]
    fn expired_files_go_a_few_at_a_time_and_nobody_elses_do() {
        let folder = Folder::new("gc");
        let store = FileSessions::new(&folder.0);
        for n in 0..30 {
            store
                .write(&format!("{n}"), b"x", at(if n < 25 { 10 } else { 1000 }))
                .expect("written");
        }
        fs::write(folder.0.join("other"), b"x").expect("another file");
        store.gc(at(100)).expect("a step");
        let left = || fs::read_dir(&folder.0).expect("the folder").count();
        assert!((31 - LOOKED_AT..31).contains(&left()), "{}", left());
        for _ in 0..10 {
            store.gc(at(100)).expect("a step");
        }
        assert_eq!(left(), 6);
    }

    #[test]
    fn a_folder_that_others_may_enter_keeps_no_sessions() {
        let folder = Folder::new("open");
        DirBuilder::new().mode(0o755).create(&folder.0).expect("a folder");
        let error = FileSessions::new(&folder.0).write("a", b"x", at(1)).expect_err("open to all");
        assert!(error.to_string().contains("chmod 700"), "{error}");
        let link = Folder::new("link");
        std::os::unix::fs::symlink("/tmp", &link.0).expect("a link");
        FileSessions::new(&link.0).write("a", b"x", at(1)).expect_err("a link");
        let _ = fs::remove_file(&link.0);
    }
}
