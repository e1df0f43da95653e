//! A training's state as a file, so that an interrupted training goes on inside.
//!
//! A safetensors file: weights, moments, and one metadata key with the position and with what the state belongs to. Written
//! whole or not at all; a file that does not fit is said and left aside, for the training can always begin anew.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model_io::{Weights, WeightsError, atomic_file, bytes_of, values_of};
use crate::network::Network;
use crate::training::state::Position;
use crate::training::{Recipe, TrainingState};

/// Version of the file.
const SCHEMA: u32 = 1;
/// Key of the head in the file's metadata.
const HEAD: &str = "n2n.training";
/// Room for the head and the table of tensors, bytes: some 60 a pass, some 200 a tensor.
const HEAD_BYTES: u64 = 4 << 20;
/// Time between two states, unless a caller says otherwise.
pub const INTERVAL: Duration = Duration::from_secs(30);

/// What a state belongs to: a training that differs in any of it cannot go on from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Digest of the structure.
    network: String,
    /// Digest of the weights that the training began with.
    start: String,
    /// The recipe, seed included, as JSON.
    recipe: String,
    /// Digest of the data set.
    data: String,
    /// Digest of the teacher's file; `None` without distillation.
    teacher: Option<String>,
    /// Device, as in `--device`: results differ between a CPU and a GPU.
    device: String,
}

/// The file of one training.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    owner: Owner,
    network: Network,
    /// Time between two states.
    pub interval: Duration,
}

/// A file that no training can go on from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Larger than a state of this network.
    #[error("expected at most {most} bytes, got {got}")]
    TooLarge {
        /// Of a state of this network.
        most: u64,
        /// Of the file, as far as it was read.
        got: u64,
    },
    /// No safetensors file.
    #[error("not a whole safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// The head is missing or damaged.
    #[error("head: {0}")]
    Head(String),
    /// Of another version of this program.
    #[error("expected schema {SCHEMA}, got {0}")]
    Schema(u32),
    /// Of another training.
    #[error("it belongs to another training: its {0} differs")]
    Other(&'static str),
    /// A tensor that is none of the state's.
    #[error("tensor `{name}`: expected {expected}, got {got}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What a state has.
        expected: String,
        /// What the file has.
        got: String,
    },
    /// Tensors and network disagree.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// What the metadata hold.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    schema: u32,
    owner: Owner,
    position: Position,
}

impl Owner {
    /// Of the training of `network` from `start` by `recipe`; digests of data set and teacher.
    pub fn new(
        network: &Network,
        start: &Weights,
        recipe: &Recipe,
        data: &str,
        teacher: Option<&str>,
        device: &str,
    ) -> Self {
        Self {
            network: network.digest(),
            start: start.digest(),
            // Numbers and names only: it cannot fail.
            recipe: serde_json::to_string(recipe).unwrap_or_default(),
            data: data.to_owned(),
            teacher: teacher.map(str::to_owned),
            device: device.to_owned(),
        }
    }

    /// SHA-256, as 64 hexadecimal digits: another for each training.
    pub fn digest(&self) -> String {
        // Texts only: it cannot fail.
        hex::encode(Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }

    /// What differs first.
    fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            ("network", self.network == other.network),
            ("starting weights", self.start == other.start),
            ("recipe", self.recipe == other.recipe),
            ("data set", self.data == other.data),
            ("teacher", self.teacher == other.teacher),
            ("device", self.device == other.device),
        ]
        .into_iter()
        .find_map(|(what, same)| (!same).then_some(what))
    }
}

impl Checkpoint {
    /// At `path`, of a training of `network` that `owner` identifies.
    pub fn new(path: PathBuf, network: &Network, owner: Owner, interval: Duration) -> Self {
        Self { path, owner, network: network.clone(), interval }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state to go on from; `None` where there is no file, or none that this training can go on from, which is said.
    pub fn resume(&self) -> Option<TrainingState> {
        match self.load() {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!("{}: {error}; the training begins anew", self.path.display());
                None
            }
        }
    }

    /// Keeps a state in place of the one before. A training does not end because of a full disk: that is said.
    pub fn keep(&self, state: &TrainingState) {
        match self.save(state) {
            Ok(()) => tracing::debug!("step {}: kept in {}", state.position.step, self.path.display()),
            Err(error) => tracing::warn!("{}: {error}; the training goes on", self.path.display()),
        }
    }

    /// Takes the file away, when the training's result is safe.
    pub fn remove(&self) {
        // One that stays behind costs disk and nothing else.
        let _ = std::fs::remove_file(&self.path);
    }

    /// Writes a state.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]: a full disk, a folder that is gone.
    pub fn save(&self, state: &TrainingState) -> Result<(), CheckpointError> {
        let head = Head { schema: SCHEMA, owner: self.owner.clone(), position: state.position.clone() };
        let head = serde_json::to_string(&head).map_err(|error| CheckpointError::Head(error.to_string()))?;
        let raw = |part: &'static str, weights: &Weights| -> Vec<(String, Vec<usize>, Vec<u8>)> {
            let named = |(name, array): (&str, &crate::model_io::Array)| {
                (format!("{part}/{name}"), array.dims.clone(), bytes_of(&array.values))
            };
            weights.iter().map(named).collect()
        };
        let mut all = raw(WEIGHTS, &state.weights);
        all.extend(raw(FIRST, &state.first_moments));
        all.extend(raw(SECOND, &state.second_moments));
        let views = all
            .iter()
            .map(|(name, dims, bytes)| Ok((name, TensorView::new(Dtype::F32, dims.clone(), bytes)?)))
            .collect::<Result<Vec<_>, SafeTensorError>>()?;
        let bytes = safetensors::serialize(views, Some(HashMap::from([(HEAD.to_owned(), head)])))?;
        Ok(atomic_file::write(&self.path, &bytes)?)
    }

    /// Reads the state; `None` where there is no file.
    ///
    /// # Errors
    /// A file that is no state, or one of another training.
    pub fn load(&self) -> Result<Option<TrainingState>, CheckpointError> {
        let values: u64 =
            self.network.parameters().iter().map(|it| it.dims.iter().product::<usize>() as u64).sum();
        // Weights and two moments.
        let most = 3 * 4 * values + HEAD_BYTES;
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let got = file.metadata()?.len();
        if got > most {
            return Err(CheckpointError::TooLarge { most, got });
        }
        let mut bytes = Vec::new();
        let got = file.take(most + 1).read_to_end(&mut bytes)? as u64;
        if got > most {
            return Err(CheckpointError::TooLarge { most, got });
        }
        self.decode(&bytes).map(Some)
    }

    fn decode(&self, bytes: &[u8]) -> Result<TrainingState, CheckpointError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let damaged = |error: serde_json::Error| CheckpointError::Head(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let head = header.metadata().as_ref().and_then(|metadata| metadata.get(HEAD));
        let head = head.ok_or_else(|| CheckpointError::Head("none".into()))?;
        let Version { schema } = serde_json::from_str(head).map_err(damaged)?;
        if schema != SCHEMA {
            return Err(CheckpointError::Schema(schema));
        }
        let Head { owner, position, .. } = serde_json::from_str(head).map_err(damaged)?;
        if let Some(what) = owner.difference(&self.owner) {
            return Err(CheckpointError::Other(what));
        }
        let mut state = TrainingState {
            position,
            weights: Weights::default(),
            first_moments: Weights::default(),
            second_moments: Weights::default(),
        };
        for (name, view) in SafeTensors::deserialize(bytes)?.iter() {
            let wrong = |expected: &str, got: String| CheckpointError::Tensor {
                name: name.to_owned(),
                expected: expected.to_owned(),
                got,
            };
            if view.dtype() != Dtype::F32 {
                return Err(wrong("F32", format!("{:?}", view.dtype())));
            }
            let (part, tensor) = name.split_once('/').unwrap_or((name, ""));
            let of = match part {
                WEIGHTS => &mut state.weights,
                FIRST => &mut state.first_moments,
                SECOND => &mut state.second_moments,
                _ => return Err(wrong("weights or moments", part.to_owned())),
            };
            of.insert(tensor, view.shape().to_vec(), values_of(view.data()));
        }
        state.weights.verify(&self.network)?;
        self.check_moments(FIRST, &state.first_moments)?;
        if state.second_moments.iter().next().is_some() {
            self.check_moments(SECOND, &state.second_moments)?;
        }
        Ok(state)
    }

    /// Moments of all trained tensors, and of nothing else.
    fn check_moments(&self, part: &str, moments: &Weights) -> Result<(), CheckpointError> {
        let parameters = self.network.parameters();
        let trained: Vec<_> = parameters.iter().filter(|parameter| parameter.role.is_trained()).collect();
        for parameter in &trained {
            let got = moments.get(&parameter.name).map(|array| &array.dims);
            if got != Some(&parameter.dims) {
                return Err(CheckpointError::Tensor {
                    name: format!("{part}/{}", parameter.name),
                    expected: format!("{:?}", parameter.dims),
                    got: got.map_or_else(|| "none".to_owned(), |dims| format!("{dims:?}")),
                });
            }
        }
        match moments.iter().count() {
            count if count == trained.len() => Ok(()),
            count => Err(CheckpointError::Tensor {
                name: part.to_owned(),
                expected: format!("{} tensors", trained.len()),
                got: count.to_string(),
            }),
        }
    }
}

/// Prefixes of tensors' names.
const WEIGHTS: &str = "weights";
const FIRST: &str = "first";
const SECOND: &str = "second";

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::data::{Normalisation, Samples};
    use crate::network::layer::Input;
    use crate::network::zoo::{Architecture, build};
    use crate::training::inheritance::initial_weights;
    use crate::training::optimiser::Method;
    use crate::training::recipe::Length;
    use crate::training::{
        Augmentation, Checkpoints, Classifier, Device, TeacherLogits, TrainSummary, TrainingError,
        TrainingJob,
    };

    const IMAGES: usize = 44;
    const STEPS: usize = 8;

    fn samples() -> Samples {
        let pixels = (0..IMAGES * 64).map(|index| (index * 31 % 251) as u8).collect();
        let labels = (0..IMAGES).map(|index| (index % 3) as u16).collect();
        Samples { channels: 1, height: 8, width: 8, pixels, labels }
    }

    fn normalisation() -> Normalisation {
        Normalisation { mean: vec![0.5], deviation: vec![0.25] }
    }

    fn network() -> Network {
        build(Architecture::Resnet10, Input { channels: 1, height: 8, width: 8 }, 3, 0.05).unwrap()
    }

    /// Four passes of two steps.
    fn recipe(method: Method) -> Recipe {
        let augmentation = Augmentation { padding: 1, flip: true };
        Recipe {
            length: Length::Epochs(4),
            batch: 20,
            method,
            augmentation,
            lambda: 0.5,
            seed: 5,
            ..Recipe::teacher()
        }
    }

    fn methods() -> [Method; 2] {
        [
            Method::Sgd { momentum: 0.9, nesterov: true, weight_decay: 5e-4 },
            Method::AdamW { weight_decay: 5e-4 },
        ]
    }

    fn answers() -> TeacherLogits {
        let teacher = Classifier::new(&network(), &initial_weights(&network(), 9), &Device::Cpu).unwrap();
        teacher.answers(&samples(), &normalisation(), recipe(methods()[0]).augmentation, 2, 0).unwrap()
    }

    fn checkpoint(folder: &Path, recipe: &Recipe) -> Checkpoint {
        let start = initial_weights(&network(), 3);
        let owner = Owner::new(&network(), &start, recipe, "data", Some("teacher"), "cpu");
        Checkpoint::new(folder.join("t.checkpoint"), &network(), owner, Duration::from_hours(1))
    }

    /// Trains, from the file if there is one, until `stop` steps are done.
    fn train(
        file: &Checkpoint,
        recipe: &Recipe,
        teacher: Option<&TeacherLogits>,
        stop: usize,
    ) -> Result<(Weights, TrainSummary), TrainingError> {
        let mut model = Classifier::new(&network(), &initial_weights(&network(), 3), &Device::Cpu).unwrap();
        let (samples, normalisation) = (samples(), normalisation());
        let mut keep = |state: &TrainingState| file.save(state).unwrap();
        let job = TrainingJob {
            validation: &[&samples],
            checkpoints: Some(Checkpoints {
                from: file.load().unwrap(),
                interval: file.interval,
                keep: &mut keep,
            }),
            ..TrainingJob::new(&samples, &normalisation, teacher, recipe)
        };
        let summary = model.train(job, &mut |now, _| {
            if now.step == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok((model.weights()?, TrainSummary { wall_s: 0.0, ..summary }))
    }

    #[test]
    fn an_interrupted_training_gives_the_bits_of_one_that_was_not() {
        let answers = answers();
        for (method, teacher) in methods().into_iter().zip([None, Some(&answers)]) {
            let recipe = recipe(method);
            let whole = {
                let folder = tempfile::tempdir().unwrap();
                train(&checkpoint(folder.path(), &recipe), &recipe, teacher, usize::MAX).unwrap()
            };
            // In the first pass, at its end, in a later one, twice, and after the last step.
            for stops in [&[1][..], &[2], &[5], &[3, 6], &[STEPS]] {
                let folder = tempfile::tempdir().unwrap();
                let file = checkpoint(folder.path(), &recipe);
                for &stop in stops {
                    let error = train(&file, &recipe, teacher, stop).unwrap_err();
                    assert!(matches!(error, TrainingError::Cancelled { step } if step == stop), "{error}");
                }
                let (weights, summary) = train(&file, &recipe, teacher, usize::MAX).unwrap();
                assert_eq!(weights.digest(), whole.0.digest(), "{method:?}, interrupted at {stops:?}");
                assert_eq!(summary, whole.1, "{method:?}, interrupted at {stops:?}");
            }
        }
    }

    #[test]
    fn a_state_is_kept_each_interval() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe(methods()[0]);
        let file = Checkpoint { interval: Duration::ZERO, ..checkpoint(folder.path(), &recipe) };
        train(&file, &recipe, None, usize::MAX).unwrap();
        assert_eq!(file.load().unwrap().unwrap().position.step, STEPS);
        file.remove();
        assert_eq!(file.load().unwrap(), None);
    }

    #[test]
    fn a_state_of_another_training_is_refused_by_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let own = recipe(methods()[0]);
        let file = checkpoint(folder.path(), &own);
        train(&file, &own, None, 1).unwrap_err();
        let refused = |owner: Owner| {
            let other = Checkpoint { owner, ..file.clone() };
            assert!(other.resume().is_none());
            other.load().unwrap_err().to_string()
        };
        let owner = file.owner.clone();
        for (other, what) in [
            (Owner { start: String::new(), ..owner.clone() }, "starting weights"),
            (checkpoint(folder.path(), &Recipe { seed: 6, ..own }).owner, "recipe"),
            (Owner { data: "other".into(), ..owner.clone() }, "data set"),
            (Owner { teacher: None, ..owner.clone() }, "teacher"),
            (Owner { device: "cuda:0".into(), ..owner }, "device"),
        ] {
            assert_eq!(refused(other), format!("it belongs to another training: its {what} differs"));
        }
    }

    #[test]
    fn damage_is_refused_and_the_training_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe(methods()[1]);
        let file = checkpoint(folder.path(), &recipe);
        train(&file, &recipe, None, 3).unwrap_err();
        let whole = std::fs::read(file.path()).unwrap();
        for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
            std::fs::write(file.path(), &whole[..length]).unwrap();
            assert!(matches!(file.load(), Err(CheckpointError::Format(_))), "{length} bytes");
            assert!(file.resume().is_none());
        }
        std::fs::write(file.path(), [whole.clone(), vec![0; HEAD_BYTES as usize]].concat()).unwrap();
        assert!(matches!(file.load(), Err(CheckpointError::TooLarge { .. })));

        std::fs::write(file.path(), &whole).unwrap();
        let state = file.load().unwrap().unwrap();
        let without = |damage: &dyn Fn(&mut TrainingState)| {
            let mut state = state.clone();
            damage(&mut state);
            file.save(&state).unwrap();
            file.load().unwrap_err()
        };
        let error = without(&|state| state.weights = Weights::default());
        assert!(matches!(error, CheckpointError::Weights(WeightsError::Missing(_))), "{error}");
        let error = without(&|state| state.first_moments = Weights::default());
        assert!(matches!(error, CheckpointError::Tensor { .. }), "{error}");
        let error = without(&|state| state.second_moments.insert("more", vec![1], vec![1.0]));
        assert!(error.to_string().contains("tensors, got"), "{error}");
    }

    #[test]
    fn a_file_with_any_byte_changed_is_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe(methods()[1]);
        let file = checkpoint(folder.path(), &recipe);
        train(&file, &recipe, None, 1).unwrap_err();
        let whole = std::fs::read(file.path()).unwrap();
        // The length, much of head and table of tensors, and some of the numbers.
        let table = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for place in (0..64).chain((64..table).step_by(11)).chain((table..whole.len()).step_by(1009)) {
            for byte in [0, 0xFF, whole[place] ^ 1] {
                let mut bytes = whole.clone();
                bytes[place] = byte;
                let _ = file.decode(&bytes);
            }
        }
    }

    #[test]
    fn a_position_beyond_the_training_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe(methods()[0]);
        let file = checkpoint(folder.path(), &recipe);
        train(&file, &recipe, None, 3).unwrap_err();
        let mut state = file.load().unwrap().unwrap();
        state.position.step = STEPS + 1;
        file.save(&state).unwrap();
        let error = train(&file, &recipe, None, usize::MAX).unwrap_err().to_string();
        assert_eq!(error, "position: expected at most step 8 of 8, got 9");
    }
}
