//! A legacy API: no code for tokens, it believes the headers it gets.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::json;

use super::serve::{Answer, json};

/// The demo's API.
pub(super) struct Api;

impl Answer for Api {
    fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let caller = caller(request.headers());
        let segments: Vec<_> = request.uri().path().split('/').skip(1).collect();
        match (request.method(), segments.as_slice()) {
            (&Method::GET | &Method::HEAD, ["status"]) => json(StatusCode::OK, &json!({ "status": "up" })),
            (&Method::GET | &Method::HEAD, [tenant, "orders"]) => json(
                StatusCode::OK,
                &json!({ "tenant": tenant, "orders": [order("1"), order("2")], "caller": caller }),
            ),
            (&Method::GET | &Method::HEAD, [tenant, "orders", id]) => {
                json(StatusCode::OK, &json!({ "tenant": tenant, "order": order(id), "caller": caller }))
            }
            (&Method::POST, [tenant, "orders"]) => {
                let received = serde_json::from_slice(request.body()).unwrap_or(serde_json::Value::Null);
                json(StatusCode::CREATED, &json!({ "tenant": tenant, "created": received, "caller": caller }))
            }
            (&Method::GET | &Method::HEAD, ["reports", ..]) => {
                json(StatusCode::OK, &json!({ "report": request.uri().path(), "caller": caller }))
            }
            (_, _) => json(StatusCode::NOT_FOUND, &json!({ "error": "the demo API has no such thing" })),
        }
    }
}

fn order(id: &str) -> serde_json::Value {
    json!({ "id": id, "item": "book" })
}

/// What the gateway told of the caller.
fn caller(headers: &HeaderMap) -> serde_json::Value {
    let told = ["x-user", "x-client", "x-scopes", "x-tenant", "x-request-id"];
    told.iter()
        .filter_map(|name| Some(((*name).to_owned(), headers.get(*name)?.to_str().ok()?.into())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
