//! Exact copies of one file in two parts: a test picture that was learned from says nothing.

use std::collections::{BTreeSet, HashMap};

/// What became of copies; numbers are pictures.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Pairs that lay in two parts.
    pub(super) across: Vec<(usize, usize)>,
    /// Pairs in two classes.
    pub(super) contradictions: Vec<(usize, usize)>,
    /// Pictures that belong to no part any more.
    pub(super) dropped: BTreeSet<usize>,
    /// Pictures that moved to training.
    pub(super) moved: usize,
}

/// Keeps copies that lie in several parts in training (part 0) alone: one that is there already, else the first.
pub(super) fn settle(digests: &[[u8; 32]], labels: &[u16], dealt: &mut [usize]) -> Settled {
    let mut copies: HashMap<[u8; 32], Vec<usize>> = HashMap::new();
    for (index, digest) in digests.iter().enumerate() {
        copies.entry(*digest).or_default().push(index);
    }
    let mut groups: Vec<Vec<usize>> = copies.into_values().filter(|group| group.len() > 1).collect();
    groups.sort();
    let mut settled = Settled::default();
    for group in groups {
        let first = group[0];
        if let Some(&other) = group.iter().find(|&&index| labels[index] != labels[first]) {
            settled.contradictions.push((first, other));
        }
        let Some(&other) = group.iter().find(|&&index| dealt[index] != dealt[first]) else { continue };
        settled.across.push((first, other));
        let learned = group.iter().any(|&index| dealt[index] == 0);
        if !learned {
            dealt[first] = 0;
            settled.moved += 1;
        }
        settled.dropped.extend(group.into_iter().filter(|&index| dealt[index] != 0));
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_across_parts_stay_in_training_alone() {
        let digests = [1, 1, 2, 2, 3, 3, 4].map(|it| [it; 32]);
        let mut dealt = [3, 0, 1, 3, 2, 2, 1];
        let settled = settle(&digests, &[0, 0, 0, 1, 0, 0, 0], &mut dealt);
        assert_eq!(settled.across, [(0, 1), (2, 3)]);
        assert_eq!(settled.contradictions, [(2, 3)]);
        assert_eq!(settled.dropped, BTreeSet::from([0, 3]));
        assert_eq!((settled.moved, dealt), (1, [3, 0, 0, 3, 2, 2, 1]), "copies in one part stay");
    }
}
