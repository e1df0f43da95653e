//! One machine's part of the evaluation: a board to measure on and a trainer, and a desk where tasks come in and answers go out.
//!
//! Two real pairs of hands: the live ones (`crate::compress`) and [`super::replay::Replay`], which answer from a recorded
//! journal.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Fault, Measured, Outcome, Trained};
use super::base::Base;
use super::evaluator::{Board, Evaluated, Evaluator, Gate, Start, Task};
use super::job::{Job, StartingWeights};
use crate::model_io::Weights;
use crate::network::Network;
use crate::network::surgery::Surgery;

/// A task with its network.
#[derive(Clone, Debug)]
pub struct Work {
    /// The training that follows if the measurement is admitted; holds network and digest.
    pub job: Job,
    /// Whether the board is asked.
    pub board: Board,
    /// Whether it is trained, once it is measured.
    pub gate: Gate,
}

/// What one machine does.
pub trait Hands {
    /// Measures networks (by digest) with seeded random weights, in order; `None` for those that came too late.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame.
    fn measure(&mut self, networks: &[(&str, &Network)]) -> Result<Vec<Option<Outcome<Measured>>>, Fault>;

    /// Trains and validates, in order; `None` for those that were not done in time. Keep the trained weights by `lineage`
    /// and rung: `weights` may ask for them.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame.
    fn train(&mut self, jobs: &[&Job]) -> Result<Vec<Option<Outcome<Trained>>>, Fault>;

    /// Measures and trains: [`in_turns`] where board and trainer share a machine; hands that can do both at once do.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame.
    fn evaluate(&mut self, tasks: &[Work]) -> Result<Vec<Evaluated>, Fault>
    where
        Self: Sized,
    {
        in_turns(self, tasks)
    }

    /// As [`Evaluator::weights`].
    ///
    /// # Errors
    /// A [`Fault`] when the world is to blame.
    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault>;

    /// As [`Evaluator::give_up_at`].
    fn give_up_at(&mut self, deadline: Option<Duration>);

    /// As [`Evaluator::elapsed`].
    fn elapsed(&self) -> Duration;

    /// As [`Evaluator::cancelled`].
    fn cancelled(&self) -> bool;
}

/// One machine as an evaluator: it does what it is given at once.
pub struct Desk<'a, H> {
    hands: &'a mut H,
    /// By [`Base::digest`].
    bases: HashMap<String, Rc<Base>>,
    done: VecDeque<(usize, Evaluated)>,
}

impl<'a, H: Hands> Desk<'a, H> {
    /// A desk with nothing on it.
    pub fn new(hands: &'a mut H) -> Self {
        Self { hands, bases: HashMap::new(), done: VecDeque::new() }
    }

    /// The task with the network and the start that follow from its genome.
    fn work(&self, task: Task) -> Result<Work, Fault> {
        let wrong = |what: String| Fault::Training(format!("candidate {}: {what}", task.lineage));
        let base = self.bases.get(&task.base).ok_or_else(|| wrong("its base was never sent".into()))?;
        let Surgery { network, inheritance } = base.student(&task.genome).map_err(wrong)?;
        if network.digest() != task.digest {
            return Err(wrong(format!("expected structure {}, got {}", task.digest, network.digest())));
        }
        let start = match task.start {
            Start::Fresh => StartingWeights::Fresh,
            Start::Inherited => StartingWeights::Inherited { source: Arc::clone(&base.weights), inheritance },
        };
        let Task { digest, lineage, rung, seed, board, gate, .. } = task;
        Ok(Work { job: Job { digest, lineage, network, start, rung, seed }, board, gate })
    }
}

impl<H: Hands> Evaluator for Desk<'_, H> {
    fn take(&mut self, base: &Rc<Base>) -> Result<(), Fault> {
        self.bases.insert(base.digest.clone(), Rc::clone(base));
        Ok(())
    }

    fn submit(&mut self, tasks: Vec<Task>) -> Result<(), Fault> {
        let tickets: Vec<usize> = tasks.iter().map(|task| task.ticket).collect();
        let work: Vec<Work> = tasks.into_iter().map(|task| self.work(task)).collect::<Result<_, _>>()?;
        let answers = self.hands.evaluate(&work)?;
        self.done.extend(tickets.into_iter().zip(answers));
        Ok(())
    }

    fn complete(&mut self) -> Result<(usize, Evaluated), Fault> {
        self.done.pop_front().ok_or_else(|| Fault::Training("fewer answers than tasks".into()))
    }

    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
        self.hands.weights(job)
    }

    fn give_up_at(&mut self, deadline: Option<Duration>) {
        self.hands.give_up_at(deadline);
    }

    fn elapsed(&self) -> Duration {
        self.hands.elapsed()
    }

    fn cancelled(&self) -> bool {
        self.hands.cancelled()
    }
}

/// Measures all tasks first, then trains the admitted ones.
///
/// # Errors
/// A [`Fault`] when the world, not a student, is to blame.
pub fn in_turns(hands: &mut dyn Hands, tasks: &[Work]) -> Result<Vec<Evaluated>, Fault> {
    let unknown: Vec<usize> = (0..tasks.len()).filter(|&index| tasks[index].board == Board::Asked).collect();
    let networks: Vec<(&str, &Network)> =
        unknown.iter().map(|&index| (tasks[index].job.digest.as_str(), &tasks[index].job.network)).collect();
    let before = hands.elapsed();
    let fresh = if networks.is_empty() { Vec::new() } else { hands.measure(&networks)? };
    let measure_s = hands.elapsed().saturating_sub(before).as_secs_f64() / fresh.len().max(1) as f64;
    let mut fresh = fresh.into_iter();
    let mut results: Vec<Evaluated> = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(match task.board {
            Board::Known(known) => Evaluated::measured(Some(Outcome::Done(known)), 0.0),
            Board::Spared => Evaluated::measured(None, 0.0),
            Board::Asked => match fresh.next() {
                Some(Some(outcome)) => Evaluated::measured(Some(outcome), measure_s),
                Some(None) => Evaluated::late(),
                None => return Err(Fault::Board("fewer measurements than networks".into())),
            },
        });
    }
    let admitted: Vec<usize> =
        (0..tasks.len()).filter(|&index| results[index].is_admitted(&tasks[index].gate)).collect();
    if hands.cancelled() {
        return Err(Fault::Cancelled);
    }
    let jobs: Vec<&Job> = admitted.iter().map(|&index| &tasks[index].job).collect();
    if !jobs.is_empty() {
        let trained = hands.train(&jobs)?;
        if trained.len() != jobs.len() {
            return Err(Fault::Training("fewer results than jobs".into()));
        }
        for (index, trained) in admitted.into_iter().zip(trained) {
            results[index].take(trained);
        }
    }
    Ok(results)
}
