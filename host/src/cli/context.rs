//! What every verb is given: where to print, what the configuration file says, whether the user wants to stop.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::Config;
use crate::ui::Ui;

/// What every verb is given.
pub(super) struct Context {
    pub(super) ui: Ui,
    pub(super) config: Config,
    /// True once the user wants to stop.
    pub(super) stop: Arc<AtomicBool>,
}
