//! What an agent does for its slots by itself: it verifies them when it starts and once a day, and ends trials.
//!
//! It works beside the sessions. Whoever measures is not disturbed: hashing waits until the board is free.

use super::Slots;
use super::cause::Cause;
use super::current::Current;
use super::state::Entry;
use n2n_protocol::Failure;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Between two verifications of everything.
const DAY: Duration = Duration::from_hours(24);
/// Until the next look whether nobody measures.
const WHILE_BUSY: Duration = Duration::from_mins(1);
/// Until the next try to end a trial that the disk did not let end.
const WHILE_STUCK: Duration = Duration::from_mins(1);

impl Slots {
    /// Look after the slots for as long as this is polled. `quiet` says whether nobody measures.
    pub async fn keep(&self, quiet: impl Fn() -> bool) {
        self.settle().await;
        let mut seen = self.0.seen.subscribe();
        let mut daily = Instant::now() + DAY;
        loop {
            let deadline = seen.borrow_and_update().deadline;
            tokio::select! {
                () = sleep_until_some(deadline) => self.end_late_trial().await,
                () = sleep_until(daily) => {
                    daily = Instant::now() + if quiet() {
                        self.inspect().await;
                        DAY
                    } else {
                        WHILE_BUSY
                    };
                }
                changed = seen.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Verify everything for the first time, and end a trial that an earlier agent began. From then on verbs are served.
    pub async fn settle(&self) {
        let left_over = self.change(|current| current.state().trial.is_some()).await.unwrap_or(false);
        if left_over {
            // Where to is verified on the way; the rest after it.
            self.try_to_go_back(Cause::Restart).await;
        }
        self.inspect().await;
        self.0.seen.send_modify(|seen| seen.ready = true);
    }

    /// Verify everything, and leave what is damaged.
    async fn inspect(&self) {
        let entries = self.change(|current| current.state().entries()).await.unwrap_or_default();
        for entry in entries {
            let Ok(found) = self.check(entry).await else { return };
            let is_active =
                self.change(move |current| current.state().active() == Some(entry)).await.unwrap_or(false);
            if let (Err(how), true) = (found, is_active) {
                self.try_to_go_back(Cause::Damage(how)).await;
            }
        }
    }

    /// Verify one student. One that is damaged and of no use is no longer named; that is noted once.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the agent ends. The inner error says what is wrong with the student.
    pub(super) async fn check(&self, entry: Entry) -> Result<Result<(), String>, Failure> {
        let found = self.verify(entry).await?;
        let damage = found.clone().err();
        self.change(move |current| record(current, entry, damage)).await?;
        Ok(found)
    }

    async fn end_late_trial(&self) {
        self.try_to_go_back(Cause::Late(self.0.settings.trial)).await;
        // It could not be ended: then not at once again.
        let stuck = |current: &mut Current| {
            if current.trial_until.is_some_and(|deadline| deadline <= Instant::now()) {
                current.trial_until = Some(Instant::now() + WHILE_STUCK);
            }
        };
        let _ = self.change(stuck).await;
    }

    async fn try_to_go_back(&self, cause: Cause) {
        if let Err(error) = self.go_back(cause).await {
            let note = format!("the board cannot go back to an earlier student: {error}");
            let _ = self.change(move |current| current.note(note)).await;
        }
    }
}

/// Keep what was found.
fn record(current: &mut Current, entry: Entry, damage: Option<String>) {
    let is_new = current.found(entry, damage.clone());
    let (Some(how), true) = (damage, is_new) else { return };
    let state = current.state();
    if state.active() == Some(entry) {
        // Going back says so.
        return;
    }
    let note = format!("student `{}` in {} is damaged ({how})", current.name(entry), entry.slot.name());
    if let Err(error) = current.switch(current.state().without(entry)) {
        tracing::warn!(%error, "a damaged student is still named");
    }
    current.note(note);
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
