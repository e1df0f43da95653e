//! All modules of one crate, and which file a path leads to, through whatever re-exports stand between.

use std::collections::BTreeMap;
use std::path::{Path as File, PathBuf};

use super::source::{self, Contents, Path};

/// Longest chain of re-exports and aliases that is followed; a longer one goes in circles.
const MOST_ALIASES: usize = 16;

/// A crate: the modules below one root file.
#[derive(Debug)]
pub(super) struct Crate {
    modules: BTreeMap<Path, Module>,
}

/// One module.
#[derive(Debug)]
pub(super) struct Module {
    /// Its file, absolute.
    pub(super) file: PathBuf,
    /// Names of the modules right below it.
    children: Vec<String>,
    contents: Contents,
}

/// One place that knows another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// The file that knows.
    pub(super) file: PathBuf,
    /// Line in it, from 1.
    pub(super) line: usize,
    /// The path as written.
    pub(super) written: String,
    /// What it leads to.
    pub(super) target: Target,
    /// Whether it only passes a name on (`pub use`).
    pub(super) exported: bool,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An item of this crate, by the file that defines it.
    Item(PathBuf),
    /// A module as such, by its file: its items show where they are used.
    Module(PathBuf),
    /// Something of another crate, or a name that is always there (`println!`), as a full path.
    Foreign(Path),
}

impl Crate {
    /// Reads the root file and every module below it that is not for tests alone.
    pub(super) fn read(root: &File) -> Self {
        let mut modules = BTreeMap::new();
        let folder = root.parent().unwrap();
        let contents = parse(root);
        read_module(&mut modules, Vec::new(), root, folder, contents);
        Self { modules }
    }

    /// All files that are part of it.
    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.modules.values().map(|module| module.file.as_path())
    }

    /// Everything that its code mentions, by what it leads to.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (path, module) in &self.modules {
            for mention in &module.contents.mentions {
                uses.push(Use {
                    file: module.file.clone(),
                    line: mention.line,
                    written: mention.path.join("::"),
                    target: self.target(path, &mention.path, 0),
                    exported: mention.exported,
                });
            }
        }
        uses
    }

    /// What a path that is written in a module leads to.
    fn target(&self, module: &[String], written: &[String], aliases: usize) -> Target {
        let foreign = || Target::Foreign(written.to_vec());
        let Some(here) = self.modules.get(module) else { return foreign() };
        let (first, rest) = written.split_first().unwrap();
        let mut base = module.to_vec();
        match first.as_str() {
            "crate" => self.descend(&[], rest, aliases),
            "self" => self.descend(&base, rest, aliases),
            "super" => {
                let up = written.iter().take_while(|it| *it == "super").count();
                base.truncate(base.len().saturating_sub(up));
                self.descend(&base, &written[up..], aliases)
            }
            _ if here.children.contains(first) => self.descend(&base, written, aliases),
            _ if aliases >= MOST_ALIASES => foreign(),
            name => match here.contents.names.get(name) {
                // `use serde::Serialize` says nothing new about `serde`.
                Some(path) if path.first() != Some(first) => {
                    let full: Path = path.iter().chain(rest).cloned().collect();
                    self.target(module, &full, aliases + 1)
                }
                _ => foreign(),
            },
        }
    }

    /// Follows a path from a module of this crate downwards.
    fn descend(&self, base: &[String], rest: &[String], aliases: usize) -> Target {
        let module = &self.modules[base];
        let Some((name, after)) = rest.split_first() else { return Target::Module(module.file.clone()) };
        let below = |name: &String| base.iter().cloned().chain([name.clone()]).collect::<Path>();
        if module.children.contains(name) {
            return self.descend(&below(name), after, aliases);
        }
        if aliases < MOST_ALIASES && !module.contents.items.contains(name) {
            if let Some(path) = module.contents.names.get(name) {
                let full: Path = path.iter().chain(after).cloned().collect();
                return self.target(base, &full, aliases + 1);
            }
            for glob in &module.contents.globs {
                let full: Path = glob.iter().chain([name]).cloned().collect();
                if let Target::Item(file) = self.target(base, &full, aliases + 1)
                    && self.modules.values().any(|it| it.file == file && it.contents.items.contains(name))
                {
                    return Target::Item(file);
                }
            }
        }
        Target::Item(module.file.clone())
    }
}

fn parse(file: &File) -> Contents {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    source::read(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// `folder` is where the files of the module's children lie.
fn read_module(
    modules: &mut BTreeMap<Path, Module>,
    path: Path,
    file: &File,
    folder: &File,
    contents: Contents,
) {
    let below = |name: &String| path.iter().cloned().chain([name.clone()]).collect::<Path>();
    for (name, inner) in &contents.inline {
        read_module(modules, below(name), file, &folder.join(name), inner.clone());
    }
    for (name, attribute) in &contents.files {
        let candidates = match attribute {
            Some(path) => vec![file.parent().unwrap().join(path)],
            None => vec![folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")],
        };
        let child = candidates.into_iter().find(|it| it.is_file());
        let child = child.unwrap_or_else(|| panic!("{}: no file for `mod {name}`", file.display()));
        let inner = parse(&child);
        read_module(modules, below(name), &child, &folder.join(name), inner);
    }
    let children = contents.inline.keys().chain(contents.files.keys()).cloned().collect();
    modules.insert(path, Module { file: file.to_owned(), children, contents });
}
