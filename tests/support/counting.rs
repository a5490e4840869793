//! An allocator that counts. A test crate that wants it names it: `#[global_allocator]`.
#![allow(dead_code)]
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's implementation")]
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};

pub(crate) struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OF_THREAD: Cell<isize> = const { Cell::new(0) };
    static PEAK_OF_THREAD: Cell<isize> = const { Cell::new(0) };
    static VOLUME_OF_THREAD: Cell<usize> = const { Cell::new(0) };
}

/// Bytes of the process that are allocated now.
pub(crate) fn live() -> isize {
    LIVE.load(Relaxed)
}

/// Bytes that this thread has allocated more than it has freed.
pub(crate) fn live_of_thread() -> isize {
    OF_THREAD.get()
}

/// The most by which `live_of_thread` grew during `work`.
pub(crate) fn peak_of_thread(work: impl FnOnce()) -> isize {
    let before = live_of_thread();
    PEAK_OF_THREAD.set(before);
    work();
    PEAK_OF_THREAD.get() - before
}

/// Bytes that this thread has allocated so far, whether or not it has freed them.
pub(crate) fn volume_of_thread() -> usize {
    VOLUME_OF_THREAD.get()
}

/// Allocations so far.
pub(crate) fn calls() -> usize {
    CALLS.load(Relaxed)
}

fn count(bytes: isize, asked: usize) {
    LIVE.fetch_add(bytes, Relaxed);
    let live = OF_THREAD.get() + bytes;
    OF_THREAD.set(live);
    PEAK_OF_THREAD.set(PEAK_OF_THREAD.get().max(live));
    VOLUME_OF_THREAD.set(VOLUME_OF_THREAD.get().wrapping_add(asked));
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, layout.size());
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize, size);
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}
