//! Texts that came from a peer or a file, made safe to show: one line, no orders to a terminal.

use alloc::borrow::Cow;
use alloc::string::String;

/// The text with every character that a terminal would obey, or that would hide or reorder others, written as an escape:
/// control characters (escape, newline), direction marks, and characters without width.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    Cow::Owned(shown)
}

/// Whether a character is not seen as itself.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_to_a_terminal_become_text_and_names_stay() {
        for name in ["n2n of zoë on pi-4, process 12", "学生 7", ""] {
            assert!(matches!(printable(name), Cow::Borrowed(same) if same == name));
        }
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}1m"), "a\\u{1b}[2Jb\\nc\\u{9b}1m");
        assert_eq!(printable("left\u{202e}thgir\u{200b}"), "left\\u{202e}thgir\\u{200b}");
    }
}
