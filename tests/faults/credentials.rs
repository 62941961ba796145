//! Upstreams that authenticate a connection instead of a request, as NTLM does: no client is served as another one.

use super::script::{Asked, Scripted};
use super::{Policy, Rig};

/// A public route that forwards the client's credential.
const FORWARDS: &str = "
- id: any
  match: { host: api.example.com, path: '/{*rest}' }
  public: true
  upstream: orders
  forward: { forward_token: true }
";

fn says(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// An upstream for which a connection belongs to its first caller with such a credential.
async fn connection_bound() -> Scripted {
    Scripted::start(|mut wire| async move {
        let mut user = None;
        while let Some(Asked { head, .. }) = wire.request().await {
            let credential = head.lines().find_map(|line| line.strip_prefix("authorization: "));
            if credential.is_some_and(|credential| !credential.starts_with("basic ")) {
                user = Some("alice");
            }
            let response = match user {
                Some(user) => says("200 OK", "", user),
                None if head.contains("/quiet") => says("401 Unauthorized", "", ""),
                None => {
                    says("401 Unauthorized", "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n", "")
                }
            };
            wire.send(response).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_bound_credential_serves_no_other_client() {
    for (credential, verdict, connections) in [
        // The credential, what its own caller gets, and how many connections the three requests take.
        ("Negotiate YIIabc", "200 -", 3),
        ("negotiate YIIabc", "200 -", 3),
        ("Kerberos YIIabc", "200 -", 3),
        ("NTLM TlRMTVNTUAADAAAA", "400 credential_unsupported", 2),
        ("ntlm TlRMTVNTUAABAAAA", "400 credential_unsupported", 2),
    ] {
        let upstream = connection_bound().await;
        let rig = Rig::with_routes(&upstream.url(), Policy::default().routes(FORWARDS)).await;
        assert_eq!(rig.verdict("GET", "/1").await, "401 -", "{credential}");
        let own = rig.call("GET", "/2").header("Authorization", credential).send().await;
        assert_eq!(own.verdict(), verdict, "{credential}");
        let other = rig.get("/3").await;
        assert_eq!(other.verdict(), "401 -", "{credential}: {}", other.text());
        assert_eq!(upstream.connections(), connections, "{credential}");
    }
}

#[tokio::test]
async fn a_connection_that_was_challenged_is_closed() {
    for (target, connections) in [("/challenged", 2), ("/quiet", 1)] {
        let upstream = connection_bound().await;
        let rig = Rig::with_routes(&upstream.url(), Policy::default().routes(FORWARDS)).await;
        for _ in 0..2 {
            let call = rig.call("GET", target).header("Authorization", "Basic YTpi");
            assert_eq!(call.send().await.verdict(), "401 -", "{target}");
        }
        assert_eq!(upstream.connections(), connections, "{target}");
    }
}

#[tokio::test]
async fn http2_carries_no_connection_bound_credential() {
    let upstream = Scripted::saying("").await;
    let policy = Policy::default().upstream("protocol: h2c").routes(FORWARDS);
    let rig = Rig::with_routes(&upstream.url(), policy).await;
    for credential in ["Negotiate YIIabc", "NTLM TlRMTVNTUAABAAAA"] {
        let call = rig.call("GET", "/1").header("Authorization", credential);
        assert_eq!(call.send().await.verdict(), "400 credential_unsupported", "{credential}");
    }
    assert_eq!(upstream.connections(), 0);
    let entry = rig.gateway.wait_for_log(|entry| entry["reason"] == "credential_unsupported").await;
    assert!(entry["cause"].as_str().is_some_and(|cause| cause.contains("connection")), "{entry}");
}
