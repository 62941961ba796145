//! Writes a routes.yaml for a test, so that the test says only what it is about.

/// The routes of the default policy.
const ROUTES: &str = "
- id: orders
  match: { host: api.example.com, path: '/orders/{*rest}' }
  require:
    issuers: [corp]
    audience: https://api.example.com
    scopes: [orders:read]
  upstream: orders
  forward:
    websocket: true
    identity_headers: { X-User: sub, X-Client: client, X-Scopes: scope, X-Tenant: tenant }
  owner: orders-team@example.com
- id: status
  match: { host: api.example.com, path: /status }
  public: true
  upstream: orders
";

/// A routes.yaml in the making: YAML texts, put in their places by [`Policy::render`].
#[derive(Clone)]
pub struct Policy {
    listen: String,
    gateway: String,
    issuer: String,
    upstream: String,
    issuers: String,
    upstreams: String,
    sections: String,
    routes: String,
    end: &'static str,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            listen: "- http: 127.0.0.1:0".into(),
            gateway: String::new(),
            issuer: String::new(),
            upstream: String::new(),
            issuers: String::new(),
            upstreams: String::new(),
            sections: String::new(),
            routes: ROUTES.into(),
            end: "...\n",
        }
    }
}

impl Policy {
    /// The listeners instead of one of plain HTTP.
    pub fn listen(mut self, yaml: &str) -> Self {
        self.listen = yaml.into();
        self
    }

    /// More members of `gateway`, such as `limits: { body: 1KiB }`.
    pub fn gateway(mut self, yaml: &str) -> Self {
        self.gateway = format!("{}\n{yaml}", self.gateway);
        self
    }

    /// More members of the issuer `corp`, such as `leeway: 0s`.
    pub fn issuer(mut self, yaml: &str) -> Self {
        self.issuer = format!("{}\n{yaml}", self.issuer);
        self
    }

    /// More members of the upstream `orders`, such as `protocol: h2c`.
    pub fn upstream(mut self, yaml: &str) -> Self {
        self.upstream = format!("{}\n{yaml}", self.upstream);
        self
    }

    /// More issuers beside `corp`.
    pub fn issuers(mut self, yaml: &str) -> Self {
        self.issuers = format!("{}\n{yaml}", self.issuers);
        self
    }

    /// More upstreams beside `orders`.
    pub fn upstreams(mut self, yaml: &str) -> Self {
        self.upstreams = format!("{}\n{yaml}", self.upstreams);
        self
    }

    /// More top-level sections, such as `scopes: …`.
    pub fn section(mut self, yaml: &str) -> Self {
        self.sections = format!("{}\n{yaml}", self.sections);
        self
    }

    /// These routes instead of the default ones.
    pub fn routes(mut self, yaml: &str) -> Self {
        self.routes = yaml.into();
        self
    }

    /// One route at `/orders/{*rest}` with these requirements (a YAML flow mapping).
    pub fn require(self, requirements: &str) -> Self {
        self.routes(&format!(
            "
- id: orders
  match: {{ host: api.example.com, path: '/orders/{{*rest}}' }}
  require: {requirements}
  upstream: orders
  owner: orders-team@example.com
"
        ))
    }

    /// Leaves out the `...` that marks a complete file.
    pub fn without_end(mut self) -> Self {
        self.end = "";
        self
    }

    /// The text of routes.yaml.
    pub fn render(&self, issuer: &str, upstream: &str) -> String {
        let claims = if self.issuer.contains("claims:") { "" } else { "claims: { tenant: tenant }" };
        let keys = if self.issuer.contains("keys:") { "" } else { "keys: { discovery: true }" };
        let algorithms = if self.issuer.contains("algorithms:") {
            ""
        } else {
            "algorithms: [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]"
        };
        // Only an HTTP/1.1 connection can become a WebSocket.
        let multiplexed = self.upstream.contains("protocol: h2");
        let websocket = if multiplexed { "websocket: false" } else { "websocket: true" };
        let routes = self.routes.replace("websocket: true", websocket);
        [
            "version: 1\ngateway:\n  listen:".to_owned(),
            indent(4, &self.listen),
            "  admin: { address: 127.0.0.1:0, token: { file: admin.token } }".to_owned(),
            // Tests wait for the keys of all issuers, unless one is about that.
            indent(2, if self.gateway.contains("ready:") { "" } else { "ready: all" }),
            indent(2, &self.gateway),
            "hosts:\n  api.example.com: { external_url: https://api.example.com }".to_owned(),
            format!("issuers:\n  corp:\n    issuer: {issuer}"),
            indent(4, keys),
            indent(4, algorithms),
            indent(4, claims),
            indent(4, &self.issuer),
            indent(2, &self.issuers),
            format!("upstreams:\n  orders:\n    url: {upstream}"),
            indent(4, &self.upstream),
            indent(2, &self.upstreams),
            "owners: { authentication: iam@example.com, authorization: security@example.com }".to_owned(),
            self.sections.clone(),
            "routes:".to_owned(),
            indent(2, &routes),
            self.end.to_owned(),
        ]
        .iter()
        .flat_map(|block| block.lines())
        .filter(|line| !line.trim().is_empty())
        .flat_map(|line| [line, "\n"])
        .collect()
    }
}

fn indent(by: usize, yaml: &str) -> String {
    yaml.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}
