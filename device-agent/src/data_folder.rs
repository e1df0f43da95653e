//! The agent's data folder: whose it is, and what an agent has of it.
//!
//! The owner has blobs and slots. A guest, which finds another agent there, measures in turns with it, keeps blobs for
//! itself and leaves the slots alone. A folder that cannot be written, or not even read, leaves an agent that measures.

use crate::ownership::{Claim, Ownership};
use crate::scratch::Scratch;
use crate::slots::{Settings, Slots};
use crate::store::Store;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// Folder of the blobs inside the data folder.
const BLOBS: &str = "blobs";

/// Folder of the slots inside the data folder.
const SLOTS: &str = "slots";

/// What an agent has.
#[derive(Debug)]
pub struct DataFolder {
    /// Blobs: the folder's, or its own.
    pub store: Store,
    /// The slots; `None` for a guest.
    pub slots: Option<Slots>,
    /// Process id of the agent that owns the folder, if that is another one and it says so.
    pub owner: Option<u32>,
    /// Where agents that take turns meet.
    pub meeting: PathBuf,
    /// Last, so that the folder is ours until all of the above is gone.
    _holds: (Option<Ownership>, Option<Scratch>),
}

impl DataFolder {
    /// Open a data folder.
    ///
    /// # Errors
    /// When there is no place for blobs at all.
    pub fn open(data: &Path, settings: Settings) -> Result<Self> {
        Scratch::tidy(data);
        let (ownership, owner) = match Claim::on(data) {
            Claim::Owned(ownership) => (Some(ownership), None),
            Claim::Taken(owner) => {
                tracing::info!(data = %data.display(), ?owner, "another agent owns the data folder; this one is a guest");
                (None, owner)
            }
        };
        let is_writable = ownership.as_ref().is_none_or(|it| it.is_writable);
        let own = ownership.as_ref().and_then(|_| match Store::open(&data.join(BLOBS)) {
            Ok(store) if is_writable => Some(store),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "the data folder takes no blobs; they go to a scratch folder");
                None
            }
        });
        let (store, scratch) = if let Some(store) = own {
            (store, None)
        } else {
            let scratch = Scratch::new(data).context("a scratch folder for blobs")?;
            let opening = || format!("opening {}", scratch.path().display());
            (Store::open(scratch.path()).with_context(opening)?, Some(scratch))
        };
        let slots = ownership.as_ref().map(|_| Slots::open(&data.join(SLOTS), settings));
        // Agents that share a folder which takes no lock could not share a measurement's either.
        let meeting = match &scratch {
            Some(scratch) if !is_writable => scratch.path().to_owned(),
            _ => data.to_owned(),
        };
        Ok(Self { store, slots, owner, meeting, _holds: (ownership, scratch) })
    }
}
