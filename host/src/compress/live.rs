//! The live [`Hands`]: a board to measure on, a trainer, a clock and Ctrl-C.
//!
//! A local board shares this machine's cores with the trainer, so the two take turns; a remote one measures the next
//! student while the last one trains. Must not score anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::distiller::Distiller;
use super::gauge::Gauge;
use super::{Event, Observer};
use crate::model_io::Weights;
use crate::model_io::onnx::ModelInfo;
use crate::network::Network;
use crate::search::answer::{Fault, Measured, Outcome, Trained};
use crate::search::evaluator::{Board, Evaluated};
use crate::search::hands::{Hands, Work, in_turns};
use crate::search::job::Job;

/// Where a search's time went; what is missing to its length is the search itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Nothing was done but waiting for the board.
    pub(super) measuring: Duration,
    /// Students were trained and validated.
    pub(super) training: Duration,
}

/// The world of one run.
pub(super) struct Live<'a> {
    pub(super) gauge: Gauge,
    pub(super) distiller: Distiller<'a>,
    pub(super) info: ModelInfo,
    /// Whether the board is this machine.
    pub(super) local: bool,
    /// Whether a limit is a share of the teacher's latency; latencies are then [`Gauge::probe_anchored`].
    pub(super) anchored: bool,
    /// Since when this part of the run searches.
    pub(super) began: Instant,
    /// Spent by earlier parts of the run.
    pub(super) before: Duration,
    /// By this part of the run.
    pub(super) spent: Spent,
    /// When what is in flight is given up.
    pub(super) deadline: Option<Instant>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) observer: Observer<'a>,
}

impl Hands for Live<'_> {
    fn measure(&mut self, networks: &[(&str, &Network)]) -> Result<Vec<Option<Outcome<Measured>>>, Fault> {
        let began = Instant::now();
        let mut measured = self.measure_once(networks)?;
        if self.gauge.has_drifted()? {
            measured = self.measure_once(networks)?;
        }
        self.spent.measuring += began.elapsed();
        Ok(measured)
    }

    fn train(&mut self, jobs: &[&Job]) -> Result<Vec<Option<Outcome<Trained>>>, Fault> {
        let (began, observer) = (Instant::now(), self.observer);
        let deadline = self.deadline;
        let trained =
            self.distiller.train(jobs, deadline, &mut |progress| observer(&Event::Training(*progress)));
        self.spent.training += began.elapsed();
        trained
    }

    fn give_up_at(&mut self, deadline: Option<Duration>) {
        self.deadline = deadline.map(|at| self.began + at.saturating_sub(self.before));
    }

    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
        self.distiller.weights(job)
    }

    fn elapsed(&self) -> Duration {
        self.before + self.began.elapsed()
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn evaluate(&mut self, tasks: &[Work]) -> Result<Vec<Evaluated>, Fault> {
        if self.local { in_turns(self, tasks) } else { self.overlapped(tasks) }
    }
}

impl Live<'_> {
    fn measure_once(
        &mut self,
        networks: &[(&str, &Network)],
    ) -> Result<Vec<Option<Outcome<Measured>>>, Fault> {
        networks
            .iter()
            .map(|(_, network)| {
                if is_past(self.deadline) {
                    return Ok(None);
                }
                (self.observer)(&Event::Measuring);
                probe(&mut self.gauge, network, &self.info, self.anchored).map(Some)
            })
            .collect()
    }

    /// The board measures ahead while this machine trains what was admitted: all that has been measured meanwhile goes
    /// into the next round of trainings.
    fn overlapped(&mut self, tasks: &[Work]) -> Result<Vec<Evaluated>, Fault> {
        let (gauge, info, anchored) = (&mut self.gauge, &self.info, self.anchored);
        let (distiller, observer, spent) = (&mut self.distiller, self.observer, &mut self.spent);
        let deadline = self.deadline;
        std::thread::scope(|scope| {
            let (send, receive) = mpsc::channel();
            scope.spawn(move || {
                for task in tasks {
                    let began = Instant::now();
                    let measured = match task.board {
                        Board::Known(known) => Ok(Evaluated::measured(Some(Outcome::Done(known)), 0.0)),
                        Board::Spared => Ok(Evaluated::measured(None, 0.0)),
                        Board::Asked if is_past(deadline) => Ok(Evaluated::late()),
                        Board::Asked => probe(gauge, &task.job.network, info, anchored)
                            .and_then(|measured| {
                                let again = gauge.has_drifted()?;
                                if again {
                                    probe(gauge, &task.job.network, info, anchored)
                                } else {
                                    Ok(measured)
                                }
                            })
                            .map(|measured| {
                                Evaluated::measured(Some(measured), began.elapsed().as_secs_f64())
                            }),
                    };
                    let last = measured.is_err();
                    // A receiver that is gone means that a training failed: what is left need not be measured.
                    if send.send(measured).is_err() || last {
                        return;
                    }
                }
            });
            let mut results: Vec<Evaluated> = Vec::with_capacity(tasks.len());
            while results.len() < tasks.len() {
                let began = Instant::now();
                let first =
                    receive.recv().map_err(|_| Fault::Board("the measuring thread ended early".into()))?;
                spent.measuring += began.elapsed();
                let first_index = results.len();
                for measured in std::iter::once(first).chain(receive.try_iter()) {
                    results.push(measured?);
                }
                let admitted: Vec<usize> = (first_index..results.len())
                    .filter(|&index| results[index].is_admitted(&tasks[index].gate))
                    .collect();
                let jobs: Vec<&Job> = admitted.iter().map(|&index| &tasks[index].job).collect();
                let began = Instant::now();
                let trained = distiller
                    .train(&jobs, deadline, &mut |progress| observer(&Event::Training(*progress)))?;
                spent.training += began.elapsed();
                for (index, trained) in admitted.into_iter().zip(trained) {
                    results[index].take(trained);
                }
            }
            Ok(results)
        })
    }
}

fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() > deadline)
}

fn probe(
    gauge: &mut Gauge,
    network: &Network,
    info: &ModelInfo,
    anchored: bool,
) -> Result<Outcome<Measured>, Fault> {
    if anchored { gauge.probe_anchored(network, info) } else { gauge.probe(network, info) }
}
