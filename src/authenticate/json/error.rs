//! Why JSON is not accepted.

use std::fmt;

/// Why a text is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// It is not JSON.
    #[error("not JSON: {0}")]
    Syntax(Box<str>),
    /// It is JSON, but not an object.
    #[error("not an object")]
    NotAnObject,
    /// This member stands twice in one object. Long names are cut.
    #[error("member {0:?} stands twice")]
    DuplicateMember(Box<str>),
    /// It is nested too deep.
    #[error("nested deeper than {0} levels, which is the maximum")]
    TooDeep(usize),
    /// The outer object has too many members.
    #[error("more than {0} members, which is the maximum")]
    TooManyMembers(usize),
    /// It holds too many values.
    #[error("more than {0} values, which is the maximum")]
    TooManyValues(usize),
}

/// Why a document is not accepted, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// Why.
    pub fault: JsonError,
    /// The line and the byte in it, from 1, where reading ended; `None` for what is wrong as a whole.
    pub place: Option<(usize, usize)>,
}

impl std::error::Error for DocumentError {}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "line {line} column {column}: {}", self.fault),
            None => self.fault.fmt(f),
        }
    }
}
