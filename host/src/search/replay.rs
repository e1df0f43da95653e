//! Hands that answer from a recorded journal: the second real implementation of the seam.
//!
//! With it, a finished search can be run again without board and trainer: the same seed and recorded answers give the
//! same candidates. Whatever was not recorded is a fault, never a guess.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Fault, Measured, Outcome, Trained};
use super::cache::Cache;
use super::hands::Hands;
use super::job::{Job, StartingWeights};
use super::record::Record;
use crate::model_io::Weights;
use crate::network::Network;
use crate::training::inheritance;

/// Answers by structure, lineage and rung.
pub struct Replay {
    answers: Cache,
    elapsed: Duration,
}

impl Replay {
    /// From a journal's lines.
    pub fn new(records: &[Record]) -> Self {
        let reading = |record: &Record| match record {
            Record::Batch(batch) => batch.elapsed_ns,
            Record::Finished(finished) => finished.elapsed_ns,
            Record::Fault(stopped) => stopped.elapsed_ns,
            Record::Resumed(resumed) => resumed.elapsed_ns,
            Record::Started(_) | Record::Measured(_) | Record::Trial(_) | Record::Update(_) => 0,
        };
        let last = records.iter().map(reading).max().unwrap_or(0);
        Self { answers: Cache::from_records(records), elapsed: Duration::from_nanos(last) }
    }
}

impl Hands for Replay {
    fn measure(&mut self, networks: &[(&str, &Network)]) -> Result<Vec<Option<Outcome<Measured>>>, Fault> {
        let answer = |(digest, _): &(&str, &Network)| {
            let known = self.answers.measured(digest).cloned();
            known.map(Some).ok_or_else(|| Fault::Board(format!("no measurement of {digest} was recorded")))
        };
        networks.iter().map(answer).collect()
    }

    fn train(&mut self, jobs: &[&Job]) -> Result<Vec<Option<Outcome<Trained>>>, Fault> {
        let answer = |job: &&Job| {
            let known = self.answers.trained(&job.lineage, job.rung).cloned();
            known.map(Some).ok_or_else(|| {
                Fault::Training(format!("no training of {} at {} was recorded", job.lineage, job.rung))
            })
        };
        jobs.iter().map(answer).collect()
    }

    /// The weights before training: a journal holds no weights, and which candidates are proposed does not depend on them.
    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
        Ok(Arc::new(match &job.start {
            StartingWeights::Inherited { source, inheritance: slices } => {
                inheritance::inherit(&job.network, slices, source, job.seed).0
            }
            StartingWeights::Fresh => inheritance::initial_weights(&job.network, job.seed),
        }))
    }

    /// What came too late was recorded as such, and is never asked for again.
    fn give_up_at(&mut self, _deadline: Option<Duration>) {}

    fn elapsed(&self) -> Duration {
        self.elapsed
    }

    fn cancelled(&self) -> bool {
        false
    }
}
