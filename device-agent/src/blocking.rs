//! Work that may block, where it blocks nobody: files, hashes, facts of the system.

use n2n_protocol::Failure;
use tokio::task::spawn_blocking;

/// Do work on a thread for such work. It is done to its end, also when its caller is gone.
///
/// # Errors
/// [`Failure::Failed`] when it panicked, or the agent ends.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.map_err(|error| Failure::Failed(format!("a fault inside the agent: {error}")))
}
