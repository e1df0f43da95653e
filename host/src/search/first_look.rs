//! What the first batch of a search costs: the simple students looked at, the first of them trained.

use super::base::Base;
use super::constraint::Limits;
use super::cost_model::CostModel;
use super::fit::{Costs, fit};
use super::genome::BaseId;
use super::settings::{LONG_BATCH, Settings};
use super::simple;
use super::teacher::Teacher;

/// The first batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstLook {
    /// Students that are looked at.
    pub students: usize,
    /// Of them trained.
    pub trained: usize,
    /// Work of one of them, as uniform width has it at the limits, over the teacher's.
    pub share_of_macs: f64,
}

/// The first batch of a search under these limits; `None` where no uniform width keeps them.
pub fn first_look(settings: &Settings, teacher: &Teacher, limits: &Limits) -> Option<FirstLook> {
    let (network, weights) = (teacher.network.clone(), teacher.weights.clone());
    let base = Base::new(BaseId::Teacher, network, weights, settings.channel_multiple);
    let board = CostModel::new(&teacher.network, teacher.measured);
    let board = limits.need_the_board().then_some(&board);
    let fitted = fit(&base, &simple::uniform(&base).shape, Costs { limits, board, correction: 1.0 }).ok()?;
    let uniform = base.network_of(&fitted.genome).ok()?;
    let share_of_macs = uniform.cost().macs as f64 / teacher.network.cost().macs.max(1) as f64;
    Some(FirstLook { students: simple::all(&base).len(), trained: LONG_BATCH, share_of_macs })
}
