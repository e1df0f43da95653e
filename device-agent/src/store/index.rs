//! What is known of a store's files, in memory: pure, and quick enough for its lock to be held on any thread.

use n2n_protocol::Digest;
use std::collections::{HashMap, HashSet};

/// Most files, whole and partial: a flood of tiny blobs must not use up the file system's inodes.
const MAX_FILES: usize = 20_000;

/// A blob, whole or on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    /// Bytes of the whole blob.
    pub(super) whole: u64,
    /// Bytes that are here.
    pub(super) present: u64,
    /// Whether its file has its final name.
    named: bool,
    /// Whether its digest was found right since the agent started.
    pub(super) verified: bool,
    /// Who uses it.
    pins: usize,
    /// Rises with each use, of all blobs together.
    used: u64,
    /// When it came, on the same clock: tells it from a successor of the same name.
    pub(super) born: u64,
}

impl Blob {
    /// One that was queried, of which nothing is here.
    pub(super) fn announced(whole: u64) -> Self {
        Self { whole, present: 0, named: false, verified: false, pins: 0, used: 0, born: 0 }
    }

    /// One whose file was found; `whole` for a partial one.
    pub(super) fn found(present: u64, whole: Option<u64>) -> Self {
        let blob = Self::announced(whole.unwrap_or(present));
        Self { present: present.min(blob.whole), named: whole.is_none(), ..blob }
    }

    /// Whether all of it is here, by its file's name.
    pub(super) fn is_whole(&self) -> bool {
        self.named
    }
}

/// All blobs of a store.
#[derive(Debug, Default)]
pub(super) struct Index {
    blobs: HashMap<Digest, Blob>,
    /// Blobs whose files are being changed or looked at.
    turns: HashSet<Digest>,
    taken: u64,
    clock: u64,
}

impl Index {
    /// Blobs in the order of their use. Of a partial and a whole file of one blob, the whole one counts.
    pub(super) fn new(found: Vec<(Digest, Blob)>) -> Self {
        let mut index = Self::default();
        for (digest, blob) in found {
            if !index.get(&digest).is_some_and(|known| known.is_whole()) {
                index.insert(digest, blob);
            }
        }
        index
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Blob> {
        self.blobs.get(digest).copied()
    }

    pub(super) fn insert(&mut self, digest: Digest, blob: Blob) {
        self.remove(&digest);
        self.clock += 1;
        self.taken += blob.whole;
        self.blobs.insert(digest, Blob { used: self.clock, born: self.clock, ..blob });
    }

    pub(super) fn remove(&mut self, digest: &Digest) -> Option<Blob> {
        let blob = self.blobs.remove(digest)?;
        self.taken -= blob.whole;
        Some(blob)
    }

    pub(super) fn used(&mut self, digest: &Digest) {
        self.clock += 1;
        let clock = self.clock;
        self.update(digest, |blob| blob.used = clock);
    }

    pub(super) fn grown(&mut self, digest: &Digest, present: u64) {
        self.update(digest, |blob| blob.present = present);
    }

    pub(super) fn completed(&mut self, digest: &Digest) {
        self.update(digest, |blob| (blob.named, blob.verified) = (true, true));
    }

    pub(super) fn verified(&mut self, digest: &Digest) {
        self.update(digest, |blob| blob.verified = true);
    }

    /// Pins a blob that is whole and verified.
    pub(super) fn pin(&mut self, digest: &Digest) -> Option<Blob> {
        self.used(digest);
        let blob = self.blobs.get_mut(digest).filter(|blob| blob.named && blob.verified)?;
        blob.pins += 1;
        Some(*blob)
    }

    /// Ends the use of the blob that came then; one that was removed meanwhile, for its damage, is not there any more.
    pub(super) fn unpin(&mut self, digest: &Digest, born: u64) {
        self.update(digest, |blob| blob.pins -= usize::from(blob.born == born));
    }

    /// Whether a blob of so many bytes, in so many files, keeps the bounds.
    pub(super) fn fits(&self, bytes: u64, files: usize, quota_bytes: u64) -> bool {
        self.taken.saturating_add(bytes) <= quota_bytes && self.blobs.len() + files <= MAX_FILES
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes out the blob that was used longest ago and that nobody uses, together with its turn.
    pub(super) fn evict(&mut self) -> Option<(Digest, Blob)> {
        let free = self.blobs.iter().filter(|(digest, blob)| blob.pins == 0 && !self.turns.contains(digest));
        let digest = free.min_by_key(|(_, blob)| blob.used).map(|(digest, _)| *digest)?;
        self.turns.insert(digest);
        self.remove(&digest).map(|blob| (digest, blob))
    }

    pub(super) fn has_turn(&self, digest: &Digest) -> bool {
        self.turns.contains(digest)
    }

    pub(super) fn begin_turn(&mut self, digest: Digest) {
        self.turns.insert(digest);
    }

    pub(super) fn end_turn(&mut self, digest: &Digest) {
        self.turns.remove(digest);
    }

    fn update(&mut self, digest: &Digest, change: impl FnOnce(&mut Blob)) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            change(blob);
        }
    }
}
