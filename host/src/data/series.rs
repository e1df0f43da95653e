//! Pictures of one subject under numbered names (`ant_01`, `ant_02`): by which name they go to one part together.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// A name that more than one picture in so many has is a counter of a camera or a program, no subject.
const LARGEST_SHARE: usize = 20;

/// Which pictures are kept together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Series {
    /// Those of one name without its last number, unless such names are counters.
    #[default]
    Auto,
    /// Those of one name without its last number.
    Numbered,
    /// Each picture for itself.
    Off,
    /// Those whose names agree in what a regular expression finds: its first group, or all of it.
    Pattern(String),
}

/// How pictures were dealt to the parts: whoever tests a network later must deal them so again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Never [`Series::Auto`].
    pub series: Series,
    /// Of the names.
    pub salt: String,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Numbered => "numbered",
            Self::Off => "off",
            Self::Pattern(pattern) => pattern,
        })
    }
}

impl FromStr for Series {
    /// What was expected.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "numbered" => Ok(Self::Numbered),
            "off" => Ok(Self::Off),
            pattern => match Regex::new(pattern) {
                Ok(_) => Ok(Self::Pattern(pattern.into())),
                Err(error) => Err(format!("auto, numbered, off or a regular expression: {error}")),
            },
        }
    }
}

impl From<Series> for String {
    fn from(series: Series) -> Self {
        series.to_string()
    }
}

impl TryFrom<String> for Series {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The names by which pictures are dealt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// One a picture.
    pub(super) by_picture: Vec<String>,
    /// Never [`Series::Auto`].
    pub(super) resolved: Series,
    /// What is worth a line.
    pub(super) told: Option<String>,
}

/// Keys of class-free names (`deep/ant_01.png`).
pub(super) fn keys(names: &[String], series: &Series) -> Keys {
    match series {
        Series::Off => Keys { by_picture: names.to_vec(), resolved: Series::Off, told: None },
        Series::Numbered | Series::Pattern(_) => grouped(names, series),
        Series::Auto => {
            let numbered = grouped(names, &Series::Numbered);
            let sizes = sizes(names, &numbered.by_picture);
            let Some((name, &most)) =
                sizes.iter().max_by_key(|(_, size)| **size).filter(|(_, size)| **size > 1)
            else {
                return Keys { told: None, ..numbered };
            };
            let different = sizes.values().sum::<usize>();
            if most * LARGEST_SHARE > different {
                let told = format!(
                    "every picture stands alone: `{name}` is the name of {most} of {different} pictures, so its numbers \
                     count, they do not name a subject; --series REGEX keeps pictures of one subject together"
                );
                return Keys { by_picture: names.to_vec(), resolved: Series::Off, told: Some(told) };
            }
            numbered
        }
    }
}

fn grouped(names: &[String], series: &Series) -> Keys {
    let pattern = match series {
        Series::Pattern(pattern) => Regex::new(pattern).ok(),
        Series::Auto | Series::Numbered | Series::Off => None,
    };
    let keys: Vec<String> = names
        .iter()
        .map(|name| match &pattern {
            Some(pattern) => match pattern.captures(name) {
                Some(found) => {
                    found.get(1).or(found.get(0)).map_or_else(String::new, |it| it.as_str().into())
                }
                None => name.clone(),
            },
            None => numbered(name),
        })
        .collect();
    let sizes = sizes(names, &keys);
    let several = sizes.values().filter(|size| **size > 1).count();
    let largest = sizes.iter().max_by_key(|(_, size)| **size);
    let told = largest.filter(|_| several > 0).map(|(name, size)| {
        let within: usize = sizes.values().filter(|size| **size > 1).sum();
        format!(
            "{within} pictures belong to {several} series that are kept together, the largest is `{name}` with {size}; \
             --series off deals each picture alone"
        )
    });
    Keys { by_picture: keys, resolved: series.clone(), told }
}

/// Different names of each key: two classes may have the same ones, which makes no series.
fn sizes<'a>(names: &[String], keys: &'a [String]) -> BTreeMap<&'a str, usize> {
    let mut seen = HashSet::new();
    let mut sizes = BTreeMap::new();
    for (name, key) in names.iter().zip(keys) {
        *sizes.entry(key.as_str()).or_default() += usize::from(seen.insert(name));
    }
    sizes
}

/// A name without its extension and the number at its end.
fn numbered(name: &str) -> String {
    let (folder, file) = name.rsplit_once('/').map_or(("", name), |(folder, file)| (folder, file));
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem).to_lowercase();
    let bare = stem.trim_end_matches(|c: char| c.is_ascii_digit() || "_-. ()".contains(c));
    format!("{folder}/{}", if bare.is_empty() { &stem } else { bare })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: impl IntoIterator<Item = String>, series: &Series) -> Keys {
        keys(&names.into_iter().collect::<Vec<_>>(), series)
    }

    #[test]
    fn a_subject_is_kept_together_and_told() {
        let subjects = (0..40).flat_map(|it| ["01", "02", "03"].map(move |n| format!("s{it}x_{n}.png")));
        let keys = named(subjects, &Series::Auto);
        assert_eq!(keys.resolved, Series::Numbered);
        assert_eq!(keys.by_picture[..3], ["/s0x", "/s0x", "/s0x"]);
        assert!(keys.told.unwrap().starts_with("120 pictures belong to 40 series"));
    }

    #[test]
    fn counters_are_no_subjects_and_that_is_told() {
        for names in [
            (0..200).map(|it| format!("IMG_{it:04}.jpg")).collect::<Vec<_>>(),
            (0..100)
                .flat_map(|it| ["front", "back", "left"].map(|view| format!("{view}_{it:03}.png")))
                .collect(),
        ] {
            let keys = keys(&names, &Series::Auto);
            assert_eq!((&keys.by_picture, keys.resolved), (&names, Series::Off));
            assert!(keys.told.unwrap().contains("--series REGEX"));
        }
        let twice = (0..50).flat_map(|it| [it, it]).map(|it| format!("{it:03}.png"));
        assert_eq!(named(twice, &Series::Auto).told, None, "the same names in two classes");
        let bare = named((0..50).map(|it| format!("{it:03}.png")), &Series::Auto);
        assert_eq!((bare.by_picture[7].as_str(), bare.told), ("/007", None));
    }

    #[test]
    fn a_pattern_names_the_subject() {
        let series: Series = "^(person[0-9]+)_".parse().unwrap();
        let names = ["person1_a.png", "person1_b.png", "person2_a.png", "other.png"].map(String::from);
        assert_eq!(keys(&names, &series).by_picture, ["person1", "person1", "person2", "other.png"]);
        assert!("(".parse::<Series>().unwrap_err().contains("regular expression"));
        for series in [series, Series::Auto, Series::Off, Series::Numbered] {
            assert_eq!(series.to_string().parse(), Ok(series));
        }
    }
}
