//! Places for connections that have not greeted yet. A newcomer always finds one: when all are taken, a waiting connection
//! leaves. It is one of the address that holds most; there of the larger of two kinds, those that said nothing and those
//! that sent an opening which proves nothing; and of these the oldest. Whoever proved a key leaves only when nobody else is
//! there.
//!
//! Attacker and host may come from one address (a router's, or the host's own), so an address's share decides who
//! leaves and never who is refused. From another address an attacker, however fast, drives out its own connections only.
//! From the host's address it drives out its own kind: a host proves its key with its first bytes.

use super::Ticket;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

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
    /// An opening has come that proves nothing, as anybody can send one.
    Opened,
    /// A fresh opening has come that a holder of a key made.
    Proven,
    /// Its first message was made with a key, for this very connection. It stays until its greeting's deadline.
    Known,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    address: Address,
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

/// Connections of one address that may be driven out; tickets rise, so the first is the oldest.
#[derive(Debug, Default)]
struct Waiting {
    silent: BTreeSet<Ticket>,
    opened: BTreeSet<Ticket>,
    proven: BTreeSet<Ticket>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.unproven() + self.proven.len()
    }

    fn unproven(&self) -> usize {
        self.silent.len() + self.opened.len()
    }

    fn of(&mut self, stage: Stage) -> Option<&mut BTreeSet<Ticket>> {
        match stage {
            Stage::Silent => Some(&mut self.silent),
            Stage::Opened => Some(&mut self.opened),
            Stage::Proven => Some(&mut self.proven),
            Stage::Known => None,
        }
    }

    /// Who leaves: the oldest of the larger kind, if there is one that proved nothing.
    fn victim(&self) -> Option<Ticket> {
        let larger = if self.silent.len() >= self.opened.len() { &self.silent } else { &self.opened };
        larger.first().or(self.proven.first()).copied()
    }
}

impl Strangers {
    /// So many places, all free.
    pub fn new(most: usize) -> Self {
        Self { most, next: 0, places: BTreeMap::new(), waiting: HashMap::new() }
    }

    /// A place for a newcomer.
    pub fn admit(&mut self, address: Address) -> Admission {
        let evicted = if self.places.len() < self.most {
            None
        } else if let Some(victim) = self.victim() {
            self.leave(victim);
            Some(victim)
        } else {
            return Admission::Full;
        };
        let ticket = self.next;
        self.next += 1;
        self.places.insert(ticket, Place { address, stage: Stage::Silent });
        self.waiting.entry(address).or_default().silent.insert(ticket);
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
            waiting.insert(ticket);
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

    fn victim(&self) -> Option<Ticket> {
        // Of equally full addresses the one whose turn it is longest; proven ones count when there are no others.
        let fullest = self.waiting.values().max_by_key(|it| (it.unproven(), it.len(), Reverse(it.victim())));
        fullest.and_then(Waiting::victim)
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

    fn placed(admission: Admission) -> (Ticket, Option<Ticket>) {
        match admission {
            Admission::Placed { ticket, evicted } => (ticket, evicted),
            Admission::Full => panic!("no place"),
        }
    }

    #[test]
    fn while_there_are_places_nobody_leaves() {
        let mut strangers = Strangers::new(3);
        for _ in 0..3 {
            assert_eq!(placed(strangers.admit(network(1))).1, None);
        }
        strangers.leave(1);
        assert_eq!(placed(strangers.admit(network(2))).1, None);
        assert_eq!(strangers.len(), 3);
    }

    #[test]
    fn the_fullest_address_loses_its_oldest_however_fast_it_comes() {
        let mut strangers = Strangers::new(4);
        let (host, _) = placed(strangers.admit(network(1)));
        let mut oldest = host + 1;
        for number in 0..1000 {
            let (_, evicted) = placed(strangers.admit(network(2)));
            let full = number >= 3;
            assert_eq!(evicted, full.then_some(oldest));
            oldest += u64::from(full);
        }
        // A newcomer of another address drives the fullest out too, never its own neighbour.
        assert_eq!(placed(strangers.admit(network(1))).1, Some(oldest));
    }

    #[test]
    fn at_one_address_the_larger_kind_loses_its_oldest() {
        let mut strangers = Strangers::new(4);
        let mut come = |opens: bool| {
            let (ticket, evicted) = placed(strangers.admit(network(1)));
            if opens {
                strangers.advance(ticket, Stage::Opened);
            }
            (ticket, evicted)
        };
        let (host, _) = come(true);
        // A crowd that says nothing drives out its own, however long the host takes.
        let (first, second, third) = (come(false).0, come(false).0, come(false).0);
        for oldest in [first, second, third] {
            assert_eq!(come(false).1, Some(oldest));
        }
        // A crowd that opens takes the places of the silent ones until it is the larger kind, and then those of its own.
        assert!(come(true).1 != Some(host) && come(true).1 != Some(host));
        assert_eq!(come(true).1, Some(host), "the oldest of three that opened, beside one that did not");
    }

    #[test]
    fn whoever_proved_a_key_leaves_after_all_others() {
        let mut strangers = Strangers::new(3);
        let (host, _) = placed(strangers.admit(network(1)));
        strangers.advance(host, Stage::Proven);
        // Of its own address and others, silent or with openings: however many come.
        let (other, _) = placed(strangers.admit(network(2)));
        strangers.advance(other, Stage::Opened);
        for number in 0..1000 {
            let (ticket, evicted) = placed(strangers.admit(network(1)));
            assert_ne!(evicted, Some(host));
            if number % 2 == 0 {
                strangers.advance(ticket, Stage::Opened);
            }
        }
        // Among holders of keys the fullest address loses its oldest.
        let mut strangers = Strangers::new(3);
        let all: Vec<Ticket> = [1, 2, 2].map(|last| placed(strangers.admit(network(last))).0).to_vec();
        for ticket in &all {
            strangers.advance(*ticket, Stage::Proven);
        }
        assert_eq!(placed(strangers.admit(network(3))).1, Some(all[1]));
    }

    #[test]
    fn whoever_has_shown_a_key_stays_and_when_all_have_a_newcomer_is_refused() {
        let mut strangers = Strangers::new(2);
        let (first, _) = placed(strangers.admit(network(1)));
        strangers.advance(first, Stage::Known);
        let (second, _) = placed(strangers.admit(network(1)));
        let (third, evicted) = placed(strangers.admit(network(2)));
        assert_eq!(evicted, Some(second));
        strangers.advance(third, Stage::Opened);
        strangers.advance(third, Stage::Known);
        assert_eq!(strangers.admit(network(3)), Admission::Full);
        strangers.leave(first);
        assert_eq!(placed(strangers.admit(network(3))).1, None);
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
        Advance(u64, Stage),
        Leave(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let stage = prop_oneof![Just(Stage::Opened), Just(Stage::Proven), Just(Stage::Known)];
        prop_oneof![
            (0u8..4).prop_map(Step::Come),
            (0u64..60, stage).prop_map(|(ticket, stage)| Step::Advance(ticket, stage)),
            (0u64..60).prop_map(Step::Leave),
        ]
    }

    proptest! {
        #[test]
        fn places_are_never_exceeded_and_both_books_agree(
            most in 1usize..8,
            steps in proptest::collection::vec(step(), 0..80),
        ) {
            let mut strangers = Strangers::new(most);
            for step in steps {
                match step {
                    Step::Come(address) => {
                        let before = strangers.len();
                        match strangers.admit(network(address)) {
                            Admission::Placed { evicted, .. } => {
                                prop_assert_eq!(evicted.is_some(), before == most);
                            }
                            Admission::Full => {
                                prop_assert!(strangers.places.values().all(|it| it.stage == Stage::Known));
                            }
                        }
                    }
                    Step::Advance(ticket, stage) => strangers.advance(ticket, stage),
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
