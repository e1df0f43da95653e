//! The folder of the slots: what lies in it, and the few changes that are made to it.
//!
//! A student is written into a folder of its own, `incoming-…`, and becomes a slot by one rename: nothing ever writes into a
//! folder that is called a slot. It must not decide which student belongs where.

use super::format1;
use super::state::Slot;
use super::student::{self, Sketch, Student};
use crate::medium::{self, sync_folder};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The link that applications open.
const ACTIVE: &str = "active";
const SIGNER: &str = "signer";
pub(super) const MODEL: &str = "model.onnx";
const STUDENT: &str = "student.toml";
/// Beginning of the name of a folder that is being filled.
const INCOMING: &str = "incoming-";
/// Beginning of the name of a folder that gave up its slot.
const OUTGOING: &str = "outgoing-";
/// Suffix of a file that is not yet what its name says.
const UNFINISHED: &str = "new";
/// Folders that applications read, whoever runs them.
const FOLDER_MODE: u32 = 0o755;
/// Longest file of a signer's key, bytes: 64 digits, and room for line ends.
const MAX_SIGNER_BYTES: u64 = 128;

/// What a slot's own files say of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// No student, or one of which nothing is known.
    Unknown,
    /// A student.
    Student(Student),
    /// A student that an agent of format 1 put there; its id is still to be given.
    Former(Student),
    /// A student of which little is understood.
    Sketch(Sketch),
}

/// The folder of the slots.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Tests pull the plug after so many steps.
    #[cfg(test)]
    pub(super) steps_left: std::sync::Arc<std::sync::atomic::AtomicI64>,
}

/// A student on its way into a slot. Dropped, it is gone: on another thread, for a slow disk blocks nobody.
#[derive(Debug)]
pub(super) struct Incoming(Option<TempDir>);

impl Incoming {
    /// Where its model lies.
    pub(super) fn model(&self) -> PathBuf {
        self.0.as_ref().map_or_else(PathBuf::new, |folder| folder.path().join(MODEL))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let folder = self.0.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(folder))),
            Err(_) => drop(folder),
        }
    }
}

impl Disk {
    /// The folder, made if need be. What cannot be made is not there, and every later use says so.
    pub(super) fn open(folder: &Path) -> (Self, io::Result<()>) {
        let disk = Self {
            folder: folder.into(),
            #[cfg(test)]
            steps_left: std::sync::Arc::new(i64::MAX.into()),
        };
        (disk, fs::create_dir_all(folder))
    }

    /// Called before every change of the medium.
    #[cfg_attr(not(test), allow(clippy::unused_self, clippy::unnecessary_wraps))]
    pub(super) fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.steps_left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) <= 0 {
            return Err(io::Error::other("the plug was pulled"));
        }
        Ok(())
    }

    /// A file of this folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where a slot's model lies.
    pub(super) fn model(&self, slot: Slot) -> PathBuf {
        self.file(slot.name()).join(MODEL)
    }

    /// Where applications find the active model.
    pub(super) fn active_model(&self) -> PathBuf {
        self.file(ACTIVE).join(MODEL)
    }

    /// Make the names in this folder last.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.step()?;
        sync_folder(&self.folder)
    }

    /// What a slot's own files say of it.
    pub(super) fn content(&self, slot: Slot) -> Content {
        let folder = self.file(slot.name());
        let former = || {
            let manifest = read_at_most(&folder.join(format1::MANIFEST), format1::MAX_MANIFEST_BYTES).ok()?;
            format1::student(&manifest)
        };
        let text = read_at_most(&folder.join(STUDENT), student::MAX_BYTES);
        let read = text.map(|bytes| Student::read(&String::from_utf8_lossy(&bytes)));
        match read {
            Ok(Ok(student)) => Content::Student(student),
            Ok(Err(Some(sketch))) => Content::Sketch(sketch),
            // The file is there and says nothing: of the student that lies here the other file knows the digest.
            Ok(Err(None)) => former().map_or(Content::Unknown, |student| {
                let (name, why) = (Some(student.bundle.name.clone()), format!("{STUDENT} is damaged"));
                Content::Sketch(Sketch { digest: student.digest(), name, id: None, why })
            }),
            Err(_) => former().map_or(Content::Unknown, Content::Former),
        }
    }

    /// The slot that applications are led to.
    pub(super) fn linked(&self) -> Option<Slot> {
        Slot::of_name(fs::read_link(self.file(ACTIVE)).ok()?.to_str()?)
    }

    /// Copy a model into a fresh folder, to the medium. `wanted` is asked between pieces.
    ///
    /// # Errors
    /// As for copying; [`io::ErrorKind::Interrupted`] when it is no longer wanted. Nothing is left then.
    pub(super) fn receive(
        &self,
        model: &Path,
        wanted: medium::Wanted<'_>,
    ) -> io::Result<(Incoming, n2n_protocol::Digest, u64)> {
        self.step()?;
        let folder = tempfile::Builder::new()
            .prefix(INCOMING)
            .permissions(Permissions::from_mode(FOLDER_MODE))
            .tempdir_in(&self.folder)?;
        let mut from = File::open(model)?;
        self.step()?;
        let mut to = File::create_new(folder.path().join(MODEL))?;
        let (digest, bytes) = medium::copied(&mut from, &mut to, wanted)?;
        self.step()?;
        to.sync_all()?;
        Ok((Incoming(Some(folder)), digest, bytes))
    }

    /// Write a student's facts beside its model, for this agent and for one of format 1.
    ///
    /// # Errors
    /// As for writing; [`io::ErrorKind::InvalidInput`] for facts that cannot be kept, in words.
    pub(super) fn describe(&self, incoming: &Incoming, student: &Student) -> io::Result<()> {
        let folder = incoming.0.as_ref().ok_or(io::ErrorKind::NotFound)?.path();
        let unfit = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let files = [
            (STUDENT, student.write().map_err(unfit)?.into_bytes()),
            (format1::MANIFEST, format1::manifest(student).map_err(unfit)?),
        ];
        for (name, bytes) in files {
            self.step()?;
            let mut file = File::create_new(folder.join(name))?;
            file.write_all(&bytes)?;
            file.sync_all()?;
        }
        self.step()?;
        sync_folder(folder)
    }

    /// Give a student that an agent of format 1 put into a slot its facts in our form.
    ///
    /// # Errors
    /// As for writing.
    pub(super) fn redescribe(&self, slot: Slot, student: &Student) -> io::Result<()> {
        let text = student.write().map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        self.write(&self.file(slot.name()).join(STUDENT), text.as_bytes())
    }

    /// Let a student have a slot. What lay there is gone.
    ///
    /// # Errors
    /// As for renaming; the slot may be empty then.
    pub(super) fn adopt(&self, mut incoming: Incoming, slot: Slot) -> io::Result<()> {
        let place = self.file(slot.name());
        let outgoing = self.file(&format!("{OUTGOING}{}", slot.name()));
        self.step()?;
        ignore_missing(fs::remove_dir_all(&outgoing))?;
        self.step()?;
        ignore_missing(fs::rename(&place, &outgoing))?;
        self.step()?;
        let arrived = incoming.0.as_ref().ok_or(io::ErrorKind::NotFound)?.path();
        fs::rename(arrived, place)?;
        // From here on the folder is the slot, not ours to remove.
        let _ = incoming.0.take().map(TempDir::keep);
        self.sync()?;
        if let Err(error) = self.step().and_then(|()| ignore_missing(fs::remove_dir_all(&outgoing))) {
            tracing::warn!(%error, folder = %outgoing.display(), "what gave up its slot stays until the next start");
        }
        Ok(())
    }

    /// Remove what an agent that was killed left half-done.
    ///
    /// # Errors
    /// The first that was met; the rest is tried all the same.
    pub(super) fn tidy(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let left =
                name.to_str().is_some_and(|name| name.starts_with(INCOMING) || name.starts_with(OUTGOING));
            if left {
                outcome = outcome.and(self.step().and_then(|()| fs::remove_dir_all(entry.path())));
            }
        }
        outcome
    }

    /// Key of the trusted signer, if this board trusts one.
    ///
    /// # Errors
    /// When its file is there and cannot be read, or is no key.
    pub(super) fn signer(&self) -> io::Result<Option<[u8; 32]>> {
        let text = match read_at_most(&self.file(SIGNER), MAX_SIGNER_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim_ascii(), &mut key).map_err(|error| {
            let path = self.file(SIGNER);
            let why = format!(
                "{}: {error}: expected the signer's key; remove it to trust the next signer",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, why)
        })?;
        Ok(Some(key))
    }

    /// Trust a signer from now on, if none is trusted yet.
    ///
    /// # Errors
    /// As for reading and writing.
    pub(super) fn trust(&self, signer: [u8; 32]) -> io::Result<()> {
        if self.signer()?.is_some() {
            return Ok(());
        }
        self.write(&self.file(SIGNER), format!("{}\n", hex::encode(signer)).as_bytes())
    }

    /// Let the link that applications use point at a slot.
    ///
    /// # Errors
    /// As for renaming; the link is as before then.
    pub(super) fn point_at(&self, active: Option<Slot>) -> io::Result<()> {
        let link = self.file(ACTIVE);
        let wanted = active.map(|slot| PathBuf::from(slot.name()));
        if fs::read_link(&link).ok() == wanted {
            return Ok(());
        }
        self.step()?;
        match wanted {
            Some(target) => {
                let unfinished = link.with_extension(UNFINISHED);
                ignore_missing(fs::remove_file(&unfinished))?;
                symlink(target, &unfinished)?;
                self.step()?;
                fs::rename(unfinished, link)?;
            }
            None => ignore_missing(fs::remove_file(link))?,
        }
        self.sync()
    }

    /// The text of the state that agents of format 1 keep, if it is there.
    pub(super) fn former_state(&self) -> Option<String> {
        let bytes = read_at_most(&self.file(format1::STATE), format1::MAX_MANIFEST_BYTES).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Replace a file as a whole.
    ///
    /// # Errors
    /// As for writing; the file is as before then.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let unfinished = path.with_extension(UNFINISHED);
        self.step()?;
        let mut file = File::create(&unfinished)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Half a file would only take room.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        self.step()?;
        fs::rename(&unfinished, path)?;
        self.step()?;
        path.parent().map_or(Ok(()), sync_folder)
    }
}

/// A file that is not longer than it may be.
fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    if file.take(most + 1).read_to_end(&mut bytes)? as u64 > most {
        let why = format!("{}: longer than {most} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(bytes)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
