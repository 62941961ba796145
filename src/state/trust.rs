//! Whether a server's certificate is trusted: by a chain to an authority, or because it is itself among the trusted ones.
//!
//! `openssl req -x509` makes a certificate that is an authority and a server's certificate at once. WebPKI takes no authority
//! for a server. Where the operator names that very certificate, it is taken as the server's own: byte for byte the same,
//! valid now, and for the right name. It vouches for itself, so there is no chain to verify.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// A verifier that also takes the certificates it was given as those of servers.
#[derive(Debug)]
pub struct OwnOrChained {
    chained: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl OwnOrChained {
    /// Verifies by `chained`, and takes `own` if they are presented themselves.
    pub const fn new(chained: Arc<WebPkiServerVerifier>, own: Vec<CertificateDer<'static>>) -> Self {
        Self { chained, own }
    }
}

/// Whether WebPKI refused a certificate only because it is one of an authority. It looks at the validity before that.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for OwnOrChained {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let error = match self.chained.verify_server_cert(presented, intermediates, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        if !is_authority(&error) || !self.own.iter().any(|own| own.as_ref() == presented.as_ref()) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(presented)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chained.verify_tls12_signature(message, presented, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chained.verify_tls13_signature(message, presented, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chained.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::RootCertStore;

    use super::*;

    /// A certificate that is an authority and a server's own at once, valid in 2020 only.
    fn authority(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_named_authority_is_taken_as_a_server_itself() {
        const MID_2020: u64 = 1_593_561_600;
        const YEAR: u64 = 31_536_000;
        let (named, other) = (authority("api.internal"), authority("api.internal"));
        let mut roots = RootCertStore::empty();
        roots.add(named.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chained = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let verifier = OwnOrChained::new(chained, vec![named.clone()]);
        for (what, presented, name, time, trusted) in [
            ("itself", &named, "api.internal", MID_2020, true),
            ("another name", &named, "other.internal", MID_2020, false),
            ("too late", &named, "api.internal", MID_2020 + YEAR, false),
            ("too early", &named, "api.internal", MID_2020 - YEAR, false),
            ("another one with its name", &other, "api.internal", MID_2020, false),
        ] {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(time));
            let name = ServerName::try_from(name).unwrap();
            let verified = verifier.verify_server_cert(presented, &[], &name, &[], now);
            assert_eq!(verified.is_ok(), trusted, "{what}: {verified:?}");
        }
    }
}
