//! The board book: names, addresses and keys of boards, in one file that only its owner may read.

use super::address::{Address, DEFAULT_PORT, is_name};
use n2n_protocol::key::Key;
use n2n_secrets::SecretError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Longest book that is read, bytes: some 5,000 boards.
const MAX_BYTES: u64 = 1 << 20;

/// A board that the user has added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is; never a name.
    pub address: Address,
    /// The key it was given.
    pub key: Key,
}

/// All boards of a user, by name.
#[derive(Clone, Debug)]
pub struct Book {
    file: PathBuf,
    boards: BTreeMap<String, Entry>,
}

/// What is wrong with the book, or with a change to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The file is not a book.
    #[error("{file}: {reason}")]
    File {
        /// The book.
        file: String,
        /// Why.
        reason: String,
    },
    /// The file cannot be used: the system refuses it, or others can read it or put another one in its place.
    #[error("{reason}")]
    Unusable {
        /// Which file or folder, and why.
        reason: String,
        /// The command that mends it, where one does.
        mend: Option<String>,
    },
    /// No board of this name.
    #[error("no board is called `{name}`; known: {known}")]
    Unknown {
        /// Asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The name is taken.
    #[error("a board is called `{0}` already")]
    Taken(String),
    /// Not usable as a name.
    #[error("`{0}` cannot be a board's name: up to 64 letters, digits, `-`, `_` and `.`; not `local`")]
    Name(String),
    /// Only what has a key of its own can stand in the book.
    #[error("`{0}` is no address of a board: tcp://HOST:PORT or serial:///dev/DEVICE expected")]
    Address(String),
    /// No entry has this address.
    #[error("no key is known for {0}")]
    NoKey(String),
}

impl BookError {
    /// The next step for a user, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unusable { mend, .. } => mend.clone(),
            Self::Taken(name) => Some(format!("`n2n board remove {name}` forgets the old one")),
            Self::Unknown { name, .. } if name.parse::<IpAddr>().is_ok() => {
                Some(format!("did you mean tcp://{name}?"))
            }
            Self::Unknown { .. } | Self::NoKey(_) => {
                Some("`n2n board add NAME ADDRESS` makes a board known, with its key".to_owned())
            }
            Self::Address(text) if text == "local" => {
                Some("it needs no entry: it is always there".to_owned())
            }
            // What people type who know the board's address.
            Self::Address(text) => Some(format!("did you mean tcp://{text}:{DEFAULT_PORT}?")),
            Self::File { .. } | Self::Name(_) => None,
        }
    }

    fn unusable(error: &SecretError) -> Self {
        Self::Unusable { reason: error.to_string(), mend: error.hint() }
    }
}

/// The file's form.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    boards: BTreeMap<String, Line>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    address: String,
    key: String,
}

impl Book {
    /// Read the book; a file that does not exist is an empty book.
    ///
    /// # Errors
    /// [`BookError::Unusable`] for a file that is not its owner's alone, [`BookError::File`] for one that is no book.
    pub fn read(file: &Path) -> Result<Self, BookError> {
        let broken = |reason: String| BookError::File { file: file.display().to_string(), reason };
        let text = match n2n_secrets::read(file, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.is_missing() => String::new(),
            Err(error) => return Err(BookError::unusable(&error)),
        };
        // The parser's own text would repeat the line, and with it the key.
        let lines: File = toml::from_str(&text).map_err(|error| broken(error.message().to_owned()))?;
        let entry = |(name, line): (String, Line)| {
            let address = line.address.parse().map_err(|error| broken(format!("board {name}: {error}")))?;
            let key = line.key.parse().map_err(|error| broken(format!("board {name}: {error}")))?;
            Ok((name, Entry { address, key }))
        };
        let boards = lines.boards.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { file: file.to_owned(), boards })
    }

    /// Boards by name.
    pub fn boards(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.boards.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The board of a name.
    ///
    /// # Errors
    /// [`BookError::Unknown`].
    pub fn board(&self, name: &str) -> Result<&Entry, BookError> {
        self.boards.get(name).ok_or_else(|| self.unknown(name))
    }

    /// The key of the board at an address.
    ///
    /// # Errors
    /// [`BookError::NoKey`].
    pub fn key_of(&self, address: &Address) -> Result<&Key, BookError> {
        let entry = self.boards.values().find(|entry| entry.address == *address);
        entry.map(|entry| &entry.key).ok_or_else(|| BookError::NoKey(address.to_string()))
    }

    /// Whether a board could be added: before anybody is asked for its key, or the board for its identity.
    ///
    /// # Errors
    /// [`BookError::Name`], [`BookError::Taken`], [`BookError::Address`].
    pub fn check_new(&self, name: &str, address: &Address) -> Result<(), BookError> {
        if !is_name(name) {
            return Err(BookError::Name(name.to_owned()));
        }
        if matches!(address, Address::Local | Address::Name(_)) {
            return Err(BookError::Address(address.to_string()));
        }
        if self.boards.contains_key(name) {
            return Err(BookError::Taken(name.to_owned()));
        }
        Ok(())
    }

    /// Add a board and write the book.
    ///
    /// # Errors
    /// As [`Self::check_new`]; [`BookError::Unusable`] when the book cannot be written.
    pub fn add(&mut self, name: &str, entry: Entry) -> Result<(), BookError> {
        self.check_new(name, &entry.address)?;
        self.boards.insert(name.to_owned(), entry);
        self.write()
    }

    /// Remove a board and write the book.
    ///
    /// # Errors
    /// [`BookError::Unknown`]; [`BookError::Unusable`] when the book cannot be written.
    pub fn remove(&mut self, name: &str) -> Result<(), BookError> {
        if self.boards.remove(name).is_none() {
            return Err(self.unknown(name));
        }
        self.write()
    }

    fn unknown(&self, name: &str) -> BookError {
        let known: Vec<_> = self.boards.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        BookError::Unknown { name: name.to_owned(), known }
    }

    fn write(&self) -> Result<(), BookError> {
        let line = |entry: &Entry| Line { address: entry.address.to_string(), key: entry.key.reveal() };
        let boards = self.boards.iter().map(|(name, entry)| (name.clone(), line(entry))).collect();
        let broken = |reason: String| BookError::File { file: self.file.display().to_string(), reason };
        let text = toml::to_string(&File { boards }).map_err(|error| broken(error.to_string()))?;
        n2n_secrets::write(&self.file, &text).map_err(|error| BookError::unusable(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn entry(port: u16) -> Entry {
        let address = Address::Tcp { host: "10.0.0.7".to_owned(), port };
        Entry { address, key: "ab".repeat(32).parse().unwrap() }
    }

    #[test]
    fn boards_are_added_found_and_removed_across_readings() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deeper/boards.toml");
        let mut book = Book::read(&file).unwrap();
        assert_eq!(book.boards().count(), 0);
        book.add("pi", entry(1)).unwrap();
        book.add("nano", entry(2)).unwrap();
        assert_eq!(book.add("pi", entry(3)), Err(BookError::Taken("pi".to_owned())));
        assert_eq!(book.add("local", entry(3)), Err(BookError::Name("local".to_owned())));
        let local = Entry { address: Address::Local, ..entry(1) };
        assert!(matches!(book.add("here", local), Err(BookError::Address(_))));

        let mut book = Book::read(&file).unwrap();
        assert_eq!(book.board("pi"), Ok(&entry(1)));
        assert_eq!(book.key_of(&entry(2).address), Ok(&entry(2).key));
        assert!(book.key_of(&entry(9).address).unwrap_err().to_string().contains("tcp://10.0.0.7:9"));
        book.remove("pi").unwrap();
        let unknown = Book::read(&file).unwrap().board("pi").unwrap_err();
        assert_eq!(unknown.to_string(), "no board is called `pi`; known: nano");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_book_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("boards.toml");
        Book::read(&file).unwrap().add("pi", entry(1)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Book::read(&file).unwrap_err();
        assert!(error.to_string().contains("boards.toml"), "{error}");
        assert_eq!(error.hint(), Some(format!("chmod 600 {}", file.display())));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Book::read(&file).unwrap().board("pi"), Ok(&entry(1)));
    }

    #[test]
    fn what_looks_like_an_address_gets_the_form_that_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::read(&folder.path().join("boards.toml")).unwrap();
        let error = book.check_new("pi", &"192.168.1.20".parse().unwrap()).unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean tcp://192.168.1.20:7117?");
        assert_eq!(
            book.board("192.168.1.20").unwrap_err().hint().unwrap(),
            "did you mean tcp://192.168.1.20?"
        );
    }

    #[test]
    fn a_broken_book_is_named_and_keys_are_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("boards.toml");
        let secret = "cd".repeat(31);
        for text in [
            format!("[boards.pi]\naddress = \"tcp://h:1\"\nkey = \"{secret}\"\n"),
            format!("[boards.pi]\naddress = \"h\"\nkey = {secret}\n"),
            format!("[boards.pi]\nadress = \"tcp://h:1\"\nkey = \"{secret}cd\"\n"),
        ] {
            n2n_secrets::write(&file, &text).unwrap();
            let error = Book::read(&file).unwrap_err().to_string();
            assert!(error.contains("boards.toml") && !error.contains(&secret), "{error}");
        }
    }
}
