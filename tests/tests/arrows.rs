//! The map of the house, checked: which crate and which file may know which.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest source file, lines: a longer one holds more than one noun.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Direct dependencies of each workspace member, by `cargo metadata`; dev-dependencies count too.
fn dependencies(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|it| it["name"] == package).expect(package);
    let names = package["dependencies"].as_array().unwrap().iter();
    names.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

/// All Rust files below a folder of the repository.
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

/// Lines that name one of the words; comments and unit tests do not count.
fn naming(files: &[PathBuf], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn the_agent_does_not_know_the_host() {
    let agent = dependencies("n2n-agent");
    assert!(agent.contains("n2n-protocol"));
    for forbidden in ["n2n", "candle-core", "candle-nn"] {
        assert!(!agent.contains(forbidden), "n2n-agent -> {forbidden}");
    }
}

#[test]
fn the_protocol_knows_nobody_and_stays_fit_for_firmware() {
    let protocol = dependencies("n2n-protocol");
    for forbidden in ["n2n", "n2n-agent", "candle-core", "candle-nn", "tokio", "serialport", "clap", "std"] {
        assert!(!protocol.contains(forbidden), "n2n-protocol -> {forbidden}");
    }
}

#[test]
fn only_one_file_of_the_host_names_the_agents_library() {
    let mut files = sources("host");
    files.retain(|path| !path.ends_with("cli/agent.rs"));
    let found = naming(&files, &["n2n_agent::", "use n2n_agent"]);
    assert!(found.is_empty(), "only host/src/cli/agent.rs may name the agent:\n{}", found.join("\n"));
}

#[test]
fn search_and_surgery_touch_neither_files_nor_network_nor_terminal() {
    let files: Vec<PathBuf> = [sources("host/src/search"), sources("host/src/network")].concat();
    let words = [
        "std::fs",
        "std::net",
        "println!",
        "eprintln!",
        "std::io",
        "tokio::",
        "Instant::now",
        "SystemTime::now",
    ];
    let found = naming(&files, &words);
    assert!(found.is_empty(), "the core is pure:\n{}", found.join("\n"));
}

#[test]
fn only_the_ui_prints() {
    let mut files = [sources("host/src"), sources("device-agent")].concat();
    files.retain(|path| {
        !path.ends_with("host/src/ui.rs") && !path.components().any(|it| it.as_os_str() == "tests")
    });
    let found = naming(&files, &[" println!(", " eprintln!(", " print!(", "stdout()"]);
    let found: Vec<String> = found.into_iter().filter(|line| !line.contains("device-agent")).collect();
    assert!(found.is_empty(), "results and messages go through host/src/ui.rs:\n{}", found.join("\n"));
}

#[test]
fn no_source_file_is_too_long() {
    for folder in ["host", "device-agent", "tests"] {
        for file in sources(folder) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= MAX_LINES, "{}: {lines} lines, at most {MAX_LINES}: split it", file.display());
        }
    }
}

#[test]
fn every_source_file_says_why_it_exists() {
    for folder in ["host/src", "device-agent/src", "device-agent/protocol/src", "tests"] {
        for file in sources(folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//!"), "{}: no //! at its head", file.display());
        }
    }
}
