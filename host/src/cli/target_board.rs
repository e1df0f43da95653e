//! `--board`: from what the user wrote to a connected client, the same for every verb that talks to a board.

use std::sync::Arc;

use super::Context;
use crate::board::{Address, Client, Endpoint, Home};
use crate::exit::{Code, Failure, ResultExt as _};

/// A board that answered.
pub(super) struct Connected {
    /// The link.
    pub client: Client,
    /// As the user wrote it.
    pub name: String,
    /// Whether it is the machine this program runs on.
    pub this_machine: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name of `n2n board list`, tcp://HOST:PORT, serial:///dev/DEVICE, or local; default: `board` in n2n.toml, else local
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
}

/// Flag over file over `local`.
pub(super) fn address(flag: Option<&str>, context: &Context) -> Result<Address, Failure> {
    Ok(flag.or(context.config.board.as_deref()).unwrap_or("local").parse::<Address>()?)
}

/// Where boards and the local agent's data are kept.
pub(super) fn home() -> Result<Home, Failure> {
    Home::of_user()
        .ok_or_else(|| Failure::new(Code::Failed, anyhow::anyhow!("this user has no home folder")))
        .hint("name a folder in the environment variable N2N_HOME")
}

/// Connects, once; a board that does not answer is an error with exit code 4.
pub(super) fn connect(address: &Address, context: &Context) -> Result<Connected, Failure> {
    let endpoint = Endpoint::resolve(address, &home()?)?;
    let name = address.to_string();
    let mut client = Client::connect_named(&name, &endpoint)?;
    client.set_cancel_flag(Arc::clone(&context.stop));
    Ok(Connected { client, name, this_machine: matches!(address, Address::Local) })
}

impl Args {
    /// Flag over file over `local`.
    pub(super) fn address(&self, context: &Context) -> Result<Address, Failure> {
        address(self.board.as_deref(), context)
    }

    /// Parses and connects.
    pub(super) fn connect(&self, context: &Context) -> Result<Connected, Failure> {
        connect(&self.address(context)?, context)
    }
}

impl Connected {
    /// What stands beside its numbers.
    pub(super) fn place(&self) -> String {
        crate::wording::measured_on(&self.name, self.this_machine)
    }
}
