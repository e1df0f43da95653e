//! Whether this board can follow a plan at all: asked before anything is started.
//!
//! A plan without sense is refused with its numbers; an engine that is not here, or does not know this kind of model,
//! makes the answer unknown. It must not look at a file.

use crate::engine::{EngineError, Engines, Installed};
use crate::statistics;
use n2n_protocol::{Execution, Failure, MeasurePlan, Model, Unknown, limits};

/// Slowest rhythm, microseconds: a picture each ten seconds. A slower one leaves a measurement without samples.
const MAX_PACE_US: u32 = 10_000_000;

/// The engine that an execution names, if it can run such a model in such a way.
///
/// # Errors
/// [`Unknown::EngineMissing`]; [`Unknown::Unsupported`] for a format, precision or input type that the engine does not
/// know; [`Failure::Refused`] for threads or a batch that it cannot honour.
pub(crate) fn engine_for<'a>(
    model: &Model,
    execution: &Execution,
    engines: &'a Engines,
) -> Result<&'a Installed, Failure> {
    let Some(installed) = engines.find(&execution.engine) else {
        return Err(Failure::Unknown(Unknown::EngineMissing(execution.engine.clone())));
    };
    match installed.engine().accepts(model, execution) {
        Ok(()) => Ok(installed),
        Err(EngineError::Model(why) | EngineError::Run(why) | EngineError::Memory(why)) => {
            Err(Failure::Unknown(Unknown::Unsupported(why)))
        }
        Err(error) => Err(Failure::Refused(error.to_string())),
    }
}

/// The engine of a measurement that this board can make.
///
/// # Errors
/// As [`engine_for`], and [`Failure::Refused`] for counts, times or bytes without sense.
pub(crate) fn measurable<'a>(plan: &MeasurePlan, engines: &'a Engines) -> Result<&'a Installed, Failure> {
    let refuse = |why: String| Err(Failure::Refused(why));
    let engine = engine_for(&plan.model, &plan.execution, engines)?;
    if plan.execution.pace_us > MAX_PACE_US {
        return refuse(format!("pace: expected at most {MAX_PACE_US} us, got {}", plan.execution.pace_us));
    }
    if plan.min_processes == 0 || plan.min_processes > plan.max_processes {
        return refuse(format!(
            "processes: expected at least 1 and fewest <= most, got {} and {}",
            plan.min_processes, plan.max_processes
        ));
    }
    if plan.max_processes > statistics::MAX_PROCESSES {
        return refuse(format!(
            "processes: expected at most {}, got {}",
            statistics::MAX_PROCESSES,
            plan.max_processes
        ));
    }
    if plan.samples_per_process == 0 || plan.samples_per_process as usize > limits::SAMPLES_PER_PROCESS {
        return refuse(format!(
            "samples of a process: expected 1 to {}, got {}",
            limits::SAMPLES_PER_PROCESS,
            plan.samples_per_process
        ));
    }
    let times = [plan.time_budget_ms, plan.max_load_ms, plan.max_inference_ms];
    if times.contains(&0) || plan.max_memory_bytes == 0 {
        return refuse(
            "time budget, longest load, longest inference and memory must all be above zero".into(),
        );
    }
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use n2n_protocol::{Digest, Element, Input, Place, Precision};

    fn plan() -> MeasurePlan {
        MeasurePlan {
            model: Model::onnx(Digest([0; 32])),
            place: Place::Store,
            execution: Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 },
            min_processes: 2,
            max_processes: 3,
            samples_per_process: 30,
            half_width_ppm: 20_000,
            time_budget_ms: 1000,
            max_load_ms: 1000,
            max_inference_ms: 100,
            max_memory_bytes: 1 << 20,
            golden: None,
            resident_memory: false,
        }
    }

    fn failure(plan: &MeasurePlan) -> Failure {
        measurable(plan, &Engines::default()).err().unwrap()
    }

    #[test]
    fn plans_without_sense_are_refused_with_their_numbers() {
        let engines = Engines::default();
        assert_eq!(measurable(&plan(), &engines).unwrap().engine().id().name, "tract");
        let why = |plan: MeasurePlan| match failure(&plan) {
            Failure::Refused(why) => why,
            other => panic!("{other:?}"),
        };
        let run = |execution: Execution| why(MeasurePlan { execution, ..plan() });
        assert!(run(Execution { threads: 4, ..plan().execution }).contains("asks for 4 threads"));
        assert!(run(Execution { threads: 0, ..plan().execution }).contains("asks for 0 threads"));
        assert!(run(Execution { batch: 2, ..plan().execution }).contains("a batch of 2"));
        assert!(run(Execution { pace_us: u32::MAX, ..plan().execution }).contains("4294967295"));
        assert!(why(MeasurePlan { min_processes: 4, ..plan() }).contains("got 4 and 3"));
        assert!(why(MeasurePlan { min_processes: 0, ..plan() }).contains("got 0 and 3"));
        assert!(why(MeasurePlan { max_processes: 65, ..plan() }).contains("got 65"));
        assert!(why(MeasurePlan { samples_per_process: 0, ..plan() }).contains("got 0"));
        assert!(why(MeasurePlan { samples_per_process: 1 << 20, ..plan() }).contains("1048576"));
        for zero in [
            MeasurePlan { max_memory_bytes: 0, ..plan() },
            MeasurePlan { max_load_ms: 0, ..plan() },
            MeasurePlan { time_budget_ms: 0, ..plan() },
        ] {
            assert!(why(zero).contains("above zero"));
        }
    }

    #[test]
    fn what_no_retry_would_change_is_unknown() {
        let execution = Execution { engine: "sorcery".into(), ..plan().execution };
        let missing = failure(&MeasurePlan { execution, ..plan() });
        assert_eq!(missing, Failure::Unknown(Unknown::EngineMissing("sorcery".into())));
        let halves = Model { precision: Precision::F16, ..plan().model };
        let signed = Model { input: Input { element: Element::I8, ..plan().model.input }, ..plan().model };
        for model in [halves, signed] {
            let other = failure(&MeasurePlan { model, ..plan() });
            assert!(matches!(other, Failure::Unknown(Unknown::Unsupported(_))), "{other:?}");
        }
    }
}
