//! The agent's places as connections hold them: each gives its place back when it ends, and hears when it has lost it.
//!
//! The rules are those of `places`; here they meet the clock, the tasks and a lock that is held for microseconds.

use crate::places::Ticket;
use crate::places::hosts::{Crowd, Hosts};
use crate::places::strangers::{Address, Admission, Stage, Strangers};
use crate::{Cancel, Canceller};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All places; clones are the same ones.
#[derive(Clone, Debug)]
pub struct Room(Arc<Places>);

#[derive(Debug)]
struct Places {
    strangers: Mutex<Kept<Strangers>>,
    hosts: Mutex<Kept<Hosts>>,
}

/// A rule, and how to tell a connection that it has lost its place: by dropping its canceller.
#[derive(Debug)]
struct Kept<R> {
    rule: R,
    held: HashMap<Ticket, Canceller>,
}

impl<R> Kept<R> {
    fn new(rule: R) -> Mutex<Self> {
        Mutex::new(Self { rule, held: HashMap::new() })
    }

    fn hold(&mut self, ticket: Ticket, evicted: Option<Ticket>) -> Cancel {
        if let Some(evicted) = evicted {
            self.held.remove(&evicted);
        }
        let (canceller, lost) = Cancel::pair();
        self.held.insert(ticket, canceller);
        lost
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// A room with so many places for strangers and for hosts; see [`Hosts::new`] for `quiet`.
    pub fn new(strangers: usize, hosts: usize, quiet: Duration) -> Self {
        let (strangers, hosts) = (Kept::new(Strangers::new(strangers)), Kept::new(Hosts::new(hosts, quiet)));
        Self(Arc::new(Places { strangers, hosts }))
    }

    /// A place for a newcomer; `None` if all are taken by holders of keys in the middle of their greeting.
    pub fn admit(&self, address: Address) -> Option<StrangerPlace> {
        let mut strangers = lock(&self.0.strangers);
        let Admission::Placed { ticket, evicted } = strangers.rule.admit(address) else {
            return None;
        };
        let lost = strangers.hold(ticket, evicted);
        Some(StrangerPlace { room: self.clone(), ticket, lost })
    }

    /// A place for a session.
    ///
    /// # Errors
    /// [`Crowd`] if all are taken and nobody is silent.
    pub fn sit(&self, client: &str) -> Result<HostPlace, Crowd> {
        let mut hosts = lock(&self.0.hosts);
        let (ticket, evicted) = hosts.rule.take(client, Instant::now())?;
        let lost = hosts.hold(ticket, evicted);
        Ok(HostPlace { room: self.clone(), ticket, lost })
    }
}

/// The place of a connection that has not greeted yet; given back when dropped.
#[derive(Debug)]
pub struct StrangerPlace {
    room: Room,
    ticket: Ticket,
    lost: Cancel,
}

impl StrangerPlace {
    /// The connection has come further.
    pub fn advance(&self, stage: Stage) {
        lock(&self.room.0.strangers).rule.advance(self.ticket, stage);
    }

    /// Returns when a newcomer has taken this place.
    pub fn lost(&self) -> Cancel {
        self.lost.clone()
    }
}

impl Drop for StrangerPlace {
    fn drop(&mut self) {
        let mut strangers = lock(&self.room.0.strangers);
        strangers.rule.leave(self.ticket);
        strangers.held.remove(&self.ticket);
    }
}

/// The place of a session; given back when dropped.
#[derive(Debug)]
pub struct HostPlace {
    room: Room,
    ticket: Ticket,
    lost: Cancel,
}

impl HostPlace {
    /// The host has asked something or got its answer; `works` while the board is busy with it.
    pub fn heard(&self, works: bool) {
        lock(&self.room.0.hosts).rule.heard(self.ticket, works, Instant::now());
    }

    /// Returns when another host has taken this place.
    pub fn lost(&self) -> Cancel {
        self.lost.clone()
    }
}

impl Drop for HostPlace {
    fn drop(&mut self) {
        let mut hosts = lock(&self.room.0.hosts);
        hosts.rule.leave(self.ticket);
        hosts.held.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_their_loss_is_heard() {
        let room = Room::new(1, 1, Duration::ZERO);
        let first = room.admit(Address::Line).unwrap();
        let lost = first.lost();
        assert!(!lost.is_cancelled());
        let second = room.admit(Address::Line).unwrap();
        assert!(lost.is_cancelled());
        // The place that was lost already is not given back a second time.
        drop(first);
        second.advance(Stage::Known);
        assert!(room.admit(Address::Line).is_none());
        drop(second);
        assert!(room.admit(Address::Line).is_some());

        let host = room.sit("first").unwrap();
        host.heard(true);
        assert_eq!(room.sit("second").unwrap_err().client, "first");
        host.heard(false);
        let second = room.sit("second").unwrap();
        assert!(host.lost().is_cancelled() && !second.lost().is_cancelled());
    }
}
