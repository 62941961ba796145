//! A tunnel through the egress proxy (CONNECT, RFC 9110 §9.3.6).
//!
//! The proxy learns host and port of the issuer, and nothing of what is said to it. It resolves the name; a name that only the
//! proxy's network knows works too. All of it is within the deadline of the fetch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::{FetchError, MAX_HEAD, Target, connect};
use crate::snapshot::EgressProxy;

/// Whether a host is asked through the proxy.
pub(super) fn is_used(proxy: &EgressProxy, host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    !proxy.no_proxy.iter().any(|pattern| pattern.matches(&host))
}

/// Opens a tunnel to the target.
pub(super) async fn open(proxy: &EgressProxy, target: &Target) -> Result<TokioIo<Upgraded>, FetchError> {
    let unreachable = |error| FetchError::Proxy(Box::new(error));
    let stream = connect(&proxy.host, proxy.port, false).await.map_err(unreachable)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(FetchError::Http(error)))?;
    let request = request(proxy, target)?;
    let exchange = async {
        let answered = sender.send_request(request).await;
        let response = answered.map_err(|error| unreachable(FetchError::Http(error)))?;
        if !response.status().is_success() {
            return Err(FetchError::Tunnel(response.status()));
        }
        let tunnel = hyper::upgrade::on(response).await;
        tunnel.map(TokioIo::new).map_err(|error| unreachable(FetchError::Http(error)))
    };
    let connection = connection.with_upgrades();
    // The connection is driven from here, so that it ends when this fetch is dropped.
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        opened = &mut exchange => opened,
        _ = &mut connection => exchange.await,
    }
}

fn request(proxy: &EgressProxy, target: &Target) -> Result<Request<Empty<Bytes>>, FetchError> {
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let authority = format!("{host}:{}", target.port);
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(authority.as_str())
        .header(header::HOST, authority.as_str());
    if let Some(credentials) = &proxy.credentials {
        let value = format!("Basic {}", STANDARD.encode(credentials.expose()));
        let mut value = HeaderValue::try_from(value).map_err(|_| FetchError::Url("no legal credentials"))?;
        value.set_sensitive(true);
        request = request.header(header::PROXY_AUTHORIZATION, value);
    }
    request.body(Empty::new()).map_err(|_| FetchError::Url("no legal host"))
}
