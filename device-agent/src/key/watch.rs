//! Notices while the agent runs that its keys have changed, by looking at their files every two seconds. A look costs the
//! time of some tens of `stat` calls; it needs no library, and works on every file system.

use super::KeyRing;
use super::files::{KeyFiles, Loaded};
use crate::advice::Advice;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks: the time that a removed key still opens anything.
const LOOK: Duration = Duration::from_secs(2);

/// The keys in force now, for everybody who has to know when they change.
pub type Keys = watch::Receiver<Arc<KeyRing>>;

/// Keys that never change.
pub fn fixed(ring: KeyRing) -> Keys {
    watch::Sender::new(Arc::new(ring)).subscribe()
}

/// Keys that follow their files; the watching ends with the last receiver. `first` is what was loaded before.
///
/// # Errors
/// The system has no thread for it.
pub fn follow(files: KeyFiles, first: Loaded) -> io::Result<Keys> {
    follow_every(LOOK, files, first)
}

fn follow_every(look: Duration, files: KeyFiles, first: Loaded) -> io::Result<Keys> {
    let (sender, keys) = watch::channel(Arc::new(first.ring));
    let mut told = words(&first.problems);
    // Nothing yet: what changed between loading and now must not be missed.
    let mut seen = Vec::new();
    let watcher = move || {
        while !sender.is_closed() {
            let stamps = stamps(&files);
            if stamps != seen {
                seen = stamps;
                let loaded = files.load();
                let problems = words(&loaded.problems);
                if problems != told {
                    loaded.problems.iter().for_each(Advice::warn);
                    told = problems;
                }
                publish(&sender, loaded.ring);
            }
            std::thread::sleep(look);
        }
    };
    std::thread::Builder::new().name("key-watch".to_owned()).spawn(watcher)?;
    Ok(keys)
}

fn publish(sender: &watch::Sender<Arc<KeyRing>>, ring: KeyRing) {
    let before = Arc::clone(&sender.borrow());
    if *before == ring {
        return;
    }
    let names = |ring: &KeyRing, other: &KeyRing| -> Vec<String> {
        let gone = ring.all().iter().filter(|held| !other.holds(&held.key));
        gone.map(|held| format!("{} ({})", held.name, held.key.id())).collect()
    };
    let (removed, added) = (names(&before, &ring), names(&ring, &before));
    tracing::info!(?removed, ?added, "the keys have changed");
    if ring.is_empty() {
        tracing::warn!(
            "no key is in force: nobody can speak to this board until `n2n-agent key add` made one"
        );
    }
    sender.send_replace(Arc::new(ring));
}

/// What tells that a file is not the one it was: also its mode, which decides whether it is in force.
type Stamp = (PathBuf, Option<(u64, i64, i64, i64, i64)>);

fn stamps(files: &KeyFiles) -> Vec<Stamp> {
    let stamp = |path: PathBuf| {
        let found = std::fs::metadata(&path).ok();
        let stamp = found.map(|it| (it.ino(), it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec()));
        (path, stamp)
    };
    files.watched().into_iter().map(stamp).collect()
}

fn words(problems: &[Advice]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::DEFAULT;
    use std::time::Instant;

    fn wait(keys: &Keys, what: &str, is_so: impl Fn(&KeyRing) -> bool) {
        let began = Instant::now();
        while !is_so(&keys.borrow()) {
            assert!(began.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn keys_follow_their_files() {
        let data = tempfile::tempdir().unwrap();
        let files = KeyFiles::in_data(data.path());
        let first = files.add(DEFAULT).unwrap();
        let keys = follow_every(Duration::from_millis(10), files.clone(), files.load()).unwrap();
        assert!(keys.borrow().holds(&first));
        let desk = files.add("desk").unwrap();
        wait(&keys, "a new key", |ring| ring.holds(&desk) && ring.holds(&first));
        let other = files.replace("desk").unwrap();
        wait(&keys, "a replaced key", |ring| ring.holds(&other) && !ring.holds(&desk));
        let exposed = data.path().join("keys/desk");
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&exposed, mode(0o640)).unwrap();
        wait(&keys, "an exposed key", |ring| !ring.holds(&other));
        std::fs::set_permissions(&exposed, mode(0o600)).unwrap();
        wait(&keys, "a mended key", |ring| ring.holds(&other));
        files.remove(DEFAULT).unwrap();
        files.remove("desk").unwrap();
        wait(&keys, "no key", KeyRing::is_empty);
    }
}
