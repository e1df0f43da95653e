//! Places for sessions. When all are taken, a silent host leaves for one that waits; if none is silent, the one that waits
//! is told who has them.

use super::Ticket;
use n2n_protocol::text::printable;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The places of sessions.
#[derive(Debug)]
pub struct Hosts {
    most: usize,
    quiet: Duration,
    next: Ticket,
    seats: BTreeMap<Ticket, Seat>,
}

#[derive(Debug)]
struct Seat {
    client: String,
    since: Instant,
    heard: Instant,
    works: bool,
}

/// Why a host has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// How many places there are.
    pub places: usize,
    /// Who has been there longest.
    pub client: String,
    /// For how long.
    pub for_time: Duration,
}

impl Hosts {
    /// So many places. A host that asks nothing for `quiet` and has nothing running leaves when another one waits.
    pub fn new(most: usize, quiet: Duration) -> Self {
        Self { most, quiet, next: 0, seats: BTreeMap::new() }
    }

    /// A place for a host, and who has to leave for it.
    ///
    /// # Errors
    /// [`Crowd`] when all places are taken by hosts that are at work, or were a moment ago.
    pub fn take(&mut self, client: &str, now: Instant) -> Result<(Ticket, Option<Ticket>), Crowd> {
        let evicted = if self.seats.len() < self.most { None } else { Some(self.silent(now)?) };
        if let Some(evicted) = evicted {
            self.seats.remove(&evicted);
        }
        let ticket = self.next;
        self.next += 1;
        let client = printable(client).into_owned();
        self.seats.insert(ticket, Seat { client, since: now, heard: now, works: false });
        Ok((ticket, evicted))
    }

    /// A host has asked something or got its answer; `works` while the board is still busy with it.
    pub fn heard(&mut self, ticket: Ticket, works: bool, now: Instant) {
        if let Some(seat) = self.seats.get_mut(&ticket) {
            (seat.heard, seat.works) = (now, works);
        }
    }

    /// A session has ended.
    pub fn leave(&mut self, ticket: Ticket) {
        self.seats.remove(&ticket);
    }

    /// How many hosts are there.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether no host is there.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The host that has been silent longest, if it has been so for long enough.
    fn silent(&self, now: Instant) -> Result<Ticket, Crowd> {
        let silence = |seat: &Seat| now.saturating_duration_since(seat.heard);
        let idle = self.seats.iter().filter(|(_, seat)| !seat.works && silence(seat) >= self.quiet);
        if let Some((ticket, _)) = idle.min_by_key(|(_, seat)| seat.heard) {
            return Ok(*ticket);
        }
        let oldest = self.seats.values().min_by_key(|seat| seat.since);
        Err(Crowd {
            places: self.most,
            client: oldest.map(|seat| seat.client.clone()).unwrap_or_default(),
            for_time: oldest.map(|seat| now.saturating_duration_since(seat.since)).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(10);

    #[test]
    fn a_silent_host_leaves_for_one_that_waits_and_a_working_one_does_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut hosts = Hosts::new(3, QUIET);
        let (works, _) = hosts.take("works", at(0)).unwrap();
        let (silent, _) = hosts.take("silent", at(1)).unwrap();
        let (speaks, _) = hosts.take("speaks", at(2)).unwrap();
        hosts.heard(works, true, at(2));
        hosts.heard(speaks, false, at(100));
        // Not while places are free, and only for one that waits: the longest silent one.
        let (newcomer, evicted) = hosts.take("newcomer", at(100)).unwrap();
        assert_eq!(evicted, Some(silent));
        assert_eq!(hosts.len(), 3);
        // Nobody is silent long enough now; whoever waits hears who has been there longest.
        let crowd = hosts.take("next", at(105)).unwrap_err();
        assert_eq!(
            crowd,
            Crowd { places: 3, client: "works".to_owned(), for_time: Duration::from_secs(105) }
        );
        hosts.leave(newcomer);
        assert_eq!(hosts.take("next", at(106)).unwrap().1, None);
        // The work's end counts as a sign of life, and begins the silence.
        hosts.heard(works, false, at(200));
        hosts.heard(speaks, false, at(300));
        let (_, evicted) = hosts.take("last", at(300)).unwrap();
        assert_ne!(evicted, Some(speaks));
    }

    #[test]
    fn names_are_shown_without_their_orders_to_a_terminal() {
        let start = Instant::now();
        let mut hosts = Hosts::new(1, QUIET);
        hosts.take("a\x1b[2J\n", start).unwrap();
        assert_eq!(hosts.take("b", start).unwrap_err().client, "a\\u{1b}[2J\\n");
    }
}
