//! What a running compression shows: one bar for the step at hand, a line for what is worth one. Draws, decides nothing.

use std::cell::RefCell;

use crate::compress::{Event, Phase};
use crate::search::record::TrialOutcome;
use crate::search::record::{Batch, Purpose};
use crate::search::{self, Counter, Record, Trial};
use crate::ui::{Progress, Ui};
use crate::units;

/// Steps of the search's bar: its budget in percent.
const SEARCH_STEPS: u64 = 100;

/// Watches one job.
pub(super) struct Watcher<'a> {
    ui: &'a Ui,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    bar: Option<Progress>,
    phase: Option<Phase>,
    /// Where the whole job stands.
    outlook: String,
    counter: Counter,
    best: Option<Best>,
}

/// The best student so far that keeps all limits.
#[derive(Clone, Copy)]
struct Best {
    accuracy: f64,
    latency_ns: Option<u64>,
    params: u64,
}

impl<'a> Watcher<'a> {
    /// Nothing is shown before the first event.
    pub(super) fn new(ui: &'a Ui) -> Self {
        Self { ui, state: RefCell::default() }
    }

    /// To be given to the job.
    pub(super) fn see(&self, event: &Event) {
        let mut state = self.state.borrow_mut();
        match event {
            Event::Phase(phase) => self.begin(&mut state, *phase),
            Event::Measuring => state.say(None, "on the board".into()),
            Event::Training(progress) => {
                let message = format!("training, step {} of {}", progress.step, progress.steps);
                let alone = state.phase != Some(Phase::Search);
                if alone && let Some(bar) = &state.bar {
                    bar.set_steps(progress.steps as u64);
                }
                state.say(alone.then_some(progress.step as u64), message);
            }
            Event::Search(event) => state.search(event),
            Event::Shipping(step) => state.say(None, super::ship::words(step)),
            Event::Outlook { step, steps, left, searched } => {
                let left = left.map_or_else(String::new, |left| format!(", {} left", units::about(left)));
                state.outlook = format!("step {step} of {steps}{left}: ");
                if let (Some(bar), Some(share)) = (&state.bar, searched) {
                    bar.go_to((share * SEARCH_STEPS as f64) as u64);
                }
                if let (Some(bar), Some(phase)) = (&state.bar, state.phase) {
                    bar.set_title(format!("{}{}", state.outlook, phase.title()));
                }
            }
            Event::Note(text) => tracing::info!("{text}"),
        }
    }

    /// Takes the bar away; what follows is the result.
    pub(super) fn end(self) {
        self.state.borrow_mut().bar = None;
    }

    fn begin(&self, state: &mut State, phase: Phase) {
        let title = format!("{}{}", state.outlook, phase.title());
        tracing::info!("{title}");
        // The old bar goes before the new one comes.
        state.bar = None;
        let steps = if phase == Phase::Search { SEARCH_STEPS } else { 0 };
        // The outlook says when all will be over; a second estimate beside it would only differ.
        state.bar = Some(self.ui.progress(title, steps).without_estimate());
        state.phase = Some(phase);
    }
}

impl State {
    fn say(&self, done: Option<u64>, message: String) {
        if let Some(bar) = &self.bar {
            bar.set(done.unwrap_or_else(|| bar.position()), message);
        }
    }

    fn search(&mut self, event: &search::Event) {
        match event {
            search::Event::Batch(batch) => self.batch(batch),
            search::Event::Replayed(record) | search::Event::Recorded(record) => self.record(record),
        }
    }

    fn batch(&mut self, batch: &Batch) {
        let Batch { number, purpose, searcher, candidates, rung, .. } = batch;
        tracing::debug!("batch {number}: {candidates} candidates by {searcher}, {rung}");
        let what = match purpose {
            Purpose::Simple => "simple students".to_owned(),
            Purpose::Explore => format!("candidates by {searcher}"),
            Purpose::Promote => "the promising trained".to_owned(),
            Purpose::Choose => "the best trained longer".to_owned(),
        };
        self.say(None, format!("{what}; {}", self.summary()));
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Trial(trial) => self.trial(trial),
            Record::Update(update) => {
                tracing::debug!("batch {}: mean reward {:.3}", update.batch, update.mean_reward);
            }
            Record::Finished(finished) => {
                let ranks = finished.untrained_correlation.map_or_else(String::new, |correlation| {
                    format!("; looks without training rank trained ones at {correlation:.2}")
                });
                tracing::info!("{}{ranks}; {}", finished.reason, self.summary());
            }
            Record::Resumed(resumed) => tracing::info!("going on after {} journal lines", resumed.records),
            Record::Started(_) | Record::Batch(_) | Record::Measured(_) | Record::Fault(_) => {}
        }
    }

    fn trial(&mut self, trial: &Trial) {
        self.counter.see(trial);
        if let TrialOutcome::Unknown { reason, .. } = &trial.outcome {
            tracing::warn!("candidate {} is left out, its worth is unknown: {reason}", trial.index);
        }
        let (Some(accuracy), Some(resources)) = (trial.accuracy(), &trial.resources) else { return };
        if !trial.was_trained() {
            return;
        }
        if trial.feasible && self.best.is_none_or(|best| accuracy > best.accuracy) {
            let latency_ns = resources.measured.map(|measured| measured.latency_ns);
            self.best = Some(Best { accuracy, latency_ns, params: resources.params });
            tracing::info!("candidate {}, {}: {}", trial.index, trial.searcher, self.summary());
        }
    }

    fn summary(&self) -> String {
        let best = match self.best {
            Some(best) => {
                let latency =
                    best.latency_ns.map_or_else(String::new, |ns| format!(" at {}", units::latency(ns)));
                let params = units::count(best.params);
                format!(
                    "best within the limits {}{latency}, {params} parameters",
                    units::percent(best.accuracy)
                )
            }
            None => "none within the limits yet".into(),
        };
        format!("{}; {best}", self.counter.counts())
    }
}
