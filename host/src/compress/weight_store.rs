//! Trained candidates' weights in the run folder, so that finalists go on where the search left them.
//!
//! Bounded: a search trains hundreds, and only the best are asked for again. What was thrown away can be trained again
//! from its job, to the same bits. Must not decide what is trained.

use std::path::{Path, PathBuf};

use crate::model_io::{Weights, safetensors};
use crate::network::Network;
use crate::search::answer::Rung;
use crate::search::job::Job;

/// Most candidates kept; some multiple of the five finalists, since the best of one stage are not the best of another.
const KEPT: usize = 24;

/// The folder of candidates' weights.
#[derive(Debug)]
pub(super) struct WeightStore {
    folder: PathBuf,
    /// File and accuracy of what is there.
    kept: Vec<(PathBuf, f64)>,
}

impl WeightStore {
    /// In `folder`, which is made if need be; files of an earlier part of the same run are found there.
    pub(super) fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if let Some(accuracy) = accuracy_of(&path) {
                kept.push((path, accuracy));
            }
        }
        Ok(Self { folder: folder.to_owned(), kept })
    }

    /// Keeps the weights that `job` led to, unless 24 better ones are there.
    pub(super) fn put(
        &mut self,
        job: &Job,
        weights: &Weights,
        accuracy: f64,
    ) -> Result<(), safetensors::SafetensorsError> {
        let path = self.folder.join(format!("{}-{:05.0}.safetensors", stem(job), accuracy * 1e4));
        safetensors::save(&path, &job.network, weights)?;
        self.kept.retain(|(other, _)| *other != path);
        self.kept.push((path, accuracy));
        self.kept.sort_by(|one, other| other.1.total_cmp(&one.1));
        for (path, _) in self.kept.split_off(self.kept.len().min(KEPT)) {
            // One that stays behind costs disk and nothing else.
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    /// The weights that `job` led to, if they were kept and are whole.
    pub(super) fn get(&self, job: &Job) -> Option<Weights> {
        let stem = stem(job);
        let file = self.kept.iter().find(|(path, _)| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&stem))
        });
        file.and_then(|(path, _)| safetensors::load(path, &job.network as &Network).ok())
    }
}

fn stem(job: &Job) -> String {
    let rung = match job.rung {
        Rung::Inherited => "inherited".to_owned(),
        Rung::Steps(steps) => format!("{steps}steps"),
        Rung::Epochs(epochs) => format!("{epochs}epochs"),
    };
    format!("{}-{rung}-{}", job.lineage, job.seed)
}

/// From `NAME-NNNNN.safetensors`, in hundredths of a percent.
fn accuracy_of(path: &Path) -> Option<f64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".safetensors")?;
    name.rsplit_once('-')?.1.parse::<f64>().ok().map(|value| value / 1e4)
}
