//! A real OpenID provider: the Node.js application in `tests/interop`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use serde_json::Value;

use super::http1::Response;
use super::{Call, soon};

/// A running provider; ended when dropped.
pub struct OidcProvider {
    child: Child,
    /// Its `iss`, where clients find it.
    pub issuer: String,
    control: String,
}

impl OidcProvider {
    /// Starts it on free ports.
    pub async fn start() -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop");
        // The provider ends when its standard input does, so it cannot outlive the test.
        let mut child = Command::new("node")
            .arg("provider.js")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("node must be installed: {error}"));
        let stdout = child.stdout.take().unwrap();
        let first = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).unwrap();
            line
        });
        let line = soon("the OpenID provider starts", first).await.unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the OpenID provider did not start: was scripts/setup run?"));
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self { child, issuer: text("issuer"), control: text("control") }
    }

    /// A token by the client credentials grant. `resource` chooses audience and algorithm: see `provider.js`.
    pub async fn token(&self, resource: &str, scope: &str) -> String {
        let form = format!("grant_type=client_credentials&scope={scope}&resource={resource}");
        let basic = base64::engine::general_purpose::STANDARD.encode("batch:batch-secret");
        let response = call("POST", &self.issuer, "/token")
            .header("Authorization", &format!("Basic {basic}"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await;
        let json = response.json();
        json["access_token"].as_str().unwrap_or_else(|| panic!("no token: {json}")).to_owned()
    }

    /// What a user who logs in with a browser gets: `access_token` and `id_token` by the authorization code grant.
    pub async fn login(&self, resource: &str, scope: &str) -> Value {
        self.ask("GET", &format!("/login?resource={resource}&scope={scope}")).await.json()
    }

    /// Replaces all signing keys while it runs.
    pub async fn rotate(&self) {
        self.ask("POST", "/rotate").await;
    }

    /// Cuts every connection without an answer, or answers again.
    pub async fn set_down(&self, down: bool) {
        self.ask("POST", if down { "/down" } else { "/up" }).await;
    }

    /// How often its keys were fetched.
    pub async fn jwks_requests(&self) -> u64 {
        self.ask("GET", "/hits").await.json()["jwks"].as_u64().unwrap()
    }

    async fn ask(&self, method: &str, path: &str) -> Response {
        let response = call(method, &self.control, path).send().await;
        assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
        response
    }
}

fn call(method: &str, base: &str, path: &str) -> Call {
    let authority = base.strip_prefix("http://").unwrap();
    Call::new(authority.parse().unwrap(), method, path).host(authority)
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
