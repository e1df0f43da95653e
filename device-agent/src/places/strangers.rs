//! Places for connections that have not greeted yet. A newcomer always finds one: when all are taken, a silent connection
//! leaves, the oldest of the address that holds most.
//!
//! Attacker and host may come from one address (a router's, or the host's own), so an address's share decides who
//! leaves and never who is refused. From other addresses an attacker, however fast, drives out its own connections only.
//! From the host's address it must be faster than the places in a second: until then everybody has had [`STAY`].

use super::Ticket;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// What a connection has before it is driven out, as long as another one has had it: two round trips of a very bad link.
pub const STAY: Duration = Duration::from_secs(1);

/// Where a connection comes from, as far as shares are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IPv4 address, or the /64 network of an IPv6 one: whoever has one address of it has all.
    Network(IpAddr),
    /// The serial line.
    Line,
}

impl From<SocketAddr> for Address {
    fn from(peer: SocketAddr) -> Self {
        Self::Network(match peer.ip().to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing whole has come from it.
    Silent,
    /// Its opening has come. Anybody can send one, so it may still be driven out, after those that sent nothing.
    Opened,
    /// Its first message was made with a key, for this very connection. It stays until its greeting's deadline.
    Known,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    address: Address,
    since: Instant,
    stage: Stage,
}

/// What became of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has a place; another connection may have lost its own.
    Placed {
        /// The newcomer's place.
        ticket: Ticket,
        /// Whose connection has to be closed.
        evicted: Option<Ticket>,
    },
    /// All places are taken by holders of keys that have not greeted yet.
    Full,
}

/// The places of those that have not greeted yet.
#[derive(Debug)]
pub struct Strangers {
    most: usize,
    next: Ticket,
    places: BTreeMap<Ticket, Place>,
    /// Those who may be driven out, by address.
    waiting: HashMap<Address, Waiting>,
}

/// Connections of one address that may be driven out, oldest first.
#[derive(Debug, Default)]
struct Waiting {
    silent: BTreeMap<Ticket, Instant>,
    opened: BTreeMap<Ticket, Instant>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.silent.len() + self.opened.len()
    }

    fn of(&mut self, stage: Stage) -> Option<&mut BTreeMap<Ticket, Instant>> {
        match stage {
            Stage::Silent => Some(&mut self.silent),
            Stage::Opened => Some(&mut self.opened),
            Stage::Known => None,
        }
    }

    fn oldest(&self) -> Option<Ticket> {
        let first =
            |waiting: &BTreeMap<Ticket, Instant>| waiting.first_key_value().map(|(ticket, _)| *ticket);
        first(&self.silent).into_iter().chain(first(&self.opened)).min()
    }

    /// Who leaves: of those that have had their second the silent before the opened ones; then the same of the rest.
    fn victim(&self, now: Instant) -> Option<Ticket> {
        let first = |waiting: &BTreeMap<Ticket, Instant>, least: Duration| {
            let (ticket, since) = waiting.first_key_value()?;
            (now.saturating_duration_since(*since) >= least).then_some(*ticket)
        };
        first(&self.silent, STAY)
            .or_else(|| first(&self.opened, STAY))
            .or_else(|| first(&self.silent, Duration::ZERO))
            .or_else(|| first(&self.opened, Duration::ZERO))
    }
}

impl Strangers {
    /// So many places, all free.
    pub fn new(most: usize) -> Self {
        Self { most, next: 0, places: BTreeMap::new(), waiting: HashMap::new() }
    }

    /// A place for a newcomer.
    pub fn admit(&mut self, address: Address, now: Instant) -> Admission {
        let evicted = if self.places.len() < self.most {
            None
        } else if let Some(victim) = self.victim(now) {
            self.leave(victim);
            Some(victim)
        } else {
            return Admission::Full;
        };
        let ticket = self.next;
        self.next += 1;
        self.places.insert(ticket, Place { address, since: now, stage: Stage::Silent });
        self.waiting.entry(address).or_default().silent.insert(ticket, now);
        Admission::Placed { ticket, evicted }
    }

    /// A connection has come further.
    pub fn advance(&mut self, ticket: Ticket, stage: Stage) {
        let Some(place) = self.places.get(&ticket).copied() else { return };
        self.forget(ticket, place);
        self.places.insert(ticket, Place { stage, ..place });
        if stage != Stage::Known
            && let Some(waiting) = self.waiting.entry(place.address).or_default().of(stage)
        {
            waiting.insert(ticket, place.since);
        }
    }

    /// A connection has ended, greeted, or was driven out.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Some(place) = self.places.remove(&ticket) {
            self.forget(ticket, place);
        }
    }

    /// How many are there.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn victim(&self, now: Instant) -> Option<Ticket> {
        // The fullest address; of two equally full ones the one whose oldest has been there longer.
        let fullest = self.waiting.values().max_by_key(|it| (it.len(), std::cmp::Reverse(it.oldest())))?;
        fullest.victim(now)
    }

    fn forget(&mut self, ticket: Ticket, place: Place) {
        let Some(waiting) = self.waiting.get_mut(&place.address) else { return };
        if let Some(same) = waiting.of(place.stage) {
            same.remove(&ticket);
        }
        if waiting.len() == 0 {
            self.waiting.remove(&place.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(last: u8) -> Address {
        SocketAddr::from(([10, 0, 0, last], 1)).into()
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    fn placed(admission: Admission) -> (Ticket, Option<Ticket>) {
        match admission {
            Admission::Placed { ticket, evicted } => (ticket, evicted),
            Admission::Full => panic!("no place"),
        }
    }

    #[test]
    fn while_there_are_places_nobody_leaves() {
        let now = Instant::now();
        let mut strangers = Strangers::new(3);
        for _ in 0..3 {
            assert_eq!(placed(strangers.admit(network(1), now)).1, None);
        }
        strangers.leave(1);
        assert_eq!(placed(strangers.admit(network(2), now)).1, None);
        assert_eq!(strangers.len(), 3);
    }

    #[test]
    fn the_fullest_address_loses_its_oldest_however_fast_it_comes() {
        let start = Instant::now();
        let mut strangers = Strangers::new(4);
        let (host, _) = placed(strangers.admit(network(1), start));
        for number in 0..1000 {
            let (_, evicted) = placed(strangers.admit(network(2), after(start, number / 100)));
            assert_ne!(evicted, Some(host));
        }
        // A newcomer of another address drives the fullest out too, never its own neighbour.
        let (_, evicted) = placed(strangers.admit(network(1), after(start, 11)));
        assert!(evicted.is_some_and(|evicted| evicted != host));
    }

    #[test]
    fn at_one_address_the_silent_leave_before_those_that_opened_and_nobody_before_his_second() {
        let start = Instant::now();
        let mut strangers = Strangers::new(3);
        let (opened, _) = placed(strangers.admit(network(1), start));
        strangers.advance(opened, Stage::Opened);
        let (silent, _) = placed(strangers.admit(network(1), after(start, 100)));
        let (late, _) = placed(strangers.admit(network(1), after(start, 1500)));
        // Both have had their second: the silent one leaves though it came later.
        assert_eq!(placed(strangers.admit(network(1), after(start, 1500))).1, Some(silent));
        // Now only the opened one has had its second: it leaves before the silent ones that have not.
        let (_, evicted) = placed(strangers.admit(network(1), after(start, 1600)));
        assert_eq!(evicted, Some(opened));
        // Nobody has: the oldest silent one.
        assert_eq!(placed(strangers.admit(network(1), after(start, 1700))).1, Some(late));
    }

    #[test]
    fn whoever_has_shown_a_key_stays_and_when_all_have_a_newcomer_is_refused() {
        let now = Instant::now();
        let mut strangers = Strangers::new(2);
        let (first, _) = placed(strangers.admit(network(1), now));
        strangers.advance(first, Stage::Known);
        let (second, _) = placed(strangers.admit(network(1), now));
        assert_eq!(placed(strangers.admit(network(1), now)).1, Some(second));
        let (third, _) = placed(strangers.admit(network(2), now));
        strangers.advance(third, Stage::Opened);
        strangers.advance(third, Stage::Known);
        assert_eq!(strangers.admit(network(3), now), Admission::Full);
        strangers.leave(first);
        assert_eq!(placed(strangers.admit(network(3), now)).1, None);
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_one_is_ipv4() {
        let address = |text: &str| Address::from(text.parse::<SocketAddr>().unwrap());
        assert_eq!(address("[fd00::1:2:3:4]:1"), address("[fd00::9]:2"));
        assert_ne!(address("[fd00::1]:1"), address("[fd00:0:0:1::1]:1"));
        assert_eq!(address("[::ffff:10.0.0.1]:1"), network(1));
        assert_ne!(network(1), network(2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Come(u8),
        Advance(u64, bool),
        Leave(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..4).prop_map(Step::Come),
            (0u64..60, any::<bool>()).prop_map(|(ticket, known)| Step::Advance(ticket, known)),
            (0u64..60).prop_map(Step::Leave),
        ]
    }

    proptest! {
        #[test]
        fn places_are_never_exceeded_and_both_books_agree(
            most in 1usize..8,
            steps in proptest::collection::vec(step(), 0..80),
        ) {
            let start = Instant::now();
            let mut strangers = Strangers::new(most);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Come(address) => {
                        let before = strangers.len();
                        match strangers.admit(network(address), after(start, number as u64 * 300)) {
                            Admission::Placed { evicted, .. } => {
                                prop_assert_eq!(evicted.is_some(), before == most);
                            }
                            Admission::Full => {
                                prop_assert!(strangers.places.values().all(|it| it.stage == Stage::Known));
                            }
                        }
                    }
                    Step::Advance(ticket, known) => {
                        strangers.advance(ticket, if known { Stage::Known } else { Stage::Opened });
                    }
                    Step::Leave(ticket) => strangers.leave(ticket),
                }
                prop_assert!(strangers.len() <= most);
                let waiting: usize = strangers.waiting.values().map(Waiting::len).sum();
                let unknown = strangers.places.values().filter(|it| it.stage != Stage::Known).count();
                prop_assert_eq!(waiting, unknown);
                prop_assert!(strangers.waiting.values().all(|it| it.len() > 0));
            }
        }
    }
}
