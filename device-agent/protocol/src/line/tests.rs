//! Two ends and a wire between them that does everything a bad wire does, in simulated time.

use super::limits::SEND_BYTES;
use super::*;
use alloc::vec;
use proptest::prelude::*;
use rand_like::Dice;

/// Faults in a million bytes, each kind.
#[derive(Clone, Copy, Debug, Default)]
struct Damage {
    dropped: u32,
    doubled: u32,
    changed: u32,
    inserted: u32,
    /// Of a million transmissions: cut somewhere, sent twice.
    cut: u32,
    repeated: u32,
}

mod rand_like {
    //! A small generator: the properties choose its seed.

    pub(super) struct Dice(pub(super) u64);

    impl Dice {
        pub(super) fn roll(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as u32
        }

        pub(super) fn happens(&mut self, in_a_million: u32) -> bool {
            self.roll() % 1_000_000 < in_a_million
        }
    }
}

struct Wire {
    damage: Damage,
    dice: Dice,
    cut_off: [bool; 2],
    carried: u64,
}

impl Wire {
    fn new(damage: Damage, seed: u64) -> Self {
        Self { damage, dice: Dice(seed), cut_off: [false; 2], carried: 0 }
    }

    fn carry(&mut self, direction: usize, sent: &[u8]) -> Vec<u8> {
        let Damage { dropped, doubled, changed, inserted, cut, repeated } = self.damage;
        self.carried += sent.len() as u64;
        if self.cut_off[direction] || sent.is_empty() {
            return vec![];
        }
        let mut came = Vec::new();
        for &byte in sent {
            if self.dice.happens(inserted) {
                came.push(self.dice.roll() as u8);
            }
            if self.dice.happens(dropped) {
                continue;
            }
            let byte = if self.dice.happens(changed) { self.dice.roll() as u8 } else { byte };
            came.extend(core::iter::repeat_n(byte, 1 + usize::from(self.dice.happens(doubled))));
        }
        if self.dice.happens(cut) {
            let length = self.dice.roll() as usize % (came.len() + 1);
            came.truncate(length);
        }
        if self.dice.happens(repeated) {
            came.extend_from_within(..);
        }
        came
    }
}

/// Both ends, and what their applications have sent and seen.
struct Pair {
    host: Line,
    agent: Line,
    wire: Wire,
    now: Duration,
    to_send: [Vec<u8>; 2],
    taken: [usize; 2],
    seen: [Vec<u8>; 2],
}

const BAUD: u32 = 921_600;

impl Pair {
    fn new(wire: Wire) -> Self {
        let timing = Timing::of_baud(BAUD);
        let (host, agent) = (Line::dial(timing, 0xC0FF_EE00, Duration::ZERO), Line::listen(timing));
        let nothing = || [vec![], vec![]];
        Self { host, agent, wire, now: Duration::ZERO, to_send: nothing(), taken: [0; 2], seen: nothing() }
    }

    /// One exchange; time passes as the bytes need, or until somebody wants to wake up.
    fn step(&mut self) {
        let mut quiet = true;
        for direction in 0..2 {
            let (from, to) = if direction == 0 {
                (&mut self.host, &mut self.agent)
            } else {
                (&mut self.agent, &mut self.host)
            };
            if from.phase() == Phase::Open {
                let rest = &self.to_send[direction][self.taken[direction]..];
                self.taken[direction] += from.write(rest);
            }
            let mut sent = vec![];
            from.transmit(self.now, &mut sent);
            quiet &= sent.is_empty();
            self.now += transfer(sent.len() as u64, BAUD);
            to.push(&self.wire.carry(direction, &sent), self.now);
            let mut buffer = [0; 700];
            loop {
                let read = to.read(&mut buffer);
                if read == 0 {
                    break;
                }
                self.seen[direction].extend(&buffer[..read]);
            }
        }
        if quiet {
            let wake = [self.host.wake_at(), self.agent.wake_at()].into_iter().flatten().min();
            self.now = wake.unwrap_or(self.now).max(self.now + Duration::from_millis(1));
        }
    }

    fn is_complete(&self) -> bool {
        self.seen == self.to_send
    }

    fn is_over(&self) -> bool {
        matches!(self.host.phase(), Phase::Ended(_)) || matches!(self.agent.phase(), Phase::Ended(_))
    }

    /// Until everything has come or a side gave up; what has come is always the beginning of what was sent.
    fn run(&mut self, longest: Duration) {
        while !self.is_complete() && !self.is_over() && self.now < longest {
            self.step();
            for (seen, sent) in self.seen.iter().zip(&self.to_send) {
                assert!(sent.starts_with(seen), "the stream is not what was sent");
            }
        }
    }
}

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    // Many zeros: the byte that frames are cut at.
    (0..length).map(|_| if dice.happens(300_000) { 0 } else { dice.roll() as u8 }).collect()
}

#[test]
fn a_good_line_carries_both_directions_at_nearly_its_speed() {
    let mut pair = Pair::new(Wire::new(Damage::default(), 1));
    pair.to_send = [bytes(1, 1_000_000), bytes(2, 1000)];
    pair.run(Duration::from_mins(1));
    assert!(pair.is_complete());
    let overhead = pair.wire.carried as f64 / 1_001_000.0 - 1.0;
    assert!(overhead < 0.06, "{overhead}");
}

#[test]
fn one_wrong_byte_in_a_hundred_slows_a_line_down_but_does_not_stop_it() {
    let mut pair = Pair::new(Wire::new(Damage { changed: 10_000, ..Damage::default() }, 3));
    pair.to_send = [bytes(1, 100_000), bytes(2, 10_000)];
    pair.run(Duration::from_mins(1));
    assert!(pair.is_complete(), "{:?} {:?} after {:?}", pair.host.phase(), pair.agent.phase(), pair.now);
}

#[test]
fn a_dead_line_ends_the_connection_in_time_whichever_direction_died() {
    for cut_off in [[true, true], [true, false], [false, true]] {
        let mut pair = Pair::new(Wire::new(Damage::default(), 1));
        pair.to_send = [bytes(1, 50_000), bytes(2, 50_000)];
        while pair.seen[0].len() < 20_000 {
            pair.step();
        }
        pair.wire.cut_off = cut_off;
        let died = pair.now;
        let ended = |line: &Line| matches!(line.phase(), Phase::Ended(_));
        while !(ended(&pair.host) && ended(&pair.agent)) {
            assert!(pair.now < died + STUCK + SILENCE, "{:?} {:?}", pair.host.phase(), pair.agent.phase());
            pair.step();
        }
    }
    let mut pair = Pair::new(Wire::new(Damage::default(), 1));
    pair.wire.cut_off = [true, false];
    pair.to_send = [bytes(1, 10), vec![]];
    pair.run(SILENCE * 2);
    assert_eq!(pair.host.phase(), Phase::Ended(End::Unanswered));
}

#[test]
fn an_idle_line_lives_and_an_application_that_does_not_read_stops_the_other_without_harm() {
    let mut pair = Pair::new(Wire::new(Damage::default(), 1));
    pair.to_send = [bytes(1, 10), bytes(2, 10)];
    pair.run(Duration::from_secs(5));
    while pair.now < Duration::from_mins(10) {
        pair.step();
    }
    assert_eq!((pair.host.phase(), pair.agent.phase()), (Phase::Open, Phase::Open));

    // Nobody reads at the agent.
    let mut now = pair.now;
    let mut written = 0;
    for _ in 0..10_000 {
        written += pair.host.write(&[7; 1000]);
        let mut wire = vec![];
        pair.host.transmit(now, &mut wire);
        pair.agent.push(&wire, now);
        wire.clear();
        pair.agent.transmit(now, &mut wire);
        pair.host.push(&wire, now);
        now += Duration::from_millis(10);
    }
    assert_eq!(written, SEND_BYTES + usize::from(RECEIVE_BYTES));
    assert_eq!(pair.host.phase(), Phase::Open, "slow is not dead");
    let sent = pair.to_send[0].len();
    pair.now = now;
    pair.to_send[0].extend(vec![7; written]);
    pair.taken[0] = sent + written;
    pair.run(now + Duration::from_mins(1));
    assert!(pair.is_complete());
}

#[test]
fn a_close_comes_after_what_was_written() {
    let mut pair = Pair::new(Wire::new(Damage::default(), 1));
    pair.to_send = [vec![], bytes(2, 10_000)];
    while pair.taken[1] < 10_000 {
        pair.step();
    }
    pair.agent.close(pair.now);
    pair.run(Duration::from_secs(10));
    while pair.host.phase() == Phase::Open {
        pair.step();
    }
    assert!(pair.is_complete());
    assert_eq!(pair.host.phase(), Phase::Ended(End::Closed));
    assert_eq!(pair.agent.phase(), Phase::Ended(End::Closed));
}

#[test]
fn a_new_host_resets_the_agent_and_an_old_host_is_told() {
    let mut pair = Pair::new(Wire::new(Damage::default(), 1));
    pair.to_send = [bytes(1, 1000), vec![]];
    pair.run(Duration::from_secs(5));
    let mut old = core::mem::replace(&mut pair.host, Line::dial(Timing::of_baud(BAUD), 0xBEEF, pair.now));
    // What the old one had sent last is still on the line.
    let (mut late, mut answer) = (vec![], vec![]);
    assert_eq!(old.write(&[1; 100]), 100);
    old.transmit(pair.now, &mut late);
    pair.to_send = [bytes(3, 5000), bytes(4, 5000)];
    (pair.taken, pair.seen) = ([0; 2], [vec![], vec![]]);
    while pair.agent.connection() != Some(0xBEEF) {
        pair.step();
    }
    pair.agent.push(&late, pair.now);
    pair.agent.transmit(pair.now, &mut answer);
    old.push(&answer, pair.now);
    pair.host.push(&answer, pair.now);
    assert_eq!(old.phase(), Phase::Ended(End::Closed));
    pair.run(Duration::from_mins(1));
    assert!(pair.is_complete());
}

#[test]
fn another_version_is_named() {
    let mut host = Line::dial(Timing::of_baud(BAUD), 1, Duration::ZERO);
    let mut wire = vec![];
    let kind = Kind::Opened { version: LINE_VERSION + 1, room: 1 };
    frame::encode(Header { connection: 1, kind }, &[], &mut wire);
    host.push(&wire, Duration::ZERO);
    assert_eq!(host.phase(), Phase::Ended(End::Version(LINE_VERSION + 1)));

    let mut agent = Line::listen(Timing::of_baud(BAUD));
    wire.clear();
    let kind = Kind::Open { version: LINE_VERSION + 1, room: 1 };
    frame::encode(Header { connection: 9, kind }, &[], &mut wire);
    agent.push(&wire, Duration::ZERO);
    assert_eq!((agent.phase(), agent.connection()), (Phase::Waiting, None));
    wire.clear();
    agent.transmit(Duration::ZERO, &mut wire);
    assert!(!wire.is_empty(), "it says its own version");
}

fn damage() -> impl Strategy<Value = Damage> {
    let rate = 0u32..3000;
    let whole = 0u32..150_000;
    (rate.clone(), rate.clone(), rate.clone(), rate, whole.clone(), whole).prop_map(
        |(dropped, doubled, changed, inserted, cut, repeated)| Damage {
            dropped,
            doubled,
            changed,
            inserted,
            cut,
            repeated,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_bad_line_delivers_everything_in_order_or_is_declared_dead(
        damage in damage(),
        seed in any::<u64>(),
        lengths in (0usize..40_000, 0usize..40_000),
    ) {
        let mut pair = Pair::new(Wire::new(damage, seed));
        pair.to_send = [bytes(seed, lengths.0), bytes(!seed, lengths.1)];
        pair.run(Duration::from_mins(10));
        prop_assert!(pair.is_complete() || pair.is_over(), "neither, after {:?}", pair.now);
    }

    #[test]
    fn a_hopeless_line_is_declared_dead(seed in any::<u64>()) {
        let damage = Damage { changed: 300_000, ..Damage::default() };
        let mut pair = Pair::new(Wire::new(damage, seed));
        pair.to_send = [bytes(seed, 1000), vec![]];
        pair.run(SILENCE + STUCK);
        prop_assert!(pair.is_over());
    }
}
