//! The second step: candidates, and the finalists among them. An interrupted search goes on after its last whole update.

use std::time::Instant;

use super::context::JobContext;
use super::prepared::Prepared;
use super::{Error, Event, Phase};
use crate::exit::Failure;
use crate::model_io::atomic_file;
use crate::run::folder::Layout;
use crate::run::journey::{Milestone, OnBoard};
use crate::search::answer::Fault;
use crate::search::{self, Desk, Policies, SearchResult};

/// A job whose search went to its end.
pub(super) struct Searched<'a> {
    pub(super) job: JobContext<'a>,
    /// The teacher on the board, as the search began.
    pub(super) teacher: OnBoard,
    pub(super) found: SearchResult,
}

impl<'a> Prepared<'a> {
    /// Searches, or replays a search that is over.
    ///
    /// # Errors
    /// A lost board, a stop by the user, a journal of another search: the message names the next step.
    pub(super) fn search(self) -> Result<Searched<'a>, Error> {
        let Self { mut job, settings, teacher, on_board, mut journal, recorded } = self;
        let start = match &job.plan.configuration.policy_from {
            Some(run) => load_policies(&Layout::of(run))?,
            None => Policies::default(),
        };
        job.clock.begin(Phase::Search);
        job.lab.began = Instant::now();
        let observer = job.lab.observer;
        let found = search::search(
            &settings,
            &teacher,
            &start,
            &mut Desk::new(&mut job.lab),
            &mut |record| journal.append(record).map_err(|error| Fault::Journal(error.to_string())),
            &recorded,
            &mut |event| observer(&Event::Search(event.clone())),
        )?;
        save_policies(&found.policies, job.folder.layout())?;
        job.clock.part(Phase::Search, "training and validating candidates", job.lab.spent.training);
        job.clock.part(Phase::Search, "waiting for the board", job.lab.spent.measuring);
        if !job.journey.milestones().is_searched() {
            job.note(Milestone::Searched { candidates: found.counts.proposed })?;
        }
        Ok(Searched { job, teacher: on_board, found })
    }
}

fn load_policies(run: &Layout) -> Result<Policies, Error> {
    let load = |path: std::path::PathBuf| {
        std::fs::read(&path)
            .map_err(|error| Error::Other(Failure::from(error).context(format!("policy {}", path.display()))))
    };
    Ok(Policies {
        removal: Some(load(run.removal_policy())?),
        shrinkage: Some(load(run.shrinkage_policy())?),
    })
}

fn save_policies(policies: &Policies, run: &Layout) -> std::io::Result<()> {
    let files = [(run.removal_policy(), &policies.removal), (run.shrinkage_policy(), &policies.shrinkage)];
    for (path, bytes) in files {
        if let Some(bytes) = bytes {
            atomic_file::write(&path, bytes)?;
        }
    }
    Ok(())
}
