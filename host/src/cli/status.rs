//! `n2n status`: what runs on a board.

use super::{Context, json, target_board};
use crate::exit::{Code, Failure};
use crate::view;

/// Shows which student is active on a board, and what a roll-back would return to
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  n2n status --board pi-lab")]
pub(super) struct Args {
    #[command(flatten)]
    board: target_board::Args,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let mut board = args.board.connect(context)?;
    let slots = board.client.status()?.slots.unwrap_or_default();
    context.ui.result(&json::Slots::new(&board.name, &slots), || view::slots(&board.place(), &slots))?;
    Ok(Code::Done)
}
