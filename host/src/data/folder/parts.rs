//! Which part a picture goes to: by its name alone, so that adding, removing or relabelling pictures moves no other.

use sha2::{Digest as _, Sha256};

/// Training, the two validation halves, test.
pub(super) const PARTS: usize = 4;
/// Shares of the parts where nothing is given.
const SHARES: [f64; PARTS] = [0.7, 0.075, 0.075, 0.15];
/// Salts that are tried for one that leaves no part empty.
const SALTS: u32 = 1000;

/// A part that folders name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Given {
    Train,
    Validation,
    Test,
}

impl Given {
    /// By the names that are in use: `train`, `val`, `valid`, `validation`, `test`.
    pub(super) fn of(folder: &str) -> Option<Self> {
        match folder.to_lowercase().as_str() {
            "train" => Some(Self::Train),
            "val" | "valid" | "validation" => Some(Self::Validation),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// How pictures are dealt: with a salt, and from which folders' parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deal {
    salt: String,
    /// Parts that have folders; none where every folder is a class.
    given: Vec<Given>,
}

impl Deal {
    pub(super) fn new(salt: &str, given: Vec<Given>) -> Self {
        Self { salt: salt.into(), given }
    }

    /// The part of a picture with this key, in this folder.
    pub(super) fn part(&self, key: &str, folder: Option<Given>) -> usize {
        let (validation, test) = (self.given.contains(&Given::Validation), self.given.contains(&Given::Test));
        let shares = match folder {
            None => SHARES,
            Some(Given::Test) => [0.0, 0.0, 0.0, 1.0],
            Some(Given::Validation) => [0.0, 0.5, 0.5, 0.0],
            // What has no folder is cut from training, in the usual proportion.
            Some(Given::Train) => [
                1.0,
                if validation { 0.0 } else { SHARES[1] / (1.0 - SHARES[3]) },
                if validation { 0.0 } else { SHARES[2] / (1.0 - SHARES[3]) },
                if test { 0.0 } else { SHARES[3] },
            ],
        };
        // Training takes what the others leave.
        let place = place(&self.salt, key);
        let mut end = 1.0;
        for part in (1..PARTS).rev() {
            end -= shares[part];
            if place >= end && shares[part] > 0.0 {
                return part;
            }
        }
        0
    }

    /// A salt by which no class is left without pictures in a part.
    pub(super) fn better_salt(
        &self,
        pictures: &[(&str, Option<Given>, u16)],
        classes: usize,
    ) -> Option<String> {
        (1..=SALTS).map(|salt| salt.to_string()).find(|salt| {
            let deal = Self::new(salt, self.given.clone());
            let dealt = pictures.iter().map(|(key, folder, label)| (deal.part(key, *folder), *label));
            empty(&counts(dealt, classes)).is_none()
        })
    }
}

/// A number from 0 up to 1 for a name. The same for ever: teachers were trained by it.
fn place(salt: &str, key: &str) -> f64 {
    let digest = Sha256::digest([salt.as_bytes(), b"\0", key.as_bytes()].concat());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Pictures by class and part.
pub(super) fn counts(dealt: impl Iterator<Item = (usize, u16)>, classes: usize) -> Vec<[usize; PARTS]> {
    let mut counts = vec![[0; PARTS]; classes];
    dealt.for_each(|(part, label)| counts[usize::from(label)][part] += 1);
    counts
}

/// The first class without pictures in a part, and that part.
pub(super) fn empty(counts: &[[usize; PARTS]]) -> Option<(usize, usize)> {
    counts
        .iter()
        .enumerate()
        .find_map(|(class, parts)| parts.iter().position(|count| *count == 0).map(|part| (class, part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Deal = Deal { salt: String::new(), given: Vec::new() };

    fn shares(deal: &Deal, folder: Option<Given>) -> [f64; PARTS] {
        const PICTURES: usize = 20_000;
        let dealt = (0..PICTURES).map(|it| (deal.part(&format!("picture {it}.jpg"), folder), 0));
        counts(dealt, 1)[0].map(|count| count as f64 / PICTURES as f64)
    }

    #[test]
    fn shares_are_met_within_binomial_error() {
        let close = |got: [f64; PARTS], wanted: [f64; PARTS]| {
            for (got, wanted) in got.into_iter().zip(wanted) {
                let error = (wanted * (1.0 - wanted) / 20_000.0).sqrt();
                assert!((got - wanted).abs() <= 4.0 * error, "{got} for {wanted}");
            }
        };
        close(shares(&NONE, None), SHARES);
        let given = |parts: &[Given]| Deal::new("", parts.to_vec());
        let all = given(&[Given::Train, Given::Validation, Given::Test]);
        close(shares(&all, Some(Given::Train)), [1.0, 0.0, 0.0, 0.0]);
        close(shares(&all, Some(Given::Validation)), [0.0, 0.5, 0.5, 0.0]);
        close(shares(&all, Some(Given::Test)), [0.0, 0.0, 0.0, 1.0]);
        let no_test = given(&[Given::Train, Given::Validation]);
        close(shares(&no_test, Some(Given::Train)), [0.85, 0.0, 0.0, 0.15]);
        let no_validation = given(&[Given::Train, Given::Test]);
        close(shares(&no_validation, Some(Given::Train)), [0.823_53, 0.088_235, 0.088_235, 0.0]);
    }

    #[test]
    fn the_name_decides_and_the_salt_and_nothing_else() {
        let names: Vec<String> = (0..500).map(|it| format!("{it}.jpg")).collect();
        let parts = |salt: &str| {
            let deal = Deal::new(salt, Vec::new());
            names.iter().map(|name| deal.part(name, None)).collect::<Vec<_>>()
        };
        assert_eq!(parts(""), parts(""));
        assert_ne!(parts(""), parts("1"));
        // Pinned: a teacher of last year was trained on these.
        assert_eq!(parts("")[..12], PINNED);
    }

    const PINNED: [usize; 12] = [3, 0, 1, 0, 0, 0, 0, 1, 0, 2, 0, 0];

    #[test]
    fn a_salt_is_found_that_fills_every_part() {
        let names: Vec<String> = (0..12).map(|it| format!("{it}.jpg")).collect();
        let pictures: Vec<(&str, Option<Given>, u16)> =
            names.iter().map(|name| (name.as_str(), None, 0)).collect();
        let salt = NONE.better_salt(&pictures, 1).unwrap();
        let deal = Deal::new(&salt, Vec::new());
        let dealt = names.iter().map(|name| (deal.part(name, None), 0));
        assert_eq!(empty(&counts(dealt, 1)), None);
        assert_eq!(NONE.better_salt(&pictures[..3], 1), None, "three pictures fill no four parts");
    }
}
