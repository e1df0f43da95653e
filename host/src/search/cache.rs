//! Answers that are already known: measurements by structure, accuracies by lineage and rung (docs/method.md#cache).
//!
//! On disk it *is* the journal: loading the trials of an interrupted search fills it. One cache belongs to one board
//! key, seed and teacher; the caller sees to that.

use std::collections::HashMap;

use super::answer::{Measured, Outcome, Rung, Trained};
use super::record::{Record, Step, Trial, TrialOutcome};

/// Known answers, those that say infeasible or unknown included. Faults are never in it.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    measured: HashMap<String, Outcome<Measured>>,
    trained: HashMap<(String, Rung), Outcome<Trained>>,
}

impl Cache {
    /// From the trials among these records.
    pub fn from_records(records: &[Record]) -> Self {
        let mut cache = Self::default();
        for record in records {
            match record {
                Record::Trial(trial) => cache.add(trial),
                Record::Measured(tried) => cache.put_measured(&tried.digest, Outcome::Done(tried.measured)),
                Record::Started(_)
                | Record::Batch(_)
                | Record::Update(_)
                | Record::Finished(_)
                | Record::Fault(_)
                | Record::Resumed(_) => {}
            }
        }
        cache
    }

    fn add(&mut self, trial: &Trial) {
        if let Some(measured) = trial.resources.and_then(|resources| resources.measured) {
            self.put_measured(&trial.digest, Outcome::Done(measured));
        }
        match &trial.outcome {
            TrialOutcome::Trained { accuracy, agreement, nll, fresh_tensors } => {
                let trained = Trained {
                    accuracy: *accuracy,
                    agreement: *agreement,
                    nll: *nll,
                    fresh_tensors: fresh_tensors.clone(),
                    seconds: trial.train_s,
                };
                self.put_trained(&trial.lineage, trial.rung, Outcome::Done(trained));
            }
            TrialOutcome::Infeasible { step: Step::Measure, reason } => {
                self.put_measured(&trial.digest, Outcome::Infeasible(reason.clone()));
            }
            TrialOutcome::Infeasible { step: Step::Train, reason } => {
                self.put_trained(&trial.lineage, trial.rung, Outcome::Infeasible(reason.clone()));
            }
            TrialOutcome::Unknown { step: Step::Measure, reason } => {
                self.put_measured(&trial.digest, Outcome::Unknown(reason.clone()));
            }
            TrialOutcome::Unknown { step: Step::Train, reason } => {
                self.put_trained(&trial.lineage, trial.rung, Outcome::Unknown(reason.clone()));
            }
            TrialOutcome::Infeasible { step: Step::Surgery | Step::Fit, .. }
            | TrialOutcome::Unknown { step: Step::Surgery | Step::Fit, .. }
            | TrialOutcome::Late
            | TrialOutcome::Skipped => {}
        }
    }

    /// The measurement of a structure.
    pub fn measured(&self, digest: &str) -> Option<&Outcome<Measured>> {
        self.measured.get(digest)
    }

    /// The training of a lineage at one rung.
    pub fn trained(&self, lineage: &str, rung: Rung) -> Option<&Outcome<Trained>> {
        self.trained.get(&(lineage.to_owned(), rung))
    }

    /// Keeps a measurement; the first one stays, so that one structure has one measurement throughout a search.
    pub fn put_measured(&mut self, digest: &str, outcome: Outcome<Measured>) {
        self.measured.entry(digest.to_owned()).or_insert(outcome);
    }

    /// Keeps a training; the first one stays.
    pub fn put_trained(&mut self, lineage: &str, rung: Rung, outcome: Outcome<Trained>) {
        self.trained.entry((lineage.to_owned(), rung)).or_insert(outcome);
    }
}
