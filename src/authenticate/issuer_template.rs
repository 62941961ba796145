//! Issuers that differ in one part of their `iss`, such as the tenants of an identity provider.

use super::ClaimPath;

/// The `iss` of many issuers with the same keys: text with one claim in braces, such as
/// `https://login.example.com/{tid}/v2.0`.
///
/// A token's `iss` must name there what the token says in that claim, so that one tenant's tokens cannot pass for those of
/// another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerTemplate {
    before: Box<str>,
    /// The claim in braces.
    pub claim: ClaimPath,
    after: Box<str>,
}

impl IssuerTemplate {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// What is wrong, if there is other than exactly one pair of braces, no claim in it, or the host is not before it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let braces = "a template has one claim in braces, such as `https://login.example.com/{tid}/v2.0`";
        let (before, rest) = text.split_once('{').ok_or(braces)?;
        let (claim, after) = rest.split_once('}').ok_or(braces)?;
        if [before, claim, after].iter().any(|part| part.contains(['{', '}'])) {
            return Err(braces);
        }
        if Self::origin(before).is_none() {
            return Err("the claim must be in the path: anybody can have a host of that form");
        }
        let claim = ClaimPath::parse(claim).ok_or(braces)?;
        Ok(Self { before: before.into(), claim, after: after.into() })
    }

    /// What the `iss` names in place of the claim, if it is of this form: one or more unreserved characters (RFC 3986 §2.3),
    /// so never more than one segment of the path.
    pub fn value<'i>(&self, iss: &'i str) -> Option<&'i str> {
        let value = iss.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        (!value.is_empty() && value.bytes().all(unreserved)).then_some(value)
    }

    /// The origin of all its issuers, by which a template is found.
    pub(super) fn own_origin(&self) -> &str {
        Self::origin(&self.before).unwrap_or(&self.before)
    }

    /// Scheme and authority, if a path follows them.
    pub(super) fn origin(iss: &str) -> Option<&str> {
        let (scheme, rest) = iss.split_once("://")?;
        let authority = rest.find('/').filter(|end| *end > 0)?;
        iss.get(..scheme.len() + "://".len() + authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_one_segment() {
        let template = IssuerTemplate::parse("https://login.example/{tid}/v2.0").unwrap();
        assert_eq!(template.claim, ClaimPath::parse("tid").unwrap());
        assert_eq!(template.own_origin(), "https://login.example");
        for (iss, value) in [
            ("https://login.example/acme/v2.0", Some("acme")),
            ("https://login.example/1-a.b_c~/v2.0", Some("1-a.b_c~")),
            ("https://login.example//v2.0", None),
            ("https://login.example/v2.0", None),
            ("https://login.example/a/b/v2.0", None),
            ("https://login.example/a%2Fb/v2.0", None),
            ("https://login.example/{tid}/v2.0", None),
            ("https://login.example/a b/v2.0", None),
            ("https://login.example/acme/v2.0/", None),
            ("https://login.example/acme/V2.0", None),
            ("http://login.example/acme/v2.0", None),
            ("https://login.example.evil/acme/v2.0", None),
        ] {
            assert_eq!(template.value(iss), value, "{iss}");
        }
    }

    #[test]
    fn templates_of_another_form_are_refused() {
        for text in [
            "https://login.example/",
            "https://login.example/{tid",
            "https://login.example/tid}",
            "https://login.example/{}/v2.0",
            "https://login.example/{a}/{b}",
            "https://login.example/{{a}}",
            "https://{tenant}.example/",
            "https://{tenant}.example",
            "https:///{tenant}",
            "{tid}",
        ] {
            assert!(IssuerTemplate::parse(text).is_err(), "{text}");
        }
    }
}
