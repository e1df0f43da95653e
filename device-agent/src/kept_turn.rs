//! Turns that outlive one request, because the same client's next request belongs to it: the next piece of an upload, and
//! the host's look at a student that it has just activated.
//!
//! Without them an upload would stand in line anew for each piece, and a long measurement between activation and look
//! would roll a healthy student back. A turn is kept for a moment only, for so long in all, and no longer than its client's
//! session lasts: a host that dies holds nobody up.

use crate::Cancel;
use crate::handler::Origin;
use crate::queue::Turn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// What a turn is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// The pieces of a blob.
    Upload,
    /// From an activation to its confirmation.
    Trial,
}

impl Errand {
    /// Between two requests. A piece of a blob takes 6 s over the slowest serial line: there the board is better used in
    /// between, and each piece stands in line.
    fn idle(self) -> Duration {
        match self {
            Self::Upload => Duration::from_secs(1),
            Self::Trial => Duration::from_secs(15),
        }
    }

    /// In all, while others wait.
    fn most(self) -> Duration {
        match self {
            Self::Upload => Duration::from_secs(30),
            Self::Trial => Duration::from_mins(2),
        }
    }
}

/// The turn that is kept, if one is.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptTurn(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    /// Rises with each turn that is put here.
    number: u64,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    errand: Errand,
    client: Origin,
    turn: Turn,
}

impl KeptTurn {
    /// The turn that was kept for a client and what for, whatever it asks now: in the line it would wait for itself. `None`
    /// when there is none, or it has lasted for so long that others come first.
    pub(crate) fn taken(&self, client: &Origin) -> Option<(Errand, Turn)> {
        let Kept { errand, turn, .. } = self.shelf().kept.take_if(|kept| kept.client == *client)?;
        let over = turn.lasted() >= errand.most() && turn.is_awaited();
        (!over).then_some((errand, turn))
    }

    /// Keep a turn for the client's next request, for a moment; not beyond the end of its session, which `gone` tells.
    pub(crate) fn keep(&self, errand: Errand, client: &Origin, gone: &Cancel, turn: Turn) {
        let number = {
            let mut shelf = self.shelf();
            shelf.number += 1;
            shelf.kept = Some(Kept { errand, client: client.clone(), turn });
            shelf.number
        };
        let (this, gone) = (self.clone(), gone.clone());
        tokio::spawn(async move {
            // Both ends of the wait mean the same.
            let _ = timeout(errand.idle(), gone.cancelled()).await;
            let mut shelf = this.shelf();
            if shelf.number == number {
                shelf.kept = None;
            }
        });
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;
    use std::time::Instant;

    fn client(port: u16) -> Origin {
        Origin { key: "desk".to_owned(), peer: format!("127.0.0.1:{port}") }
    }

    async fn turn(queue: &Queue) -> Turn {
        queue.turn("ada", "put", &Cancel::never(), &|_| {}).await.unwrap()
    }

    async fn until_free(queue: &Queue) -> Duration {
        let begun = Instant::now();
        while !queue.turns().is_empty() {
            assert!(begun.elapsed() < Duration::from_mins(1), "nobody came for it, and it is still kept");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    #[tokio::test]
    async fn a_turn_is_kept_for_its_client_and_for_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::new(folder.path());
        let (kept, gone) = (KeptTurn::default(), Cancel::never());
        kept.keep(Errand::Upload, &client(1), &gone, turn(&queue).await);
        assert!(kept.taken(&client(2)).is_none());
        assert_eq!(queue.turns().len(), 1, "the board is not free");
        // Taken and kept again, so that the first moment, which ends before the second, ends nothing.
        let idle = Errand::Upload.idle();
        tokio::time::sleep(idle / 2).await;
        let (errand, turn) = kept.taken(&client(1)).unwrap();
        assert_eq!(errand, Errand::Upload);
        kept.keep(errand, &client(1), &gone, turn);
        tokio::time::sleep(idle * 3 / 4).await;
        assert_eq!(queue.turns().len(), 1, "it is kept for the whole of the second moment");
        until_free(&queue).await;
        assert!(kept.taken(&client(1)).is_none());
    }

    #[tokio::test]
    async fn a_turn_goes_with_its_clients_session() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::new(folder.path());
        let kept = KeptTurn::default();
        let (session, gone) = Cancel::pair();
        kept.keep(Errand::Trial, &client(1), &gone, turn(&queue).await);
        drop(session);
        let took = until_free(&queue).await;
        assert!(took < Errand::Trial.idle() / 2, "{took:?}");
        // A session that ended while its last request was at work.
        kept.keep(Errand::Trial, &client(1), &gone, turn(&queue).await);
        let took = until_free(&queue).await;
        assert!(took < Errand::Trial.idle() / 2, "{took:?}");
    }
}
