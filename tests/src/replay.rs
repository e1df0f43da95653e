//! A file system as a power cut may leave it: the system calls of a program, recorded by `strace`, played on a model that
//! knows what is on the medium and what is not yet.
//!
//! What POSIX promises and no more: a file's bytes are on the medium after `fsync` or `fdatasync` of the file, a name after
//! `fsync` of its folder, a rename is whole or not there. Everything else may be there, be lost, or be torn, in any order.
//! It must not know what the files mean.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use n2n_protocol::Digest;

/// What `strace` is asked for: every call that changes a file system, and those that move file descriptors about.
pub const CALLS: &str = "trace=open,openat,creat,close,write,writev,pwrite64,pwritev,pwritev2,lseek,ftruncate,truncate,\
                         fallocate,rename,renameat,renameat2,symlink,symlinkat,link,linkat,unlink,unlinkat,mkdir,\
                         mkdirat,rmdir,fsync,fdatasync,sync,syncfs,sync_file_range,copy_file_range,sendfile,splice,\
                         dup,dup2,dup3,clone,clone3,fork,vfork";
/// Most states of one moment that are built: a program that leaves so much unsynced is not understood any more.
const MAX_STATES: usize = 20_000;

/// One finished system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Thread that made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// Its arguments, as written.
    pub arguments: Vec<String>,
    /// What it returned.
    pub returned: i64,
}

/// The finished, successful calls in an output of `strace -f -xx`.
///
/// # Errors
/// A line that is not understood.
pub fn parse(text: &str) -> anyhow::Result<Vec<Call>> {
    let mut begun: HashMap<u32, String> = HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let (thread, mut rest) = (thread.parse()?, rest.trim_start().to_owned());
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(first) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread, first.trim_end().to_owned());
            continue;
        }
        if rest.starts_with("<... ") {
            let (_, end) = rest.split_once("resumed>").ok_or_else(|| anyhow::anyhow!("{line}"))?;
            rest = begun.remove(&thread).unwrap_or_default() + end;
        }
        let Some((call, returned)) = rest.rsplit_once(" = ") else { anyhow::bail!("no result: {line}") };
        let returned = returned.split_whitespace().next().unwrap_or_default().parse().unwrap_or(-1);
        if returned < 0 {
            continue;
        }
        let (name, arguments) = call.split_once('(').ok_or_else(|| anyhow::anyhow!("no call: {line}"))?;
        let arguments = arguments.trim_end().strip_suffix(')').unwrap_or(arguments);
        let arguments = arguments.split(", ").map(|it| it.trim().to_owned()).collect();
        calls.push(Call { thread, name: name.to_owned(), arguments, returned });
    }
    Ok(calls)
}

/// Bytes of a string that was written as `"\x61\x62"`.
fn bytes_of(argument: &str) -> anyhow::Result<Vec<u8>> {
    let inner = argument.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    let inner = inner.ok_or_else(|| anyhow::anyhow!("no whole string: {argument:.60}"))?;
    inner.split("\\x").skip(1).map(|pair| Ok(u8::from_str_radix(pair, 16)?)).collect()
}

/// A change that is not on the medium yet.
#[derive(Clone, Debug)]
enum Change {
    /// Of a folder: a name for something.
    Name(String, usize),
    /// Of a folder: no such name any more.
    NoName(String),
    /// Of a folder: both at once.
    Renamed(String, String, usize),
    /// Of a file: bytes at a place.
    Bytes(usize, Vec<u8>),
    /// Of a file: its length.
    Length(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Folder(BTreeMap<String, usize>),
    File(Contents),
    Link(String),
}

/// Bytes of a file, told apart by their digest.
#[derive(Clone, Debug)]
struct Contents {
    bytes: Arc<[u8]>,
    digest: Digest,
}

impl Contents {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes: bytes.into() }
    }
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Contents {}

impl Hash for Contents {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// Something with a name: what is on the medium, and what is to come.
#[derive(Clone, Debug)]
struct Node {
    durable: Kind,
    pending: Vec<Change>,
}

/// A whole tree after a power cut: paths, and what lies there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tree(BTreeMap<PathBuf, Leaf>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Leaf {
    Folder,
    File(Contents),
    Link(String),
}

/// The model of one folder's file system.
#[derive(Clone, Debug)]
pub struct Model {
    folder: PathBuf,
    nodes: Vec<Node>,
    /// Open files: what, and where.
    open: HashMap<i64, (usize, usize)>,
    /// Processes of their own, whose descriptors are not ours.
    strangers: HashSet<u32>,
    /// Rises with each change.
    changes: u64,
}

const ROOT: usize = 0;

impl Model {
    /// Everything below a folder, all of it on the medium.
    ///
    /// # Errors
    /// As for reading.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let mut model = Self {
            folder: folder.into(),
            nodes: Vec::new(),
            open: HashMap::new(),
            strangers: HashSet::new(),
            changes: 0,
        };
        model.add(folder)?;
        Ok(model)
    }

    fn add(&mut self, path: &Path) -> io::Result<usize> {
        let kind = std::fs::symlink_metadata(path)?.file_type();
        let id = self.new_node(Kind::Folder(BTreeMap::new()));
        let durable = if kind.is_symlink() {
            Kind::Link(std::fs::read_link(path)?.to_string_lossy().into_owned())
        } else if kind.is_dir() {
            let mut names = BTreeMap::new();
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                names.insert(entry.file_name().to_string_lossy().into_owned(), self.add(&entry.path())?);
            }
            Kind::Folder(names)
        } else {
            Kind::File(Contents::new(std::fs::read(path)?))
        };
        self.nodes[id].durable = durable;
        Ok(id)
    }

    fn new_node(&mut self, durable: Kind) -> usize {
        self.nodes.push(Node { durable, pending: Vec::new() });
        self.nodes.len() - 1
    }

    fn change(&mut self, node: usize, change: Change) {
        self.changes += 1;
        self.nodes[node].pending.push(change);
    }

    /// The program's own view of something.
    fn now(&self, node: usize) -> Kind {
        let Node { durable, pending } = &self.nodes[node];
        applied(durable, pending.iter())
    }

    fn entry(&self, folder: usize, name: &str) -> Option<usize> {
        match self.now(folder) {
            Kind::Folder(names) => names.get(name).copied(),
            _ => None,
        }
    }

    /// Folder and last name of a path; `None` outside of the model.
    fn place(&self, at: &str, path: &[u8]) -> anyhow::Result<Option<(usize, String)>> {
        let path = PathBuf::from(String::from_utf8(path.to_vec())?);
        let (mut folder, below) = if path.is_absolute() {
            match path.strip_prefix(&self.folder) {
                Ok(below) => (ROOT, below.to_owned()),
                Err(_) => return Ok(None),
            }
        } else if at == "AT_FDCWD" {
            return Ok(None);
        } else {
            let Some((node, _)) = self.open.get(&at.parse()?) else { return Ok(None) };
            (*node, path)
        };
        let mut names: Vec<String> = Vec::new();
        for part in below.components() {
            if let Component::Normal(name) = part {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        let last = names.pop().unwrap_or_default();
        for name in names {
            let Some(next) = self.entry(folder, &name) else { return Ok(None) };
            folder = match self.now(next) {
                // The one link there is leads to a neighbour.
                Kind::Link(target) => self.entry(ROOT, &target).or_else(|| self.entry(folder, &target)),
                _ => Some(next),
            }
            .ok_or_else(|| anyhow::anyhow!("{name} leads nowhere"))?;
        }
        Ok(Some((folder, last)))
    }

    /// Plays one call; whether it changed what a power cut may leave.
    ///
    /// # Errors
    /// A call on a tracked file that the model does not know.
    pub fn play(&mut self, call: &Call) -> anyhow::Result<bool> {
        let changes = self.changes;
        self.make(call)?;
        Ok(self.changes != changes)
    }

    fn make(&mut self, call: &Call) -> anyhow::Result<()> {
        if self.strangers.contains(&call.thread) {
            return Ok(());
        }
        let argument = |index: usize| call.arguments.get(index).map_or("", String::as_str);
        let number = |index: usize| argument(index).parse::<usize>();
        let file = |model: &Self| argument(0).parse().ok().and_then(|fd: i64| model.open.get(&fd).copied());
        match call.name.as_str() {
            "clone" | "clone3" | "fork" | "vfork" => {
                if !call.arguments.iter().any(|it| it.contains("CLONE_THREAD")) {
                    self.strangers.insert(u32::try_from(call.returned)?);
                }
            }
            "openat" => {
                let Some((folder, name)) = self.place(argument(0), &bytes_of(argument(1))?)? else {
                    self.open.remove(&call.returned);
                    return Ok(());
                };
                let known = if name.is_empty() { Some(folder) } else { self.entry(folder, &name) };
                let node = if let Some(node) = known {
                    match self.now(node) {
                        Kind::Link(target) => self.entry(folder, &target).unwrap_or(node),
                        _ => node,
                    }
                } else {
                    let node = self.new_node(Kind::File(Contents::new(Vec::new())));
                    self.change(folder, Change::Name(name, node));
                    node
                };
                if argument(2).contains("O_TRUNC") {
                    self.change(node, Change::Length(0));
                }
                self.open.insert(call.returned, (node, 0));
            }
            "close" => drop(self.open.remove(&argument(0).parse()?)),
            "write" => {
                if let Some((node, at)) = file(self) {
                    let bytes = bytes_of(argument(1))?;
                    let length = usize::try_from(call.returned)?;
                    self.change(node, Change::Bytes(at, bytes[..length].to_vec()));
                    self.open.insert(argument(0).parse()?, (node, at + length));
                }
            }
            "pwrite64" => {
                if let Some((node, _)) = file(self) {
                    self.change(node, Change::Bytes(number(3)?, bytes_of(argument(1))?));
                }
            }
            "lseek" => {
                if let Some((node, _)) = file(self) {
                    self.open.insert(argument(0).parse()?, (node, usize::try_from(call.returned)?));
                }
            }
            "ftruncate" => {
                if let Some((node, _)) = file(self) {
                    self.change(node, Change::Length(number(1)?));
                }
            }
            "fsync" | "fdatasync" => {
                if let Some((node, _)) = file(self) {
                    self.changes += 1;
                    self.nodes[node].durable = self.now(node);
                    self.nodes[node].pending.clear();
                }
            }
            "mkdir" => self.make_folder("AT_FDCWD", argument(0))?,
            "mkdirat" => self.make_folder(argument(0), argument(1))?,
            "symlink" => self.make_link(argument(0), "AT_FDCWD", argument(1))?,
            "symlinkat" => self.make_link(argument(0), argument(1), argument(2))?,
            "unlink" | "rmdir" => self.remove("AT_FDCWD", argument(0))?,
            "unlinkat" => self.remove(argument(0), argument(1))?,
            "rename" => self.rename(["AT_FDCWD", argument(0), "AT_FDCWD", argument(1)])?,
            "renameat" | "renameat2" => {
                self.rename([argument(0), argument(1), argument(2), argument(3)])?;
            }
            other => anyhow::ensure!(file(self).is_none(), "the model does not know {other}"),
        }
        Ok(())
    }

    fn make_folder(&mut self, at: &str, path: &str) -> anyhow::Result<()> {
        if let Some((folder, name)) = self.place(at, &bytes_of(path)?)? {
            let node = self.new_node(Kind::Folder(BTreeMap::new()));
            self.change(folder, Change::Name(name, node));
        }
        Ok(())
    }

    fn make_link(&mut self, target: &str, at: &str, path: &str) -> anyhow::Result<()> {
        if let Some((folder, name)) = self.place(at, &bytes_of(path)?)? {
            let node = self.new_node(Kind::Link(String::from_utf8(bytes_of(target)?)?));
            self.change(folder, Change::Name(name, node));
        }
        Ok(())
    }

    fn remove(&mut self, at: &str, path: &str) -> anyhow::Result<()> {
        if let Some((folder, name)) = self.place(at, &bytes_of(path)?)? {
            self.change(folder, Change::NoName(name));
        }
        Ok(())
    }

    fn rename(&mut self, [from_at, from, to_at, to]: [&str; 4]) -> anyhow::Result<()> {
        let (from, to) = (self.place(from_at, &bytes_of(from)?)?, self.place(to_at, &bytes_of(to)?)?);
        match (from, to) {
            (Some((folder, from)), Some((other, to))) if folder == other => {
                let node = self.entry(folder, &from).ok_or_else(|| anyhow::anyhow!("no {from} to rename"))?;
                self.change(folder, Change::Renamed(from, to, node));
                Ok(())
            }
            (None, None) => Ok(()),
            _ => anyhow::bail!("a rename from one folder to another"),
        }
    }

    /// Every tree that a power cut at this moment may leave.
    ///
    /// # Errors
    /// When there are too many.
    pub fn after_a_power_cut(&self) -> anyhow::Result<Vec<Tree>> {
        let mut choices: Vec<(usize, Vec<Kind>)> = Vec::new();
        let mut states = 1_usize;
        for node in self.reachable() {
            let variants = self.variants(node);
            states = states.saturating_mul(variants.len());
            anyhow::ensure!(states <= MAX_STATES, "{states} states and more after one call");
            choices.push((node, variants));
        }
        let mut trees = Vec::with_capacity(states);
        for mut index in 0..states {
            let mut chosen = HashMap::new();
            for (node, variants) in &choices {
                chosen.insert(*node, &variants[index % variants.len()]);
                index /= variants.len();
            }
            let mut tree = Tree::default();
            build(ROOT, &chosen, Path::new(""), &mut tree);
            trees.push(tree);
        }
        Ok(trees)
    }

    /// What may still have a name after the cut.
    fn reachable(&self) -> BTreeSet<usize> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![ROOT]);
        while let Some(node) = next.pop() {
            if seen.insert(node) {
                for kind in self.variants(node) {
                    if let Kind::Folder(names) = kind {
                        next.extend(names.values());
                    }
                }
            }
        }
        seen
    }

    /// What may be on the medium of one thing: each change there or not, those of a file also torn.
    fn variants(&self, node: usize) -> Vec<Kind> {
        let Node { durable, pending } = &self.nodes[node];
        let mut variants = vec![durable.clone()];
        for change in pending {
            let mut more = Vec::new();
            for kind in &variants {
                more.extend(torn(change).iter().map(|part| applied(kind, std::iter::once(part))));
            }
            variants.extend(more);
            let mut known = HashSet::new();
            variants.retain(|kind| known.insert(kind.clone()));
        }
        variants
    }
}

/// A change as a whole and in parts.
fn torn(change: &Change) -> Vec<Change> {
    let Change::Bytes(at, bytes) = change else { return vec![change.clone()] };
    let middle = bytes.len() / 2;
    let mut parts = vec![change.clone()];
    if middle > 0 {
        parts.push(Change::Bytes(*at, bytes[..middle].to_vec()));
        parts.push(Change::Bytes(at + middle, bytes[middle..].to_vec()));
        // Its length is there before its bytes are.
        parts.push(Change::Bytes(*at, vec![0; bytes.len()]));
    }
    parts
}

fn applied<'a>(to: &Kind, changes: impl Iterator<Item = &'a Change>) -> Kind {
    let mut kind = to.clone();
    for change in changes {
        match (&mut kind, change) {
            (Kind::Folder(names), Change::Name(name, node)) => drop(names.insert(name.clone(), *node)),
            (Kind::Folder(names), Change::NoName(name)) => drop(names.remove(name)),
            (Kind::Folder(names), Change::Renamed(from, to, node)) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
            (Kind::File(contents), Change::Bytes(at, new)) => {
                let mut bytes = contents.bytes.to_vec();
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[*at..at + new.len()].copy_from_slice(new);
                *contents = Contents::new(bytes);
            }
            (Kind::File(contents), Change::Length(length)) => {
                let mut bytes = contents.bytes.to_vec();
                bytes.resize(*length, 0);
                *contents = Contents::new(bytes);
            }
            _ => {}
        }
    }
    kind
}

fn build(node: usize, chosen: &HashMap<usize, &Kind>, path: &Path, tree: &mut Tree) {
    match chosen.get(&node) {
        Some(Kind::Folder(names)) => {
            if path != Path::new("") {
                tree.0.insert(path.into(), Leaf::Folder);
            }
            for (name, node) in names {
                build(*node, chosen, &path.join(name), tree);
            }
        }
        Some(Kind::File(contents)) => drop(tree.0.insert(path.into(), Leaf::File(contents.clone()))),
        Some(Kind::Link(target)) => drop(tree.0.insert(path.into(), Leaf::Link(target.clone()))),
        None => {}
    }
}

impl Tree {
    /// Writes it below a folder.
    ///
    /// # Errors
    /// As for writing.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        for (path, leaf) in &self.0 {
            let path = folder.join(path);
            match leaf {
                Leaf::Folder => std::fs::create_dir_all(path)?,
                Leaf::File(contents) => std::fs::write(path, &contents.bytes)?,
                Leaf::Link(target) => symlink(target, path)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().fold(String::new(), |text, byte| text + &format!("\\x{byte:02x}"))
    }

    /// The distinct contents of file `f`, or that it is not there, after these calls in a folder `/d`.
    fn contents(calls: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display().to_string();
        let text: Vec<String> = calls
            .iter()
            .map(|call| {
                let parts: Vec<String> = call
                    .split('\'')
                    .enumerate()
                    .map(|(index, part)| match index % 2 {
                        0 => part.to_owned(),
                        _ => format!("\"{}\"", hex(&part.replace("/d", &here))),
                    })
                    .collect();
                format!("7 {}", parts.concat())
            })
            .collect();
        let mut model = Model::of(folder.path()).unwrap();
        for call in parse(&text.join("\n")).unwrap() {
            model.play(&call).unwrap();
        }
        let trees = model.after_a_power_cut().unwrap();
        let seen: BTreeSet<String> = trees
            .iter()
            .map(|tree| match tree.0.get(Path::new("f")) {
                Some(Leaf::File(contents)) => String::from_utf8_lossy(&contents.bytes).replace('\0', "0"),
                other => format!("{other:?}"),
            })
            .collect();
        seen.into_iter().collect()
    }

    const MADE: [&str; 2] =
        ["openat(AT_FDCWD, '/d/f', O_WRONLY|O_CREAT, 0666) = 3", "write(3, 'abcd', 4) = 4"];

    #[test]
    fn nothing_is_sure_before_it_is_synced_and_names_are_synced_apart() {
        assert_eq!(contents(&MADE), ["", "0000", "00cd", "None", "ab", "abcd"]);
        let synced = [MADE[0], MADE[1], "fsync(3) = 0"];
        assert_eq!(contents(&synced), ["None", "abcd"]);
        let named = [MADE[0], MADE[1], "openat(AT_FDCWD, '/d', O_RDONLY) = 4", "fsync(4) = 0"];
        assert_eq!(contents(&named), ["", "0000", "00cd", "ab", "abcd"]);
    }

    #[test]
    fn a_rename_is_whole_and_in_place_changes_tear() {
        let renamed = [
            "openat(AT_FDCWD, '/d/f', O_WRONLY|O_CREAT, 0666) = 3",
            "write(3, 'old', 3) = 3",
            "fsync(3) = 0",
            "openat(AT_FDCWD, '/d', O_RDONLY) = 4",
            "fsync(4) = 0",
            "openat(AT_FDCWD, '/d/g', O_WRONLY|O_CREAT, 0666) = 5",
            "write(5, 'new', <unfinished ...>",
            "<... write resumed> 3) = 3",
            "fsync(5) = 0",
            "rename('/d/g', '/d/f') = 0",
        ];
        assert_eq!(contents(&renamed), ["new", "old"]);
        // Old, new, one half of it, the other, or only its length.
        let torn = [&renamed[..5], &["pwrite64(3, 'wxyz', 4, 0) = 4"]].concat();
        assert_eq!(contents(&torn), ["0000", "old", "olyz", "wxd", "wxyz"]);
    }

    #[test]
    fn calls_that_failed_and_other_processes_do_not_count() {
        let calls = ["clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88) = 8", MADE[0], MADE[1]];
        assert_eq!(contents(&calls).len(), 6);
        assert_eq!(
            contents(&["openat(AT_FDCWD, '/d/f', O_WRONLY|O_CREAT, 0666) = -1 ENOSPC (no room)"]),
            ["None"]
        );
    }
}
