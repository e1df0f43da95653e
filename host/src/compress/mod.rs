//! The whole job, in order: teacher -> board -> search -> finalists -> student -> test set, once -> active slot.
//!
//! | file | what |
//! |---|---|
//! | `plan` | what is asked for |
//! | `gauge` | a network to a measurement |
//! | `drift` | whether the board is still as fast as it was |
//! | `distiller`, `weight_store` | a job to an accuracy; the weights that are kept |
//! | `laboratory` | both, as the search sees them |
//! | `classes` | whether teacher and images mean the same classes |
//! | `smallest` | whether the limits can be kept at all |
//! | `finale` | finalists to the student |
//! | `teacher`, `side_by_side` | the teacher on the board, and the limits that follow; teacher and student measured at one time |
//! | `verdict` | the very file: accuracy, files, deployment |
//! | `dry_run` | what the budget buys |
//!
//! A board that does not take the student costs none of what was found: the summary says why.
//! Only order lives here; arithmetic belongs to the rooms below.

mod classes;
mod distiller;
mod drift;
mod dry_run;
mod error;
mod event;
mod finale;
mod gauge;
mod laboratory;
mod plan;
mod side_by_side;
mod smallest;
mod stopwatch;
mod teacher;
mod verdict;
mod weight_store;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub use dry_run::{Forecast, dry_run};
pub use error::Error;
pub use event::{Event, Observer, Phase};
pub use plan::{Configuration, Finale, Plan};

use distiller::Distiller;
use finale::Chosen;
use gauge::Gauge;
use laboratory::{Live, Spent};
use stopwatch::Stopwatch;
use teacher::{limits_now, measure_teacher};

use crate::board::Endpoint;
use crate::data::Dataset;
use crate::exit::Failure;
use crate::model_io::onnx::ModelInfo;
use crate::model_io::{Weights, atomic_file};
use crate::run::folder::{Folder, Layout};
use crate::run::journal::Journal;
use crate::run::manifest::Manifest;
use crate::run::summary::{SCHEMA, Summary};
use crate::search::laboratory::{Fault, Laboratory as _, Measured};
use crate::search::replay::Replay;
use crate::search::{
    self, Bound, Metric, Policies, Preset, Record, SearchResult, Settings, StageKind, Teacher,
};
use crate::training::device::DeviceError;
use crate::training::recipe::Recipe;
use crate::training::{Classifier, Guessing, device, evaluation};
use crate::wording;
use n2n_protocol::Board;

/// Best candidates that the search names, of which the finale takes the first that keep the limits by a careful measurement.
const FINALIST_POOL: usize = 24;

/// Compresses the plan's teacher. `stop` ends it early, resumably.
///
/// # Errors
/// See [`Error`]. A run whose finalists all break a limit is no error: its summary has no student. One that is refused before
/// its search began leaves no folder behind.
pub fn run(plan: &Plan, stop: &Arc<AtomicBool>, observer: Observer<'_>) -> Result<Summary, Error> {
    let made = !plan.resume && !plan.out.exists();
    let outcome = whole(plan, stop, observer);
    let begun = std::fs::metadata(Layout::of(&plan.out).journal()).is_ok_and(|journal| journal.len() > 0);
    if outcome.is_err() && made && !begun {
        // What stays behind in spite of that is in nobody's way.
        let _ = std::fs::remove_dir_all(&plan.out);
    }
    outcome
}

fn whole(plan: &Plan, stop: &Arc<AtomicBool>, observer: Observer<'_>) -> Result<Summary, Error> {
    let mut clock = Stopwatch::new(observer);
    let folder = if plan.resume { Folder::open(&plan.out)? } else { Folder::create(&plan.out)? };
    let manifest = Manifest::new(&plan.configuration).map_err(Error::other)?;
    let left_out = plan.dataset.facts.skipped.map(wording::skipped);
    folder.begin(manifest.with_digest("teacher", &plan.teacher_digest).with_left_out(left_out))?;
    let (mut journal, recorded) = folder.journal()?;

    clock.begin(Phase::Teacher);
    let dataset = matched_dataset(plan)?;
    let weights = Arc::new(plan.teacher.weights().into_owned());
    let (mut lab, guessing) = open_laboratory(plan, &dataset, &weights, &folder, stop, observer)?;
    lab.before = Replay::new(&recorded).elapsed();

    clock.begin(Phase::Board);
    let settings = Settings {
        board_key: lab.gauge.identity(),
        finalists: FINALIST_POOL.max(plan.configuration.finale.finalists),
        ..plan.configuration.search.clone()
    };
    let teacher = greet_teacher(&mut lab, plan, &settings, &weights, &guessing, &recorded)?;

    clock.begin(Phase::Search);
    let found = search_on(&mut lab, &folder, &mut journal, &recorded, plan, &settings, &teacher)?;
    clock.part(Phase::Search, "training and validating candidates", lab.spent.training);
    clock.part(Phase::Search, "waiting for the board", lab.spent.measuring);

    clock.begin(Phase::Finalists);
    let chosen = finale::finale(&mut lab, &dataset, plan, &found.limits, &found.finalists, &mut clock)?;
    let (teacher_now, limits) = if let Some(Chosen { pair, .. }) = &chosen {
        (pair.teacher.clone(), pair.limits.clone())
    } else {
        let now = measure_teacher(&mut lab, plan, None)?;
        let limits = limits_now(&settings, &teacher.network, now.0)?;
        (now, limits)
    };

    clock.begin(Phase::Test);
    let teacher = verdict::of_teacher(&lab, &dataset, plan, &weights, teacher_now)?;
    let student = match &chosen {
        Some(chosen) => Some(verdict::of_student(&lab, &folder, &dataset, &teacher, chosen)?),
        None => None,
    };
    let mut summary = Summary {
        schema: SCHEMA,
        run: plan.out.clone(),
        board: plan.configuration.board.clone(),
        this_machine: lab.local,
        board_model: lab.gauge.welcome().board.model.clone(),
        board_class: lab.gauge.welcome().board.class.clone(),
        dataset: dataset.name.clone(),
        limits: limits.0.clone(),
        teacher: teacher.side,
        student,
        candidates: found.candidates,
        wall_s: (clock.whole() + lab.before).as_secs_f64(),
        seconds: clock.phases(),
    };
    // Before shipping: a board that does not take the student costs none of what is known about it.
    summary.save(folder.path()).map_err(Error::telling)?;
    if let (Some(student), Some(chosen), true) = (&mut summary.student, &chosen, plan.configuration.ship) {
        clock.begin(Phase::Shipping);
        match verdict::ship(&mut lab, plan, &limits, chosen) {
            Ok(()) => {
                student.shipped = true;
                student.board_agreement = verdict::agreement(&mut lab, &dataset, chosen);
            }
            Err(reason) => student.not_shipped = Some(format!("{reason:#}")),
        }
        summary.wall_s = (clock.whole() + lab.before).as_secs_f64();
        summary.seconds = clock.phases();
        summary.save(folder.path()).map_err(Error::telling)?;
    }
    Ok(summary)
}

/// The plan's data set with the teacher's own normalisation, if the two belong together.
fn matched_dataset(plan: &Plan) -> Result<Dataset, Error> {
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
fn open_laboratory<'a>(
    plan: &Plan,
    dataset: &'a Dataset,
    weights: &Weights,
    folder: &Folder,
    stop: &Arc<AtomicBool>,
    observer: Observer<'a>,
) -> Result<(Live<'a>, Guessing), Error> {
    let choice = plan.configuration.device.parse().map_err(Error::telling::<DeviceError>)?;
    let device = device::open(choice).map_err(Error::telling)?;
    let model = Classifier::new(&plan.teacher.network, weights, &device)?;
    let weighing = plan.configuration.reward;
    let confusion = evaluation::confusion(&model, &dataset.validation_search, &dataset.normalisation)?;
    let guessing = classes::known(&confusion, &dataset.classes, weighing)?;
    let gauge = Gauge::connect(plan, Arc::clone(stop))?;
    check_profile(plan, gauge.board())?;
    let proxy = match plan.configuration.search.preset {
        Preset::Paper => Recipe::paper_proxy(),
        Preset::Edge => Recipe::proxy(),
    };
    let distiller = Distiller::new(
        dataset,
        weighing,
        model,
        device,
        proxy,
        &folder.layout().candidates(),
        Arc::clone(stop),
    )?;
    let lab = Live {
        gauge,
        distiller,
        info: ModelInfo { input: plan.configuration.input, ..plan.teacher.info.clone() },
        anchored: plan
            .configuration
            .search
            .limits
            .iter()
            .any(|limit| limit.metric == Metric::Latency && matches!(limit.bound, Bound::Relative(_))),
        local: matches!(plan.endpoint, Endpoint::Local(_)),
        began: Instant::now(),
        before: Duration::ZERO,
        spent: Spent::default(),
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

/// The teacher as the search sees it; stops where no student could keep the limits.
fn greet_teacher(
    lab: &mut Live<'_>,
    plan: &Plan,
    settings: &Settings,
    weights: &Arc<Weights>,
    guessing: &Guessing,
    recorded: &[Record],
) -> Result<Teacher, Error> {
    let network = plan.teacher.network.clone();
    let (measured, _) = measure_teacher(lab, plan, begun_with(recorded))?;
    let limits = limits_now(settings, &network, measured)?;
    smallest::refuse_impossible(lab, &network, &limits, settings.channel_multiple)?;
    let (weights, accuracy) = (Arc::clone(weights), guessing.model);
    Ok(Teacher { network, weights, accuracy, chance: guessing.guess, measured })
}

/// What the teacher measured when a resumed search began; its relative limits refer to that.
fn begun_with(recorded: &[Record]) -> Option<Measured> {
    recorded.iter().find_map(|record| match record {
        Record::Started(started) => started.teacher.measured,
        _ => None,
    })
}

fn search_on(
    lab: &mut Live<'_>,
    folder: &Folder,
    journal: &mut Journal,
    recorded: &[Record],
    plan: &Plan,
    settings: &Settings,
    teacher: &Teacher,
) -> Result<SearchResult, Error> {
    let start = match &plan.configuration.policy_from {
        Some(run) => load_policies(&Layout::of(run))?,
        None => Policies::default(),
    };
    lab.began = Instant::now();
    let observer = lab.observer;
    let found = search::search(
        settings,
        teacher,
        &start,
        lab,
        &mut |record| journal.append(record).map_err(|error| Fault::Journal(error.to_string())),
        recorded,
        &mut |event| observer(&Event::Search(event)),
    )?;
    save_policies(&found.policies, folder.layout())?;
    Ok(found)
}

fn load_policies(run: &Layout) -> Result<Policies, Error> {
    let load = |stage| {
        let path = run.policy(stage);
        std::fs::read(&path)
            .map_err(|error| Error::Other(Failure::from(error).context(format!("policy {}", path.display()))))
    };
    Ok(Policies { removal: Some(load(StageKind::Removal)?), shrinkage: Some(load(StageKind::Shrinkage)?) })
}

fn save_policies(policies: &Policies, run: &Layout) -> std::io::Result<()> {
    for (stage, bytes) in
        [(StageKind::Removal, &policies.removal), (StageKind::Shrinkage, &policies.shrinkage)]
    {
        if let Some(bytes) = bytes {
            atomic_file::write(&run.policy(stage), bytes)?;
        }
    }
    Ok(())
}
