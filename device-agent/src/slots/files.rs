//! The slots on the medium. Every change is one that a power cut cannot halve: written beside, synced, renamed, and the
//! folder synced.

use super::State;
use crate::store::{digest_of, sync_folder};
use n2n_protocol::{BundleManifest, Failure};
use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const STATE: &str = "state.toml";
const SIGNER: &str = "signer";
const ACTIVE: &str = "active";
const MODEL: &str = "model.onnx";
const MANIFEST: &str = "manifest.bin";
/// Suffix of a file that is not yet what its name says.
const UNFINISHED: &str = "new";
/// Largest manifest that is read back: its logits are bounded by the protocol, and a damaged file is not believed.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// One of the three slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Slot {
    A,
    B,
    C,
}

impl Slot {
    pub(super) const ALL: [Self; 3] = [Self::A, Self::B, Self::C];

    fn folder_name(self) -> &'static str {
        match self {
            Self::A => "slot-a",
            Self::B => "slot-b",
            Self::C => "slot-c",
        }
    }
}

/// What a slot holds beside the model's bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) manifest: BundleManifest,
    pub(super) bytes: u64,
    /// Seconds since 1970.
    pub(super) staged_at: u64,
}

/// The folder of the slots.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Tests pull the plug after so many steps.
    #[cfg(test)]
    pub(super) steps_left: std::sync::Arc<std::sync::atomic::AtomicI64>,
}

impl Disk {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.into(),
            #[cfg(test)]
            steps_left: std::sync::Arc::new(i64::MAX.into()),
        })
    }

    /// Called before every change of the medium.
    #[cfg_attr(not(test), allow(clippy::unused_self, clippy::unnecessary_wraps))]
    fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.steps_left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) <= 0 {
            return Err(io::Error::other("the plug was pulled"));
        }
        Ok(())
    }

    fn slot(&self, slot: Slot) -> PathBuf {
        self.folder.join(slot.folder_name())
    }

    /// Where a slot's model lies.
    pub(super) fn model(&self, slot: Slot) -> PathBuf {
        self.slot(slot).join(MODEL)
    }

    /// What a slot holds; `None` unless it was filled to its end.
    pub(super) fn content(&self, slot: Slot) -> Option<Stored> {
        let path = self.slot(slot).join(MANIFEST);
        if fs::metadata(&path).ok()?.len() > MAX_MANIFEST_BYTES {
            return None;
        }
        let stored: Stored = postcard::from_bytes(&fs::read(path).ok()?).ok()?;
        (fs::metadata(self.model(slot)).ok()?.len() == stored.bytes).then_some(stored)
    }

    /// Copy a model and its manifest into a slot, to the medium. The manifest comes last: with it the slot is whole.
    pub(super) fn fill(
        &self,
        slot: Slot,
        model: &Path,
        manifest: BundleManifest,
        now: u64,
    ) -> io::Result<()> {
        self.clear(slot)?;
        self.step()?;
        let folder = self.slot(slot);
        fs::create_dir(&folder)?;
        self.step()?;
        let bytes = fs::copy(model, folder.join(MODEL))?;
        self.step()?;
        File::open(folder.join(MODEL))?.sync_all()?;
        let stored = Stored { manifest, bytes, staged_at: now };
        let encoded = postcard::to_stdvec(&stored).map_err(io::Error::other)?;
        self.write(&folder.join(MANIFEST), &encoded)?;
        self.step()?;
        sync_folder(&self.folder)
    }

    /// Empty a slot.
    pub(super) fn clear(&self, slot: Slot) -> io::Result<()> {
        // Not a whole slot from the first moment on, however far the removal gets.
        for file in [MANIFEST, MODEL] {
            self.step()?;
            ignore_missing(fs::remove_file(self.slot(slot).join(file)))?;
        }
        self.step()?;
        ignore_missing(fs::remove_dir_all(self.slot(slot)))
    }

    /// Read a slot's model back from the medium and compare its digest.
    pub(super) fn verify(&self, slot: Slot) -> Result<(), Failure> {
        let wanted = self.content(slot).map(|stored| stored.manifest.artifact.model.digest);
        let read_back = || {
            let mut file = File::open(self.model(slot))?;
            // Synced pages that are dropped now must come from the medium again. Without the right, the cache answers.
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
            digest_of(&mut file)
        };
        let found = read_back().map_err(super::disk_failure)?;
        if wanted == Some(found) {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "the slot's bytes have digest {found}, not the bundle's: stage it again"
        )))
    }

    pub(super) fn read_state(&self) -> io::Result<Option<State>> {
        let path = self.folder.join(STATE);
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map(Some).map_err(|error| {
                let why = format!("{}: {error}", path.display());
                io::Error::new(io::ErrorKind::InvalidData, why)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write_state(&self, state: State) -> io::Result<()> {
        let text = toml::to_string(&state).map_err(io::Error::other)?;
        self.write(&self.folder.join(STATE), text.as_bytes())
    }

    /// Key of the trusted signer, if this board trusts one.
    pub(super) fn signer(&self) -> io::Result<Option<[u8; 32]>> {
        match fs::read_to_string(self.folder.join(SIGNER)) {
            Ok(text) => {
                let mut key = [0; 32];
                hex::decode_to_slice(text.trim(), &mut key).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("file `{SIGNER}`: {error}"))
                })?;
                Ok(Some(key))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Trust a signer from now on, if none is trusted yet.
    pub(super) fn trust(&self, signer: [u8; 32]) -> io::Result<()> {
        if self.signer()?.is_some() {
            return Ok(());
        }
        self.write(&self.folder.join(SIGNER), format!("{}\n", hex::encode(signer)).as_bytes())
    }

    /// Let the link that applications use point at a slot.
    pub(super) fn point_at(&self, active: Option<Slot>) -> io::Result<()> {
        let link = self.folder.join(ACTIVE);
        let wanted = active.map(|slot| PathBuf::from(slot.folder_name()));
        if fs::read_link(&link).ok() == wanted {
            return Ok(());
        }
        self.step()?;
        match wanted {
            Some(target) => {
                let unfinished = link.with_extension(UNFINISHED);
                ignore_missing(fs::remove_file(&unfinished))?;
                symlink(target, &unfinished)?;
                fs::rename(unfinished, link)?;
            }
            None => ignore_missing(fs::remove_file(link))?,
        }
        sync_folder(&self.folder)
    }

    /// Replace a file as a whole.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let unfinished = path.with_extension(UNFINISHED);
        self.step()?;
        let mut file = File::create(&unfinished)?;
        self.step()?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.step()?;
        fs::rename(&unfinished, path)?;
        self.step()?;
        path.parent().map_or(Ok(()), sync_folder)
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
