//! `--data KIND:PATH`: the text users write, checked once. Reads no file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::DataError;
use super::kind::{DataKind, KINDS, Row};

/// A data set and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSpec {
    kind: DataKind,
    path: PathBuf,
}

impl DataSpec {
    /// The images inside this program.
    pub fn bundled() -> Self {
        Self { kind: DataKind::Bundled, path: PathBuf::new() }
    }

    /// The format.
    pub fn kind(&self) -> DataKind {
        self.kind
    }

    /// File or folder; empty for the bundled images.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, wherever the program is then started.
    ///
    /// # Errors
    /// The current folder is gone.
    pub fn absolute(self) -> std::io::Result<Self> {
        let path = if self.kind == DataKind::Bundled { self.path } else { std::path::absolute(self.path)? };
        Ok(Self { path, ..self })
    }

    /// What the data set is called in results: the kind, and for a folder of images its own name.
    pub fn name(&self) -> String {
        match (self.kind, self.path.file_name()) {
            (DataKind::Folder | DataKind::Npz, Some(name)) => name.to_string_lossy().into_owned(),
            (DataKind::Bundled, _) => "fashion-mnist-subset".into(),
            _ => self.kind.name().into(),
        }
    }
}

impl FromStr for DataSpec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |expected: String| DataError::Spec { text: text.into(), expected, meant: None };
        let (name, path) = text.split_once(':').map_or((text, None), |(name, path)| (name, Some(path)));
        let Some(&Row { kind, name, path: default, .. }) = KINDS.iter().find(|row| row.name == name) else {
            return Err(DataError::Spec {
                text: text.into(),
                expected: DataKind::usage(),
                meant: meant(text, name),
            });
        };
        let path = match (kind, path, default) {
            (DataKind::Bundled, Some(_), _) => return Err(wrong("`bundled` without a path".into())),
            (_, Some(path), _) if !path.is_empty() => path,
            (_, None, Some(default)) => default,
            _ => return Err(wrong(format!("a path, as in `{name}:PATH`"))),
        };
        Ok(Self { kind, path: expanded(path) })
    }
}

/// What was probably meant: a path without its kind, or a kind that is spelt otherwise.
fn meant(text: &str, name: &str) -> Option<String> {
    let path = expanded(text);
    if path.is_dir() {
        return Some(format!("folder:{text}"));
    }
    if path.is_file() {
        let npz = path.extension().is_some_and(|it| it == "npz");
        return Some(if npz { format!("npz:{text}") } else { "folder:FOLDER".to_owned() });
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let kind = KINDS.iter().map(|row| row.name).find(|kind| {
        plain(kind) == plain(name) || strsim::damerau_levenshtein(&plain(kind), &plain(name)) == 1
    })?;
    Some(match text.split_once(':') {
        Some((_, path)) => format!("{kind}:{path}"),
        None => kind.to_owned(),
    })
}

/// `~` is the user's home: no shell expands it after a colon.
fn expanded(path: &str) -> PathBuf {
    let below = match path.strip_prefix('~') {
        Some("") => Some(""),
        Some(rest) => rest.strip_prefix('/'),
        None => None,
    };
    match (below, std::env::var_os("HOME")) {
        (Some(below), Some(home)) => Path::new(&home).join(below),
        _ => path.into(),
    }
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DataKind::Bundled => f.write_str("bundled"),
            kind => write!(f, "{}:{}", kind.name(), self.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_row_and_reads_back() {
        for Row { kind, name, .. } in KINDS {
            assert_eq!(kind.name(), name);
            let text =
                if kind == DataKind::Bundled { name.to_owned() } else { format!("{name}:/some/where") };
            assert_eq!(text.parse::<DataSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_some_kinds_go_without_a_path() {
        assert_eq!(
            "fashion-mnist".parse::<DataSpec>().unwrap().path(),
            Path::new("/usr/share/datasets/fashion-mnist")
        );
        assert_eq!("bundled".parse::<DataSpec>().unwrap(), DataSpec::bundled());
        for wrong in ["mnist", "mnist:", "bundled:x", "imagenet:/x", "", ":"] {
            let error = wrong.parse::<DataSpec>().unwrap_err();
            assert!(matches!(error, DataError::Spec { .. }), "{wrong}");
            assert!(error.hint().unwrap().contains("fashion-mnist"));
        }
    }

    #[test]
    fn what_was_probably_meant_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let hint = |text: &str| text.parse::<DataSpec>().unwrap_err().hint().unwrap();
        assert!(hint(&path).contains(&format!("did you mean folder:{path}")), "{}", hint(&path));
        for (text, meant) in [
            ("MNIST:x", "mnist:x"),
            ("cifar-10:x", "cifar10:x"),
            ("fashion_mnist", "fashion-mnist"),
            ("foldr:x", "folder:x"),
        ] {
            assert!(hint(text).contains(&format!("did you mean {meant}")), "{}", hint(text));
        }
        assert!(!hint("imagenet:/x").contains("did you mean"));
    }

    #[test]
    fn the_users_home_is_put_in() {
        let home = std::env::var("HOME").unwrap();
        for (text, path) in [("folder:~/photos", "photos"), ("folder:~", "")] {
            assert_eq!(text.parse::<DataSpec>().unwrap().path(), Path::new(&home).join(path));
        }
        assert_eq!("folder:~else/x".parse::<DataSpec>().unwrap().path(), Path::new("~else/x"));
    }

    #[test]
    fn a_folder_is_called_by_its_own_name() {
        assert_eq!("folder:/data/birds".parse::<DataSpec>().unwrap().name(), "birds");
    }
}
