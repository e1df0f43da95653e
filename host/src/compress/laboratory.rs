//! The live [`Laboratory`]: a board to measure on, a trainer, a clock and Ctrl-C.
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
use crate::search::laboratory::{
    Admit, Board, Evaluated, Fault, Job, Laboratory, Measured, Outcome, Task, Trained, admitted, in_turns,
};

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
    pub(super) stop: Arc<AtomicBool>,
    pub(super) observer: Observer<'a>,
}

impl Laboratory for Live<'_> {
    fn measure(&mut self, networks: &[(&str, &Network)]) -> Result<Vec<Outcome<Measured>>, Fault> {
        let began = Instant::now();
        let mut measured = self.measure_once(networks)?;
        if self.gauge.has_drifted()? {
            measured = self.measure_once(networks)?;
        }
        self.spent.measuring += began.elapsed();
        Ok(measured)
    }

    fn train(&mut self, jobs: &[&Job]) -> Result<Vec<Outcome<Trained>>, Fault> {
        let (began, observer) = (Instant::now(), self.observer);
        let trained = self.distiller.train(jobs, &mut |progress| observer(&Event::Training(*progress)));
        self.spent.training += began.elapsed();
        trained
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

    fn evaluate(&mut self, tasks: &[Task], admit: Admit<'_>) -> Result<Vec<Evaluated>, Fault> {
        if self.local { in_turns(self, tasks, admit) } else { self.overlapped(tasks, admit) }
    }
}

impl Live<'_> {
    fn measure_once(&mut self, networks: &[(&str, &Network)]) -> Result<Vec<Outcome<Measured>>, Fault> {
        networks
            .iter()
            .map(|(_, network)| {
                (self.observer)(&Event::Measuring);
                probe(&mut self.gauge, network, &self.info, self.anchored)
            })
            .collect()
    }

    /// The board measures ahead while this machine trains what was admitted: all that has been measured meanwhile goes
    /// into the next round of trainings.
    fn overlapped(&mut self, tasks: &[Task], admit: Admit<'_>) -> Result<Vec<Evaluated>, Fault> {
        let (gauge, info, anchored) = (&mut self.gauge, &self.info, self.anchored);
        let (distiller, observer, spent) = (&mut self.distiller, self.observer, &mut self.spent);
        std::thread::scope(|scope| {
            let (send, receive) = mpsc::channel();
            scope.spawn(move || {
                for task in tasks {
                    let began = Instant::now();
                    let measured = match task.board {
                        Board::Known(known) => Ok((Some(Outcome::Done(known)), 0.0)),
                        Board::Spared => Ok((None, 0.0)),
                        Board::Asked => probe(gauge, &task.job.network, info, anchored)
                            .and_then(|measured| {
                                let again = gauge.has_drifted()?;
                                if again {
                                    probe(gauge, &task.job.network, info, anchored)
                                } else {
                                    Ok(measured)
                                }
                            })
                            .map(|measured| (Some(measured), began.elapsed().as_secs_f64())),
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
                    let (measured, measure_s) = measured?;
                    results.push(Evaluated { measured, measure_s, trained: None });
                }
                let admitted: Vec<usize> = (first_index..results.len())
                    .filter(|&index| admitted(admit, index, results[index].measured.as_ref()))
                    .collect();
                let jobs: Vec<&Job> = admitted.iter().map(|&index| &tasks[index].job).collect();
                let began = Instant::now();
                let trained =
                    distiller.train(&jobs, &mut |progress| observer(&Event::Training(*progress)))?;
                spent.training += began.elapsed();
                for (index, trained) in admitted.into_iter().zip(trained) {
                    results[index].trained = Some(trained);
                }
            }
            Ok(results)
        })
    }
}

fn probe(
    gauge: &mut Gauge,
    network: &Network,
    info: &ModelInfo,
    anchored: bool,
) -> Result<Outcome<Measured>, Fault> {
    if anchored { gauge.probe_anchored(network, info) } else { gauge.probe(network, info) }
}
