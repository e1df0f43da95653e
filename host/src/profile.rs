//! Board profiles: facts about kinds of boards, as files; `profiles/README.md` documents every key.
//!
//! A profile says where a search starts, never what it found: measurements belong to one board and come from its agent.

mod detect;
mod written;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use written::{Build, Cpu, Engine, Memory, OrDetect, Search, Written};

use crate::engine_choice::{EngineChoice, UnknownEngine};
use crate::exit::{Code, Diagnostic};

/// Version of the table of keys.
const SCHEMA: u32 = 1;
/// Longest profile, bytes: the built-in ones have 1 KB.
const MAX_BYTES: u64 = 64 << 10;
const MAX_CORES: u16 = n2n_protocol::limits::CORES as u16;
/// Above this, rounding decides more than the search does.
const MAX_CHANNEL_MULTIPLE: usize = 64;
const MAX_CLOCK_MHZ: u32 = 10_000;
/// Similarity (Jaro-Winkler, 0 to 1) from which a name is worth suggesting.
const NEAR: f64 = 0.8;
const MIB: u64 = 1 << 20;

/// The profiles inside this program: name and text.
const BUILTIN: [(&str, &str); 9] = [
    ("raspberry-pi-zero-2w", include_str!("../../profiles/raspberry-pi-zero-2w.toml")),
    ("raspberry-pi-3b-plus", include_str!("../../profiles/raspberry-pi-3b-plus.toml")),
    ("raspberry-pi-4b", include_str!("../../profiles/raspberry-pi-4b.toml")),
    ("raspberry-pi-5", include_str!("../../profiles/raspberry-pi-5.toml")),
    ("jetson-nano", include_str!("../../profiles/jetson-nano.toml")),
    ("jetson-orin-nano", include_str!("../../profiles/jetson-orin-nano.toml")),
    ("jetson-agx-orin", include_str!("../../profiles/jetson-agx-orin.toml")),
    ("generic-linux", include_str!("../../profiles/generic-linux.toml")),
    ("this-machine", include_str!("../../profiles/this-machine.toml")),
];

/// A kind of board.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The file's name without its extension.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Where the facts come from.
    pub source: Vec<String>,
    /// System on chip and its cores.
    pub cpu_model: String,
    /// Cores; the most, where boards of this kind differ.
    pub cores: u16,
    /// Highest clock, MHz, where it is stated.
    pub clock_mhz: Option<u32>,
    /// Architecture version.
    pub instruction_set: String,
    /// Classes that boards of this kind name themselves ([`n2n_protocol::Board::class`]); empty where that differs.
    pub classes: Vec<String>,
    /// Memory of each variant, bytes, smallest first.
    pub memory_bytes: Vec<u64>,
    /// Rust target triple of the agent.
    pub target: String,
    /// Which of the agent's engines runs models.
    pub engine: EngineChoice,
    /// Threads that measurements and the deployed student use.
    pub threads: u16,
    /// Widths are rounded to multiples of this many channels.
    pub channel_multiple: usize,
    /// Limits when none are given, as written after `--limit`.
    pub limits: Vec<String>,
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No profile of that name.
    #[error("profile `{name}`: unknown, expected one of {}", known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// All names there are.
        known: Vec<String>,
        /// Those that look like it.
        near: Vec<String>,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// An unknown key, a missing one, a value of another type or out of its range.
    #[error("{place}: {problem}")]
    Content {
        /// The file, or the built-in profile.
        place: String,
        /// What is wrong.
        problem: String,
    },
}

impl ProfileError {
    /// The next step, for the line after the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { near, .. } if !near.is_empty() => {
                Some(format!("did you mean {}?", near.join(" or ")))
            }
            Self::Unknown { .. } => {
                Some("`n2n profile list` shows them; a path works too: ./NAME.toml".into())
            }
            Self::Io { .. } => None,
            Self::Content { .. } => Some("profiles/README.md documents every key".into()),
        }
    }
}

impl Diagnostic for ProfileError {
    fn exit_code(&self) -> Code {
        match self {
            Self::Unknown { .. } => Code::Usage,
            Self::Io { .. } | Self::Content { .. } => Code::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        self.hint()
    }
}

impl Profile {
    /// Whether this is a profile's path (with a `/`, or ending in `.toml`), and not its name.
    pub fn is_path(name_or_path: &str) -> bool {
        name_or_path.contains('/')
            || Path::new(name_or_path).extension().is_some_and(|extension| extension == "toml")
    }

    /// A profile by its path (with a `/`, or ending in `.toml`), or by its name: in the user's own folder, if there is one,
    /// then among the built-in ones.
    ///
    /// # Errors
    /// An unknown name comes with those that look like it.
    pub fn load(name_or_path: &str, user_folder: Option<&Path>) -> Result<Self, ProfileError> {
        if Self::is_path(name_or_path) {
            return Self::of_file(Path::new(name_or_path));
        }
        if let Some(folder) = user_folder {
            let path = folder.join(format!("{name_or_path}.toml"));
            if path.is_file() {
                return Self::of_file(&path);
            }
        }
        match BUILTIN.iter().find(|(name, _)| *name == name_or_path) {
            Some((name, text)) => Self::parse(name, text, &format!("profile `{name}`")),
            None => Err(unknown(name_or_path, user_folder)),
        }
    }

    /// All built-in profiles.
    ///
    /// # Errors
    /// None in a program that passed its tests.
    pub fn builtin() -> Result<Vec<Self>, ProfileError> {
        BUILTIN.iter().map(|(name, text)| Self::parse(name, text, &format!("profile `{name}`"))).collect()
    }

    /// The profiles in a user's folder; none when there is no such folder.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn in_folder(folder: &Path) -> Result<Vec<Self>, ProfileError> {
        names_in(folder).iter().map(|name| Self::of_file(&folder.join(format!("{name}.toml")))).collect()
    }

    /// Memory of the smallest variant, bytes.
    pub fn smallest_memory_bytes(&self) -> u64 {
        self.memory_bytes.first().copied().unwrap_or(0)
    }

    /// What the profile is about and what the board is, where the two do not fit: another architecture, or a device tree that
    /// names another kind of board. A class that a board's own configuration gives it says nothing about its kind.
    pub fn misfit(&self, board: &n2n_protocol::Board) -> Option<(String, String)> {
        let architecture =
            |name: &str| if name.starts_with("arm") { "arm".to_owned() } else { name.to_owned() };
        let ours = architecture(self.target.split('-').next().unwrap_or_default());
        let theirs = architecture(&board.architecture);
        let of_a_device_tree = board.class.contains(',');
        let other_kind = of_a_device_tree && !self.classes.is_empty() && !self.classes.contains(&board.class);
        (ours != theirs || other_kind).then(|| {
            let expected = format!("{} ({})", self.cpu_model, self.target);
            (expected, format!("{} ({}, {})", board.model, board.architecture, board.class))
        })
    }

    /// The profile of a live board, for its user to complete: what an agent cannot know is what it is for this program.
    pub fn of_board(board: &n2n_protocol::Board) -> Self {
        Self {
            name: board.name.clone(),
            title: board.model.clone(),
            source: vec![format!("the board itself: {} ({})", board.name, board.system)],
            cpu_model: board.model.clone(),
            cores: board.cores.clamp(1, MAX_CORES),
            clock_mhz: None,
            instruction_set: board.architecture.clone(),
            classes: Some(board.class.clone()).filter(|class| class.contains(',')).into_iter().collect(),
            memory_bytes: vec![(board.memory_bytes / MIB).max(1) * MIB],
            target: linux_target(&board.architecture),
            engine: EngineChoice::Auto,
            threads: 1,
            channel_multiple: 8,
            limits: Vec::new(),
        }
    }

    /// The text of a profile file that reads back to this profile.
    pub fn to_toml(&self) -> String {
        let written = Written {
            schema: SCHEMA,
            title: self.title.clone(),
            source: self.source.clone(),
            classes: self.classes.clone(),
            cpu: Cpu {
                model: OrDetect::Known(self.cpu_model.clone()),
                cores: OrDetect::Known(self.cores),
                clock_mhz: self.clock_mhz,
                instruction_set: OrDetect::Known(self.instruction_set.clone()),
            },
            memory: Memory {
                sizes_mib: OrDetect::Known(self.memory_bytes.iter().map(|bytes| bytes / MIB).collect()),
            },
            build: Build { target: OrDetect::Known(self.target.clone()) },
            engine: Engine { name: self.engine.to_string(), threads: self.threads },
            search: Search { channel_multiple: self.channel_multiple, limits: self.limits.clone() },
        };
        // Texts and numbers always have a TOML form.
        toml::to_string(&written).unwrap_or_default()
    }

    fn of_file(path: &Path) -> Result<Self, ProfileError> {
        let io = |source| ProfileError::Io { path: path.into(), source };
        let place = path.display().to_string();
        let mut text = String::new();
        File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(ProfileError::Content {
                place,
                problem: format!("expected at most {MAX_BYTES} bytes"),
            });
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text, &place)
    }

    fn parse(name: &str, text: &str, place: &str) -> Result<Self, ProfileError> {
        let content = |problem: String| ProfileError::Content { place: place.into(), problem };
        let written: Written = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            content(format!("line {line}: {}", error.message().replace('\n', ", ")))
        })?;
        let memory_mib = written.memory.sizes_mib.or_else(|| vec![detect::memory_mib()]);
        let profile = Self {
            name: name.into(),
            title: written.title,
            source: written.source,
            cpu_model: written.cpu.model.or_else(detect::cpu_model),
            cores: written.cpu.cores.or_else(detect::cores),
            clock_mhz: written.cpu.clock_mhz,
            instruction_set: written.cpu.instruction_set.or_else(|| std::env::consts::ARCH.into()),
            classes: written.classes,
            memory_bytes: memory_mib.iter().map(|mib| mib.saturating_mul(MIB)).collect(),
            target: written.build.target.or_else(|| linux_target(std::env::consts::ARCH)),
            engine: written.engine.name.parse().map_err(|error: UnknownEngine| content(error.to_string()))?,
            threads: written.engine.threads,
            channel_multiple: written.search.channel_multiple,
            limits: written.search.limits,
        };
        let in_range = [
            ("schema", written.schema == SCHEMA, format!("{SCHEMA}")),
            ("source", !profile.source.is_empty(), "at least one source".into()),
            ("cpu.cores", (1..=MAX_CORES).contains(&profile.cores), format!("1 to {MAX_CORES}")),
            (
                "cpu.clock_mhz",
                profile.clock_mhz.is_none_or(|clock| (1..=MAX_CLOCK_MHZ).contains(&clock)),
                format!("1 to {MAX_CLOCK_MHZ}"),
            ),
            (
                "memory.sizes_mib",
                profile.smallest_memory_bytes() > 0 && profile.memory_bytes.is_sorted(),
                "at least one size above 0, smallest first".into(),
            ),
            ("engine.threads", (1..=MAX_CORES).contains(&profile.threads), format!("1 to {MAX_CORES}")),
            (
                "search.channel_multiple",
                (1..=MAX_CHANNEL_MULTIPLE).contains(&profile.channel_multiple),
                format!("1 to {MAX_CHANNEL_MULTIPLE}"),
            ),
        ];
        match in_range.into_iter().find(|(_, fits, _)| !fits) {
            Some((key, _, expected)) => Err(content(format!("{key}: expected {expected}"))),
            None => Ok(profile),
        }
    }
}

fn unknown(name: &str, user_folder: Option<&Path>) -> ProfileError {
    let mut known = user_folder.map(names_in).unwrap_or_default();
    known.extend(BUILTIN.iter().map(|(name, _)| (*name).to_owned()));
    let mut near: Vec<(f64, &String)> = known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|near| near.0 >= NEAR)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near = near.into_iter().take(3).map(|(_, name)| name.clone()).collect();
    ProfileError::Unknown { name: name.into(), known, near }
}

/// Names of the profiles in a folder, sorted.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|entry| entry.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// The triple of a Linux with glibc.
fn linux_target(architecture: &str) -> String {
    let suffix =
        if architecture.starts_with("arm") { "unknown-linux-gnueabihf" } else { "unknown-linux-gnu" };
    // The kernel says armv7l and Rust says armv7.
    format!("{}-{suffix}", architecture.trim_end_matches('l'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin_profiles_are_the_files_of_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles");
        let mut builtin: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
        builtin.sort_unstable();
        assert_eq!(names_in(&folder), builtin);
        let profiles = Profile::builtin().unwrap();
        assert_eq!(profiles.len(), BUILTIN.len());
        assert!(profiles.iter().all(|profile| !profile.source.is_empty()));
        assert_eq!(Profile::in_folder(&folder).unwrap().len(), BUILTIN.len());
    }

    #[test]
    fn every_key_is_documented() {
        let readme =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/README.md"))
                .unwrap();
        for (name, text) in BUILTIN {
            for (table, keys) in toml::from_str::<toml::Table>(text).unwrap() {
                let keys = keys.as_table().map_or(vec![table.clone()], |keys| {
                    keys.keys().map(|key| format!("{table}.{key}")).collect()
                });
                for key in keys {
                    assert!(readme.contains(&format!("`{key}`")), "{name}: {key}");
                }
            }
        }
    }

    #[test]
    fn this_machine_is_asked_when_the_profile_is_loaded() {
        let profile = Profile::load("this-machine", None).unwrap();
        assert_eq!(usize::from(profile.cores), std::thread::available_parallelism().unwrap().get());
        assert!(profile.smallest_memory_bytes() > 64 * MIB);
        assert!(profile.target.contains("linux-gnu"), "{}", profile.target);
    }

    #[test]
    fn an_unknown_name_comes_with_its_neighbours() {
        let error = Profile::load("raspberry-pi-4", None).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("profile `raspberry-pi-4`: unknown, expected one of raspberry-pi-zero-2w")
        );
        assert!(error.hint().unwrap().starts_with("did you mean raspberry-pi-4b"), "{:?}", error.hint());
        assert!(Profile::load("zzz", None).unwrap_err().hint().unwrap().contains("profile list"));
        assert!(matches!(Profile::load("./none.toml", None), Err(ProfileError::Io { .. })));
    }

    #[test]
    fn the_users_own_profile_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut own = Profile::load("raspberry-pi-5", None).unwrap();
        own.threads = 3;
        std::fs::write(folder.path().join("raspberry-pi-5.toml"), own.to_toml()).unwrap();
        assert_eq!(Profile::load("raspberry-pi-5", Some(folder.path())).unwrap(), own);
        let path = folder.path().join("raspberry-pi-5.toml");
        assert_eq!(Profile::load(path.to_str().unwrap(), None).unwrap(), own);
        let error = Profile::load("raspberry-pi-55", Some(folder.path())).unwrap_err();
        assert!(error.hint().unwrap().contains("raspberry-pi-5"));
    }

    #[test]
    fn wrong_keys_and_values_are_named_with_their_line() {
        let good = BUILTIN[0].1;
        let cases = [
            (good.replace("threads", "thraeds"), "unknown field `thraeds`"),
            (good.replace("cores = 4\n", ""), "missing field `cores`"),
            (good.replace("cores = 4", "cores = \"many\""), "expected a value in its range, or \"detect\""),
            (good.replace("cores = 4", "cores = 0"), "cpu.cores: expected 1 to 1024"),
            (good.replace("[512]", "[]"), "memory.sizes_mib: expected at least one size"),
            (good.replace("[512]", "[2, 1]"), "smallest first"),
            (good.replace("schema = 1", "schema = 2"), "schema: expected 1"),
            (good.replace("channel_multiple = 8", "channel_multiple = 65"), "expected 1 to 64"),
        ];
        for (text, expected) in cases {
            let error = Profile::parse("x", &text, "x.toml").unwrap_err().to_string();
            assert!(error.starts_with("x.toml: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_profile_fits_boards_of_its_own_kind() {
        let board = |architecture: &str, class: &str| n2n_protocol::Board {
            name: "pi".into(),
            model: "a board".into(),
            class: class.into(),
            architecture: architecture.into(),
            system: "Linux".into(),
            cores: 4,
            memory_bytes: 1 << 30,
            fingerprint: n2n_protocol::Digest([0; 32]),
            engines: vec![],
            conditions: n2n_protocol::Conditions::default(),
        };
        let pi4 = Profile::load("raspberry-pi-4b", None).unwrap();
        assert_eq!(pi4.misfit(&board("aarch64", "raspberrypi,4-model-b")), None);
        assert_eq!(pi4.misfit(&board("aarch64", "aarch64-linux")), None, "nothing is known against it");
        assert_eq!(pi4.misfit(&board("aarch64", "gate camera")), None, "a name of its owner's");
        assert!(pi4.misfit(&board("aarch64", "raspberrypi,5-model-b")).is_some());
        let (expected, got) = pi4.misfit(&board("x86_64", "x86_64-linux")).unwrap();
        assert!(expected.contains("Cortex-A72") && got.contains("x86_64"), "{expected}; {got}");
        let jetson = Profile::load("jetson-nano", None).unwrap();
        assert_eq!(jetson.misfit(&board("aarch64", "nvidia,p3450-0000")), None, "its classes are not listed");
        let here = Profile::load("this-machine", None).unwrap();
        assert_eq!(here.misfit(&board(std::env::consts::ARCH, "here")), None);
        let armv7 = Profile { target: linux_target("armv7l"), ..here };
        assert_eq!(armv7.misfit(&board("arm", "arm-linux")), None);
    }

    #[test]
    fn triples_follow_the_architecture() {
        assert_eq!(linux_target("aarch64"), "aarch64-unknown-linux-gnu");
        assert_eq!(linux_target("armv7l"), "armv7-unknown-linux-gnueabihf");
    }
}
