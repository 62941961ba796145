//! Any text wherever text comes to stand in an answer or in the access log. The first octet chooses the refusal, the second
//! what is known of the caller; the texts follow, each ended by a NUL: owner, route, scope, audience, path, host, subject,
//! request id.
//!
//! 1. The body of a refusal is JSON that says what was put in, the owner and the scopes only to known callers.
//! 2. A challenge is one of RFC 6750 §3 and RFC 9110 §11.2, with the scopes and the metadata's address as they are.
//! 3. What the access log prints is one line of JSON, bounded, without anything that a terminal acts on.
#![no_main]

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;
use scopegate::observe::access_log::{Disposition, Entry, MAX_TEXT};
use scopegate::reject::{Control, Reason, Reject};
use scopegate::respond::{Refused, metadata};
use scopegate::snapshot::{Access, Snapshot};
use scopegate::types::{Owner, RouteIndex};
use scopegate_fuzz::world::{POLICY, compile};
use serde_json::Value;

/// The texts of an input; those that are missing are empty.
#[derive(Default)]
struct Texts<'a> {
    owner: &'a str,
    route: &'a str,
    scope: &'a str,
    audience: &'a str,
    path: &'a [u8],
    host: &'a [u8],
    subject: &'a str,
    request_id: &'a str,
}

fuzz_target!(|data: &[u8]| {
    let [reason, flags, rest @ ..] = data else { return };
    let Some(texts) = texts(rest) else { return };
    let mut snapshot = policy(&texts);
    // The policy would refuse some texts; what is written must be right all the same.
    let owner = Owner::new(texts.owner);
    snapshot.owners.0 = Control::ALL.into_iter().map(|control| (control, owner.clone())).collect();

    let reason = Reason::ALL[usize::from(*reason) % Reason::ALL.len()];
    let reject = Reject::because(reason, texts.subject.to_owned());
    let refused = Refused {
        snapshot: &snapshot,
        reject: &reject,
        route: (flags & 1 == 1).then_some(RouteIndex(1)),
        authenticated: flags & 2 == 2,
        request_id: texts.request_id,
        allow: (flags & 4 == 4).then_some(texts.subject),
        grpc: flags & 8 == 8,
    };
    let response = refused.response();
    if refused.grpc {
        assert!(response.body().is_empty());
    } else {
        check_problem(&refused, response.body());
    }
    check_challenge(&refused, response.headers());
    for resource in &snapshot.resources.0 {
        let document: Value = serde_json::from_slice(metadata::response(resource).body()).expect("JSON");
        assert_eq!(document["resource"], resource.resource.as_str());
    }
    check_line(&texts, &reject);
});

fn texts(data: &[u8]) -> Option<Texts<'_>> {
    let mut parts = data.split(|byte| *byte == 0);
    let mut bytes = || parts.next().unwrap_or_default();
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some(Texts {
        owner: text(bytes())?,
        route: text(bytes())?,
        scope: text(bytes())?,
        audience: text(bytes())?,
        path: bytes(),
        host: bytes(),
        subject: text(bytes())?,
        request_id: text(bytes())?,
    })
}

/// The policy with these texts in it, if it takes them; otherwise without.
fn policy(texts: &Texts<'_>) -> Snapshot {
    let quoted = |text: &str| Value::from(text).to_string();
    let changed = POLICY
        .replacen("id: api", &format!("id: {}", quoted(texts.route)), 1)
        .replacen("scopes: [read]", &format!("scopes: [{}]", quoted(texts.scope)), 1)
        .replacen("audience: https://api.example.com", &format!("audience: {}", quoted(texts.audience)), 1)
        .replacen("owner: orders-team@example.com", &format!("owner: {}", quoted(texts.owner)), 1);
    compile(&changed).or_else(|| compile(POLICY)).expect("the policy is valid")
}

fn check_problem(refused: &Refused<'_>, body: &[u8]) {
    let problem: Value = serde_json::from_slice(body).expect("a problem is JSON");
    let row = refused.reject.reason.row();
    assert_eq!(problem["status"], row.status);
    assert_eq!(problem["reason"], row.name);
    assert_eq!(problem["request_id"], refused.request_id);
    let known = refused.authenticated && row.status == 403;
    assert!(known || problem.get("owner").is_none(), "strangers are told who answers: {problem}");
    assert!(known || problem.get("required_scopes").is_none(), "strangers are told scopes: {problem}");
    if known {
        let owner = refused.snapshot.owner(refused.route, row.control).expect("each control has an owner");
        assert_eq!(problem["owner"], owner.as_str());
    }
    let route = refused.route.and_then(|index| refused.snapshot.route(index));
    assert_eq!(problem.get("route").and_then(Value::as_str), route.map(|route| route.id.as_str()));
}

fn check_challenge(refused: &Refused<'_>, headers: &HeaderMap) {
    let row = refused.reject.reason.row();
    let Some(challenge) = headers.get(header::WWW_AUTHENTICATE) else {
        assert_ne!(row.status, 401, "a 401 has a challenge (RFC 9110 §15.5.2)");
        return;
    };
    let parameters = parameters(challenge);
    let parameter =
        |name: &str| parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let route = refused.route.and_then(|index| refused.snapshot.route(index));
    assert_eq!(parameter("resource_metadata"), route.and_then(|route| route.resource_metadata.as_deref()));
    if parameter("error") == Some("insufficient_scope") {
        let Some(Access::Protected(requirement)) = route.map(|route| &route.access) else {
            return;
        };
        let scopes: Vec<&str> = requirement.scopes.listed().iter().map(AsRef::as_ref).collect();
        assert_eq!(parameter("scope"), Some(scopes.join(" ").as_str()));
    }
}

/// `Bearer` and its parameters, each once, each a token and a quoted string without escapes.
fn parameters(challenge: &HeaderValue) -> Vec<(String, String)> {
    let text = challenge.to_str().expect("a challenge is ASCII");
    let mut rest = text.strip_prefix("Bearer ").expect("the scheme");
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a parameter");
        assert!(
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{text}"
        );
        let (value, after) = after.split_once('"').expect("a quoted string ends");
        assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\'), "{text}");
        assert!(parameters.iter().all(|(own, _)| own != name), "{name} stands twice in {text}");
        parameters.push((name.to_owned(), value.to_owned()));
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None => {
                assert!(after.is_empty(), "{text}");
                return parameters;
            }
        }
    }
}

fn check_line(texts: &Texts<'_>, reject: &Reject) {
    let method = Method::from_bytes(texts.host).unwrap_or(Method::GET);
    let entry = Entry {
        host: Some(texts.host),
        path: texts.path,
        tls: true,
        route: Some(texts.route),
        status: reject.reason.row().status,
        decision: Some(Disposition::Deny),
        reason: Some(reject.reason),
        cause: reject.cause.as_deref(),
        owner: Some(texts.owner),
        issuer: Some(texts.audience),
        client: Some(texts.scope),
        subject: Some(texts.subject),
        duration: Duration::MAX,
        decision_duration: Some(Duration::MAX),
        request_bytes: u64::MAX,
        ..Entry::new(i64::MAX, texts.request_id, &method)
    };
    let mut line = Vec::new();
    entry.write_line(&mut line);
    let line = String::from_utf8(line).expect("a line is UTF-8");
    let text = line.strip_suffix('\n').expect("a line ends");
    assert!(text.chars().all(|c| !acts_on_a_terminal(c)), "{text:?}");
    // Twelve texts, of which an octet becomes at most six.
    assert!(text.len() < 12 * 6 * MAX_TEXT + 1_024, "{} octets", text.len());
    let line: Value = serde_json::from_str(text).expect("a line is JSON");
    for (name, wanted) in [("owner", texts.owner), ("subject", texts.subject), ("client", texts.scope)] {
        let logged = line[name].as_str().expect("a text");
        assert!(wanted.len() > MAX_TEXT || logged == wanted, "{name}: {logged:?}");
    }
    let path = line["path"].as_str().expect("a text");
    assert!(!path.contains(['?', '#']), "a query was logged");
    for name in ["path", "host", "request_id", "cause"] {
        assert!(!holds_token(line[name].as_str().expect("a text")), "a token was logged: {line}");
    }
}

fn acts_on_a_terminal(character: char) -> bool {
    character.is_control() || "\u{61C}\u{200E}\u{200F}\u{2028}\u{2029}\u{202A}\u{202B}\u{202C}\u{202D}\u{202E}\u{2066}\u{2067}\u{2068}\u{2069}\u{FEFF}".contains(character)
}

/// Whether a run of base64url and dots holds `eyJ` and two dots behind it.
fn holds_token(text: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
        .filter_map(|run| run.split_once("eyJ"))
        .any(|(_, rest)| rest.bytes().filter(|byte| *byte == b'.').count() >= 2)
}
