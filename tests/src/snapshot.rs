//! Output that people and scripts read, held against the text that somebody read and accepted: one file a thing, in
//! `tests/tests/snapshots`. How a change is accepted: ARCHITECTURE.md, "How to add".

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::shape::shape;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(kind)
}

/// Holds a text as `snapshots/KIND/NAME.snap`. `about` is kept beside it, for whoever reads the file.
///
/// # Panics
/// The text is not the accepted one; the panic shows the difference.
pub fn text(kind: &str, name: &str, about: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder(kind));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(about);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Holds the keys of a JSON object and the kinds of their values.
///
/// # Panics
/// As [`text`].
pub fn json(name: &str, object: &Value) {
    text("json", name, "keys and kinds of values, by `shape`", &shape(object));
}

/// Numbers as `#`, and the hashes of schemas; digits of names (`n2n`, `raspberry-pi-5`) stay.
pub fn numbers_masked(text: &str) -> String {
    let mut masked = String::new();
    for word in text.split_inclusive(' ') {
        if masked.ends_with("(schema ") {
            masked.push_str("#) ");
            continue;
        }
        for letter in word.chars() {
            let goes_on = masked.ends_with('#') && (letter.is_ascii_digit() || letter == '.');
            let of_a_name = masked.ends_with(|it: char| it.is_ascii_alphanumeric() || it == '-');
            match letter {
                _ if goes_on => {}
                '0'..='9' if !of_a_name => masked.push('#'),
                _ => masked.push(letter),
            }
        }
    }
    masked
}

/// Moments as `2026-11-27T23:06:36Z` become `TIME`, with as many blanks as that is shorter.
pub fn times_masked(text: &str) -> String {
    const FORM: &str = "0000-00-00T00:00:00Z";
    let is_time = |part: &str| {
        part.chars().zip(FORM.chars()).all(|(letter, form)| match form {
            '0' => letter.is_ascii_digit(),
            other => letter == other,
        })
    };
    let mut masked = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if rest.get(..FORM.len()).is_some_and(is_time) {
            masked += "TIME";
            masked.extend(std::iter::repeat_n(' ', FORM.len() - "TIME".len()));
            rest = &rest[FORM.len()..];
        } else {
            masked.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    masked
}

/// Names of all snapshots of a kind.
///
/// # Errors
/// The folder cannot be read.
pub fn names(kind: &str) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder(kind))? {
        let file = entry?.file_name();
        names.extend(file.to_string_lossy().strip_suffix(".snap").map(str::to_owned));
    }
    Ok(names)
}
