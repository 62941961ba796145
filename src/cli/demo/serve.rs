//! A small HTTP server for the demo's own parts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Largest body that is read.
const BODY: usize = 64 * 1024;

/// Answers whole requests.
pub(super) trait Answer: Send + Sync + 'static {
    fn answer(&self, request: Request<Bytes>) -> Response<Bytes>;
}

/// Serves until the process ends.
pub(super) async fn serve(listener: TcpListener, answer: impl Answer) {
    let answer = Arc::new(answer);
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = Arc::clone(&answer);
                async move { Ok::<_, Infallible>(respond(&*answer, request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "demo connection broke");
            }
        });
    }
}

async fn respond(answer: &impl Answer, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
            return response;
        }
    };
    answer.answer(Request::from_parts(parts, body)).map(Full::new)
}

/// A JSON answer.
pub(super) fn json(status: http::StatusCode, value: &serde_json::Value) -> Response<Bytes> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let content_type = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    response
}
