//! Random changes of shapes: what random search and evolution have in common.

use std::rc::Rc;

use rand_chacha::ChaCha8Rng;

use super::base::Base;
use super::genome::Shape;
use super::random;

/// Draws of a removal until one can be built.
const MOST_DRAWS: usize = 8;

/// A standard normal number (Box and Muller 1958).
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle) = (1.0 - random::uniform(rng), random::uniform(rng));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// One of so many, all alike.
pub(super) fn index(rng: &mut ChaCha8Rng, count: usize) -> usize {
    ((random::uniform(rng) * count as f64) as usize).min(count.saturating_sub(1))
}

/// Each width factor, with the given probability, times a lognormal number of that deviation.
pub(super) fn widths(base: &Rc<Base>, shape: &mut Shape, each: f64, deviation: f64, rng: &mut ChaCha8Rng) {
    for group in &base.groups {
        if random::uniform(rng) < each {
            let factor = shape.factor(&group.name) * (deviation * normal(rng)).exp();
            shape.factors.insert(group.name.clone(), factor.clamp(1e-3, 1e3));
        }
    }
}

/// One unit more or one less, if some can be: what is in goes out, what is out comes back.
pub(super) fn removal(base: &Rc<Base>, shape: &mut Shape, rng: &mut ChaCha8Rng) {
    for _ in 0..MOST_DRAWS {
        let Some(unit) = base.units.get(index(rng, base.units.len())) else { return };
        let mut removed = shape.removed.clone();
        if !removed.remove(&unit.name) {
            removed.insert(unit.name.clone());
        }
        if base.can_remove(&removed) {
            shape.removed = removed;
            return;
        }
    }
}
