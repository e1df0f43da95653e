//! How much accuracy a student may lose against its teacher, and which contender comes first. Decided on the second half of
//! the validation split, before anything is shipped; the test split never decides.

use std::cmp::Ordering;

use super::Error;
use super::contender::Contender;
use super::context::JobContext;
use crate::run::summary::AccuracyLoss;
use crate::search::Metric;
use crate::training::{Accuracy, PairedDifference};

/// The teacher on the images that decide, and what a student may lose.
pub(super) struct AccuracyBar {
    /// The teacher's answers.
    answers: Vec<u16>,
    /// Its accuracy.
    accuracy: f64,
    /// A share; `None` where accuracy has no limit.
    allowed: Option<f64>,
    /// What is to be made small, if anything is.
    goal: Option<Metric>,
}

impl AccuracyBar {
    pub(super) fn new(job: &mut JobContext<'_>) -> Result<Self, Error> {
        let settings = &job.plan.configuration.search;
        let (network, select) = (&job.plan.teacher.network, &job.dataset.validation_select);
        let answers = job.lab.distiller.predictions(network, &job.weights, select)?;
        let accuracy = Accuracy::of(&answers, &select.labels).fraction();
        let goal = settings.goal.or(settings.limits.is_empty().then_some(Metric::Params));
        Ok(Self { answers, accuracy, allowed: settings.accuracy_loss, goal })
    }

    /// Who is distilled first: the most accurate; where something is to be made small, the smallest that loses no more than it
    /// may.
    pub(super) fn order(&self, one: &Contender<'_>, other: &Contender<'_>) -> Ordering {
        let by_accuracy = other.accuracy.total_cmp(&one.accuracy);
        let (Some(allowed), Some(goal)) = (self.allowed, self.goal) else { return by_accuracy };
        let keeps = |it: &Contender<'_>| it.accuracy >= self.accuracy - allowed;
        let size = |it: &Contender<'_>| {
            it.finalist.trial.resources.and_then(|it| it.bound_value(goal)).unwrap_or(f64::MAX)
        };
        let by_size =
            if keeps(one) && keeps(other) { size(one).total_cmp(&size(other)) } else { by_accuracy };
        keeps(other).cmp(&keeps(one)).then(by_size)
    }

    /// Whether finalists are of one size, so that one may be compared with another: not where something is to be made small.
    pub(super) fn compares(&self) -> bool {
        self.goal.is_none()
    }

    /// What a student loses, by its answers; `None` where accuracy has no limit.
    pub(super) fn judge(&self, answers: &[u16], labels: &[u16]) -> Option<AccuracyLoss> {
        let difference = PairedDifference::new(&self.answers, answers, labels);
        self.allowed.map(|allowed| AccuracyLoss { allowed, difference })
    }
}
