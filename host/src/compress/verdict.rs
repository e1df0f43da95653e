//! The very file that ships: its accuracy, its place in the run folder, its way into the board's active slot.
//!
//! The one room that reads the test split, once for the teacher and once for the student, after all choices are made.

use anyhow::Context as _;
use n2n_protocol::{Digest, InferPlan, Model, Place};

use super::finale::{Chosen, latency_bound};
use super::laboratory::Live;
use super::{Error, Event, Plan};
use crate::data::Dataset;
use crate::measurement::Measurement;
use crate::model_io::{Weights, atomic_file, onnx, safetensors};
use crate::run::folder::Folder;
use crate::run::summary::{Side, Student};
use crate::search::Limits;
use crate::search::laboratory::Measured;
use crate::shipping::{self, Facts, Shipment, SigningKey, next_number};
use crate::training::{Accuracy, ClassAccuracy, Confusion, PairedDifference, evaluation};
use crate::usage::Usage;

/// Validation images that the board classifies after deployment, beside the host.
const AGREEMENT_IMAGES: usize = 32;
/// Memory of the worker that gives the board's answers, bytes.
const AGREEMENT_MEMORY_BYTES: u64 = 1 << 30;

/// The teacher's numbers, and its answers to compare the student's with.
pub(super) struct Judged {
    pub(super) side: Side,
    predictions: Vec<u16>,
}

pub(super) fn of_teacher(
    lab: &Live<'_>,
    dataset: &Dataset,
    plan: &Plan,
    weights: &Weights,
    (measured, measurement): (Measured, Measurement),
) -> Result<Judged, Error> {
    let network = &plan.teacher.network;
    let predictions = lab.distiller.predictions(network, weights, &dataset.test)?;
    let side = Side {
        file: plan.configuration.teacher.clone(),
        network: network.clone(),
        test: score(&predictions, &dataset.test.labels),
        classes: by_class(&predictions, dataset),
        validation: lab.distiller.accuracy(network, weights, &dataset.validation_select)?,
        params: network.cost().params,
        macs: network.cost().macs,
        measured,
        measurement,
    };
    Ok(Judged { side, predictions })
}

/// Writes `student.onnx` and `student.safetensors`, reads the former back, and tests what was read.
pub(super) fn of_student(
    lab: &Live<'_>,
    folder: &Folder,
    dataset: &Dataset,
    teacher: &Judged,
    chosen: &Chosen,
) -> Result<Student, Error> {
    let file = folder.layout().student_onnx();
    atomic_file::write(&file, &chosen.specimen.bytes)?;
    safetensors::save(&folder.layout().student_safetensors(), &chosen.network, &chosen.weights)
        .map_err(Error::other)?;
    let shipped = onnx::load(&file).map_err(Error::telling)?;
    let weights = shipped.weights();
    let predictions = lab.distiller.predictions(&shipped.network, &weights, &dataset.test)?;
    let side = Side {
        file,
        network: chosen.network.clone(),
        test: score(&predictions, &dataset.test.labels),
        classes: by_class(&predictions, dataset),
        validation: lab.distiller.accuracy(&shipped.network, &weights, &dataset.validation_select)?,
        params: chosen.network.cost().params,
        macs: chosen.network.cost().macs,
        measured: chosen.pair.student.0,
        measurement: chosen.pair.student.1.clone(),
    };
    Ok(Student {
        side,
        difference: PairedDifference::new(&teacher.predictions, &predictions, &dataset.test.labels),
        searcher: chosen.searcher.clone(),
        usage: Usage::of(&shipped.network, &shipped.info),
        shipped: false,
        not_shipped: None,
        board_agreement: None,
    })
}

fn by_class(predictions: &[u16], dataset: &Dataset) -> Vec<ClassAccuracy> {
    let confusion = Confusion::new(predictions, &dataset.test.labels, dataset.classes.len());
    let named = dataset.classes.iter().zip(confusion.by_class());
    named.map(|(class, accuracy)| ClassAccuracy { class: class.clone(), accuracy }).collect()
}

fn score(predictions: &[u16], labels: &[u16]) -> Accuracy {
    let correct = predictions.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
    Accuracy { correct: correct as u32, total: labels.len() as u32 }
}

/// Puts the student into the board's active slot.
///
/// # Errors
/// Why it does not run there.
pub(super) fn ship(lab: &mut Live<'_>, plan: &Plan, limits: &Limits, chosen: &Chosen) -> anyhow::Result<()> {
    let key = SigningKey::load_or_create(&plan.signing_key)?;
    let number =
        next_number(&plan.bundle_number).with_context(|| plan.bundle_number.display().to_string())?;
    let name =
        plan.out.file_name().map_or_else(|| "student".into(), |name| name.to_string_lossy().into_owned());
    let facts = Facts {
        name,
        input: chosen.specimen.input,
        execution: lab.gauge.execution(),
        classes: lab.info.classes.clone(),
        target: lab.gauge.welcome().board.class.clone(),
        number,
        golden: chosen.specimen.golden.clone(),
        // A share of the teacher's latency was judged side by side; a number of one moment may be wrong the next.
        latency_limit_ns: latency_bound(limits).filter(|_| !lab.anchored),
    };
    let input_len = chosen.network.input_shape().elements();
    let shipment = Shipment { onnx: &chosen.specimen.bytes, input_len, facts, force: false };
    let observer = lab.observer;
    shipping::ship(lab.gauge.client(), &shipment, &key, &mut |step| observer(&Event::Shipping(step)))?;
    Ok(())
}

/// Lets the board classify some validation images in the active slot: on how many board and host agree. `None` when it
/// could not be asked; the student is there all the same.
pub(super) fn agreement(lab: &mut Live<'_>, dataset: &Dataset, chosen: &Chosen) -> Option<Accuracy> {
    match agreed(lab, dataset, chosen) {
        Ok(agreement) => Some(agreement),
        Err(error) => {
            (lab.observer)(&Event::Note(format!("board and host were not compared: {error:#}")));
            None
        }
    }
}

fn agreed(lab: &mut Live<'_>, dataset: &Dataset, chosen: &Chosen) -> anyhow::Result<Accuracy> {
    let count = dataset.validation_select.len().min(AGREEMENT_IMAGES);
    let images = dataset.validation_select.select(&(0..count).collect::<Vec<_>>());
    let inputs: Vec<Vec<f32>> = (0..images.len())
        .map(|index| Ok(lab.info.input.of_pixels(&images.image(index)?, &dataset.normalisation)))
        .collect::<std::io::Result<_>>()?;
    let plan = InferPlan {
        model: Model { input: chosen.specimen.input, ..Model::onnx(Digest::of(&chosen.specimen.bytes)) },
        place: Place::ActiveSlot,
        execution: lab.gauge.execution(),
        max_memory_bytes: AGREEMENT_MEMORY_BYTES,
        inputs: Vec::new(),
    };
    let logits = lab.gauge.client().infer(&plan, &inputs)?;
    let on_board: Vec<u16> = logits.iter().map(|row| evaluation::largest(row)).collect();
    let on_host = lab.distiller.predictions(&chosen.network, &chosen.weights, &images)?;
    Ok(score(&on_board, &on_host))
}
