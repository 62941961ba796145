//! An issuer that gives a token to whoever asks: metadata, keys, and a token endpoint (RFC 8414, RFC 7517, RFC 6749 §4.4).

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, Header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::keys::{KeyError, SigningKey};
use super::serve::{Answer, json};
use crate::state::clock;

/// How long its tokens live, in seconds.
const LIFETIME: i64 = 600;

/// The demo's issuer.
pub(super) struct Issuer {
    issuer: String,
    audience: String,
    keys: Vec<SigningKey>,
    jwks: Value,
}

impl Issuer {
    /// An issuer whose tokens are for `audience` unless another is asked for.
    pub(super) fn new(issuer: String, audience: String, keys: Vec<SigningKey>) -> Result<Self, KeyError> {
        let jwks: Vec<Value> = keys.iter().map(public).collect::<Result<_, _>>()?;
        Ok(Self { issuer, audience, keys, jwks: json!({ "keys": jwks }) })
    }

    fn metadata(&self) -> Value {
        let base = self.issuer.trim_end_matches('/');
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{base}/jwks"),
            "token_endpoint": format!("{base}/token"),
            "response_types_supported": ["code"],
            "grant_types_supported": ["client_credentials"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256", "EdDSA"],
        })
    }

    /// A token as asked for: `scope`, `tenant`, `sub`, `client_id`, `resource`, `alg`, `expires_in`.
    fn token(&self, asked: &HashMap<String, String>) -> Option<String> {
        let ask = |name: &str, default: &str| asked.get(name).cloned().unwrap_or_else(|| default.to_owned());
        let algorithm = ask("alg", "ES256").parse::<Algorithm>().ok()?;
        let key = self.keys.iter().find(|key| key.algorithm == algorithm)?;
        let now = clock::now().0;
        let lifetime = asked.get("expires_in").and_then(|text| text.parse().ok()).unwrap_or(LIFETIME);
        let mut claims = json!({
            "iss": self.issuer,
            "sub": ask("sub", "alice"),
            "client_id": ask("client_id", "demo-client"),
            "aud": ask("resource", &self.audience),
            "scope": ask("scope", ""),
            "iat": now,
            "exp": now.saturating_add(lifetime),
            "jti": format!("demo-{:016x}", random()?),
        });
        if let (Some(tenant), Some(claims)) = (asked.get("tenant"), claims.as_object_mut()) {
            claims.insert("tenant_id".to_owned(), tenant.as_str().into());
        }
        let mut header = Header::new(algorithm);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(key.kid.to_owned());
        jsonwebtoken::encode(&header, &claims, &key.key).ok()
    }
}

impl Answer for Issuer {
    fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let refused = || json(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_request" }));
        match (request.method(), request.uri().path()) {
            (
                &Method::GET,
                "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server",
            ) => json(StatusCode::OK, &self.metadata()),
            (&Method::GET, "/jwks") => json(StatusCode::OK, &self.jwks),
            (&Method::POST, "/token") => {
                let asked = form(&String::from_utf8_lossy(request.body()));
                let Some(token) = self.token(&asked) else { return refused() };
                let scope = asked.get("scope").cloned().unwrap_or_default();
                json(
                    StatusCode::OK,
                    &json!({ "access_token": token, "token_type": "Bearer", "expires_in": LIFETIME, "scope": scope }),
                )
            }
            // For `TOKEN=$(curl …)`: the token alone. No real issuer does this.
            (&Method::GET, "/token") => match self.token(&form(request.uri().query().unwrap_or_default())) {
                Some(token) => {
                    let mut response = Response::new(Bytes::from(token));
                    let content_type = HeaderValue::from_static("text/plain");
                    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
                    response
                }
                None => refused(),
            },
            (_, _) => json(StatusCode::NOT_FOUND, &json!({ "error": "not_found" })),
        }
    }
}

fn public(key: &SigningKey) -> Result<Value, KeyError> {
    let mut jwk = Jwk::from_encoding_key(&key.key, key.algorithm)?;
    jwk.common.key_id = Some(key.kid.to_owned());
    jwk.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
    Ok(serde_json::to_value(jwk).unwrap_or_default())
}

/// `application/x-www-form-urlencoded`.
fn form(text: &str) -> HashMap<String, String> {
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}
