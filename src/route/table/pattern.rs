//! The paths and methods a route names.

use std::fmt;
use std::sync::Arc;

use http::Method;

use crate::route::path::{CanonicalPath, PathOptOuts, decode};
use crate::types::Shared;

/// Most segments of a pattern: what a search descends at most.
const MAX_SEGMENTS: usize = 64;

/// A path with parameters: `/a/b`, `/a/{id}`, `/a/{*rest}`.
///
/// 1. Literal text is brought to its canonical form as the path of a request is, then compared decoded: `%3A` and `:` are
///    one, and `%2F` is no slash.
/// 2. `{name}` stands for one whole segment that is not empty.
/// 3. `{*rest}`, at the end only, stands for all that follows the slash, even nothing: `/a/{*rest}` matches `/a/` and all
///    below it, not `/a`.
/// 4. A name consists of ASCII letters, digits, `_` and `-`, and occurs once.
#[derive(Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    segments: Box<[Segment]>,
    doubts: PathOptOuts,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::route) enum Segment {
    /// This text, decoded.
    Literal(Box<str>),
    /// Any text, by this name.
    Param(Box<str>),
    /// All that follows, by this name.
    Rest(Box<str>),
}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a sentence without a full stop.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err("a path starts with `/`".to_owned());
        };
        if path.contains(['?', '#']) {
            return Err("a path has no query and no fragment".to_owned());
        }
        let mut parts = Vec::new();
        for part in path.split('/') {
            if matches!(parts.last(), Some(Part::Rest(_))) {
                return Err("`{*…}` is the last segment".to_owned());
            }
            parts.push(Part::parse(part)?);
        }
        if parts.len() > MAX_SEGMENTS {
            return Err(format!("a path has at most {MAX_SEGMENTS} segments"));
        }
        let names: Vec<&str> = parts.iter().filter_map(Part::name).collect();
        if let Some((_, name)) =
            names.iter().enumerate().find(|(i, name)| names.iter().take(*i).any(|earlier| earlier == *name))
        {
            return Err(format!("the parameter `{name}` occurs twice"));
        }
        let (segments, doubts) = canonical(&parts)?;
        Ok(Self { text: text.into(), segments, doubts })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the parameters from the left.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Param(name) | Segment::Rest(name) => Some(&**name),
        })
    }

    /// The doubtful spellings in its literal text. A route that does not opt in to them is never reached.
    pub const fn doubts(&self) -> PathOptOuts {
        self.doubts
    }

    pub(in crate::route) const fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A segment as written.
enum Part<'a> {
    Literal(&'a str),
    Param(&'a str),
    Rest(&'a str),
}

impl<'a> Part<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        if !text.contains(['{', '}']) {
            return Ok(Self::Literal(text));
        }
        let Some(inner) = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
            return Err(format!(
                "`{text}`: a parameter is a whole segment, `{{name}}` or `{{*name}}`; a brace is written `%7B` or `%7D`"
            ));
        };
        let (name, part) = match inner.strip_prefix('*') {
            Some(name) => (name, Self::Rest(name)),
            None => (inner, Self::Param(inner)),
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if name.is_empty() || !name.bytes().all(legal) {
            return Err(format!("`{text}`: a name consists of letters, digits, `_` and `-`"));
        }
        Ok(part)
    }

    const fn name(&self) -> Option<&'a str> {
        match self {
            Self::Literal(_) => None,
            Self::Param(name) | Self::Rest(name) => Some(name),
        }
    }
}

/// Sends the literal text through the normaliser of requests, with a plain letter in the place of each parameter.
fn canonical(parts: &[Part<'_>]) -> Result<(Box<[Segment]>, PathOptOuts), String> {
    let mut skeleton = String::new();
    for part in parts {
        skeleton.push('/');
        skeleton.push_str(match part {
            Part::Literal(text) => text,
            Part::Param(_) | Part::Rest(_) => "x",
        });
    }
    let path = CanonicalPath::parse(&skeleton)
        .map_err(|reject| reject.cause.map_or_else(|| "an ambiguous path".to_owned(), Into::into))?;
    let segments = path
        .as_str()
        .split('/')
        .skip(1)
        .zip(parts)
        .map(|(text, part)| match part {
            Part::Literal(_) => decode(text)
                .map(|text| Segment::Literal(text.into()))
                .ok_or_else(|| "escaped octets that are no UTF-8".to_owned()),
            Part::Param(name) => Ok(Segment::Param((*name).into())),
            Part::Rest(name) => Ok(Segment::Rest((*name).into())),
        })
        .collect::<Result<_, _>>()?;
    Ok((segments, path.doubts()))
}

/// The methods a route answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods(Option<Arc<[Method]>>);

/// What a route without a list of methods says it answers.
const COMMON: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

impl Methods {
    /// All methods but CONNECT and TRACE, which are never routed.
    pub const fn any() -> Self {
        Self(None)
    }

    /// These methods alone: GET does not bring HEAD.
    ///
    /// # Errors
    ///
    /// What is wrong with the list, as a sentence without a full stop: empty, a method twice, CONNECT or TRACE.
    pub fn only(methods: Vec<Method>) -> Result<Self, String> {
        if methods.is_empty() {
            return Err("an empty list answers nothing; leave it out to answer all methods".to_owned());
        }
        for (i, method) in methods.iter().enumerate() {
            if !is_routed(method) {
                return Err(format!("{method} is never routed"));
            }
            if methods.iter().take(i).any(|earlier| earlier == method) {
                return Err(format!("{method} is listed twice"));
            }
        }
        Ok(Self(Some(methods.into())))
    }

    /// Whether the method is one of them.
    pub fn contains(&self, method: &Method) -> bool {
        match &self.0 {
            Some(methods) => methods.contains(method),
            None => is_routed(method),
        }
    }

    /// The methods, the common ones where all are answered.
    pub fn listed(&self) -> &[Method] {
        self.0.as_deref().unwrap_or(&COMMON)
    }

    /// The same methods, in one copy with equal ones.
    pub(super) fn shared(&self, all: &mut Shared<[Method]>) -> Self {
        Self(self.0.as_deref().map(|methods| all.of(methods)))
    }

    /// A method that is in both.
    pub(super) fn shared_with(&self, other: &Self) -> Option<Method> {
        self.listed()
            .iter()
            .find(|method| other.contains(method))
            .or_else(|| other.listed().iter().find(|method| self.contains(method)))
            .cloned()
    }
}

const fn is_routed(method: &Method) -> bool {
    !matches!(*method, Method::CONNECT | Method::TRACE)
}
