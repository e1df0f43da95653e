//! What a running compression tells whoever watches: owned, plain data. The user interface draws it, nothing depends on it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::search;
use crate::shipping;
use crate::training::TrainProgress;

/// Steps of the job, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Teacher on the validation split, and its logits.
    Teacher,
    /// Teacher and smallest student on the board.
    Board,
    /// Both stages.
    Search,
    /// Finalists measured properly and retrained.
    Finalists,
    /// Long distillation.
    Distillation,
    /// The file that ships: measured.
    Check,
    /// The file that ships: the test split, once.
    Test,
    /// Into the board's active slot.
    Shipping,
}

impl Phase {
    /// In order.
    pub const ALL: [Self; 8] = [
        Self::Teacher,
        Self::Board,
        Self::Search,
        Self::Finalists,
        Self::Distillation,
        Self::Check,
        Self::Test,
        Self::Shipping,
    ];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Teacher => "evaluating the teacher",
            Self::Board => "measuring the teacher and the smallest student",
            Self::Search => "searching",
            Self::Finalists => "finalists",
            Self::Distillation => "long distillation of the student",
            Self::Check => "measuring the student's file",
            Self::Test => "testing teacher and student",
            Self::Shipping => "shipping",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", content = "what", rename_all = "snake_case")]
pub enum Event {
    /// A step of the job begins.
    Phase(Phase),
    /// A candidate, a student or the teacher is on the board.
    Measuring,
    /// Optimiser steps of a training.
    Training(TrainProgress),
    /// From the search.
    Search(search::Event),
    /// The student is on its way to the board.
    Shipping(shipping::Step),
    /// Where the whole job stands; told before each phase, and every second or so.
    Outlook {
        /// The step at hand, from 1.
        step: usize,
        /// How many there are.
        steps: usize,
        /// About how long the rest takes, once something is known of it.
        left: Option<Duration>,
        /// Share of the search's budget that is spent, while it searches.
        searched: Option<f64>,
    },
    /// Worth a line to a person.
    Note(String),
}

/// Whoever watches.
pub type Observer<'a> = &'a dyn Fn(&Event);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::record::{Record, Resumed};

    #[test]
    fn what_happens_can_be_told_to_another_process() {
        let resumed = Record::Resumed(Resumed { records: 7, elapsed_ns: 9 });
        let step =
            TrainProgress { epoch: 1, step: 2, steps: 3, ended: None, loss: 0.5, images_per_second: 80.0 };
        let events = [
            Event::Phase(Phase::Search),
            Event::Measuring,
            Event::Training(step),
            Event::Search(search::Event::Recorded(Box::new(resumed))),
            Event::Shipping(shipping::Step::Putting { done: 1, bytes: 2 }),
            Event::Outlook { step: 3, steps: 8, left: Some(Duration::from_secs(9)), searched: None },
            Event::Note("a note".into()),
        ];
        for event in events {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
        }
    }
}
