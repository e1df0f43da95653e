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
            (DataKind::Folder, Some(name)) => name.to_string_lossy().into_owned(),
            (DataKind::Bundled, _) => "fashion-mnist-subset".into(),
            _ => self.kind.name().into(),
        }
    }
}

impl FromStr for DataSpec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |expected: String| DataError::Spec { text: text.into(), expected };
        let (name, path) = text.split_once(':').map_or((text, None), |(name, path)| (name, Some(path)));
        let Some(&Row { kind, name, path: default, .. }) = KINDS.iter().find(|row| row.name == name) else {
            return Err(wrong(DataKind::usage()));
        };
        let path = match (kind, path, default) {
            (DataKind::Bundled, Some(_), _) => return Err(wrong("`bundled` without a path".into())),
            (_, Some(path), _) if !path.is_empty() => path,
            (_, None, Some(default)) => default,
            _ => return Err(wrong(format!("a path, as in `{name}:PATH`"))),
        };
        Ok(Self { kind, path: path.into() })
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
    fn a_folder_is_called_by_its_own_name() {
        assert_eq!("folder:/data/birds".parse::<DataSpec>().unwrap().name(), "birds");
    }
}
