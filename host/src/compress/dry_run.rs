//! What a budget buys: a few candidates evaluated as the search would, in a folder that is thrown away.
//!
//! Must leave nothing behind but numbers: no run folder, no policy, nothing in a slot.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::prepared::{self, greet_teacher, matched_dataset, open_hands};
use super::{Error, Event, Observer, Phase, Plan};
use crate::measurement::Engine;
use crate::run::folder::Folder;
use crate::run::journey::OnBoard;
use crate::search::answer::Measured;
use crate::search::{self, Budget, Desk, Policies, Record, Settings};

/// Candidates of a forecast, both stages together: some of each searcher, and soon over.
const CANDIDATES: usize = 12;

/// What a few candidates cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// What runs models on the board.
    pub engine: Engine,
    /// On so many threads.
    pub threads: u16,
    /// The teacher on the board.
    pub teacher: Measured,
    /// The teacher on the search's half of the validation images.
    pub teacher_accuracy: f64,
    /// Candidates evaluated.
    pub candidates: usize,
    /// Of them measured, and not known before.
    pub measured: usize,
    /// Of them trained.
    pub trained: usize,
    /// Mean time of a measurement.
    pub measuring: Duration,
    /// Mean time of a training.
    pub training: Duration,
    /// Mean time of a candidate, whatever became of it.
    pub candidate: Duration,
}

/// Evaluates a few candidates of the plan's search.
///
/// # Errors
/// As [`super::run`].
pub fn dry_run(plan: &Plan, stop: &Arc<AtomicBool>, observer: Observer<'_>) -> Result<Forecast, Error> {
    let place = tempfile::tempdir()?;
    let folder = Folder::create(place.path())?;
    observer(&Event::Phase(Phase::Teacher));
    let dataset = matched_dataset(plan)?;
    let weights = Arc::new(plan.teacher.weights().into_owned());
    let (mut lab, guessing) = open_hands(plan, &dataset, &weights, folder.layout(), stop, observer)?;
    lab.distiller.answer_plain()?;
    observer(&Event::Phase(Phase::Board));
    let settings = Settings {
        board_key: lab.gauge.identity(),
        rungs: prepared::rungs(plan),
        budget: Budget::Candidates(CANDIDATES),
        ..plan.configuration.search.clone()
    };
    let on_board = greet_teacher(&mut lab, plan, &settings, None)?;
    let teacher = prepared::teacher(plan, &weights, &guessing, on_board.measured);

    observer(&Event::Phase(Phase::Search));
    let began = Instant::now();
    lab.began = began;
    let mut records = Vec::new();
    search::search(
        &settings,
        &teacher,
        &Policies::default(),
        &mut Desk::new(&mut lab),
        &mut |record| {
            records.push(record.clone());
            Ok(())
        },
        &[],
        &mut |event| observer(&Event::Search(event.clone())),
    )?;
    Ok(forecast(&records, on_board, teacher.accuracy, began.elapsed()))
}

fn forecast(records: &[Record], on_board: OnBoard, teacher_accuracy: f64, wall: Duration) -> Forecast {
    let trials = || {
        records.iter().filter_map(|record| match record {
            Record::Trial(trial) => Some(trial),
            _ => None,
        })
    };
    let mean = |seconds: Vec<f64>| {
        let count = seconds.len();
        (count, Duration::from_secs_f64(seconds.iter().sum::<f64>().max(0.0) / count.max(1) as f64))
    };
    let (measured, measuring) =
        mean(trials().map(|it| it.measure_s).filter(|seconds| *seconds > 0.0).collect());
    let (trained, training) = mean(trials().map(|it| it.train_s).filter(|seconds| *seconds > 0.0).collect());
    let candidates = trials().count();
    let candidate = wall / u32::try_from(candidates.max(1)).unwrap_or(u32::MAX);
    let (engine, threads) = (on_board.measurement.engine, on_board.measurement.threads);
    Forecast {
        engine,
        threads,
        teacher: on_board.measured,
        teacher_accuracy,
        candidates,
        measured,
        trained,
        measuring,
        training,
        candidate,
    }
}

impl Forecast {
    /// Candidates that fit into a time.
    pub fn candidates_in(&self, time: Duration) -> usize {
        (time.as_secs_f64() / self.candidate.as_secs_f64().max(f64::MIN_POSITIVE)) as usize
    }

    /// How long so many candidates take.
    pub fn time_of(&self, candidates: usize) -> Duration {
        self.candidate.mul_f64(candidates as f64)
    }
}
