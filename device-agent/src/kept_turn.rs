//! Turns that outlive one request, because the next request of the same client belongs to it: the pieces of an upload,
//! and the host's look at a student that it has just activated.
//!
//! Without them an upload would stand in line anew for each piece, and a long measurement between activation and look
//! would roll a healthy student back. A turn is kept for a moment only, and for so long in all; then the line goes on.

use crate::Cancel;
use crate::queue::{Queue, Turn};
use n2n_protocol::{Activity, Digest, Failure};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a turn is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// The pieces of one blob.
    Upload(Digest),
    /// From an activation to its confirmation.
    Trial,
}

impl Errand {
    /// Between two requests. A piece of a blob takes 6 s over the slowest serial line: there the board is better used in
    /// between, and each piece stands in line.
    fn idle(self) -> Duration {
        match self {
            Self::Upload(_) => Duration::from_secs(1),
            Self::Trial => Duration::from_secs(15),
        }
    }

    /// In all, while others wait.
    fn most(self) -> Duration {
        match self {
            Self::Upload(_) => Duration::from_secs(30),
            Self::Trial => Duration::from_mins(2),
        }
    }

    /// As it stands in the line.
    fn verb(self) -> &'static str {
        match self {
            Self::Upload(_) => "put",
            Self::Trial => "activate",
        }
    }
}

/// The turn that is kept, if one is.
#[derive(Clone, Debug)]
pub(crate) struct KeptTurn {
    queue: Queue,
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Rises with each turn that is put here.
    number: u64,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    errand: Errand,
    client: String,
    turn: Turn,
}

impl KeptTurn {
    /// None is kept yet.
    pub(crate) fn new(queue: Queue) -> Self {
        Self { queue, shelf: Arc::default() }
    }

    /// The turn that was kept for this errand of this client; else one from the line.
    ///
    /// # Errors
    /// As [`Queue::turn`].
    pub(crate) async fn take(
        &self,
        errand: Errand,
        client: &str,
        cancel: &Cancel,
        report: &(dyn Fn(Activity) + Send + Sync),
    ) -> Result<Turn, Failure> {
        if let Some(turn) = self.taken(errand, client) {
            return Ok(turn);
        }
        self.queue.turn(client, errand.verb(), cancel, report).await
    }

    /// The turn that was kept for this errand of this client, if it may go on.
    pub(crate) fn taken(&self, errand: Errand, client: &str) -> Option<Turn> {
        let mut shelf = self.shelf();
        let kept = shelf.kept.take_if(|kept| kept.errand == errand && kept.client == client)?;
        let over = kept.turn.lasted() >= errand.most() && kept.turn.is_awaited();
        (!over).then_some(kept.turn)
    }

    /// Keep a turn for the errand's next request, for a moment.
    pub(crate) fn keep(&self, errand: Errand, client: &str, turn: Turn) {
        let number = {
            let mut shelf = self.shelf();
            shelf.number += 1;
            shelf.kept = Some(Kept { errand, client: client.to_owned(), turn });
            shelf.number
        };
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(errand.idle()).await;
            let mut shelf = this.shelf();
            if shelf.number == number {
                shelf.kept = None;
            }
        });
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deaf(_: Activity) {}

    const UPLOAD: Errand = Errand::Upload(Digest([1; 32]));

    async fn taken(kept: &KeptTurn) -> Turn {
        kept.take(UPLOAD, "ada", &Cancel::never(), &deaf).await.unwrap()
    }

    #[tokio::test]
    async fn a_turn_is_kept_for_its_own_errand_and_client_and_for_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::new(folder.path());
        let kept = KeptTurn::new(queue.clone());
        kept.keep(UPLOAD, "ada", taken(&kept).await);
        assert!(kept.taken(UPLOAD, "bob").is_none() && kept.taken(Errand::Trial, "ada").is_none());
        assert_eq!(queue.turns().len(), 1, "the board is not free");
        // Taken and kept again, so that the first moment, which ends before the second, ends nothing.
        tokio::time::sleep(UPLOAD.idle() / 2).await;
        kept.keep(UPLOAD, "ada", taken(&kept).await);
        tokio::time::sleep(UPLOAD.idle() * 3 / 4).await;
        assert_eq!(queue.turns().len(), 1, "it is kept for the whole of the second moment");
        let begun = std::time::Instant::now();
        while !queue.turns().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody came for it, and it is still kept");
            tokio::time::sleep(UPLOAD.idle() / 20).await;
        }
        assert!(kept.taken(UPLOAD, "ada").is_none());
    }
}
