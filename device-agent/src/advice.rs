//! An error for the board's owner: what is wrong, and apart from it the next step.

use std::fmt;

/// What is wrong, and what to do about it. Its text is the first alone, so that a chain of causes stays readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    text: String,
    hint: Option<String>,
}

impl Advice {
    /// An error with a next step.
    pub fn new(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { text: text.into(), hint: Some(hint.into()) }
    }

    /// An error that says all there is to say.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    /// The next step.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The next step in a chain of causes, the outermost that has one.
    pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
        error.chain().find_map(|cause| cause.downcast_ref::<Self>()?.hint())
    }

    /// Say it in the log, where nobody else is there to be told.
    pub fn warn(&self) {
        tracing::warn!(hint = self.hint, "{self}");
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Advice {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_stays_apart_from_the_text_and_is_found_in_a_chain() {
        let advice = Advice::new("no key in /data", "`n2n-agent key` makes one");
        assert_eq!(advice.to_string(), "no key in /data");
        let chain = anyhow::Error::from(advice).context("serving");
        assert_eq!(Advice::hint_of(&chain), Some("`n2n-agent key` makes one"));
        assert_eq!(Advice::hint_of(&anyhow::anyhow!("other")), None);
    }
}
