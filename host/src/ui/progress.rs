//! One line of progress: a bar on a terminal, else a line in the log every few seconds, also while nothing is told.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::units;

/// Time between two lines in a log: nobody waits for a sign of life for ten seconds.
const LOG_INTERVAL: Duration = Duration::from_secs(9);
/// How often a bar on a terminal is redrawn while nothing else happens.
const TICK: Duration = Duration::from_millis(200);
/// Counting must have gone on for so long before it says when it will be over.
const SHORTEST_LAP: Duration = Duration::from_secs(2);

/// One line of progress; shared by reference, also between threads.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    line: Arc<Line>,
    /// Writes into the log; ends when the line is over.
    log: Option<JoinHandle<()>>,
}

/// What is to be said.
#[derive(Debug)]
struct Line {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Debug)]
struct State {
    title: String,
    message: String,
    steps: Option<u64>,
    lap: Option<Lap>,
    /// Whether it says when it will be over.
    estimates: bool,
    began: Instant,
    is_over: bool,
}

/// A count that goes on; one that starts anew has a new speed.
#[derive(Clone, Copy, Debug)]
struct Lap {
    began: Instant,
    first: u64,
    done: u64,
}

impl Lap {
    /// Time to `steps`, once there is something to tell it from.
    fn left(&self, steps: u64, now: Instant) -> Option<Duration> {
        let (elapsed, done) = (now.duration_since(self.began), self.done - self.first);
        let known = done > 0 && elapsed >= SHORTEST_LAP;
        known.then(|| elapsed.mul_f64(steps.saturating_sub(self.done) as f64 / done as f64))
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, done: u64) {
        match &mut self.lap {
            Some(lap) if lap.done <= done => lap.done = done,
            lap => *lap = Some(Lap { began: Instant::now(), first: done, done }),
        }
    }

    fn left(&self) -> Option<Duration> {
        self.lap
            .zip(self.steps)
            .filter(|_| self.estimates)
            .and_then(|(lap, steps)| lap.left(steps, Instant::now()))
    }

    /// As it stands in a log.
    fn words(&self) -> String {
        let counted = match (self.lap, self.steps) {
            (Some(lap), Some(steps)) if lap.done > 0 => format!("{} of {steps}", lap.done),
            _ => format!("{} so far", units::duration(self.began.elapsed())),
        };
        let left = self.left().map_or_else(String::new, |left| format!(", {} left", units::duration(left)));
        let what = if self.message.is_empty() { String::new() } else { format!("; {}", self.message) };
        format!("{}: {counted}{left}{what}", self.title)
    }
}

impl Progress {
    /// Shows `bar` on a terminal, or writes into the log, or neither.
    pub(super) fn start(title: String, bar: ProgressBar, shown: bool, log: bool) -> Self {
        let template = if bar.length().is_none() {
            "{spinner} {prefix}  {elapsed}  {msg}"
        } else {
            "{spinner} {prefix}  {bar:24.cyan/blue} {pos}/{len}  {elapsed}{msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(title.clone());
        if shown {
            bar.enable_steady_tick(TICK);
        }
        let state = State {
            title,
            message: String::new(),
            steps: bar.length(),
            lap: None,
            estimates: true,
            began: Instant::now(),
            is_over: false,
        };
        let line = Arc::new(Line { state: Mutex::new(state), over: Condvar::new() });
        let log = log.then(|| {
            let line = Arc::clone(&line);
            std::thread::spawn(move || write_log(&line))
        });
        Self { bar, line, log }
    }

    /// Steps done so far, and what is going on.
    pub fn set(&self, done: u64, message: impl Into<String>) {
        let mut state = self.line.state();
        state.message = message.into();
        state.count(done);
        let left = state.left().map_or_else(String::new, |left| format!(", {} left", units::duration(left)));
        let message =
            if state.steps.is_some() { format!("{left}  {}", state.message) } else { state.message.clone() };
        drop(state);
        self.bar.set_position(done);
        self.bar.set_message(message);
    }

    /// Somebody else says when it will be over.
    #[must_use]
    pub fn without_estimate(self) -> Self {
        self.line.state().estimates = false;
        self
    }

    /// Steps done so far; what is going on stays.
    pub fn go_to(&self, done: u64) {
        let mut state = self.line.state();
        state.count(done);
        drop(state);
        self.bar.set_position(done);
    }

    /// Steps done so far.
    pub fn position(&self) -> u64 {
        self.bar.position()
    }

    /// Changes the number of steps.
    pub fn set_steps(&self, steps: u64) {
        self.line.state().steps = Some(steps);
        self.bar.set_length(steps);
    }

    /// Changes what stands in front.
    pub fn set_title(&self, title: impl Into<String>) {
        let title = title.into();
        self.line.state().title.clone_from(&title);
        self.bar.set_prefix(title);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.state().is_over = true;
        self.line.over.notify_all();
        if let Some(log) = self.log.take() {
            // A thread that panicked has nothing more to say.
            let _ = log.join();
        }
        self.bar.finish_and_clear();
    }
}

/// Writes a line each interval until the line is over.
fn write_log(line: &Line) {
    let mut state = line.state();
    loop {
        let waited = line.over.wait_timeout_while(state, LOG_INTERVAL, |state| !state.is_over);
        let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state = now;
        if !timeout.timed_out() {
            return;
        }
        tracing::info!("{}", state.words());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_the_end_before_something_is_known_of_the_speed() {
        let began = Instant::now();
        let lap = |done| Lap { began, first: 100, done };
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(lap(100).left(1000, after(30)), None, "no step yet, however long that took");
        assert_eq!(lap(101).left(1000, after(1)), None, "one step in a second may be the first, slow one");
        // What was done before this lap (a resumed training) has taken none of its time.
        assert_eq!(lap(200).left(1000, after(10)), Some(Duration::from_secs(80)));
        assert_eq!(lap(1000).left(1000, after(90)), Some(Duration::ZERO));
    }

    #[test]
    fn a_line_says_how_far_it_is_and_what_goes_on() {
        let progress = Progress::start("training".into(), ProgressBar::hidden(), false, true);
        progress.set_steps(50);
        assert_eq!(progress.line.state().words(), "training: 0.0s so far");
        progress.set(5, "epoch 1");
        assert_eq!(progress.line.state().words(), "training: 5 of 50; epoch 1");
        progress.set_title("step 2 of 8");
        assert!(progress.line.state().words().starts_with("step 2 of 8: 5 of 50"));
        // The thread that writes the log ends with it.
        drop(progress);
    }
}
