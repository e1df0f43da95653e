//! What the page shows, as plain values: the border between reading a run folder and drawing.
//!
//! No files, no HTML. `load` fills these; `charts` and `page` draw them.

/// The whole page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Name of the run.
    pub name: String,
    /// Configuration in words: data, board, profile, preset, budget, seed, versions.
    pub facts: Vec<(String, String)>,
    /// What the student has to keep.
    pub limits: Vec<Limit>,
    /// What ran models on the board, once it is known: named beside each latency.
    pub engine: Option<String>,
    /// The network that was compressed.
    pub teacher: Side,
    /// The result, once there is one.
    pub student: Option<Side>,
    /// Student's minus teacher's test accuracy with its interval (median, low, high), shares.
    pub accuracy_difference: Option<(f64, f64, f64)>,
    /// Test accuracy by class: class with its images, teacher's, student's, change in points.
    pub classes: Vec<[String; 4]>,
    /// The class that lost most, in words.
    pub worst_loss: Option<String>,
    /// How a program uses the student.
    pub usage: Option<Usage>,
    /// Accuracy of guessing, a share: what 0 means in the charts.
    pub chance: f64,
    /// Every candidate of the journal that got a score.
    pub candidates: Vec<Candidate>,
    /// How many candidates were set aside, by reason.
    pub set_aside: Vec<(String, usize)>,
    /// Learning curves, one per stage.
    pub stages: Vec<Stage>,
    /// Teacher and student, layer by layer.
    pub layers: Vec<LayerRow>,
    /// How the final numbers were measured: name, teacher's, student's.
    pub conditions: Vec<(String, String, String)>,
    /// Where the wall-clock time went, seconds.
    pub times: Vec<(String, f64)>,
}

/// How a program uses the student.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By name.
    pub facts: Vec<(String, String)>,
    /// Programs by language.
    pub programs: Vec<(String, String)>,
}

/// One limit, with the final figure it applies to.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Metric, as on the command line.
    pub metric: String,
    /// Bound, in human units.
    pub bound: String,
    /// The bound in nanoseconds, if the metric is latency: drawn in the scatter.
    pub latency_ns: Option<f64>,
    /// The student's figure, in human units.
    pub student: Option<String>,
    /// Whether the student keeps it.
    pub kept: Option<bool>,
}

/// Teacher or student.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// Share of right answers on the test set; unknown until the run has ended, since the test set is touched once.
    pub test_accuracy: Option<f64>,
    /// Share of right answers on the validation images that the search uses, where known: the scatter's axis.
    pub validation_accuracy: Option<f64>,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Median latency, ns.
    pub latency_ns: u64,
    /// Its interval, ns, if enough processes ran.
    pub latency_interval_ns: Option<(u64, u64)>,
    /// What it costs in memory on the board, bytes.
    pub model_memory_bytes: Option<u64>,
    /// Length of the file that ships, bytes.
    pub file_bytes: Option<u64>,
}

/// One scored candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Whose proposal it was: `reinforce`, `random`, `uniform`.
    pub searcher: String,
    /// `removal` or `shrinkage`.
    pub stage: String,
    /// Validation accuracy at the rung where it was rewarded, a share; `None` if it was not worth training.
    pub accuracy: Option<f64>,
    /// Measured latency, ns.
    pub latency_ns: Option<f64>,
    /// Parameters.
    pub params: u64,
}

/// Learning curve of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// `removal` or `shrinkage`.
    pub name: String,
    /// One point per policy update.
    pub updates: Vec<Update>,
}

/// One policy update: means over its rollouts.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Counted from 1.
    pub number: usize,
    /// Reward of every rollout.
    pub rewards: Vec<f64>,
    /// Mean quality part.
    pub quality: Option<f64>,
    /// Mean compression part.
    pub compression: Option<f64>,
    /// Mean penalty part, positive.
    pub penalty: Option<f64>,
}

/// One layer of the teacher and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRow {
    /// Name in the teacher.
    pub name: String,
    /// Kind and geometry in words, `conv 3x3`.
    pub kind: String,
    /// Channels or features written by the teacher's layer.
    pub teacher_width: usize,
    /// By the student's; `None` if the layer was removed.
    pub student_width: Option<usize>,
    /// Parameters of the teacher's layer.
    pub teacher_params: u64,
    /// Of the student's.
    pub student_params: u64,
}
