//! One thing that is played: what the peer says, and what must come of it.
use super::names::{name_of, name_of_act, name_of_event};
use super::play::{Act, Bench, Event, Frame, Heard, Leave, Script, Setup, WHOLE};
use crate::support::endpoint::{BOTH, Ours, frame_to, head_to};
use std::fmt::Write;
use std::sync::Arc;
use workerman::prelude::*;
use workerman::{FailureKind, Limits, Phase};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
/// Fragments: the first of a text, of a binary message, one between, the last.
pub(crate) const TEXT_MORE: u8 = 0x01;
pub(crate) const BINARY_MORE: u8 = 0x02;
pub(crate) const MORE: u8 = 0x00;
pub(crate) const LAST: u8 = 0x80;

/// What the peer says.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Frame(u8, Vec<u8>),
    /// First octet, the length that the head declares, and so much of the payload.
    Begun(u8, u64, Vec<u8>),
    /// Just these octets.
    Raw(Vec<u8>),
}

pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Piece {
    Piece::Frame(first, payload.as_ref().to_vec())
}

pub(crate) fn begun(first: u8, length: u64, payload: impl AsRef<[u8]>) -> Piece {
    Piece::Begun(first, length, payload.as_ref().to_vec())
}

/// Octets as they are; the mask bit is the row's business.
pub(crate) fn raw(bytes: &[u8]) -> Piece {
    Piece::Raw(bytes.to_vec())
}

pub(crate) fn close(code: u16, reason: impl AsRef<[u8]>) -> Piece {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

pub(crate) fn text(text: impl AsRef<[u8]>) -> Event {
    Event::Text(text.as_ref().to_vec())
}

pub(crate) fn binary(bytes: impl AsRef<[u8]>) -> Event {
    Event::Binary(bytes.as_ref().to_vec())
}

impl Piece {
    pub(crate) fn to(&self, ours: Ours) -> Vec<u8> {
        match self {
            Piece::Frame(first, payload) => frame_to(ours, *first, payload),
            Piece::Begun(first, length, payload) => {
                let head = head_to(ours, *first, *length);
                let whole = frame_to(ours, *first, payload);
                let masked = &whole[whole.len() - payload.len()..];
                [&head, masked].concat()
            }
            Piece::Raw(bytes) => bytes.clone(),
        }
    }
}

/// How it must end.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The peer says goodbye behind all, and that is answered.
    Goodbye,
    /// The peer's close frame was among what it said: this is our side's, and `close_code()`.
    Closed(Option<u16>, u16),
    /// Our side's close frame has this code, at the last octet of what was said and not before.
    Fails(u16),
    /// The peer's FIN, without any close frame.
    Fin,
    /// A client's opening fails over the answer, and the failure says this among other words.
    Refuses(&'static str),
    /// A server's answer has this status, and no session opens.
    Status(u16),
}

/// One thing that is played: in each role it concerns, and cut in each of these ways.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) says: Vec<Piece>,
    pub(crate) who: Vec<Ours>,
    pub(crate) cuts: Vec<usize>,
    pub(crate) limits: Limits,
    pub(crate) setup: Option<Arc<Setup>>,
    /// A header of our handshake; `None`: it has no such header.
    pub(crate) header: Option<(&'static str, Option<String>)>,
    pub(crate) acts: Vec<Act>,
    pub(crate) events: Vec<Event>,
    /// What our side sends before its close frame.
    pub(crate) sends: Vec<(u8, Vec<u8>)>,
    pub(crate) end: End,
}

/// All of it passes, and this is heard of it.
pub(crate) fn passes(
    says: impl IntoIterator<Item = Piece>,
    events: impl IntoIterator<Item = Event>,
) -> Case {
    Case {
        says: says.into_iter().collect(),
        who: BOTH.to_vec(),
        cuts: vec![WHOLE, 1],
        limits: Limits::new(),
        setup: None,
        header: None,
        acts: Vec::new(),
        events: events.into_iter().collect(),
        sends: Vec::new(),
        end: End::Goodbye,
    }
}

/// Nothing is heard of it, and it ends with this code at its last octet.
pub(crate) fn fails(code: u16, says: impl IntoIterator<Item = Piece>) -> Case {
    passes(says, []).ends(End::Fails(code))
}

impl Case {
    pub(crate) fn ends(self, end: End) -> Self {
        Case { end, ..self }
    }

    pub(crate) fn hears(self, events: impl IntoIterator<Item = Event>) -> Self {
        Case { events: events.into_iter().collect(), ..self }
    }

    pub(crate) fn sends(self, sends: &[(u8, &[u8])]) -> Self {
        let sends = sends.iter().map(|(first, payload)| (*first, payload.to_vec())).collect();
        Case { sends, ..self }
    }

    pub(crate) fn acts(self, acts: impl IntoIterator<Item = Act>) -> Self {
        Case { acts: acts.into_iter().collect(), ..self }
    }

    pub(crate) fn only(self, ours: Ours) -> Self {
        Case { who: vec![ours], ..self }
    }

    pub(crate) fn cuts(self, cuts: &[usize]) -> Self {
        Case { cuts: cuts.to_vec(), ..self }
    }

    pub(crate) fn limits(self, limits: Limits) -> Self {
        Case { limits, ..self }
    }

    pub(crate) fn with(self, setup: &Arc<Setup>) -> Self {
        Case { setup: Some(setup.clone()), ..self }
    }

    pub(crate) fn header(self, name: &'static str, value: Option<&str>) -> Self {
        Case { header: Some((name, value.map(String::from))), ..self }
    }

    /// So many plays, or what was wrong with one of them.
    pub(super) fn run(&self, bench: &Bench) -> Result<usize, String> {
        let mut plays = 0;
        for &ours in &self.who {
            for &cut in &self.cuts {
                self.play(bench, ours, cut).map_err(|wrong| {
                    let cut = if cut == WHOLE { "whole".into() } else { format!("cut by {cut}") };
                    let mut fed = self.fed();
                    fed.truncate(fed.char_indices().nth(300).map_or(fed.len(), |(at, _)| at));
                    format!("{ours:?}, {cut}, {fed}: {wrong}")
                })?;
                plays += 1;
            }
        }
        Ok(plays)
    }

    fn play(&self, bench: &Bench, ours: Ours, cut: usize) -> Result<(), String> {
        let mut script = Script::new(ours, cut);
        script.says = self.says.iter().flat_map(|piece| piece.to(ours)).collect();
        script.limits = self.limits.clone();
        script.acts = self.acts.clone();
        script.setup = self.setup.clone();
        script.leave = match self.end {
            End::Goodbye => Leave::Goodbye,
            End::Closed(..) | End::Fails(_) | End::Refuses(_) | End::Status(_) => Leave::Waits,
            End::Fin => Leave::Fin,
        };
        let heard = bench.play(&script)?;
        if let Some((name, value)) = &self.header {
            same(name, &heard.header(name), &value.as_deref())?;
        }
        if matches!(self.end, End::Refuses(_) | End::Status(_)) {
            return self.check_refusal(&heard);
        }
        check_frames(ours, &heard.frames)?;
        same("heard", &heard.events, &self.heard_with_goodbye())?;
        let sent: Vec<(u8, Vec<u8>)> =
            heard.frames.iter().map(|frame| (frame.first, frame.payload.clone())).collect();
        let (closes, sent): (Vec<_>, Vec<_>) =
            sent.into_iter().partition(|(first, _)| *first == CLOSE);
        if heard.frames.last().is_some_and(|last| last.first != CLOSE) && !closes.is_empty() {
            return Err("something was sent behind the close frame".into());
        }
        same("sent", &sent, &self.sends)?;
        self.check_end(ours, cut, script.says.len(), &heard, &closes)
    }

    fn we_close(&self) -> bool {
        self.acts.iter().any(|act| matches!(act, Act::Close | Act::CloseWith(..)))
    }

    fn heard_with_goodbye(&self) -> Vec<Event> {
        let mut events = self.events.clone();
        if matches!(self.end, End::Goodbye) && !self.we_close() {
            events.push(Event::Farewell(1000, String::new()));
        }
        events
    }

    fn check_refusal(&self, heard: &Heard) -> Result<(), String> {
        same("opened", &heard.opened, &false)?;
        same("heard", &heard.events, &Vec::new())?;
        same("frames", &heard.frames.len(), &0)?;
        let code = match self.end {
            End::Refuses(_) => ErrorCode::ConnectFail,
            _ => ErrorCode::SessionFail,
        };
        let [(told, FailureKind::Handshake, _, said)] = &heard.failures[..] else {
            return Err(format!("{:?}, and not one failed handshake", heard.failures));
        };
        same("told", told, &code)?;
        match self.end {
            End::Refuses(part) if said.contains(part) => Ok(()),
            End::Refuses(part) => Err(format!("{said:?}, not {part:?}")),
            End::Status(status) => {
                let line = format!("HTTP/1.1 {status} ");
                same("the answer", &heard.head.starts_with(&line), &true)
            }
            _ => Err("this end is no refusal".into()),
        }
    }

    fn check_end(
        &self,
        ours: Ours,
        cut: usize,
        length: usize,
        heard: &Heard,
        closes: &[(u8, Vec<u8>)],
    ) -> Result<(), String> {
        let payloads: Vec<&[u8]> = closes.iter().map(|(_, payload)| &payload[..]).collect();
        let failures: Vec<_> =
            heard.failures.iter().map(|(code, kind, phase, _)| (*code, *kind, *phase)).collect();
        match self.end {
            End::Goodbye => {
                same("failures", &failures, &Vec::new())?;
                same("close frames", &payloads.len(), &1)?;
                if self.heard_with_goodbye().len() > self.events.len() {
                    same("the close frame", &payloads[0], &&1000u16.to_be_bytes()[..])?;
                }
                same("close_code()", &heard.close_code, &Some(1000))
            }
            End::Closed(answer, code) => {
                same("failures", &failures, &Vec::new())?;
                let answer = answer.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
                same("close frames", &payloads.len(), &1)?;
                same("the close frame's code", &&payloads[0][..answer.len()], &&answer[..])?;
                same("close_code()", &heard.close_code, &Some(code))
            }
            End::Fails(code) => {
                let kinds = [(ErrorCode::SessionFail, FailureKind::Protocol, Phase::Session)];
                same("failures", &failures[..], &kinds[..])?;
                if cut == 1 {
                    same("the octet at which it failed", &heard.failed_at, &Some(length))?;
                }
                let [payload] = payloads[..] else {
                    return Err(format!("{} close frames of {ours:?}, not one", payloads.len()));
                };
                same("the close frame's code", &payload.get(..2), &Some(&code.to_be_bytes()[..]))?;
                let reason = std::str::from_utf8(&payload[2..]);
                if payload.len() > 125 || !reason.is_ok_and(|reason| !reason.is_empty()) {
                    return Err(format!("no good reason: {payload:x?}"));
                }
                same("close_code()", &heard.close_code, &Some(1006))
            }
            End::Fin => {
                same("failures", &failures, &Vec::new())?;
                same("close frames", &payloads.len(), &0)?;
                same("close_code()", &heard.close_code, &Some(1006))
            }
            End::Refuses(_) | End::Status(_) => self.check_refusal(heard),
        }
    }

    pub(super) fn fed(&self) -> String {
        let mut fed = self.setup.as_ref().map_or(String::new(), |setup| setup.name.clone());
        let alone = self.says.is_empty() && self.acts.is_empty();
        if !fed.is_empty() && alone {
            return fed;
        }
        if !fed.is_empty() {
            fed.push_str(": ");
        }
        for act in &self.acts {
            let _ = write!(fed, "we: {}; ", name_of_act(act));
        }
        if self.says.is_empty() && !self.acts.is_empty() {
            fed.truncate(fed.len() - 2);
            return fed;
        }
        let pieces: Vec<String> = self.says.iter().map(name_of).collect();
        match &pieces[..] {
            [] => fed.push_str("nothing"),
            pieces if pieces.len() > 6 => {
                let _ = write!(fed, "{}, … ({} frames)", pieces[..3].join(", "), pieces.len());
            }
            pieces => fed.push_str(&pieces.join(", ")),
        }
        fed
    }

    pub(super) fn expected(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        match &self.header {
            Some((_, Some(value))) => parts.push(format!("`{value}` in our handshake")),
            Some((name, None)) => parts.push(format!("no {name} in our handshake")),
            None => {}
        }
        let events = self.events.len();
        parts.extend(self.events.iter().take(3).map(name_of_event));
        if events > 3 {
            parts.push(format!("… ({events} events)"));
        }
        let sends = self.sends.iter().take(2).map(|(first, payload)| {
            format!("sent: {}", name_of(&Piece::Frame(*first, payload.clone())))
        });
        parts.extend(sends);
        if self.sends.len() > 2 {
            parts.push(format!("… ({} frames sent)", self.sends.len()));
        }
        match &self.end {
            End::Goodbye if self.we_close() => parts.push("close 1000 on both sides".into()),
            End::Goodbye if parts.is_empty() => parts.push("the session goes on".into()),
            End::Goodbye => {}
            End::Closed(None, code) => parts.push(format!("empty close frame, {code} for us")),
            End::Closed(Some(answer), code) if answer == code => {
                parts.push(format!("close {answer}"));
            }
            End::Closed(Some(answer), code) => {
                parts.push(format!("close {answer} sent, {code} for us"));
            }
            End::Fails(code) => parts.push(format!("fails with {code}, at the last octet fed")),
            End::Fin => parts.push("1006".into()),
            End::Refuses(part) => parts.push(format!("on_error(ConnectFail): \"… {part} …\"")),
            End::Status(status) => parts.push(status.to_string()),
        }
        parts.join("; ")
    }
}

/// RFC 6455 §5.1: a client masks each frame, a server none; §5.2: lengths in the shortest form.
fn check_frames(ours: Ours, frames: &[Frame]) -> Result<(), String> {
    for frame in frames {
        if frame.key.is_some() != (ours == Ours::Client) {
            return Err(format!("wrongly masked: {frame:x?}"));
        }
        let octets = match frame.payload.len() {
            0..126 => 1,
            126..=0xffff => 3,
            _ => 9,
        };
        same("octets of a length", &frame.length_octets, &octets)?;
    }
    Ok(())
}

pub(crate) fn same<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    is: &T,
    wanted: &T,
) -> Result<(), String> {
    if is == wanted {
        return Ok(());
    }
    let short = |value: &T| {
        let text = format!("{value:?}");
        let length = text.chars().count();
        if length < 400 { text } else { text.chars().take(400).collect::<String>() + " …" }
    };
    Err(format!("{what}: {}, not {}", short(is), short(wanted)))
}
