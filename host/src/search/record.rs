//! What the journal holds: one record per line of `trials.jsonl`, complete enough for the report, the cache and a replay.
//!
//! Only plain data: files are `crate::run::journal`'s. A change of a field's meaning raises [`SCHEMA`].

use serde::{Deserialize, Serialize};

use super::constraint::{Limits, Resources};
use super::kinds::{BaseKind, SearcherKind, StageKind};
use super::laboratory::Rung;
use super::reinforce::Learned;
use super::reward::Reward;
use super::settings::Settings;

/// Version of the records. 2: a time budget's last stage goes on promoting, so that older journals lead elsewhere.
pub const SCHEMA: u32 = 2;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Started(Box<Started>),
    /// One candidate.
    Trial(Box<Trial>),
    /// One batch of a searcher, after its trials: what it did is now part of the policy.
    Update(Update),
    /// The end of a stage.
    Stage(StageFinished),
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
    /// All of them.
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
    /// The teacher's units, in the order of keep flags.
    pub units: Vec<String>,
    /// The teacher's shrinkable groups, in the order of factors.
    pub groups: Vec<String>,
    /// SHA-256 of the removal and the shrinkage policy that the search starts from, where they were given.
    pub policies_from: [Option<String>; 2],
}

/// What was done to the base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actions {
    /// One keep flag per unit.
    Removal(Vec<bool>),
    /// One width factor per shrinkable group.
    Shrinkage(Vec<f64>),
}

/// A step of the ladder at which a student can prove infeasible, or its worth unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The actions give no network.
    Surgery,
    /// The board cannot run it.
    Measure,
    /// It cannot be trained.
    Train,
}

/// How far a candidate came. A fault is no outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TrialOutcome {
    /// Measured, trained, validated.
    Trained {
        /// On `validation_search`.
        accuracy: f64,
        /// Tensors that had nothing to inherit.
        fresh_tensors: Vec<String>,
    },
    /// Too far beyond a limit to be worth training; without a measurement where graph costs already said so.
    Skipped,
    /// The student's own fault.
    Infeasible {
        /// Where.
        step: Step,
        /// Why.
        reason: String,
    },
    /// The world cannot tell: not scored, and not learned from.
    Unknown {
        /// Where.
        step: Step,
        /// Why.
        reason: String,
    },
}

/// One candidate with everything known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// 0, 1, 2 ... over the whole search.
    pub index: u64,
    /// The stage.
    pub stage: StageKind,
    /// Who proposed it.
    pub searcher: SearcherKind,
    /// Batch of that searcher in this stage; `None` for a promotion: trained again at a higher rung.
    pub update: Option<usize>,
    /// Position within the batch.
    pub rollout: usize,
    /// The budget's clock when its batch began.
    pub elapsed_ns: u64,
    /// What the actions were applied to.
    pub base: BaseKind,
    /// The actions.
    pub actions: Actions,
    /// Identity of the structure; empty if there is none.
    pub digest: String,
    /// Identity of structure and inherited layers; empty if there is none.
    pub lineage: String,
    /// Costs, with the measurement if one was made.
    pub resources: Option<Resources>,
    /// How far it came.
    #[serde(flatten)]
    pub outcome: TrialOutcome,
    /// The rung of this batch.
    pub rung: Rung,
    /// Score and parts, under this stage's limits at the batch's relaxation; `None` where the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Reward>,
    /// Largest relative violation of the user's limits; of the static ones alone if it was not measured.
    pub violation: f64,
    /// Whether it was measured and meets all of the user's limits.
    pub feasible: bool,
    /// Whether everything came from the cache.
    pub known: bool,
    /// Seconds of measuring; 0 if the answer was known.
    pub measure_s: f64,
    /// Seconds of training: its part of the batch's; 0 if the answer was known.
    pub train_s: f64,
}

impl Trial {
    /// Validation accuracy, if it was trained.
    pub fn accuracy(&self) -> Option<f64> {
        match self.outcome {
            TrialOutcome::Trained { accuracy, .. } => Some(accuracy),
            TrialOutcome::Skipped | TrialOutcome::Infeasible { .. } | TrialOutcome::Unknown { .. } => None,
        }
    }
}

/// One batch, after it was learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The stage.
    pub stage: StageKind,
    /// Whose batch.
    pub searcher: SearcherKind,
    /// Batch of that searcher in this stage.
    pub update: usize,
    /// The budget's clock when the batch began.
    pub elapsed_ns: u64,
    /// Share of the stage's budget that was spent then.
    pub spent: f64,
    /// The relaxation.
    pub epsilon: f64,
    /// Candidates in it.
    pub trials: usize,
    /// Mean reward of those that have one; 0 if none has.
    pub mean_reward: f64,
    /// What the policy did; `None` for searchers without one.
    pub learned: Option<Learned>,
}

/// The end of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageFinished {
    /// The stage.
    pub stage: StageKind,
    /// The budget's clock when its last batch was done, or as it was last read between promotions.
    pub elapsed_ns: u64,
    /// Batches.
    pub updates: usize,
    /// Candidates.
    pub trials: usize,
    /// Of them: could not be students: rare, counted and reported (docs/method.md#action-space).
    pub infeasible: usize,
    /// Of them: not trained.
    pub skipped: usize,
    /// Of them: the world could not tell.
    #[serde(default)]
    pub unknown: usize,
    /// Lineage of the best student; `None` when nothing beat the base.
    pub winner: Option<String>,
    /// Its shrinkable groups, in the order of the next stage's factors.
    pub groups: Vec<String>,
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
