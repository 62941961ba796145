//! The second spelling of a token that is signed with ECDSA.
//!
//! Whoever verifies (r, s) verifies (r, n − s) too, so who holds such a token can write it in one other way without its key.
//! Both are good: issuers use either half of the numbers, so neither can be refused. But they are one token, and must not be
//! remembered as two.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The order n of P-256 (SP 800-186 §3.2.1.3), big-endian.
const P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The order n of P-384 (SP 800-186 §3.2.1.4), big-endian.
const P384: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a,
    0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// The order n of P-521 (SP 800-186 §3.2.1.5), big-endian.
const P521: [u8; 66] = [
    0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa,
    0x51, 0x86, 0x87, 0x83, 0xbf, 0x2f, 0x96, 0x6b, 0x7f, 0xcc, 0x01, 0x48, 0xf7, 0x09, 0xa5, 0xd0, 0x3b,
    0xb5, 0xc9, 0xb8, 0x89, 0x9c, 0x47, 0xae, 0xbb, 0x6f, 0xb7, 0x1e, 0x91, 0x38, 0x64, 0x09,
];

/// The token with the twin of its signature; `None` for one whose signature has another length than those of ECDSA.
///
/// An Ed25519 signature is as long as one on P-256. What is made of it is no token anybody has.
pub fn of(token: &str) -> Option<String> {
    let (message, signature) = token.rsplit_once('.')?;
    let order = match signature.len() {
        86 => P256.as_slice(),
        128 => P384.as_slice(),
        176 => P521.as_slice(),
        _ => return None,
    };
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).ok()?;
    negate(bytes.get_mut(order.len()..)?, order)?;
    let mut twin = String::with_capacity(token.len());
    twin.push_str(message);
    twin.push('.');
    URL_SAFE_NO_PAD.encode_string(bytes, &mut twin);
    Some(twin)
}

/// Makes `order - number` of the number; `None` if it is larger.
fn negate(number: &mut [u8], order: &[u8]) -> Option<()> {
    let mut borrow = false;
    for (digit, of) in number.iter_mut().zip(order).rev() {
        let (once, first) = of.overflowing_sub(*digit);
        let (twice, second) = once.overflowing_sub(u8::from(borrow));
        *digit = twice;
        borrow = first || second;
    }
    (!borrow).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::testing::{self, P256, P384, P521};
    use crate::authenticate::{Algorithm, keys::KeySet};
    use crate::authenticate::{AlgorithmSet, keys::VerificationKey};

    fn verifies(key: &VerificationKey, token: &str) -> bool {
        let (message, signature) = token.rsplit_once('.').unwrap();
        key.verifies(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
    }

    #[test]
    fn the_twin_of_a_good_token_is_as_good_and_its_twin_is_the_token() {
        for (algorithm, key) in
            [(Algorithm::Es256, &P256), (Algorithm::Es384, &P384), (Algorithm::Es512, &P521)]
        {
            let jwks = serde_json::json!({ "keys": [key.jwk("k")] }).to_string();
            let (set, _) = KeySet::from_jwks(jwks.as_bytes(), AlgorithmSet::from_iter([algorithm])).unwrap();
            let token = key.sign(algorithm, &testing::header(algorithm, "k"), &testing::claims());
            let twin = of(&token).unwrap();
            let verifier = set.iter().next().unwrap();
            assert!(
                twin != token && verifies(verifier, &token) && verifies(verifier, &twin),
                "{algorithm:?}"
            );
            assert_eq!(of(&twin).as_deref(), Some(token.as_str()), "{algorithm:?}");
        }
    }

    #[test]
    fn what_has_no_twin_has_none() {
        let signature =
            |byte: u8, length: usize| format!("a.b.{}", URL_SAFE_NO_PAD.encode(vec![byte; length]));
        for (token, why) in [
            (String::new(), "nothing"),
            ("a".into(), "no dots"),
            (signature(1, 256), "RSA"),
            (signature(1, 63), "short"),
            (signature(0xff, 64), "s above n"),
            (signature(0xff, 96), "s above n, P-384"),
            (format!("a.b.{}", "+".repeat(86)), "no base64url"),
        ] {
            assert_eq!(of(&token), None, "{why}");
        }
    }
}
