//! The admin listener: metrics, health, status, reload. Never on a public address by default.
//!
//! 1. A request whose Host is neither an address nor a configured name is refused (DNS rebinding), and so is one that a
//!    page of another origin sends. Metrics and health also answer HTTP/1.0 without Host.
//! 2. Metrics and health need nothing.
//! 3. The rest needs nothing on loopback. Elsewhere it needs the admin token, and is not there without one.
//! 4. Every write needs the admin token; without a configured one, writes are refused.
//! 5. Connections are few, and each ends: a head has `timeouts.header`, a connection takes requests for `timeouts.idle`, and
//!    then what runs has `timeouts.response_stall`. So nobody who keeps them all keeps others out for long.

mod guard;
mod status;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::observe::metrics::TokenCacheStats;
use crate::reload::policy::Reloads;
use crate::snapshot::Readiness;
use crate::state::live::Process;
use crate::types::Timestamp;

/// Most connections at a time: scrapers and people, not clients.
const CONNECTIONS: usize = 64;
/// Longest header section.
const HEADER_BYTES: usize = 16 * 1024;
/// What the admin listener shows and does.
#[derive(Debug)]
pub struct Admin {
    /// The process.
    pub process: Arc<Process>,
    /// Reloads.
    pub reloads: Reloads,
    /// When the process started.
    pub started: Timestamp,
    /// The public listeners as bound: address, and whether TLS is spoken.
    pub listeners: Vec<(SocketAddr, bool)>,
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    /// Serves until the future is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept for now");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let admin = Arc::clone(&self);
            tokio::spawn(async move {
                admin.converse(socket).await;
                drop(place);
            });
        }
    }

    /// Serves one connection to its end.
    async fn converse(self: Arc<Self>, socket: TcpStream) {
        let timeouts = self.process.live.load().snapshot.gateway.timeouts;
        let service = service_fn(|request| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(timeouts.header)
                .max_header_size(HEADER_BYTES)
                .serve_connection(TokioIo::new(socket), service)
        );
        let ended = match timeout(timeouts.idle, connection.as_mut()).await {
            Ok(ended) => Ok(ended),
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                timeout(timeouts.response_stall, connection).await
            }
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "admin connection broke"),
            Err(_) => tracing::debug!("an admin connection took too long"),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let live = self.process.live.load_full();
        let Some(policy) = &live.snapshot.gateway.admin else {
            return plain(StatusCode::NOT_FOUND, "the admin listener is not configured any more\n");
        };
        let write = !matches!(*request.method(), Method::GET | Method::HEAD);
        let path = request.uri().path();
        let open = matches!(path, "/metrics" | "/healthz" | "/readyz");
        if let Some(refusal) = guard::refusal(policy, &request, write, open) {
            return refusal;
        }
        match (request.method(), path) {
            (&Method::GET | &Method::HEAD, "/metrics") => self.metrics(),
            (&Method::GET | &Method::HEAD, "/healthz") => plain(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready(),
            (&Method::GET | &Method::HEAD, "/api/v1/status") => {
                json(StatusCode::OK, &status::status(self, &live))
            }
            (&Method::GET | &Method::HEAD, "/api/v1/routes") => {
                json(StatusCode::OK, &status::routes(&live.snapshot))
            }
            (&Method::POST, "/api/v1/reload") => self.reload().await,
            (_, "/metrics" | "/healthz" | "/readyz" | "/api/v1/status" | "/api/v1/routes") => {
                not_allowed("GET, HEAD")
            }
            (_, "/api/v1/reload") => not_allowed("POST"),
            (_, _) => plain(
                StatusCode::NOT_FOUND,
                "/metrics /healthz /readyz /api/v1/status /api/v1/routes POST:/api/v1/reload\n",
            ),
        }
    }

    fn metrics(&self) -> Answer {
        let live = self.process.live.load();
        let now = Instant::now();
        let rendered = self.process.metrics.render(|extra| {
            for cell in &live.issuers {
                let keys = cell.status(now);
                extra.jwks(&cell.policy().name, keys.age, keys.keys.len());
            }
            for cell in &live.upstreams {
                extra.failing_addresses(&cell.policy.name, cell.health.failing().len());
            }
            let counts = self.process.tokens.counts();
            extra.token_cache(TokenCacheStats {
                hits: counts.hits,
                misses: counts.misses,
                evictions: counts.evictions,
                bytes: self.process.tokens.weight(),
            });
        });
        match rendered {
            Ok(text) => {
                let mut response = plain(StatusCode::OK, text);
                let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
                response
            }
            Err(error) => {
                plain(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be rendered: {error}\n"))
            }
        }
    }

    /// Ready once an issuer in use has had keys, or each of them (`gateway.ready`). A later outage of an issuer does not
    /// unready all replicas at once: it shows in status and metrics.
    fn ready(&self) -> Answer {
        if self.process.is_draining() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        let live = self.process.live.load();
        let in_use = live.snapshot.issuers_in_use();
        let waiting: Vec<_> = in_use
            .iter()
            .filter_map(|index| live.issuers.get(index.get()))
            .filter(|cell| !cell.has_had_keys())
            .map(|cell| cell.policy().name.as_str())
            .collect();
        let ready = match live.snapshot.gateway.ready {
            Readiness::Any => waiting.is_empty() || waiting.len() < in_use.len(),
            Readiness::All => waiting.is_empty(),
        };
        if ready {
            plain(StatusCode::OK, "ready\n")
        } else {
            let text = format!("waiting for the keys of: {}\n", waiting.join(", "));
            plain(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }

    async fn reload(&self) -> Answer {
        match self.reloads.reload().await {
            Ok(applied) => json(
                StatusCode::OK,
                &serde_json::json!({
                    "hash": applied.hash,
                    "generation": applied.generation,
                    "changed": applied.changed,
                }),
            ),
            Err(error) => json(StatusCode::UNPROCESSABLE_ENTITY, &serde_json::json!({ "error": &*error })),
        }
    }
}

fn not_allowed(allow: &'static str) -> Answer {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    respond(status, "text/plain; charset=utf-8", text.into())
}

fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    respond(status, "application/json", text.into())
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
