//! Whether a server has the key that it must have.
//!
//! 1. The certificate's key must be one of the pins, whoever signed the certificate.
//! 2. The server proves in each full handshake that it has that key: its signature is verified as WebPKI does.
//! 3. Without authorities, nothing else of the certificate is verified: no chain, no name, no validity. The pin names the key
//!    itself (RFC 7858 §4.2), so an authority could add nothing. With authorities, everything is verified as without a pin.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::trust::OwnOrChained;
use crate::types::KeyPin;

/// A verifier that takes servers with pinned keys only.
#[derive(Debug)]
pub(super) struct Pinned {
    pins: Vec<KeyPin>,
    provider: Arc<CryptoProvider>,
    /// What is verified beside the pin.
    within: Option<OwnOrChained>,
}

/// The server has a key that is not pinned.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the server's key is `{0}`, which `tls.pin` does not name")]
pub(super) struct NotPinned(KeyPin);

impl Pinned {
    /// The key is all that is verified.
    pub(super) fn alone(pins: &[KeyPin], provider: Arc<CryptoProvider>) -> Self {
        Self { pins: pins.to_vec(), provider, within: None }
    }

    /// The key is verified beside chain, name and validity.
    pub(super) fn within(pins: &[KeyPin], provider: Arc<CryptoProvider>, within: OwnOrChained) -> Self {
        Self { pins: pins.to_vec(), provider, within: Some(within) }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(within) = &self.within {
            within.verify_server_cert(presented, intermediates, name, ocsp, now)?;
        }
        let pin = KeyPin::of(&ParsedCertificate::try_from(presented)?.subject_public_key_info());
        if self.pins.contains(&pin) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotPinned(pin))))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, presented, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, presented, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
