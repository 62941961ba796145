//! The fingerprint of a public key that a server must have.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What every pin begins with. SHA-256 is the only digest that is taken, as in RFC 7469 §2.1.1.
const PREFIX: &str = "sha256/";

/// The SHA-256 of a key's SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), written `sha256/` and base64, as curl writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyPin([u8; 32]);

/// A text is not a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pin is `sha256/` and the base64 of 32 bytes, such as `sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=`"
)]
pub struct NotAPin;

impl KeyPin {
    /// The pin of the key with this SubjectPublicKeyInfo in DER.
    pub fn of(spki: &[u8]) -> Self {
        let mut bytes = [0; 32];
        // SHA-256 has 32 bytes: nothing is left over on either side.
        for (to, from) in bytes.iter_mut().zip(digest(&SHA256, spki).as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }
}

impl FromStr for KeyPin {
    type Err = NotAPin;

    /// Base64 has one spelling: padded, with the alphabet of RFC 4648 §4, and no spare bits set.
    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let encoded = text.strip_prefix(PREFIX).ok_or(NotAPin)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NotAPin)?;
        Ok(Self(bytes.try_into().map_err(|_| NotAPin)?))
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_has_one_spelling() {
        // SHA-256 of nothing.
        let empty = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(empty.parse(), Ok(KeyPin::of(b"")));
        assert_eq!(KeyPin::of(b"").to_string(), empty);
        for wrong in [
            "",
            "sha256/",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "SHA256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "sha256/47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==",
            " sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha1/2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
        ] {
            assert_eq!(wrong.parse::<KeyPin>(), Err(NotAPin), "{wrong:?}");
        }
    }
}
