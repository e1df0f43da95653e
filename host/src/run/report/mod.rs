//! The report: one self-contained HTML page about a run, finished or not.
//!
//! | file | what |
//! |---|---|
//! | `contents` | what the page shows, as plain values |
//! | `gather`, `layers` | journal and summary -> contents |
//! | `charts` | contents -> SVG, drawn by `plotters` |
//! | `page`, `html`, `style.css` | contents and drawings -> HTML |
//!
//! Numbers are only repeated here, never computed anew: the page must not disagree with `summary.json`.

mod charts;
pub mod contents;
mod gather;
mod html;
mod layers;
mod page;

use std::path::{Path, PathBuf};

pub use charts::ChartError;
pub use contents::Contents;
pub(crate) use layers::{geometry, trained_parameters};

use super::folder::Layout;
use super::journal::{self, JournalError};
use super::summary::{Summary, SummaryError};
use crate::exit::Diagnostic;
use crate::model_io::atomic_file;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder holds no run.
    #[error("{0}: expected a run folder with a journal (trials.jsonl), found none")]
    NoRun(PathBuf),
    /// The journal is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The summary cannot be read.
    #[error(transparent)]
    Summary(#[from] SummaryError),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A chart cannot be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
}

impl ReportError {
    /// The next step, for the line after the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRun(_) => {
                Some("`n2n compress --out RUN` or `n2n quickstart --out RUN` makes one".to_owned())
            }
            Self::Summary(error) => error.next_step(),
            Self::Journal(_) | Self::Io { .. } | Self::Chart(_) => None,
        }
    }
}

impl Diagnostic for ReportError {
    fn next_step(&self) -> Option<String> {
        self.hint()
    }
}

/// Reads a run folder and writes its page, by default into the folder; gives the page's path.
///
/// # Errors
/// See [`ReportError`]; a run that is not finished, or was stopped in the middle of a line, is none.
pub fn write(run: &Path, out: Option<&Path>) -> Result<PathBuf, ReportError> {
    let layout = Layout::of(run);
    if !layout.journal().is_file() {
        return Err(ReportError::NoRun(run.into()));
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ReportError::Io { path, source }
    };
    let (records, _) = journal::read(&layout.journal())?;
    let summary = Summary::load(run)?;
    let absolute = run.canonicalize().map_err(io(run))?;
    let name = absolute
        .file_name()
        .map_or_else(|| run.display().to_string(), |name| name.to_string_lossy().into_owned());
    let html = page::render(&gather::contents(&name, &records, summary.as_ref()))?;
    let path = out.map_or_else(|| layout.report(), Path::to_owned);
    atomic_file::write(&path, html.as_bytes()).map_err(io(&path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::contents::{Candidate, LayerRow, Limit, Side, Stage, Update};
    use super::*;

    /// A run with every kind of content, and a name that wants to break out of its heading.
    fn full() -> Contents {
        // A small linear congruential generator: scattered points, the same in every run.
        let mut state = 7_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let candidates = (0..180)
            .map(|index| {
                let latency_ms = 0.12 + 0.6 * random();
                Candidate {
                    searcher: ["reinforce", "reinforce", "random", "uniform"][index % 4].into(),
                    stage: "removal".into(),
                    accuracy: Some(0.90 - 0.25 * (-4.0 * latency_ms).exp() - 0.03 * random()),
                    latency_ns: Some(latency_ms * 1e6),
                    params: 100_000,
                }
            })
            .collect();
        let mut stage = |name: &str| Stage {
            name: name.into(),
            updates: (1..=25)
                .map(|number| {
                    let base = 0.2 + 0.6 * (1.0 - (-0.15 * number as f64).exp());
                    Update {
                        number,
                        rewards: (0..5).map(|_| base + 0.3 * (random() - 0.5)).collect(),
                        quality: Some(base + 0.1),
                        compression: Some(0.5 + 0.01 * number as f64),
                        penalty: Some(0.4 * (-0.2 * number as f64).exp()),
                    }
                })
                .collect(),
        };
        let layer = |name: &str, teacher_width, student_width, teacher_params, student_params| LayerRow {
            name: name.into(),
            kind: "conv 3x3".into(),
            teacher_width,
            student_width,
            teacher_params,
            student_params,
        };
        Contents {
            name: "fashion & <script>alert(1)</script>".into(),
            facts: vec![
                ("data".into(), "fashion-mnist (54,000 train, 3,000 + 3,000 validation, 10,000 test)".into()),
                ("preset".into(), "edge, budget 20min, seed 0".into()),
            ],
            limits: vec![
                Limit {
                    metric: "latency".into(),
                    bound: "0.5x = 372 us".into(),
                    latency_ns: Some(372_000.0),
                    student: Some("351 us".into()),
                    kept: Some(true),
                },
                Limit {
                    metric: "params".into(),
                    bound: "0.2x = 118 K".into(),
                    latency_ns: None,
                    student: Some("96.1 K".into()),
                    kept: Some(true),
                },
            ],
            engine: Some("tract 0.23.9, 1 thread".into()),
            teacher: Side {
                test_accuracy: Some(0.9281),
                validation_accuracy: Some(0.931),
                params: 590_000,
                macs: 15_000_000,
                latency_ns: 744_000,
                latency_interval_ns: Some((739_000, 752_000)),
                model_memory_bytes: Some(5_800_000),
                file_bytes: Some(2_400_000),
            },
            student: Some(Side {
                test_accuracy: Some(0.9243),
                validation_accuracy: Some(0.928),
                params: 96_100,
                macs: 4_400_000,
                latency_ns: 348_000,
                latency_interval_ns: Some((345_000, 351_000)),
                model_memory_bytes: Some(2_100_000),
                file_bytes: Some(402_000),
            }),
            accuracy_difference: Some((-0.0038, -0.0069, -0.0007)),
            classes: vec![["dent (30)", "100.00 %", "77.00 %", "-23.00"].map(String::from)],
            usage: Some(contents::Usage {
                facts: vec![("file".into(), "runs/x/student.onnx".into())],
                programs: vec![("Python".into(), "print('<script>')".into())],
            }),
            worst_loss: Some("class `dent`, 100.00 % to 77.00 %".into()),
            chance: 0.1,
            candidates,
            set_aside: vec![("were over a limit and not trained".into(), 41), ("infeasible".into(), 3)],
            stages: vec![stage("removal"), stage("shrinkage")],
            layers: vec![
                layer("conv1", 16, Some(16), 160, 160),
                layer("conv2", 16, None, 2_320, 0),
                layer("conv3", 32, Some(24), 4_640, 3_480),
                layer("conv4", 32, Some(16), 9_248, 3_472),
                layer("conv5", 64, Some(24), 18_496, 3_480),
                layer("conv6", 64, None, 36_928, 0),
                layer("conv7", 128, Some(48), 73_856, 10_416),
                layer("conv8", 128, Some(64), 147_584, 27_712),
                layer("classifier", 10, Some(10), 1_290, 650),
            ],
            conditions: vec![
                (
                    "board".into(),
                    "this machine: AMD EPYC, 2 cores".into(),
                    "this machine: AMD EPYC, 2 cores".into(),
                ),
                ("engine".into(), "tract 0.23.9, 1 thread".into(), "tract 0.23.9, 1 thread".into()),
                ("processes x samples".into(), "8 x 200".into(), "8 x 200".into()),
                ("governor".into(), "unknown (unpinned)".into(), "unknown (unpinned)".into()),
            ],
            times: vec![
                ("teacher training".into(), 61.0),
                ("measuring".into(), 210.0),
                ("candidate training".into(), 640.0),
                ("final distillation".into(), 180.0),
            ],
        }
    }

    #[test]
    fn a_full_run_becomes_one_self_contained_page() {
        let html = page::render(&full()).unwrap();
        if let Some(path) = std::env::var_os("N2N_REPORT_PREVIEW") {
            std::fs::write(path, &html).unwrap();
        }
        assert_eq!(html.matches("<svg").count(), 5);
        assert!(!html.contains("<script"), "text was not escaped");
        for foreign in ["http://", "https://", "src=", "<link", "@import"] {
            let outside = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains(foreign), "the page reaches out: {foreign}");
        }
        for text in
            ["2.14x", "-0.38 pt", "class `dent`", "348 us [345, 351]", "372 us", "tract 0.23.9", "removed"]
        {
            assert!(html.contains(text), "{text}");
        }
    }

    /// What a browser shows of a page, without its drawings: a line a row of a table.
    fn shown(html: &str) -> String {
        let mut text = String::new();
        let mut rest = html;
        while let Some(start) = rest.find('<') {
            text.push_str(&rest[..start]);
            let tag = &rest[start..];
            let inside = ["<svg", "<style"].into_iter().find(|name| tag.starts_with(name));
            let end = inside.map_or(">".to_owned(), |name| format!("</{}>", &name[1..]));
            text.push_str(match inside {
                Some("<svg") => "[drawing]",
                _ if tag.starts_with("</t") || tag.starts_with("</li") => " | ",
                _ => "",
            });
            rest = &tag[tag.find(&end).unwrap() + end.len()..];
        }
        text.push_str(rest);
        let lines = text.lines().map(|line| line.trim().trim_end_matches(['|', ' ']));
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_report_of_a_recorded_run_says_what_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/run-of-today");
        let page = write(&run, Some(&folder.path().join("page.html"))).unwrap();
        let text = shown(&std::fs::read_to_string(page).unwrap());
        let version = concat!("n2n ", env!("CARGO_PKG_VERSION"));
        insta::assert_snapshot!("report", text.replace(version, "n2n VERSION"));
    }

    #[test]
    fn a_run_without_candidates_or_student_still_has_a_page() {
        let html = page::render(&Contents { name: "new".into(), ..Contents::default() }).unwrap();
        assert!(html.contains("no student yet"));
        assert!(!html.contains("0.00 %"), "unknown is never shown as 0");
        assert_eq!(html.matches("<svg").count(), 0);
    }
}
