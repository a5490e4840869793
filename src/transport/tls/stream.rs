//! A socket under TLS, by rustls' buffered session, driven by hand: no call here loops until done.
use super::TlsFailure;
use super::failure::{self, Side};
use super::settings::{ClientSettings, ServerSettings, server_name};
use crate::FailureKind;
use crate::transport::Socket;
use rustls::{ClientConnection, Connection, ServerConnection};
use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::{fmt, mem};

/// What `write` takes before the socket has taken it: four records, in one system call.
const WRITE_BYTES: usize = 64 << 10;

/// One read of the socket. It is handed to the session whole, in steps, and the session refuses a
/// step while more than 16 KiB of plaintext wait in it. What waits is at most what the reading
/// brought beyond the caller's room, and the record that had begun before, of at most 16 KiB. So
/// no read asks for more than the room; and a handshake, where nobody takes plaintext, asks for
/// no more than this.
const READ_BYTES: usize = 64 << 10;
const HANDSHAKE_READ_BYTES: usize = 8 << 10;

/// Records may be empty, and a read goes on until something comes out. More than this and nothing
/// of it for the program is no conversation; the loop has others to serve.
pub(super) const BARREN_BYTES: usize = 256 << 10;

/// With less room than this left, what has been read is given first.
const WORTH_READING: usize = 4 << 10;

/// The types of TLS' records (RFC 8446 §5.1) that may come first: an alert, a handshake.
const FIRST_RECORDS: [u8; 2] = [21, 22];

/// A TLS session over its socket. An idle one keeps 7.5 KB as a server and 8.1 KB as a client, also
/// after large messages (measured: live heap bytes of 200 connections, this value included); of
/// that the session's read buffer is 4 KB.
pub(crate) struct TlsStream {
    session: Connection,
    socket: Socket,
    side: Side,
    /// Plaintext that waits in the session.
    unread: usize,
    /// Plaintext that `write` took since the socket last had all of it.
    unflushed: usize,
    end: End,
    /// The last read emptied the socket.
    drained: bool,
    said_farewell: bool,
    /// Something came from the peer.
    heard: bool,
    /// Bytes that came since there was last something for the program.
    pub(super) barren: usize,
    /// Whom the certificate must name; only as long as there may be a certificate to speak about.
    host: Box<str>,
}

/// How far the peer's end has come.
enum End {
    Open,
    /// A farewell or a FIN, behind what is unread.
    Arrived,
    /// A failure, behind what is unread.
    Failed(io::Error),
    /// The caller knows.
    Told,
}

impl TlsStream {
    /// `host`: of the address, never of a proxy; the certificate must carry it unless the
    /// settings name another.
    pub(crate) fn client(
        settings: &ClientSettings,
        host: &str,
        socket: Socket,
    ) -> Result<Self, TlsFailure> {
        let name = match &settings.peer_name {
            Some(name) => Ok(name.clone()),
            None => server_name(host),
        };
        let name = name.map_err(|e| TlsFailure::new(FailureKind::Tls, e.to_string()))?;
        let shown = name.to_str().into_owned();
        let session = ClientConnection::new(settings.config.clone(), name)
            .map_err(|e| failure::of_session(&e, Side::Client, &shown))?;
        Ok(Self::new(session.into(), socket, Side::Client, shown))
    }

    pub(crate) fn server(settings: &ServerSettings, socket: Socket) -> Result<Self, TlsFailure> {
        let session = ServerConnection::new(settings.config.clone())
            .map_err(|e| failure::of_session(&e, Side::Server, ""))?;
        Ok(Self::new(session.into(), socket, Side::Server, String::new()))
    }

    fn new(mut session: Connection, socket: Socket, side: Side, host: String) -> Self {
        session.set_buffer_limit(Some(WRITE_BYTES));
        TlsStream {
            session,
            socket,
            side,
            unread: 0,
            unflushed: 0,
            end: End::Open,
            drained: false,
            said_farewell: false,
            heard: false,
            barren: 0,
            host: host.into(),
        }
    }

    /// As far as the socket allows; see [`Stream::handshake`](crate::transport::Stream::handshake).
    pub(crate) fn handshake(&mut self) -> Result<bool, TlsFailure> {
        loop {
            if let Err(e) = self.push() {
                return Err(self.why_it_broke(e));
            }
            if !self.session.is_handshaking() {
                self.host = Box::default();
                return Ok(true);
            }
            match self.fill(HANDSHAKE_READ_BYTES, &mut []) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(failure::of_io(e, self.side, &self.host)),
            }
            // A handshake that is complete may have come with the peer's end behind it.
            if self.session.is_handshaking() {
                self.check_end()?;
            }
        }
    }

    /// See [`Stream::read`](crate::transport::Stream::read).
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut filled = 0;
        // Told anew by this call: an event may have come since the last.
        self.drained = false;
        loop {
            filled += self.take_plaintext(&mut buffer[filled..])?;
            let room = buffer.len() - filled;
            if filled > 0 && (self.drained || room < WORTH_READING) {
                return Ok(filled);
            }
            if !matches!(self.end, End::Open) {
                return if filled > 0 { Ok(filled) } else { self.tell_end() };
            }
            let room = &mut buffer[filled..];
            match self.fill(room.len().min(READ_BYTES), room) {
                Ok(some) => filled += some,
                Err(e) if filled == 0 => return Err(e),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(filled),
                Err(e) => {
                    self.end = End::Failed(e);
                    return Ok(filled);
                }
            }
        }
    }

    pub(crate) fn drained(&self) -> bool {
        self.drained
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.unread > 0 || matches!(self.end, End::Arrived | End::Failed(_))
    }

    /// Takes until all is taken or the socket is full; a full socket and nothing taken is
    /// `WouldBlock`.
    pub(crate) fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.session.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        // What is stuck leaves first; and if it does not, an event will say when.
        let mut flowing = self.push()?;
        if flowing {
            // All slices in one go, so that a head and its payload share their first record.
            taken = self.session.writer().write_vectored(bytes)?;
            self.unflushed += taken;
            flowing = self.push()?;
        }
        let mut skip = taken;
        for slice in bytes {
            let mut rest = &slice[skip.min(slice.len())..];
            skip -= slice.len() - rest.len();
            while !rest.is_empty() && flowing {
                let more = self.session.writer().write(rest)?;
                rest = &rest[more..];
                taken += more;
                self.unflushed += more;
                flowing = self.push()? && more > 0;
            }
        }
        match taken {
            0 if !flowing && bytes.iter().any(|slice| !slice.is_empty()) => {
                Err(ErrorKind::WouldBlock.into())
            }
            taken => Ok(taken),
        }
    }

    pub(crate) fn flush_transport(&mut self) -> io::Result<bool> {
        self.push()
    }

    #[cfg(test)]
    pub(crate) fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    pub(crate) fn unflushed(&self) -> usize {
        self.unflushed
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<bool> {
        if !mem::replace(&mut self.said_farewell, true) {
            self.session.send_close_notify();
        }
        if !self.push()? {
            return Ok(false);
        }
        self.socket.shutdown_write().map(|()| true)
    }

    pub(crate) fn failure(&self, error: io::Error) -> TlsFailure {
        failure::of_io(error, self.side, &self.host)
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    #[cfg(test)]
    pub(super) fn session(&self) -> &Connection {
        &self.session
    }

    #[cfg(test)]
    pub(super) fn session_mut(&mut self) -> &mut Connection {
        &mut self.session
    }

    /// Ciphertext to the socket. `true`: all has left.
    fn push(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        self.unflushed = 0;
        Ok(true)
    }

    /// One read of the socket, handed to the session; `plain` takes what comes out, and how much
    /// that is is the answer. `WouldBlock` is the socket's own.
    fn fill(&mut self, at_most: usize, plain: &mut [u8]) -> io::Result<usize> {
        let mut ciphertext = borrow_buffer();
        let filled = self.fill_by(&mut ciphertext[..at_most], plain);
        return_buffer(ciphertext);
        filled
    }

    fn fill_by(&mut self, buffer: &mut [u8], plain: &mut [u8]) -> io::Result<usize> {
        let got = match self.socket.read(buffer) {
            Ok(got) => got,
            Err(e) => {
                self.drained = e.kind() == ErrorKind::WouldBlock;
                self.shrink();
                return Err(e);
            }
        };
        self.drained = got < buffer.len();
        let mut rest = &buffer[..got];
        if got == 0 {
            self.session.read_tls(&mut rest)?;
            self.end = End::Arrived;
            return Ok(0);
        }
        if !mem::replace(&mut self.heard, true) && !FIRST_RECORDS.contains(&rest[0]) {
            self.end = End::Failed(io::Error::new(ErrorKind::InvalidData, NotTls(rest.to_vec())));
            return Ok(0);
        }
        self.barren += got;
        let mut filled = 0;
        // Handed an empty slice, the session would take it for the peer's end.
        while !rest.is_empty() && matches!(self.end, End::Open) {
            self.session.read_tls(&mut rest)?;
            match self.session.process_new_packets() {
                Ok(state) => {
                    self.unread = state.plaintext_bytes_to_read();
                    if self.unread > 0 {
                        self.barren = 0;
                    }
                    if state.peer_has_closed() {
                        self.end = End::Arrived;
                    }
                }
                Err(e) => self.end = End::Failed(io::Error::new(ErrorKind::InvalidData, e)),
            }
            filled += self.take_plaintext(&mut plain[filled..])?;
        }
        if self.barren > BARREN_BYTES && matches!(self.end, End::Open) {
            let why = "256 KiB of records without content";
            self.end = End::Failed(io::Error::new(ErrorKind::InvalidData, why));
        }
        // Answers of TLS itself: tickets, key updates, the alert that says what we refuse. If the
        // socket fails over them, the next read or write says so.
        let _ = self.push();
        if self.drained {
            self.shrink();
        }
        Ok(filled)
    }

    /// The session's buffer grew to 32 KiB for large records, and it shrinks only as it begins to
    /// read again, which may be in an hour. So it is offered a read that brings nothing; a record
    /// that has begun keeps its place.
    fn shrink(&mut self) {
        let _ = self.session.read_tls(&mut Nothing);
    }

    fn take_plaintext(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.unread == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let got = match self.session.reader().read(buffer) {
            Ok(got) => got,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        self.unread -= got.min(self.unread);
        Ok(got)
    }

    /// What the session's end is, once nothing is unread before it.
    fn tell_end(&mut self) -> io::Result<usize> {
        match mem::replace(&mut self.end, End::Told) {
            End::Failed(e) => Err(e),
            // Zero for a farewell, `UnexpectedEof` for a FIN without one.
            _ => self.session.reader().read(&mut [0]),
        }
    }

    fn check_end(&mut self) -> Result<(), TlsFailure> {
        match mem::replace(&mut self.end, End::Open) {
            End::Open => Ok(()),
            End::Failed(e) => {
                self.end = End::Told;
                let plain = e.get_ref().and_then(|inner| inner.downcast_ref::<NotTls>());
                Err(match plain {
                    Some(plain) => failure::not_tls(&plain.0, self.side),
                    None => failure::of_io(e, self.side, &self.host),
                })
            }
            End::Arrived | End::Told => {
                self.end = End::Told;
                Err(failure::ended_in_handshake(self.heard, self.side))
            }
        }
    }

    /// The socket failed under our writing: the peer may have said why before it went.
    fn why_it_broke(&mut self, error: io::Error) -> TlsFailure {
        while matches!(self.end, End::Open) && self.fill(HANDSHAKE_READ_BYTES, &mut []).is_ok() {}
        match self.end {
            End::Failed(_) => match self.check_end() {
                Err(said) => said,
                Ok(()) => TlsFailure::of_socket(error),
            },
            _ => TlsFailure::of_socket(error),
        }
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("socket", &self.socket)
            .field("side", &self.side)
            .field("version", &self.session.protocol_version())
            .finish_non_exhaustive()
    }
}

/// The first bytes of a peer that does not speak TLS.
#[derive(Debug)]
struct NotTls(Vec<u8>);

impl fmt::Display for NotTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer does not speak TLS")
    }
}

impl std::error::Error for NotTls {}

/// Has nothing to read for now.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

thread_local! {
    /// One buffer for all sessions of a thread. Taken out while in use: a certificate verifier is
    /// the program's code, and may come back here.
    static CIPHERTEXT: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

fn borrow_buffer() -> Box<[u8]> {
    let kept = CIPHERTEXT.try_with(Cell::take).ok().flatten();
    kept.unwrap_or_else(|| vec![0; READ_BYTES].into_boxed_slice())
}

fn return_buffer(buffer: Box<[u8]>) {
    let _ = CIPHERTEXT.try_with(|kept| kept.set(Some(buffer)));
}
