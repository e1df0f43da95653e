//! What a running compression shows: one bar for the step at hand, a line for what is worth one. Draws, decides nothing.

use std::cell::RefCell;

use crate::compress::{Event, Phase};
use crate::search::record::TrialOutcome;
use crate::search::{self, Record, StageKind, Trial};
use crate::ui::{Progress, Ui};
use crate::units;

/// Steps of the search's bar: each stage's share of its budget in percent.
const STAGE_STEPS: u64 = 100;

/// Watches one job.
pub(super) struct Watcher<'a> {
    ui: &'a Ui,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    bar: Option<Progress>,
    phase: Option<Phase>,
    candidates: usize,
    trained: usize,
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
    pub(super) fn see(&self, event: &Event<'_>) {
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
            Event::Note(text) => tracing::info!("{text}"),
        }
    }

    /// Takes the bar away; what follows is the result.
    pub(super) fn end(self) {
        self.state.borrow_mut().bar = None;
    }

    fn begin(&self, state: &mut State, phase: Phase) {
        tracing::info!("{}", phase.title());
        // The old bar goes before the new one comes.
        state.bar = None;
        let steps = if phase == Phase::Search { 2 * STAGE_STEPS } else { 0 };
        state.bar = Some(self.ui.progress(phase.title(), steps));
        state.phase = Some(phase);
    }
}

impl State {
    fn say(&self, done: Option<u64>, message: String) {
        if let Some(bar) = &self.bar {
            bar.set(done.unwrap_or_else(|| bar.position()), message);
        }
    }

    fn search(&mut self, event: &search::Event<'_>) {
        match event {
            search::Event::Stage(stage) => tracing::info!("stage: layer {}", stage_name(*stage)),
            search::Event::Promotion { stage, number, spent } => {
                tracing::debug!("layer {}: promotion {}", stage_name(*stage), number + 1);
                self.say(
                    spent.map(|spent| done(*stage, spent)),
                    format!("layer {}, the best trained longer", stage_name(*stage)),
                );
            }
            search::Event::Batch { stage, searcher, update, candidates, spent } => {
                let who = format!("{searcher:?}").to_lowercase();
                tracing::debug!(
                    "layer {}: batch {} of {who}, {candidates} candidates",
                    stage_name(*stage),
                    update + 1
                );
                self.say(
                    Some(done(*stage, *spent)),
                    format!("layer {}, {}", stage_name(*stage), self.summary()),
                );
            }
            search::Event::Replayed(record) | search::Event::Recorded(record) => self.record(record),
        }
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Trial(trial) => self.trial(trial),
            Record::Update(update) => {
                tracing::debug!("update {}: mean reward {:.3}", update.update + 1, update.mean_reward);
            }
            Record::Stage(stage) => tracing::info!(
                "layer {} done: {} candidates, {} of them not worth training, {} infeasible{}; {}",
                stage_name(stage.stage),
                stage.trials,
                stage.skipped,
                stage.infeasible,
                if stage.unknown > 0 { format!(", {} left out", stage.unknown) } else { String::new() },
                self.summary()
            ),
            Record::Resumed(resumed) => tracing::info!("going on after {} journal lines", resumed.records),
            Record::Started(_) | Record::Fault(_) => {}
        }
    }

    fn trial(&mut self, trial: &Trial) {
        self.candidates += 1;
        if let TrialOutcome::Unknown { reason, .. } = &trial.outcome {
            tracing::warn!("candidate {} is left out, its worth is unknown: {reason}", trial.index);
        }
        let (Some(accuracy), Some(resources)) = (trial.accuracy(), &trial.resources) else { return };
        self.trained += 1;
        if trial.feasible && self.best.is_none_or(|best| accuracy > best.accuracy) {
            let latency_ns = resources.measured.map(|measured| measured.latency_ns);
            self.best = Some(Best { accuracy, latency_ns, params: resources.params });
            tracing::info!("candidate {}: {}", trial.index, self.summary());
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
        format!("{} candidates, {} trained, {best}", self.candidates, self.trained)
    }
}

/// Steps of the bar of both stages for a share of one.
fn done(stage: StageKind, spent: f64) -> u64 {
    let before = if stage == StageKind::Removal { 0 } else { STAGE_STEPS };
    before + (spent.clamp(0.0, 1.0) * STAGE_STEPS as f64) as u64
}

fn stage_name(stage: StageKind) -> &'static str {
    match stage {
        StageKind::Removal => "removal",
        StageKind::Shrinkage => "shrinkage",
    }
}
