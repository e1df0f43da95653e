//! From a configuration to a plan to a summary: opens what the configuration names, and runs the job. Shared by `compress` and `quickstart`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use n2n_protocol::Digest;

use super::watch::Watcher;
use super::{Context, pictures, profile, target_board};
use crate::board::Endpoint;
use crate::checkpoint;
use crate::compress::{self, Configuration, Plan};
use crate::exit::Failure;
use crate::model_io::onnx;
use crate::run::summary::Summary;

/// For how long a board that is lost on the way is waited for, unless told otherwise: a board boots in one.
pub(super) const WAIT_BOARD: Duration = Duration::from_mins(5);

/// Runs the job; one that was stopped, or lost its board, names the command that goes on with it.
///
/// # Errors
/// See [`compress::Error`].
pub(super) fn run(plan: &Plan, context: &Context) -> Result<Summary, Failure> {
    let watcher = Watcher::new(&context.ui);
    let outcome = compress::run(plan, &context.stop, &|event| watcher.see(event));
    watcher.end();
    outcome.map_err(|error| {
        let command = command_after(&error, &plan.out);
        let failure = Failure::from(error);
        match command {
            Some(command) => failure.hint(command),
            None => failure,
        }
    })
}

/// What is to be typed after an end that is none; `None` for errors whose own hint says more.
fn command_after(error: &compress::Error, run: &Path) -> Option<String> {
    let run = run.display();
    match error {
        compress::Error::Stopped | compress::Error::Board(_) => {
            Some(format!("nothing is lost; go on with: n2n compress --resume --out {run}"))
        }
        compress::Error::Unknown(_) => Some(format!(
            "nothing is lost; mend the cause (`n2n measure` shows it for one model), then go on with: \
             n2n compress --resume --out {run}"
        )),
        _ => None,
    }
}

/// Opens teacher, images and board.
///
/// # Errors
/// The first of them that cannot be used.
pub(super) fn plan(
    configuration: Configuration,
    out: PathBuf,
    resume: bool,
    wait_board: Duration,
    context: &Context,
) -> Result<Plan, Failure> {
    let home = target_board::home()?;
    let endpoint = Endpoint::resolve(&configuration.board, &home)?;
    let teacher = onnx::load(&configuration.teacher)?;
    let teacher_digest = Digest::of(&std::fs::read(&configuration.teacher)?).to_string();
    let wishes = configuration.pictures.clone().or(pictures::of_teacher(&teacher));
    let dataset = pictures::load(&configuration.data, wishes, configuration.search.seed, context)?;
    let (signing_key, bundle_number) = (home.signing_key(), home.bundle_number());
    let profile = configuration.profile.as_deref().map(profile::load).transpose()?;
    Ok(Plan {
        configuration,
        out,
        resume,
        teacher,
        teacher_digest,
        data_digest: dataset.digest()?,
        dataset,
        profile,
        endpoint,
        wait_board,
        checkpoint_interval: checkpoint::INTERVAL,
        budget: None,
        signing_key,
        bundle_number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_can_be_gone_on_with_names_the_command() {
        let after = |error| command_after(&error, Path::new("runs/a"));
        for error in [compress::Error::Stopped, compress::Error::Board("gone".into())] {
            assert!(after(error).unwrap().ends_with("n2n compress --resume --out runs/a"));
        }
        assert_eq!(after(compress::Error::Teacher("too large".into())), None);
    }
}
