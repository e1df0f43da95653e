//! `n2n.toml`: what a user does not want to type each time. Flags win over the file, the file over the defaults.
//!
//! Every key is optional, an unknown one is an error. Values are kept as the user wrote them and are checked where the
//! flags are, by the same code, so that a wrong limit in the file and on the command line gets the same message.
//!
//! ```toml
//! board = "pi-lab"             # a name of `n2n board list`, an address, or "local"
//! profile = "raspberry-pi-4b"  # a name of `n2n profile list`
//! device = "auto"              # where training runs: auto, cpu, cuda:N, cuda:N:tf32
//! engine = "auto"              # which engine of the board: auto, tract, onnxruntime
//! threads = 1                  # threads of the engine on the board
//!
//! [compress]
//! data = "fashion-mnist"
//! limits = ["latency=5ms", "memory=20MiB"]
//! reward = "balanced"          # classes weigh alike, however few images one has
//! preset = "edge"
//! budget = "30min"
//! wait_board = "10min"         # for a board that is lost on the way
//! final_epochs = 30
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::exit::{Failure, ResultExt as _};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "n2n.toml";
/// Largest configuration file, bytes: a few dozen lines; more is a mistake in the path.
const MAX_BYTES: u64 = 1 << 20;

/// The contents of `n2n.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Default of `--board`.
    pub board: Option<String>,
    /// Default of `--profile`.
    pub profile: Option<String>,
    /// Default of `--device`.
    pub device: Option<String>,
    /// Default of `--engine`.
    pub engine: Option<String>,
    /// Default of `--threads`.
    pub threads: Option<u16>,
    /// Defaults of `n2n compress`.
    #[serde(default)]
    pub compress: Compress,
}

/// Section `[compress]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compress {
    /// Default of `--data`.
    pub data: Option<String>,
    /// Limits, when no `--limit` is given.
    #[serde(default)]
    pub limits: Vec<String>,
    /// Default of `--reward`.
    pub reward: Option<String>,
    /// Default of `--preset`.
    pub preset: Option<String>,
    /// Default of `--budget`.
    pub budget: Option<String>,
    /// Default of `--wait-board`.
    pub wait_board: Option<String>,
    /// Default of `--final-epochs`.
    pub final_epochs: Option<usize>,
}

impl Config {
    /// The named file; without a name [`DEFAULT_FILE`] if it exists, else nothing.
    ///
    /// # Errors
    /// A named file is missing; a file is too long, no TOML, or has an unknown key or a value of the wrong type.
    pub fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let path = match path {
            Some(path) => path.to_path_buf(),
            None if Path::new(DEFAULT_FILE).is_file() => PathBuf::from(DEFAULT_FILE),
            None => return Ok(Self::default()),
        };
        let name = path.display();
        let bytes = std::fs::metadata(&path)
            .map_err(|error| Failure::usage(format!("{name}: {error}")))
            .hint("--config names a TOML file; leave it out to use the defaults")?
            .len();
        if bytes > MAX_BYTES {
            return Err(Failure::usage(format!("{name}: expected at most {MAX_BYTES} bytes, got {bytes}")));
        }
        let text =
            std::fs::read_to_string(&path).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        Self::parse(&text).map_err(|error| Failure::usage(format!("{name}: {error}")).hint(KEYS))
    }

    /// Checks keys and types; the error names line, key and what was expected.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            line.map_or_else(|| error.message().into(), |line| format!("line {line}: {}", error.message()))
        })
    }
}

/// What the file may say.
const KEYS: &str = "keys: board, profile, device, engine, threads; in [compress]: data, limits, reward, preset, budget, wait_board, final_epochs";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_read() {
        let config = Config::parse(
            "board = 'pi'\nthreads = 2\n[compress]\nlimits = ['latency=5ms']\nbudget = '30min'\nfinal_epochs = 3",
        )
        .unwrap();
        assert_eq!(config.board.as_deref(), Some("pi"));
        assert_eq!(config.compress.limits, ["latency=5ms"]);
        assert_eq!(config.compress.final_epochs, Some(3));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = Config::parse("board = 'pi'\n\n[compress]\nbugdet = '30min'").unwrap_err();
        assert!(error.contains("line 4") && error.contains("bugdet"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = Config::parse("threads = 'two'").unwrap_err();
        assert!(error.contains("line 1") && error.contains("u16"), "{error}");
    }

    #[test]
    fn a_missing_file_that_was_named_is_a_usage_error() {
        let failure = Config::load(Some(Path::new("/nonexistent/n2n.toml"))).unwrap_err();
        assert_eq!(failure.code(), crate::exit::Code::Usage);
    }
}
