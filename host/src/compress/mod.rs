//! The whole job, in order: teacher -> board -> search -> finalists -> student -> test set, once -> active slot.
//!
//! | file | what |
//! |---|---|
//! | `plan` | what is asked for |
//! | `gauge` | a network to a measurement |
//! | `distiller`, `weight_store` | a job to an accuracy; the weights that are kept |
//! | `laboratory` | both, as the search sees them |
//! | `finale` | finalists to the student |
//! | `paired` | teacher against student on the same images |
//! | `summary` | what came out |
//!
//! Only order lives here; arithmetic belongs to the rooms below.

mod distiller;
mod error;
mod event;
mod finale;
mod gauge;
mod laboratory;
pub mod paired;
mod plan;
mod smallest;
pub mod summary;
mod weight_store;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use error::Error;
pub use event::{Event, Observer, Phase};
pub use plan::{Finale, Plan};
pub use summary::{Side, Student, Summary};

use distiller::Distiller;
use finale::Chosen;
use gauge::{Gauge, Specimen};
use laboratory::Live;
use paired::PairedDifference;

use crate::data::Dataset;
use crate::model_io::{Weights, atomic_file, onnx, safetensors};
use crate::network::Network;
use crate::run::folder::Folder;
use crate::search::constraint::{Limits, Resources};
use crate::search::laboratory::{Fault, Measured, Outcome};
use crate::search::reward::Preset;
use crate::search::{self, Settings};
use crate::shipping;
use crate::training::recipe::Recipe;
use crate::training::{Accuracy, Model, device, evaluation};
use n2n_protocol::Measurement;

/// A teacher must be right this many times as often as a guess (method.md 4; the usual cause is wrong preprocessing).
const WEAK_TEACHER: f64 = 3.0;
/// Validation images that the board classifies after deployment, beside the host.
const AGREEMENT_IMAGES: usize = 32;

/// Compresses the plan's teacher. `stop` ends it early, resumably.
///
/// # Errors
/// See [`Error`]; a run that finds no student within the limits is no error: its summary has no student.
pub fn run(plan: &Plan, stop: &Arc<AtomicBool>, observer: Observer<'_>) -> Result<Summary, Error> {
    let mut clock = Stopwatch::new(observer);
    let folder = if plan.resume { Folder::open(&plan.out) } else { Folder::create(&plan.out) };
    let folder = folder.map_err(|error| Error::Folder(error.to_string()))?;

    clock.begin(Phase::Teacher);
    let dataset = with_teachers_normalisation(plan)?;
    let weights = Arc::new(plan.teacher.weights().into_owned());
    let model = Model::new(&plan.teacher.network, &weights, &device::open(plan.device).map_err(anyhow::Error::from)?)?;
    let accuracy = evaluation::evaluate(&model, &dataset.validation_search, &dataset.normalisation)?;
    refuse_weak_teacher(&accuracy, dataset.classes.len())?;
    let proxy = match plan.search.preset {
        Preset::Paper => Recipe::paper_proxy(),
        Preset::Edge => Recipe::proxy(),
    };
    let distiller = Distiller::new(&dataset, model, proxy, &folder.candidates(), Arc::clone(stop))?;

    clock.begin(Phase::Board);
    let gauge = Gauge::connect(&plan.endpoint, plan.board_threads, Arc::clone(stop))?;
    let mut lab = Live {
        gauge,
        distiller,
        info: plan.teacher.info.clone(),
        local: plan.endpoint.is_local(),
        began: Instant::now(),
        before: Duration::ZERO,
        stop: Arc::clone(stop),
        observer,
    };
    let settings = Settings { board_key: lab.gauge.identity(), ..plan.search.clone() };
    let manifest = folder.begin(plan, &settings, lab.gauge.welcome())?;
    let (teacher_measured, teacher_measurement) = measure_teacher(&mut lab, &plan.teacher.network)?;
    let teacher = search::Teacher {
        network: plan.teacher.network.clone(),
        weights: Arc::clone(&weights),
        accuracy: accuracy.fraction(),
        chance: 1.0 / dataset.classes.len() as f64,
        measured: manifest.teacher_measured(teacher_measured),
    };
    let limits = Limits::resolve(&settings.limits, &teacher.resources()).map_err(anyhow::Error::from)?;
    smallest::refuse_impossible(&mut lab, &teacher.network, &limits, settings.channel_multiple)?;

    clock.begin(Phase::Search);
    let found = search_on(&mut lab, &folder, plan, &settings, &teacher)?;

    let chosen = finale::finale(&mut lab, &dataset, plan.finale, settings.seed, &limits, &found.finalists)?;

    clock.begin(Phase::Verdict);
    let teacher_side = Side {
        file: plan.teacher_file.clone(),
        network: plan.teacher.network.clone(),
        test: Accuracy::default(),
        validation: lab.distiller.accuracy(&plan.teacher.network, &weights, &dataset.validation_select)?,
        params: plan.teacher.network.cost().params,
        macs: plan.teacher.network.cost().macs,
        measured: teacher.measured,
        measurement: teacher_measurement,
    };
    let (teacher_side, student) = verdict(&mut lab, &folder, &dataset, plan, teacher_side, &weights, chosen.as_ref())?;
    let student = match (student, chosen) {
        (Some(student), Some(chosen)) if plan.ship => {
            clock.begin(Phase::Shipping);
            Some(ship(&mut lab, &dataset, plan, &limits, student, &chosen)?)
        }
        (student, _) => student,
    };
    let welcome = lab.gauge.welcome();
    let summary = Summary {
        run: plan.out.clone(),
        board: plan.board.clone(),
        this_machine: lab.local,
        board_model: welcome.board.model.clone(),
        dataset: dataset.name.clone(),
        limits: limits.0,
        teacher: teacher_side,
        student,
        candidates: found.candidates,
        wall_s: clock.whole().as_secs_f64() + lab.before.as_secs_f64(),
        seconds: clock.phases(),
    };
    summary.save(folder.path())?;
    Ok(summary)
}
