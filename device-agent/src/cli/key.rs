//! `n2n-agent key …`: the keys of this board, one for each host.

use super::place::data_folder;
use crate::key::DEFAULT;
use crate::key::files::{KeyFiles, Listed};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use n2n_protocol::text::printable;
use std::io::Write as _;
use std::path::PathBuf;

/// Arguments of `key`.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Alone it shows the key `default`, and makes it if there is none. Every host can have a key of its own, which ends without
the others: a running agent follows within seconds, and a removed key's sessions end.

Example, on the host:
  ssh pi n2n-agent key | n2n board add pi tcp://raspberrypi.local
  ssh pi n2n-agent key add laptop | n2n board add pi tcp://raspberrypi.local"
)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    place: Place,
    /// Make another key `default` though there is one; hosts that hold the old one are shut out
    #[arg(long)]
    replace: bool,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make a key for one more host, and show it
    Add(Named),
    /// List the keys: name, id, and when they were made; never the keys themselves
    List(Place),
    /// Remove a key: its host is shut out, and its sessions end
    Remove(Named),
    /// Show a key once more, to pair a host with it
    Show {
        /// Name of the key
        #[arg(value_name = "NAME", default_value = DEFAULT)]
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args, Debug)]
struct Named {
    /// Name of the key, after the host that holds it: letters, digits, `-`, `_` and `.`
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Place {
    /// File of the key `default` [default: `key` in the data folder]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Folder for models, slots and keys [default: the user's data folder for n2n-agent]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Place {
    fn files(self) -> Result<KeyFiles> {
        let files = KeyFiles::in_data(&data_folder(self.data)?);
        Ok(match self.key_file {
            Some(file) => files.with_single(file),
            None => files,
        })
    }
}

/// Do what the arguments say.
///
/// # Errors
/// For people: what failed, with its [`crate::advice::Advice`].
pub(super) fn run(arguments: Arguments) -> Result<()> {
    let text = match arguments.verb {
        None => {
            let files = arguments.place.files()?;
            let key =
                if arguments.replace { files.replace(DEFAULT)? } else { files.show_or_make(DEFAULT)? };
            key.reveal()
        }
        Some(Verb::Add(Named { name, place })) => place.files()?.add(&name)?.reveal(),
        Some(Verb::Show { name, place }) => place.files()?.show(&name)?.reveal(),
        Some(Verb::Remove(Named { name, place })) => {
            place.files()?.remove(&name)?;
            format!("removed {name}")
        }
        Some(Verb::List(place)) => table(&place.files()?.list()?),
    };
    writeln!(std::io::stdout(), "{text}").context("showing the result")
}

/// One line a key. A key that is not in force shows why.
fn table(keys: &[Listed]) -> String {
    let width = keys.iter().map(|key| key.name.len()).chain(["name".len()]).max().unwrap_or(0);
    let mut lines = vec![format!("{:width$}  {:8}  made", "name", "id")];
    for Listed { name, key, made } in keys {
        let id = key.as_ref().map_or_else(|_| "-".to_owned(), |key| key.id().to_string());
        let made = made.map_or_else(String::new, |made| humantime::format_rfc3339_seconds(made).to_string());
        lines.push(format!("{name:width$}  {id:8}  {made}"));
        if let Err(problem) = key {
            lines.push(format!("  not in force: {}", printable(&problem.to_string())));
            lines.extend(problem.hint().map(|hint| format!("  {hint}")));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Advice;
    use n2n_protocol::key::Key;

    #[test]
    fn the_table_shows_ids_and_what_is_wrong_and_never_a_key() {
        let key = Key::generate().unwrap();
        let (reveal, id) = (key.reveal(), key.id().to_string());
        let made = std::time::SystemTime::UNIX_EPOCH;
        let exposed = Err(Advice::new("keys/lab: open to all", "chmod 600 keys/lab"));
        let text = table(&[
            Listed { name: "laptop".to_owned(), key: Ok(key), made: Some(made) },
            Listed { name: "lab".to_owned(), key: exposed, made: None },
        ]);
        assert!(text.contains(&format!("laptop  {id}  1970-01-01T00:00:00Z")), "{text}");
        assert!(text.contains("not in force: keys/lab: open to all\n  chmod 600 keys/lab"), "{text}");
        assert!(!text.contains(&reveal[..10]));
    }
}
