//! Weights of retrained finalists and of the student, by their digest: what the journey's lines name.

use std::path::{Path, PathBuf};

use crate::model_io::safetensors::SafetensorsError;
use crate::model_io::{Weights, safetensors};
use crate::network::Network;

/// The folder.
#[derive(Debug)]
pub(super) struct StudentStore(PathBuf);

impl StudentStore {
    /// In `folder`, which is made when it is needed.
    pub(super) fn of(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Keeps weights; they are on the disk when their digest is given.
    pub(super) fn put(&self, network: &Network, weights: &Weights) -> Result<String, SafetensorsError> {
        let digest = weights.digest();
        safetensors::save(&self.file(&digest), network, weights)?;
        Ok(digest)
    }

    /// The weights of that digest, if they are there and whole.
    pub(super) fn get(&self, network: &Network, digest: &str) -> Option<Weights> {
        let weights = safetensors::load(&self.file(digest), network).ok()?;
        (weights.digest() == digest).then_some(weights)
    }

    /// Takes all away but those of that digest: what is asked for again can be trained again.
    pub(super) fn keep_only(&self, digest: Option<&str>) {
        let kept = digest.map(|digest| self.file(digest));
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        for file in files.filter(|file| Some(file) != kept.as_ref()) {
            // One that stays behind costs disk and nothing else.
            let _ = std::fs::remove_file(file);
        }
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.0.join(format!("{digest}.safetensors"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_io::filled;
    use crate::model_io::onnx::tests::sequential;

    #[test]
    fn weights_come_back_by_digest_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = StudentStore::of(&folder.path().join("students"));
        let network = sequential();
        let (one, other) = (filled(&network, 1), filled(&network, 2));
        let (first, second) = (store.put(&network, &one).unwrap(), store.put(&network, &other).unwrap());
        assert_eq!(store.get(&network, &first), Some(one.clone()));
        // A file with other weights than its name says.
        std::fs::copy(store.file(&second), store.file(&first)).unwrap();
        assert_eq!(store.get(&network, &first), None);
        store.put(&network, &one).unwrap();
        store.keep_only(Some(&first));
        assert_eq!((store.get(&network, &first), store.get(&network, &second)), (Some(one), None));
    }
}
