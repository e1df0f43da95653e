//! Where n2n keeps what belongs to the user: the board book, and the data of the local agent.

use etcetera::{AppStrategy as _, AppStrategyArgs, choose_app_strategy};
use std::path::{Path, PathBuf};

/// Environment variable that puts everything under one folder: for tests, and for machines without a home.
const VARIABLE: &str = "N2N_HOME";

/// The user's folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    settings: PathBuf,
    data: PathBuf,
}

impl Home {
    /// From the environment; `None` on a machine that gives this user no home.
    pub fn of_user() -> Option<Self> {
        if let Some(folder) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            return Some(Self::at(Path::new(&folder)));
        }
        let application = AppStrategyArgs { app_name: "n2n".to_owned(), ..AppStrategyArgs::default() };
        let folders = choose_app_strategy(application).ok()?;
        Some(Self { settings: folders.config_dir(), data: folders.data_dir() })
    }

    /// Everything under one folder.
    pub fn at(folder: &Path) -> Self {
        Self { settings: folder.to_owned(), data: folder.to_owned() }
    }

    /// The board book.
    pub fn book(&self) -> PathBuf {
        self.settings.join("boards.toml")
    }

    /// The key that signs what is shipped.
    pub fn signing_key(&self) -> PathBuf {
        self.settings.join("signing.key")
    }

    /// The number of the last bundle.
    pub fn bundle_number(&self) -> PathBuf {
        self.settings.join("bundle.number")
    }

    /// The user's own board profiles.
    pub fn profiles(&self) -> PathBuf {
        self.settings.join("profiles")
    }

    /// Decoded pictures; may be deleted at any time.
    pub fn pictures(&self) -> PathBuf {
        self.data.join("pictures")
    }

    /// The data folder of the local agent: its blobs, and its slots, which outlive it.
    pub fn local_agent(&self) -> PathBuf {
        self.data.join("local-agent")
    }
}
