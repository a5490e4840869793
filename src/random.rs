//! The one door to randomness: unpredictable bytes from the operating system, drawn in blocks.
use std::cell::RefCell;

const BLOCK: usize = 1024;

struct Block {
    bytes: [u8; BLOCK],
    used: usize,
}

thread_local! {
    static DRAWN: RefCell<Block> = const { RefCell::new(Block { bytes: [0; BLOCK], used: BLOCK }) };
}

/// Fills `out` with unpredictable bytes (mask keys, handshake keys, nonces).
///
/// Each byte is handed out once and wiped from the block. Processes are started afresh, never
/// forked, so no two share a block.
///
/// # Panics
/// If the operating system has no randomness: a WebSocket with guessable masks is worse than none
/// (RFC 6455 §10.3).
pub(crate) fn fill(out: &mut [u8]) {
    let drawn = DRAWN.try_with(|drawn| {
        let Ok(mut block) = drawn.try_borrow_mut() else { return false };
        let block = &mut *block;
        if out.len() > BLOCK / 4 {
            return false;
        }
        if block.used + out.len() > BLOCK {
            draw(&mut block.bytes);
            block.used = 0;
        }
        let fresh = &mut block.bytes[block.used..block.used + out.len()];
        out.copy_from_slice(fresh);
        fresh.fill(0);
        block.used += out.len();
        true
    });
    if !drawn.unwrap_or(false) {
        draw(out);
    }
}

fn draw(out: &mut [u8]) {
    if let Err(e) = getrandom::fill(out) {
        panic!("the operating system gives no random bytes: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_key_is_handed_out_twice() {
        let mut seen = HashSet::new();
        for _ in 0..4096 {
            let mut key = [0; 8];
            fill(&mut key);
            assert!(seen.insert(key));
        }
    }

    #[test]
    fn long_requests_are_filled_whole() {
        let mut long = [0; 2 * BLOCK];
        fill(&mut long);
        for piece in long.chunks(64) {
            assert!(piece.iter().any(|&b| b != 0));
        }
    }
}
