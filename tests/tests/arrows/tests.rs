//! The readers of the laws, on code that breaks them: each kind of mention is seen with its line, and what is no code is not.

use std::path::Path;

use super::package::{Crate, Target};

/// A crate of the files given, and what its code uses outside the file itself: `file:line -> target`.
fn seen(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let short = |path: &Path| path.strip_prefix(folder.path()).unwrap().display().to_string();
    let mut seen = Vec::new();
    for it in Crate::read(&folder.path().join("lib.rs")).uses() {
        let target = match &it.target {
            Target::Item(file) if *file == it.file => continue,
            Target::Item(file) => short(file),
            Target::Module(file) => format!("mod {}", short(file)),
            Target::Foreign(path) => path.join("::"),
        };
        seen.push(format!("{}:{} -> {target}", short(&it.file), it.line));
    }
    seen
}

const MAP: (&str, &str) = ("lib.rs", "mod a;\nmod b;\n");
const B: (&str, &str) = ("b/mod.rs", "mod inner;\npub use inner::Inner as Renamed;\npub struct Own;\n");
const INNER: (&str, &str) = ("b/inner.rs", "pub struct Inner;\n");

/// What `a.rs` uses, beside a room `b` with a re-export.
fn of_a(text: &str) -> Vec<String> {
    let mut seen = seen(&[MAP, ("a.rs", text), B, INNER]);
    seen.retain(|line| line.starts_with("a.rs"));
    seen
}

#[test]
fn imports_are_followed_to_the_file_that_defines() {
    let leads = |text: &str, to: &[&str]| assert_eq!(of_a(text), to, "{text}");
    leads("use crate::b::Own;", &["a.rs:1 -> b/mod.rs"]);
    leads("use super::b::Own;", &["a.rs:1 -> b/mod.rs"]);
    leads("use crate::b::Renamed;", &["a.rs:1 -> b/inner.rs"]);
    leads("use crate::{\n b::{Own, inner::Inner as X},\n};", &["a.rs:2 -> b/mod.rs", "a.rs:2 -> b/inner.rs"]);
    leads(
        "use crate::b::{self};\nfn f(_: b::Renamed) {}",
        &["a.rs:1 -> mod b/mod.rs", "a.rs:2 -> b/inner.rs"],
    );
    leads("pub use crate::b::Own;", &["a.rs:1 -> b/mod.rs"]);
    leads("use std::{fs, io::Read as _};", &["a.rs:1 -> std::fs", "a.rs:1 -> std::io::Read"]);
}

#[test]
fn paths_in_code_types_and_macros_are_mentions_too() {
    let leads = |text: &str, to: &[&str]| assert_eq!(of_a(text), to, "{text}");
    leads("fn f() -> crate::b::Own {\n todo!()\n}", &["a.rs:1 -> b/mod.rs", "a.rs:2 -> todo!"]);
    leads("mod inside { fn f() { super::super::b::Own; } }", &["a.rs:1 -> b/mod.rs"]);
    leads(
        "fn f() {\n assert!(\n  matches!(x.y, crate::b::Renamed { .. })\n );\n}",
        &["a.rs:2 -> assert!", "a.rs:3 -> matches!", "a.rs:3 -> b/inner.rs"],
    );
    leads(
        "use std::time::Instant;\nfn f() { Instant::now(); }",
        &["a.rs:1 -> std::time::Instant", "a.rs:2 -> std::time::Instant::now"],
    );
    leads("macro_rules! m { () => { $crate::b::Own } }", &["a.rs:1 -> macro_rules!", "a.rs:1 -> b/mod.rs"]);
}

#[test]
fn comments_strings_and_tests_do_not_count() {
    for text in [
        "// use crate::b::Own;\n/* crate::b::Own */\n/// [`crate::b::Own`]\nfn f() {}",
        "const TEXT: &str = \"crate::b::Own println!\";",
        "#[cfg(test)]\nuse crate::b::Own;",
        "#[cfg(all(test, unix))]\nmod tests { use crate::b::Own; }",
        "#[cfg(test)]\nmod tests;",
        "struct S;\nimpl S {\n #[cfg(test)]\n fn f() { crate::b::Own; }\n}",
        "#[test]\nfn f() { crate::b::Own; }",
        "pub(in crate::a) struct S;",
    ] {
        assert_eq!(of_a(text), [""; 0], "{text}");
    }
    for text in ["#[cfg(not(test))]\nuse crate::b::Own;", "#[cfg(any(test, unix))]\nuse crate::b::Own;"] {
        assert_eq!(of_a(text), ["a.rs:2 -> b/mod.rs"], "{text}");
    }
}

#[test]
fn a_circle_is_found_and_a_line_is_not() {
    let arrows = |pairs: &[(&str, &str)]| {
        let mut arrows = std::collections::BTreeMap::new();
        for (from, to) in pairs {
            let targets: &mut std::collections::BTreeMap<_, _> = arrows.entry(from.into()).or_default();
            targets.insert(to.into(), format!("{from} -> {to}"));
        }
        super::circle(&arrows)
    };
    assert_eq!(arrows(&[("a", "b"), ("b", "c"), ("a", "c")]), [""; 0]);
    assert_eq!(arrows(&[("a", "b"), ("b", "c"), ("c", "b")]), ["b -> c", "c -> b"]);
}

#[test]
fn a_silent_way_to_tell_layers_apart_is_seen_and_match_is_not() {
    let seen = |code: &str| super::layers::silent(&format!("fn f() {{\n{code}\n}}")).unwrap();
    for code in [
        "matches!(node.layer, Layer::Add)",
        "if let Layer::Conv(conv) = layer { conv; }",
        "let Layer::Conv(conv) = layer else { return };",
        "layer == network::Layer::Add;",
        "if x && Layer::Add != *layer {}",
        "if let (Some(block), Layer::Conv(conv)) = (block, layer) {}",
        "match (layer, side) { (Layer::Add, 1) => 1, (Layer::Conv(_), _) => 2, (other, 1) => 3 };",
        "match layer { Layer::Add => 1, _ => 2 };",
        "assert!(list.iter().any(|it| it.layer == 1), \"{}\", 1); matches!(x, (Layer::Add, _));",
    ] {
        assert_eq!(seen(code), [2], "{code}");
    }
    for code in [
        "match layer { Layer::Add => 1, Layer::Conv(_) => 2 };",
        "match layer { Some(Layer::Add | Layer::Conv(_)) => 1, None => 2 };",
        "let layer = Layer::Add;",
        "push(Layer::Conv(conv));",
        "if let Some(conv) = layer.convolution() {}",
        "#[cfg(test)] fn g() { matches!(x, Layer::Add); }",
    ] {
        assert_eq!(seen(code), [0; 0], "{code}");
    }
}
