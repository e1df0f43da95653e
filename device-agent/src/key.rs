//! Who may speak to this board: one key for each host, under a name.
//!
//! ```text
//! files   the keys on disk: added, shown, removed       watch   notices a change while the agent runs
//! ```
//! A ring is what is in force now. It must not be printed: a key shows itself by its name and its id only.

pub mod files;
pub mod watch;

use n2n_protocol::key::{Key, KeyId};

/// Most keys of one board. An old host's first message is tried with each, at some microseconds a key.
pub const KEYS: usize = 32;

/// Name of the key that stands in the data folder by itself: the first one, and the only one of earlier agents.
pub const DEFAULT: &str = "default";

/// Longest name of a key, bytes.
const NAME_BYTES: usize = 64;

/// A key, and the name of the host it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// Name by which the board's owner knows the host.
    pub name: String,
    /// The secret.
    pub key: Key,
}

/// The keys in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing(Vec<NamedKey>);

impl KeyRing {
    /// A ring of these keys; those beyond [`KEYS`] are left out.
    pub fn new(keys: impl IntoIterator<Item = NamedKey>) -> Self {
        Self(keys.into_iter().take(KEYS).collect())
    }

    /// A ring of one key.
    pub fn of(name: &str, key: Key) -> Self {
        Self(vec![NamedKey { name: name.to_owned(), key }])
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn all(&self) -> &[NamedKey] {
        &self.0
    }

    /// Those with an id: one, or none, unless somebody was very lucky.
    pub fn with_id(&self, id: KeyId) -> Vec<&NamedKey> {
        self.0.iter().filter(|held| held.key.id() == id).collect()
    }

    /// Whether this key is in force, under whatever name.
    pub fn holds(&self, key: &Key) -> bool {
        self.0.iter().any(|held| held.key == *key)
    }
}

/// Whether a text can be a key's name: it is a file's name too, and stands in logs.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=NAME_BYTES).contains(&text.len()) && text.chars().all(plain) && !text.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_finds_keys_by_id_and_knows_what_it_holds() {
        let keys: Vec<Key> = (0..3).map(|_| Key::generate().unwrap()).collect();
        let named = keys.iter().zip(["a", "b", "c"]).map(|(key, name)| (name.to_owned(), key.clone()));
        let ring = KeyRing::new(named.map(|(name, key)| NamedKey { name, key }));
        let found: Vec<_> = ring.with_id(keys[1].id()).iter().map(|held| held.name.clone()).collect();
        assert_eq!(found, ["b"]);
        let stranger = Key::generate().unwrap();
        assert!(ring.with_id(stranger.id()).is_empty() && !ring.holds(&stranger) && ring.holds(&keys[2]));
        let many = (0..KEYS + 5).map(|_| NamedKey { name: "x".to_owned(), key: stranger.clone() });
        assert_eq!(KeyRing::new(many).all().len(), KEYS);
        assert!(!format!("{ring:?}").contains(&keys[0].reveal()[..6]));
    }

    #[test]
    fn names_are_safe_as_file_names() {
        for name in ["default", "desk", "ci.lab-2_b", "A"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
