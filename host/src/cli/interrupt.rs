//! Ctrl-C: the first one asks the work to stop at the next safe point, the second one ends the program at once.
//!
//! Nothing is lost by the second one either (journals are append-only), only the candidate in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell expects of a program that an interrupt ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Installs the handlers for SIGINT and SIGTERM; the flag becomes true at the first signal.
///
/// # Errors
/// The signals cannot be watched (no thread, no pipe).
pub(super) fn watch() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        use tokio::signal::unix::{SignalKind, signal};
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if flag.swap(true, Ordering::SeqCst) {
                    std::process::exit(INTERRUPTED);
                }
                tracing::warn!("stopping at the next safe point; once more to stop at once");
            }
        });
    })?;
    Ok(stop)
}
