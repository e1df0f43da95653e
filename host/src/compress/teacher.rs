//! The teacher on the board as a student would be, and the limits that follow from its latency.

use super::error::Error;
use super::event::Event;
use super::gauge::Specimen;
use super::live::Live;
use super::plan::Plan;
use crate::network::Network;
use crate::run::journey::OnBoard;
use crate::search::answer::{Measured, Outcome};
use crate::search::{Limits, Resources, Settings};

/// The limits in base units, for a teacher that measures like this.
pub(super) fn limits_now(
    settings: &Settings,
    teacher: &Network,
    measured: Measured,
) -> Result<Limits, Error> {
    let resources = Resources { measured: Some(measured), ..Resources::of(teacher) };
    Limits::resolve(&settings.limits, &resources).map_err(Error::other)
}

/// The teacher on the board as a student would be: batch norm folded. From now on it shows whether the board drifts.
pub(super) fn measure_teacher(
    lab: &mut Live<'_>,
    plan: &Plan,
    anchor: Option<Measured>,
) -> Result<OnBoard, Error> {
    let specimen = Specimen::untrained(&plan.teacher.network, &lab.info)?;
    (lab.observer)(&Event::Measuring);
    match lab.gauge.examine(&specimen, &mut |_| {})? {
        Outcome::Done(teacher) => {
            let anchor_ns = anchor.unwrap_or(teacher.measured).latency_ns;
            lab.gauge.refer_to(specimen, teacher.measured, anchor_ns);
            Ok(teacher)
        }
        Outcome::Infeasible(reason) | Outcome::Unknown(reason) => Err(Error::Teacher(reason)),
    }
}
