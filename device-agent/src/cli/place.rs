//! Where an agent keeps its things when nobody says.

use crate::advice::Advice;
use anyhow::{Context as _, Result};
use etcetera::{AppStrategy as _, AppStrategyArgs, choose_app_strategy};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

/// The chosen data folder, else the user's own for this program; made if it is not there.
///
/// # Errors
/// A user without a home, or a folder that cannot be made.
pub(super) fn data_folder(chosen: Option<PathBuf>) -> Result<PathBuf> {
    let folder = named_folder(chosen)?;
    // Applications of other users read the active student in there, and nobody else writes.
    let made = DirBuilder::new().recursive(true).mode(0o755).create(&folder);
    made.with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// The same, whether it is there or not.
///
/// # Errors
/// A user without a home.
pub(super) fn named_folder(chosen: Option<PathBuf>) -> Result<PathBuf> {
    Ok(if let Some(folder) = chosen {
        folder
    } else {
        let application = AppStrategyArgs { app_name: "n2n-agent".to_owned(), ..AppStrategyArgs::default() };
        let homeless = |_| Advice::new("this user has no home folder", "name a folder with --data");
        choose_app_strategy(application).map_err(homeless)?.data_dir()
    })
}
