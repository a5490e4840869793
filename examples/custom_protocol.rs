//! Two protocols of one's own: JSON in lines, and files behind a binary head.
//!
//!     cargo run --example custom_protocol                       # a server and a client that talk
//!     cargo run --example custom_protocol json [PORT]           # JSON: nc 127.0.0.1 1234
//!     cargo run --example custom_protocol files [PORT] [FOLDER] # keeps the files that come
//!     cargo run --example custom_protocol send ADDRESS FILE     # sends one to it
//!
//! `docs/protocols.md` explains both, line by line.
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Context, Dial, Input, Serve, Violation};

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => talk(),
        ["json"] => json_server("1234"),
        ["json", port] => json_server(port),
        ["files"] => file_server("2345", &std::env::temp_dir()),
        ["files", port] => file_server(port, &std::env::temp_dir()),
        ["files", port, folder] => file_server(port, Path::new(folder)),
        ["send", address, file] => send(address, Path::new(file)),
        _ => Err("json [PORT], files [PORT] [FOLDER], or send ADDRESS FILE".into()),
    }
}

// -------------------------------------------------------------------------------- JSON in lines

/// A JSON value and a line feed.
#[derive(Default)]
struct JsonNl {
    /// So many bytes at the front hold no line feed.
    searched: usize,
}

impl Protocol for JsonNl {
    const NAME: &'static str = "JsonNL";
    type Incoming<'a> = Value;
    type Outgoing<'a> = &'a Value;

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        let found = buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(at) = found else {
            self.searched = buffer.len();
            return Ok(Input::Partial);
        };
        let end = std::mem::take(&mut self.searched) + at + 1;
        Ok(Input::Package(end))
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<Value>, Violation> {
        Ok(Some(serde_json::from_slice(package)?))
    }

    fn encode(
        &mut self,
        message: &Value,
        out: &mut Vec<u8>,
        _: &mut Context,
    ) -> Result<(), Violation> {
        serde_json::to_writer(&mut *out, message)?;
        out.push(b'\n');
        Ok(())
    }
}
impl Serve for JsonNl {}
impl Dial for JsonNl {}

fn json_worker(port: &str) -> Result<Worker<JsonNl>> {
    let worker = Worker::<JsonNl>::listen(&format!("JsonNL://127.0.0.1:{port}"))?;
    worker.on_message(|con, value| {
        con.send(&json!({"code": 0, "msg": "ok", "got": value}));
    });
    Ok(worker)
}

fn json_server(port: &str) -> Result {
    json_worker(port)?.on_worker_start(|worker| {
        println!("JsonNL://{} answers", worker.local_addr().ok_or("it does not listen")?);
        Ok(())
    });
    Worker::run_all()
}

/// A server and a client in one process.
fn talk() -> Result {
    json_worker("0")?.on_worker_start(|worker| {
        let address = worker.local_addr().ok_or("it does not listen")?;
        println!("JsonNL://{address} answers");
        let con = AsyncTcpConnection::<JsonNl>::new(&format!("JsonNL://{address}"))?;
        con.on_connect(|con| con.send(&json!({"type": "message", "content": "hello"})));
        con.on_message(|_, value| {
            println!("recv: {value}");
            Worker::stop_all();
        });
        con.connect();
        Ok(())
    });
    Worker::run_all()
}

// ------------------------------------------------------------------------ files, piece by piece

/// The total length in four bytes (big-endian), the length of the name in one, the name, the
/// content: the manual's head. The content is handed on as it comes and never held.
#[derive(Default)]
struct FileTransfer {
    /// Bytes of the content that are still to come.
    expected: u64,
    /// Bytes of the content that the program still owes the peer.
    owed: u64,
}

/// What comes and what is sent: a beginning, then pieces until none is `left`.
enum Part<'a> {
    Begin { name: &'a str, length: u64 },
    Piece { bytes: &'a [u8], left: u64 },
}

const HEAD: usize = 5;
/// So many unsent bytes are enough.
const FULL: usize = 1 << 20;
/// A file that has begun and then stops is given up.
const STALL: Duration = Duration::from_secs(30);

impl Protocol for FileTransfer {
    const NAME: &'static str = "file";
    type Incoming<'a> = Part<'a>;
    type Outgoing<'a> = Part<'a>;

    fn input(&mut self, buffer: &mut [u8], cx: &mut Context) -> Result<Input, Violation> {
        if self.expected > 0 {
            let most = buffer.len().min(cx.limits().max_package_size());
            return Ok(Input::Package(self.expected.min(most as u64) as usize));
        }
        let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(Input::Partial) };
        Ok(Input::Package(HEAD + usize::from(head[4])))
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Part<'a>>, Violation> {
        let part = if self.expected > 0 {
            self.expected -= package.len() as u64;
            Part::Piece { bytes: package, left: self.expected }
        } else {
            let (head, name) = package.split_at(HEAD);
            let total = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let length = u64::from(total).checked_sub((HEAD + name.len()) as u64);
            self.expected = length.ok_or_else(|| Violation::new("shorter than its own head"))?;
            Part::Begin { name: std::str::from_utf8(name)?, length: self.expected }
        };
        cx.set_deadline((self.expected > 0).then(|| cx.now() + STALL));
        Ok(Some(part))
    }

    fn encode(
        &mut self,
        message: Part<'_>,
        out: &mut Vec<u8>,
        _: &mut Context,
    ) -> Result<(), Violation> {
        match message {
            Part::Begin { name, length } if self.owed == 0 => {
                out.extend_from_slice(&head(name, length)?);
                self.owed = length;
                Ok(())
            }
            Part::Begin { .. } => Err(Violation::new("the last file has not ended")),
            Part::Piece { bytes, .. } => {
                let left = self.owed.checked_sub(bytes.len() as u64);
                self.owed = left.ok_or_else(|| Violation::new("more than the file's length"))?;
                out.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn on_timer(&mut self, _: &mut Context) -> Result<(), Violation> {
        Err(Violation::new(format!("a file stopped for {STALL:?}")))
    }

    fn on_eof<'a>(
        &mut self,
        rest: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<Part<'a>>, Violation> {
        match self.expected + rest.len() as u64 {
            0 => Ok(None),
            _ => Err(Violation::new("the end in the middle of a file")),
        }
    }
}
impl Serve for FileTransfer {}
impl Dial for FileTransfer {}

fn head(name: &str, length: u64) -> Result<Vec<u8>, Violation> {
    let of_name = u8::try_from(name.len()).map_err(|_| Violation::new("a name above 255 bytes"))?;
    let total = u32::try_from(length.saturating_add((HEAD + name.len()) as u64));
    let total = total.map_err(|_| Violation::new("a file above 4 GiB"))?;
    Ok([&total.to_be_bytes()[..], &[of_name], name.as_bytes()].concat())
}

/// The peer chooses the name: only one that cannot lead out of the folder is used.
fn harmless(name: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || "._- ".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(letter)
}

/// A file that is coming; one that never became whole is removed.
struct Arriving {
    file: File,
    path: PathBuf,
    whole: bool,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.whole {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[derive(Default)]
struct Incoming(Option<Arriving>);

fn file_server(port: &str, folder: &Path) -> Result {
    let worker = Worker::<FileTransfer>::listen(&format!("file://127.0.0.1:{port}"))?;
    let folder = folder.to_path_buf();
    let name = folder.display().to_string();
    worker.on_worker_start(move |worker| {
        let address = worker.local_addr().ok_or("it does not listen")?;
        println!("file://{address} keeps files in {name}");
        Ok(())
    });
    worker.on_message(move |con, part| {
        let left = match part {
            Part::Begin { name, .. } if !harmless(name) => {
                con.send_raw(b"that name is not taken\n");
                con.close();
                return Ok(());
            }
            Part::Begin { name, length } => {
                let path = folder.join(name);
                // Never over what is there already.
                let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
                con.set(Incoming(Some(Arriving { file, path, whole: false })));
                length
            }
            Part::Piece { bytes, left } => {
                con.with(|Incoming(to): &mut Incoming| match to {
                    Some(to) => to.file.write_all(bytes),
                    None => Ok(()),
                })
                .transpose()?;
                left
            }
        };
        if left == 0
            && let Some(Some(mut arrived)) = con.with(|Incoming(to): &mut Incoming| to.take())
        {
            arrived.whole = true;
            println!("{} has come", arrived.path.display());
            con.send_raw(format!("kept {}\n", arrived.path.display()).as_bytes());
        }
        Ok(())
    });
    worker.on_error(|con, _, failure| println!("{}: {failure}", con.remote_address()));
    Worker::run_all()
}

/// The other end answers in lines, so this one speaks lines and sends the file as raw bytes.
fn send(address: &str, path: &Path) -> Result {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("a file's name")?;
    let mut file = File::open(path)?;
    let mut left = file.metadata()?.len();
    let head = head(name, left).map_err(|e| e.to_string())?;
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{address}"))?;
    con.send_raw(&head);
    // A few pieces, and more when they have left: a large file is never in memory.
    let mut next = Some(move |con: AsyncTcpConnection<Text>| -> Result {
        while left > 0 && con.send_buffer_len() < FULL {
            let mut piece = vec![0; left.min(64 << 10) as usize];
            file.read_exact(&mut piece)?;
            left -= piece.len() as u64;
            con.send_raw(&piece);
        }
        Ok(())
    });
    con.set_max_send_buffer_size(FULL);
    con.on_connect(move |con| {
        let Some(mut next) = next.take() else { return Ok(()) };
        next(con)?;
        con.on_buffer_drain(next);
        Ok(())
    });
    con.on_message(|con, line| {
        println!("{line}");
        con.close();
    });
    con.on_error(|_, _, failure| println!("error: {failure}"));
    con.on_close(|_| Worker::stop_all());
    con.connect();
    Worker::run_all()
}
