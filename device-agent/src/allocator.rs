//! The counting allocator, from which a worker's peak heap is exact.
//!
//! A global allocator belongs to an executable, not to a library, so `main` declares it and registers it here:
//! ```text
//! #[global_allocator]
//! static ALLOCATOR: Allocator = allocator::new();
//! fn main() { allocator::register(&ALLOCATOR); … }
//! ```

use cap::Cap;
use mimalloc::MiMalloc;
use std::sync::OnceLock;

/// mimalloc that counts what it has handed out.
pub type Allocator = Cap<MiMalloc>;

static REGISTERED: OnceLock<&'static Allocator> = OnceLock::new();

/// An allocator without a limit: the limit of a worker is the kernel's business, so that the engine's own mappings
/// count too.
pub const fn new() -> Allocator {
    Cap::new(MiMalloc, usize::MAX)
}

/// Tell the library which allocator this executable runs on. Only the first call counts.
pub fn register(allocator: &'static Allocator) {
    REGISTERED.get_or_init(|| allocator);
}

/// Bytes of heap held now; `None` when no allocator is registered.
pub fn allocated() -> Option<u64> {
    REGISTERED.get().map(|allocator| allocator.allocated() as u64)
}

/// Most bytes of heap held at once since the process began; `None` when no allocator is registered.
pub fn peak() -> Option<u64> {
    REGISTERED.get().map(|allocator| allocator.max_allocated() as u64)
}
