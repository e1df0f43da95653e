//! The largest student of a shape that keeps the limits: the common scale of its widths, then single steps of channels.
//! Only how the room is shared out is left for a searcher to find.

use super::base::Base;
use super::constraint::{Limits, Metric, Resources};
use super::cost_model::CostModel;
use super::genome::{Genome, Shape};

/// Halvings of the scale's logarithm: below a thousandth of it, beside steps of whole channels.
const HALVINGS: usize = 18;
/// Smallest scale: a factor of 1 then leaves a thousandth of the channels.
const LEAST_SCALE: f64 = 1e-3;
/// A student that uses so much of its tightest limit is at it.
pub const NEAR: f64 = 0.97;
/// Passes over all groups that look for one more step of channels.
const FILLS: usize = 6;

/// A measured student that uses less of its limit than this is fitted again.
const ROOMY: f64 = 0.9;

/// A shape at the limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The student.
    pub genome: Genome,
    /// The limit that keeps it from being larger; `None` when it is as wide as its base.
    pub binding: Option<Metric>,
    /// By how much the narrowest student of this shape is beyond its tightest limit; 0 for one that keeps all.
    pub beyond: f64,
}

/// What limits are held against before a board has spoken.
#[derive(Clone, Copy)]
pub struct Costs<'a> {
    /// The limits in base units.
    pub limits: &'a Limits,
    /// What the board may say; `None` where no limit needs it.
    pub board: Option<&'a CostModel>,
    /// Measured latency over guessed latency of this shape's last try; 1 before.
    pub correction: f64,
}

impl Costs<'_> {
    /// The tightest limit, and how much of it the student uses; 0 without limits.
    fn tightest(&self, base: &Base, genome: &Genome) -> Result<(Option<Metric>, f64), String> {
        let network = base.network_of(genome)?;
        let mut resources = Resources::of(&network);
        if let Some(model) = self.board {
            let guess = model.guess(&network);
            let latency = (guess.latency_upper_ns as f64 * self.correction) as u64;
            resources.measured = Some(super::answer::Measured { latency_upper_ns: latency, ..guess });
        }
        Ok(self.limits.tightest(&resources))
    }
}

/// Whether what the board said asks for another fit: beyond the limits, or far within although one of them binds that only the
/// board can tell.
pub fn is_off(aim: &Limits, resources: &Resources) -> bool {
    let (metric, used) = aim.tightest(resources);
    let by_board = Limits(metric.map(|metric| (metric, 1.0)).into_iter().collect()).need_the_board();
    used > 1.0 || (by_board && used < ROOMY)
}

/// Fits a shape.
///
/// # Errors
/// The shape's units cannot be removed; in words.
pub fn fit(base: &Base, shape: &Shape, costs: Costs<'_>) -> Result<Fitted, String> {
    let use_of = |scale: f64| {
        let genome = base.scaled(shape, scale);
        costs.tightest(base, &genome).map(|(metric, used)| (genome, metric, used))
    };
    let smallest_factor =
        base.groups.iter().map(|group| shape.factor(&group.name)).fold(1.0, f64::min).max(LEAST_SCALE);
    let (whole, _, used) = use_of(1.0 / smallest_factor)?;
    if used <= 1.0 {
        return Ok(Fitted { genome: whole, binding: None, beyond: 0.0 });
    }
    let (least, binding, used) = use_of(LEAST_SCALE)?;
    if used > 1.0 {
        return Ok(Fitted { genome: least, binding, beyond: used - 1.0 });
    }
    let (mut within, mut beyond) = (LEAST_SCALE.ln(), -smallest_factor.ln());
    let mut best = (least, binding, used);
    let mut scale = LEAST_SCALE;
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(within, beyond);
        let tried = use_of(middle.exp())?;
        if tried.2 <= 1.0 {
            (within, best, scale) = (middle, tried, middle.exp());
        } else {
            beyond = middle;
        }
    }
    fill(base, shape, scale, costs, best)
}

/// One step of channels more wherever the limits leave room, first where rounding took most.
fn fill(
    base: &Base,
    shape: &Shape,
    scale: f64,
    costs: Costs<'_>,
    start: (Genome, Option<Metric>, f64),
) -> Result<Fitted, String> {
    let (mut genome, mut binding, mut used) = start;
    let mut order: Vec<usize> = (0..base.groups.len()).collect();
    let lost = |index: usize, genome: &Genome| {
        let group = &base.groups[index];
        shape.factor(&group.name) * scale * group.channels as f64 / base.width(genome, group).max(1) as f64
    };
    for _ in 0..FILLS {
        order.sort_by(|&a, &b| lost(b, &genome).total_cmp(&lost(a, &genome)));
        let mut grew = false;
        for &index in &order {
            if used >= NEAR {
                return Ok(Fitted { genome, binding, beyond: 0.0 });
            }
            let group = &base.groups[index];
            let width = base.width(&genome, group);
            let step = if base.channel_multiple >= group.channels { 1 } else { base.channel_multiple.max(1) };
            if width >= group.channels {
                continue;
            }
            let mut wider = genome.clone();
            if width + step >= group.channels {
                wider.widths.remove(&group.name);
            } else {
                wider.widths.insert(group.name.clone(), width + step);
            }
            let wider = base.tidied(wider);
            let (metric, now) = costs.tightest(base, &wider)?;
            if now <= 1.0 && wider != genome {
                (genome, binding, used, grew) = (wider, metric, now, true);
            } else if now > 1.0 {
                // What keeps the next step out is what binds.
                binding = metric;
            }
        }
        if !grew {
            break;
        }
    }
    Ok(Fitted { genome, binding, beyond: 0.0 })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::network::layer::Input;
    use crate::network::zoo::{self, Architecture};
    use crate::search::genome::BaseId;
    use crate::training::inheritance::initial_weights;

    fn base(architecture: Architecture, multiple: usize) -> Base {
        let input = Input { channels: 3, height: 32, width: 32 };
        let network = zoo::build(architecture, input, 10, 0.25).unwrap();
        let weights = Arc::new(initial_weights(&network, 1));
        Base::new(BaseId::Teacher, network, weights, multiple)
    }

    fn limits(base: &Base, metric: Metric, share: f64) -> Limits {
        let whole = Resources::of(&base.network).bound_value(metric).unwrap();
        Limits(vec![(metric, whole * share)])
    }

    #[test]
    fn every_shape_ends_at_its_tightest_limit_or_cannot_grow_by_a_step() {
        for architecture in [Architecture::Vgg13, Architecture::Resnet18] {
            for multiple in [1, 8] {
                let base = base(architecture, multiple);
                for (metric, share) in [(Metric::Params, 0.05), (Metric::Macs, 0.25), (Metric::Params, 0.5)] {
                    let limits = limits(&base, metric, share);
                    let mut shape = Shape::default();
                    for (index, group) in base.groups.iter().enumerate() {
                        shape.factors.insert(group.name.clone(), 0.3 + (index % 3) as f64);
                    }
                    let costs = Costs { limits: &limits, board: None, correction: 1.0 };
                    let fitted = fit(&base, &shape, costs).unwrap();
                    let (_, used) = costs.tightest(&base, &fitted.genome).unwrap();
                    assert_eq!((fitted.beyond, fitted.binding), (0.0, Some(metric)));
                    assert!(used <= 1.0, "{used}");
                    let grown = base.groups.iter().filter(|group| {
                        let width = base.width(&fitted.genome, group);
                        let step = if multiple >= group.channels { 1 } else { multiple };
                        let mut wider = fitted.genome.clone();
                        wider.widths.insert(group.name.clone(), (width + step).min(group.channels));
                        width < group.channels && costs.tightest(&base, &wider).unwrap().1 <= 1.0
                    });
                    assert!(
                        used >= NEAR || grown.count() == 0,
                        "{architecture:?} {multiple} {metric} {used}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_genome_is_never_wider_than_its_base_and_says_what_does_not_fit() {
        let base = base(Architecture::Vgg13, 8);
        let roomy = limits(&base, Metric::Params, 2.0);
        let costs = Costs { limits: &roomy, board: None, correction: 1.0 };
        let fitted = fit(&base, &Shape::default(), costs).unwrap();
        assert_eq!((fitted.genome.widths.len(), fitted.binding), (0, None));
        let tight = Limits(vec![(Metric::Params, 10.0)]);
        let costs = Costs { limits: &tight, board: None, correction: 1.0 };
        assert!(fit(&base, &Shape::default(), costs).unwrap().beyond > 1.0);
        let removed = BTreeSet::from(["no such unit".to_owned()]);
        let error = fit(&base, &Shape { removed, ..Shape::default() }, costs).unwrap_err();
        assert!(error.contains("no such unit"), "{error}");
    }
}
