//! `n2n profile …`: what is known about kinds of boards.

use serde::Serialize;

use super::json::SCHEMA;
use super::{Context, target_board};
use crate::exit::{Code, Failure};
use crate::profile::Profile;
use crate::{ui, units};

/// Shows what is known about kinds of boards
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    List(List),
    Show(Show),
}

/// Lists the profiles: the built-in ones and your own
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Your own profiles are NAME.toml in the folder `profiles` beside n2n's board book.\n\nExample:\n  n2n profile list --json"
)]
pub(super) struct List {}

/// Shows one profile as the file it is
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  n2n profile show raspberry-pi-4b > my-pi.toml")]
pub(super) struct Show {
    /// A name of `n2n profile list`, or a path to a .toml file
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Serialize)]
struct Listed {
    schema: u32,
    profiles: Vec<Facts>,
}

#[derive(Serialize)]
struct Facts {
    name: String,
    title: String,
    cpu: String,
    cores: u16,
    memory_bytes: Vec<u64>,
    target: String,
    engine: String,
    threads: u16,
    channel_multiple: usize,
    limits: Vec<String>,
    source: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    schema: u32,
    #[serde(flatten)]
    facts: Facts,
}

pub(super) fn run(verb: Verb, context: &Context) -> Result<Code, Failure> {
    match verb {
        Verb::List(List {}) => list(context),
        Verb::Show(args) => show(&args, context),
    }
}

/// A profile by name or path.
pub(super) fn load(name: &str) -> Result<Profile, Failure> {
    Ok(Profile::load(name, Some(&target_board::home()?.profiles()))?)
}

/// A name, or the path of a file as it is from any folder.
pub(super) fn absolute(name_or_path: &str) -> Result<String, Failure> {
    if !Profile::is_path(name_or_path) {
        return Ok(name_or_path.to_owned());
    }
    Ok(std::path::absolute(name_or_path)?.display().to_string())
}

fn list(context: &Context) -> Result<Code, Failure> {
    let mut profiles = Profile::builtin()?;
    profiles.extend(Profile::in_folder(&target_board::home()?.profiles())?);
    let listed = Listed { schema: SCHEMA, profiles: profiles.into_iter().map(Facts::from).collect() };
    context.ui.result(&listed, || {
        let rows = listed.profiles.iter().map(|it| {
            let memory: Vec<String> = it.memory_bytes.iter().map(|&bytes| units::bytes(bytes)).collect();
            [it.name.clone(), it.title.clone(), it.cpu.clone(), it.cores.to_string(), memory.join(", ")]
        });
        ui::table(["profile", "board", "cpu", "cores", "memory"], rows)
    })?;
    Ok(Code::Done)
}

fn show(args: &Show, context: &Context) -> Result<Code, Failure> {
    let profile = load(&args.name)?;
    let toml = profile.to_toml();
    context.ui.result(&Shown { schema: SCHEMA, facts: profile.into() }, || toml)?;
    Ok(Code::Done)
}

impl From<Profile> for Facts {
    fn from(it: Profile) -> Self {
        Self {
            name: it.name,
            title: it.title,
            cpu: it.cpu_model,
            cores: it.cores,
            memory_bytes: it.memory_bytes,
            target: it.target,
            engine: it.engine.to_string(),
            threads: it.threads,
            channel_multiple: it.channel_multiple,
            limits: it.limits,
            source: it.source,
        }
    }
}
