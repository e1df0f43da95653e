//! How a worker process is started, and what it may be told to load: the one place that knows by what name this program was called.
//!
//! The worker is this very executable again, so that a board needs one file and a host needs one build. It must not
//! decide limits or arguments of a worker: those belong to who starts it.

use crate::engine::Engines;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// The executable and the words before the worker's own arguments: `n2n-agent worker …` or `n2n agent worker …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    /// Path of the executable.
    pub program: PathBuf,
    /// First arguments.
    pub prefix: Vec<OsString>,
    /// The engines that workers find on this board.
    pub engines: Engines,
}

impl WorkerCommand {
    /// The worker of the running executable, whose agent verbs stand behind `group` (empty for `n2n-agent`, `["agent"]`
    /// for `n2n agent`).
    ///
    /// # Errors
    /// When the system does not say where the running executable lies.
    pub fn of_this_program(group: &[&str]) -> io::Result<Self> {
        let mut prefix: Vec<OsString> = group.iter().map(OsString::from).collect();
        prefix.push(OsString::from("worker"));
        Ok(Self { program: executable()?, prefix, engines: Engines::default() })
    }

    /// The same with other engines.
    #[must_use]
    pub fn with_engines(self, engines: Engines) -> Self {
        Self { engines, ..self }
    }
}

/// Linux keeps a name for the running file that survives a rename or an upgrade in place, where `current_exe` would
/// answer `… (deleted)`.
fn executable() -> io::Result<PathBuf> {
    let kept = PathBuf::from("/proc/self/exe");
    let real = std::env::current_exe()?;
    Ok(if real.exists() || !kept.exists() { real } else { kept })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_group_stand_before_the_verb() {
        let command = WorkerCommand::of_this_program(&["agent"]).unwrap();
        assert_eq!(command.prefix, ["agent", "worker"].map(OsString::from));
        assert!(command.program.exists());
        assert_eq!(WorkerCommand::of_this_program(&[]).unwrap().prefix, [OsString::from("worker")]);
    }
}
