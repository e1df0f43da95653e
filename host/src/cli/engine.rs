//! `--engine`: which engine of a board runs models, the same for every verb that has models run.

use crate::config::Config;
use crate::engine_choice::EngineChoice;
use crate::exit::{Failure, ResultExt as _};
use crate::profile::Profile;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which engine of the board runs models: auto (its ONNX Runtime if it has one, else tract), tract or onnxruntime
    /// [default: the profile's, else auto]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<String>,
}

impl Args {
    /// Flag over file over profile over the board's own choice.
    pub(super) fn choice(&self, config: &Config, profile: Option<&Profile>) -> Result<EngineChoice, Failure> {
        let text = self.engine.as_deref().or(config.engine.as_deref());
        match (text, profile) {
            (Some(text), _) => {
                text.parse().map_err(Failure::usage).hint("`n2n board probe` lists the engines of a board")
            }
            (None, Some(profile)) => Ok(profile.engine.clone()),
            (None, None) => Ok(EngineChoice::Auto),
        }
    }

    /// Whether the command line or the file names one.
    pub(super) fn is_given(&self, config: &Config) -> bool {
        self.engine.is_some() || config.engine.is_some()
    }
}
