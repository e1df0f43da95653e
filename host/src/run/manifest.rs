//! `run.toml`: the resolved configuration of a run with its digests, so that a resumed run is the same run.
//!
//! Knows nothing of the configuration's fields; it compares whatever the caller makes of them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::Diagnostic;
use crate::model_io::atomic_file;

/// Version of this file's own form.
const SCHEMA: u32 = 1;
/// Configurations are a few KB.
const MOST_BYTES: u64 = 1 << 20;

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The system's.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a manifest.
    #[error("{path}: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The configuration cannot be written as TOML.
    #[error("configuration: {0}")]
    Configuration(String),
    /// The resumed run is another one.
    #[error("cannot resume: `{key}` differs: expected {recorded} (in run.toml), got {given}")]
    Different {
        /// Dotted name.
        key: String,
        /// In the file.
        recorded: String,
        /// Now.
        given: String,
    },
}

impl Diagnostic for ManifestError {}

/// What a run was started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    schema: u32,
    /// Of the program that began it. A resumed run may be continued by a newer one: the journal's replay shows whether
    /// that still proposes the same candidates.
    pub version: String,
    /// Pictures of the data set that were left out because they cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// SHA-256 of what the configuration only names: teacher, data, starting policies.
    #[serde(default)]
    pub digests: BTreeMap<String, String>,
    /// Resolved: no defaults are left out.
    pub configuration: toml::Table,
}

impl Manifest {
    /// Of this program, from a resolved configuration.
    ///
    /// # Errors
    /// [`ManifestError::Configuration`] if it is no TOML table.
    pub fn new(configuration: &impl Serialize) -> Result<Self, ManifestError> {
        let table = toml::Table::try_from(configuration);
        Ok(Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            left_out: None,
            digests: BTreeMap::new(),
            configuration: table.map_err(|error| ManifestError::Configuration(error.to_string()))?,
        })
    }

    /// With the digest of something that the configuration names.
    #[must_use]
    pub fn with_digest(mut self, name: &str, digest: impl Into<String>) -> Self {
        self.digests.insert(name.to_owned(), digest.into());
        self
    }

    /// With what was left out of the data set.
    #[must_use]
    pub fn with_left_out(self, left_out: Option<String>) -> Self {
        Self { left_out, ..self }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, path: &Path) -> Result<(), ManifestError> {
        let text = toml::to_string(self).map_err(|error| ManifestError::Configuration(error.to_string()))?;
        let io = |source| ManifestError::Io { path: path.to_owned(), source };
        atomic_file::write(path, text.as_bytes()).map_err(io)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Also for unknown keys and other schemas.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let io = |source| ManifestError::Io { path: path.to_owned(), source };
        let form = |reason: String| ManifestError::Form { path: path.to_owned(), reason };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MOST_BYTES {
            return Err(form(format!("expected at most {MOST_BYTES} bytes")));
        }
        let manifest: Self = toml::from_str(&text).map_err(|error| form(error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(form(format!("expected schema {SCHEMA}, got {}", manifest.schema)));
        }
        Ok(manifest)
    }

    /// Whether `given` may go on with this run.
    ///
    /// # Errors
    /// [`ManifestError::Different`] names the first difference.
    pub fn check(&self, given: &Self) -> Result<(), ManifestError> {
        compare("", &self.configuration, &given.configuration)?;
        let table = |digests: &BTreeMap<String, String>| {
            digests.iter().map(|(name, digest)| (name.clone(), toml::Value::String(digest.clone()))).collect()
        };
        compare("digests.", &table(&self.digests), &table(&given.digests))
    }
}

fn compare(prefix: &str, recorded: &toml::Table, given: &toml::Table) -> Result<(), ManifestError> {
    let keys: std::collections::BTreeSet<&String> = recorded.keys().chain(given.keys()).collect();
    for key in keys {
        let name = format!("{prefix}{key}");
        match (recorded.get(key), given.get(key)) {
            (Some(toml::Value::Table(old)), Some(toml::Value::Table(new))) => {
                compare(&format!("{name}."), old, new)?;
            }
            (old, new) if old == new => {}
            (old, new) => {
                let show = |value: Option<&toml::Value>| {
                    value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
                };
                return Err(ManifestError::Different { key: name, recorded: show(old), given: show(new) });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Search {
        limits: Vec<String>,
        seed: u64,
    }

    #[derive(Serialize)]
    struct Configuration {
        preset: &'static str,
        budget_s: Option<f64>,
        search: Search,
    }

    fn manifest(seed: u64, limit: &str, budget_s: Option<f64>) -> Manifest {
        let search = Search { limits: vec![limit.to_owned()], seed };
        let configuration = Configuration { preset: "edge", budget_s, search };
        Manifest::new(&configuration).unwrap().with_digest("teacher", "abc")
    }

    #[test]
    fn a_manifest_survives_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        let written = manifest(7, "latency=5ms", Some(1200.0));
        written.save(&path).unwrap();
        assert_eq!(Manifest::load(&path).unwrap(), written);
        written.check(&Manifest::load(&path).unwrap()).unwrap();
    }

    #[test]
    fn differences_are_named() {
        let recorded = manifest(7, "latency=5ms", None);
        let error = |given: &Manifest| recorded.check(given).unwrap_err().to_string();
        assert!(
            error(&manifest(8, "latency=5ms", None))
                .contains("`search.seed` differs: expected 7 (in run.toml), got 8")
        );
        assert!(error(&manifest(7, "latency=6ms", None)).contains("`search.limits`"));
        assert!(
            error(&manifest(7, "latency=5ms", Some(3.0))).contains("`budget_s` differs: expected nothing")
        );
        let other = manifest(7, "latency=5ms", None).with_digest("teacher", "abd");
        assert!(error(&other).contains("`digests.teacher`"));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        for text in [
            "",
            "schema = 1",
            "schema = 2\nversion = \"9\"\n[configuration]",
            "not toml",
            "schema = 1\nversion = \"1\"\nmore = 1\n[configuration]",
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Manifest::load(&path), Err(ManifestError::Form { .. })), "{text}");
        }
        std::fs::write(&path, vec![b'#'; MOST_BYTES as usize + 1]).unwrap();
        assert!(matches!(Manifest::load(&path), Err(ManifestError::Form { .. })));
    }
}
