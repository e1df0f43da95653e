//! Which engines a board has, as plain data: the agent finds them once, and tells each worker the one to load.

use super::onnxruntime::OnnxRuntime;
use super::seam::Engine;
use super::tract::Tract;
use n2n_protocol::EngineId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An engine that this board has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Installed {
    /// Always there.
    Tract(Tract),
    /// Where the board has its library.
    OnnxRuntime(OnnxRuntime),
}

impl Installed {
    /// What it does.
    pub fn engine(&self) -> &dyn Engine {
        match self {
            Self::Tract(engine) => engine,
            Self::OnnxRuntime(engine) => engine,
        }
    }
}

/// All engines of a board; the first is the one that hosts take unless they are told another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engines(Arc<[Installed]>);

impl Default for Engines {
    /// What every agent has.
    fn default() -> Self {
        Self(Arc::from([Installed::Tract(Tract)]))
    }
}

impl Engines {
    /// With the board's own ONNX Runtime, which comes first: it is what programs on a board that has it mostly run.
    pub fn with(runtime: OnnxRuntime) -> Self {
        Self(Arc::from([Installed::OnnxRuntime(runtime), Installed::Tract(Tract)]))
    }

    /// The engine that a plan names.
    pub fn find(&self, name: &str) -> Option<&Installed> {
        self.0.iter().find(|installed| installed.engine().id().name == name)
    }

    /// Names and versions, for hosts and people.
    pub fn ids(&self) -> Vec<EngineId> {
        self.0.iter().map(|installed| installed.engine().id()).collect()
    }
}
