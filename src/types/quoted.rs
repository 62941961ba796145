//! Text from tokens, requests and the policy in messages for the operator: bounded, and on one line.

use std::fmt::{self, Write as _};

/// Longest text that is shown of one value, and about the longest of a list, in bytes.
const MAX_SHOWN: usize = 200;

/// A value in backquotes, cut after 200 bytes. Control characters and backquotes are escaped, so that a value cannot pass
/// for the words around it.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Back to the boundary of a character, which is at most three bytes away.
        let end = (0..=MAX_SHOWN.min(self.0.len())).rev().find(|end| self.0.is_char_boundary(*end));
        let shown = self.0.get(..end.unwrap_or(0)).unwrap_or_default();
        f.write_char('`')?;
        for character in shown.chars() {
            match character {
                '`' => f.write_str("\\`")?,
                _ if character.is_control() => write!(f, "{}", character.escape_default())?,
                _ => f.write_char(character)?,
            }
        }
        f.write_str(if shown.len() < self.0.len() { "…`" } else { "`" })
    }
}

/// Values in backquotes, separated by commas, as many as 200 bytes hold; `nothing` for an empty list.
pub fn quoted_list<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut values = values.into_iter();
    let mut text = String::new();
    while let Some(value) = values.next() {
        if text.len() + value.len() > MAX_SHOWN && !text.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(text, " and {} more", 1 + values.count());
            return text;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        let _ = write!(text, "{}", Quoted(value));
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bounded_and_on_one_line() {
        for (value, shown) in [
            ("acme", "`acme`".to_owned()),
            ("", "``".to_owned()),
            ("a`b\nc\u{1b}", "`a\\`b\\nc\\u{1b}`".to_owned()),
            (&"x".repeat(200), format!("`{}`", "x".repeat(200))),
            (&"x".repeat(201), format!("`{}…`", "x".repeat(200))),
            (&"é".repeat(101), format!("`{}…`", "é".repeat(100))),
            (&format!("x{}", "é".repeat(100)), format!("`x{}…`", "é".repeat(99))),
        ] {
            assert_eq!(Quoted(value).to_string(), shown);
        }
    }

    #[test]
    fn lists_are_bounded() {
        assert_eq!(quoted_list([]), "nothing");
        assert_eq!(quoted_list(["a"]), "`a`");
        assert_eq!(quoted_list(["a", "b c"]), "`a`, `b c`");
        let many = vec!["0123456789"; 1000];
        let text = quoted_list(many.iter().copied());
        assert!(text.len() < 250 && text.ends_with(" more"), "{text}");
        let long = "y".repeat(100_000);
        let text = quoted_list([long.as_str(), "z"]);
        assert!(text.len() < 250 && text.ends_with("…` and 1 more"), "{text}");
    }
}
