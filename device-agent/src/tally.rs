//! Strangers are counted, not logged one by one: a line a minute at most, however many come, so that nobody without a key
//! can fill a disk or push out of the log what its owner wants to read.

use crate::handler::Handler;
use n2n_protocol::text::printable;
use n2n_protocol::{Answer, Status};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines.
pub const EVERY: Duration = Duration::from_mins(1);

/// Why a connection ended without a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// A newcomer took its place.
    DrivenOut,
    /// It sent nothing whole in its time.
    Silent,
    /// It left before it said anything whole.
    Left,
    /// It speaks another protocol.
    NotAPeer,
    /// Its key is none of ours, or it repeats what another connection said.
    WrongKey,
    /// It speaks protocol 1.
    OldHost,
    /// It held a key, and then said no hello in its time.
    BadGreeting,
    /// All places were taken by hosts with a key.
    Crowded,
    /// The system had no connection to give: too many open files, as a rule.
    NotAccepted,
}

impl Turned {
    const ALL: [(Self, &str); 9] = [
        (Self::DrivenOut, "made room for others"),
        (Self::Silent, "said nothing in time"),
        (Self::Left, "left without a word"),
        (Self::NotAPeer, "spoke another protocol"),
        (Self::WrongKey, "had a key that is none of ours"),
        (Self::OldHost, "spoke protocol 1"),
        (Self::BadGreeting, "did not greet"),
        (Self::Crowded, "found no place"),
        (Self::NotAccepted, "could not be accepted"),
    ];
}

/// How many connections were turned away, by kind; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// Since the agent's start.
    total: u64,
    /// Since the last line, by kind.
    fresh: [u64; Turned::ALL.len()],
    last: String,
    said: Option<Instant>,
}

impl Tally {
    /// Count one; the line to log, if one is due.
    pub fn note(&self, turned: Turned, peer: &str, now: Instant) -> Option<String> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total += 1;
        for (count, (kind, _)) in counts.fresh.iter_mut().zip(Turned::ALL) {
            *count += u64::from(kind == turned);
        }
        counts.last = printable(peer).into_owned();
        counts.due(now)
    }

    /// The line about what was counted since the last one, if it is time for it.
    pub fn due(&self, now: Instant) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).due(now)
    }

    /// How many there were since the agent's start.
    pub fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

/// The handler, which tells the number of strangers in every status: the agent's inside knows nothing of connections.
pub fn told_in_status(handler: Handler, tally: Tally) -> Handler {
    let handler = Arc::new(handler);
    Handler::new(move |job| {
        let (work, tally) = (handler.begin(job), tally.clone());
        async move {
            let answer = work.await?;
            Ok(match answer {
                Answer::Status(status) => Answer::Status(Status { strangers: tally.total(), ..status }),
                other => other,
            })
        }
    })
}

impl Counts {
    fn due(&mut self, now: Instant) -> Option<String> {
        let fresh: u64 = self.fresh.iter().sum();
        let early = self.said.is_some_and(|said| now.saturating_duration_since(said) < EVERY);
        if fresh == 0 || early {
            return None;
        }
        let mut line = format!(
            "strangers turned away since the last such line: {fresh}, the last one from {}",
            self.last
        );
        for (count, (_, what)) in self.fresh.iter().zip(Turned::ALL).filter(|(count, _)| **count > 0) {
            // Writing to a string cannot fail.
            let _ = write!(line, "; {count} {what}");
        }
        self.fresh = Default::default();
        self.said = Some(now);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_once_a_minute() {
        let (tally, start) = (Tally::default(), Instant::now());
        let first = tally.note(Turned::WrongKey, "10.0.0.9:1", start).unwrap();
        assert!(
            first.contains(": 1, the last") && first.contains("10.0.0.9") && first.contains("none of ours")
        );
        for _ in 0..5000 {
            assert_eq!(tally.note(Turned::Silent, "10.0.0.7:2", start), None);
        }
        assert_eq!(tally.note(Turned::NotAPeer, "10.0.0.8:\x1b", start), None);
        assert_eq!(tally.due(start + EVERY / 2), None);
        let line = tally.due(start + EVERY).unwrap();
        assert_eq!(
            line,
            "strangers turned away since the last such line: 5001, the last one from 10.0.0.8:\\u{1b}; \
             5000 said nothing in time; 1 spoke another protocol"
        );
        assert_eq!(tally.due(start + 3 * EVERY), None);
        assert_eq!(tally.total(), 5002);
    }
}
