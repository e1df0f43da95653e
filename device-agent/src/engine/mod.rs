//! The seam to an inference engine: one file an engine, each behind the same two traits.
//!
//! To add one: a file here, its line in [`all`], and a cargo feature if it is heavy. An engine must not read files,
//! measure time or limit itself: it gets a whole model, and the worker does the rest. Every number names its engine.

mod tract;

pub use tract::Tract;

use n2n_protocol::EngineId;
use tract_onnx::pb::ModelProto;

/// A library that runs ONNX models.
pub trait Engine: Sync {
    /// Name and version, part of the identity of every measurement.
    fn id(&self) -> EngineId;

    /// Most threads that it can be told to use. A plan that asks for more is refused, never silently run with fewer.
    fn most_threads(&self) -> u16;

    /// Do what every model needs, for the baseline of resident memory: load and run the smallest graph there is, so that
    /// tables and touched code count as the engine's and not as the first model's.
    ///
    /// # Errors
    /// When not even that works.
    fn initialise(&self) -> Result<(), EngineError>;

    /// Make a model ready to run. The model is taken by value so that its weights can be freed before the engine packs
    /// its own copy.
    ///
    /// # Errors
    /// When the engine cannot run this model, or not with this many threads.
    fn load(&self, model: ModelProto, threads: u16) -> Result<Box<dyn Session>, EngineError>;
}

/// A model ready to run at batch 1.
pub trait Session {
    /// Numbers in one input: channels x height x width.
    fn input_len(&self) -> usize;

    /// One inference: an input, row-major, to its logits.
    ///
    /// # Errors
    /// When the input has another length than [`Session::input_len`], or the engine fails.
    fn run(&mut self, input: &[f32]) -> Result<Vec<f32>, EngineError>;
}

/// Why an engine gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// More threads than it can use.
    #[error("engine {engine} runs on at most {most} thread(s), asked for {asked}")]
    Threads {
        /// Name of the engine.
        engine: String,
        /// What it can.
        most: u16,
        /// What was asked.
        asked: u16,
    },
    /// The model is not one this engine runs.
    #[error("the engine cannot load the model: {0}")]
    Model(String),
    /// An input of another length.
    #[error("the model takes {expected} numbers, got {got}")]
    Input {
        /// Numbers that the model takes.
        expected: usize,
        /// Numbers that were given.
        got: usize,
    },
    /// The engine failed while running.
    #[error("the engine failed while running the model: {0}")]
    Run(String),
}

/// The engines of this build; the first is the one that measures.
pub fn all() -> [&'static dyn Engine; 1] {
    [&Tract]
}

/// The engine that measures.
pub fn default_engine() -> &'static dyn Engine {
    all()[0]
}
