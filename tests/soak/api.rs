//! The API behind the gateway: it tells what it got, and can be restarted on the same port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::copy;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A running API.
pub(crate) struct Api {
    address: SocketAddr,
    task: Mutex<Option<JoinHandle<()>>>,
    served: Arc<AtomicU64>,
    /// Requests that no client was allowed to have forwarded.
    smuggled: Arc<AtomicU64>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Self { address, task: Mutex::default(), served: Arc::default(), smuggled: Arc::default() };
        api.serve(listener);
        api
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn smuggled(&self) -> u64 {
        self.smuggled.load(Ordering::Relaxed)
    }

    fn serve(&self, listener: TcpListener) {
        let (served, smuggled) = (Arc::clone(&self.served), Arc::clone(&self.smuggled));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (served, smuggled) = (Arc::clone(&served), Arc::clone(&smuggled));
                let service = service_fn(move |request| {
                    served.fetch_add(1, Ordering::Relaxed);
                    if request.uri().path().contains("smuggled")
                        || request.headers().contains_key("x-smuggled")
                    {
                        smuggled.fetch_add(1, Ordering::Relaxed);
                    }
                    answer(request)
                });
                connections.spawn(async move {
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    let _ = served.await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        *self.task.lock().unwrap() = Some(task);
    }

    /// Closes the port and every connection at once.
    pub(crate) async fn stop(&self) {
        let task = self.task.lock().unwrap().take().expect("it runs");
        task.abort();
        let _ = task.await;
    }

    /// Listens again.
    pub(crate) async fn resume(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }
}

/// The sum by which a body is recognised.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

/// The body that belongs to a nonce.
pub(crate) fn body_of(nonce: &str, length: usize) -> Bytes {
    nonce.bytes().cycle().take(length).collect()
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let field = |name: &str| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let (nonce, user, upgrade) = (field("x-nonce"), field("x-user"), field("upgrade"));
    if !upgrade.is_empty() {
        let tunnel = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(tunnel) = tunnel.await {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(tunnel));
                let _ = copy(&mut read, &mut write).await;
            }
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let response = response.header(header::CONNECTION, "upgrade").header(header::UPGRADE, upgrade);
        return Ok(response.body(Full::default()).unwrap());
    }
    let wanted = request.uri().path().strip_prefix("/orders/download/").and_then(|rest| rest.parse().ok());
    let response = Response::builder().header("x-nonce", &nonce).header("x-seen-user", user);
    let Ok(body) = request.into_body().collect().await else {
        return Ok(response.status(StatusCode::BAD_REQUEST).body(Full::default()).unwrap());
    };
    let text = match wanted {
        Some(length) => body_of(&nonce, length),
        None => Bytes::from(format!("{nonce} {}", sum(&body.to_bytes()))),
    };
    Ok(response.body(Full::new(text)).unwrap())
}
