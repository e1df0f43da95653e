//! The fourth step: the very file that ships has its place in the run folder, and its accuracy.
//!
//! The one room that reads the test split, once for the teacher and once for the student, after all choices are made.

use n2n_protocol::Digest;

use super::chosen::{Chosen, ChosenStudent};
use super::context::JobContext;
use super::{Error, Phase};
use crate::model_io::{Weights, atomic_file, onnx, safetensors};
use crate::network::Network;
use crate::run::journey::{Milestone, OnBoard};
use crate::run::summary::{SCHEMA, Side, Student, Summary};
use crate::search::{Counts, Limits, NearMiss};
use crate::training::{Accuracy, Confusion, PairedDifference};
use crate::usage::Usage;

/// A job whose result is known.
pub(super) struct Verified<'a> {
    pub(super) job: JobContext<'a>,
    pub(super) limits: Limits,
    pub(super) student: Option<ChosenStudent>,
    /// As it stands in the run folder.
    pub(super) summary: Summary,
}

/// What the search and the choice say beside the student.
struct Found {
    counts: Counts,
    nearest: Vec<NearMiss>,
}

/// A side's numbers, and its answers to compare the other's with.
struct Judged {
    side: Side,
    predictions: Vec<u16>,
}

impl<'a> Chosen<'a> {
    /// Tests; a job that has done so before does not read the test split again.
    pub(super) fn verify(self) -> Result<Verified<'a>, Error> {
        let Self { mut job, teacher, limits, counts, student, nearest } = self;
        job.clock.begin(Phase::Test);
        let file = student.as_ref().map(|student| Digest::of(&student.specimen.bytes).to_string());
        let known = job.journey.milestones().verified().is_some_and(|known| known == file.as_deref());
        // Before shipping: a board that does not take the student costs none of what is known about it.
        let kept = if known { Summary::load(job.folder.path()).map_err(Error::telling)? } else { None };
        let summary = if let Some(summary) = kept {
            summary
        } else {
            let nearest = if student.is_some() { Vec::new() } else { nearest };
            let found = Found { counts, nearest };
            let summary = tested(&job, teacher, &limits, found, student.as_ref())?;
            summary.save(job.folder.path()).map_err(Error::telling)?;
            job.note(Milestone::Verified { file })?;
            summary
        };
        job.students.keep_only(student.as_ref().map(|student| student.digest.as_str()));
        Ok(Verified { job, limits, student, summary })
    }
}

fn tested(
    job: &JobContext<'_>,
    on_board: OnBoard,
    limits: &Limits,
    found: Found,
    student: Option<&ChosenStudent>,
) -> Result<Summary, Error> {
    let configuration = &job.plan.configuration;
    let network = &job.plan.teacher.network;
    let mut teacher = judged(job, network, (network, &job.weights), on_board)?;
    teacher.side.file.clone_from(&configuration.teacher);
    let (uniform, simple) = student.map_or((None, None), |it| (it.uniform.clone(), it.simple.clone()));
    let student = match student {
        Some(student) => Some(of_student(job, &teacher, student)?),
        None => None,
    };
    let welcome = job.lab.gauge.welcome();
    Ok(Summary {
        schema: SCHEMA,
        run: job.plan.out.clone(),
        board: configuration.board.to_string(),
        this_machine: job.lab.local,
        board_model: welcome.board.model.clone(),
        board_class: welcome.board.class.clone(),
        dataset: job.dataset.name.clone(),
        limits: limits.0.clone(),
        teacher: teacher.side,
        student,
        uniform,
        simple,
        nearest: found.nearest,
        candidates: found.counts.proposed,
        counts: Some(found.counts),
        wall_s: job.journey.elapsed().as_secs_f64(),
        seconds: job.clock.phases(),
    })
}

/// Writes `student.onnx` and `student.safetensors`, reads the former back, and tests what was read.
fn of_student(job: &JobContext<'_>, teacher: &Judged, chosen: &ChosenStudent) -> Result<Student, Error> {
    let layout = job.folder.layout();
    let file = layout.student_onnx();
    atomic_file::write(&file, &chosen.specimen.bytes)?;
    safetensors::save(&layout.student_safetensors(), &chosen.network, &chosen.weights)
        .map_err(Error::other)?;
    let shipped = onnx::load(&file).map_err(Error::telling)?;
    let read = (&shipped.network, &*shipped.weights());
    let mut student = judged(job, &chosen.network, read, chosen.on_board.clone())?;
    student.side.file = file;
    let labels = &job.dataset.test.labels;
    Ok(Student {
        difference: PairedDifference::new(&teacher.predictions, &student.predictions, labels),
        side: student.side,
        found_by: chosen.found_by.clone(),
        binding: chosen.binding,
        accuracy_loss: chosen.accuracy_loss,
        usage: Usage::of(&shipped.network, &shipped.info),
        shipped: false,
        not_shipped: None,
        board_agreement: None,
    })
}

/// `structure` is what is shown and counted; `model` is what classifies.
fn judged(
    job: &JobContext<'_>,
    structure: &Network,
    model: (&Network, &Weights),
    OnBoard { measured, measurement }: OnBoard,
) -> Result<Judged, Error> {
    let (network, weights) = model;
    let predictions = job.lab.distiller.predictions(network, weights, &job.dataset.test)?;
    let classes = &job.dataset.classes;
    let side = Side {
        file: std::path::PathBuf::new(),
        network: structure.clone(),
        test: Accuracy::of(&predictions, &job.dataset.test.labels),
        classes: Confusion::new(&predictions, &job.dataset.test.labels, classes.len()).named(classes),
        validation: job.lab.distiller.accuracy(network, weights, &job.dataset.validation_select)?,
        params: structure.cost().params,
        macs: structure.cost().macs,
        measured,
        measurement,
    };
    Ok(Judged { side, predictions })
}
