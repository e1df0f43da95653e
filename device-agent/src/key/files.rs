//! The board's keys on disk: `key` in the data folder, which is called `default`, and `keys/NAME` beside it. Each file is
//! its owner's alone; one that is not is left out and named, and the others stay in force.

use super::{DEFAULT, KEYS, KeyRing, NamedKey, is_name};
use crate::advice::Advice;
use n2n_protocol::key::Key;
use n2n_secrets::SecretError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// File name of the default key inside the data folder.
const FILE: &str = "key";

/// Folder of the other keys inside the data folder.
const FOLDER: &str = "keys";

/// What is read of a key file, bytes: 64 digits, a line end, and some blanks.
const FILE_BYTES: u64 = 256;

/// Where a board's keys are.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The file of the key [`DEFAULT`].
    single: PathBuf,
    /// The folder of the others.
    folder: PathBuf,
}

/// The keys that can be used, and what is wrong with the rest.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The keys in force.
    pub ring: KeyRing,
    /// Why a key that is there is not in force.
    pub problems: Vec<Advice>,
}

/// A key as its owner gets to see it.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its id, or why it is not in force.
    pub key: Result<Key, Advice>,
    /// When its file was written.
    pub made: Option<SystemTime>,
}

impl KeyFiles {
    /// The keys in a data folder.
    pub fn in_data(data: &Path) -> Self {
        Self { single: data.join(FILE), folder: data.join(FOLDER) }
    }

    /// As these, with another file for the key [`DEFAULT`].
    #[must_use]
    pub fn with_single(self, file: PathBuf) -> Self {
        Self { single: file, ..self }
    }

    /// All keys that can be used. One that cannot is told with its reason, and does not stop the others.
    pub fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        let names = self.names().unwrap_or_else(|problem| {
            loaded.problems.push(problem);
            Vec::new()
        });
        let listed = self.listed(names);
        if listed.len() > KEYS {
            let text =
                format!("{}: {} keys; the first {KEYS} are in force", self.folder.display(), listed.len());
            loaded.problems.push(Advice::new(text, "`n2n-agent key remove NAME` removes one"));
        }
        let mut keys = Vec::new();
        for Listed { name, key, .. } in listed {
            match key {
                Ok(key) => keys.push(NamedKey { name, key }),
                Err(problem) => loaded.problems.push(problem),
            }
        }
        loaded.ring = KeyRing::new(keys);
        loaded
    }

    /// Every key that is there: the default one first, then by name.
    ///
    /// # Errors
    /// The folder of keys cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, Advice> {
        Ok(self.listed(self.names()?))
    }

    fn listed(&self, names: Vec<String>) -> Vec<Listed> {
        let named = names.into_iter().map(|name| (self.folder.join(&name), name));
        let single = self.single.exists().then(|| (self.single.clone(), DEFAULT.to_owned()));
        let listed = |(file, name): (PathBuf, String)| Listed {
            name,
            key: read(&file),
            made: fs::metadata(&file).and_then(|found| found.modified()).ok(),
        };
        single.into_iter().chain(named).map(listed).collect()
    }

    /// Make a key for one more host.
    ///
    /// # Errors
    /// The name is none, or taken; there are [`KEYS`] already; the file cannot be written.
    pub fn add(&self, name: &str) -> Result<Key, Advice> {
        let file = self.file_of(name)?;
        if file.exists() {
            let text = format!("a key `{name}` is there already, in {}", file.display());
            let hint = format!("`n2n-agent key show {name}` shows it; `n2n-agent key remove {name}` ends it");
            return Err(Advice::new(text, hint));
        }
        if self.list()?.len() >= KEYS {
            let text = format!("{} has {KEYS} keys already", self.folder.display());
            return Err(Advice::new(
                text,
                "`n2n-agent key remove NAME` ends one that is not needed any more",
            ));
        }
        Self::make(&file)
    }

    /// Make a new key in the place of an old one, if there is one; whoever holds the old one is shut out.
    ///
    /// # Errors
    /// The name is none, or the file cannot be written.
    pub fn replace(&self, name: &str) -> Result<Key, Advice> {
        Self::make(&self.file_of(name)?)
    }

    /// The key of a name.
    ///
    /// # Errors
    /// There is none, or it cannot be used, with the reason.
    pub fn show(&self, name: &str) -> Result<Key, Advice> {
        let file = self.file_of(name)?;
        if file.exists() { read(&file) } else { Err(self.unknown(name)) }
    }

    /// The key of a name, made if there is none.
    ///
    /// # Errors
    /// As [`Self::show`], and as [`Self::add`].
    pub fn show_or_make(&self, name: &str) -> Result<Key, Advice> {
        if self.file_of(name)?.exists() { self.show(name) } else { self.add(name) }
    }

    /// End a key: hosts that hold it are shut out, and their sessions end.
    ///
    /// # Errors
    /// There is none, or its file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), Advice> {
        let file = self.file_of(name)?;
        match fs::remove_file(&file) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.unknown(name)),
            Err(error) => Err(Advice::plain(format!("{}: {error}", file.display()))),
        }
    }

    /// The files and folders by whose change a change of the keys is noticed.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let named = self.names().unwrap_or_default().into_iter().map(|name| self.folder.join(name));
        [self.single.clone(), self.folder.clone()].into_iter().chain(named).collect()
    }

    /// Where the advice about a missing key points to.
    pub fn place(&self) -> &Path {
        &self.single
    }

    /// Names in the folder, sorted. Other files there (temporary ones of a write that was cut short) are none of ours.
    fn names(&self) -> Result<Vec<String>, Advice> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Advice::plain(format!("{}: {error}", self.folder.display()))),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_name(name) && name != DEFAULT)
            .collect();
        names.sort();
        Ok(names)
    }

    fn file_of(&self, name: &str) -> Result<PathBuf, Advice> {
        if !is_name(name) {
            let text = format!(
                "`{name}` cannot be a key's name: up to 64 letters, digits, `-`, `_` and `.` expected"
            );
            return Err(Advice::new(text, "name it after the host that will hold it, as in `desk`"));
        }
        Ok(if name == DEFAULT { self.single.clone() } else { self.folder.join(name) })
    }

    fn make(file: &Path) -> Result<Key, Advice> {
        let key = Key::generate().map_err(|error| Advice::plain(error.to_string()))?;
        n2n_secrets::write(file, &format!("{}\n", key.reveal())).map_err(|error| advice(&error))?;
        Ok(key)
    }

    fn unknown(&self, name: &str) -> Advice {
        let known: Vec<String> = self.list().unwrap_or_default().into_iter().map(|key| key.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Advice::new(format!("no key `{name}`; there are: {known}"), "`n2n-agent key add NAME` makes one")
    }
}

fn read(file: &Path) -> Result<Key, Advice> {
    let text = n2n_secrets::read(file, FILE_BYTES).map_err(|error| advice(&error))?;
    let broken = |error| {
        let text = format!("{}: {error}", file.display());
        Advice::new(
            text,
            "`n2n-agent key remove NAME`, then `key add NAME`, makes another one; pair its host again",
        )
    };
    text.parse().map_err(broken)
}

fn advice(error: &SecretError) -> Advice {
    match error.hint() {
        Some(hint) => Advice::new(error.to_string(), hint),
        None => Advice::plain(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(files: &KeyFiles) -> Vec<String> {
        files.load().ring.all().iter().map(|key| key.name.clone()).collect()
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn keys_are_added_shown_and_removed_by_name() {
        let data = tempfile::tempdir().unwrap();
        let files = KeyFiles::in_data(data.path());
        assert!(files.load().ring.is_empty() && files.load().problems.is_empty());
        let desk = files.add("desk").unwrap();
        let default = files.add(DEFAULT).unwrap();
        assert_ne!(desk, default);
        assert_eq!(names(&files), [DEFAULT, "desk"]);
        assert_eq!((files.show("desk").unwrap(), files.show(DEFAULT).unwrap()), (desk.clone(), default));
        assert!(files.add("desk").unwrap_err().hint().unwrap().contains("key show desk"));
        assert_ne!(files.replace("desk").unwrap(), desk);
        files.remove("desk").unwrap();
        assert_eq!(names(&files), [DEFAULT]);
        for missing in [files.show("desk").unwrap_err(), files.remove("desk").unwrap_err()] {
            assert!(missing.to_string().contains("there are: default"), "{missing}");
        }
        for name in ["../key", "", "a b", ".x"] {
            assert!(files.add(name).is_err() && files.remove(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_key_of_an_earlier_agent_goes_on_as_default() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("key");
        fs::write(&file, format!("{}\n", "ab".repeat(32))).unwrap();
        chmod(&file, 0o600);
        let loaded = KeyFiles::in_data(data.path()).load();
        assert_eq!(loaded.ring, KeyRing::of(DEFAULT, "ab".repeat(32).parse().unwrap()));
    }

    #[test]
    fn a_key_that_others_can_read_is_left_out_and_named_and_the_rest_stays_in_force() {
        let data = tempfile::tempdir().unwrap();
        let files = KeyFiles::in_data(data.path());
        for name in [DEFAULT, "desk", "lab"] {
            files.add(name).unwrap();
        }
        let exposed = data.path().join("keys/desk");
        chmod(&exposed, 0o644);
        fs::write(data.path().join("keys/lab"), "00".repeat(32)).unwrap();
        let loaded = files.load();
        assert_eq!(loaded.ring.all().len(), 1);
        let told: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        assert!(told[0].contains("keys/desk") && told[1].contains("zeros"), "{told:?}");
        assert_eq!(loaded.problems[0].hint(), Some(format!("chmod 600 {}", exposed.display()).as_str()));
        chmod(&exposed, 0o600);
        assert_eq!(names(&files), [DEFAULT, "desk"]);
        // In a folder where others can put files of their own, no key is to be believed.
        chmod(&data.path().join("keys"), 0o777);
        assert_eq!(names(&files), [DEFAULT]);
        fs::remove_dir_all(data.path().join("keys")).unwrap();
        fs::write(data.path().join("keys"), "no folder").unwrap();
        assert_eq!(
            (names(&files).len(), files.load().problems.len()),
            (1, 1),
            "the default one stays in force"
        );
    }

    #[test]
    fn more_keys_than_the_bound_are_refused_and_never_in_force() {
        let data = tempfile::tempdir().unwrap();
        let files = KeyFiles::in_data(data.path());
        for number in 0..KEYS {
            files.add(&format!("host-{number}")).unwrap();
        }
        assert!(files.add("one-more").unwrap_err().to_string().contains("32 keys already"));
        fs::copy(data.path().join("keys/host-1"), data.path().join("keys/copied")).unwrap();
        let loaded = files.load();
        assert_eq!((loaded.ring.all().len(), loaded.problems.len()), (KEYS, 1));
    }
}
