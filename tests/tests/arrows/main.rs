//! The laws of the house: who may know whom, as the tables of ARCHITECTURE.md say, and what every source file keeps to.
//!
//! `architecture` reads the tables, `source` one Rust file, `package` the modules of a crate, `layers` how kinds of layers are
//! told apart; `tests` show that they see what they must see.

mod architecture;
mod layers;
mod package;
mod source;
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use architecture::{Ban, Rooms, root};
use package::{Crate, Target, Use};

/// Longest source file, lines: a longer one holds more than one noun.
const MAX_LINES: usize = 600;
/// Folders of the packages whose code ships.
const SHIPPED: [&str; 4] = ["host", "device-agent", "device-agent/protocol", "device-agent/serial"];

/// A path of the repository as the tables name it.
fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn place(it: &Use) -> String {
    format!("{}:{}: {}", relative(&it.file), it.line, it.written)
}

/// Library and program of a package.
fn crates(folder: &str) -> Vec<Crate> {
    let files = ["src/lib.rs", "src/main.rs"].map(|file| root().join(folder).join(file));
    files.iter().filter(|file| file.is_file()).map(|file| Crate::read(file)).collect()
}

/// All Rust files below a folder of the repository, tests too.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "no sources in {folder}");
    files
}

/// Workspace members: name, folder and direct dependencies, of every kind.
fn packages() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = |it: &serde_json::Value| {
        let manifest = PathBuf::from(it["manifest_path"].as_str().unwrap());
        let names = it["dependencies"].as_array().unwrap().iter();
        let names = names.map(|it| it["name"].as_str().unwrap().to_owned()).collect();
        (it["name"].as_str().unwrap().to_owned(), (relative(manifest.parent().unwrap()), names))
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

/// The room that a file belongs to: `slots.rs` and everything in `slots/` are one.
fn room<'a>(rooms: &'a Rooms, file: &Path) -> Option<&'a String> {
    let stem = |name: &str| name.trim_end_matches('/').trim_end_matches(".rs").to_owned();
    let path = relative(file);
    let first = path.strip_prefix(&rooms.folder)?.split('/').next()?;
    rooms.names.iter().find(|name| stem(name) == stem(first))
}

#[test]
fn rooms_know_only_those_above_them_in_the_table() {
    let mut wrong = Vec::new();
    for rooms in architecture::rooms() {
        for name in &rooms.names {
            let path = root().join(&rooms.folder).join(name);
            assert!(path.exists(), "ARCHITECTURE.md: room `{}{name}` does not exist", rooms.folder);
        }
        let library = Crate::read(&root().join(&rooms.folder).join("lib.rs"));
        let lib = library.files().find(|file| file.ends_with("lib.rs")).unwrap().to_owned();
        let mut strangers: Vec<String> = library
            .files()
            .filter(|&file| *file != lib && room(&rooms, file).is_none())
            .map(relative)
            .collect();
        strangers.dedup();
        assert!(
            strangers.is_empty(),
            "no room of theirs in ARCHITECTURE.md, \"Rooms of … (`{}`)\": {strangers:?}\nhint: add a row `| `NAME.rs` | its \
             noun |` to that table, below every room that it knows and above every room that knows it",
            rooms.folder
        );
        for it in library.uses().iter().filter(|it| it.file != lib) {
            let Target::Item(target) = &it.target else { continue };
            if *target == lib {
                wrong.push(format!("{}: the crate's root only lists its rooms", place(it)));
                continue;
            }
            let place_of = |file: &Path| rooms.names.iter().position(|name| Some(name) == room(&rooms, file));
            if place_of(&it.file) < place_of(target) {
                let name = room(&rooms, target).unwrap();
                wrong.push(format!("{}: `{name}` stands below it in the table of rooms", place(it)));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden by the tables of rooms in ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_package_with_a_library_has_a_table_of_rooms() {
    let listed: BTreeSet<String> = architecture::rooms().into_iter().map(|it| it.folder).collect();
    let needed = packages().into_values().map(|(folder, _)| format!("{folder}/src/"));
    assert_eq!(listed, needed.collect(), "folders with a table \"Rooms of … (`folder`)\" in ARCHITECTURE.md");
}

#[test]
fn no_two_files_know_each_other_in_a_circle() {
    for rooms in architecture::rooms() {
        let library = Crate::read(&root().join(&rooms.folder).join("lib.rs"));
        let mut arrows: BTreeMap<PathBuf, BTreeMap<PathBuf, String>> = BTreeMap::new();
        // A name that is only passed on is a line of the map: its users are counted with the file that defines it.
        for it in library.uses().into_iter().filter(|it| !it.exported) {
            if let Target::Item(target) = &it.target
                && *target != it.file
            {
                arrows.entry(it.file.clone()).or_default().entry(target.clone()).or_insert(place(&it));
            }
        }
        let circle = circle(&arrows);
        assert!(
            circle.is_empty(),
            "these know each other; move what they share into a file of its own:\n{}",
            circle.join("\n")
        );
    }
}

/// One circle of arrows, by the places where each arrow starts; empty if there is none.
fn circle(arrows: &BTreeMap<PathBuf, BTreeMap<PathBuf, String>>) -> Vec<String> {
    for start in arrows.keys() {
        // Breadth first, so that the circle shown is a shortest one.
        let mut from: BTreeMap<&PathBuf, (&PathBuf, &String)> = BTreeMap::new();
        let mut next = std::collections::VecDeque::from([start]);
        while let Some(file) = next.pop_front() {
            for (target, place) in arrows.get(file).into_iter().flatten() {
                if !from.contains_key(target) {
                    from.insert(target, (file, place));
                    next.push_back(target);
                }
            }
        }
        let mut places = Vec::new();
        let mut at = start;
        while let Some(&(before, place)) = from.get(at).filter(|_| from.contains_key(start)) {
            places.push(place.clone());
            at = before;
            if at == start {
                places.reverse();
                return places;
            }
        }
    }
    Vec::new()
}

#[test]
fn packages_know_whom_the_table_lets_them_know() {
    let packages = packages();
    let arrows = architecture::arrows();
    let listed: BTreeSet<&String> = arrows.iter().map(|it| &it.package).collect();
    assert_eq!(listed, packages.keys().collect(), "packages in the table of arrows in ARCHITECTURE.md");
    for arrow in &arrows {
        let (folder, dependencies) = &packages[&arrow.package];
        for dependency in dependencies.iter().filter(|name| packages.contains_key(*name)) {
            assert!(
                arrow.knows.contains(dependency),
                "{folder}/Cargo.toml: {} -> {dependency} is no arrow of ARCHITECTURE.md",
                arrow.package
            );
        }
        for (package, file) in &arrow.only {
            assert!(root().join(file).is_file(), "ARCHITECTURE.md: {file} does not exist");
            let name = package.replace('-', "_");
            let uses = crates(folder).iter().flat_map(Crate::uses).collect::<Vec<_>>();
            let names = |it: &&Use| it.written.split("::").next() == Some(name.as_str());
            let strangers: Vec<String> =
                uses.iter().filter(names).filter(|it| relative(&it.file) != *file).map(place).collect();
            assert!(strangers.is_empty(), "only {file} may name {package}:\n{}", strangers.join("\n"));
            assert!(uses.iter().any(|it| names(&it)), "{file} does not name {package} any more");
        }
    }
}

/// Whether a path is what a table calls `std::fs`, or something in it.
fn is_in(path: &[String], never: &str) -> bool {
    never.split("::").enumerate().all(|(index, word)| path.get(index).is_some_and(|it| it == word))
}

fn inside(file: &Path, places: &[String]) -> bool {
    let file = relative(file);
    places.iter().any(|place| file == *place || (place.ends_with('/') && file.starts_with(place)))
}

#[test]
fn nothing_touches_what_it_must_never_touch() {
    let packages = packages();
    let uses: Vec<Use> = SHIPPED.iter().flat_map(|it| crates(it)).flat_map(|it| it.uses()).collect();
    let mut wrong = Vec::new();
    for Ban { places, never, but } in architecture::bans() {
        for path in places.iter().chain(&but) {
            assert!(root().join(path).exists(), "ARCHITECTURE.md: {path} does not exist");
        }
        for it in uses.iter().filter(|it| inside(&it.file, &places) && !inside(&it.file, &but)) {
            if let Target::Foreign(path) = &it.target
                && let Some(banned) = never.iter().find(|banned| is_in(path, banned))
            {
                wrong.push(format!("{}: never `{banned}` here", place(it)));
            }
        }
        // What a whole package never touches it does not depend on either.
        for (folder, dependencies) in
            packages.values().filter(|it| places.contains(&format!("{}/src/", it.0)))
        {
            for name in dependencies.iter().filter(|name| never.contains(&name.replace('-', "_"))) {
                wrong.push(format!("{folder}/Cargo.toml: never `{name}` here"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "forbidden by the table `where | never | but` of ARCHITECTURE.md:\n{}",
        wrong.join("\n")
    );
}

/// The one file that answers questions about kinds of layers.
const LAYERS: &str = "host/src/network/layer.rs";

#[test]
fn kinds_of_layers_are_told_apart_by_match_alone() {
    let library = Crate::read(&root().join("host/src/lib.rs"));
    let mut wrong = Vec::new();
    for file in library.files().filter(|file| relative(file) != LAYERS) {
        let lines = layers::silent(&std::fs::read_to_string(file).unwrap()).unwrap();
        wrong.extend(lines.iter().map(|line| format!("{}:{line}", relative(file))));
    }
    assert!(root().join(LAYERS).is_file());
    assert!(
        wrong.is_empty(),
        "a new kind of layer would pass here in silence; use `match` with every kind, or ask {LAYERS}:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_source_file_is_too_long() {
    for folder in ["host", "device-agent", "tests"] {
        for file in sources(folder) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= MAX_LINES, "{}: {lines} lines, at most {MAX_LINES}: split it", relative(&file));
        }
    }
}

#[test]
fn every_source_file_says_why_it_exists() {
    for folder in ["host", "device-agent", "tests"] {
        for file in sources(folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//!"), "{}: no //! at its head", relative(&file));
        }
    }
}
