//! ONNX Runtime: what most programs on boards run their models with. Its library is the board's own, opened at run time.
//!
//! Nothing of it is opened in the agent, which knows the library's path and what a worker said of its version. Its memory is
//! its own, so only resident memory says what a model costs.
//!
//! The execution providers for NVIDIA's boards (`cuda`, `tensorrt`) follow the documentation of the `ort` crate and have
//! **not been run**: no such board was at hand.

use super::form::{accepts, copied, fixed};
use super::onnxruntime_version::version_of;
use super::seam::{Engine, EngineError, Session};
use n2n_protocol::{Element, EngineId, Execution, Model, limits};
use ort::environment::Environment;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{TensorElementType, TensorRef, ValueType};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// As plans and numbers name it.
const NAME: &str = "onnxruntime";
/// What it says where memory is short: the standard library's exception, its own arena, the system's message.
const SHORT_OF_MEMORY: [&str; 4] =
    ["bad_alloc", "Failed to allocate", "Cannot allocate memory", "Not enough memory"];

/// Where a model's operators run, besides the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA's GPUs.
    Cuda,
    /// NVIDIA's compiler for them; what it compiles is kept.
    TensorRt,
}

impl Provider {
    /// As in `agent.toml` and in versions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }
}

/// A library of the board, and how it is to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    /// The file.
    pub path: PathBuf,
    /// Tried in this order, before the CPU.
    pub providers: Vec<Provider>,
    /// Folder for what TensorRT compiles.
    pub cache: PathBuf,
}

/// The engine: a library that was asked for its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnnxRuntime {
    library: Library,
    version: String,
    /// Cores of the board: more threads than that are refused.
    cores: u16,
}

/// A model with its session.
struct OnnxSession {
    session: ort::session::Session,
    shape: Vec<usize>,
    element: Element,
}

impl OnnxRuntime {
    /// Opens the library and asks it what it is. To be called in a worker: it runs the library's code.
    ///
    /// # Errors
    /// [`EngineError::Library`] in words for one that cannot be used.
    pub fn open(library: Library) -> Result<Self, EngineError> {
        let version = version_of(&library.path).map_err(EngineError::Library)?;
        let cores =
            std::thread::available_parallelism().map_or(1, |cores| cores.get().min(limits::CORES) as u16);
        let engine = Self { library, version, cores };
        engine.environment()?;
        Ok(engine)
    }

    /// The process's one environment; of the very version that the agent knows, since every number names it.
    fn environment(&self) -> Result<&'static Environment, EngineError> {
        static ENVIRONMENT: OnceLock<Result<Environment, String>> = OnceLock::new();
        let made = ENVIRONMENT.get_or_init(|| {
            let now = version_of(&self.library.path)?;
            if now != self.version {
                let (path, then) = (self.library.path.display(), &self.version);
                return Err(format!(
                    "{path} is {now} now, and was {then} when the agent started: start the agent again"
                ));
            }
            let builder = ort::init_from(&self.library.path).map_err(|error| error.to_string())?;
            // What it has to say comes as errors; a worker's output is its agent's.
            let silent = Arc::new(|_: LogLevel, _: &str, _: &str, _: &str, _: &str| {});
            let built = builder.with_name("n2n").with_telemetry(false).with_logger(silent).build();
            built.map_err(|error| error.to_string())
        });
        made.as_ref().map_err(|why| EngineError::Library(why.clone()))
    }

    /// Providers as the library takes them, for one file.
    fn providers(&self, model: &Model, execution: &Execution) -> Vec<ExecutionProviderDispatch> {
        let one = |provider: &Provider| match provider {
            Provider::Cuda => ep::CUDA::default().build().error_on_failure(),
            Provider::TensorRt => {
                let cache = self.cache_of(model, execution);
                let provider = ep::TensorRT::default().with_engine_cache(true).with_timing_cache(true);
                let provider = provider.with_engine_cache_path(cache.display().to_string());
                provider.with_timing_cache_path(cache.display().to_string()).build().error_on_failure()
            }
        };
        self.library.providers.iter().map(one).collect()
    }

    /// Where what was compiled for one file is kept: by digest, version and threads; TensorRT's own names tell GPU, driver
    /// and precision apart.
    fn cache_of(&self, model: &Model, execution: &Execution) -> PathBuf {
        let name = format!("{}-{}-{}", model.digest, self.version, execution.threads);
        self.library.cache.join(name)
    }

    fn session(&self, file: &[u8], model: &Model, execution: &Execution) -> Result<OnnxSession, EngineError> {
        self.accepts(model, execution)?;
        let environment = self.environment()?;
        let before = threads_now();
        let in_model = |error: ort::Error| failure(&error, EngineError::Model);
        let threads = usize::from(execution.threads);
        let mut builder = ort::session::Session::builder(environment)
            .and_then(|it| Ok(it.with_optimization_level(GraphOptimizationLevel::All)?))
            .and_then(|it| Ok(it.with_intra_threads(threads)?))
            .and_then(|it| Ok(it.with_inter_threads(1)?))
            .and_then(|it| Ok(it.with_execution_providers(self.providers(model, execution))?))
            .map_err(in_model)?;
        let session = builder.commit_from_memory(file).map_err(in_model)?;
        // It takes a number of threads as a wish, so what it did is counted: the calling thread is one of them.
        let started = threads_now().zip(before).map(|(now, before)| 1 + now.saturating_sub(before));
        if let Some(started) =
            started.filter(|&started| self.library.providers.is_empty() && started != threads)
        {
            return Err(EngineError::Execution {
                engine: NAME.into(),
                can: format!("started {started} threads"),
                asked: format!("{threads} threads"),
            });
        }
        let element = model.input.element;
        let shape = input_shape(&session, element)?;
        Ok(OnnxSession { session, shape, element })
    }
}

impl Engine for OnnxRuntime {
    fn id(&self) -> EngineId {
        let used = self.library.providers.iter().map(|provider| format!("+{}", provider.name()));
        EngineId { name: NAME.into(), version: format!("{}{}", self.version, used.collect::<String>()) }
    }

    fn accepts(&self, model: &Model, execution: &Execution) -> Result<(), EngineError> {
        accepts(NAME, self.cores, model, execution)
    }

    fn counts_its_memory(&self) -> bool {
        false
    }

    fn prepare(&self, file: &[u8], model: &Model, execution: &Execution) -> Result<bool, EngineError> {
        self.accepts(model, execution)?;
        if !self.library.providers.contains(&Provider::TensorRt) {
            return Ok(true);
        }
        let cache = self.cache_of(model, execution);
        let known = has_files(&cache);
        std::fs::create_dir_all(&cache)
            .map_err(|error| EngineError::Model(format!("the folder for what it compiles: {error}")))?;
        self.session(file, model, execution).map(|_| known)
    }

    fn load(
        &self,
        file: Vec<u8>,
        model: &Model,
        execution: &Execution,
    ) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(self.session(&file, model, execution)?))
    }
}

impl Session for OnnxSession {
    fn input_len(&self) -> usize {
        self.shape.iter().product()
    }

    fn element(&self) -> Element {
        self.element
    }

    fn run(&mut self, input: &[u8]) -> Result<Vec<f32>, EngineError> {
        let expected = self.input_len() * if self.element == Element::U8 { 1 } else { size_of::<f32>() };
        if input.len() != expected {
            return Err(EngineError::Input { expected, got: input.len() });
        }
        let in_run = |error: ort::Error| failure(&error, EngineError::Run);
        let shape = self.shape.as_slice();
        let outputs = if self.element == Element::U8 {
            let tensor = TensorRef::from_array_view((shape, input)).map_err(in_run)?;
            self.session.run(ort::inputs![tensor])
        } else {
            let floats = input.chunks_exact(4).map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]]));
            let floats: Vec<f32> = floats.collect();
            let tensor = TensorRef::from_array_view((shape, floats.as_slice())).map_err(in_run)?;
            self.session.run(ort::inputs![tensor])
        };
        let outputs = outputs.map_err(in_run)?;
        let logits = outputs.values().next().ok_or_else(|| EngineError::Run("no output".into()))?;
        let (_, logits) = logits.try_extract_tensor::<f32>().map_err(in_run)?;
        copied(logits)
    }
}

/// Shape of the one input, its batch set to 1 where the file leaves it open; and one output of floats.
fn input_shape(session: &ort::session::Session, element: Element) -> Result<Vec<usize>, EngineError> {
    let wrong = |why: String| Err(EngineError::Model(why));
    let (inputs, outputs) = (session.inputs(), session.outputs());
    let ([input], [output]) = (inputs, outputs) else {
        return wrong(format!(
            "expected one input and one output, got {} and {}",
            inputs.len(),
            outputs.len()
        ));
    };
    if output.dtype().tensor_type() != Some(TensorElementType::Float32) {
        return wrong(format!("output `{}` is not of 32-bit floats", output.name()));
    }
    let name = input.name();
    let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
        return wrong(format!("input `{name}` is not a tensor"));
    };
    let wanted = if element == Element::U8 { TensorElementType::Uint8 } else { TensorElementType::Float32 };
    if *ty != wanted {
        return wrong(format!("input `{name}`: expected {wanted:?}, got {ty:?}"));
    }
    fixed(name, shape.iter().map(|&size| usize::try_from(size).ok()))
}

/// Its words, and whether they mean that memory was short.
fn failure(error: &ort::Error, otherwise: fn(String) -> EngineError) -> EngineError {
    let why = error.message().to_owned();
    if SHORT_OF_MEMORY.iter().any(|words| why.contains(words)) {
        EngineError::Memory(why)
    } else {
        otherwise(why)
    }
}

/// Threads of this process; `None` where the kernel does not say.
fn threads_now() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

fn has_files(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}
