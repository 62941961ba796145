//! One JWK, from JSON to the keys it makes.

use aws_lc_rs::signature::{self as crypto, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, ThumbprintHash};
use serde::Deserialize as _;

use super::{MAX_KID, VerificationKey, roca};
use crate::authenticate::json::{Json, Object};
use crate::authenticate::{Algorithm, AlgorithmSet, KeyThumbprint};

/// Members that only private or symmetric keys have (RFC 7518 §6.2.2, §6.3.2, §6.4). Who finds one in a published set must
/// take the key for known to everybody.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Bits of an RSA modulus: shorter is weak (RFC 7518 §3.3), longer costs too much to verify.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Smallest public exponent. Smaller ones are legal, unneeded, and have a history of forged signatures.
const MIN_EXPONENT: u64 = 65_537;

/// The keys a JWK makes: one for each algorithm it may serve. The error says why it makes none.
pub(super) fn parse(item: &Json, allowed: AlgorithmSet) -> Result<Vec<VerificationKey>, &'static str> {
    let object = item.as_object().ok_or("it is not an object")?;
    if PRIVATE.iter().any(|name| object.get_set(name).is_some()) {
        return Err("it holds private or symmetric key material");
    }
    let kid = match object.get_set("kid") {
        None => None,
        Some(_) => Some(kid(object).ok_or("its kid is not a string of 1 to 256 bytes")?),
    };
    check_purpose(object)?;

    let parameters = parameters(object)?;
    let fitting = match &parameters {
        AlgorithmParameters::RSA(_) => RSA.as_slice(),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::Es256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::Es384],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P521 => &[Algorithm::Es512],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &ED25519,
        _ => return Err("its kty or crv is not supported"),
    };
    let algorithms = algorithms(object, fitting, allowed)?;
    let thumbprint = thumbprint(&parameters)?;
    algorithms
        .into_iter()
        .map(|algorithm| {
            Ok(VerificationKey {
                kid: kid.map(Box::from),
                algorithm,
                thumbprint,
                parsed: material(&parameters, algorithm)?,
            })
        })
        .collect()
}

/// The `kid`, if it is a string of legal length.
pub(super) fn kid(object: &Object) -> Option<&str> {
    object.get_set("kid")?.as_str().filter(|kid| (1..=MAX_KID).contains(&kid.len()))
}

/// The one `kty` of an algorithm.
pub(in crate::authenticate) const fn key_type(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => "RSA",
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => "EC",
        Algorithm::EdDsa | Algorithm::Ed25519 => "OKP",
    }
}

const RSA: [Algorithm; 6] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];

/// Two names of one algorithm: a key with the one serves tokens with the other (RFC 9864 §2.2).
const ED25519: [Algorithm; 2] = [Algorithm::EdDsa, Algorithm::Ed25519];

/// `use` and `key_ops`, where they are there, must permit verifying (RFC 7517 §4.2 – §4.3).
fn check_purpose(object: &Object) -> Result<(), &'static str> {
    match object.get_set("use") {
        None => {}
        Some(purpose) if purpose.as_str() == Some("sig") => {}
        Some(_) => return Err("its use is not sig"),
    }
    match object.get_set("key_ops") {
        None => Ok(()),
        Some(Json::Array(operations)) if operations.iter().any(|op| op.as_str() == Some("verify")) => Ok(()),
        Some(_) => Err("its key_ops do not hold verify"),
    }
}

/// The typed parameters. Only members that belong to the type are handed on, so that nothing else can disturb.
fn parameters(object: &Object) -> Result<AlgorithmParameters, &'static str> {
    let members = ["kty", "crv", "x", "y", "n", "e"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), serde_json::Value::from(object.get_set(name)?))))
        .collect();
    AlgorithmParameters::deserialize(serde_json::Value::Object(members))
        .map_err(|_| "its members do not fit its kty")
}

/// The algorithms that the key's type, its `alg` and the issuer's list all permit.
fn algorithms(
    object: &Object,
    fitting: &[Algorithm],
    allowed: AlgorithmSet,
) -> Result<Vec<Algorithm>, &'static str> {
    let fits = |algorithm: &Algorithm| fitting.contains(algorithm);
    let wanted = match object.get_set("alg") {
        None => fitting.to_vec(),
        Some(alg) => match alg.as_str().and_then(Algorithm::from_name) {
            Some(algorithm) if fits(&algorithm) && ED25519.contains(&algorithm) => ED25519.to_vec(),
            Some(algorithm) if fits(&algorithm) => vec![algorithm],
            Some(_) => return Err("its alg does not fit its kty and crv"),
            None => return Err("its alg is not a supported signature algorithm"),
        },
    };
    let usable: Vec<_> = wanted.into_iter().filter(|algorithm| allowed.contains(*algorithm)).collect();
    if usable.is_empty() {
        return Err("the issuer's `algorithms` do not allow it");
    }
    Ok(usable)
}

fn thumbprint(parameters: &AlgorithmParameters) -> Result<KeyThumbprint, &'static str> {
    // The thumbprint is made of the members' text: it must be base64url before it goes there.
    match parameters {
        AlgorithmParameters::RSA(key) => {
            decode(&key.n)?;
            decode(&key.e)?;
        }
        AlgorithmParameters::EllipticCurve(key) => {
            decode(&key.x)?;
            decode(&key.y)?;
        }
        AlgorithmParameters::OctetKeyPair(key) => {
            decode(&key.x)?;
        }
        _ => return Err("its kty or crv is not supported"),
    }
    let jwk = Jwk { common: CommonParameters::default(), algorithm: parameters.clone() };
    let text = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| "it has no thumbprint")?;
    let bytes = decode(&text)?;
    Ok(KeyThumbprint(bytes.try_into().map_err(|_| "it has no thumbprint")?))
}

/// Parses the key once, for one algorithm.
fn material(parameters: &AlgorithmParameters, algorithm: Algorithm) -> Result<ParsedPublicKey, &'static str> {
    match algorithm {
        Algorithm::Rs256 => rsa(parameters, &crypto::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => rsa(parameters, &crypto::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => rsa(parameters, &crypto::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => rsa(parameters, &crypto::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => rsa(parameters, &crypto::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => rsa(parameters, &crypto::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 => ec(parameters, &crypto::ECDSA_P256_SHA256_FIXED, 32),
        Algorithm::Es384 => ec(parameters, &crypto::ECDSA_P384_SHA384_FIXED, 48),
        Algorithm::Es512 => ec(parameters, &crypto::ECDSA_P521_SHA512_FIXED, 66),
        Algorithm::EdDsa | Algorithm::Ed25519 => ed25519(parameters),
    }
}

fn rsa(
    parameters: &AlgorithmParameters,
    scheme: &'static RsaParameters,
) -> Result<ParsedPublicKey, &'static str> {
    let AlgorithmParameters::RSA(key) = parameters else {
        return Err("it is not an RSA key");
    };
    let (n, e) = (decode(&key.n)?, decode(&key.e)?);
    let (n, e) = (without_zeros(&n), without_zeros(&e));
    let leading = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&(n.len() * 8).saturating_sub(leading)) {
        return Err("its modulus is not of 2048 to 8192 bits");
    }
    if n.last().is_none_or(|byte| byte % 2 == 0) {
        return Err("its modulus is even");
    }
    if roca::is_marked(n) {
        return Err("it was made by a library whose keys can be broken (CVE-2017-15361)");
    }
    let exponent = (e.len() <= 8).then(|| e.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte)));
    if !exponent.is_some_and(|e| e >= MIN_EXPONENT && e % 2 == 1) {
        return Err("its exponent is not an odd number from 65537");
    }
    RsaPublicKeyComponents { n, e }.to_parsed_public_key(scheme).map_err(|_| "it is not a valid RSA key")
}

fn ec(
    parameters: &AlgorithmParameters,
    scheme: &'static crypto::EcdsaVerificationAlgorithm,
    width: usize,
) -> Result<ParsedPublicKey, &'static str> {
    let AlgorithmParameters::EllipticCurve(key) = parameters else {
        return Err("it is not an EC key");
    };
    let (x, y) = (decode(&key.x)?, decode(&key.y)?);
    if x.len() != width || y.len() != width {
        return Err("its coordinates are not as long as its curve asks");
    }
    // An uncompressed point (SEC 1 §2.3.3); whether it is on the curve is checked by the parser.
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    ParsedPublicKey::new(scheme, point).map_err(|_| "its point is not on its curve")
}

fn ed25519(parameters: &AlgorithmParameters) -> Result<ParsedPublicKey, &'static str> {
    let AlgorithmParameters::OctetKeyPair(key) = parameters else {
        return Err("it is not an OKP key");
    };
    let x = decode(&key.x)?;
    if x.len() != crypto::ED25519_PUBLIC_KEY_LEN {
        return Err("its x is not 32 bytes long");
    }
    ParsedPublicKey::new(&crypto::ED25519, x).map_err(|_| "its x is not a valid point")
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "its members are not strict base64url")
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}
