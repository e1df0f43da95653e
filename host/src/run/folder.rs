//! The layout of a run folder, and the lock that keeps two processes from using one at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::journal::{Journal, JournalError};
use super::journey::Journey;
use super::manifest::{Manifest, ManifestError};
use crate::exit::Diagnostic;
use crate::search::Record;

/// A process id and a newline; more in a lock file is not ours.
const MOST_LOCK_BYTES: u64 = 64;

/// Why a run folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A new run needs a new folder.
    #[error("run folder {0}: holds a run already; choose another --out, or go on with it by --resume")]
    Taken(PathBuf),
    /// There is nothing to go on from.
    #[error("run folder {0}: no run to resume (run.toml is missing)")]
    Nothing(PathBuf),
    /// Another process has it.
    #[error("run folder {path}: in use by process {owner}")]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Its process id as far as known.
        owner: String,
    },
    /// The system's.
    #[error("run folder {path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Diagnostic for FolderError {}

/// Names of the files in a run folder; no claim that they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(PathBuf);

impl Layout {
    /// Of that folder.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Resolved configuration.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("run.toml")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.0.join("trials.jsonl")
    }

    /// How far the job has come.
    pub fn journey(&self) -> PathBuf {
        self.0.join("journey.jsonl")
    }

    /// Weights of retrained finalists, by digest.
    pub fn students(&self) -> PathBuf {
        self.0.join("students")
    }

    /// The policy that decides about units.
    pub fn removal_policy(&self) -> PathBuf {
        self.0.join("policy-removal.safetensors")
    }

    /// The policy that decides about widths.
    pub fn shrinkage_policy(&self) -> PathBuf {
        self.0.join("policy-shrinkage.safetensors")
    }

    /// The student that ships.
    pub fn student_onnx(&self) -> PathBuf {
        self.0.join("student.onnx")
    }

    /// Its weights, batch norm live.
    pub fn student_safetensors(&self) -> PathBuf {
        self.0.join("student.safetensors")
    }

    /// The report.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// Weights of trained candidates.
    pub fn candidates(&self) -> PathBuf {
        self.0.join("candidates")
    }

    /// States of trainings that are not over.
    pub fn trainings(&self) -> PathBuf {
        self.0.join("trainings")
    }

    fn lock(&self) -> PathBuf {
        self.0.join("run.lock")
    }
}

/// A run folder that this process alone uses, until the value is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Folder {
    layout: Layout,
    _lock: File,
}

impl Folder {
    /// For a new run; makes the folder. A run that ended before its journal's first line (the board was off, a limit
    /// impossible) is not in the way of its second try.
    ///
    /// # Errors
    /// [`FolderError::Taken`] if it holds a run.
    pub fn create(path: &Path) -> Result<Self, FolderError> {
        std::fs::create_dir_all(path).map_err(|source| FolderError::Io { path: path.to_owned(), source })?;
        let folder = Self::lock(path)?;
        if holds_a_run(&folder.layout) {
            return Err(FolderError::Taken(path.to_owned()));
        }
        for file in [folder.layout.manifest(), folder.layout.journey()] {
            match std::fs::remove_file(file) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FolderError::Io { path: path.to_owned(), source });
                }
                _ => {}
            }
        }
        Ok(folder)
    }

    /// Whether a new run could be made there, asked before hours of work; makes nothing.
    ///
    /// # Errors
    /// [`FolderError::Taken`] if it holds a run; the system's, where no folder can be made.
    pub fn check(path: &Path) -> Result<(), FolderError> {
        if holds_a_run(&Layout::of(path)) {
            return Err(FolderError::Taken(path.to_owned()));
        }
        let there = path.ancestors().find(|it| it.exists()).unwrap_or(Path::new("."));
        let io = |source| FolderError::Io { path: path.to_owned(), source };
        tempfile::tempfile_in(there).map(drop).map_err(io)
    }

    /// For going on with a run.
    ///
    /// # Errors
    /// [`FolderError::Nothing`] if there is none.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        if !Layout::of(path).manifest().exists() {
            return Err(FolderError::Nothing(path.to_owned()));
        }
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self, FolderError> {
        let layout = Layout::of(path);
        let io = |source| FolderError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(layout.lock())
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {
                // For people who ask who has it; the lock itself is the system's and ends with the process.
                file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
                writeln!(file, "{}", std::process::id()).map_err(io)?;
                Ok(Self { layout, _lock: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let read = file.take(MOST_LOCK_BYTES).read_to_string(&mut owner);
                let owner = if read.is_ok() && !owner.trim().is_empty() { owner.trim() } else { "(unknown)" };
                Err(FolderError::Locked { path: path.to_owned(), owner: owner.to_owned() })
            }
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Names of its files.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.layout.path()
    }

    /// Writes the manifest of a new run, or checks that a resumed one was configured the same; gives the one in force.
    ///
    /// # Errors
    /// [`ManifestError::Different`] names what differs.
    pub fn begin(&self, manifest: Manifest) -> Result<Manifest, FolderError> {
        let path = self.layout.manifest();
        if path.exists() {
            let recorded = Manifest::load(&path)?;
            recorded.check(&manifest)?;
            return Ok(recorded);
        }
        manifest.save(&path)?;
        Ok(manifest)
    }

    /// The journal, ready to go on after its last whole line, and the lines it has.
    ///
    /// # Errors
    /// A journal that is damaged elsewhere than at its end.
    pub fn journal(&self) -> Result<(Journal, Vec<Record>), FolderError> {
        Ok(Journal::open(&self.layout.journal())?)
    }

    /// How far the job has come, ready for more.
    ///
    /// # Errors
    /// A journal that is damaged elsewhere than at its end, or of another version.
    pub fn journey(&self) -> Result<Journey, FolderError> {
        Ok(Journey::open(&self.layout.journey())?)
    }
}

fn holds_a_run(layout: &Layout) -> bool {
    std::fs::metadata(layout.journal()).is_ok_and(|journal| journal.len() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(seed: u64) -> Manifest {
        let configuration: toml::Table = toml::from_str(&format!("seed = {seed}")).unwrap();
        Manifest::new(&configuration).unwrap()
    }

    fn line() -> Record {
        Record::Resumed(crate::search::record::Resumed { records: 0, elapsed_ns: 7 })
    }

    #[test]
    fn one_process_uses_a_run_folder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/a");
        let first = Folder::create(&path).unwrap();
        let error = Folder::create(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Folder::create(&path).unwrap();
    }

    #[test]
    fn a_new_run_never_overwrites_one_and_a_resumed_one_needs_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Folder::open(folder.path()), Err(FolderError::Nothing(_))));
        let run = Folder::create(folder.path()).unwrap();
        run.begin(manifest(1)).unwrap();
        run.journal().unwrap().0.append(&line()).unwrap();
        drop(run);
        assert!(matches!(Folder::create(folder.path()), Err(FolderError::Taken(_))));
        assert!(matches!(Folder::check(folder.path()), Err(FolderError::Taken(_))));
        let (free, file) = (folder.path().join("runs/b"), folder.path().join("run.toml/b"));
        Folder::check(&free).unwrap();
        assert!(!free.exists() && !folder.path().join("runs").exists(), "nothing is made");
        assert!(matches!(Folder::check(&file), Err(FolderError::Io { .. })));
        let run = Folder::open(folder.path()).unwrap();
        assert_eq!(run.begin(manifest(1)).unwrap(), manifest(1));
        let error = run.begin(manifest(2)).unwrap_err().to_string();
        assert!(error.contains("`seed`"), "{error}");
    }

    #[test]
    fn a_run_that_never_began_to_search_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let run = Folder::create(folder.path()).unwrap();
        run.begin(manifest(1)).unwrap();
        run.journal().unwrap();
        drop(run);
        // Not hindered by the settings of the first try either.
        let run = Folder::create(folder.path()).unwrap();
        assert_eq!(run.begin(manifest(2)).unwrap(), manifest(2));
    }

    #[test]
    fn the_journal_of_a_folder_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let run = Folder::create(folder.path()).unwrap();
        let (mut journal, lines) = run.journal().unwrap();
        assert!(lines.is_empty());
        journal.append(&line()).unwrap();
        drop(journal);
        assert_eq!(run.journal().unwrap().1, vec![line()]);
    }
}
