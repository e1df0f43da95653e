//! The one seam between the search and the world: boards, trainers, the clock and Ctrl-C are behind [`Evaluator`]. Tasks go out
//! as plain data, and come back judged, in any order.
//!
//! One machine's part is [`super::hands`]. Nothing in this folder may measure, train, read a clock or a file in any other way.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::{Fault, Measured, Outcome, Rung, Trained};
use super::base::Base;
use super::constraint::{Limits, Resources};
use super::digits::tidy;
use super::fit::is_off;
use super::genome::Genome;
use super::job::Job;
use super::reward::Scoring;
use crate::model_io::Weights;

/// One question about one candidate: plain data, so that it can be asked of any machine that has the base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its place in the order of asking.
    pub ticket: usize,
    /// What the candidate is.
    pub genome: Genome,
    /// [`Base::digest`](super::base::Base::digest) of what the genome applies to.
    pub base: String,
    /// [`Network::digest`](crate::network::Network::digest) of the candidate: what latency depends on.
    pub digest: String,
    /// Identity of structure *and* of which layers were kept, and whose weights: what accuracy depends on.
    pub lineage: String,
    /// How its weights begin.
    pub start: Start,
    /// How much training.
    pub rung: Rung,
    /// For re-initialised tensors, batches and augmentation.
    pub seed: u64,
    /// Whether the board is asked.
    pub board: Board,
    /// Which kind of board, engine, threads: measurements of another are no answer.
    pub board_key: String,
    /// Whether it is trained, once it is measured.
    pub gate: Gate,
}

/// How a student's weights begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Slices of its base's.
    Inherited,
    /// Drawn by its seed; the `paper` preset.
    Fresh,
}

/// What decides from a measurement whether a candidate is trained: what the search would say, as data that goes with the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// How students are scored.
    pub scoring: Scoring,
    /// The limits in base units.
    pub limits: Limits,
    /// How far they are relaxed.
    pub epsilon: f64,
    /// What the candidate costs without a board's word, and that word where it is known.
    pub costs: Resources,
    /// What it is fitted to, as long as it may be fitted anew to what the board says: it is then asked about again.
    pub aim: Option<Limits>,
    /// Whether its training is known already.
    pub trained: bool,
}

impl Gate {
    /// Whether the candidate goes on to its training.
    pub fn admits(&self, measured: Option<&Measured>) -> bool {
        let measured = measured.copied().map(tidy).or(self.costs.measured);
        let costs = Resources { measured, ..self.costs };
        let again = self.costs.measured.is_none() && self.aim.as_ref().is_some_and(|aim| is_off(aim, &costs));
        let parts = self.scoring.parts(&self.limits, &costs, None);
        !self.trained && !again && self.scoring.worth_training(&parts, self.epsilon)
    }
}

/// Whether a task needs the board's word.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Board {
    /// A measurement of an equal network is known.
    Known(Measured),
    /// It is to be measured.
    Asked,
    /// No limit depends on it.
    Spared,
}

/// What became of a [`Task`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// The measurement: the known one, or a new one; `None` when none was needed.
    pub measured: Option<Outcome<Measured>>,
    /// Seconds that measuring took; 0 when it was known.
    pub measure_s: f64,
    /// The training; `None` when the measurement was not admitted, or it came too late.
    pub trained: Option<Outcome<Trained>>,
    /// Whether it was given up at the deadline.
    pub late: bool,
}

impl Evaluated {
    /// Not trained yet.
    pub fn measured(measured: Option<Outcome<Measured>>, measure_s: f64) -> Self {
        Self { measured, measure_s, trained: None, late: false }
    }

    /// Given up before it was measured.
    pub fn late() -> Self {
        Self { measured: None, measure_s: 0.0, trained: None, late: true }
    }

    /// What its training came to; `None` if it was not done in time.
    pub fn take(&mut self, trained: Option<Outcome<Trained>>) {
        self.late = trained.is_none();
        self.trained = trained;
    }

    /// Whether it goes on to its training.
    pub fn is_admitted(&self, gate: &Gate) -> bool {
        match &self.measured {
            _ if self.late => false,
            None => gate.admits(None),
            Some(Outcome::Done(measured)) => gate.admits(Some(measured)),
            Some(Outcome::Infeasible(_) | Outcome::Unknown(_)) => false,
        }
    }
}

/// Whoever judges candidates: one machine or many, which complete what they were given in any order.
pub trait Evaluator {
    /// Takes a base that tasks will be about; one that is known already is no error.
    ///
    /// # Errors
    /// A [`Fault`] when it cannot be kept.
    fn take(&mut self, base: &Rc<Base>) -> Result<(), Fault>;

    /// Takes tasks.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame.
    fn submit(&mut self, tasks: Vec<Task>) -> Result<(), Fault>;

    /// The next that is completed, with its ticket; waits for it.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame; what was submitted is then forgotten.
    fn complete(&mut self) -> Result<(usize, Evaluated), Fault>;

    /// The weights that the training of this job gave, or gives. Asked when a searcher goes on from a candidate.
    ///
    /// # Errors
    /// A [`Fault`] when the world is to blame.
    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault>;

    /// At which reading of the clock measurements and trainings in flight are given up; `None`: never.
    fn give_up_at(&mut self, deadline: Option<Duration>);

    /// Time spent on this search so far, over all its resumed parts.
    fn elapsed(&self) -> Duration;

    /// Whether the user asked to stop.
    fn cancelled(&self) -> bool;
}

/// Sends tasks out and gives their answers in the order of asking, in whatever order they came: so a seed repeats on any number
/// of hands.
///
/// # Errors
/// The evaluator's faults, and an answer that nobody asked for.
pub fn ask(evaluator: &mut dyn Evaluator, tasks: Vec<Task>) -> Result<Vec<Evaluated>, Fault> {
    let mut answers: BTreeMap<usize, Option<Evaluated>> =
        tasks.iter().map(|task| (task.ticket, None)).collect();
    evaluator.submit(tasks)?;
    for _ in 0..answers.len() {
        let (ticket, answer) = evaluator.complete()?;
        match answers.get_mut(&ticket) {
            Some(place @ None) => *place = Some(answer),
            Some(Some(_)) | None => {
                return Err(Fault::Training(format!("an answer to ticket {ticket}, which nobody waits for")));
            }
        }
    }
    Ok(answers.into_values().flatten().collect())
}
