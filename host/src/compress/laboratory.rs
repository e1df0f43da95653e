//! The live [`Laboratory`]: a board to measure on, a trainer, a clock and Ctrl-C.
//!
//! A local board shares this machine's cores with the trainer, so the two take turns; a remote one measures the next
//! student while the last one trains. Must not score anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::distiller::Distiller;
use super::gauge::Gauge;
use super::Event;
use crate::model_io::Weights;
use crate::model_io::onnx::ModelInfo;
use crate::network::Network;
use crate::search::laboratory::{Admit, Evaluated, Fault, Job, Laboratory, Measured, Outcome, Task, Trained};

/// The world of one run.
pub(super) struct Live<'a> {
    pub(super) gauge: Gauge,
    pub(super) distiller: Distiller<'a>,
    pub(super) info: ModelInfo,
    /// Whether the board is this machine.
    pub(super) local: bool,
    /// Since when this part of the run searches.
    pub(super) began: Instant,
    /// Spent by earlier parts of the run.
    pub(super) before: Duration,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) observer: super::Observer<'a>,
}

impl Laboratory for Live<'_> {
    fn measure(&mut self, networks: &[(&str, &Network)]) -> Result<Vec<Outcome<Measured>>, Fault> {
        networks
            .iter()
            .map(|(_, network)| {
                (self.observer)(&Event::Measuring);
                self.gauge.probe(network, &self.info)
            })
            .collect()
    }

    fn train(&mut self, jobs: &[&Job]) -> Result<Vec<Outcome<Trained>>, Fault> {
        jobs.iter()
            .map(|job| {
                let observer = self.observer;
                self.distiller.train(job, &mut |progress| observer(&Event::Training(*progress)))
            })
            .collect()
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
}
