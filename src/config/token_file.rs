//! Bearer tokens in files that their issuers replace.

use std::path::Path;

use super::files::{Unreadable, read_regular};
use crate::authenticate::bearer::is_b64token;
use crate::types::Secret;

/// Longest token in bytes: more than any header section holds.
const MAX_TOKEN: usize = 64 << 10;

/// Why a file holds no usable token. The file's content is not shown.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It is empty, or holds white space only.
    #[error("the file is empty")]
    Empty,
    /// It is longer than 64 KiB.
    #[error("the file is longer than 64 KiB")]
    TooLong,
    /// It holds octets that a bearer token cannot hold.
    #[error("the file holds something other than one bearer token: letters, digits and `-._~+/=` only")]
    Malformed,
}

/// Reads a bearer token (RFC 6750 §2.1). White space at its ends is removed.
///
/// # Errors
///
/// A [`TokenFileError`].
pub fn read_bearer_token(path: &Path) -> Result<Secret, TokenFileError> {
    let content = read_regular(path, 1 << 20).map_err(|error| match error {
        Unreadable::TooLong(_) => TokenFileError::TooLong,
        other => TokenFileError::Unreadable(other.to_string()),
    })?;
    let token = content.trim_ascii();
    if token.is_empty() {
        return Err(TokenFileError::Empty);
    }
    if token.len() > MAX_TOKEN {
        return Err(TokenFileError::TooLong);
    }
    let token = std::str::from_utf8(token).ok().filter(|token| is_b64token(token));
    token.map(Secret::new).ok_or(TokenFileError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files_hold_one_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (content, found) in [
            ("eyJ.a_b-c\n", Ok("eyJ.a_b-c")),
            (" abc/+~==\r\n", Ok("abc/+~==")),
            ("", Err("the file is empty")),
            (" \n", Err("the file is empty")),
            (
                "a b",
                Err(
                    "the file holds something other than one bearer token: letters, digits and `-._~+/=` only",
                ),
            ),
            (
                "Bearer a",
                Err(
                    "the file holds something other than one bearer token: letters, digits and `-._~+/=` only",
                ),
            ),
            (
                "a=b",
                Err(
                    "the file holds something other than one bearer token: letters, digits and `-._~+/=` only",
                ),
            ),
            (
                "é",
                Err(
                    "the file holds something other than one bearer token: letters, digits and `-._~+/=` only",
                ),
            ),
            (&"a".repeat(MAX_TOKEN + 1), Err("the file is longer than 64 KiB")),
        ] {
            std::fs::write(&path, content).unwrap();
            let read = read_bearer_token(&path).map_err(|error| error.to_string());
            let read = read.as_ref().map(Secret::expose).map_err(String::as_str);
            assert_eq!(read, found);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read_bearer_token(&path).unwrap_err().to_string(), "no such file");
        assert_eq!(read_bearer_token(folder.path()).unwrap_err().to_string(), "not a regular file");
    }
}
