//! What a failed TLS handshake with an upstream means for the operator.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, ClientConfig, Error};

/// The error of a handshake, with what it does not say by itself: both sides' part where they have nothing in common, and the
/// setting that decides.
pub(super) fn explained(error: io::Error, config: &ClientConfig) -> io::Error {
    use AlertDescription::{HandshakeFailure, InsufficientSecurity, ProtocolVersion};
    let Some(tls) = tls_error(&error) else { return error };
    let text = match tls {
        Error::AlertReceived(HandshakeFailure | InsufficientSecurity | ProtocolVersion) => format!(
            "{error}: no common TLS version, cipher suite or group; this gateway offers {}; the upstream did not say what it \
             accepts (`openssl s_client` or `nmap --script ssl-enum-ciphers` shows it)",
            Offer(config)
        ),
        Error::PeerIncompatible(_) => format!(
            "{error}: no common TLS version, cipher suite or group; this gateway offers {}",
            Offer(config)
        ),
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
            format!("{error}; set `tls.server_name` if that is the right server")
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!(
                "{error}; name its authority, or a self-signed certificate itself, as `tls.ca`, or its key as `tls.pin`"
            )
        }
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!("invalid peer certificate: {other}")
        }
        _ => return error,
    };
    io::Error::new(error.kind(), Explained(text))
}

/// Whether an error is one of TLS, explained or not.
pub(super) fn is_tls(error: &io::Error) -> bool {
    tls_error(error).is_some() || error.get_ref().is_some_and(|inner| inner.is::<Explained>())
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// An error of TLS with its explanation.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Explained(String);

/// The versions, cipher suites and groups that a configuration offers, under their registered names.
struct Offer<'a>(&'a ClientConfig);

impl fmt::Display for Offer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provider = self.0.crypto_provider();
        f.write_str("TLS 1.3 and TLS 1.2 with the suites ")?;
        for (i, suite) in provider.cipher_suites.iter().enumerate() {
            let name = format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1);
            write!(f, "{}{name}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(" and the groups ")?;
        for (i, group) in provider.kx_groups.iter().enumerate() {
            write!(f, "{}{:?}", if i == 0 { "" } else { ", " }, group.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustls::PeerIncompatible;

    use super::*;
    use crate::snapshot::UpstreamTls;
    use crate::state::tls::client_config;

    #[test]
    fn a_failed_handshake_names_the_cure() {
        let config = client_config(&UpstreamTls::default(), false).unwrap();
        let offer = ["TLS 1.2", "TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "X25519"];
        for (error, named) in [
            (Error::AlertReceived(AlertDescription::HandshakeFailure), offer.as_slice()),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), &offer),
            (Error::AlertReceived(AlertDescription::InsufficientSecurity), &offer),
            (Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), &offer),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), &["`tls.ca`", "`tls.pin`"]),
            (Error::AlertReceived(AlertDescription::CertificateRequired), &[]),
            (Error::DecryptError, &[]),
        ] {
            let text =
                explained(io::Error::new(io::ErrorKind::InvalidData, error.clone()), &config).to_string();
            assert!(text.starts_with(&error.to_string()), "{text}");
            assert_eq!(text.len() > error.to_string().len(), !named.is_empty(), "{text}");
            for part in named {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}
