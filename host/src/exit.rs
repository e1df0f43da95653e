//! How a verb ends: six exit codes, and the one shape of an error message.
//!
//! ```text
//! error: /data/train-images.gz: expected 47040016 bytes, got 1024
//! hint: fetch the file again: apt-get install -y dataset-fashion-mnist
//! ```
//!
//! The thing first, expected against got, then what to do next. This file decides codes and renders text; it prints
//! nothing and knows nothing of terminals.

mod hints;

use std::fmt;

/// What the shell gets to see. The numbers are a promise to scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The verb did what it says.
    Done = 0,
    /// It could not.
    Failed = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// The search finished (or proved it pointless), and no student meets the limits.
    NoStudent = 3,
    /// The board cannot be reached, is busy, or turned us away.
    BoardUnavailable = 4,
    /// The search finished and found a student, and the board does not run it.
    NotShipped = 5,
}

/// An error on its way out of a verb: the chain of causes, the code, and the next step where one is known.
///
/// Not an [`std::error::Error`] itself, so that `?` turns every such error into one of these.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    code: Code,
    hint: Option<String>,
}

impl Failure {
    /// A mistake on the command line or in a configuration file.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Code::Usage, anyhow::anyhow!("{message}"))
    }

    /// An error with a code of its own.
    pub fn new(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), code, hint: None }
    }

    /// The next step; replaces a hint that was there, since the caller knows more than the callee.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// What was being done when it happened.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(what.to_string());
        self
    }

    /// The exit code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The hint, if there is one.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// One line `error: …`, and one line `hint: …` if there is a hint.
    pub fn render(&self) -> String {
        let mut text = format!("error: {self}\n");
        if let Some(hint) = &self.hint {
            text.push_str("hint: ");
            text.push_str(hint);
            text.push('\n');
        }
        text
    }
}

impl fmt::Display for Failure {
    /// The chain of causes as one line, without hint.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&one_line(&self.error))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let (code, hint) = hints::classify(&error);
        Self { error, code, hint }
    }
}

/// Adds what only the caller knows to a failing result.
pub trait ResultExt<T> {
    /// See [`Failure::hint`].
    fn hint(self, text: impl Into<String>) -> Result<T, Failure>;
    /// Sets the exit code.
    fn code(self, code: Code) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> ResultExt<T> for Result<T, E> {
    fn hint(self, text: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| error.into().hint(text))
    }

    fn code(self, code: Code) -> Result<T, Failure> {
        self.map_err(|error| Failure { code, ..error.into() })
    }
}

/// The chain of causes as one line. A cause that its parent already quotes is left out; line breaks of foreign
/// messages (parsers draw little arrows) become spaces.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        if cause.is_empty() || text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_causes_and_a_hint() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "no such\n  file");
        let error = Err::<(), _>(cause).context("/data/train.gz").context("cannot read the training images");
        let failure = error.hint("apt-get install it").unwrap_err();
        assert_eq!(
            failure.render(),
            "error: cannot read the training images: /data/train.gz: no such file\nhint: apt-get install it\n"
        );
        assert_eq!(failure.code(), Code::Failed);
    }

    #[test]
    fn a_cause_that_its_parent_quotes_is_not_repeated() {
        let error = anyhow::anyhow!("port closed").context("board `pi`: port closed");
        assert_eq!(Failure::from(error).render(), "error: board `pi`: port closed\n");
    }

    #[test]
    fn the_callers_hint_and_code_win() {
        let failure =
            Err::<(), _>(Failure::usage("a").hint("old")).hint("new").code(Code::NoStudent).unwrap_err();
        assert_eq!((failure.code(), failure.render()), (Code::NoStudent, "error: a\nhint: new\n".into()));
    }
}
