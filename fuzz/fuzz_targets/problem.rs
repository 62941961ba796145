//! Any text wherever text comes to stand in an answer or in the access log. The first octet chooses the refusal, the second
//! what is known of the caller; the texts follow, each ended by a NUL: owner, route, scope, audience, path, host, subject,
//! request id.
//!
//! 1. The body of a refusal is JSON that says what the text of the policy says, the owner and the scopes only to known
//!    callers.
//! 2. A challenge is one of RFC 6750 §3 and RFC 9110 §11.2, with the scopes and the metadata's address (RFC 9728 §3.1) that
//!    follow from the text of the policy. A missing scope always has one that says so; a missing credential has the scopes too.
//! 3. What the access log prints is one line of JSON, bounded, without anything that a terminal acts on.
#![no_main]

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use scopegate::observe::access_log::{Disposition, Entry, MAX_TEXT};
use scopegate::reject::{Control, Reason, Reject};
use scopegate::respond::{Refused, metadata};
use scopegate::snapshot::Snapshot;
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

/// The texts that the policy has, of the input or its own.
struct Said<'a> {
    owner: &'a str,
    route: &'a str,
    scope: &'a str,
    audience: &'a str,
}

fuzz_target!(|data: &[u8]| {
    let [reason, flags, rest @ ..] = data else { return };
    let Some(texts) = texts(rest) else { return };
    let (mut snapshot, said) = policy(&texts);
    // The policy would refuse some texts; what is written must be right all the same.
    let owner = |control| (control, Owner::new(owner_of(control, &texts)));
    snapshot.owners.0 = Control::ALL.into_iter().map(owner).collect();

    let reason = Reason::ALL[usize::from(*reason) % Reason::ALL.len()];
    let reject = Reject::because(reason, texts.subject.to_owned());
    let refused = Refused {
        snapshot: &snapshot,
        reject: &reject,
        route: (flags & 1 == 1).then_some(RouteIndex(1)),
        authenticated: flags & 2 == 2,
        issuer: None,
        request_id: texts.request_id,
        allow: (flags & 4 == 4).then_some(texts.subject),
        grpc: flags & 8 == 8,
    };
    let response = refused.response();
    if refused.grpc {
        assert!(response.body().is_empty());
    } else {
        let owner = match (refused.route, reason.row().control) {
            // What a route demands, its own people answer for.
            (Some(_), Control::Authorization | Control::Upstream) => said.owner.to_owned(),
            (_, control) => owner_of(control, &texts),
        };
        check_problem(&refused, response.status(), &said, &owner, response.body());
    }
    check_challenge(&refused, &said, response.headers());
    for resource in &snapshot.resources.0 {
        let document: Value =
            serde_json::from_slice(metadata::response(resource, &http::Method::GET).body()).expect("JSON");
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

fn owner_of(control: Control, texts: &Texts<'_>) -> String {
    format!("{} {}", control.as_str(), texts.owner)
}

/// Where texts stand in the policy: what is before them, and what is there without them.
const PLACES: [(&str, &str); 4] = [
    ("    owner: ", "orders-team@example.com"),
    ("  - id: ", "api"),
    ("audience: https://api.example.com, scopes: ", "[read]"),
    ("    require: { issuers: [corp], audience: ", "https://api.example.com"),
];

/// The policy with those of the texts in it that it takes, each judged by itself.
fn policy<'a>(texts: &Texts<'a>) -> (Snapshot, Said<'a>) {
    let wanted = [texts.owner, texts.route, texts.scope, texts.audience];
    let mut kept = [Some(texts.owner), Some(texts.route), Some(texts.scope), Some(texts.audience)];
    let snapshot = compile(&changed(kept)).unwrap_or_else(|| {
        for (place, text) in wanted.into_iter().enumerate() {
            kept[place] = fits(place, text).then_some(text);
        }
        compile(&changed(kept)).expect("texts that fit one by one fit together")
    });
    let [owner, route, scope, audience] = kept;
    let said = Said {
        owner: owner.unwrap_or("orders-team@example.com"),
        route: route.unwrap_or("api"),
        scope: scope.unwrap_or("read"),
        audience: audience.unwrap_or("https://api.example.com"),
    };
    (snapshot, said)
}

/// Whether the policy takes this text at this place. Most inputs have most texts of another, so it is remembered for some.
fn fits(place: usize, text: &str) -> bool {
    static KNOWN: LazyLock<Mutex<HashMap<(usize, String), bool>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().expect("nobody panicked here");
    if known.len() > 10_000 {
        known.clear();
    }
    *known.entry((place, text.to_owned())).or_insert_with(|| {
        let mut alone = [None; 4];
        alone[place] = Some(text);
        compile(&changed(alone)).is_some()
    })
}

/// The policy with some texts replaced, of its second route.
fn changed(texts: [Option<&str>; 4]) -> String {
    let mut policy = POLICY.to_owned();
    for ((before, own), text) in PLACES.into_iter().zip(texts) {
        let Some(text) = text else { continue };
        // What looks like a variable is to be the text that it is.
        let quoted = Value::from(text.replace("${", "$${")).to_string();
        let quoted = if own.starts_with('[') { format!("[{quoted}]") } else { quoted };
        let place = format!("{before}{own}");
        assert!(policy.contains(&place), "{place:?} is not in the policy");
        policy = policy.replacen(&place, &format!("{before}{quoted}"), 1);
    }
    policy
}

fn check_problem(refused: &Refused<'_>, status: StatusCode, said: &Said<'_>, owner: &str, body: &[u8]) {
    let problem: Value = serde_json::from_slice(body).expect("a problem is JSON");
    let row = refused.reject.reason.row();
    assert_eq!(problem["status"], status.as_u16());
    assert_eq!(status.as_u16(), row.status);
    assert_eq!(problem["reason"], row.name);
    assert_eq!(problem["request_id"], refused.request_id);
    let known = refused.authenticated && status == StatusCode::FORBIDDEN;
    assert_eq!(problem.get("owner"), known.then(|| Value::from(owner)).as_ref(), "{problem}");
    // All that the route demands, and nobody else is told.
    let scopes: &[&str] = if refused.route.is_some() { &[said.scope] } else { &[] };
    let told = known && refused.reject.reason == Reason::ScopeMissing;
    assert_eq!(problem.get("required_scopes"), told.then(|| Value::from(scopes)).as_ref(), "{problem}");
    assert_eq!(problem.get("route"), refused.route.map(|_| Value::from(said.route)).as_ref(), "{problem}");
}

/// Where the metadata of the policy's host is.
const METADATA: &str = "https://api.example.com/.well-known/oauth-protected-resource";

fn check_challenge(refused: &Refused<'_>, said: &Said<'_>, headers: &HeaderMap) {
    let reason = refused.reject.reason;
    let Some(challenge) = headers.get(header::WWW_AUTHENTICATE) else {
        assert_ne!(reason.row().status, 401, "a 401 has a challenge (RFC 9110 §15.5.2)");
        assert_ne!(reason, Reason::ScopeMissing, "a missing scope has a challenge (RFC 6750 §3.1)");
        return;
    };
    let parameters = parameters(challenge);
    let parameter =
        |name: &str| parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let lacks_scope = reason == Reason::ScopeMissing;
    assert_eq!(parameter("error") == Some("insufficient_scope"), lacks_scope, "{challenge:?}");
    let scope = if refused.route.is_some() { said.scope } else { "" };
    // A caller without a token learns what to ask for, too: the metadata publishes it to everybody.
    let first_token = reason == Reason::CredentialMissing && refused.route.is_some();
    assert_eq!(parameter("scope"), (lacks_scope || first_token).then_some(scope));
    let address = parameter("resource_metadata");
    assert_eq!(address.is_some(), refused.route.is_some(), "{challenge:?}");
    let Some(path) = address.map(|address| address.strip_prefix(METADATA).expect("it is the host's")) else {
        return;
    };
    let plain = |path: &&str| {
        path.len() > 1
            && path.starts_with('/')
            && path.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/')
    };
    match said.audience.strip_prefix("https://api.example.com").filter(plain) {
        Some(wanted) => assert_eq!(path, wanted),
        None => assert!(path.is_empty() || said.audience.ends_with(path), "{path:?} of {:?}", said.audience),
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
