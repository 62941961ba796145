//! `${NAME}` in scalars.
//!
//! 1. Expansion happens after parsing, scalar by scalar: a value cannot add keys, items or lines to the policy.
//! 2. A variable that is not set is an error, never an empty text.
//!    Nor may a value begin with a byte order mark, which nobody sees.
//! 3. `$${` stands for `${`; any other `$` stands for itself. What came from a variable is not expanded again.

use std::borrow::Cow;

/// Looks up a variable of the environment.
pub(in crate::config) type Lookup<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Expands a scalar. `None` if there is nothing to expand. The names of variables with white space at an end of their values are
/// told to `padded`: it is often a line end that came along by accident.
///
/// # Errors
///
/// What is wrong; the value of a variable is never part of it.
pub(super) fn expand(
    text: &str,
    env: Lookup<'_>,
    padded: &mut dyn FnMut(&str),
) -> Result<Option<Cow<'static, str>>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| "`${` without `}`: write `$${` for a literal `${`".to_owned())?;
        if !is_name(name) {
            return Err("the name in `${…}` is not a variable's: letters, digits and `_`".to_owned());
        }
        let value = env(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))?;
        if value.starts_with('\u{feff}') {
            return Err(format!("the value of `{name}` begins with a byte order mark: set it without one"));
        }
        if value.trim() != value {
            padded(name);
        }
        expanded.push_str(before);
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(Some(expanded.into()))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
