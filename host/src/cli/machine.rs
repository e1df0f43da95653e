//! Where training runs: `--device` and `--threads`, shared by every verb that trains.

use crate::config::Config;
use crate::exit::{Failure, ResultExt as _};
use crate::training::DeviceChoice;

/// Most training threads that make sense to ask for.
const MAX_THREADS: usize = 1024;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "This machine")]
pub(super) struct Args {
    /// Where training runs: auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Training threads; default: all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Args {
    /// Flags over file over `auto`.
    pub(super) fn device(&self, config: &Config) -> Result<DeviceChoice, Failure> {
        let text = self.device.as_deref().or(config.device.as_deref()).unwrap_or("auto");
        text.parse().map_err(Failure::usage)
    }

    /// Flags over file over the machine's cores; at least 1.
    pub(super) fn threads(&self, config: &Config) -> Result<usize, Failure> {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = self.threads.or(config.threads).unwrap_or_else(cores);
        if (1..=MAX_THREADS).contains(&threads) {
            return Ok(threads);
        }
        Err(Failure::usage(format!("threads: expected 1 to {MAX_THREADS}, got {threads}")))
            .hint("leave --threads out to use all cores")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(device: Option<&str>, threads: Option<usize>) -> Args {
        Args { device: device.map(str::to_owned), threads }
    }

    #[test]
    fn flags_win_over_the_file() {
        let config = Config { device: Some("cuda:1".into()), threads: Some(3), ..Config::default() };
        assert_eq!(args(None, None).device(&config).unwrap(), DeviceChoice::Cuda(1));
        assert_eq!(args(Some("cpu"), None).device(&config).unwrap(), DeviceChoice::Cpu);
        assert_eq!(args(None, Some(2)).threads(&config).unwrap(), 2);
        assert_eq!(args(None, None).threads(&config).unwrap(), 3);
    }

    #[test]
    fn nonsense_is_refused() {
        for device in ["gpu", "cuda:x", "cuda:-1", ""] {
            assert!(args(Some(device), None).device(&Config::default()).is_err(), "{device}");
        }
        assert!(args(None, Some(0)).threads(&Config::default()).is_err());
    }
}
