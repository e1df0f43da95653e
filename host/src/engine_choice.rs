//! Which engine of a board runs models: what a user writes, and what it means on one board.

use std::fmt;
use std::str::FromStr;

use n2n_protocol::{Board, EngineId};

use crate::exit::{Code, Diagnostic};

/// Engines that agents may have.
const KNOWN: [&str; 2] = ["tract", "onnxruntime"];
const AUTO: &str = "auto";

/// An engine, or the board's own choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The board's first: its ONNX Runtime if it has one, else tract.
    #[default]
    Auto,
    /// This one.
    Named(String),
}

/// A board that lacks the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("engine {wanted} is not on board {board}, which has {}", has.join(", "))]
pub struct EngineMissing {
    wanted: String,
    board: String,
    has: Vec<String>,
}

/// A word that is no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("engine `{0}`: expected auto, tract or onnxruntime")]
pub struct UnknownEngine(String);

impl Diagnostic for UnknownEngine {
    fn exit_code(&self) -> Code {
        Code::Usage
    }
}

impl Diagnostic for EngineMissing {
    fn exit_code(&self) -> Code {
        Code::Usage
    }

    fn next_step(&self) -> Option<String> {
        Some(
            "--engine auto takes what the board has; `n2n-agent doctor` on the board says why a library is not used, `agent.toml` names one"
                .into(),
        )
    }
}

impl EngineChoice {
    /// The engine that it means on a board.
    ///
    /// # Errors
    /// The board has no such engine, or none at all.
    pub fn on<'a>(&self, board: &'a Board) -> Result<&'a EngineId, EngineMissing> {
        let found = match self {
            Self::Auto => board.engines.first(),
            Self::Named(name) => board.engines.iter().find(|engine| engine.name == *name),
        };
        found.ok_or_else(|| EngineMissing {
            wanted: self.to_string(),
            board: board.name.clone(),
            has: board.engines.iter().map(|engine| engine.name.clone()).collect(),
        })
    }
}

impl FromStr for EngineChoice {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        match text {
            AUTO => Ok(Self::Auto),
            name if KNOWN.contains(&name) => Ok(Self::Named(name.to_owned())),
            _ => Err(UnknownEngine(text.to_owned())),
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => AUTO,
            Self::Named(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use n2n_protocol::{Conditions, Digest};

    use super::*;

    fn board(engines: &[&str]) -> Board {
        let engine = |name: &&str| EngineId { name: (*name).to_owned(), version: "1".into() };
        Board {
            name: "pi".into(),
            model: String::new(),
            class: String::new(),
            architecture: String::new(),
            system: String::new(),
            cores: 1,
            memory_bytes: 1,
            fingerprint: Digest([0; 32]),
            engines: engines.iter().map(engine).collect(),
            conditions: Conditions::default(),
        }
    }

    #[test]
    fn a_choice_is_a_word_and_back() {
        for word in ["auto", "tract", "onnxruntime"] {
            assert_eq!(word.parse::<EngineChoice>().unwrap().to_string(), word);
        }
        let error = "ort".parse::<EngineChoice>().unwrap_err().to_string();
        assert_eq!(error, "engine `ort`: expected auto, tract or onnxruntime");
    }

    #[test]
    fn a_board_takes_its_first_engine_or_the_named_one_or_says_what_it_has() {
        let both = board(&["onnxruntime", "tract"]);
        assert_eq!(EngineChoice::Auto.on(&both).unwrap().name, "onnxruntime");
        let named = |name: &str| EngineChoice::Named(name.into());
        assert_eq!(named("tract").on(&both).unwrap().name, "tract");
        let error = named("onnxruntime").on(&board(&["tract"])).unwrap_err().to_string();
        assert_eq!(error, "engine onnxruntime is not on board pi, which has tract");
    }
}
