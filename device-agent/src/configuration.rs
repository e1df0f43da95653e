//! The board's own configuration: `agent.toml` in the data folder, written by whoever owns the board.
//!
//! It says what no host may say: which program runs here, how long a trial lasts, what this board calls itself. A key that
//! is not known is an error, for a typing mistake must not silently mean the default.

use crate::engine::{Library, Provider};
use n2n_protocol::limits;
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file, in the data folder.
const FILE: &str = "agent.toml";
/// Longest file that is read, bytes.
const MAX_BYTES: u64 = 64 << 10;
/// How long a trial lasts if nothing is said: a host checks a student in a minute or two, on a serial line in some more.
const TRIAL: Duration = Duration::from_mins(15);
/// Shortest and longest trial: below a second no host could confirm, and after a day nobody is there any more.
const TRIALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// What the board's owner decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Class of this board, instead of what the device tree says.
    pub class: Option<String>,
    /// How long a student may be active without being confirmed.
    pub trial: Duration,
    /// Program that is told of each switch of the active student.
    pub on_switch: Option<PathBuf>,
    /// Which ONNX Runtime this board has.
    pub onnxruntime: OnnxRuntimeChoice,
}

/// What the board's owner says of ONNX Runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnnxRuntimeChoice {
    /// Nothing: it is looked for where systems keep it.
    #[default]
    LookedFor,
    /// This library.
    Named(Library),
    /// None, whatever the board has.
    Off,
}

impl Default for Configuration {
    fn default() -> Self {
        Self { class: None, trial: TRIAL, on_switch: None, onnxruntime: OnnxRuntimeChoice::default() }
    }
}

/// A configuration that is not one.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct ConfigurationError {
    path: PathBuf,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    class: Option<String>,
    trial: Option<String>,
    on_switch: Option<PathBuf>,
    onnxruntime: Option<OnnxRuntime>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnnxRuntime {
    library: Option<PathBuf>,
    #[serde(default)]
    providers: Vec<Provider>,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// Folder in the data folder for what an engine compiled.
pub(crate) fn compiled(data: &Path) -> PathBuf {
    data.join("compiled")
}

impl Configuration {
    /// The configuration in a data folder; the defaults where there is none.
    ///
    /// # Errors
    /// [`ConfigurationError`] for a file that cannot be read, an unknown key, or a value out of its bounds.
    pub fn load(data: &Path) -> Result<Self, ConfigurationError> {
        let path = data.join(FILE);
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(ConfigurationError { path, why: error.to_string() }),
        };
        Self::parse(&text, data).map_err(|why| ConfigurationError { path, why })
    }

    fn parse(text: &str, data: &Path) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            format!("{line}{}", error.message())
        })?;
        if let Some(class) = &file.class
            && (class.is_empty() || class.len() > limits::NAME_BYTES || class.chars().any(char::is_control))
        {
            let (most, got) = (limits::NAME_BYTES, class.escape_debug());
            return Err(format!(
                "class: expected 1 to {most} bytes without control characters, got \"{got}\""
            ));
        }
        let trial = file.trial.map_or(Ok(TRIAL), |text| {
            let trial = humantime::parse_duration(&text).map_err(|error| error.to_string());
            trial
                .and_then(
                    |trial| if TRIALS.contains(&trial) { Ok(trial) } else { Err("out of bounds".into()) },
                )
                .map_err(|why| {
                    format!("trial: expected a time from 1s to 24h, as in \"15min\", got \"{text}\": {why}")
                })
        })?;
        if let Some(program) = file.on_switch.as_ref().filter(|program| !program.is_absolute()) {
            return Err(format!(
                "on_switch: expected the absolute path of a program, got \"{}\"",
                program.display()
            ));
        }
        let onnxruntime = file.onnxruntime.map_or(Ok(OnnxRuntimeChoice::LookedFor), |it| choice(it, data))?;
        Ok(Self { class: file.class, trial, on_switch: file.on_switch, onnxruntime })
    }
}

fn choice(it: OnnxRuntime, data: &Path) -> Result<OnnxRuntimeChoice, String> {
    match it.library {
        _ if !it.enabled => Ok(OnnxRuntimeChoice::Off),
        Some(path) if path.is_absolute() => {
            Ok(OnnxRuntimeChoice::Named(Library { path, providers: it.providers, cache: compiled(data) }))
        }
        Some(path) => {
            Err(format!("onnxruntime.library: expected an absolute path, got \"{}\"", path.display()))
        }
        None if it.providers.is_empty() => Ok(OnnxRuntimeChoice::LookedFor),
        None => Err("onnxruntime.providers: expected onnxruntime.library beside it, got none".into()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_without_a_file_has_the_defaults() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Configuration::load(data.path()).unwrap(), Configuration::default());
        std::fs::write(data.path().join(FILE), "").unwrap();
        assert_eq!(Configuration::load(data.path()).unwrap(), Configuration::default());
    }

    #[test]
    fn every_key_is_read() {
        let text = "class = \"cabinet-3\"\ntrial = \"1h 30min\"\non_switch = \"/usr/local/bin/reload\"\n\
             [onnxruntime]\nlibrary = \"/opt/ort/libonnxruntime.so\"\nproviders = [\"tensorrt\", \"cuda\"]\n";
        let expected = Configuration {
            class: Some("cabinet-3".into()),
            trial: Duration::from_mins(90),
            on_switch: Some("/usr/local/bin/reload".into()),
            onnxruntime: OnnxRuntimeChoice::Named(Library {
                path: "/opt/ort/libonnxruntime.so".into(),
                providers: vec![Provider::TensorRt, Provider::Cuda],
                cache: "/data/compiled".into(),
            }),
        };
        assert_eq!(parse(text), Ok(expected));
        let off = parse("[onnxruntime]\nenabled = false\n").unwrap();
        assert_eq!(off.onnxruntime, OnnxRuntimeChoice::Off);
    }

    fn parse(text: &str) -> Result<Configuration, String> {
        Configuration::parse(text, Path::new("/data"))
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_what_is_known() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join(FILE), "\ntrail = \"15min\"\n").unwrap();
        let error = Configuration::load(data.path()).unwrap_err().to_string();
        for part in ["agent.toml: line 2", "`trail`", "`class`", "`trial`", "`on_switch`"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        for (text, part) in [
            ("trial = \"0s\"", "from 1s to 24h"),
            ("trial = \"soon\"", "got \"soon\""),
            ("trial = 15", "line 1"),
            ("on_switch = \"reload\"", "absolute path"),
            ("class = \"\"", "1 to 128 bytes"),
            ("[onnxruntime]\nlibrary = \"ort.so\"", "absolute path"),
            ("[onnxruntime]\nproviders = [\"cuda\"]", "onnxruntime.library"),
            ("[onnxruntime]\nlibrary = \"/a\"\nproviders = [\"abacus\"]", "`abacus`"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(part), "{part} in {why}");
        }
    }
}
