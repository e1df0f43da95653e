//! What an engine is to the rest of the agent: two traits and an error. It knows no engine.

use super::smallest::smallest_model;
use n2n_protocol::{Digest, Element, EngineId, Execution, Model};

/// A library that runs model files.
pub trait Engine: Send + Sync {
    /// Name and version, part of the identity of every measurement.
    fn id(&self) -> EngineId;

    /// Whether it can run a model of this kind in this way at all. Cheap: asked in the agent, before a worker is started.
    ///
    /// # Errors
    /// [`EngineError::Execution`] for threads or a batch that it cannot honour, which are refused and never silently
    /// replaced; [`EngineError::Model`] for a format, a precision or an input type that it does not know.
    fn accepts(&self, model: &Model, execution: &Execution) -> Result<(), EngineError>;

    /// Whether all memory that it takes comes from this process's own allocator, which counts it to the byte. Where it does
    /// not, only the kernel's count of resident memory says what a model costs.
    fn counts_its_memory(&self) -> bool;

    /// Do what every model needs, for the baseline of resident memory: load and run the smallest graph there is, so that
    /// tables and touched code count as the engine's and not as the first model's.
    ///
    /// # Errors
    /// When not even that works.
    fn initialise(&self) -> Result<(), EngineError> {
        let model = Model::onnx(Digest([0; 32]));
        let execution = Execution { engine: self.id().name, threads: 1, batch: 1, pace_us: 0 };
        self.load(smallest_model(), &model, &execution)?.run(&bytes_of(&[1.0])).map(drop)
    }

    /// Optimise a model for this board ahead of [`Engine::load`], where that takes so long that it is kept: in a cache of
    /// the engine's own, by the file's digest, the engine's version, device, driver, precision and threads. Never part of
    /// a load or a latency. Says whether there was nothing to do: an engine that prepares nothing has nothing to do.
    ///
    /// # Errors
    /// As [`Engine::load`].
    fn prepare(&self, _file: &[u8], _model: &Model, _execution: &Execution) -> Result<bool, EngineError> {
        Ok(true)
    }

    /// Make a model ready to run. The file is taken by value so that its bytes can be freed before the engine makes its own
    /// copy of the weights.
    ///
    /// # Errors
    /// As [`Engine::accepts`], and [`EngineError::Model`] when it cannot run this very file.
    fn load(
        &self,
        file: Vec<u8>,
        model: &Model,
        execution: &Execution,
    ) -> Result<Box<dyn Session>, EngineError>;
}

/// A model that is ready to run.
pub trait Session {
    /// Values in one inference's input: batch x channels x height x width.
    fn input_len(&self) -> usize;

    /// Type of each value.
    fn element(&self) -> Element;

    /// One inference: the input's values, in the model's layout, to its logits.
    ///
    /// # Errors
    /// [`EngineError::Input`] for another number of bytes, [`EngineError::Run`] when the engine fails.
    fn run(&mut self, input: &[u8]) -> Result<Vec<f32>, EngineError>;
}

/// Why an engine gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A way to run that it cannot honour.
    #[error("engine {engine} {can}, the plan asks for {asked}")]
    Execution {
        /// Name of the engine.
        engine: String,
        /// What it can, as in `runs on 1 thread`.
        can: String,
        /// What was asked, as in `2 threads`.
        asked: String,
    },
    /// The model is not one that this engine runs.
    #[error("the engine cannot load the model: {0}")]
    Model(String),
    /// An input of another size.
    #[error("the model takes {expected} bytes of input, got {got}")]
    Input {
        /// Bytes that the model takes.
        expected: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// The library that an engine is cannot be used, or is another one by now: no model's fault.
    #[error("the engine's library cannot be used: {0}")]
    Library(String),
    /// There was not enough memory, by its own words.
    #[error("the engine had too little memory: {0}")]
    Memory(String),
    /// The engine failed while running.
    #[error("the engine failed while running the model: {0}")]
    Run(String),
}

/// Floats as an engine gets them.
pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
