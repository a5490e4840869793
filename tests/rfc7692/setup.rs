//! How both sides are set up, and compressed octets made and read by zlib itself.
use crate::distance::farthest;
use crate::play::{Frame, Setup};
use crate::row::TEXT;
use std::sync::Arc;
use workerman::{Deflate, Limits};
use zlib_rs::{DeflateFlush, Inflate, InflateFlush};

pub(crate) const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
pub(crate) const DEFLATE: &str = "permessage-deflate";
pub(crate) const RSV1: u8 = 0x40;

/// "Hello" in one block, as §7.2.3.1 has it.
pub(crate) const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
/// The same again, by reference to the one before (§7.2.3.2).
pub(crate) const AGAIN: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];

/// What empties a compressor's pipe, and is not sent (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// What can be had: context takeover in both directions, and every message compressed.
pub(crate) fn everything() -> Deflate {
    let deflate = Deflate::new().threshold(0);
    deflate.server_no_context_takeover(false).client_no_context_takeover(false)
}

/// Our side as `deflate` says, and the peer's lines of extensions.
fn setup(name: String, deflate: Option<Deflate>, extensions: &[&str]) -> Arc<Setup> {
    let lines = extensions.iter().map(|value| format!("{EXTENSIONS}: {value}\r\n"));
    Arc::new(Setup {
        name,
        lines: lines.collect(),
        client: Box::new(move |con| {
            if let Some(deflate) = deflate {
                con.set_websocket_deflate(deflate);
            }
        }),
        worker: Box::new(move |worker| {
            if let Some(deflate) = deflate {
                worker.set_websocket_deflate(deflate);
            }
        }),
    })
}

/// Our program's wishes in a word; the peer has no extensions.
pub(crate) fn alone(wishes: &str, deflate: Deflate) -> Arc<Setup> {
    setup(format!("we: {wishes}"), Some(deflate), &[])
}

/// What our program wants, and what the peer's handshake has: it has `offered`, or `answered`.
pub(crate) fn peer(
    does: &str,
    wishes: &str,
    deflate: Option<Deflate>,
    extensions: &[&str],
) -> Arc<Setup> {
    let mut name = String::new();
    if !wishes.is_empty() {
        name = format!("we: {wishes}; ");
    }
    match extensions {
        [] => name += "no extension",
        extensions => name += &format!("{does} `{}`", extensions.join("` and `")),
    }
    setup(name, deflate, extensions)
}

/// Both sides agree on these parameters, whoever is ours.
pub(crate) fn agreed(parameters: &str) -> Arc<Setup> {
    let extension = format!("{DEFLATE}{parameters}");
    let name = match parameters {
        "" => "agreed".into(),
        parameters => format!("agreed on `{}`", parameters.trim_start_matches("; ")),
    };
    setup(name, Some(everything()), &[&extension])
}

/// Each compressed with those before it in mind, by this window and level, each flushed to an octet
/// and its tail taken off.
pub(crate) fn pack_all(messages: &[&[u8]], level: i32, bits: u8) -> Vec<Vec<u8>> {
    let mut packer = zlib_rs::Deflate::new(level, false, bits);
    let pack = |message: &&[u8]| {
        let mut out = vec![0; message.len() * 2 + 100];
        let before = packer.total_out();
        packer.compress(message, &mut out, DeflateFlush::SyncFlush).expect("it compresses");
        out.truncate((packer.total_out() - before) as usize);
        assert_eq!(out.split_off(out.len() - 4), TAIL);
        out
    };
    messages.iter().map(pack).collect()
}

pub(crate) fn pack(message: &[u8]) -> Vec<u8> {
    pack_all(&[message], 9, 15).remove(0)
}

/// As `pack`, in pieces of so many octets of the message: each ends at an octet, and only of the
/// last one the tail is taken off.
pub(crate) fn pack_in_pieces(message: &[u8], size: usize) -> Vec<Vec<u8>> {
    let pieces: Vec<&[u8]> = message.chunks(size).collect();
    let mut packed = pack_all(&pieces, 9, 15);
    let last = packed.len() - 1;
    packed[..last].iter_mut().for_each(|piece| piece.extend_from_slice(&TAIL));
    packed
}

/// The beginning of `packed` that zlib needs to see that it is wrong, or to make `made` octets.
pub(crate) fn upto(packed: &[u8], made: u64) -> &[u8] {
    let mut inflater = Inflate::new(false, 15);
    for (at, octet) in packed.chunks(1).enumerate() {
        let mut out = vec![0; 300];
        let step = inflater.decompress(octet, &mut out, InflateFlush::NoFlush);
        if step.is_err() || inflater.total_out() >= made {
            return &packed[..=at];
        }
    }
    panic!("zlib finds nothing wrong with {packed:x?}");
}

/// What our side has sent, inflated from message to message, or each by itself; nothing in it refers
/// further back than a window of so many bits.
pub(crate) fn unpack(frames: &[Frame], bits: u8, takes_over: bool) -> Result<Vec<String>, String> {
    let mut inflater = Inflate::new(false, 15);
    let mut texts = Vec::new();
    for frame in frames.iter().filter(|frame| frame.first == TEXT | RSV1) {
        if !takes_over {
            inflater = Inflate::new(false, 15);
        }
        // §7.2.2: what was taken off is put on again.
        let stream = [&frame.payload[..], &TAIL].concat();
        let (mut out, before) = (vec![0; 300_000], inflater.total_out());
        let inflated = inflater.decompress(&stream, &mut out, InflateFlush::SyncFlush);
        inflated.map_err(|e| format!("no right blocks: {e:?}"))?;
        out.truncate((inflater.total_out() - before) as usize);
        texts.push(String::from_utf8(out).map_err(|e| e.to_string())?);
        let farthest = farthest(&stream)?;
        if farthest > 1 << bits {
            return Err(format!("it refers {farthest} octets back, by a window of {bits} bits"));
        }
    }
    Ok(texts)
}

/// 100 000 octets a message at most.
pub(crate) fn limits() -> Limits {
    Limits::new().message_bytes(100_000)
}
