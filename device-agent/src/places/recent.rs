//! Whether something was seen before, among the last so many.

use n2n_protocol::handshake::NONCE_BYTES;
use std::collections::{HashSet, VecDeque};

/// Random bytes that made a connection's opening its own.
type Nonce = [u8; NONCE_BYTES];

/// The last nonces, and no more.
#[derive(Debug)]
pub struct Recent {
    most: usize,
    seen: HashSet<Nonce>,
    order: VecDeque<Nonce>,
}

impl Recent {
    /// Remembers the last `most`.
    pub fn new(most: usize) -> Self {
        Self { most, seen: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether this one is not among the last; it is from now on.
    pub fn is_new(&mut self, nonce: Nonce) -> bool {
        if !self.seen.insert(nonce) {
            return false;
        }
        self.order.push_back(nonce);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known_and_older_ones_forgotten() {
        let nonce = |number: u8| [number; NONCE_BYTES];
        let mut recent = Recent::new(3);
        assert!((0..4).all(|number| recent.is_new(nonce(number))));
        assert!((1..4).all(|number| !recent.is_new(nonce(number))), "the last three");
        assert!(recent.is_new(nonce(0)), "forgotten for the fourth");
        assert!(recent.is_new(nonce(1)), "which the first one took the place of");
        assert_eq!((recent.seen.len(), recent.order.len()), (3, 3));
    }
}
