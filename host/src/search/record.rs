//! What the journal holds: one record per line of `trials.jsonl`, complete enough for the report, the cache and a replay.
//!
//! Only plain data: files are `crate::run::journal`'s. A change of a field's meaning raises [`SCHEMA`].

use serde::{Deserialize, Serialize};

use super::answer::{Measured, Rung};
use super::constraint::{Limits, Metric, Resources};
use super::genome::Genome;
use super::reinforce::Learned;
use super::reward::Reward;
use super::settings::Settings;

/// Version of the records, and of what is decided from them. 3: candidates are genomes, batches are lines of their own, there are
/// no stages. 4: promotions in fours, late candidates, aims below the limit: a journal of 3 could be read and would be another search.
pub const SCHEMA: u32 = 4;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Started(Box<Started>),
    /// A batch begins.
    Batch(Batch),
    /// What the board said of a structure that was tried on the way to the limits and left.
    Measured(Tried),
    /// One candidate.
    Trial(Box<Trial>),
    /// One batch of a searcher, after its trials: its policy has learned from them.
    Update(Update),
    /// The end of the search.
    Finished(Finished),
    /// The search stopped; nothing was scored by it.
    Fault(Stopped),
    /// The search goes on.
    Resumed(Resumed),
}

/// What a search is about. A resumed search must agree with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What decides the search.
    pub settings: Settings,
    /// Digest of the teacher's network.
    pub teacher_digest: String,
    /// Accuracy of the teacher on `validation_search`.
    pub teacher_accuracy: f64,
    /// Accuracy of guessing.
    pub chance: f64,
    /// What the teacher costs; relative limits refer to it.
    pub teacher: Resources,
    /// The limits in base units.
    pub limits: Limits,
    /// The teacher's units, in execution order.
    pub units: Vec<String>,
    /// The teacher's shrinkable groups, in execution order.
    pub groups: Vec<String>,
    /// SHA-256 of the removal and the shrinkage policy that the search starts from, where they were given.
    pub policies_from: [Option<String>; 2],
}

/// Why a batch was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The simple students, which come first.
    Simple,
    /// A searcher's proposals.
    Explore,
    /// The most promising, trained.
    Promote,
    /// The best of those, trained longer, to choose the finalists.
    Choose,
}

/// A batch of candidates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// 0, 1, 2 ... over the whole search.
    pub number: usize,
    /// What the batch is for.
    pub purpose: Purpose,
    /// Who proposed, by its name; of promotions `promotion`.
    pub searcher: String,
    /// The budget's clock when it was decided.
    pub elapsed_ns: u64,
    /// Share of the budget that was spent then, 0 to 1.
    pub spent: f64,
    /// How much training each of its candidates gets.
    pub rung: Rung,
    /// Candidates in it.
    pub candidates: usize,
}

/// A structure that was measured and left for another that is nearer to the limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Identity of the structure.
    pub digest: String,
    /// What the board said.
    pub measured: Measured,
}

/// A step of the evaluation at which a student can prove infeasible, or its worth unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The genome gives no network.
    Surgery,
    /// Its narrowest form is beyond a limit.
    Fit,
    /// The board cannot run it.
    Measure,
    /// It cannot be trained.
    Train,
}

/// How far a candidate came. A fault is no outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TrialOutcome {
    /// Looked at: measured where that was needed, trained as its rung says, validated.
    Trained {
        /// On the images of `validation_search` that its rung looks at.
        accuracy: f64,
        /// With the teacher, on the same images.
        agreement: f64,
        /// Of the labels, nats.
        nll: f64,
        /// Tensors that had nothing to inherit.
        fresh_tensors: Vec<String>,
    },
    /// The budget ended while it was measured or trained: it was given up, not scored and not learned from.
    Late,
    /// Too far beyond a limit to be worth training; without a measurement where graph costs already said so.
    Skipped,
    /// The student's own fault.
    Infeasible {
        /// At which step of the evaluation.
        step: Step,
        /// For people.
        reason: String,
    },
    /// The world cannot tell: not scored, and not learned from.
    Unknown {
        /// At which step of the evaluation.
        step: Step,
        /// For people.
        reason: String,
    },
}

/// One candidate with everything known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// 0, 1, 2 ... over the whole search.
    pub index: u64,
    /// Number of its batch.
    pub batch: usize,
    /// Why it was judged.
    pub purpose: Purpose,
    /// Who proposed it.
    pub searcher: String,
    /// Position within the batch.
    pub rollout: usize,
    /// What it is.
    pub genome: Genome,
    /// The limit that kept it from being larger, where it was fitted to the limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Metric>,
    /// Identity of the structure; empty if there is none.
    pub digest: String,
    /// Identity of structure and inherited layers; empty if there is none.
    pub lineage: String,
    /// Costs, with the measurement if one was made.
    pub resources: Option<Resources>,
    /// How far it came.
    #[serde(flatten)]
    pub outcome: TrialOutcome,
    /// The rung of its batch.
    pub rung: Rung,
    /// Score and parts, at the batch's relaxation; `None` where the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Reward>,
    /// Largest relative violation of the limits; of the static ones alone if it was not measured.
    pub violation: f64,
    /// Whether all is known that limits need, and it meets all of them.
    pub feasible: bool,
    /// Whether everything came from the cache.
    pub known: bool,
    /// Seconds of measuring; 0 if the answer was known.
    pub measure_s: f64,
    /// Seconds of training: its part of the batch's; 0 if the answer was known.
    pub train_s: f64,
}

impl Trial {
    /// Validation accuracy, if it was looked at.
    pub fn accuracy(&self) -> Option<f64> {
        match self.outcome {
            TrialOutcome::Trained { accuracy, .. } => Some(accuracy),
            TrialOutcome::Late
            | TrialOutcome::Skipped
            | TrialOutcome::Infeasible { .. }
            | TrialOutcome::Unknown { .. } => None,
        }
    }

    /// The quality part of its reward, if it was looked at: comparable within one rung.
    pub fn quality(&self) -> Option<f64> {
        self.reward.as_ref().and_then(|reward| reward.parts.quality)
    }

    /// Whether it was trained, and not only looked at with what it inherited.
    pub fn was_trained(&self) -> bool {
        self.accuracy().is_some() && self.rung != Rung::Inherited
    }
}

/// One batch, after it was learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Number of the batch.
    pub batch: usize,
    /// Whose batch.
    pub searcher: String,
    /// The relaxation.
    pub epsilon: f64,
    /// Candidates in it.
    pub trials: usize,
    /// Mean reward of those that have one; 0 if none has.
    pub mean_reward: f64,
    /// What the policy did; `None` for searchers without one.
    pub learned: Option<Learned>,
}

/// The end of the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The budget's clock when its last batch was done.
    pub elapsed_ns: u64,
    /// Batches so far.
    pub batches: usize,
    /// Candidates, promotions included.
    pub trials: usize,
    /// Of them: could not be students: rare, counted and reported (docs/method.md#action-space).
    pub infeasible: usize,
    /// Of them: not trained.
    pub skipped: usize,
    /// Of them: the world could not tell.
    pub unknown: usize,
    /// Rank correlation of looks without training with trained ones, where enough candidates had both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrained_correlation: Option<f64>,
    /// Why it ended, for people.
    pub reason: String,
}

/// Why the search stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// For people.
    pub reason: String,
    /// The budget's clock.
    pub elapsed_ns: u64,
}

/// That the search goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// Whole lines found.
    pub records: usize,
    /// The budget's clock.
    pub elapsed_ns: u64,
}
