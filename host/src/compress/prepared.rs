//! The first step: teacher and images belong together, the teacher is no guesser, the board answers, and a student can
//! keep the limits.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use n2n_protocol::Board;

use super::context::JobContext;
use super::distiller::{Distiller, Keeping};
use super::extension::{self, Extension};
use super::gauge::Gauge;
use super::least_budget::{self, Speed};
use super::live::{Live, Spent};
use super::stopwatch::Stopwatch;
use super::student_store::StudentStore;
use super::teacher::{limits_now, measure_teacher};
use super::{Error, Event, Observer, Phase, Plan, classes, smallest};
use crate::board::Endpoint;
use crate::data::Dataset;
use crate::model_io::Weights;
use crate::model_io::onnx::ModelInfo;
use crate::run::folder::{Folder, Layout};
use crate::run::journal::Journal;
use crate::run::journey::{Milestone, OnBoard};
use crate::search::answer::Measured;
use crate::search::hands::Hands as _;
use crate::search::replay::Replay;
use crate::search::{self, Bound, Metric, Preset, Record, Rungs, Settings, Teacher};
use crate::training::recipe::Recipe;
use crate::training::{Classifier, Guessing, device, evaluation};
use crate::wording;

/// A careful measurement of the teacher and a probe of the smallest student take as long as so many probes: 1.2 to 2 s against
/// 0.1 s in the quickstarts of docs/results.md.
const CANDIDATES_FOR_A_TEACHER: u32 = 16;
/// Best candidates that the search names, of which the finale takes the first that keep the limits by a careful measurement.
const FINALIST_POOL: usize = 24;

/// A job that is ready to search.
pub(super) struct Prepared<'a> {
    pub(super) job: JobContext<'a>,
    pub(super) settings: Settings,
    /// The teacher as the search sees it.
    pub(super) teacher: Teacher,
    /// The teacher on the board.
    pub(super) on_board: OnBoard,
    pub(super) journal: Journal,
    /// What an earlier part of the job wrote into it.
    pub(super) recorded: Vec<Record>,
}

impl<'a> Prepared<'a> {
    /// Prepares a job, or goes on with one: what its journey knows is not measured again.
    pub(super) fn new(
        plan: &'a Plan,
        folder: &'a Folder,
        dataset: &'a Dataset,
        stop: &Arc<AtomicBool>,
        mut clock: Stopwatch<'a>,
        observer: Observer<'a>,
    ) -> Result<Self, Error> {
        let (mut journey, (journal, recorded)) = (folder.journey()?, folder.journal()?);
        let weights = Arc::new(plan.teacher.weights().into_owned());
        let (mut lab, guessing) = open_hands(plan, dataset, &weights, folder.layout(), stop, observer)?;
        lab.before = Replay::new(&recorded).elapsed();
        journey.took_before(lab.before);
        let begun = plan.configuration.search.budget;
        if let Some(Extension { from, to }) = Extension::of(begun, journey.milestones(), plan.budget)? {
            journey.note(Milestone::Extended { from, to })?;
        }
        let settings = Settings {
            board_key: lab.gauge.identity(),
            rungs: rungs(plan),
            extensions: extension::all(journey.milestones()),
            finalists: FINALIST_POOL.max(plan.configuration.finale.finalists),
            ..plan.configuration.search.clone()
        };

        clock.begin(Phase::Board);
        let known = journey.milestones().prepared().cloned();
        let on_board = if let Some(known) = known.filter(|_| journey.milestones().is_searched()) {
            known
        } else {
            let began = Instant::now();
            lab.distiller.answer_plain()?;
            let answered = began.elapsed();
            let began = Instant::now();
            let on_board = greet_teacher(&mut lab, plan, &settings, begun_with(&recorded))?;
            if recorded.is_empty() {
                // The teacher was measured carefully, and the smallest student as candidates are.
                let speed = Speed {
                    image: answered
                        / u32::try_from((dataset.train.len() + dataset.unlabelled.len()).max(1))
                            .unwrap_or(u32::MAX),
                    measurement: began.elapsed() / CANDIDATES_FOR_A_TEACHER,
                };
                let teacher = teacher(plan, &weights, &guessing, on_board.measured);
                let limits = limits_now(&settings, &plan.teacher.network, on_board.measured)?;
                if let Some(first) = search::first_look(&settings, &teacher, &limits) {
                    least_budget::refuse_less(&settings, &limits, first, Recipe::proxy().batch, &speed)?;
                }
            }
            journey.note(Milestone::Prepared(Box::new(on_board.clone())))?;
            on_board
        };
        let teacher = teacher(plan, &weights, &guessing, on_board.measured);
        let students = StudentStore::of(&folder.layout().students());
        let job = JobContext { plan, folder, dataset, weights, lab, clock, journey, students };
        Ok(Self { job, settings, teacher, on_board, journal, recorded })
    }
}

/// The plan's data set with the teacher's own normalisation, if the two belong together.
pub(super) fn matched_dataset(plan: &Plan) -> Result<Dataset, Error> {
    let (network, samples) = (&plan.teacher.network, &plan.dataset.train);
    let shape = format!("{}x{}x{}", samples.channels, samples.height, samples.width);
    let differs = |what, teacher: String, dataset: String| Err(Error::Mismatch { what, teacher, dataset });
    if network.input_shape().to_string() != shape {
        return differs("images", network.input_shape().to_string(), shape);
    }
    let dataset = Dataset { normalisation: plan.teacher.info.normalisation.clone(), ..plan.dataset.clone() };
    classes::in_teachers_order(dataset, &plan.teacher.info.classes, network.classes())
}

/// Evaluates the teacher, refuses one that guesses before anything costly is done, and greets the board.
pub(super) fn open_hands<'a>(
    plan: &Plan,
    dataset: &'a Dataset,
    weights: &Weights,
    layout: &Layout,
    stop: &Arc<AtomicBool>,
    observer: Observer<'a>,
) -> Result<(Live<'a>, Guessing), Error> {
    let device = device::open(plan.configuration.device).map_err(Error::telling)?;
    let model = Classifier::new(&plan.teacher.network, weights, &device)?;
    let weighing = plan.configuration.reward;
    let confusion = evaluation::confusion(&model, &dataset.validation_search, &dataset.normalisation)?;
    let guessing = classes::known(&confusion, &dataset.classes, weighing)?;
    let gauge = Gauge::connect(plan, Arc::clone(stop))?;
    let (engine, threads) = gauge.engine();
    observer(&Event::Note(format!(
        "models run on {}",
        wording::engine(&engine.name, &engine.version, threads)
    )));
    check_profile(plan, gauge.board())?;
    let proxy = match plan.configuration.search.preset {
        Preset::Paper => Recipe::paper_proxy(),
        Preset::Edge => Recipe::proxy(),
    };
    let keeping = Keeping {
        candidates: layout.candidates(),
        folder: layout.trainings(),
        data: plan.data_digest.clone(),
        teacher: plan.teacher_digest.clone(),
        device: plan.configuration.device.to_string(),
        interval: plan.checkpoint_interval,
    };
    let distiller = Distiller::new(dataset, weighing, model, device, proxy, keeping, Arc::clone(stop))?;
    let relative = |bound| matches!(bound, Bound::Relative(_));
    let lab = Live {
        gauge,
        distiller,
        info: ModelInfo { input: plan.configuration.input, ..plan.teacher.info.clone() },
        anchored: plan
            .configuration
            .search
            .limits
            .iter()
            .any(|limit| limit.metric == Metric::Latency && relative(limit.bound)),
        local: matches!(plan.endpoint, Endpoint::Local(_)),
        began: Instant::now(),
        before: Duration::ZERO,
        spent: Spent::default(),
        deadline: None,
        stop: Arc::clone(stop),
        observer,
    };
    Ok((lab, guessing))
}

/// Refuses a board of another kind than the plan's profile is about: its limits and widths would bind the wrong machine.
fn check_profile(plan: &Plan, board: &Board) -> Result<(), Error> {
    let misfit = plan.profile.as_ref().filter(|_| !plan.configuration.any_board);
    match misfit.and_then(|profile| Some((profile, profile.misfit(board)?))) {
        Some((profile, (expected, got))) => {
            Err(Error::Profile { profile: profile.name.clone(), expected, got })
        }
        None => Ok(()),
    }
}

/// Measures the teacher; stops where no student could keep the limits. `anchor`: as it was when the search began.
pub(super) fn greet_teacher(
    lab: &mut Live<'_>,
    plan: &Plan,
    settings: &Settings,
    anchor: Option<Measured>,
) -> Result<OnBoard, Error> {
    let network = &plan.teacher.network;
    let on_board = measure_teacher(lab, plan, anchor)?;
    let limits = limits_now(settings, network, on_board.measured)?;
    smallest::refuse_impossible(lab, network, &limits, settings.channel_multiple)?;
    Ok(on_board)
}

/// The plan's rungs, as its training set bears them.
pub(super) fn rungs(plan: &Plan) -> Rungs {
    let images = plan.dataset.train.len() + plan.dataset.unlabelled.len();
    plan.configuration.search.rungs.for_batches(Recipe::proxy().batches(images))
}

/// The teacher as the search sees it.
pub(super) fn teacher(
    plan: &Plan,
    weights: &Arc<Weights>,
    guessing: &Guessing,
    measured: Measured,
) -> Teacher {
    Teacher {
        network: plan.teacher.network.clone(),
        weights: Arc::clone(weights),
        accuracy: guessing.model,
        chance: guessing.guess,
        measured,
    }
}

/// What the teacher measured when a resumed search began; its relative limits refer to that.
fn begun_with(recorded: &[Record]) -> Option<Measured> {
    recorded.iter().find_map(|record| match record {
        Record::Started(started) => started.teacher.measured,
        _ => None,
    })
}
