//! What a policy says of the ways in and out: listeners with their certificates, public origins, the way to issuers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::route::host::HostPattern;
use crate::types::Secret;

/// One public listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its TLS settings; `None` for plain HTTP.
    pub tls: Option<TlsPolicy>,
    /// Whether it only redirects to https.
    pub redirect: bool,
    /// Whether each connection begins with a PROXY protocol header, which only trusted proxies may send.
    pub proxy_protocol: bool,
}

/// TLS of a listener. Contents were read together with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// Certificates, chosen by SNI; the first serves clients that send no or an unknown name.
    pub certificates: Vec<CertifiedFiles>,
    /// PEM of the authorities whose client certificates are verified if sent.
    pub client_ca: Option<Arc<[u8]>>,
}

/// A certificate chain with its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct CertifiedFiles {
    /// Where the chain was read from, for messages.
    pub cert_path: PathBuf,
    /// The chain, leaf first.
    pub cert: Arc<[u8]>,
    /// The private key.
    pub key: Arc<[u8]>,
}

impl std::fmt::Debug for CertifiedFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertifiedFiles").field("cert_path", &self.cert_path).finish_non_exhaustive()
    }
}

/// A proxy that is asked for tunnels to issuers (CONNECT, RFC 9110 §9.3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressProxy {
    /// Name or IP address literal, without brackets.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
    /// `user:password`, if it asks for them (RFC 7617).
    pub credentials: Option<Secret>,
    /// Hosts that are asked directly.
    pub no_proxy: Vec<HostPattern>,
}

/// Where a host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether by https.
    pub secure: bool,
    /// Scheme, host and port, without a slash at the end.
    pub text: Box<str>,
}
