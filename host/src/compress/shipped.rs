//! The last step: the student in the board's active slot. A board that does not take it costs none of what was found.

use anyhow::Context as _;
use n2n_protocol::{Digest, InferPlan, Model, Place};

use super::chosen::ChosenStudent;
use super::context::JobContext;
use super::verified::Verified;
use super::{Error, Event, Phase};
use crate::run::journey::Milestone;
use crate::run::summary::Summary;
use crate::search::{Limits, Metric};
use crate::shipping::{self, Facts, Shipment, SigningKey, next_number};
use crate::training::{Accuracy, evaluation};

/// Validation images that the board classifies after deployment, beside the host.
const AGREEMENT_IMAGES: usize = 32;
/// Memory of the worker that gives the board's answers, bytes.
const AGREEMENT_MEMORY_BYTES: u64 = 1 << 30;

/// A job that is over.
pub(super) struct Shipped {
    pub(super) summary: Summary,
}

impl Verified<'_> {
    /// Ships, where that is wanted and was not done before. A board that refused may be asked again by a resumed job.
    pub(super) fn ship(self) -> Result<Shipped, Error> {
        let Self { mut job, limits, student, mut summary } = self;
        let wanted = job.plan.configuration.ship && !job.journey.milestones().is_shipped();
        let (Some(chosen), Some(result), true) = (&student, &mut summary.student, wanted) else {
            return Ok(Shipped { summary });
        };
        job.clock.begin(Phase::Shipping);
        let shipped = ship(&mut job, &limits, chosen);
        match &shipped {
            Ok(()) => {
                (result.shipped, result.not_shipped) = (true, None);
                result.board_agreement = agreement(&mut job, chosen);
            }
            Err(reason) => result.not_shipped = Some(format!("{reason:#}")),
        }
        let agreement = result.board_agreement;
        summary.wall_s = job.journey.elapsed().as_secs_f64();
        summary.seconds = job.clock.phases();
        summary.save(job.folder.path()).map_err(Error::telling)?;
        if shipped.is_ok() {
            job.note(Milestone::Shipped { agreement })?;
        }
        Ok(Shipped { summary })
    }
}

/// Puts the student into the board's active slot.
///
/// # Errors
/// Why it does not run there.
fn ship(job: &mut JobContext<'_>, limits: &Limits, chosen: &ChosenStudent) -> anyhow::Result<()> {
    let (plan, lab) = (job.plan, &mut job.lab);
    let key = SigningKey::load_or_create(&plan.signing_key)?;
    let number =
        next_number(&plan.bundle_number).with_context(|| plan.bundle_number.display().to_string())?;
    let name =
        plan.out.file_name().map_or_else(|| "student".into(), |name| name.to_string_lossy().into_owned());
    let bound = limits.0.iter().find(|(metric, _)| *metric == Metric::Latency);
    let facts = Facts {
        name,
        input: chosen.specimen.input,
        execution: lab.gauge.execution(),
        classes: lab.info.classes.clone(),
        target: lab.gauge.welcome().board.class.clone(),
        number,
        golden: chosen.specimen.golden.clone(),
        // A share of the teacher's latency was judged side by side; a number of one moment may be wrong the next.
        latency_limit_ns: bound.map(|(_, bound)| *bound as u64).filter(|_| !lab.anchored),
    };
    let input_len = chosen.network.input_shape().elements();
    let shipment = Shipment { onnx: &chosen.specimen.bytes, input_len, facts, force: false };
    let observer = lab.observer;
    shipping::ship(lab.gauge.client(), &shipment, &key, &mut |step| observer(&Event::Shipping(step)))?;
    Ok(())
}

/// Lets the board classify some validation images in the active slot: on how many board and host agree. `None` when it
/// could not be asked; the student is there all the same.
fn agreement(job: &mut JobContext<'_>, chosen: &ChosenStudent) -> Option<Accuracy> {
    match agreed(job, chosen) {
        Ok(agreement) => Some(agreement),
        Err(error) => {
            job.say(format!("board and host were not compared: {error:#}"));
            None
        }
    }
}

fn agreed(job: &mut JobContext<'_>, chosen: &ChosenStudent) -> anyhow::Result<Accuracy> {
    let select = &job.dataset.validation_select;
    let count = select.len().min(AGREEMENT_IMAGES);
    let images = select.select(&(0..count).collect::<Vec<_>>());
    let form = job.lab.info.input;
    let inputs: Vec<Vec<f32>> = (0..images.len())
        .map(|index| Ok(form.of_pixels(&images.image(index)?, &job.dataset.normalisation)))
        .collect::<std::io::Result<_>>()?;
    let gauge = &mut job.lab.gauge;
    let plan = InferPlan {
        model: Model { input: chosen.specimen.input, ..Model::onnx(Digest::of(&chosen.specimen.bytes)) },
        place: Place::ActiveSlot,
        execution: gauge.execution(),
        max_memory_bytes: AGREEMENT_MEMORY_BYTES,
        inputs: Vec::new(),
    };
    let logits = gauge.client().infer(&plan, &inputs)?;
    let on_board: Vec<u16> = logits.iter().map(|row| evaluation::largest(row)).collect();
    let on_host = job.lab.distiller.predictions(&chosen.network, &chosen.weights, &images)?;
    Ok(Accuracy::of(&on_board, &on_host))
}
