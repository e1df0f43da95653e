//! A job that is over: its result is read, nothing is done again.

use std::path::Path;

use super::extension::Extension;
use super::{Configuration, Error};
use crate::run::folder::Layout;
use crate::run::journey::Milestones;
use crate::run::summary::Summary;
use crate::search::Budget;

/// The result of the run in `out`, if nothing is left to do for it: it was verified, and shipped if that was wanted and
/// there was something to ship. A larger budget is something to do.
///
/// # Errors
/// A journey of another version; files that cannot be read; a budget that is no larger one.
pub fn finished(
    out: &Path,
    configuration: &Configuration,
    budget: Option<Budget>,
) -> Result<Option<Summary>, Error> {
    let milestones = Milestones::read(&Layout::of(out).journey())?;
    if Extension::of(configuration.search.budget, &milestones, budget)?.is_some() {
        return Ok(None);
    }
    let Some(file) = milestones.verified() else { return Ok(None) };
    if configuration.ship && file.is_some() && !milestones.is_shipped() {
        return Ok(None);
    }
    Summary::load(out).map_err(Error::telling)
}
