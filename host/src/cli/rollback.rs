//! `n2n rollback`: the student that was confirmed last becomes the active one again.

use super::{Context, json, target_board};
use crate::exit::{Code, Failure};
use crate::view;

/// Returns a board to the student that was confirmed before; one on trial is ended
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  n2n rollback --board pi-lab")]
pub(super) struct Args {
    #[command(flatten)]
    board: target_board::Args,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let mut board = args.board.connect(context)?;
    let slots = board.client.rollback(None)?;
    context.ui.result(&json::Slots::new(&board.name, &slots), || view::slots(&board.place(), &slots))?;
    Ok(Code::Done)
}
