//! The help of every verb of both programs, held in one snapshot a verb. How a change is accepted: ARCHITECTURE.md, "How to
//! add".

use std::collections::BTreeSet;
use std::time::Duration;

use n2n_tests::{World, snapshot};

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");
/// Generous, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(1);

/// Names in the section `Commands:` of a help text.
fn verbs(help: &str) -> Vec<String> {
    let section = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = section.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split_whitespace().next()?;
        (!line.starts_with("   ") && name != "help").then(|| name.to_owned())
    });
    names.collect()
}

/// Holds the help of a verb and of those below it; gives the names of all snapshots.
fn hold(world: &World, program: &str, called: &str, words: &[&str], seen: &mut BTreeSet<String>) {
    let arguments: Vec<&str> = words.iter().copied().chain(["--help"]).collect();
    let finished = world.run(program, &arguments, DEADLINE).unwrap();
    assert_eq!(finished.code, Some(0), "{called} {words:?}: {}", finished.stderr);
    assert_eq!(finished.stderr, "", "{called} {words:?}");
    let name = [&[called], words].concat().join(".");
    snapshot::text("help", &name, &format!("{called} {}", arguments.join(" ")), &finished.stdout);
    seen.insert(name);
    for verb in verbs(&finished.stdout) {
        hold(world, program, called, &[words, &[verb.as_str()]].concat(), seen);
    }
}

#[test]
fn the_help_of_every_verb_is_the_one_that_was_read() {
    let world = World::new().unwrap();
    let mut seen = BTreeSet::new();
    hold(&world, N2N, "n2n", &[], &mut seen);
    hold(&world, AGENT, "n2n-agent", &[], &mut seen);
    // Both programs were walked through, not only greeted.
    for verb in ["n2n.board.add", "n2n.teacher.train", "n2n.agent.serve", "n2n-agent.key"] {
        assert!(seen.contains(verb), "{verb}: {seen:?}");
    }
    let held = snapshot::names("help").unwrap();
    let gone: Vec<&String> = held.difference(&seen).collect();
    assert!(gone.is_empty(), "snapshots of verbs that are gone, to be removed: {gone:?}");
}
