//! Where the time of a run goes, by phase; and the one place that announces a phase.

use std::time::{Duration, Instant};

use super::{Event, Observer, Phase};

/// Times phases; a phase ends where the next begins.
pub(super) struct Stopwatch<'a> {
    observer: Observer<'a>,
    began: Instant,
    phases: Vec<(Phase, Instant)>,
}

impl<'a> Stopwatch<'a> {
    pub(super) fn new(observer: Observer<'a>) -> Self {
        Self { observer, began: Instant::now(), phases: Vec::new() }
    }

    pub(super) fn begin(&mut self, phase: Phase) {
        self.phases.push((phase, Instant::now()));
        (self.observer)(&Event::Phase(phase));
    }

    pub(super) fn whole(&self) -> Duration {
        self.began.elapsed()
    }

    /// Title and seconds of each phase so far, in order.
    pub(super) fn phases(&self) -> Vec<(String, f64)> {
        let ends = self.phases.iter().skip(1).map(|&(_, begin)| begin).chain([Instant::now()]);
        let lasted = |(&(phase, begin), end): (&(Phase, Instant), Instant)| {
            (phase.title().to_owned(), end.duration_since(begin).as_secs_f64())
        };
        self.phases.iter().zip(ends).map(lasted).collect()
    }
}
