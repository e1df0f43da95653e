//! REINFORCE (docs/method.md#reinforce, docs/method.md#edge-reward).
//!
//! Every rollout is credited with its *own* advantage, all trained tensors are the
//! optimiser's, and one batch makes one gradient step.

use candle_core::{D, Device, Tensor};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use serde::{Deserialize, Serialize};

use super::policy::{self, Decisions, Policy, PolicyError};

/// Weight of the newest batch in the moving average of the reward baseline.
const EMA_WEIGHT: f64 = 0.2;
/// Smallest deviation that advantages are divided by: below it, differences are the noise of some hundred validation
/// images, and blowing them up to unit size would make the policy walk at random.
const DEVIATION_FLOOR: f64 = 0.02;

/// What a rollout's reward is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Exponential moving average over updates, started at the first batch's mean (paper).
    MovingAverage,
    /// Mean of the batch's other rollouts, divided by the batch's deviation (docs/method.md#edge-reward).
    LeaveOneOut,
}

/// How a policy learns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    /// Adam's step size.
    pub learning_rate: f64,
    /// Reward baseline.
    pub baseline: Baseline,
    /// Weight of the entropy bonus per step.
    pub entropy_weight: f64,
    /// Largest norm of the gradient over all tensors together.
    pub gradient_limit: f64,
}

/// What one update did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// One per rollout that has a reward, as used.
    pub advantages: Vec<f64>,
    /// Mean entropy per decision, nats; 0 when every decision was forced.
    pub entropy: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
}

/// A policy and its optimiser.
pub struct Reinforce<P> {
    policy: P,
    optimiser: AdamW,
    learning: Learning,
    moving_average: Option<f64>,
}

/// Advantages of one batch, and the moving average after it.
pub fn advantages(
    rewards: &[f64],
    baseline: Baseline,
    moving_average: Option<f64>,
) -> (Vec<f64>, Option<f64>) {
    let count = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / count.max(1.0);
    match baseline {
        Baseline::MovingAverage => {
            let level = moving_average.unwrap_or(mean);
            let next = level + EMA_WEIGHT * (mean - level);
            (rewards.iter().map(|reward| reward - level).collect(), Some(next))
        }
        // A lone rollout has nobody to be compared with.
        Baseline::LeaveOneOut if rewards.len() < 2 => (vec![0.0; rewards.len()], None),
        Baseline::LeaveOneOut => {
            let variance = rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let scale = variance.sqrt().max(DEVIATION_FLOOR);
            // reward - mean of the others = (reward - mean) * n / (n - 1)
            let advantage = |reward: &f64| (reward - mean) * count / (count - 1.0) / scale;
            (rewards.iter().map(advantage).collect(), None)
        }
    }
}

/// Log-probability of each episode under the policy, over the masked distribution.
///
/// # Errors
/// From the tensor library only.
pub fn log_probabilities(
    policy: &impl Policy,
    decisions: &Decisions,
    episodes: &[Vec<usize>],
) -> Result<Vec<f64>, PolicyError> {
    let (log_probabilities, chosen, _) = distribution(policy, decisions, episodes)?;
    let sums = (log_probabilities * chosen)?.sum((1, 2))?.to_vec1::<f32>()?;
    Ok(sums.into_iter().map(f64::from).collect())
}

/// `[episodes, steps, actions]`: masked log-probabilities, the chosen actions as ones, the legal ones as ones.
fn distribution(
    policy: &impl Policy,
    decisions: &Decisions,
    episodes: &[Vec<usize>],
) -> Result<(Tensor, Tensor, Tensor), PolicyError> {
    let dims = (episodes.len(), decisions.features.len(), decisions.actions);
    let (mut legal, mut chosen) = (Vec::new(), Vec::new());
    for episode in episodes {
        for (mask, &action) in decisions.masks(episode).iter().zip(episode) {
            legal.extend(mask.iter().map(|&allowed| if allowed { 1.0_f32 } else { 0.0 }));
            chosen.extend((0..decisions.actions).map(|index| if index == action { 1.0_f32 } else { 0.0 }));
        }
    }
    let legal = Tensor::from_vec(legal, dims, &Device::Cpu)?;
    let chosen = Tensor::from_vec(chosen, dims, &Device::Cpu)?;
    let logits = policy.logits(decisions, episodes)?;
    Ok((policy::masked_log_probabilities(&logits, &legal)?, chosen, legal))
}

impl<P: Policy> Reinforce<P> {
    /// Gives the policy to an optimiser: Adam without weight decay over *all* of its tensors.
    ///
    /// # Errors
    /// From the tensor library only.
    pub fn new(policy: P, learning: Learning) -> Result<Self, PolicyError> {
        let variables = policy.parameters().iter().map(|(_, var)| var.clone()).collect();
        let settings =
            ParamsAdamW { lr: learning.learning_rate, weight_decay: 0.0, ..ParamsAdamW::default() };
        let optimiser = AdamW::new(variables, settings)?;
        Ok(Self { policy, optimiser, learning, moving_average: None })
    }

    /// The policy as learned so far.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// One policy update from one batch of rollouts. `rewards` belongs to `episodes`, one by one.
    ///
    /// # Errors
    /// [`PolicyError::NotFinite`] leaves the policy as it was.
    pub fn learn(
        &mut self,
        decisions: &Decisions,
        episodes: &[Vec<usize>],
        rewards: &[f64],
    ) -> Result<Learned, PolicyError> {
        let (advantages, moving_average) = advantages(rewards, self.learning.baseline, self.moving_average);
        if episodes.is_empty() || decisions.features.is_empty() {
            return Ok(Learned { advantages, entropy: 0.0, gradient_norm: 0.0 });
        }
        let count = episodes.len() as f64;
        let (log_probabilities, chosen, legal) = distribution(&self.policy, decisions, episodes)?;
        let credit: Vec<f32> = advantages.iter().map(|advantage| *advantage as f32).collect();
        let credit = Tensor::from_vec(credit, (episodes.len(), 1, 1), &Device::Cpu)?;
        let gain = log_probabilities.mul(&chosen)?.broadcast_mul(&credit)?.sum_all()?;
        // Illegal actions have probability exactly 0 and a finite log-probability: they add nothing.
        let entropies = log_probabilities.exp()?.mul(&log_probabilities)?.neg()?.sum(D::Minus1)?;
        let free = legal
            .sum(D::Minus1)?
            .gt(1.5_f32)?
            .to_dtype(candle_core::DType::F32)?
            .sum_all()?
            .to_scalar::<f32>()?;
        let entropy = entropies.sum_all()?;
        let loss =
            (gain.affine(-1.0 / count, 0.0)? - entropy.affine(self.learning.entropy_weight / count, 0.0)?)?;
        let mut gradients = loss.backward()?;
        let mut squares = 0.0;
        for (_, var) in self.policy.parameters().iter() {
            if let Some(gradient) = gradients.get(var) {
                squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return Err(PolicyError::NotFinite);
        }
        if norm > self.learning.gradient_limit {
            let scale = self.learning.gradient_limit / norm;
            for (_, var) in self.policy.parameters().iter() {
                if let Some(gradient) = gradients.get(var) {
                    let clipped = gradient.affine(scale, 0.0)?;
                    gradients.insert(var, clipped);
                }
            }
        }
        self.optimiser.step(&gradients)?;
        self.moving_average = moving_average;
        let entropy = f64::from(entropy.to_scalar::<f32>()?) / f64::from(free.max(1.0));
        Ok(Learned { advantages, entropy, gradient_norm: norm })
    }
}

#[cfg(test)]
mod tests {
    use super::super::preset::{EDGE_REMOVAL, EDGE_SHRINKAGE};
    use super::super::random::{self, stream};
    use super::super::removal_policy::{KEEP, REMOVE, RemovalPolicy};
    use super::super::shrinkage_policy::{ACTIONS, ShrinkagePolicy};
    use super::super::state::FEATURES;
    use super::*;

    /// Steps that differ in position and one more feature; at most `limit` removals.
    fn removals(steps: usize, limit: usize) -> Decisions {
        let legal = move |earlier: &[usize]| {
            let removed = earlier.iter().filter(|&&action| action == REMOVE).count();
            vec![removed < limit, true]
        };
        Decisions { features: features(steps), actions: 2, legal: Box::new(legal) }
    }

    fn shrinkages(steps: usize) -> Decisions {
        let legal = |earlier: &[usize]| (0..10).map(|action| earlier.len() != 1 || action % 2 == 1).collect();
        Decisions { features: features(steps), actions: ACTIONS, legal: Box::new(legal) }
    }

    fn features(steps: usize) -> Vec<Vec<f32>> {
        let mut rng = stream(7, "features");
        let row = |step: usize| {
            let mut row = vec![0.0; FEATURES];
            row.fill_with(|| random::uniform(&mut rng) as f32);
            row[0] = step as f32 / steps as f32;
            row
        };
        (0..steps).map(row).collect()
    }

    fn removal_policy(seed: u64) -> RemovalPolicy {
        RemovalPolicy::new(2.0, &mut stream(seed, "policy")).unwrap()
    }

    fn shrinkage_policy(seed: u64) -> ShrinkagePolicy {
        ShrinkagePolicy::new(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0], &mut stream(seed, "policy"))
            .unwrap()
    }

    fn every_parameter_learns(policy: &impl Policy, decisions: &Decisions) {
        let episodes = policy.sample(decisions, 3, &mut stream(1, "sample")).unwrap();
        let (log_probabilities, chosen, _) = distribution(policy, decisions, &episodes).unwrap();
        let gradients = (log_probabilities * chosen).unwrap().sum_all().unwrap().backward().unwrap();
        for (name, var) in policy.parameters().iter() {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("`{name}` has no gradient"));
            let largest = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(largest > 0.0 && largest.is_finite(), "`{name}`: {largest}");
        }
    }

    #[test]
    fn every_parameter_of_both_policies_receives_gradient() {
        every_parameter_learns(&removal_policy(1), &removals(5, 5));
        every_parameter_learns(&shrinkage_policy(1), &shrinkages(5));
        assert_eq!(removal_policy(1).parameters().iter().count(), 4 * 4 + 2, "four LSTM layers and the head");
        assert_eq!(shrinkage_policy(1).parameters().iter().count(), 2 * 4 + 2);
    }

    fn all_episodes(steps: usize, actions: usize) -> Vec<Vec<usize>> {
        let count = actions.pow(steps as u32);
        (0..count)
            .map(|code| (0..steps).map(|step| code / actions.pow(step as u32) % actions).collect())
            .collect()
    }

    #[test]
    fn probabilities_of_all_legal_episodes_add_up_to_one_and_illegal_ones_have_none() {
        let (policy, decisions) = (removal_policy(2), removals(4, 2));
        let episodes = all_episodes(4, 2);
        let mut sum = 0.0;
        for (episode, value) in
            episodes.iter().zip(log_probabilities(&policy, &decisions, &episodes).unwrap())
        {
            let removed = episode.iter().filter(|&&action| action == REMOVE).count();
            assert_eq!(value < -1e6, removed > 2, "{episode:?}: {value}");
            sum += value.exp();
        }
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        let (policy, decisions) = (shrinkage_policy(2), shrinkages(3));
        let values = log_probabilities(&policy, &decisions, &all_episodes(3, 10)).unwrap();
        let sum: f64 = values.iter().map(|value| value.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }

    #[test]
    fn samples_are_as_frequent_as_their_probability_says() {
        let (policy, decisions) = (removal_policy(3), removals(2, 1));
        let drawn = policy.sample(&decisions, 4000, &mut stream(5, "many")).unwrap();
        let share = drawn.iter().filter(|episode| episode[0] == REMOVE).count() as f64 / 4000.0;
        let expected = log_probabilities(&policy, &decisions, &[vec![REMOVE, KEEP]]).unwrap()[0].exp();
        assert!((share - expected).abs() < 0.02, "{share} {expected}");
        let policy = shrinkage_policy(3);
        let drawn = policy.sample(&shrinkages(2), 4000, &mut stream(5, "many")).unwrap();
        let pair = [vec![8, 7]];
        let share = drawn.iter().filter(|episode| **episode == pair[0]).count() as f64 / 4000.0;
        let expected = log_probabilities(&policy, &shrinkages(2), &pair).unwrap()[0].exp();
        assert!((share - expected).abs() < 0.02, "{share} {expected}");
        assert!(drawn.iter().all(|episode| episode[1] % 2 == 1), "the mask holds");
    }

    #[test]
    fn shrinkage_is_autoregressive() {
        let episodes = [vec![0, 5, 5], vec![9, 5, 5]];
        let logits = shrinkage_policy(1).logits(&shrinkages(3), &episodes).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(logits[0][0], logits[1][0], "nothing precedes the first step");
        assert_ne!(logits[0][1], logits[1][1]);
        assert_ne!(logits[0][2], logits[1][2], "the first action is remembered");
    }

    #[test]
    fn sampling_depends_on_the_seed_only() {
        let sample =
            |seed| removal_policy(4).sample(&removals(12, 12), 5, &mut stream(seed, "sample")).unwrap();
        assert_eq!(sample(1), sample(1));
        assert_ne!(sample(1), sample(2));
        let sample =
            |seed| shrinkage_policy(4).sample(&shrinkages(12), 5, &mut stream(seed, "sample")).unwrap();
        assert_eq!(sample(1), sample(1));
        assert_ne!(sample(1), sample(2));
    }

    #[test]
    fn a_saved_policy_acts_the_same_on_networks_of_any_length() {
        let (first, second) = (shrinkage_policy(1), shrinkage_policy(2));
        let bytes = first.parameters().save().unwrap();
        second.parameters().load(&bytes).unwrap();
        for steps in [2, 9] {
            let sample =
                |policy: &ShrinkagePolicy| policy.sample(&shrinkages(steps), 3, &mut stream(1, "s")).unwrap();
            assert_eq!(sample(&first), sample(&second));
        }
    }

    #[test]
    fn a_policy_file_that_does_not_fit_changes_nothing() {
        let policy = shrinkage_policy(1);
        let before = policy.parameters().save().unwrap();
        let other = removal_policy(1).parameters().save().unwrap();
        for bytes in [&other[..], &before[..before.len() - 1], b"", &vec![0; policy::MAX_POLICY_BYTES + 1]] {
            assert!(matches!(policy.parameters().load(bytes), Err(PolicyError::File(_))));
        }
        assert_eq!(policy.parameters().save().unwrap(), before);
    }

    #[test]
    fn each_rollout_gets_its_own_credit() {
        let decisions = removals(6, 6);
        let (good, bad) = (vec![REMOVE, REMOVE, REMOVE, KEEP, KEEP, KEEP], vec![KEEP; 6]);
        for baseline in [Baseline::LeaveOneOut, Baseline::MovingAverage] {
            let learning = Learning { baseline, ..EDGE_REMOVAL };
            let mut reinforce = Reinforce::new(removal_policy(6), learning).unwrap();
            let episodes = [good.clone(), bad.clone()];
            let before = log_probabilities(reinforce.policy(), &decisions, &episodes).unwrap();
            let learned = reinforce.learn(&decisions, &episodes, &[1.0, 0.0]).unwrap();
            assert!(learned.advantages[0] > 0.0 && learned.advantages[1] < 0.0);
            let after = log_probabilities(reinforce.policy(), &decisions, &episodes).unwrap();
            assert!(after[0] > before[0] && after[1] < before[1], "{before:?} {after:?}");
        }
    }

    #[test]
    fn leave_one_out_compares_with_the_others_only() {
        let (values, _) = advantages(&[1.0, 0.0, 0.5], Baseline::LeaveOneOut, None);
        let deviation = 0.5;
        assert_eq!(values.len(), 3);
        for (value, expected) in values.iter().zip([0.75, -0.75, 0.0]) {
            assert!((value - expected / deviation).abs() < 1e-9, "{values:?}");
        }
        assert_eq!(advantages(&[0.3; 4], Baseline::LeaveOneOut, None).0, vec![0.0; 4]);
        assert_eq!(advantages(&[0.3], Baseline::LeaveOneOut, None).0, vec![0.0]);
        let (noise, _) = advantages(&[0.500, 0.501], Baseline::LeaveOneOut, None);
        assert!(noise[0].abs() < 0.1, "noise is not blown up: {noise:?}");
    }

    #[test]
    fn the_moving_average_starts_at_the_first_batchs_mean() {
        let (values, next) = advantages(&[0.2, 0.4], Baseline::MovingAverage, None);
        assert!((values[0] + 0.1).abs() < 1e-12 && (next.unwrap() - 0.3).abs() < 1e-12);
        let (values, next) = advantages(&[0.8, 0.8], Baseline::MovingAverage, next);
        assert!((values[0] - 0.5).abs() < 1e-12 && (next.unwrap() - 0.4).abs() < 1e-12);
    }

    /// Mean rewards of the first three and of the last three of `updates` batches of five.
    fn learn<P: Policy>(
        policy: P,
        learning: Learning,
        decisions: &Decisions,
        updates: usize,
        seed: u64,
        reward: impl Fn(&[usize]) -> f64,
    ) -> (f64, f64) {
        let mut reinforce = Reinforce::new(policy, learning).unwrap();
        let mut rng = stream(seed, "rollouts");
        let mut means = Vec::new();
        for _ in 0..updates {
            let episodes = reinforce.policy().sample(decisions, 5, &mut rng).unwrap();
            let rewards: Vec<f64> = episodes.iter().map(|episode| reward(episode)).collect();
            means.push(rewards.iter().sum::<f64>() / 5.0);
            reinforce.learn(decisions, &episodes, &rewards).unwrap();
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        (mean(&means[..3]), mean(&means[updates - 3..]))
    }

    /// Removing the early half is free and shortens the network; removing the late half ruins it.
    fn known_best(episode: &[usize]) -> f64 {
        let half = episode.len() / 2;
        let count =
            |actions: &[usize], wanted| actions.iter().filter(|&&action| action == wanted).count() as f64;
        (count(&episode[..half], REMOVE) + count(&episode[half..], KEEP)) / episode.len() as f64
    }

    #[test]
    fn removal_finds_the_known_best_network_in_few_updates() {
        let decisions = removals(10, 10);
        let run = |seed| learn(removal_policy(seed), EDGE_REMOVAL, &decisions, 30, seed, known_best);
        let ends: Vec<(f64, f64)> = (0..3).map(run).collect();
        assert!(ends.iter().all(|(start, end)| *start < 0.65 && *end > 0.8), "{ends:?}");
    }

    #[test]
    fn shrinkage_finds_the_known_best_widths_in_few_updates() {
        // The first half wants 0.4, the rest 1.0; guessing at random gives 0.55.
        let reward = |episode: &[usize]| {
            let best = |step| if step < episode.len() / 2 { 3 } else { 9 };
            let miss: usize =
                episode.iter().enumerate().map(|(step, action)| action.abs_diff(best(step))).sum();
            1.0 - miss as f64 / episode.len() as f64 / 6.0
        };
        let decisions = shrinkages(6);
        let run = |seed| learn(shrinkage_policy(seed), EDGE_SHRINKAGE, &decisions, 40, seed, reward);
        let ends: Vec<(f64, f64)> = (0..3).map(run).collect();
        assert!(ends.iter().all(|(start, end)| *start < 0.65 && *end > start + 0.1), "{ends:?}");
    }
}
