//! `n2n status`: what runs on a board, what the board found by itself, who waits for it.

use super::{Context, json, target_board};
use crate::exit::{Code, Failure};
use crate::view;

/// Shows which student is active on a board, what a roll-back would return to, and how the board fares
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  n2n status --board pi-lab")]
pub(super) struct Args {
    #[command(flatten)]
    board: target_board::Args,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let mut board = args.board.connect(context)?;
    let status = board.client.status()?;
    context.ui.result(&json::Status::new(&board.name, &status), || view::status(&board.place(), &status))?;
    Ok(Code::Done)
}
