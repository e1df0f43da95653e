//! Where the time of a run goes, by phase; and the one place that announces a phase.

use std::time::{Duration, Instant};

use super::{Event, Observer, Phase};

/// Times phases; a phase ends where the next begins.
pub(super) struct Stopwatch<'a> {
    observer: Observer<'a>,
    phases: Vec<(Phase, Instant)>,
    /// What is known of the inside of a phase.
    parts: Vec<(Phase, &'static str, Duration)>,
}

impl<'a> Stopwatch<'a> {
    pub(super) fn new(observer: Observer<'a>) -> Self {
        Self { observer, phases: Vec::new(), parts: Vec::new() }
    }

    pub(super) fn begin(&mut self, phase: Phase) {
        self.phases.push((phase, Instant::now()));
        (self.observer)(&Event::Phase(phase));
    }

    /// Says what so much of a phase went into.
    pub(super) fn part(&mut self, phase: Phase, what: &'static str, lasted: Duration) {
        self.parts.push((phase, what, lasted));
    }

    /// Title and seconds of each phase so far, in order; of a phase with known parts those, and what is left.
    pub(super) fn phases(&self) -> Vec<(String, f64)> {
        let ends = self.phases.iter().skip(1).map(|&(_, begin)| begin).chain([Instant::now()]);
        let mut lines = Vec::new();
        for (&(phase, begin), end) in self.phases.iter().zip(ends) {
            let mut left = end.duration_since(begin);
            let mut title = phase.title().to_owned();
            for (_, what, lasted) in self.parts.iter().filter(|(of, ..)| *of == phase) {
                lines.push((format!("{}: {what}", phase.title()), lasted.as_secs_f64()));
                left = left.saturating_sub(*lasted);
                title = format!("{}: everything else", phase.title());
            }
            lines.push((title, left.as_secs_f64()));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_divided_into_its_parts_and_the_rest() {
        let mut clock = Stopwatch::new(&|_| {});
        clock.begin(Phase::Board);
        clock.begin(Phase::Search);
        std::thread::sleep(Duration::from_millis(20));
        clock.part(Phase::Search, "training candidates", Duration::from_millis(15));
        clock.begin(Phase::Test);
        let lines = clock.phases();
        let titles: Vec<&str> = lines.iter().map(|(title, _)| title.as_str()).collect();
        assert_eq!(
            titles,
            [
                "measuring the teacher and the smallest student",
                "searching: training candidates",
                "searching: everything else",
                "testing teacher and student",
            ]
        );
        assert_eq!(lines[1].1, 0.015);
        assert!(lines[2].1 >= 0.005, "the phase took 20 ms at the least: {lines:?}");
    }
}
