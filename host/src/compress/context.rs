//! What all steps of a job share: what was asked for, the world, the clock, and how far it has come.

use std::sync::{Arc, Mutex, PoisonError};

use super::distiller::{Distillation, Distilled};
use super::live::Live;
use super::stopwatch::Stopwatch;
use super::student_store::StudentStore;
use super::{Error, Event, Plan};
use crate::data::Dataset;
use crate::model_io::Weights;
use crate::run::folder::Folder;
use crate::run::journey::{Journey, Milestone, Trained};
use crate::search::Metric;
use crate::training::TrainProgress;

/// A job that is being done.
pub(super) struct JobContext<'a> {
    pub(super) plan: &'a Plan,
    pub(super) folder: &'a Folder,
    pub(super) dataset: &'a Dataset,
    /// The teacher's.
    pub(super) weights: Arc<Weights>,
    pub(super) lab: Live<'a>,
    pub(super) clock: Stopwatch<'a>,
    pub(super) journey: Journey,
    pub(super) students: StudentStore,
}

impl JobContext<'_> {
    /// Whether it matters how fast a student is: else no minute goes into measuring it.
    pub(super) fn latency_counts(&self) -> bool {
        let settings = &self.plan.configuration.search;
        settings.goal == Some(Metric::Latency)
            || settings.limits.iter().any(|limit| limit.metric == Metric::Latency)
    }

    /// Trains students at once, but those that were trained by an earlier part of the job.
    pub(super) fn train(&mut self, students: &[Distillation<'_>]) -> Result<Vec<Distilled>, Error> {
        let names: Vec<String> = students.iter().map(|student| self.lab.distiller.name(student)).collect();
        let known = |(student, name): (&Distillation<'_>, &String)| {
            let trained = self.journey.milestones().trained(name)?;
            let weights = self.students.get(student.network, &trained.weights)?;
            // A kill may have come between the end of the training and that of its state.
            self.lab.distiller.forget(student);
            Some(Distilled { weights, accuracy: trained.accuracy })
        };
        let mut done: Vec<Option<Distilled>> = students.iter().zip(&names).map(known).collect();
        let missing: Vec<usize> = (0..students.len()).filter(|&index| done[index].is_none()).collect();
        let ahead: Vec<Distillation<'_>> = missing.iter().map(|&index| students[index]).collect();

        let (journey, store) = (Mutex::new(&mut self.journey), &self.students);
        let keep = |index: usize, distilled: &Distilled| {
            let Distillation { network, epochs, seed, .. } = ahead[index];
            let weights = store.put(network, &distilled.weights).map_err(Error::other)?;
            let training = names[missing[index]].clone();
            let trained = Trained { training, epochs, seed, weights, accuracy: distilled.accuracy };
            let mut journey = journey.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(journey.note(Milestone::Trained(trained))?)
        };
        let observer = self.lab.observer;
        let mut tell = |progress: &TrainProgress| observer(&Event::Training(*progress));
        let trained = self.lab.distiller.finish(&ahead, &keep, &mut tell)?;
        for (index, distilled) in missing.into_iter().zip(trained) {
            done[index] = Some(distilled);
        }
        Ok(done.into_iter().flatten().collect())
    }

    /// Writes that a milestone is reached.
    pub(super) fn note(&mut self, milestone: Milestone) -> Result<(), Error> {
        Ok(self.journey.note(milestone)?)
    }

    /// A line to a person.
    pub(super) fn say(&self, text: String) {
        (self.lab.observer)(&Event::Note(text));
    }
}
