//! What the agent tells a service manager: that it is ready, and that it still serves.
//!
//! The signs of life come from the loop that accepts connections, so an agent whose loop is stuck gives none and is started
//! again. Where no service manager listens (a shell, a host's own agent) nothing is said.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Signs of life in the time after which their lack is taken for death.
const SIGNS: u32 = 3;

/// Tells the service manager, if there is one.
#[derive(Debug)]
pub struct Watchdog {
    ticks: Option<Interval>,
}

impl Watchdog {
    /// Tell that the agent serves from now on. Whether signs of life are wanted, and how often, the service manager has
    /// said in the environment.
    pub fn ready() -> Self {
        say(NotifyState::Ready);
        Self::every(sd_notify::watchdog_enabled().map(|limit| limit / SIGNS))
    }

    fn every(period: Option<Duration>) -> Self {
        let ticks = period.filter(|period| !period.is_zero()).map(|period| {
            let mut ticks = interval(period);
            // One sign is as good as two in a row.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self { ticks }
    }

    /// Give the next sign of life when it is due; never ready where none is wanted. Cancel-safe.
    pub async fn sign_of_life(&mut self) {
        match &mut self.ticks {
            Some(ticks) => {
                ticks.tick().await;
                say(NotifyState::Watchdog);
            }
            None => std::future::pending().await,
        }
    }

    /// Tell that the agent is about to end.
    pub fn stopping(self) {
        say(NotifyState::Stopping);
    }
}

fn say(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_service_manager_nothing_is_due() {
        let mut watchdog = Watchdog::every(None);
        let waited = tokio::time::timeout(Duration::from_millis(50), watchdog.sign_of_life()).await;
        assert!(waited.is_err());
        let mut watchdog = Watchdog::every(Some(Duration::from_millis(1)));
        for _ in 0..3 {
            watchdog.sign_of_life().await;
        }
    }
}
