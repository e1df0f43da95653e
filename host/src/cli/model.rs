//! What users may write where a model is wanted: `zoo:vgg13@0.25`, an ONNX file, or a run folder.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use n2n_protocol::Golden;

use crate::exit::{Failure, ResultExt as _};
use crate::model_io::onnx::{self, Filling, Model, ModelInfo};
use crate::network::fold::folded;
use crate::network::layer::Input;
use crate::network::zoo::{self, Architecture};
use crate::shipping::golden;

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

/// The student inside a run folder.
const STUDENT: &str = "student.onnx";
/// Seed of the weights that a zoo network is measured with, and of the golden input.
const SEED: u64 = 0;

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
    /// The family member.
    pub arch: Architecture,
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
pub(super) struct ModelRefError {
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
        Ok(Self { arch: architecture(arch)?, width, input, classes })
    }
}

/// A member of the zoo, as in `--arch vgg13`.
///
/// # Errors
/// What was expected.
pub(super) fn architecture(text: &str) -> Result<Architecture, String> {
    text.parse().map_err(|_| {
        let names: Vec<&str> = Architecture::ALL.iter().map(|it| it.name()).collect();
        format!("one of {}, got `{text}`", names.join(", "))
    })
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

/// A file to send, and the answer that proves that the board runs it rightly.
#[derive(Debug)]
pub(super) struct Measurable {
    /// ONNX.
    pub bytes: Vec<u8>,
    /// By the host's reference forward pass.
    pub golden: Golden,
}

/// Reads what a text names. A zoo network has no trained weights, only a seed for them.
///
/// # Errors
/// No such model, or a file that cannot be used.
pub(super) fn load(text: &str) -> Result<Model, Failure> {
    match ModelRef::parse(text).map_err(Failure::usage)? {
        ModelRef::Zoo(zoo) => {
            let network = zoo::build(zoo.arch, zoo.input, zoo.classes, zoo.width).map_err(Failure::usage)?;
            let info = ModelInfo::untrained(&network);
            Ok(Model { network, filling: Filling::Seed(SEED), info })
        }
        ModelRef::File(path) => Ok(onnx::load(&path)?),
        ModelRef::Run(folder) => {
            let path = folder.join(STUDENT);
            if path.is_file() {
                return Ok(onnx::load(&path)?);
            }
            Err(Failure::failed(format_args!("{}: expected a student, found none", path.display())))
                .hint("the run is not finished: go on with `n2n compress --resume --out RUN`, or name an .onnx file")
        }
    }
}

/// The file as a board gets it: a zoo network folded and without weights (it will be filled there), a real one as it is.
///
/// # Errors
/// The network cannot be written, or its weights do not fit it.
pub(super) fn measurable(model: &Model) -> Result<Measurable, Failure> {
    let network = match &model.filling {
        Filling::Seed(_) => folded(&model.network),
        Filling::Weights(_) => model.network.clone(),
    };
    let model = Model { network, ..model.clone() };
    let weights = model.weights();
    let filling = match &model.filling {
        Filling::Seed(seed) => Filling::Seed(*seed),
        Filling::Weights(weights) => Filling::Weights(weights),
    };
    let bytes = onnx::write(&model.network, filling, &model.info)?;
    Ok(Measurable { bytes, golden: golden(&model.network, &weights, &model.info, SEED)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zoo_names_have_defaults() {
        let zoo: ZooRef = "vgg13@0.25".parse().unwrap();
        assert_eq!(
            (zoo.arch, zoo.width, zoo.input, zoo.classes),
            (Architecture::Vgg13, 0.25, DEFAULT_INPUT, 10)
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
            ("vgg12", "vgg11, vgg13"),
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
