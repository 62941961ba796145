//! routes.yaml: what is refused, where the message points, and that nothing loads with less policy than was written.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

mod check;
mod faults;
mod fields;
mod files;
mod groups;
mod hostile;
mod snapshot;
mod warnings;

use scopegate::config::{self, ConfigErrors, Loaded};
use scopegate::types::Timestamp;

/// A valid policy that has a little of everything; tests change parts of it.
const GOOD: &str = r"version: 1
gateway:
  listen:
    - http: 127.0.0.1:8080
  admin: { address: 127.0.0.1:9090 }
hosts:
  api.example.com: { external_url: https://api.example.com }
issuers:
  corp:
    issuer: https://idp.example.com/
    keys: { discovery: true }
    algorithms: [RS256]
    claims: { tenant: tenant_id }
scopes:
  orders:write: [orders:read]
upstreams:
  orders: { url: http://127.0.0.1:9000 }
owners: { authentication: iam@example.com, default: ops@example.com }
routes:
  - id: orders-read
    match: { host: api.example.com, path: '/v1/{tenant}/orders/{id}', methods: [GET, HEAD] }
    require:
      issuers: [corp]
      audience: https://api.example.com/orders
      scopes: [orders:read]
      tenant: { from: path.tenant }
    upstream: orders
    forward:
      strip_prefix: /v1
      identity_headers: { X-User: sub }
  - id: status
    match: { host: api.example.com, path: /status, methods: [GET] }
    public: true
    upstream: orders
...
";

/// The time by which certificates are judged: 2027.
const NOW: Timestamp = Timestamp(1_800_000_000);

/// The repository's own policy.
const DEMO: &str = include_str!("../../routes.yaml");

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "NUMBER" => Some("42".to_owned()),
        "EVIL" => Some("orders:read]\n    public: true # ".to_owned()),
        "PADDED" => Some("https://api.example.com/orders\n".to_owned()),
        "MARKED" => Some("\u{feff}https://api.example.com/orders".to_owned()),
        "EMPTY" => Some(String::new()),
        "SECRET" => Some("s3cret-value".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Loaded, ConfigErrors> {
    config::parse("routes.yaml", text.as_bytes(), std::path::Path::new("/nowhere"), &env, NOW)
}

/// The good policy with one part replaced. The part must be there.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the policy");
    GOOD.replacen(from, to, 1)
}
