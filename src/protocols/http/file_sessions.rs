//! Sessions in files: one each, in a folder that nobody else can look into.
use super::SessionStore;
use super::session::is_id;
use std::cell::{Cell, RefCell};
use std::fs::{self, DirBuilder, File, OpenOptions, ReadDir};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// So many names are looked at for each session that is opened.
const SWEPT_AT_ONCE: usize = 8;
/// Between two walks through the folder.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);
/// More is no session of ours.
const FILE_BYTES: u64 = 16 << 20;

/// Sessions in files of a folder: `sess_` and the id, readable by this user alone. Their time of
/// change says when they expire. What has expired goes little by little, eight files for each
/// session that is opened.
///
/// The folder is made if it is not there (its parent must be). One that is a symbolic link, belongs
/// to another user, or lets others in is refused: whoever can list it has everyone's session.
/// Several processes of one user may share a folder.
#[derive(Debug)]
pub struct FileSessions {
    folder: PathBuf,
    is_safe: Cell<bool>,
    sweep: RefCell<Option<ReadDir>>,
    swept: Cell<Option<SystemTime>>,
    written: Cell<u64>,
}

/// In the system's folder for temporary files, `workerman-sessions-` and the user's number: gone
/// after a restart on many systems.
impl Default for FileSessions {
    fn default() -> Self {
        let user = rustix::process::geteuid().as_raw();
        FileSessions::new(std::env::temp_dir().join(format!("workerman-sessions-{user}")))
    }
}

impl FileSessions {
    /// In this folder; it is looked at when the first session is.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        FileSessions {
            folder: folder.into(),
            is_safe: Cell::new(false),
            sweep: RefCell::default(),
            swept: Cell::new(None),
            written: Cell::new(0),
        }
    }

    fn path(&self, id: &str) -> io::Result<PathBuf> {
        // Whoever calls has asked already; a path is worth a second look.
        if !is_id(id) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no id of a session"));
        }
        self.check()?;
        Ok(self.folder.join(format!("sess_{id}")))
    }

    fn check(&self) -> io::Result<()> {
        if self.is_safe.get() {
            return Ok(());
        }
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(self.refused(&format!("cannot be made: {e}")));
            }
            _ => {}
        }
        // Of itself, not of what a link points to.
        let about = fs::symlink_metadata(&self.folder)?;
        let user = rustix::process::geteuid().as_raw();
        if about.is_symlink() {
            return Err(self.refused("is a symbolic link: name the folder itself"));
        }
        if !about.is_dir() {
            return Err(self.refused("is no folder"));
        }
        if about.uid() != user {
            let owner = about.uid();
            return Err(self.refused(&format!(
                "belongs to the user {owner}, and this is user {user}: name another"
            )));
        }
        if about.mode() & 0o077 != 0 {
            let mode = about.mode() & 0o777;
            return Err(self.refused(&format!("lets other users in (mode {mode:o}): chmod 700")));
        }
        self.is_safe.set(true);
        Ok(())
    }

    fn refused(&self, why: &str) -> io::Error {
        io::Error::other(format!("the folder for sessions {} {why}", self.folder.display()))
    }

    /// Written beside it and moved over it, so that a reader finds the old one or the new one.
    fn replace(&self, path: &Path, data: &[u8], expires: SystemTime) -> io::Result<()> {
        self.written.set(self.written.get() + 1);
        let name = format!("new_{}_{:p}_{}", std::process::id(), self, self.written.get());
        let new = self.folder.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written = options.open(&new).and_then(|mut file| {
            file.write_all(data)?;
            file.set_modified(expires)?;
            fs::rename(&new, path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// The next names of the walk.
    fn sweep(&self, now: SystemTime) -> io::Result<()> {
        let mut walk = self.sweep.borrow_mut();
        if walk.is_none() {
            let since = self.swept.get().and_then(|swept| now.duration_since(swept).ok());
            if self.swept.get().is_some() && since.is_some_and(|since| since < SWEEP_PAUSE) {
                return Ok(());
            }
            self.check()?;
            self.swept.set(Some(now));
            *walk = Some(fs::read_dir(&self.folder)?);
        }
        for _ in 0..SWEPT_AT_ONCE {
            let Some(entry) = walk.as_mut().and_then(Iterator::next) else {
                *walk = None;
                return Ok(());
            };
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Nothing else in the folder is ours to delete.
            if !name.strip_prefix("sess_").is_some_and(is_id) && !name.starts_with("new_") {
                continue;
            }
            // One that was left half-written has the time of its writing: it stays an hour.
            let grace = if name.starts_with("new_") { 3600 } else { 0 };
            let modified = entry.metadata().and_then(|about| about.modified());
            if modified.is_ok_and(|time| time + Duration::from_secs(grace) <= now) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

impl SessionStore for FileSessions {
    fn read(&self, id: &str, now: SystemTime) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(self.path(id)?) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let about = file.metadata()?;
        if about.modified()? <= now || about.len() > FILE_BYTES {
            return Ok(None);
        }
        let mut data = Vec::new();
        (&mut file).take(FILE_BYTES).read_to_end(&mut data)?;
        Ok(Some(data))
    }

    fn write(&self, id: &str, data: &[u8], expires: SystemTime) -> io::Result<()> {
        let path = self.path(id)?;
        match self.replace(&path, data, expires) {
            // Whoever tidies temporary files may have taken the folder away.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.is_safe.set(false);
                self.check()?;
                self.replace(&path, data, expires)
            }
            written => written,
        }
    }

    fn touch(&self, id: &str, expires: SystemTime) -> io::Result<()> {
        // To set a time one need not be able to write, but on some systems one must.
        let file = match OpenOptions::new().write(true).open(self.path(id)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        file.set_modified(expires)
    }

    fn destroy(&self, id: &str) -> io::Result<()> {
        match fs::remove_file(self.path(id)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn collect(&self, now: SystemTime) {
        if let Err(e) = self.sweep(now) {
            log::warn!("expired sessions in {} stay: {e}", self.folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A place for a folder, which goes with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("workerman-session-test-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            DirBuilder::new().mode(0o700).create(&path).expect("a new folder");
            Place(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn id(n: usize) -> String {
        format!("{n:032x}")
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_session_is_read_until_it_expires_and_only_its_owner_may_read_it() {
        let place = Place::new("expires");
        let store = FileSessions::new(place.0.join("made"));
        assert_eq!(store.read(&id(1), at(0)).expect("a look"), None);
        store.write(&id(1), b"one", at(100)).expect("it is kept");
        store.write(&id(1), b"two", at(100)).expect("it is kept");
        let read = |now| store.read(&id(1), at(now)).expect("a look");
        assert_eq!((read(99).as_deref(), read(100)), (Some(&b"two"[..]), None));
        store.touch(&id(1), at(200)).expect("it is kept longer");
        assert_eq!(read(199).as_deref(), Some(&b"two"[..]));
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!(mode(&place.0.join("made")), 0o700);
        let files: Vec<_> = fs::read_dir(place.0.join("made")).expect("a folder").collect();
        assert_eq!(files.len(), 1, "nothing half-written stays: {files:?}");
        assert_eq!(mode(&files[0].as_ref().expect("an entry").path()), 0o600);
        store.destroy(&id(1)).expect("it goes");
        store.destroy(&id(1)).expect("it is gone already");
        assert_eq!(read(0), None);
    }

    #[test]
    fn a_folder_that_others_can_reach_is_refused_with_a_reason() {
        let place = Place::new("refused");
        let (open, link, foreign) =
            (place.0.join("open"), place.0.join("link"), place.0.join("foreign"));
        fs::create_dir(&open).expect("a folder");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("a mode");
        let safe = place.0.join("safe");
        DirBuilder::new().mode(0o700).create(&safe).expect("a folder");
        symlink(&safe, &link).expect("a link");
        let mut refused = vec![(open, "chmod 700"), (link, "symbolic link")];
        refused.push((place.0.join("no/parent"), "cannot be made"));
        DirBuilder::new().mode(0o700).create(&foreign).expect("a folder");
        // Only root can give a folder away.
        if std::os::unix::fs::chown(&foreign, Some(12_345), None).is_ok() {
            refused.push((foreign, "belongs to the user 12345"));
        }
        for (folder, why) in refused {
            let store = FileSessions::new(folder);
            let error = store.write(&id(1), b"x", at(1)).expect_err(why).to_string();
            assert!(error.contains(why) && error.contains("workerman-session-test"), "{error}");
            assert!(store.read(&id(1), at(0)).is_err());
        }
    }

    #[test]
    fn what_is_no_id_never_becomes_a_path() {
        let place = Place::new("path");
        let store = FileSessions::new(place.0.join("made"));
        fs::write(place.0.join("secret"), "x").expect("a file");
        for id in ["../secret", "", "/etc/passwd", &"../".repeat(11)[..32]] {
            assert!(store.read(id, at(0)).is_err(), "{id}");
            assert!(store.write(id, b"x", at(9)).is_err(), "{id}");
            assert!(store.destroy(id).is_err(), "{id}");
        }
    }

    #[test]
    fn what_has_expired_goes_little_by_little_and_nothing_else_does() {
        let place = Place::new("sweep");
        let store = FileSessions::new(&place.0);
        for n in 0..20 {
            store.write(&id(n), b"x", at(if n < 15 { 100 } else { 300 })).expect("it is kept");
        }
        let other = File::create(place.0.join("README")).expect("a file");
        other.set_modified(at(1)).expect("an old one");
        let left = || fs::read_dir(&place.0).expect("a folder").count();
        store.collect(at(200));
        assert!(left() >= 13, "too many at once: {}", left());
        for _ in 0..3 {
            store.collect(at(200));
        }
        assert_eq!(left(), 6);
        assert!(place.0.join("README").exists());
        store.collect(at(230));
        assert_eq!(left(), 6, "the next walk comes a minute later");
        for _ in 0..3 {
            store.collect(at(400));
        }
        assert_eq!(left(), 1);
    }

    #[test]
    fn a_folder_that_was_tidied_away_is_made_again() {
        let place = Place::new("again");
        let store = FileSessions::new(place.0.join("made"));
        store.write(&id(1), b"x", at(9)).expect("it is kept");
        fs::remove_dir_all(place.0.join("made")).expect("it goes");
        assert_eq!(store.read(&id(1), at(0)).expect("a look"), None);
        store.write(&id(1), b"y", at(9)).expect("it is kept");
        assert_eq!(store.read(&id(1), at(0)).expect("a look").as_deref(), Some(&b"y"[..]));
    }
}
