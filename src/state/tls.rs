//! rustls settings from PEM that the parser has read.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::clock::TlsClock;
use super::pinned::Pinned;
use super::trust::OwnOrChained;
use crate::snapshot::{TlsPolicy, UpstreamTls};

/// Why TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not PEM of the kind it should be.
    #[error("{what} is not PEM of the expected kind")]
    Pem {
        /// Which file.
        what: &'static str,
        /// What the reader says.
        source: rustls_pki_types::pem::Error,
    },
    /// A file holds nothing of the kind it should hold.
    #[error("{0} holds none")]
    Empty(&'static str),
    /// rustls refuses it.
    #[error("{what} cannot be used")]
    Refused {
        /// Which part.
        what: &'static str,
        /// Why.
        source: rustls::Error,
    },
    /// A client verifier cannot be built.
    #[error("the client authorities cannot be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn chain(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what, source })?;
    if chain.is_empty() { Err(TlsError::Empty(what)) } else { Ok(chain) }
}

fn key(pem: &[u8], what: &'static str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|source| TlsError::Pem { what, source })
}

fn roots(pem: &[u8], what: &'static str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in chain(pem, what)? {
        store.add(certificate).map_err(|source| TlsError::Refused { what, source })?;
    }
    Ok(store)
}

/// Settings for connections to an upstream: TLS 1.2 and 1.3, names verified against the given or the public authorities,
/// or the server's key against pins.
///
/// # Errors
///
/// [`TlsError`].
pub fn client_config(policy: &UpstreamTls, multiplexed: bool) -> Result<ClientConfig, TlsError> {
    const CA: &str = "the upstream's `tls.ca`";
    let (roots, own) = match &policy.ca {
        Some(pem) => (roots(pem, CA)?, chain(pem, CA)?),
        None => (webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(), Vec::new()),
    };
    let chained = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let verifier = OwnOrChained::new(chained, own);
    let verifier: Arc<dyn ServerCertVerifier> = match (policy.pins.as_slice(), &policy.ca) {
        ([], _) => Arc::new(verifier),
        (pins, None) => Arc::new(Pinned::alone(pins, provider())),
        (pins, Some(_)) => Arc::new(Pinned::within(pins, provider(), verifier)),
    };
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(TlsClock))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Refused { what: "the TLS versions", source })?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &policy.client {
        Some(files) => builder
            .with_client_auth_cert(
                chain(&files.cert, "the upstream's `tls.client_cert`")?,
                key(&files.key, "the upstream's `tls.client_key`")?,
            )
            .map_err(|source| TlsError::Refused { what: "the upstream's client certificate", source })?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = if multiplexed { vec![b"h2".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}

/// TLS of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl ListenerTls {
    /// The settings: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN, certificate by SNI, client certificates verified if sent.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn new(policy: &TlsPolicy) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates::new(policy)?);
        let config = Arc::new(server_config(policy, Arc::clone(&certificates))?);
        Ok(Self { config, certificates })
    }

    /// Whether hosts differ in their settings: there is more than one certificate.
    pub fn tells_hosts_apart(&self) -> bool {
        self.certificates.several
    }

    /// Whether a connection that asked for `server_name` may serve `host` too: both have the same certificate, or neither
    /// is known and both have the first. Of several certificates for one name the first counts, whichever was shown. Both are
    /// in lower case without port.
    pub fn serves(&self, server_name: Option<&str>, host: &str) -> bool {
        Arc::ptr_eq(&self.certificates.of(server_name).first, &self.certificates.of(Some(host)).first)
    }
}

fn server_config(policy: &TlsPolicy, certificates: Arc<Certificates>) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(TlsClock))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Refused { what: "the TLS versions", source })?;
    let builder = match &policy.client_ca {
        Some(pem) => {
            let roots = Arc::new(roots(pem, "`client_ca`")?);
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .allow_unauthenticated()
                    .build()?,
            )
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    // Session tickets: resumption costs the server no memory and saves the client a round of public-key work.
    match rustls::crypto::aws_lc_rs::Ticketer::new() {
        Ok(ticketer) => config.ticketer = ticketer,
        Err(source) => {
            return Err(TlsError::Refused { what: "the session ticket key", source });
        }
    }
    Ok(config)
}

/// Certificates by server name.
#[derive(Debug)]
struct Certificates {
    exact: HashMap<Box<str>, Group>,
    /// By the name without its first label and dot.
    wildcard: HashMap<Box<str>, Group>,
    default: Group,
    several: bool,
}

/// The certificates of one name in the order of the list, such as one with an ECDSA key and one with an RSA key.
#[derive(Clone, Debug)]
struct Group {
    first: Arc<CertifiedKey>,
    others: Vec<Arc<CertifiedKey>>,
}

impl Group {
    fn add(group: &mut Option<Self>, certified: &Arc<CertifiedKey>) {
        match group {
            Some(group) => group.others.push(Arc::clone(certified)),
            None => *group = Some(Self { first: Arc::clone(certified), others: Vec::new() }),
        }
    }

    /// The first certificate whose key can sign as the client asks; the first of all if none can.
    fn choose(&self, schemes: &[SignatureScheme]) -> &Arc<CertifiedKey> {
        if self.others.is_empty() {
            return &self.first;
        }
        let mut all = std::iter::once(&self.first).chain(&self.others);
        all.find(|certified| certified.key.choose_scheme(schemes).is_some()).unwrap_or(&self.first)
    }
}

impl Certificates {
    fn new(policy: &TlsPolicy) -> Result<Self, TlsError> {
        let mut exact: HashMap<Box<str>, Option<Group>> = HashMap::new();
        let mut wildcard: HashMap<Box<str>, Option<Group>> = HashMap::new();
        let mut default: Option<Group> = None;
        let mut default_names = Vec::new();
        for files in &policy.certificates {
            let chain = chain(&files.cert, "a certificate file")?;
            let key = key(&files.key, "a key file")?;
            let certified = CertifiedKey::from_der(chain, key, &provider())
                .map_err(|source| TlsError::Refused { what: "a certificate with its key", source })?;
            let certified = Arc::new(certified);
            let mut names = dns_names(&certified);
            names.sort_unstable();
            names.dedup();
            for name in &names {
                match name.strip_prefix("*.") {
                    Some(parent) => Group::add(wildcard.entry(parent.into()).or_default(), &certified),
                    None => Group::add(exact.entry(name.as_str().into()).or_default(), &certified),
                }
            }
            if default.is_none() {
                Group::add(&mut default, &certified);
                default_names = names;
            } else if names == default_names {
                // The same name with another key: clients without a known name may need that one too.
                Group::add(&mut default, &certified);
            }
        }
        let default = default.ok_or(TlsError::Empty("`certificates`"))?;
        let found = |map: HashMap<Box<str>, Option<Group>>| {
            map.into_iter().filter_map(|(name, group)| Some((name, group?))).collect()
        };
        Ok(Self {
            exact: found(exact),
            wildcard: found(wildcard),
            default,
            several: policy.certificates.len() > 1,
        })
    }

    /// The certificates for a name in lower case: exact, then by wildcard, then the first one.
    fn of(&self, name: Option<&str>) -> &Group {
        let found = name.and_then(|name| {
            let name = name.strip_suffix('.').unwrap_or(name);
            let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
            self.exact.get(name).or_else(parent)
        });
        found.unwrap_or(&self.default)
    }
}

/// The names a certificate is for, in lower case.
fn dns_names(certified: &CertifiedKey) -> Vec<String> {
    let Some(leaf) = certified.cert.first() else {
        return Vec::new();
    };
    webpki::EndEntityCert::try_from(leaf)
        .map(|leaf| leaf.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has checked the name, lower-cased it and removed nothing else.
        Some(Arc::clone(self.of(hello.server_name()).choose(hello.signature_schemes())))
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}
