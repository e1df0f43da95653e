//! `--device`: where training runs, shared by every verb that trains.

use crate::config::Config;
use crate::exit::Failure;
use crate::training::DeviceChoice;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where training runs: auto, cpu, cuda:N, or cuda:N:tf32 (faster; convolutions round to 10 bits)
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl Args {
    /// Flag over file over `auto`.
    pub(super) fn choice(&self, config: &Config) -> Result<DeviceChoice, Failure> {
        let text = self.device.as_deref().or(config.device.as_deref()).unwrap_or("auto");
        text.parse().map_err(Failure::usage)
    }
}
