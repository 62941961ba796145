//! What routes change in header fields.

use crate::faults::assert_refused;
use crate::{parse, with};

#[test]
fn fields_let_through_by_name_are_none_that_servers_confuse() {
    let text = with("{ X-User: sub }", "{ X-User: sub }\n      allow_headers: [API_Key, X.Foo]");
    let loaded = parse(&text).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.snapshot.routes[0].fields.as_ref().unwrap().allow, ["api_key", "x.foo"]);
    assert!(loaded.snapshot.routes[1].fields.is_none());

    for (name, message) in [
        ("X_User", "is `x-user` to some servers, which only the gateway sets"),
        ("x.uSER", "is `x-user` to some servers"),
        ("Content_Length", "some servers read it as `content-length`"),
        ("Transfer_Encoding", "some servers read it as `transfer-encoding`"),
        ("Proxy_Authorization", "some servers read it as `proxy-authorization`"),
        ("X_Forwarded_For", "some servers read it as `x-forwarded-for`"),
        ("X_Forwarded-Anything", "some servers read it as `x-forwarded-anything`"),
        ("X_Real_IP", "some servers read it as `x-real-ip`"),
        ("X_Request_Id", "some servers read it as `x-request-id`"),
        ("X_HTTP_Method_Override", "some servers read it as `x-http-method-override`"),
        ("Remote_User", "some servers read it as `remote-user`"),
        ("If_Match", "some servers read it as `if-match`"),
        ("X-Foo", "need no permission"),
        ("X-Real-IP", "only the gateway may say it"),
        ("Transfer-Encoding", "only the gateway may say it"),
        ("X Foo", "not the name of a header field"),
        ("", "not the name of a header field"),
    ] {
        let to = format!("{{ X-User: sub }}\n      allow_headers: [⟦\"{name}\"]");
        assert_refused(&[("{ X-User: sub }", &to, message)]);
    }
    assert_refused(&[(
        "{ X-User: sub }",
        "{ X-User: sub }\n      allow_headers: [X_Foo, ⟦x_FOO]",
        "`x_FOO` twice",
    )]);
    // The identity header of another route, and the field that tokens come in.
    assert_refused(&[(
        "    public: true\n",
        "    public: true\n    forward: { allow_headers: [⟦X_User] }\n",
        "which only the gateway sets",
    )]);
    let token = with("    algorithms", "    token_header: X-Token\n    algorithms");
    let token =
        token.replace("    public: true\n", "    public: true\n    forward: { allow_headers: [X_Token] }\n");
    assert!(parse(&token).unwrap_err().to_string().contains("is `x-token` to some servers"));
}

#[test]
fn fixed_fields_never_touch_what_the_gateway_says() {
    let fixed = "headers: { set: { X-Api-Version: '1', X_Key: 'a b' }, remove: [Cookie] }\n      \
                 answer_headers: { set: { X-Frame-Options: DENY }, remove: [Server] }";
    let loaded = parse(&with("strip_prefix: /v1", &format!("strip_prefix: /v1\n      {fixed}"))).unwrap();
    assert_eq!(loaded.warnings, []);
    let rules = loaded.snapshot.routes[0].fields.clone().unwrap();
    assert_eq!(rules.request.remove, ["x-api-version", "x_key", "x-key", "cookie"]);
    assert_eq!(rules.request.set.len(), 2);
    assert_eq!(rules.response.remove, ["x-frame-options", "server"]);

    for (name, message) in [
        ("X-User", "`x-user` to some servers, which only the gateway sets"),
        ("X_User", "`x-user` to some servers, which only the gateway sets"),
        ("Host", "frames or routes the request"),
        ("Content-Length", "frames or routes the request"),
        ("Content_Length", "frames or routes the request"),
        ("Transfer-Encoding", "frames or routes the request"),
        ("Connection", "frames or routes the request"),
        ("TE", "frames or routes the request"),
        ("Proxy-Authorization", "frames or routes the request"),
        ("X-Forwarded-For", "frames or routes the request"),
        ("X_Forwarded_Host", "frames or routes the request"),
        ("Forwarded", "frames or routes the request"),
        ("X-Real-IP", "frames or routes the request"),
        ("X-Request-ID", "frames or routes the request"),
        ("Via", "frames or routes the request"),
        ("Sec-WebSocket-Key", "frames or routes the request"),
        ("Authorization", "`credential` of the upstream"),
        ("authorization", "`credential` of the upstream"),
        ("X Foo", "not the name of a header field"),
    ] {
        let to = format!("strip_prefix: /v1\n      headers: {{ set: {{ ⟦\"{name}\": a }} }}");
        assert_refused(&[("strip_prefix: /v1", &to, message)]);
        let to = format!("strip_prefix: /v1\n      headers: {{ remove: [⟦\"{name}\"] }}");
        assert_refused(&[("strip_prefix: /v1", &to, message)]);
    }
    for (name, message) in [
        ("Content-Length", "frames the response"),
        ("Transfer-Encoding", "frames the response"),
        ("Connection", "frames the response"),
        ("X-Request-Id", "frames the response"),
        ("Sec-WebSocket-Accept", "frames the response"),
        ("Strict-Transport-Security", "`hosts.*.hsts`"),
        ("Access-Control-Allow-Origin", "use `cors` of the route"),
    ] {
        let to = format!("strip_prefix: /v1\n      answer_headers: {{ remove: [⟦{name}] }}");
        assert_refused(&[("strip_prefix: /v1", &to, message)]);
    }
    for (value, message) in [
        ("\"a\\nb\"", "control characters"),
        ("\"a\\tb\"", "control characters"),
        ("' a'", "white space at an end"),
        ("\"\\u00e9\"", "other than ASCII"),
    ] {
        let to = format!("strip_prefix: /v1\n      headers: {{ set: {{ X-A: ⟦{value} }} }}");
        assert_refused(&[("strip_prefix: /v1", &to, message)]);
    }
    assert_refused(&[
        (
            "strip_prefix: /v1",
            "strip_prefix: /v1\n      headers: { set: { X-A: a }, remove: [⟦x-a] }",
            "`x-a` twice",
        ),
        (
            "strip_prefix: /v1",
            "strip_prefix: /v1\n      headers: { set: { X-Foo: a } }\n      allow_headers: [⟦X_FOO]",
            "let through here, and set or removed by `headers`",
        ),
        ("strip_prefix: /v1", "strip_prefix: /v1\n      headers: { ⟦add: { X-A: a } }", "unknown key `add`"),
    ]);
}

const UPSTREAM: &str = "orders: { url: http://127.0.0.1:9000 }";

/// The upstream with this address and credential.
fn upstream(url: &str, credential: &str) -> String {
    format!("orders: {{ url: {url}, credential: {credential} }}")
}

#[test]
fn credentials_of_upstreams_are_read_and_hidden() {
    for (credential, name, value) in [
        (
            "{ basic: { user: gateway, password: { env: SECRET } } }",
            "authorization",
            "Basic Z2F0ZXdheTpzM2NyZXQtdmFsdWU=",
        ),
        ("{ header: { name: X-Api-Key, value: { env: SECRET } } }", "x-api-key", "s3cret-value"),
        ("{ header: { name: Authorization, value: { env: SECRET } } }", "authorization", "s3cret-value"),
        ("{ header: { name: api_key, value: { env: SECRET } } }", "api_key", "s3cret-value"),
    ] {
        let loaded = parse(&with(UPSTREAM, &upstream("http://127.0.0.1:9000", credential))).unwrap();
        let found = loaded.snapshot.credentials[0].as_ref().unwrap();
        assert_eq!((found.name.as_str(), found.value.to_str().unwrap()), (name, value));
        let shown = format!("{:?}{:?}", loaded.snapshot, loaded.warnings);
        assert!(!shown.contains("s3cret") && !shown.contains("Z2F0ZXdheTpz"), "{shown}");
        let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
        assert!(warning.message.contains("anybody may use the `credential`"), "the public route: {warning}");
        assert_eq!(loaded.snapshot.text_hash, loaded.snapshot.hash, "the shown hash leaves secrets out");
    }
    let good = "{ header: { name: X-Api-Key, value: { env: SECRET } } }";
    for (url, warned) in [
        ("http://api.internal:80", true),
        ("http://192.0.2.1:80", true),
        ("https://api.internal", false),
        ("http://localhost:80", false),
        ("'http://[::1]:80'", false),
    ] {
        let loaded = parse(&with(UPSTREAM, &upstream(url, good))).unwrap();
        let plain = loaded.warnings.iter().any(|warning| warning.message.contains("travels in plain text"));
        assert_eq!(plain, warned, "{url}: {:?}", loaded.warnings);
    }
}

#[test]
fn credentials_that_could_be_taken_for_others_are_refused() {
    let at = |credential: &str| format!("orders: {{ url: http://127.0.0.1:9000, {credential} }}");
    for (credential, message) in [
        (
            "⟦credential: { header: { name: X-User, value: { env: SECRET } } }",
            "`x-user` is an identity header",
        ),
        (
            "⟦credential: { header: { name: X_User, value: { env: SECRET } } }",
            "`x-user` is an identity header",
        ),
        ("credential: { header: { name: ⟦Host, value: { env: SECRET } } }", "cannot carry a credential"),
        (
            "credential: { header: { name: ⟦X-Forwarded-For, value: { env: SECRET } } }",
            "cannot carry a credential",
        ),
        (
            "credential: { header: { name: ⟦Connection, value: { env: SECRET } } }",
            "cannot carry a credential",
        ),
        ("credential: { header: { name: X-Key, value: ⟦{ env: EMPTY } } }", "the secret is empty"),
        ("credential: { header: { name: X-Key, value: ⟦{ env: PADDED } } }", "line ends at an end"),
        ("credential: { header: { name: X-Key, value: ⟦{ env: EVIL } } }", "control characters"),
        ("credential: { basic: { user: ⟦'a:b', password: { env: SECRET } } }", "holds neither `:`"),
        ("⟦credential: {}", "either `basic` or `header`"),
    ] {
        assert_refused(&[(UPSTREAM, &at(credential), message)]);
    }
    let good = "credential: { header: { name: X-Key, value: { env: SECRET } } }";
    for (to, message) in [
        ("strip_prefix: /v1\n      ⟦forward_token: true", "gets a `credential` of the gateway's own"),
        ("strip_prefix: /v1\n      headers: { set: { ⟦X-Key: a } }", "`x-key` to some servers"),
        ("strip_prefix: /v1\n      allow_headers: [⟦X_KEY]", "`x-key` to some servers"),
    ] {
        let policy = with(UPSTREAM, &at(good)).replace("strip_prefix: /v1", &to.replace('⟦', ""));
        let errors = parse(&policy).unwrap_err().to_string();
        assert!(errors.contains(message), "{to}: {errors}");
    }
}

#[test]
fn a_route_takes_the_fixed_fields_of_its_group() {
    let text = with("  - id: orders-read\n", "  - id: orders-read\n    group: shared\n").replace(
        "routes:\n",
        "groups:\n  shared:\n    forward: { headers: { set: { X-A: a } }, answer_headers: { remove: [Server] } }\nroutes:\n",
    );
    let rules = parse(&text).unwrap().snapshot.routes[0].fields.clone().unwrap();
    assert_eq!((rules.request.set.len(), rules.response.remove.len()), (1, 1));
    let own = text.replace("strip_prefix: /v1", "strip_prefix: /v1\n      headers: { remove: [X-B] }");
    let rules = parse(&own).unwrap().snapshot.routes[0].fields.clone().unwrap();
    assert_eq!(rules.request.remove, ["x-b"], "the route's `headers` win as a whole");
    assert_eq!(rules.response.remove, ["server"]);
}
