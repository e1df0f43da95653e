//! `n2n report`: a run folder -> one self-contained HTML page.

use std::path::PathBuf;

use super::Context;
use super::json::Done;
use crate::exit::{Code, Failure};
use crate::run::report;

/// Writes the report of a run: one HTML page with charts, no network needed to read it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  n2n report runs/fashion-mnist-1      writes runs/fashion-mnist-1/report.html"
)]
pub(super) struct Args {
    /// Run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Where to write it; default RUN/report.html
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let written = report::write(&args.run, args.out.as_deref())?;
    context.ui.result(&Done::new("written", written.display()), || format!("wrote {}", written.display()))?;
    Ok(Code::Done)
}
