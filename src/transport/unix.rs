//! Unix sockets, and the file that a listening one leaves behind.
use mio::net::{UnixListener, UnixStream};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf, absolute};
use std::{fs, os};

/// Connects, or fails, at once.
pub(crate) fn dial(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => {}
        // Linux means a full queue, and says nothing when there is room again.
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            return Err(io::Error::new(
                ErrorKind::ConnectionRefused,
                "the server accepts too slowly: its queue of connections is full",
            ));
        }
        Err(e) if is_under_way(&e) => {}
        Err(e) => return Err(e),
    }
    Ok(UnixStream::from_std(socket.into()))
}

/// Whether a dialled socket is connected by now; its failure is the error.
pub(crate) fn connected(stream: &UnixStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotConnected => Ok(false),
        Err(e) => Err(e),
    }
}

/// `connect` goes on in the background.
pub(crate) fn is_under_way(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::INPROGRESS)
}

/// The socket file of a listening socket, removed when this is dropped: its owner is who bound it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// A file that an ended server left behind is replaced. One whose server lives is refused with
/// `AddrInUse`, and so is a file that is no socket.
pub(crate) fn listen(path: &Path, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    // The program may change its directory before the file is to be removed.
    let file = absolute(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            remove_stale(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let owned = SocketFile::at(file)?;
    socket.listen(backlog)?;
    Ok((UnixListener::from_std(socket.into()), owned))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let in_use = |why: &str| io::Error::new(ErrorKind::AddrInUse, why.to_string());
    let seen = fs::symlink_metadata(path)?;
    if !seen.file_type().is_socket() {
        return Err(in_use("the file exists and is no socket"));
    }
    match dial(path) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused && e.raw_os_error().is_some() => {}
        Ok(_) => return Err(in_use("a server listens there")),
        Err(e) => return Err(in_use(&format!("the socket file may be in use: {e}"))),
    }
    // Another program may have replaced it by its own meanwhile.
    let now = fs::symlink_metadata(path)?;
    if (now.dev(), now.ino()) != (seen.dev(), seen.ino()) {
        return Err(in_use("a server has just begun to listen there"));
    }
    fs::remove_file(path)
}

impl SocketFile {
    fn at(path: PathBuf) -> io::Result<Self> {
        let seen = fs::symlink_metadata(&path)?;
        Ok(SocketFile { path, device: seen.dev(), inode: seen.ino() })
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor may have put its own file there; that one stays.
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode));
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) fn path_text(address: io::Result<os::unix::net::SocketAddr>) -> Option<String> {
    address.ok()?.as_pathname().map(|path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::Folder;

    #[test]
    fn the_file_lives_as_long_as_its_listener() {
        let folder = Folder::new("unix-file");
        let path = folder.path("a.sock");
        let (listener, file) = listen(&path, 16).expect("listen");
        let client = dial(&path).expect("dial");
        assert!(connected(&client).expect("connected"));
        assert_eq!(path_text(client.peer_addr()).as_deref(), path.to_str());
        listener.accept().expect("accept");
        drop(file);
        assert!(!path.exists());
        assert_eq!(dial(&path).expect_err("gone").kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_refused() {
        let folder = Folder::new("unix-stale");
        let path = folder.path("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("an ended server's file"));
        let (_listener, file) = listen(&path, 16).expect("the stale file is replaced");
        let error = listen(&path, 16).expect_err("a live one is not");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("a server listens there"), "{error}");
        assert!(path.exists());
        drop(file);
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let folder = Folder::new("unix-plain");
        let path = folder.path("precious");
        fs::write(&path, "precious").expect("write");
        let error = listen(&path, 16).expect_err("no socket");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let folder = Folder::new("unix-successor");
        let path = folder.path("a.sock");
        let (_first, file) = listen(&path, 16).expect("listen");
        fs::remove_file(&path).expect("as an impatient successor does");
        let (_second, successor) = listen(&path, 16).expect("listen");
        drop(file);
        assert_eq!(successor.path(), path);
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_does_not_fit_is_an_error() {
        let long = PathBuf::from(format!("/{}", "x".repeat(200)));
        assert_eq!(listen(&long, 16).expect_err("long").kind(), ErrorKind::InvalidInput);
        assert_eq!(dial(&long).expect_err("long").kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_full_queue_is_a_refusal_and_no_endless_wait() {
        let folder = Folder::new("unix-full");
        let path = folder.path("a.sock");
        let (_listener, _file) = listen(&path, 1).expect("listen");
        let mut waiting = Vec::new();
        let error = loop {
            match dial(&path) {
                Ok(client) => waiting.push(client),
                Err(e) => break e,
            }
            assert!(waiting.len() < 64, "the queue has an end");
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = listen(&path, 1).expect_err("its server is slow, not dead");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}
