//! What `compress` and `quickstart` print with `--json`; the rules are `json`'s.

use std::collections::BTreeMap;

use serde::Serialize;

use super::json::{Engine, Interval};
use super::used::Used;
use crate::search::Counts;

/// `n2n compress --json`, `n2n quickstart --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Compressed {
    /// [`SCHEMA`](super::json::SCHEMA).
    pub schema: u32,
    /// Run folder.
    pub run: String,
    /// Where it was measured; `local` is this machine.
    pub board: String,
    /// What the student had to keep.
    pub limits: Vec<Limit>,
    /// The teacher.
    pub teacher: Side,
    /// The student; `null` if none meets the limits.
    pub student: Option<Student>,
    /// Uniform width, retrained as the student was; `null` if it was no finalist, or where something is to be
    /// made small, since finalists are of many sizes then.
    pub uniform: Option<Baseline>,
    /// The best of the other simple students; `null` as before.
    pub simple: Option<Baseline>,
    /// Without a student: the candidates that miss the limits by least.
    pub nearest: Vec<Miss>,
    /// The class that lost most; `null` if none lost anything.
    pub worst_loss: Option<Loss>,
    /// Candidates proposed in the search.
    pub candidates: usize,
    /// How many of them came how far; `null` in runs of older versions.
    pub counts: Option<Counts>,
    /// Whether the student runs in the board's active slot.
    pub shipped: bool,
    /// Why it does not, when it was to.
    pub not_shipped: Option<String>,
    /// How a program uses the student: the active one where it was shipped, else the file; `null` without a student.
    pub usage: Option<Used>,
    /// Whole job, seconds.
    pub wall_s: f64,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Limit {
    /// `latency`, `model_memory`, `planned_activation`, `file`, `params` or `macs`.
    pub metric: &'static str,
    /// Largest allowed value: nanoseconds, bytes or a count.
    pub bound: f64,
}

/// Teacher or student.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Side {
    /// Share of right answers on the test images, 0 to 1.
    pub test_accuracy: f64,
    /// The same by class, in label order.
    pub classes: Vec<Class>,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// What ran it on the board.
    pub engine: Engine,
    /// Threads of the engine.
    pub threads: u16,
    /// Latency of one inference at batch 1.
    pub latency_ns: Interval,
    /// What it costs on the board beyond the engine's own memory.
    pub model_memory_bytes: Option<u64>,
    /// Path of the ONNX file.
    pub file: String,
}

/// The student, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Student {
    /// Its numbers.
    #[serde(flatten)]
    pub side: Side,
    /// Which searcher found it, or which simple student it is.
    pub found_by: String,
    /// The limit that kept it from being larger; `null` if none did, or it is unknown.
    pub binding: Option<&'static str>,
}

/// A student that anybody would try first, retrained as all finalists were.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Baseline {
    /// Its name.
    pub found_by: String,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// Median on the board; `null` where no limit is on latency.
    pub latency_ns: Option<u64>,
    /// Share of right answers on the second half of the validation images, 0 to 1.
    pub selection_accuracy: f64,
    /// The student after the same retraining minus this one, on the same images.
    pub added: Difference,
}

/// A difference of two shares, with its 95 % interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    /// The estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A candidate that misses a limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Miss {
    /// Which searcher found it.
    pub found_by: String,
    /// Parameters.
    pub params: u64,
    /// Share of right answers on the search's validation images; `null` if it was not looked at.
    pub accuracy: Option<f64>,
    /// By limit, the share that it is beyond: 0.1 is a tenth too much.
    pub beyond: BTreeMap<&'static str, f64>,
}

/// What one class lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Loss {
    /// Its name.
    pub class: String,
    /// The teacher's share of right answers on its test images, 0 to 1.
    pub teacher: f64,
    /// The student's.
    pub student: f64,
}

/// Accuracy on one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Class {
    /// Its name.
    pub name: String,
    /// Its test images.
    pub images: u32,
    /// Share of right answers on them, 0 to 1; `null` without images.
    pub test_accuracy: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::super::json::SCHEMA;
    use super::*;

    #[test]
    fn the_result_of_compress_has_exactly_the_promised_keys() {
        let side = Side {
            test_accuracy: 0.9,
            classes: vec![Class { name: "ok".into(), images: 4, test_accuracy: None }],
            params: 1,
            macs: 2,
            engine: Engine { name: "tract".into(), version: "0.23.9".into() },
            threads: 1,
            latency_ns: Interval { median: 5, low: Some(4), high: None },
            model_memory_bytes: None,
            file: "runs/a/student.onnx".into(),
        };
        let object = Compressed {
            schema: SCHEMA,
            run: "runs/a".into(),
            board: "local".into(),
            limits: vec![Limit { metric: "latency", bound: 2.5e6 }],
            teacher: side.clone(),
            student: Some(Student { side, found_by: "evolution".into(), binding: Some("params") }),
            uniform: Some(Baseline {
                found_by: "simple: uniform width".into(),
                params: 1,
                macs: 2,
                latency_ns: None,
                selection_accuracy: 0.5,
                added: Difference { estimate: 0.25, low: 0.125, high: 0.5 },
            }),
            simple: None,
            nearest: vec![Miss {
                found_by: "random".into(),
                params: 7,
                accuracy: None,
                beyond: BTreeMap::from([("latency", 0.5)]),
            }],
            worst_loss: Some(Loss { class: "ok".into(), teacher: 1.0, student: 0.5 }),
            candidates: 3,
            counts: Some(Counts { proposed: 3, ..Counts::default() }),
            shipped: true,
            not_shipped: None,
            usage: None,
            wall_s: 1.5,
        };
        let side = r#"{"test_accuracy":0.9,"classes":[{"name":"ok","images":4,"test_accuracy":null}],"params":1,"macs":2,"engine":{"name":"tract","version":"0.23.9"},"threads":1,"latency_ns":{"median":5,"low":4,"high":null},"model_memory_bytes":null,"file":"runs/a/student.onnx"}"#;
        let student =
            format!(r#"{},"found_by":"evolution","binding":"params"}}"#, side.trim_end_matches('}'));
        let uniform = r#"{"found_by":"simple: uniform width","params":1,"macs":2,"latency_ns":null,"selection_accuracy":0.5,"added":{"estimate":0.25,"low":0.125,"high":0.5}}"#;
        assert_eq!(
            serde_json::to_string(&object).unwrap(),
            format!(
                r#"{{"schema":2,"run":"runs/a","board":"local","limits":[{{"metric":"latency","bound":2500000.0}}],"teacher":{side},"student":{student},"uniform":{uniform},"simple":null,"nearest":[{{"found_by":"random","params":7,"accuracy":null,"beyond":{{"latency":0.5}}}}],"worst_loss":{{"class":"ok","teacher":1.0,"student":0.5}},"candidates":3,"counts":{{"proposed":3,"ranked":0,"trained":0,"promoted":0,"skipped":0,"infeasible":0,"unknown":0,"late":0}},"shipped":true,"not_shipped":null,"usage":null,"wall_s":1.5}}"#
            )
        );
    }
}
