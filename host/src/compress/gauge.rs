//! A network to a measurement on the board: without its weights while searching, with them at the end.
//!
//! A candidate is sent as the file that would ship, emptied, with a seed; both sides fill it alike, so the board can be asked
//! for the right answer before its time counts. A lost board is waited for, a bounded time, and then becomes a [`Fault`];
//! what is the student's own fault becomes [`Outcome::Infeasible`]. Must not judge a number against a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use n2n_protocol::{
    self as wire, Board, EngineId, Execution, Golden, Latency, MeasurePlan, Model, Place, Progress, Welcome,
};

use super::Error;
use super::drift::Drift;
use super::plan::{Configuration, Plan};
use crate::board::{BoardError, Client};
use crate::exit::Failure;
use crate::model_io::fold::fold_batch_norm;
use crate::model_io::onnx::{self, Filling, ModelInfo};
use crate::model_io::{Weights, filled};
use crate::network::Network;
use crate::network::fold::folded;
use crate::run::journey::OnBoard;
use crate::search::answer::{Fault, Measured, Outcome};
use crate::shipping::golden;

/// Worker processes of a search probe (docs/measurement.md#search-probes).
const PROBE_PROCESSES: u16 = 3;
/// Timed inferences of each process of a probe.
const PROBE_SAMPLES: u32 = 30;
/// Timed inferences of each process of a careful measurement: 8 processes give the 500 samples that a p99 needs.
const CAREFUL_SAMPLES: u32 = 100;
/// Fewest and most processes of a careful measurement: the first and the last fixed look (docs/measurement.md#interval-of-the-median).
const CAREFUL_PROCESSES: (u16, u16) = (8, 16);
/// Wished half-width of the median's interval: 2 %.
const HALF_WIDTH_PPM: u32 = 20_000;
/// A probe that takes longer than this is cut short, ms.
const PROBE_BUDGET_MS: u32 = 60_000;
/// A careful measurement that takes longer than this says so, ms.
const CAREFUL_BUDGET_MS: u32 = 300_000;
/// Loading a model may take this long, ms: the largest take some seconds on the slowest board.
const MAX_LOAD_MS: u32 = 60_000;
/// One inference may take this long, ms: far beyond anything that is called real time.
const MAX_INFERENCE_MS: u32 = 10_000;
/// Weights and golden input of all candidates: latency does not depend on them, and one seed makes files repeatable.
const SEED: u64 = 1;
/// Quantile of a 95 % upper bound (two-sided interval).
const Z: f64 = 1.96;
/// Standard error of a median of few normal values against that of their mean.
const MEDIAN_EFFICIENCY: f64 = 1.2533;
/// Relative noise between processes that is assumed at the least: below it lies what one run cannot see.
const NOISE_FLOOR: f64 = 0.005;
/// Times that one measurement is tried again before the search pauses.
const RETRIES: u32 = 2;
/// The board, as an instrument.
pub(super) struct Gauge {
    client: Client,
    /// Which of the board's engines runs models.
    engine: EngineId,
    threads: u16,
    /// Relative deviation of process medians about their median, of the longest measurement so far.
    noise: f64,
    /// What shows whether the board is still the one that the search began on.
    reference: Option<Reference>,
    /// For how long a lost board is waited for.
    wait_board: Duration,
    stop: Arc<AtomicBool>,
}

/// A model that is timed again and again.
struct Reference {
    specimen: Specimen,
    drift: Drift,
}

/// A file with the answer that it must give.
pub(super) struct Specimen {
    pub(super) bytes: Vec<u8>,
    pub(super) golden: Golden,
    /// What the file takes.
    pub(super) input: wire::Input,
    /// Size of the file with its weights.
    pub(super) file_bytes: u64,
}

impl Specimen {
    /// The file that would ship, without its weights.
    pub(super) fn untrained(network: &Network, info: &ModelInfo) -> Result<Self, Failure> {
        let network = folded(network);
        let weights = filled(&network, SEED);
        let bytes = onnx::write(&network, Filling::Seed(SEED), info)?;
        let file_bytes = onnx::write(&network, Filling::Weights(&weights), info)?.len() as u64;
        let golden = golden(&network, &weights, info, SEED)?;
        Ok(Self { bytes, golden, input: info.wire_input(), file_bytes })
    }

    /// The file that ships: batch norm folded.
    pub(super) fn trained(network: &Network, weights: &Weights, info: &ModelInfo) -> Result<Self, Failure> {
        let (network, weights) = fold_batch_norm(network, weights);
        let bytes = onnx::write(&network, Filling::Weights(&weights), info)?;
        let file_bytes = bytes.len() as u64;
        let golden = golden(&network, &weights, info, SEED)?;
        Ok(Self { bytes, golden, input: info.wire_input(), file_bytes })
    }
}

impl Gauge {
    /// Greets the board; one try, but one that is lost later is waited for.
    ///
    /// # Errors
    /// It does not answer, or lacks the engine.
    pub(super) fn connect(plan: &Plan, stop: Arc<AtomicBool>) -> Result<Self, Error> {
        let Configuration { board, engine, board_threads, .. } = &plan.configuration;
        let mut client = Client::connect_named(&board.to_string(), &plan.endpoint)?;
        client.set_cancel_flag(Arc::clone(&stop));
        let engine = engine.on(&client.welcome().board).map_err(Error::telling)?.clone();
        let (threads, wait_board) = (*board_threads, plan.wait_board);
        Ok(Self { client, engine, threads, noise: NOISE_FLOOR, reference: None, wait_board, stop })
    }

    /// The board, as it greeted.
    pub(super) fn board(&self) -> &Board {
        &self.client.welcome().board
    }

    /// What the board said of itself.
    pub(super) fn welcome(&self) -> &Welcome {
        self.client.welcome()
    }

    /// The link, for shipping.
    pub(super) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Identity under which numbers may be compared: board, engine, threads (docs/measurement.md#identity-of-a-result).
    pub(super) fn identity(&self) -> String {
        let welcome = self.client.welcome();
        let engine = format!("{} {}", self.engine.name, self.engine.version);
        let governor = welcome.board.conditions.governor.clone().unwrap_or_else(|| "unpinned".into());
        format!(
            "{} | {engine} | {} threads | {governor} | agent {}",
            welcome.board.fingerprint, self.threads, welcome.agent
        )
    }

    /// From now on this model, which was just measured carefully, shows whether the board drifts; `anchor_ns` is what it took
    /// when the search's limits were resolved.
    pub(super) fn refer_to(&mut self, specimen: Specimen, measured: Measured, anchor_ns: u64) {
        self.reference = Some(Reference { specimen, drift: Drift::since(anchor_ns, measured.latency_ns) });
    }

    /// Quick: for candidates. In the state that the board had when the search began: where a limit is a share of the teacher's
    /// latency, what counts is the ratio of two numbers of one time, and a board that has become faster or slower since
    /// must not move it.
    pub(super) fn probe_anchored(
        &mut self,
        network: &Network,
        info: &ModelInfo,
    ) -> Result<Outcome<Measured>, Fault> {
        Ok(match (self.probe(network, info)?, &self.reference) {
            (Outcome::Done(measured), Some(reference)) => Outcome::Done(reference.drift.anchored(measured)),
            (outcome, _) => outcome,
        })
    }

    /// Quick: for candidates.
    pub(super) fn probe(&mut self, network: &Network, info: &ModelInfo) -> Result<Outcome<Measured>, Fault> {
        let specimen = Specimen::untrained(network, info).map_err(|error| Fault::Board(error.to_string()))?;
        if let Some(reference) = &mut self.reference {
            reference.drift.probed();
        }
        self.quick(&specimen)
    }

    /// Times the reference model if that is due; whether it is off by more than the noise, so that what was measured
    /// last has to be measured again. What the board has become is then the new reference.
    pub(super) fn has_drifted(&mut self) -> Result<bool, Fault> {
        let due = |reference: &mut Reference| reference.drift.is_due();
        let Some(mut reference) = self.reference.take_if(due) else { return Ok(false) };
        let outcome = self.quick(&reference.specimen);
        let change = match &outcome {
            Ok(Outcome::Done(now)) => reference.drift.look(now.latency_ns, self.noise),
            _ => None,
        };
        self.reference = Some(reference);
        if let Some(change) = change {
            tracing::warn!(
                "the board drifts: the teacher's latency changed by {:+.1} %; measuring again",
                100.0 * change
            );
        }
        outcome.map(|_| change.is_some())
    }

    fn quick(&mut self, specimen: &Specimen) -> Result<Outcome<Measured>, Fault> {
        match self.run(specimen, |digest, gauge| gauge.plan(digest, specimen), &mut |_| {})? {
            Outcome::Done(measurement) => Ok(Outcome::Done(self.measured(&measurement, specimen))),
            Outcome::Infeasible(reason) => Ok(Outcome::Infeasible(reason)),
            Outcome::Unknown(reason) => Ok(Outcome::Unknown(reason)),
        }
    }

    /// Careful: a true interval from 8 to 16 processes, and resident memory; for the teacher and for finalists.
    pub(super) fn examine(
        &mut self,
        specimen: &Specimen,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Outcome<OnBoard>, Fault> {
        let plan = |digest, gauge: &Self| MeasurePlan {
            min_processes: CAREFUL_PROCESSES.0,
            max_processes: CAREFUL_PROCESSES.1,
            samples_per_process: CAREFUL_SAMPLES,
            time_budget_ms: CAREFUL_BUDGET_MS,
            resident_memory: true,
            ..gauge.plan(digest, specimen)
        };
        match self.run(specimen, plan, progress)? {
            Outcome::Done(measurement) => {
                self.noise = between_processes(&measurement).max(NOISE_FLOOR);
                let measured = self.measured(&measurement, specimen);
                Ok(Outcome::Done(OnBoard { measured, measurement: (&measurement).into() }))
            }
            Outcome::Infeasible(reason) => Ok(Outcome::Infeasible(reason)),
            Outcome::Unknown(reason) => Ok(Outcome::Unknown(reason)),
        }
    }

    /// Which engine runs models, and on how many threads.
    pub(super) fn engine(&self) -> (&EngineId, u16) {
        (&self.engine, self.threads)
    }

    /// How models run.
    pub(super) fn execution(&self) -> Execution {
        Execution { engine: self.engine.name.clone(), threads: self.threads, batch: 1, pace_us: 0 }
    }

    /// The quick plan.
    fn plan(&self, model: n2n_protocol::Digest, specimen: &Specimen) -> MeasurePlan {
        MeasurePlan {
            model: Model { input: specimen.input, ..Model::onnx(model) },
            place: Place::Store,
            execution: self.execution(),
            min_processes: PROBE_PROCESSES,
            max_processes: PROBE_PROCESSES,
            samples_per_process: PROBE_SAMPLES,
            half_width_ppm: HALF_WIDTH_PPM,
            time_budget_ms: PROBE_BUDGET_MS,
            max_load_ms: MAX_LOAD_MS,
            max_inference_ms: MAX_INFERENCE_MS,
            // What the board has and the agent can spare is known there.
            max_memory_bytes: u64::MAX,
            golden: Some(specimen.golden.clone()),
            resident_memory: false,
        }
    }

    /// Puts and measures; a board that is lost in between is found again, with everything sent anew.
    fn run(
        &mut self,
        specimen: &Specimen,
        plan: impl Fn(n2n_protocol::Digest, &Self) -> MeasurePlan,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Outcome<wire::Measurement>, Fault> {
        let mut retries = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Fault::Cancelled);
            }
            if !self.client.is_connected() {
                match self.client.reconnect_within(self.wait_board) {
                    Ok(()) => {}
                    Err(BoardError::Cancelled) => return Err(Fault::Cancelled),
                    Err(error) => return Err(Fault::Board(error.to_string())),
                }
            }
            let attempt = self.client.put(&specimen.bytes, &mut |_, _| {}).and_then(|digest| {
                let plan = plan(digest, self);
                self.client.measure(&plan, progress)
            });
            match attempt {
                Ok(measurement) => return Ok(Outcome::Done(measurement)),
                Err(BoardError::Infeasible(reason)) => return Ok(Outcome::Infeasible(reason.to_string())),
                Err(BoardError::Unknown(reason)) => return Ok(Outcome::Unknown(reason.to_string())),
                Err(BoardError::Cancelled) => return Err(Fault::Cancelled),
                // A worker that somebody killed fails once, a disk that is full every time.
                Err(error)
                    if retries < RETRIES
                        && (error.is_passing() || matches!(error, BoardError::Failed(_))) =>
                {
                    tracing::warn!(%error, "trying again");
                    retries += 1;
                }
                Err(BoardError::Failed(reason)) => {
                    return Err(Fault::Board(format!("the board cannot measure a student: {reason}")));
                }
                Err(error) => return Err(Fault::Board(error.to_string())),
            }
        }
    }

    fn measured(&self, measurement: &wire::Measurement, specimen: &Specimen) -> Measured {
        let median = measurement.latency.median_ns;
        let wire::Measurement { latency, samples_ns, budget_ended, .. } = measurement;
        let (latency_lower_ns, latency_upper_ns) = bounds(latency, samples_ns, *budget_ended, self.noise);
        Measured {
            latency_ns: median,
            latency_upper_ns,
            latency_lower_ns,
            // Exact, where resident memory of a small student drowns in touched code pages (docs/measurement.md#memory).
            model_memory_bytes: measurement.memory.peak_heap.or(measurement.memory.model_memory).unwrap_or(0),
            file_bytes: specimen.file_bytes,
            noise: self.noise,
        }
    }
}

/// Confidence bounds of the median, ns: its own interval, where there are processes enough for one. `cut_short`: the time
/// ended before all samples were taken.
fn bounds(latency: &Latency, samples_ns: &[Vec<u64>], cut_short: bool, noise: f64) -> (u64, u64) {
    if let Some(interval) = &latency.interval {
        return (interval.low_ns, interval.high_ns);
    }
    // Few processes give no interval of their own: the board's known noise stands in.
    let median = latency.median_ns as f64;
    let half = Z * MEDIAN_EFFICIENCY * noise / (samples_ns.len().max(1) as f64).sqrt() * median;
    let (low, high) = ((median - half).max(0.0) as u64, (median + half) as u64);
    if !cut_short {
        return (low, high);
    }
    // The noise was seen over whole processes. One that was cut short has few samples, perhaps a single one of a cold
    // model: no less is known than what lies between all of them.
    let samples = || samples_ns.iter().flatten().copied();
    (samples().min().unwrap_or(low).min(low), samples().max().unwrap_or(high).max(high))
}

/// Relative deviation of the process medians: 1.4826 times the median absolute deviation, which one slow process does not
/// inflate, over the median.
fn between_processes(measurement: &wire::Measurement) -> f64 {
    let median_of = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let mut medians: Vec<f64> = measurement
        .samples_ns
        .iter()
        .map(|samples| median_of(&mut samples.iter().map(|&sample| sample as f64).collect()))
        .collect();
    let centre = median_of(&mut medians);
    let mut deviations: Vec<f64> = medians.iter().map(|median| (median - centre).abs()).collect();
    if centre > 0.0 { 1.4826 * median_of(&mut deviations) / centre } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use n2n_protocol::Interval;

    #[test]
    fn few_processes_are_widened_by_the_boards_noise_and_cut_short_ones_by_all_that_was_seen() {
        let mut latency =
            Latency { median_ns: 1_000_000, interval: None, min_ns: 1, p90_ns: 1, p99_ns: None };
        let (low, high) = bounds(&latency, &vec![vec![1_000_000; 30]; 3], false, 0.02);
        assert!(
            (950_000..1_000_000).contains(&low) && (1_000_001..1_050_000).contains(&high),
            "{low} {high}"
        );
        // One process of a slow model, whose only samples are a cold and a warm one.
        assert_eq!(bounds(&latency, &[vec![1_700_000, 900_000]], true, 0.02), (900_000, 1_700_000));
        let (low, high) = bounds(&latency, &[vec![1_000_000]], true, 0.02);
        assert!(low < 1_000_000 && high > 1_000_000, "never narrower than the board's noise");
        let own = Interval { low_ns: 7, high_ns: 8, low_rank: 1, high_rank: 8, coverage_ppm: 992_187 };
        latency.interval = Some(own);
        assert_eq!(bounds(&latency, &[vec![5]], true, 0.02), (7, 8));
    }
}
