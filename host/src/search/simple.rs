//! The simple students: what anybody would try first. One width for all layers; tapers, which take more from wide layers
//! than from narrow ones; both without some of the last units. They are the first candidates, and where searchers start.

use std::collections::BTreeSet;

use super::base::Base;
use super::genome::{BaseId, Shape};

/// Exponents of tapers: a factor is channels^-a; 0 is uniform width, 1 makes all layers about equally wide, more narrows
/// towards the end.
const TAPERS: [f64; 4] = [0.0, 0.5, 1.0, 1.5];
/// How many of the last units are taken out, beside none.
const REMOVED: [usize; 2] = [2, 4];
/// Exponents that are combined with removals.
const WITH_REMOVALS: [f64; 2] = [0.0, 0.5];

/// Who proposed the simple students, in journals and tables; their names begin so.
pub const SIMPLE: &str = "simple";

/// Uniform width's name in journals and tables.
pub const UNIFORM: &str = "simple: uniform width";

/// One simple student.
#[derive(Clone, Debug, PartialEq)]
pub struct Simple {
    /// For people.
    pub name: String,
    /// What it is.
    pub shape: Shape,
}

/// Uniform width: the one that all others have to beat.
pub fn uniform(base: &Base) -> Simple {
    Simple { name: name(0.0, 0), shape: taper(base, 0.0, BTreeSet::new()) }
}

/// All of them, uniform width first; no two alike.
pub fn all(base: &Base) -> Vec<Simple> {
    let mut all: Vec<Simple> = TAPERS
        .iter()
        .map(|&exponent| Simple { name: name(exponent, 0), shape: taper(base, exponent, BTreeSet::new()) })
        .collect();
    for count in REMOVED {
        let removed = last_units(base, count);
        if removed.len() < count {
            continue;
        }
        for exponent in WITH_REMOVALS {
            all.push(Simple { name: name(exponent, count), shape: taper(base, exponent, removed.clone()) });
        }
    }
    all
}

fn name(exponent: f64, removed: usize) -> String {
    let widths = if exponent == 0.0 { UNIFORM.to_owned() } else { format!("{SIMPLE}: taper {exponent}") };
    if removed == 0 { widths } else { format!("{widths}, {removed} units removed") }
}

/// Widths by a power of the channels.
fn taper(base: &Base, exponent: f64, removed: BTreeSet<String>) -> Shape {
    let least = base.groups.iter().map(|group| group.channels).min().unwrap_or(1).max(1) as f64;
    let factor = |channels: usize| (channels as f64 / least).powf(-exponent);
    let factors = base.groups.iter().map(|group| (group.name.clone(), factor(group.channels))).collect();
    Shape { base: BaseId::Teacher, removed, factors }
}

/// The last units that can go together, at most so many.
fn last_units(base: &Base, count: usize) -> BTreeSet<String> {
    let mut removed = BTreeSet::new();
    for unit in base.units.iter().rev() {
        if removed.len() == count {
            break;
        }
        let mut more = removed.clone();
        more.insert(unit.name.clone());
        if base.can_remove(&more) {
            removed = more;
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::network::layer::Input;
    use crate::network::zoo::{self, Architecture};
    use crate::training::inheritance::initial_weights;

    fn base(architecture: Architecture) -> Base {
        let input = Input { channels: 1, height: 28, width: 28 };
        let network = zoo::build(architecture, input, 10, 0.25).unwrap();
        let weights = Arc::new(initial_weights(&network, 1));
        Base::new(BaseId::Teacher, network, weights, 1)
    }

    #[test]
    fn simple_students_can_be_built_and_differ() {
        for architecture in [Architecture::Vgg13, Architecture::Resnet18] {
            let base = base(architecture);
            let simple = all(&base);
            assert_eq!(simple[0], uniform(&base));
            assert!(simple.len() >= 6, "{architecture:?}: {}", simple.len());
            let mut digests = BTreeSet::new();
            for one in &simple {
                let network = base.network_of(&base.scaled(&one.shape, 0.5)).unwrap();
                assert!(digests.insert(network.digest()), "{} is another one's double", one.name);
            }
        }
    }

    #[test]
    fn the_last_units_go_first() {
        let base = base(Architecture::Vgg13);
        let removed = last_units(&base, 2);
        assert_eq!(removed.into_iter().collect::<Vec<_>>(), ["conv5_1", "conv5_2"]);
    }
}
