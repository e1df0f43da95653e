//! A request that did something to the board, and its outcome, as one line that is safe to show.

use crate::handler::{Job, Origin};
use n2n_protocol::text::printable;
use n2n_protocol::{Answer, Call, Digest, Failure, Shipment, SlotContent, SlotStatus};
use std::time::Duration;

/// What somebody does.
#[derive(Debug)]
pub(super) struct Deed {
    client: String,
    origin: Origin,
    what: What,
}

#[derive(Debug)]
enum What {
    Prepare(Digest),
    Measure(Digest),
    Infer(Digest),
    /// A blob of so many bytes; told only if the board does not have it.
    Put(Digest, u64),
    /// A piece of a blob; told only if it fails.
    Piece(Digest),
    Stage {
        name: String,
        model: Digest,
    },
    Activate(u64),
    Confirm(u64),
    Rollback(Option<u64>),
}

impl Deed {
    /// The deed in a job; `None` for a question.
    pub(super) fn of(job: &Job) -> Option<Self> {
        let what = match &job.call {
            Call::Prepare(plan) => What::Prepare(plan.model.digest),
            Call::Measure(plan) => What::Measure(plan.model.digest),
            Call::Infer(plan) => What::Infer(plan.model.digest),
            Call::PutQuery { digest, bytes } => What::Put(*digest, *bytes),
            Call::PutChunk { digest, .. } => What::Piece(*digest),
            Call::Stage(Shipment { bundle, .. }) => {
                What::Stage { name: bundle.name.clone(), model: bundle.artifact.model.digest }
            }
            Call::Activate { id } => What::Activate(*id),
            Call::Confirm { id } => What::Confirm(*id),
            Call::Rollback { id } => What::Rollback(*id),
            Call::Hello(_)
            | Call::Probe
            | Call::Status
            | Call::Cancel { .. }
            | Call::LogTail { .. }
            | Call::Memory => return None,
        };
        Some(Self { client: job.client.clone(), origin: job.origin.clone(), what })
    }

    /// Whether it changes what the board runs.
    pub(super) fn is_weighty(&self) -> bool {
        matches!(self.what, What::Stage { .. } | What::Activate(_) | What::Confirm(_) | What::Rollback(_))
    }

    /// The line about it, without the time; `None` if nothing was done after all. No outcome is one that nobody waited
    /// for.
    pub(super) fn line(&self, outcome: Option<&Result<Answer, Failure>>, took: Duration) -> Option<String> {
        let what = match (&self.what, outcome) {
            (What::Put(_, bytes), Some(Ok(Answer::Stored { bytes: held }))) if held >= bytes => return None,
            (What::Piece(_), Some(Ok(_)) | None) => return None,
            (What::Prepare(model), _) => format!("prepare model={model}"),
            (What::Measure(model), _) => format!("measure model={model}"),
            (What::Infer(model), _) => format!("infer model={model}"),
            (What::Put(model, bytes), _) => format!("put model={model} bytes={bytes}"),
            (What::Piece(model), _) => format!("put model={model}"),
            (What::Stage { name, model }, _) => format!("stage name={} model={model}", quoted(name)),
            (What::Activate(id), _) => format!("activate id={id}"),
            (What::Confirm(id), _) => format!("confirm id={id}"),
            (What::Rollback(None), _) => "rollback".to_owned(),
            (What::Rollback(Some(id)), _) => format!("rollback id={id}"),
        };
        let came = match outcome {
            None => "abandoned".to_owned(),
            Some(Err(failure)) => printable(&failure.to_string()).into_owned(),
            Some(Ok(answer)) => told(answer),
        };
        let Origin { key, peer } = &self.origin;
        let (client, took) = (quoted(&self.client), took.as_millis());
        Some(format!("key={key} peer={peer} client={client} {what} took={took}ms: {came}"))
    }
}

/// What an answer says in a few words.
fn told(answer: &Answer) -> String {
    match answer {
        Answer::Measured(measured) => {
            format!("median {} ns of {} processes", measured.latency.median_ns, measured.samples_ns.len())
        }
        Answer::Inferred(rows) => format!("{} answers", rows.len()),
        Answer::Stored { bytes } => format!("{bytes} bytes are here"),
        Answer::Slots(slots) => slots_in_words(slots),
        _ => "done".to_owned(),
    }
}

fn slots_in_words(slots: &SlotStatus) -> String {
    let name = |slot: &Option<SlotContent>| {
        slot.as_ref().map_or_else(|| "none".to_owned(), |it| format!("{} id={}", quoted(&it.name), it.id))
    };
    let trial = if slots.trial.is_some() { " on trial" } else { "" };
    format!(
        "active={}{trial} staged={} way_back={}",
        name(&slots.active),
        name(&slots.staged),
        name(&slots.way_back)
    )
}

/// A text of a peer inside a line of ours: it ends where its quotes end, because it has none of its own.
fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('"', "'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use n2n_protocol::{Artifact, BundleManifest, Execution, Golden, Model};

    fn deed(call: Call) -> Deed {
        Deed::of(&Job::of(call, "a\"b\x1b", "serial")).unwrap()
    }

    #[test]
    fn a_bundles_name_cannot_forge_a_line_nor_reach_a_terminal() {
        let bundle = BundleManifest {
            name: "x\" key=other\n2026-11-27T00:00:00Z \x1b[31m".to_owned(),
            artifact: Artifact {
                model: Model::onnx(Digest([7; 32])),
                execution: Execution { engine: String::new(), threads: 1, batch: 1, pace_us: 0 },
                classes: vec![],
                target: String::new(),
                number: 0,
            },
            golden: Golden { input_seed: 1, logits: vec![], tolerance: 1.0 },
            latency_limit_ns: None,
            signer: [0; 32],
            signature: vec![],
        };
        let stage = Call::Stage(Shipment { bundle, force: false });
        let line = deed(stage).line(Some(&Err(Failure::Cancelled)), Duration::from_millis(12));
        let line = line.unwrap();
        assert!(
            line.starts_with("key=desk peer=serial client=\"a'b\\u{1b}\" stage name=\"x' key=other\\n2026"),
            "{line}"
        );
        assert!(line.ends_with(" took=12ms: cancelled") && !line.contains(['\n', '\x1b']), "{line}");
    }

    #[test]
    fn a_put_is_told_when_it_begins_and_when_it_fails() {
        let query = deed(Call::PutQuery { digest: Digest([1; 32]), bytes: 100 });
        let line = |deed: &Deed, outcome: Result<Answer, Failure>| deed.line(Some(&outcome), Duration::ZERO);
        assert_eq!(line(&query, Ok(Answer::Stored { bytes: 100 })), None);
        assert!(
            line(&query, Ok(Answer::Stored { bytes: 40 }))
                .unwrap()
                .ends_with("bytes=100 took=0ms: 40 bytes are here")
        );
        let piece = deed(Call::PutChunk { digest: Digest([1; 32]), offset: 0, data: vec![1].into() });
        assert_eq!(line(&piece, Ok(Answer::Stored { bytes: 50 })), None);
        assert!(line(&piece, Err(Failure::Failed("disk full".to_owned()))).unwrap().ends_with("disk full"));
        assert!(!piece.is_weighty() && deed(Call::Rollback { id: None }).is_weighty());
    }
}
