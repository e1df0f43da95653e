//! What is cited exists: every page that a comment, a page or a program's text names, every section of it, and every link.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
const FOREIGN: [&str; 3] = ["target", ".git", "snapshots"];
/// Files that are read for what they cite, by the end of their names; scripts have none.
const TEXTS: [&str; 8] = ["rs", "md", "toml", "cu", "h", "py", "sh", "service"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !FOREIGN.contains(&name.as_str()) {
                texts(&path, found);
            }
        } else if path.extension().is_none_or(|end| TEXTS.iter().any(|text| end == *text)) {
            found.push(path);
        }
    }
}

/// Names of pages in a text, with their sections: `docs/method.md#cache`, `profiles/README.md`.
fn citations(text: &str) -> Vec<(usize, &str)> {
    let of_a_name = |it: char| it.is_ascii_alphanumeric() || "_-./#".contains(it);
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in line.split(|it| !of_a_name(it)) {
            let word = word.trim_end_matches(['.', '/', '-', '#']);
            let page = word.split('#').next().unwrap_or(word);
            // Not the bare end of a name, as in a list of file types.
            if Path::new(page).extension().is_some_and(|it| it == "md") {
                found.push((index + 1, word));
            }
        }
    }
    found
}

/// Targets of `[words](target)` and `[words]: target` that are no address of another place.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line;
        while let Some(start) = rest.find("](") {
            rest = &rest[start + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty() {
                found.push((index + 1, target));
            }
        }
    }
    found
}

/// The anchors of a page: its headings, as GitHub names them, and explicit ones.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut code = false;
    for line in page.lines() {
        code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if !code && heading.len() < line.len() && heading.starts_with(' ') {
            let kept = heading.trim().chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
            anchors.insert(kept.collect::<String>().to_lowercase().replace(' ', "-"));
        }
        anchors
            .extend(line.split("<a id=\"").skip(1).filter_map(|it| Some(it.split('"').next()?.to_owned())));
    }
    anchors
}

/// Where a cited path may lie: from the repository's root, beside the file that cites it, or from its package.
fn found(citing: &Path, path: &str) -> Option<PathBuf> {
    let package = citing.ancestors().find(|folder| folder.join("Cargo.toml").is_file());
    let bases = [Some(root().as_path()), citing.parent(), package].map(|it| it.map(Path::to_path_buf));
    bases.into_iter().flatten().map(|base| base.join(path)).find(|path| path.exists())
}

fn wrong(citing: &Path, line: usize, cited: &str) -> Option<String> {
    let place = format!("{}:{line}", citing.strip_prefix(root()).unwrap().display());
    let (path, section) =
        cited.split_once('#').map_or((cited, None), |(path, section)| (path, Some(section)));
    let page = if path.is_empty() { Some(citing.to_path_buf()) } else { found(citing, path) };
    let Some(page) = page else { return Some(format!("{place}: {cited}: there is no such file")) };
    let section = section.filter(|_| page.extension().is_some_and(|it| it == "md"))?;
    let anchors = anchors(&std::fs::read_to_string(&page).unwrap());
    (!anchors.contains(section)).then(|| format!("{place}: {cited}: no such section; there are {anchors:?}"))
}

#[test]
fn every_page_and_section_that_is_cited_exists() {
    let mut files = Vec::new();
    texts(&root(), &mut files);
    let (mut cited, mut missing) = (0, Vec::new());
    for file in files.iter().filter(|file| !file.ends_with("tests/documents.rs")) {
        // What is no text, such as a fuzzer's corpus, cites nothing.
        let Ok(text) = String::from_utf8(std::fs::read(file).unwrap()) else { continue };
        let mut all = citations(&text);
        if file.extension().is_some_and(|it| it == "md") {
            all.extend(links(&text));
        }
        cited += all.len();
        missing.extend(all.into_iter().filter_map(|(line, it)| wrong(file, line, it)));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    // The search itself works: pages are cited from many places.
    assert!(cited > 60, "{cited} citations found");
}

#[test]
fn a_citation_of_what_is_not_there_is_seen() {
    let here = root().join("host/src/lib.rs");
    let seen = |text: &str| {
        citations(text).into_iter().filter_map(|(line, it)| wrong(&here, line, it)).collect::<Vec<_>>()
    };
    assert_eq!(seen("see docs/method.md#cache, and ARCHITECTURE.md."), [""; 0]);
    assert_eq!(seen("a list of .rs and .md files"), [""; 0]);
    assert!(
        seen("//! text\n//! (method.md 4.2)")[0]
            .starts_with("host/src/lib.rs:2: method.md: there is no such file")
    );
    assert!(seen("docs/method.md#nowhere")[0].contains("docs/method.md#nowhere: no such section"));
    assert_eq!(links("[a](docs/x.png) and [b](https://example.org)"), [(1, "docs/x.png")]);
    let page = "# One `two`: three\n```\n# no heading\n```\n3. <a id=\"here\"></a>\n";
    assert_eq!(anchors(page), ["one-two-three", "here"].map(String::from).into());
}
