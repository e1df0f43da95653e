//! How a verb ends: six exit codes, and the one shape of an error message.
//!
//! ```text
//! error: /data/train-images.gz: expected 47040016 bytes, got 1024
//! hint: fetch the file again: apt-get install -y dataset-fashion-mnist
//! ```
//!
//! The thing first, expected against got, then what to do next. Which code and which next step an error has, it says itself
//! ([`Diagnostic`]): this file knows no other room, renders text, prints nothing and knows nothing of terminals.

use n2n_protocol::text::printable;
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

/// What an error tells a user beside its text. Implemented by the errors themselves, in their own rooms: an error that
/// quotes another one passes on what that one says.
pub trait Diagnostic: std::error::Error + Send + Sync + 'static {
    /// The exit code of a verb that ends with this error.
    fn exit_code(&self) -> Code {
        Code::Failed
    }

    /// What the user can do next, without the word "hint"; `None` where nothing better than the text is known.
    fn next_step(&self) -> Option<String> {
        None
    }
}

// The system's own errors: what is wrong stands in their text, with the context that a verb adds.
impl Diagnostic for std::io::Error {}

/// An error on its way out of a verb: the chain of causes, the code, and the next step where one is known.
///
/// Not an [`std::error::Error`] itself, so that `?` turns every [`Diagnostic`] into one of these. Errors of other kinds have
/// no conversion: a code and a hint cannot be lost on the way by accident.
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

    /// A message with the code for what could not be done.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Code::Failed, anyhow::anyhow!("{message}"))
    }

    /// An error with the code that the caller chooses.
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

impl<E: Diagnostic> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: error.exit_code(), hint: error.next_step(), error: error.into() }
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
        // What a board or a file said must not give orders to the terminal.
        let cause = printable(&cause);
        if cause.is_empty() || text.contains(&*cause) {
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
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_causes_and_a_hint() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "no such\n  file");
        let failure =
            Failure::from(cause).context("/data/train.gz").context("cannot read the training images");
        let failure = Err::<(), _>(failure).hint("apt-get install it").unwrap_err();
        assert_eq!(
            failure.render(),
            "error: cannot read the training images: /data/train.gz: no such file\nhint: apt-get install it\n"
        );
        assert_eq!(failure.code(), Code::Failed);
    }

    #[test]
    fn what_a_board_says_gives_no_orders_to_the_terminal() {
        let failure = Failure::failed("board x refused: \x1b[2Jgone\u{202e}");
        assert_eq!(failure.to_string(), "board x refused: \\u{1b}[2Jgone\\u{202e}");
    }

    #[test]
    fn a_cause_that_its_parent_quotes_is_not_repeated() {
        let failure = Failure::failed("port closed").context("board `pi`: port closed");
        assert_eq!(failure.render(), "error: board `pi`: port closed\n");
    }

    #[test]
    fn an_error_brings_its_own_code_and_next_step_and_keeps_them_in_context() {
        #[derive(Debug, thiserror::Error)]
        #[error("the board is off")]
        struct Off;
        impl Diagnostic for Off {
            fn exit_code(&self) -> Code {
                Code::BoardUnavailable
            }
            fn next_step(&self) -> Option<String> {
                Some("switch it on".into())
            }
        }
        let failure = Failure::from(Off).context("pi");
        assert_eq!(failure.code(), Code::BoardUnavailable);
        assert_eq!(failure.render(), "error: pi: the board is off\nhint: switch it on\n");
    }

    #[test]
    fn the_callers_hint_and_code_win() {
        let failure =
            Err::<(), _>(Failure::usage("a").hint("old")).hint("new").code(Code::NoStudent).unwrap_err();
        assert_eq!((failure.code(), failure.render()), (Code::NoStudent, "error: a\nhint: new\n".into()));
    }
}
