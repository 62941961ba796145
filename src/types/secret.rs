//! A secret that cannot be printed by accident.

use std::fmt;

/// A secret from a file or the environment. `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret as it is, one trailing line end removed by the reader.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Compares in constant time, so that an answer's delay tells nothing about the secret.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), candidate).is_ok()
    }

    /// The secret itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}
