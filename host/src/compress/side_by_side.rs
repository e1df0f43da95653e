//! Teacher and student on the board at one time, so that a limit which is a share of the teacher's latency is judged by a
//! ratio of two numbers of one state of the board. Boards heat up; other machines get neighbours.

use super::gauge::Specimen;
use super::laboratory::Live;
use super::teacher::{limits_now, measure_teacher};
use super::{Error, Plan};
use crate::measurement::Measurement;
use crate::search::Limits;
use crate::search::laboratory::{Measured, Outcome};

/// The teacher may differ by this factor before and after its student; two states of a board differ by more.
const STEADY: f64 = 1.1;
/// Times that both are measured again while the board does not stay in one state.
const TRIES: u32 = 4;

/// Both, with the limits that follow from the teacher.
#[derive(Clone)]
pub(super) struct SideBySide {
    pub(super) teacher: (Measured, Measurement),
    pub(super) student: (Measured, Measurement),
    pub(super) limits: Limits,
}

/// Measures teacher, student, teacher; again if the two teachers disagree.
pub(super) fn measure(
    lab: &mut Live<'_>,
    plan: &Plan,
    specimen: &Specimen,
) -> Result<Outcome<SideBySide>, Error> {
    let (mut before, _) = measure_teacher(lab, plan, None)?;
    let mut tried = 0;
    loop {
        tried += 1;
        let student = match lab.gauge.examine(specimen, &mut |_| {})? {
            Outcome::Done(student) => student,
            Outcome::Infeasible(reason) => return Ok(Outcome::Infeasible(reason)),
            Outcome::Unknown(reason) => return Ok(Outcome::Unknown(reason)),
        };
        let teacher = measure_teacher(lab, plan, None)?;
        let change = teacher.0.latency_ns as f64 / before.latency_ns.max(1) as f64;
        let steady = (STEADY.recip()..=STEADY).contains(&change);
        if steady || tried == TRIES {
            if !steady {
                tracing::warn!(
                    "the board does not stay in one state: the teacher's latency changes {change:.2}x"
                );
            }
            let limits = limits_now(&plan.configuration.search, &plan.teacher.network, teacher.0)?;
            return Ok(Outcome::Done(SideBySide { teacher, student, limits }));
        }
        before = teacher.0;
    }
}
