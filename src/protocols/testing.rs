//! A scene for codec tests: a clock that stands still, randomness that can be foretold.
use super::{Context, Doors, Notes, Scene};
use crate::Limits;
use std::time::{Instant, SystemTime};

pub(crate) static DOORS: Doors = Doors {
    random: |out| {
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = 0xa1 ^ (i as u8).wrapping_mul(37);
        }
    },
    system_time: || SystemTime::UNIX_EPOCH,
};

pub(crate) fn scene(limits: &Limits) -> Scene<'_> {
    Scene { now: Instant::now(), limits, remote_host: "peer.test", doors: &DOORS }
}

/// Runs `f` with a fresh note pad and hands both back.
pub(crate) fn with_context<T>(limits: &Limits, f: impl FnOnce(&mut Context) -> T) -> (T, Notes) {
    let mut notes = Notes::default();
    let result = f(&mut Context { notes: &mut notes, scene: scene(limits) });
    (result, notes)
}
