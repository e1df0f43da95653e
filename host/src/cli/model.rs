//! What users may write where a model is wanted: `zoo:vgg13@0.25`, an ONNX file, or a run folder.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::network::layer::Input;

/// Help of every argument that takes a model.
pub(super) const FORMS: &str =
    "an .onnx file, a run folder (its student), or zoo:ARCH[@WIDTH][/CxHxW/CLASSES]";
/// Geometry of a zoo network when none is written: Fashion-MNIST's.
const DEFAULT_INPUT: Input = Input { channels: 1, height: 28, width: 28 };
/// Classes of a zoo network when none are written.
const DEFAULT_CLASSES: usize = 10;
/// Largest edge of a zoo network's image, pixels: beyond it a typing mistake is likelier than a wish.
const MAX_EDGE: usize = 1024;
/// Most classes of a zoo network.
const MAX_CLASSES: usize = 10_000;

/// A model, not yet read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ModelRef {
    /// A network of the zoo, with seeded random weights.
    Zoo(ZooRef),
    /// An ONNX file.
    File(PathBuf),
    /// A run folder; its student is meant.
    Run(PathBuf),
}

/// `zoo:vgg13@0.25/1x28x28/10`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ZooRef {
    /// Name of the architecture, not yet looked up.
    pub arch: String,
    /// Multiplier of all widths.
    pub width: f64,
    /// Image geometry.
    pub input: Input,
    /// Number of classes.
    pub classes: usize,
}

/// Why a text names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model `{text}`: expected {expected}")]
pub struct ModelRefError {
    text: String,
    expected: String,
}

impl ModelRef {
    /// The text, and what lies on disk under that name.
    ///
    /// # Errors
    /// Neither a zoo name nor an existing file or folder.
    pub(super) fn parse(text: &str) -> Result<Self, ModelRefError> {
        if let Some(zoo) = text.strip_prefix("zoo:") {
            return zoo
                .parse()
                .map(Self::Zoo)
                .map_err(|expected| ModelRefError { text: text.into(), expected });
        }
        let path = Path::new(text);
        match (path.is_dir(), path.is_file()) {
            (true, _) => Ok(Self::Run(path.into())),
            (_, true) => Ok(Self::File(path.into())),
            _ => Err(ModelRefError {
                text: text.into(),
                expected: format!("{FORMS}; there is no such file or folder"),
            }),
        }
    }
}

impl FromStr for ZooRef {
    /// What was expected.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let name = parts.next().unwrap_or_default();
        let (arch, width) = match name.split_once('@') {
            Some((arch, width)) => (arch, width_multiplier(width)?),
            None => (name, 1.0),
        };
        let input = parts.next().map_or(Ok(DEFAULT_INPUT), geometry)?;
        let classes = parts.next().map_or(Ok(DEFAULT_CLASSES), |text| {
            let classes = text.parse().ok().filter(|classes| (2..=MAX_CLASSES).contains(classes));
            classes.ok_or_else(|| format!("a number of classes from 2 to {MAX_CLASSES}, got `{text}`"))
        })?;
        if arch.is_empty() || parts.next().is_some() {
            return Err("zoo:ARCH[@WIDTH][/CxHxW/CLASSES], as in zoo:vgg13@0.25/1x28x28/10".into());
        }
        Ok(Self { arch: arch.into(), width, input, classes })
    }
}

/// A width multiplier, as in `--width 0.25`.
///
/// # Errors
/// What was expected.
pub(super) fn width_multiplier(text: &str) -> Result<f64, String> {
    let width = text.parse().ok().filter(|width: &f64| *width > 0.0 && *width <= 4.0);
    width.ok_or_else(|| format!("a width multiplier above 0 and at most 4, got `{text}`"))
}

fn geometry(text: &str) -> Result<Input, String> {
    let numbers: Option<Vec<usize>> = text.split('x').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[channels @ 1..=16, height @ 1..=MAX_EDGE, width @ 1..=MAX_EDGE]) => {
            Ok(Input { channels, height, width })
        }
        _ => Err(format!("a geometry channels x height x width, as in 3x32x32, got `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zoo_names_have_defaults() {
        let zoo: ZooRef = "vgg13@0.25".parse().unwrap();
        assert_eq!(
            (zoo.arch.as_str(), zoo.width, zoo.input, zoo.classes),
            ("vgg13", 0.25, DEFAULT_INPUT, 10)
        );
        let zoo: ZooRef = "resnet18/3x32x40/100".parse().unwrap();
        assert_eq!(
            (zoo.width, zoo.input, zoo.classes),
            (1.0, Input { channels: 3, height: 32, width: 40 }, 100)
        );
    }

    #[test]
    fn what_is_wrong_in_a_zoo_name_is_said() {
        for (text, part) in [
            ("vgg13@0", "width multiplier"),
            ("vgg13@NaN", "width multiplier"),
            ("vgg13/28x28", "geometry"),
            ("vgg13/1x0x28", "geometry"),
            ("vgg13/1x28x28/1", "classes"),
            ("vgg13/1x28x28/10/3", "zoo:ARCH"),
            ("@0.5", "zoo:ARCH"),
        ] {
            let error = ModelRef::parse(&format!("zoo:{text}")).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn files_and_folders_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("student.onnx");
        std::fs::write(&file, b"x").unwrap();
        assert_eq!(ModelRef::parse(file.to_str().unwrap()).unwrap(), ModelRef::File(file));
        let run = folder.path().to_str().unwrap();
        assert_eq!(ModelRef::parse(run).unwrap(), ModelRef::Run(run.into()));
        assert!(ModelRef::parse("/no/such/model.onnx").unwrap_err().to_string().contains("no such file"));
    }
}
