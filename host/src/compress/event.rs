//! What a running compression tells whoever watches; the user interface draws it, nothing depends on it.

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
    /// A candidate is on the board.
    Measuring,
    /// Optimiser steps of a training.
    Training(TrainProgress),
    /// From the search.
    Search(&'a search::Event<'a>),
    /// The student is on its way to the board.
    Shipping(shipping::Step),
    /// Worth a line to a person.
    Note(String),
}

/// Whoever watches.
pub type Observer<'a> = &'a dyn Fn(&Event<'_>);
