//! A profile as it stands in its file, key by key. Checks nothing but types and names: ranges are the reader's.

use serde::{Deserialize, Serialize};

/// A profile as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) schema: u32,
    pub(super) title: String,
    pub(super) source: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) classes: Vec<String>,
    pub(super) cpu: Cpu,
    pub(super) memory: Memory,
    pub(super) build: Build,
    pub(super) engine: Engine,
    pub(super) search: Search,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cpu {
    pub(super) model: OrDetect<String>,
    pub(super) cores: OrDetect<u16>,
    pub(super) clock_mhz: Option<u32>,
    pub(super) instruction_set: OrDetect<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    pub(super) sizes_mib: OrDetect<Vec<u64>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    pub(super) target: OrDetect<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Engine {
    pub(super) name: String,
    pub(super) threads: u16,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    pub(super) channel_multiple: usize,
    pub(super) limits: Vec<String>,
}

/// A value, or the word that asks this machine for it.
#[derive(Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a value in its range, or \"detect\"")]
pub(super) enum OrDetect<T> {
    Detect(DetectWord),
    Known(T),
}

#[derive(Deserialize, Serialize)]
pub(super) enum DetectWord {
    #[serde(rename = "detect")]
    Detect,
}

impl<T> OrDetect<T> {
    pub(super) fn or_else(self, detect: impl FnOnce() -> T) -> T {
        match self {
            Self::Known(value) => value,
            Self::Detect(DetectWord::Detect) => detect(),
        }
    }
}
