//! Teacher and student on the board at one time, so that a limit which is a share of the teacher's latency is judged by a
//! ratio of two numbers of one state of the board. Boards heat up; other machines get neighbours.

use super::gauge::Specimen;
use super::live::Live;
use super::teacher::{limits_now, measure_teacher};
use super::{Error, Event, Plan};
use crate::run::journey::{BesideTeacher, Finding, OnBoard};
use crate::search::Limits;
use crate::search::answer::{Measured, Outcome};

/// The teacher may differ by this factor before and after its student; two states of a board differ by more.
const STEADY: f64 = 1.1;
/// The upper bound of the student's median may be above it by this factor: limits bind that bound, and where the processes
/// disagree by more, it says something of the board's neighbours and nothing of the student.
const SHARP: f64 = 1.05;
/// Times that both are measured again while the board does not stay in one state.
const TRIES: u32 = 4;

/// What a measurement says of the board instead of the student.
#[derive(Debug, PartialEq)]
struct Blur {
    /// The teacher after over the teacher before.
    change: f64,
    /// The student's upper bound over its median.
    spread: f64,
}

impl Blur {
    /// `None` when teacher, student and teacher again belong together.
    fn of(before: &Measured, student: &Measured, after: &Measured) -> Option<Self> {
        let change = after.latency_ns as f64 / before.latency_ns.max(1) as f64;
        let spread = student.latency_upper_ns as f64 / student.latency_ns.max(1) as f64;
        let sharp = (STEADY.recip()..=STEADY).contains(&change) && spread <= SHARP;
        (!sharp).then_some(Self { change, spread })
    }
}

/// Students that are measured one after the other, with the teacher in between: what it is after one, it is before the
/// next.
#[derive(Default)]
pub(super) struct Row {
    /// The teacher's last measurement in this row.
    before: Option<Measured>,
}

impl Row {
    /// Measures teacher (unless this row just did), student, teacher; the latter two again if the teachers disagree, or the
    /// student's processes do.
    pub(super) fn measure(
        &mut self,
        lab: &mut Live<'_>,
        plan: &Plan,
        specimen: &Specimen,
    ) -> Result<Finding, Error> {
        let mut before = match self.before.take() {
            Some(before) => before,
            None => measure_teacher(lab, plan, None)?.measured,
        };
        let mut tried = 0;
        loop {
            tried += 1;
            (lab.observer)(&Event::Measuring);
            let student = match lab.gauge.examine(specimen, &mut |_| {})? {
                Outcome::Done(student) => student,
                Outcome::Infeasible(reason) => return Ok(Finding::Infeasible { reason }),
                Outcome::Unknown(reason) => return Ok(Finding::Unknown { reason }),
            };
            let teacher = measure_teacher(lab, plan, None)?;
            let blur = Blur::of(&before, &student.measured, &teacher.measured);
            before = teacher.measured;
            if blur.is_none() || tried == TRIES {
                if let Some(Blur { change, spread }) = blur {
                    tracing::warn!(
                        "the board does not stay in one state: the teacher's latency changes {change:.2}x, the upper bound of \
                         the student's is {spread:.2} times its median"
                    );
                }
                self.before = Some(before);
                let limits = limits_now(&plan.configuration.search, &plan.teacher.network, before)?;
                return Ok(Finding::Measured(Box::new(BesideTeacher { teacher, student, limits })));
            }
        }
    }
}

/// Measures the student alone, once: for the record, where no limit is on latency.
pub(super) fn measure_alone(
    lab: &mut Live<'_>,
    teacher: &OnBoard,
    limits: &Limits,
    specimen: &Specimen,
) -> Result<Finding, Error> {
    (lab.observer)(&Event::Measuring);
    Ok(match lab.gauge.examine(specimen, &mut |_| {})? {
        Outcome::Done(student) => {
            let (teacher, limits) = (teacher.clone(), limits.clone());
            Finding::Measured(Box::new(BesideTeacher { teacher, student, limits }))
        }
        Outcome::Infeasible(reason) => Finding::Infeasible { reason },
        Outcome::Unknown(reason) => Finding::Unknown { reason },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(latency_ns: u64, latency_upper_ns: u64) -> Measured {
        let (latency_lower_ns, model_memory_bytes, file_bytes) = (latency_ns, 1, 1);
        Measured {
            latency_ns,
            latency_upper_ns,
            latency_lower_ns,
            model_memory_bytes,
            file_bytes,
            noise: 0.01,
        }
    }

    #[test]
    fn another_state_of_the_board_and_processes_that_disagree_are_no_measurement() {
        let teacher = measured(1000, 1010);
        let sharp = measured(500, 520);
        assert_eq!(Blur::of(&teacher, &sharp, &measured(1050, 1060)), None);
        let changed = Blur::of(&teacher, &sharp, &measured(1250, 1260)).unwrap();
        assert!(
            (changed.change - 1.25).abs() < 1e-9
                && Blur::of(&measured(1250, 1260), &sharp, &teacher).is_some()
        );
        let spread = Blur::of(&teacher, &measured(500, 600), &teacher).unwrap();
        assert!((spread.spread - 1.2).abs() < 1e-9);
    }
}
