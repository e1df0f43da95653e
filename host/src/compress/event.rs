//! What a running compression tells whoever watches; the user interface draws it, nothing depends on it.

use std::time::Duration;

use crate::search;
use crate::shipping;
use crate::training::TrainProgress;

/// Steps of the job, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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
#[derive(Debug)]
pub enum Event<'a> {
    /// A step of the job begins.
    Phase(Phase),
    /// A candidate, a student or the teacher is on the board.
    Measuring,
    /// Optimiser steps of a training.
    Training(TrainProgress),
    /// From the search.
    Search(&'a search::Event<'a>),
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
pub type Observer<'a> = &'a dyn Fn(&Event<'_>);
