//! A small HTTPS GET for what issuers publish.
//!
//! 1. Everything has one deadline: name, connection, handshake, answer, redirects. A slow drip does not outlive it.
//! 2. An answer is 200 and at most 1 MiB as it comes over the wire; a content coding is refused, so nothing can unfold.
//! 3. At most two redirects, and none that leaves scheme, host and port: an answer never chooses whom to ask next.
//! 4. `http` only where the caller allows it, and then only to loopback addresses.
//! 5. Nothing is sent that identifies anybody: no cookies, no referrer, and no credentials but the token that the caller gives
//!    ([`Fetcher::with_token`]), which a redirect never carries to another server.
//! 6. Where a proxy is configured, `https` goes through a tunnel of it (`tunnel`); the certificate at its other end is
//!    verified as without. `http` is asked directly, since it is on this machine.

mod target;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::InvalidHeaderValue;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use target::Target;

use crate::snapshot::EgressProxy;
use crate::state::clock;
use crate::state::trust::OwnOrChained;
use crate::types::Secret;

/// Most bytes of an answer's body.
pub const MAX_BODY: usize = 1024 * 1024;

/// Time for a whole fetch, unless set otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 2;

/// Time for one address of several, so that a dead one leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Most bytes of an answer's header section.
const MAX_HEAD: usize = 64 * 1024;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is not one that may be fetched.
    #[error("the URL is refused: {0}")]
    Url(&'static str),
    /// The name has no address that may be asked.
    #[error("the name cannot be resolved")]
    Resolve(#[source] Option<std::io::Error>),
    /// No address accepted a connection.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// The egress proxy cannot be reached.
    #[error("the egress proxy cannot be reached")]
    Proxy(#[source] Box<Self>),
    /// The egress proxy does not open a tunnel.
    #[error("the egress proxy refuses the tunnel with status {0}")]
    Tunnel(StatusCode),
    /// TLS failed: often a certificate that is not trusted, expired, or another host's.
    #[error("TLS failed")]
    Tls(#[source] std::io::Error),
    /// The exchange failed.
    #[error("the exchange failed")]
    Http(#[source] hyper::Error),
    /// The body broke off or is too large.
    #[error("the body is larger than {MAX_BODY} bytes or broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The status is not 200.
    #[error("the status is {status}")]
    Status {
        /// The status.
        status: StatusCode,
        /// How long the server asks to be left alone (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// The body is compressed, though nobody asked for it.
    #[error("the body has a content coding")]
    Encoded,
    /// A redirect leads elsewhere, or there are too many.
    #[error("the redirect{} is refused: {reason}", to.as_deref().map(|to| format!(" to {to:?}")).unwrap_or_default())]
    Redirect {
        /// Why.
        reason: &'static str,
        /// Where it leads, as the server wrote it, cut after 200 characters.
        to: Option<Box<str>>,
    },
    /// It took too long altogether.
    #[error("timed out")]
    Timeout,
}

impl FetchError {
    /// How long the server asks to be left alone.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Why no fetcher can be made.
#[derive(Debug, thiserror::Error)]
pub enum FetcherError {
    /// The PEM holds no certificate, or a broken one.
    #[error("the CA file holds no usable certificate")]
    Authority,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Whether plain HTTP is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Only `https`.
    Refuse,
    /// Also `http`, to loopback addresses.
    Loopback,
}

/// Fetches documents. Cheap to clone; holds no connections.
#[derive(Clone)]
pub struct Fetcher {
    tls: TlsConnector,
    timeout: Duration,
    egress: Egress,
    /// The value of Authorization, if there is one.
    authorization: Option<HeaderValue>,
}

/// The proxy that fetchers go through at this moment, if any. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Egress(Arc<ArcSwapOption<EgressProxy>>);

impl Egress {
    /// Goes this way from now on.
    pub fn set(&self, proxy: Option<Arc<EgressProxy>>) {
        self.0.store(proxy);
    }
}

impl Fetcher {
    /// Trusts the authorities in `ca` (PEM); without them, those the web trusts.
    ///
    /// # Errors
    ///
    /// A [`FetcherError`].
    pub fn new(ca: Option<&[u8]>, egress: Egress) -> Result<Self, FetcherError> {
        let roots = match ca {
            None => RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => authorities(pem)?,
        };
        let own = ca.map(certificates).transpose()?.unwrap_or_default();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = verifier.build().map_err(|_| FetcherError::Authority)?;
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock::TlsClock))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OwnOrChained::new(verifier, own)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), timeout: TIMEOUT, egress, authorization: None })
    }

    /// The same with a bearer token (RFC 6750 §2.1) for the server of the URL.
    ///
    /// # Errors
    ///
    /// A token that cannot stand in a header field.
    pub fn with_token(self, token: &Secret) -> Result<Self, InvalidHeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }

    /// The same with another time limit.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Fetches one document.
    ///
    /// # Errors
    ///
    /// A [`FetchError`].
    pub async fn get(&self, uri: &Uri, plain: Plain) -> Result<Bytes, FetchError> {
        tokio::time::timeout(self.timeout, self.follow(uri, plain)).await.unwrap_or(Err(FetchError::Timeout))
    }

    async fn follow(&self, uri: &Uri, plain: Plain) -> Result<Bytes, FetchError> {
        let mut target = Target::parse(uri, plain)?;
        for _ in 0..=MAX_REDIRECTS {
            match self.exchange(&target).await? {
                Answer::Body(body) => return Ok(body),
                Answer::Moved(path) => target.path = path,
            }
        }
        Err(FetchError::Redirect { reason: "there are more than two", to: Some(target.path.into()) })
    }

    async fn exchange(&self, target: &Target) -> Result<Answer, FetchError> {
        if target.scheme == Scheme::HTTP {
            let stream = connect(&target.host, target.port, true).await?;
            return converse(stream, target, self.authorization.as_ref()).await;
        }
        match self.egress.0.load_full().filter(|proxy| tunnel::is_used(proxy, &target.host)) {
            Some(proxy) => self.secure(tunnel::open(&proxy, target).await?, target).await,
            None => self.secure(connect(&target.host, target.port, false).await?, target).await,
        }
    }

    /// One exchange in TLS.
    async fn secure<S>(&self, stream: S, target: &Target) -> Result<Answer, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(target.host.clone()).map_err(|_| FetchError::Url("no legal host"))?;
        let stream = self.tls.connect(name, stream).await.map_err(FetchError::Tls)?;
        converse(stream, target, self.authorization.as_ref()).await
    }
}

/// The authorities of a PEM file.
fn authorities(pem: &[u8]) -> Result<RootCertStore, FetcherError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|_| FetcherError::Authority)?;
    }
    if roots.is_empty() { Err(FetcherError::Authority) } else { Ok(roots) }
}

/// The certificates of a PEM file.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FetcherError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| FetcherError::Authority)
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What one exchange brought.
enum Answer {
    Body(Bytes),
    Moved(String),
}

async fn connect(host: &str, port: u16, loopback_only: bool) -> Result<TcpStream, FetchError> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port))
        .await
        .map_err(|error| FetchError::Resolve(Some(error)))?
        .filter(|address| !loopback_only || address.ip().to_canonical().is_loopback())
        .collect();
    let mut last = FetchError::Resolve(None);
    for address in addresses {
        last = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => FetchError::Connect(error),
            Err(_) => FetchError::Connect(std::io::ErrorKind::TimedOut.into()),
        };
    }
    Err(last)
}

/// One request on one connection, which is closed after it.
async fn converse<S>(
    stream: S,
    target: &Target,
    authorization: Option<&HeaderValue>,
) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(FetchError::Http)?;
    let mut request = Request::get(target.path.as_str())
        .header(header::HOST, target.authority.as_str())
        .header(header::ACCEPT, "application/jwk-set+json, application/json;q=0.9, */*;q=0.5")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, concat!("scopegate/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|_| FetchError::Url("no legal path"))?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
    }
    let exchange = async {
        let response = sender.send_request(request).await.map_err(FetchError::Http)?;
        answer(response, target).await
    };
    // The connection is driven from here, so that it ends when this fetch is dropped.
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ = &mut connection => exchange.await,
    }
}

async fn answer(response: Response<Incoming>, target: &Target) -> Result<Answer, FetchError> {
    let status = response.status();
    let headers = response.headers();
    match status {
        StatusCode::OK => {}
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => return target.redirected(headers).map(Answer::Moved),
        _ => {
            return Err(FetchError::Status { status, retry_after: retry_after(headers) });
        }
    }
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(FetchError::Encoded);
    }
    let body = Limited::new(response.into_body(), MAX_BODY);
    let body = body.collect().await.map_err(FetchError::Body)?;
    Ok(Answer::Body(body.to_bytes()))
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(clock::at(date).since(clock::now()))
        }
    }
}

#[cfg(test)]
mod tests;
