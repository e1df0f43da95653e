//! The allocator of agent and workers: mimalloc, counted, with a memory of what it had to refuse.
//!
//! From the counts a worker's peak heap is exact. From the refusal a crash for lack of memory is told from any other:
//! libraries panic, abort or go through a null pointer when an allocation fails, each with words of its own.
//!
//! It must not limit anything: the limit of a worker is the kernel's business, so that the engine's own mappings count
//! too. A global allocator belongs to an executable, not to a library, so `main` declares it and registers it here:
//! ```text
//! #[global_allocator]
//! static ALLOCATOR: Allocator = Allocator::new();
//! fn main() { allocator::register(&ALLOCATOR); … }
//! ```
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait, with unsafe functions")]

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// mimalloc that counts what it has handed out and keeps the first size that it could not hand out.
#[derive(Debug)]
pub struct Allocator {
    /// Bytes handed out and not given back.
    held: AtomicUsize,
    /// The most that was ever held.
    peak: AtomicUsize,
    /// Bytes of the first refused allocation; 0 while none was refused.
    refused: AtomicUsize,
    /// Told of the first refusal, before the caller is.
    witness: OnceLock<fn(u64)>,
}

static REGISTERED: OnceLock<&'static Allocator> = OnceLock::new();

/// Tell the library which allocator this executable runs on. Only the first call counts.
pub fn register(allocator: &'static Allocator) {
    REGISTERED.get_or_init(|| allocator);
}

/// Bytes of heap held now; `None` when no allocator is registered.
pub fn allocated() -> Option<u64> {
    REGISTERED.get().map(|allocator| allocator.held.load(Ordering::Relaxed) as u64)
}

/// Most bytes of heap held at once since the process began; `None` when no allocator is registered.
pub fn peak() -> Option<u64> {
    REGISTERED.get().map(|allocator| allocator.peak.load(Ordering::Relaxed) as u64)
}

/// Bytes of the first allocation that was refused; `None` when none was, or no allocator is registered.
pub fn refused() -> Option<u64> {
    let bytes = REGISTERED.get()?.refused.load(Ordering::Acquire);
    (bytes > 0).then_some(bytes as u64)
}

/// Have `witness` told of the first refused allocation, by its bytes, before whoever asked for it is: it may be the
/// last thing that this process does. The witness runs inside the allocator, so it must not allocate. Only the first
/// call counts.
pub fn on_refusal(witness: fn(u64)) {
    if let Some(allocator) = REGISTERED.get() {
        allocator.witness.get_or_init(|| witness);
    }
}

impl Allocator {
    /// With nothing handed out.
    pub const fn new() -> Self {
        Self {
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            witness: OnceLock::new(),
        }
    }

    /// Counts what mimalloc answered to a request for `bytes`.
    fn answered(&self, answer: *mut u8, bytes: usize) -> *mut u8 {
        if answer.is_null() {
            self.refuse(bytes);
        } else {
            let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
            self.peak.fetch_max(held, Ordering::Relaxed);
        }
        answer
    }

    #[cold]
    fn refuse(&self, bytes: usize) {
        let first = self.refused.compare_exchange(0, bytes.max(1), Ordering::AcqRel, Ordering::Relaxed);
        if first.is_ok()
            && let Some(witness) = self.witness.get()
        {
            witness(bytes as u64);
        }
    }
}

impl Default for Allocator {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: every pointer comes from mimalloc and goes back to it with the layout it came with; counting touches no memory
// of the caller's.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract, which is passed on as it is.
        self.answered(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        self.answered(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back what `alloc` gave, which came from mimalloc.
        unsafe { MiMalloc.dealloc(pointer, layout) };
        self.held.fetch_sub(layout.size(), Ordering::Relaxed);
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`; `bytes` is the caller's to keep within `isize`.
        let moved = unsafe { MiMalloc.realloc(pointer, layout, bytes) };
        if !moved.is_null() {
            self.held.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        self.answered(moved, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(allocator: &Allocator) -> [usize; 3] {
        [&allocator.held, &allocator.peak, &allocator.refused].map(|count| count.load(Ordering::Relaxed))
    }

    #[test]
    fn what_is_held_and_the_most_that_was_held_are_exact() {
        let allocator = Allocator::new();
        let small = Layout::from_size_align(100, 8).unwrap();
        let large = Layout::from_size_align(1000, 64).unwrap();
        // SAFETY: sizes are above zero, and each pointer goes back with the layout it has.
        unsafe {
            let first = allocator.alloc(small);
            let second = allocator.alloc_zeroed(large);
            assert_eq!(counts(&allocator), [1100, 1100, 0]);
            assert_eq!(std::slice::from_raw_parts(second, 1000), [0; 1000]);
            let first = allocator.realloc(first, small, 300);
            assert_eq!(counts(&allocator), [1300, 1300, 0]);
            allocator.dealloc(second, large);
            allocator.dealloc(first, Layout::from_size_align(300, 8).unwrap());
        }
        assert_eq!(counts(&allocator), [0, 1300, 0]);
    }

    #[test]
    fn the_first_refusal_is_kept_and_told_and_nothing_is_counted_for_it() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        let allocator = Allocator::new();
        allocator.witness.get_or_init(|| |bytes| TOLD.store(bytes as usize, Ordering::Relaxed));
        let absurd = |less: usize| Layout::from_size_align(isize::MAX as usize / 2 - less, 8).unwrap();
        let small = Layout::from_size_align(16, 8).unwrap();
        // SAFETY: as above; a null pointer is not used.
        unsafe {
            let held = allocator.alloc(small);
            assert!(allocator.realloc(held, small, absurd(0).size()).is_null());
            assert!(allocator.alloc(absurd(4096)).is_null());
            assert_eq!(counts(&allocator), [16, 16, absurd(0).size()]);
            allocator.dealloc(held, small);
        }
        assert_eq!(TOLD.load(Ordering::Relaxed), absurd(0).size());
    }
}
