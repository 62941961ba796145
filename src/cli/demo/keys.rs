//! The demo issuer's keys: kept in `certs/`, so that a token outlives a restart of the demo. Never for production.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

/// One signing key.
pub(super) struct SigningKey {
    pub(super) kid: &'static str,
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("{0}: {1}")]
    File(String, io::Error),
    #[error("{0} holds no private key in PEM")]
    Pem(String),
    #[error("the key cannot be made")]
    Make(#[from] aws_lc_rs::error::Unspecified),
    #[error("the key cannot be used: {0}")]
    Use(#[from] jsonwebtoken::errors::Error),
}

/// Reads the keys, and makes those that are missing.
pub(super) fn load_or_make(folder: &Path) -> Result<Vec<SigningKey>, KeyError> {
    let ec = load(folder, "demo-es256.key", || {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        Ok(pair.to_pkcs8v1()?.as_ref().to_vec())
    })?;
    let ed = load(folder, "demo-eddsa.key", || {
        let pair = Ed25519KeyPair::generate()?;
        Ok(pair.to_pkcs8v1()?.as_ref().to_vec())
    })?;
    Ok(vec![
        SigningKey { kid: "demo-es256", algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(&ec) },
        SigningKey { kid: "demo-eddsa", algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(&ed) },
    ])
}

/// The PKCS#8 key in a file, made first if the file is missing.
fn load(
    folder: &Path,
    name: &str,
    make: impl FnOnce() -> Result<Vec<u8>, aws_lc_rs::error::Unspecified>,
) -> Result<Vec<u8>, KeyError> {
    let path = folder.join(name);
    let shown = || path.display().to_string();
    match std::fs::read(&path) {
        Ok(text) => {
            let key = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| KeyError::Pem(shown()))?;
            Ok(key.secret_pkcs8_der().to_vec())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = make()?;
            write_private(&path, pem(&key).as_bytes()).map_err(|error| KeyError::File(shown(), error))?;
            Ok(key)
        }
        Err(error) => Err(KeyError::File(shown(), error)),
    }
}

/// Writes a file that only its owner can read.
pub(super) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for (position, character) in text.chars().enumerate() {
        if position > 0 && position % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    pem
}
