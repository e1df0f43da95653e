//! The ways back: asked for, by a restart, by a deadline, by the user's program, by damage.
//!
//! Where to is verified first, under no lock; then the switch is one short change, made only if nothing else changed
//! meanwhile. It never leaves a student that is whole for one that is not.

use super::Slots;
use super::cause::Cause;
use super::current::Current;
use super::state::{Entry, Unfit};
use super::told::{self, Switch};
use crate::medium::disk_failure;
use n2n_protocol::Failure;
use std::time::Duration;

/// Times that going back is tried anew because something else changed meanwhile.
const TRIES: usize = 8;

/// What came of a try.
enum Outcome {
    /// Something else changed: look again.
    Again,
    /// Applications are led to another student now.
    Switched,
    /// Everything is as before.
    Stayed,
}

impl Slots {
    /// Go back to the best student that is whole, and tell the user's program.
    ///
    /// # Errors
    /// [`Failure::Refused`] when there is nothing to go back to, or nothing that is whole; [`Failure::Failed`] when the disk
    /// does not take the change. What is active stays so.
    pub(super) async fn go_back(&self, cause: Cause) -> Result<(), Failure> {
        for _ in 0..TRIES {
            let asked = cause.clone();
            let (from, ways) = self
                .change(move |current| {
                    let state = current.state();
                    match (asked, state.active()) {
                        (Cause::Asked(Some(id)), _) => state.trial_as(id).map(|_| ())?,
                        (Cause::Asked(None), _)
                            if state.ways_back().next().is_none() && state.trial.is_none() =>
                        {
                            return Err(Unfit::NoWayBack);
                        }
                        _ => {}
                    }
                    Ok((state.active(), state.ways_back().collect::<Vec<_>>()))
                })
                .await?
                .map_err(|unfit| Failure::Refused(unfit.to_string()))?;
            let Some(from) = from else { return Ok(()) };
            let mut target = None;
            for way in &ways {
                let damage = self.verify(*way).await?.err();
                let is_whole = damage.is_none();
                let found = *way;
                self.change(move |current| current.found(found, damage)).await?;
                if is_whole {
                    target = Some(*way);
                    break;
                }
            }
            let cause = cause.clone();
            let decide = move |current: &mut Current| decide(current, &cause, from, &ways, target);
            match self.change(decide).await?? {
                Outcome::Again => {}
                Outcome::Stayed => return Ok(()),
                Outcome::Switched => {
                    self.tell(Switch::RolledBack).await;
                    return Ok(());
                }
            }
        }
        Err(Failure::Failed("the slots kept changing; ask for their status and try again".into()))
    }

    /// Tell the user's program of a roll-back, which is done whatever the program makes of it.
    async fn tell(&self, switch: Switch) {
        let Some(program) = self.0.settings.on_switch.clone() else { return };
        let Ok(now) = self.change(|current| current.now()).await else { return };
        if let Err(why) = told::tell(&program, switch, now.as_ref()).await {
            let _ = self.change(move |current| current.note(format!("told of a roll-back, {why}"))).await;
        }
    }
}

/// One try, under the lock.
fn decide(
    current: &mut Current,
    cause: &Cause,
    from: Entry,
    ways: &[Entry],
    target: Option<Entry>,
) -> Result<Outcome, Failure> {
    let state = current.state().clone();
    if state.active() != Some(from) || !state.ways_back().eq(ways.iter().copied()) {
        return Ok(Outcome::Again);
    }
    let why = words(current, cause, from);
    let named = |entry: Entry| format!("`{}`", current.name(entry));
    let is_first = ways.is_empty() && state.trial.is_some();
    if let (None, false) = (target, is_first) {
        let damaged: Vec<String> = ways
            .iter()
            .map(|way| {
                let damage = current.damage(*way).unwrap_or_default();
                format!("{} in {} is damaged ({damage})", named(*way), way.slot.name())
            })
            .collect();
        let damaged = if damaged.is_empty() { "there is no other".to_owned() } else { damaged.join(", ") };
        return match why {
            None => {
                let refusal = format!(
                    "there is no whole student to go back to: {damaged}; {} stays active",
                    named(from)
                );
                // It is no way back any more, and the status says so.
                let left = ways.iter().fold(state, |state, way| state.without(*way));
                current.switch(left).map_err(disk_failure)?;
                Err(Failure::Refused(refusal))
            }
            Some(why) => {
                let note = format!("{why}; {damaged}: {} stays", named(from));
                // Nothing else is whole, so what is there is the board's student from now on.
                let kept = if matches!(cause, Cause::Damage(_)) { state } else { state.kept() };
                current.switch(kept).map_err(disk_failure)?;
                current.trial_until = None;
                current.note(note);
                Ok(Outcome::Stayed)
            }
        };
    }
    let to = target.map_or_else(|| "nothing: there was no student before it".into(), named);
    current.switch(state.back_to(target)).map_err(disk_failure)?;
    current.trial_until = None;
    current.rollbacks += 1;
    if let Some(why) = why {
        current.note(format!("{why}: back to {to}"));
    } else {
        tracing::info!(%to, "rolled back");
    }
    Ok(Outcome::Switched)
}

/// For people; `None` for what somebody asked for and so knows.
fn words(current: &Current, cause: &Cause, from: Entry) -> Option<String> {
    let name = current.name(from);
    Some(match cause {
        Cause::Asked(_) => return None,
        Cause::Restart => format!("student `{name}` was on trial when the agent stopped"),
        Cause::Late(longest) => {
            format!("nobody confirmed student `{name}` within {}", span(*longest))
        }
        Cause::Program(why) => format!("student `{name}`: {why}"),
        Cause::Damage(how) => format!("student `{name}` in {} is damaged ({how})", from.slot.name()),
    })
}

/// A span of time for people.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 60 && seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
