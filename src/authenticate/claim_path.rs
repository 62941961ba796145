//! Where a claim is found.

use std::fmt;

/// Where a claim is found: member names from the outside in, such as `realm_access.roles`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath(Box<[Box<str>]>);

impl ClaimPath {
    /// Parses a dotted path such as `realm_access.roles`.
    ///
    /// A name in double quotes may hold any character: `"kubernetes.io".namespace`. Within quotes, `\"` is a quote and `\\` a
    /// backslash. Text without quotes that contains `/`, such as `https://example.com/tenant`, is one name.
    ///
    /// Returns `None` for an empty name, and for a quote that is not closed or not followed by a dot.
    pub fn parse(text: &str) -> Option<Self> {
        let names = if text.contains('"') {
            quoted(text)?
        } else if text.contains('/') {
            vec![text.into()]
        } else {
            text.split('.').map(Box::from).collect()
        };
        names.iter().all(|name| !name.is_empty()).then_some(Self(names.into()))
    }

    /// The member names from the outside in.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// The names of a path with quotes in it.
fn quoted(text: &str) -> Option<Vec<Box<str>>> {
    let mut names = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        let mut name = String::new();
        if rest.next_if_eq(&'"').is_some() {
            loop {
                match rest.next()? {
                    '"' => break,
                    '\\' => name.push(rest.next().filter(|c| matches!(c, '"' | '\\'))?),
                    other => name.push(other),
                }
            }
        } else {
            while let Some(other) = rest.next_if(|c| !matches!(c, '.' | '"')) {
                name.push(other);
            }
        }
        names.push(name.into());
        match rest.next() {
            None => return Some(names),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}

/// As [`ClaimPath::parse`] reads it.
impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [name] = &*self.0
            && name.contains('/')
            && !name.contains('"')
        {
            return f.write_str(name);
        }
        for (i, name) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            if name.contains(['.', '/', '"', '\\']) {
                write!(f, "\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))?;
            } else {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ClaimPath;

    #[test]
    fn quoted_names_are_members() {
        for (text, names) in [
            ("realm_access.roles", &["realm_access", "roles"][..]),
            (r#""kubernetes.io".namespace"#, &["kubernetes.io", "namespace"]),
            (
                r#"resource_access."com.example.orders".roles"#,
                &["resource_access", "com.example.orders", "roles"],
            ),
            (r#""https://auth.example.com/claims".tenant"#, &["https://auth.example.com/claims", "tenant"]),
            ("https://auth.example.com/claims/tenant", &["https://auth.example.com/claims/tenant"]),
            (r#""a\"b\\c""#, &[r#"a"b\c"#]),
        ] {
            let path = ClaimPath::parse(text).unwrap();
            assert_eq!(path.names().collect::<Vec<_>>(), names, "{text}");
            assert_eq!(ClaimPath::parse(&path.to_string()), Some(path), "{text}");
        }
        for text in [
            "", ".", "a.", ".a", "a..b", r#"""#, r#""a"#, r#""a"b"#, r#"a"b""#, r#""""#, r#""a\n""#,
            r#""a"."#,
        ] {
            assert_eq!(ClaimPath::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_as_it_is_shown(names in proptest::collection::vec(".{1,8}", 1..4)) {
            let path = ClaimPath(names.into_iter().map(String::into_boxed_str).collect());
            prop_assert_eq!(ClaimPath::parse(&path.to_string()), Some(path));
        }
    }
}
