//! A request to stop, seen by whoever does the work.
//!
//! It only says *stop*; it never kills anything by itself.

use tokio::sync::watch;

/// The side of whoever may ask for the stop. Dropping it asks too: work without an owner must end.
#[derive(Debug)]
pub struct Canceller(watch::Sender<bool>);

impl Canceller {
    /// Ask the work to stop.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

/// The side of the work.
#[derive(Clone, Debug)]
pub struct Cancel(Option<watch::Receiver<bool>>);

impl Cancel {
    /// For work that nobody will stop.
    pub fn never() -> Self {
        Self(None)
    }

    /// The two sides.
    pub fn pair() -> (Canceller, Self) {
        let (sender, receiver) = watch::channel(false);
        (Canceller(sender), Self(Some(receiver)))
    }

    /// Returns when the work has to stop; never, if nobody can ask for it.
    pub async fn cancelled(&self) {
        match &self.0 {
            // An error means that the canceller is gone, which is a request to stop as well.
            Some(receiver) => drop(receiver.clone().wait_for(|stop| *stop).await),
            None => std::future::pending().await,
        }
    }

    /// Whether the work has to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|receiver| *receiver.borrow() || receiver.has_changed().is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(flavor = "current_thread")]
    async fn asking_and_dropping_both_stop_the_work() {
        let (canceller, cancel) = Cancel::pair();
        assert!(!cancel.is_cancelled());
        canceller.cancel();
        assert!(cancel.is_cancelled());
        cancel.cancelled().await;

        let (canceller, cancel) = Cancel::pair();
        drop(canceller);
        assert!(cancel.is_cancelled());
        cancel.cancelled().await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn never_is_never() {
        let waited = tokio::time::timeout(Duration::from_millis(20), Cancel::never().cancelled()).await;
        assert!(waited.is_err());
        assert!(!Cancel::never().is_cancelled());
    }
}
