//! The little HTML that the page needs. Every text that comes from outside goes through [`escape`].

/// Text that is safe between tags and inside quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A table of numbers: first column is the row's name. Cells are ready HTML.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let head = all(header.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name))));
    let body = all(rows.into_iter().map(row));
    format!(
        "<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )
}

fn row(cells: Vec<String>) -> String {
    let mut cells = cells.into_iter();
    let name = cells.next().unwrap_or_default();
    let rest = all(cells.map(|cell| format!("<td>{cell}</td>")));
    format!("<tr><th scope=\"row\">{name}</th>{rest}</tr>\n")
}

/// A table of facts by name; escapes both.
pub(super) fn facts(rows: &[(String, String)]) -> String {
    let body = all(rows.iter().map(|(name, value)| {
        format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(name), escape(value))
    }));
    format!("<div class=\"scroll\"><table class=\"words\"><tbody>{body}</tbody></table></div>\n")
}

/// A drawing with its legend; the label is what a screen reader says.
pub(super) fn figure(label: &str, svg: &str, legend: &[(&str, &str, &str)]) -> String {
    let items = all(legend.iter().map(|(class, colour, text)| {
        let paint = if class.contains("line") { "border-color" } else { "background" };
        format!("<li><i class=\"{class}\" style=\"{paint}:var(--{colour})\"></i>{}</li>", escape(text))
    }));
    format!(
        "<figure role=\"img\" aria-label=\"{}\">{svg}<ul class=\"legend\">{items}</ul></figure>\n",
        escape(label)
    )
}

/// One after the other.
pub(super) fn all(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_is_only_text() {
        assert_eq!(escape(r#"<b a="1">&'"#), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
        assert!(!facts(&[("<script>".into(), "</td>".into())]).contains("<script>"));
    }
}
