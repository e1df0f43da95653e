//! The whole job as values that move forward, each step journaled: prepared -> searched -> chosen -> verified -> shipped.
//!
//! | file | what |
//! |---|---|
//! | `plan`, `finale` | what is asked for; how the student is finished, in numbers |
//! | `context` | what all steps share: the world, the clock, how far the job has come |
//! | `prepared` | teacher, images and board belong together |
//! | `searched` | candidates, and the finalists among them |
//! | `chosen` | finalists to the student |
//! | `verified` | the very file: accuracy, files |
//! | `shipped` | the student in the active slot |
//! | `finished`, `extension` | a job that is over; a larger budget for one that has begun |
//! | `gauge` | a network to a measurement |
//! | `drift` | whether the board is still as fast as it was |
//! | `distiller`, `weight_store`, `student_store` | a job to an accuracy; the weights that are kept |
//! | `live` | both, as the hands that a search works with |
//! | `classes` | whether teacher and images mean the same classes |
//! | `smallest` | whether the limits can be kept at all |
//! | `teacher`, `side_by_side` | the teacher on the board, and the limits that follow; teacher and student measured at one time |
//! | `outlook` | which step is at hand, and how long the rest takes |
//! | `dry_run` | what the budget buys |
//!
//! A board that does not take the student costs none of what was found: the summary says why.
//! Only order lives here; arithmetic belongs to the rooms below.

mod accuracy_bar;
mod as_text;
mod chosen;
mod classes;
mod contender;
mod context;
mod distiller;
mod drift;
mod dry_run;
mod error;
mod event;
mod extension;
mod finale;
mod finished;
mod gauge;
mod least_budget;
mod live;
mod outlook;
mod plan;
mod prepared;
mod searched;
mod shipped;
mod side_by_side;
mod smallest;
mod stopwatch;
mod student_store;
mod teacher;
mod verified;
mod weight_store;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub use dry_run::{Forecast, dry_run};
pub use error::Error;
pub use event::{Event, Observer, Phase};
pub use finale::Finale;
pub use finished::finished;
pub use plan::{Configuration, Plan};

use outlook::Outlook;
use prepared::{Prepared, matched_dataset};
use stopwatch::Stopwatch;

use crate::run::folder::{Folder, Layout};
use crate::run::manifest::Manifest;
use crate::run::summary::Summary;
use crate::wording;

/// Time between two outlooks.
const OUTLOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Compresses the plan's teacher. `stop` ends it early, resumably: a resumed job does nothing again that its journals know.
///
/// # Errors
/// See [`Error`]. A run whose finalists all break a limit is no error: its summary has no student. One that is refused before
/// its search began leaves no folder behind.
pub fn run(plan: &Plan, stop: &Arc<AtomicBool>, observer: Observer<'_>) -> Result<Summary, Error> {
    let made = !plan.resume && !plan.out.exists();
    let outcome = whole(plan, stop, observer);
    let begun = std::fs::metadata(Layout::of(&plan.out).journal()).is_ok_and(|journal| journal.len() > 0);
    if outcome.is_err() && made && !begun {
        // What stays behind in spite of that is in nobody's way.
        let _ = std::fs::remove_dir_all(&plan.out);
    }
    outcome
}

fn whole(plan: &Plan, stop: &Arc<AtomicBool>, observer: Observer<'_>) -> Result<Summary, Error> {
    let began = Instant::now();
    let state = RefCell::new((Outlook::new(plan), Duration::ZERO));
    let observer: Observer<'_> = &|event| {
        let now = began.elapsed();
        let mut state = state.borrow_mut();
        let (outlook, told) = &mut *state;
        outlook.see(event, now);
        if matches!(event, Event::Phase(_)) || now.saturating_sub(*told) >= OUTLOOK_INTERVAL {
            *told = now;
            let ((step, steps), left, searched) = (outlook.step(), outlook.left(now), outlook.searched(now));
            observer(&Event::Outlook { step, steps, left, searched });
        }
        observer(event);
    };
    let mut clock = Stopwatch::new(observer);
    let folder = if plan.resume { Folder::open(&plan.out)? } else { Folder::create(&plan.out)? };
    let manifest = Manifest::new(&plan.configuration).map_err(Error::other)?;
    let manifest =
        manifest.with_digest("teacher", &plan.teacher_digest).with_digest("data", &plan.data_digest);
    folder.begin(manifest.with_left_out(plan.dataset.facts.skipped.map(wording::skipped)))?;
    clock.begin(Phase::Teacher);
    let dataset = matched_dataset(plan)?;
    let prepared = Prepared::new(plan, &folder, &dataset, stop, clock, observer)?;
    let shipped = prepared.search()?.choose()?.verify()?.ship()?;
    Ok(shipped.summary)
}
