//! The searchers by name. A new one is a type of its own and a line here.

use super::policy::PolicyError;
use super::preset::Preset;
use super::searcher::{Searcher, Setup};
use super::searchers::{evolution, greedy, paper, random, reinforce, saliency, uniform};

/// A searcher that can be chosen.
pub struct Entry {
    /// As on the command line and in journals.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Its share of the preset `edge`.
    pub edge: f64,
    /// Sets it up.
    pub build: fn(&Setup<'_>) -> Result<Box<dyn Searcher>, PolicyError>,
}

/// All of them, in the order of tables and charts.
pub const SEARCHERS: &[Entry] = &[
    Entry { name: "reinforce", about: "recurrent policies, REINFORCE", edge: 2.0, build: reinforce::build },
    Entry {
        name: "evolution",
        about: "mutations of the best, ranked by a model",
        edge: 3.0,
        build: evolution::build,
    },
    Entry { name: "random", about: "random shapes around the simple ones", edge: 1.0, build: random::build },
    Entry {
        name: "greedy",
        about: "one layer's width at a time, as NetAdapt",
        edge: 1.0,
        build: greedy::build,
    },
    Entry { name: "saliency", about: "widths by importance against cost", edge: 0.5, build: saliency::build },
    Entry { name: "uniform", about: "one width factor for all layers", edge: 0.0, build: uniform::build },
    Entry { name: "paper", about: "removal, then shrinkage, as published", edge: 0.0, build: paper::build },
];

/// Who takes part in a preset unless somebody is named, each with its share.
pub fn of_preset(preset: Preset) -> Vec<(&'static Entry, f64)> {
    let share = |entry: &Entry| match preset {
        Preset::Edge => entry.edge,
        Preset::Paper => f64::from(u8::from(entry.name == "paper")),
    };
    SEARCHERS.iter().map(|entry| (entry, share(entry))).filter(|(_, share)| *share > 0.0).collect()
}

/// The entry of a name.
pub fn find(name: &str) -> Option<&'static Entry> {
    SEARCHERS.iter().find(|entry| entry.name == name)
}
