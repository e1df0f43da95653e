//! The reward, with its parts kept, in the two presets (docs/method.md#reward-of-the-paper, docs/method.md#edge-reward).
//!
//! A reward is a pure function of its parts and the current relaxation, so it can be scored again when that has fallen.

use serde::{Deserialize, Serialize};

use super::constraint::{Excess, Limits, Metric, Resources, violation};
use super::preset::Preset;

/// Reward of a student that cannot be built, run or (in `paper`) does not shrink.
pub const INFEASIBLE: f64 = -1.0;
/// Weight of each limited resource's relative excess against a quality of 0 to 1 (`edge`).
const PENALTY_WEIGHT: f64 = 1.0;
/// A trained violator's reward is at least this share of what it would get untrained; and the untrained of its batch
/// violate more than it does. So training never pays less than having been skipped, even where several penalties add up.
const FLOOR: f64 = 0.9;
/// With a goal and no limit the reward is quality^4 * ln(ratio): at 10x, a hundredth of the quality buys a tenth of the
/// resource, and a network that guesses earns nothing however small it is.
const GOAL_QUALITY_POWER: i32 = 4;

/// What a reward is made of; the same parts give the reward at any relaxation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Why it cannot be a student at all.
    pub infeasible: bool,
    /// Paper: acc / acc(teacher). Edge: (agreement - chance) / (1 - chance), at least 0. `None`: not looked at.
    pub quality: Option<f64>,
    /// Paper: C (2 - C). Edge with a goal: ln(teacher / student) of the goal's resource. `None`: limits do that work.
    pub compression: Option<f64>,
    /// Relative excess over each limit.
    pub excess: Vec<Excess>,
}

/// A scored student.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// What it is made of.
    #[serde(flatten)]
    pub parts: Parts,
    /// What the excesses cost; 0 or less.
    pub penalty: f64,
    /// The relaxation it was scored at.
    pub epsilon: f64,
    /// What the policy learns from.
    pub total: f64,
}

/// How students of one teacher are scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scoring {
    /// Which formula.
    pub preset: Preset,
    /// Teacher's accuracy on the search half of the validation split.
    pub teacher_accuracy: f64,
    /// Accuracy of guessing.
    pub chance: f64,
    /// The *original* teacher's costs, in both stages.
    pub teacher: Resources,
    /// Resource to make small (`edge`).
    pub goal: Option<Metric>,
}

impl Scoring {
    /// What quality is made of: accuracy in `paper`, agreement with the teacher in `edge`, where it is the finer figure.
    pub fn figure(&self, accuracy: f64, agreement: f64) -> f64 {
        match self.preset {
            Preset::Paper => accuracy,
            Preset::Edge => agreement,
        }
    }

    /// The parts of a student that was not looked at, or with its [`Self::figure`] of one that was.
    pub fn parts(&self, limits: &Limits, resources: &Resources, figure: Option<f64>) -> Parts {
        let quality = figure.map(|figure| match self.preset {
            Preset::Paper => figure / self.teacher_accuracy,
            Preset::Edge => ((figure - self.chance) / (1.0 - self.chance)).max(0.0),
        });
        let compression = match self.preset {
            Preset::Paper => {
                let saved = 1.0 - resources.params as f64 / self.teacher.params as f64;
                Some(saved * (2.0 - saved))
            }
            Preset::Edge => self.goal.map(|goal| self.saving(goal, resources)),
        };
        Parts { infeasible: false, quality, compression, excess: limits.excess(resources) }
    }

    /// ln(teacher / student) of the goal, in steps of the board's noise where that is measured; 0 when nothing is saved.
    fn saving(&self, goal: Metric, resources: &Resources) -> f64 {
        let (Some(teacher), Some(student)) = (self.teacher.value(goal), resources.bound_value(goal)) else {
            return 0.0;
        };
        let saving = (teacher / student.max(1.0)).ln().max(0.0);
        match resources.measured {
            Some(measured) if goal == Metric::Latency && measured.noise > 0.0 => {
                let step = measured.noise.ln_1p();
                (saving / step).floor() * step
            }
            _ => saving,
        }
    }

    /// Parts of a student that cannot exist.
    pub fn infeasible() -> Parts {
        Parts { infeasible: true, ..Parts::default() }
    }

    /// Whether an accuracy would change the reward (docs/method.md#measure-before-training).
    pub fn worth_training(&self, parts: &Parts, epsilon: f64) -> bool {
        let violation = violation(&parts.excess);
        !parts.infeasible
            && match self.preset {
                Preset::Paper => {
                    parts.compression.is_some_and(|c| c > 0.0) && (violation == 0.0 || epsilon > 0.0)
                }
                Preset::Edge => violation <= epsilon,
            }
    }

    /// The reward of these parts at this relaxation.
    pub fn score(&self, parts: &Parts, epsilon: f64) -> Reward {
        let (penalty, total) = match self.preset {
            _ if parts.infeasible => (0.0, INFEASIBLE),
            Preset::Paper => paper(parts, epsilon),
            Preset::Edge => edge(parts, epsilon),
        };
        Reward { parts: parts.clone(), penalty, epsilon, total }
    }
}

/// R = Rc * Ra; a violator gets (eps - 1) + eps * R.
fn paper(parts: &Parts, epsilon: f64) -> (f64, f64) {
    let compression = parts.compression.unwrap_or(0.0);
    if compression <= 0.0 {
        return (0.0, INFEASIBLE);
    }
    let reward = compression * parts.quality.unwrap_or(0.0);
    if violation(&parts.excess) > 0.0 {
        let relaxed = (epsilon - 1.0) + epsilon * reward;
        (relaxed - reward, relaxed)
    } else {
        (0.0, reward)
    }
}

/// `-min(1, v)` (docs/method.md#measure-before-training) with its corner rounded from v = 1/2 on: a plateau at -1 would
/// have no gradient where a whole batch is far beyond a limit, which is how a search with tight limits begins. Always above [`INFEASIBLE`].
fn untrained(violation: f64) -> f64 {
    if violation <= 0.5 { -violation } else { 0.25 / violation - 1.0 }
}

fn edge(parts: &Parts, epsilon: f64) -> (f64, f64) {
    let violation = violation(&parts.excess);
    let (Some(quality), true) = (parts.quality, violation <= epsilon) else {
        // No accuracy within the relaxation happens only for students scored again under looser limits than they were
        // tried under; they rank as what they are: untrained.
        let reward = untrained(violation.max(epsilon));
        return (reward, reward);
    };
    let worth = match parts.compression {
        Some(saving) => quality.powi(GOAL_QUALITY_POWER) * saving,
        None => quality,
    };
    let penalty = -PENALTY_WEIGHT * parts.excess.iter().map(|excess| excess.relative).sum::<f64>();
    (penalty, (worth + penalty).max(FLOOR * untrained(violation)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEACHER: Resources = Resources {
        params: 1_000_000,
        macs: 40_000_000,
        least_file_bytes: 4_000_000,
        planned_activation_bytes: 100_000,
        measured: None,
    };

    fn scoring(preset: Preset, goal: Option<Metric>) -> Scoring {
        Scoring { preset, teacher_accuracy: 0.9, chance: 0.1, teacher: TEACHER, goal }
    }

    fn student(params: u64) -> Resources {
        Resources { params, ..TEACHER }
    }

    fn params_limit(bound: f64) -> Limits {
        Limits(vec![(Metric::Params, bound)])
    }

    #[test]
    fn paper_is_compression_times_accuracy() {
        let scoring = scoring(Preset::Paper, None);
        let parts = scoring.parts(&Limits::default(), &student(500_000), Some(0.81));
        let reward = scoring.score(&parts, 0.0);
        assert!((reward.total - 0.75 * 0.9).abs() < 1e-12, "C = 0.5: Rc = 0.75; Ra = 0.9");
        assert_eq!(reward.penalty, 0.0);
    }

    #[test]
    fn paper_gives_minus_one_to_what_does_not_shrink() {
        let scoring = scoring(Preset::Paper, None);
        for params in [1_000_000, 1_200_000] {
            let parts = scoring.parts(&Limits::default(), &student(params), Some(0.99));
            assert_eq!(scoring.score(&parts, 1.0).total, INFEASIBLE);
            assert!(!scoring.worth_training(&parts, 1.0));
        }
        assert_eq!(scoring.score(&Scoring::infeasible(), 1.0).total, INFEASIBLE);
    }

    #[test]
    fn paper_relaxes_a_violators_reward() {
        let scoring = scoring(Preset::Paper, None);
        let parts = scoring.parts(&params_limit(200_000.0), &student(500_000), Some(0.81));
        let reward = 0.75 * 0.9;
        assert!((scoring.score(&parts, 1.0).total - reward).abs() < 1e-12);
        assert!((scoring.score(&parts, 0.5).total - (-0.5 + 0.5 * reward)).abs() < 1e-12);
        assert_eq!(scoring.score(&parts, 0.0).total, -1.0);
        assert!(!scoring.worth_training(&parts, 0.0), "its reward no longer depends on accuracy");
    }

    #[test]
    fn edge_earns_nothing_at_chance_and_one_for_the_teachers_answers() {
        let scoring = scoring(Preset::Edge, None);
        let total = |accuracy| {
            let parts = scoring.parts(&params_limit(500_000.0), &student(400_000), Some(accuracy));
            scoring.score(&parts, 0.0).total
        };
        assert_eq!(total(0.1), 0.0);
        assert_eq!(total(0.05), 0.0);
        assert!((total(1.0) - 1.0).abs() < 1e-12, "as the teacher answers");
        assert!(total(0.92) > total(0.9));
    }

    #[test]
    fn edge_with_a_goal_keeps_rewarding_beyond_ten_times() {
        let scoring = scoring(Preset::Edge, Some(Metric::Params));
        let total = |params| {
            scoring.score(&scoring.parts(&Limits::default(), &student(params), Some(0.9)), 0.0).total
        };
        assert!(total(50_000) > total(100_000) + 0.4, "20x is clearly better than 10x");
        assert_eq!(total(1_000_000), 0.0);
    }

    #[test]
    fn latency_goals_within_the_boards_noise_are_ties() {
        let measured = |latency_ns: u64| super::super::answer::Measured {
            latency_ns,
            latency_upper_ns: latency_ns,
            latency_lower_ns: latency_ns,
            model_memory_bytes: 0,
            file_bytes: 0,
            noise: 0.05,
        };
        let mut scoring = scoring(Preset::Edge, Some(Metric::Latency));
        scoring.teacher.measured = Some(measured(1_000_000));
        let total = |ns| {
            let student = Resources { measured: Some(measured(ns)), ..TEACHER };
            scoring.score(&scoring.parts(&Limits::default(), &student, Some(0.9)), 0.0).total
        };
        assert_eq!(total(500_000), total(498_000));
        assert!(total(400_000) > total(500_000));
    }

    proptest! {
        #[test]
        fn reward_grows_with_accuracy(
            low in 0.0..1.0_f64, gain in 0.0..0.5_f64, params in 1_u64..999_999, epsilon in 0.0..1.0_f64, paper: bool,
        ) {
            let scoring = scoring(if paper { Preset::Paper } else { Preset::Edge }, None);
            let limits = params_limit(300_000.0);
            let total = |accuracy| scoring.score(&scoring.parts(&limits, &student(params), Some(accuracy)), epsilon).total;
            prop_assert!(total((low + gain).min(1.0)) >= total(low));
        }

        #[test]
        fn untrained_is_always_below_trained(
            accuracy in 0.0..1.0_f64, epsilon in 0.0..=1.0_f64, share in 0.0..=1.0_f64, beyond in 0.001..3.0_f64, goal: bool,
        ) {
            let scoring = scoring(Preset::Edge, goal.then_some(Metric::Params));
            let limits = params_limit(100_000.0);
            let student = |violation: f64| student((100_000.0 * (1.0 + violation)) as u64);
            let trained = scoring.parts(&limits, &student(epsilon * share), Some(accuracy));
            let other = scoring.parts(&limits, &student(epsilon + beyond), None);
            prop_assert!(scoring.worth_training(&trained, epsilon) && !scoring.worth_training(&other, epsilon));
            prop_assert!(scoring.score(&other, epsilon).total < scoring.score(&trained, epsilon).total);
            prop_assert!(scoring.score(&other, epsilon).total >= INFEASIBLE);
        }

        #[test]
        fn a_smaller_violation_is_always_better_for_the_untrained(
            small in 2_001_u64..2_000_000, more in 1_u64..2_000_000, epsilon in 0.0..=1.0_f64,
        ) {
            let scoring = scoring(Preset::Edge, None);
            let total = |params| scoring.score(&scoring.parts(&params_limit(1_000.0), &student(params), None), epsilon).total;
            prop_assert!(total(small) > total(small + more), "no plateau");
        }

        #[test]
        fn as_the_relaxation_falls_a_violators_reward_never_rises(
            accuracy in 0.0..1.0_f64, params in 300_001_u64..1_000_000, high in 0.0..=1.0_f64, fall in 0.0..=1.0_f64,
        ) {
            for preset in [Preset::Paper, Preset::Edge] {
                let scoring = scoring(preset, None);
                let parts = scoring.parts(&params_limit(300_000.0), &student(params), Some(accuracy));
                prop_assert!(scoring.score(&parts, high * fall).total <= scoring.score(&parts, high).total + 1e-12);
            }
        }
    }
}
