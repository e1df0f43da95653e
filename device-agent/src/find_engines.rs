//! Which engines this board has: looked for once, when the agent starts.
//!
//! A library that is found is opened by a worker, a process of its own: what crashes or hangs there is no engine, and the
//! agent says so and goes on without it. Only the board's owner says where else to look.

use crate::cancel::Cancel;
use crate::configuration::{OnnxRuntimeChoice, compiled};
use crate::engine::{Engines, Library};
use crate::worker_command::WorkerCommand;
use crate::worker_job::{Job, Outcome};
use crate::worker_process::{self, Deadlines, NamedLimits};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Folders where systems and their owners keep libraries; `{}` is the processor's name.
const FOLDERS: [&str; 7] = [
    "usr/local/lib",
    "usr/local/lib/{}-linux-gnu",
    "usr/lib/{}-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "opt/onnxruntime/lib",
    "usr/local/onnxruntime/lib",
];
/// How its file is called; a version may follow.
const NAME: &str = "libonnxruntime.so";
/// A library is on the disk: what takes longer than this does not come, and a host waits for its local agent no longer than
/// twice that.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found, and why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least the engine that every agent has.
    pub engines: Engines,
    /// For the board's owner: a library that cannot be used.
    pub problem: Option<String>,
}

/// Look for engines.
pub async fn find(choice: &OnnxRuntimeChoice, data: &Path, worker: &WorkerCommand) -> Found {
    let library = match choice {
        OnnxRuntimeChoice::Off => None,
        OnnxRuntimeChoice::Named(library) => Some(library.clone()),
        OnnxRuntimeChoice::LookedFor => in_known_places(Path::new("/")).map(|path| Library {
            path,
            providers: Vec::new(),
            cache: compiled(data),
        }),
    };
    let Some(library) = library else { return Found { engines: Engines::default(), problem: None } };
    let path = library.path.clone();
    let deadlines = Deadlines { load: PATIENCE, inference: PATIENCE, whole: PATIENCE };
    let limits = NamedLimits { memory_bytes: u64::MAX, memory_is_scarce: false, inference_ms: u32::MAX };
    let job = Job::Open(library);
    let why = match worker_process::run(worker, &job, deadlines, limits, &Cancel::never(), &mut |_| {}).await
    {
        Ok(Outcome::Opened(runtime)) => {
            return Found { engines: Engines::with(runtime), problem: None };
        }
        Ok(_) => "its worker answered with something else".into(),
        Err(failure) => failure.to_string(),
    };
    let problem = Some(format!("ONNX Runtime at {} is not used: {why}", path.display()));
    Found { engines: Engines::default(), problem }
}

/// The newest of the libraries that lie where systems keep them.
fn in_known_places(root: &Path) -> Option<PathBuf> {
    FOLDERS.iter().find_map(|folder| {
        let folder = root.join(folder.replace("{}", std::env::consts::ARCH));
        let names = std::fs::read_dir(&folder).ok()?.filter_map(Result::ok).map(|entry| entry.file_name());
        let numbered = names.filter_map(|name| {
            let name = name.into_string().ok()?;
            let version = name.strip_prefix(NAME)?;
            let numbers: Option<Vec<u32>> = match version {
                "" => Some(Vec::new()),
                version => version.strip_prefix('.')?.split('.').map(|part| part.parse().ok()).collect(),
            };
            Some((numbers?, name))
        });
        numbered.max().map(|(_, name)| folder.join(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_of_the_first_folder_that_has_one_is_taken() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(in_known_places(root.path()), None);
        let put = |folder: &str, name: &str| {
            let folder = root.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), "").unwrap();
        };
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.21",
            "libonnxruntime.so",
            "libonnxruntime.so.old",
        ] {
            put("usr/lib", name);
        }
        put("usr/lib", "libonnxruntime_providers_shared.so");
        let found = in_known_places(root.path()).unwrap();
        assert_eq!(found, root.path().join("usr/lib/libonnxruntime.so.1.21"));
        put("usr/local/lib", "libonnxruntime.so");
        let found = in_known_places(root.path()).unwrap();
        assert_eq!(found, root.path().join("usr/local/lib/libonnxruntime.so"));
    }
}
