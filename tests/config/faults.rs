//! Every rule: what breaks it is refused, and the message points at it. `⟦` marks where.

use scopegate::config::Severity;

use crate::{GOOD, parse, with};

/// (what is replaced, by what, with `⟦` where the error must point; a part of the message or its hint)
type Row<'r> = (&'r str, &'r str, &'r str);

#[track_caller]
pub(crate) fn assert_refused(rows: &[Row<'_>]) {
    for (from, to, message) in rows {
        let marked = with(from, to);
        let at = marked.find('⟦').unwrap_or_else(|| panic!("no place marked in {to:?}"));
        let before = &marked[..at];
        let line = u32::try_from(before.matches('\n').count() + 1).unwrap();
        let column = u32::try_from(before.rsplit('\n').next().unwrap().chars().count() + 1).unwrap();
        let text = marked.replacen('⟦', "", 1);
        let errors = match parse(&text) {
            Ok(_) => panic!("{to:?} was accepted, expected: {message}"),
            Err(errors) => errors,
        };
        let hit = errors.0.iter().any(|d| {
            d.severity == Severity::Error
                && (d.line, d.column) == (line, column)
                && d.to_string().contains(message)
        });
        assert!(hit, "{to:?}: expected `{message}` at {line}:{column}, got\n{errors}");
    }
}

#[test]
fn the_good_policy_is_accepted_without_warnings() {
    let loaded = parse(GOOD).unwrap();
    assert_eq!(loaded.warnings, []);
    assert!(loaded.complete);
}

#[test]
fn yaml_that_could_be_read_in_two_ways_is_refused() {
    assert_refused(&[
        ("version: 1\n", "version: 1\n⟦version: 1\n", "duplicate key `version`, first on line 1"),
        (
            "    upstream: orders\n",
            "    upstream: orders\n    ⟦upstream: orders\n",
            "duplicate key `upstream`",
        ),
        ("issuers: [corp]", "issuers: ⟦&a [corp]", "anchor"),
        ("hosts:\n", "hosts:\n  ⟦<<: { a: b }\n", "merge key"),
        ("audience: https", "audience: ⟦!!str https", "tag"),
        ("...\n", "...\n⟦---\nversion: 1\n", "second document"),
        ("  corp:", "⟦\tcorp:", "a tab in the indentation"),
        ("  corp:", "  ? ⟦[corp]\n  :", "a key must be text"),
    ]);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    assert_refused(&[
        ("scopes: [orders:read]", "⟦scope: [orders:read]", "unknown key `scope`; did you mean `scopes`?"),
        ("      audience:", "      ⟦audiance:", "did you mean `audience`?"),
        ("issuers: [corp]", "⟦issuer: [corp]", "did you mean `issuers`?"),
        ("    require:", "    ⟦requires:", "did you mean `require`?"),
        ("upstreams:", "⟦upstream:", "did you mean `upstreams`?"),
        ("  listen:", "  ⟦listn:", "did you mean `listen`?"),
        ("methods: [GET]", "⟦method: [GET]", "did you mean `methods`?"),
        ("public: true", "⟦pubic: true", "did you mean `public`?"),
        ("{ authentication:", "{ ⟦authenticaton:", "did you mean `authentication`?"),
    ]);
}

#[test]
fn later_sections_say_that_this_version_does_not_support_them() {
    assert_refused(&[
        ("owners:", "⟦revocation: {}\nowners:", "this version does not support `revocation`"),
        ("owners:", "⟦rate_limit: {}\nowners:", "this version does not support `rate_limit`"),
        ("owners:", "⟦state: {}\nowners:", "this version does not support `state`"),
        ("owners:", "⟦telemetry: {}\nowners:", "this version does not support `telemetry`"),
        ("owners:", "⟦audit: {}\nowners:", "this version does not support `audit`"),
        (
            "    algorithms",
            "    ⟦introspection: {}\n    algorithms",
            "this version does not support `introspection`",
        ),
        ("      tenant:", "      ⟦binding: dpop\n      tenant:", "this version does not support `binding`"),
        (
            "      tenant:",
            "      ⟦condition: 'true'\n      tenant:",
            "this version does not support `condition`",
        ),
        (
            "url: http://127.0.0.1:9000",
            "url: http://127.0.0.1:9000, ⟦retries: 3",
            "does not support `retries`",
        ),
    ]);
}

#[test]
fn listeners_and_names_of_scopes_show_a_right_value() {
    assert_refused(&[
        ("http: 127.0.0.1:8080", "http: ⟦localhost:8081", "write `127.0.0.1:8081`, or `[::1]:8081` for IPv6"),
        ("http: 127.0.0.1:8080", "http: ⟦:8081", "write `0.0.0.0:8081` for all addresses"),
        ("http: 127.0.0.1:8080", "http: ⟦'*:8081'", "write `0.0.0.0:8081` for all addresses"),
        (
            "http: 127.0.0.1:8080",
            "http: ⟦api.example.com:8081",
            "write `127.0.0.1:8081` for this machine alone",
        ),
        ("http: 127.0.0.1:8080", "http: ⟦127.0.0.1", "not an IP address with a port"),
        ("http: 127.0.0.1:8080", "https: ⟦localhost:8443", "write `127.0.0.1:8443`"),
        (
            "    algorithms",
            "    advertised_scopes: { orders:read: ⟦'a b' }\n    algorithms",
            "`a b` is not a scope",
        ),
        ("    algorithms", "    advertised_scopes: { prefix: ⟦'' }\n    algorithms", "is not a scope"),
    ]);
}

#[test]
fn what_is_left_out_never_means_open() {
    assert_refused(&[
        (
            "  - id: status\n    match: { host: api.example.com, path: /status, methods: [GET] }\n    public: true\n",
            "  - ⟦id: status\n    match: { host: api.example.com, path: /status, methods: [GET] }\n",
            "`status` does not say who may call it",
        ),
        (
            "  - id: status\n    match: { host: api.example.com, path: /status, methods: [GET] }\n    public: true\n",
            "  - ⟦id: status\n    match: { host: api.example.com, path: /status, methods: [GET] }\n    public: false\n",
            "`status` does not say who may call it",
        ),
        (
            "    upstream: orders\n    forward",
            "    ⟦public: true\n    upstream: orders\n    forward",
            "either `require` or `public: true`",
        ),
        ("      issuers: [corp]\n      audience", "      ⟦audience", "missing `issuers`"),
        ("issuers: [corp]", "issuers: ⟦[]", "`issuers` is empty"),
        (
            "      issuers: [corp]\n      audience: https://api.example.com/orders\n",
            "      ⟦issuers: [corp]\n",
            "missing `audience`",
        ),
        ("audience: https://api.example.com/orders", "audience: ⟦[]", "`audience` is empty"),
        ("audience: https://api.example.com/orders", "audience: ⟦''", "an empty text in `audience`"),
        ("audience: https://api.example.com/orders", "⟦audience:", "a value is missing"),
        (
            "      issuers: [corp]\n      audience: https://api.example.com/orders\n      scopes: [orders:read]\n",
            "      ⟦issuers: [corp]\n      audience: https://api.example.com/orders\n",
            "missing `scopes`; write `scopes: [name]`",
        ),
        ("scopes: [orders:read]", "scopes: ⟦[]", "any_authenticated"),
        ("scopes: [orders:read]", "scopes: { any: ⟦[] }", "an empty list of scopes"),
        ("scopes: [orders:read]", "⟦scopes:", "a value is missing"),
        ("      tenant:", "      clients: ⟦[]\n      tenant:", "`clients` names nobody"),
        ("      tenant:", "      ⟦clients:\n      tenant:", "a value is missing"),
        ("      tenant:", "      claims: ⟦{}\n      tenant:", "`claims` demands nothing"),
        ("      tenant:", "      claims: { a: ⟦{ has_member: '' } }\n      tenant:", "exactly one of"),
        (
            "      tenant:",
            "      claims: { a: ⟦{ has_member: b, equals: c } }\n      tenant:",
            "exactly one of",
        ),
        ("tenant: { from: path.tenant }", "tenant: ⟦{}", "either `from` or `equals`"),
        ("version: 1\n", "⟦", "missing `version`"),
        ("version: 1", "version: ⟦2", "version 2 is not known"),
    ]);
}

#[test]
fn references_must_exist() {
    assert_refused(&[
        ("issuers: [corp]", "issuers: [⟦crop]", "unknown issuer `crop`; did you mean `corp`?"),
        (
            "upstream: orders\n    forward",
            "upstream: ⟦oders\n    forward",
            "unknown upstream `oders`; did you mean `orders`?",
        ),
        ("from: path.tenant", "from: ⟦path.org", "has no parameter `org`"),
        ("from: path.tenant", "from: ⟦host.9", "has no label 9"),
        ("from: path.tenant", "from: ⟦header.x", "not where a tenant can be"),
        (
            "match: { host: api.example.com, path: '/v1/{tenant}/orders/{id}', methods: [GET, HEAD] }\n    require:\n      issuers: [corp]\n      audience: https://api.example.com/orders\n      scopes: [orders:read]\n      tenant: { from: path.tenant }",
            "match: { path: '/v1/{tenant}/orders/{id}' }\n    require:\n      issuers: [corp]\n      audience: https://api.example.com/orders\n      scopes: [orders:read]\n      tenant: { from: ⟦host.1 }",
            "names no host",
        ),
        ("strip_prefix: /v1", "strip_prefix: ⟦/v2", "begins with `strip_prefix`"),
    ]);
}

#[test]
fn names_are_unique() {
    assert_refused(&[
        ("- id: status", "- id: ⟦orders-read", "duplicate route id `orders-read`, first on line 20"),
        (
            "scopes:\n",
            "  twin:\n    issuer: ⟦https://idp.example.com/\n    keys: { discovery: true }\n    algorithms: [RS256]\nscopes:\n",
            "the same `iss` as issuer `corp`",
        ),
        ("owners:", "  ⟦orders: { url: http://127.0.0.1:1 }\nowners:", "duplicate key `orders`"),
        (
            "path: /status",
            "path: ⟦'/v1/{x}/orders/{y}'",
            "(line 21) match the same requests: GET api.example.com",
        ),
        (
            "    - http: 127.0.0.1:8080\n",
            "    - http: 127.0.0.1:8080\n    - ⟦http: 127.0.0.1:8080\n",
            "two listeners at 127.0.0.1:8080",
        ),
        ("address: 127.0.0.1:9090", "address: ⟦127.0.0.1:8080", "two listeners at 127.0.0.1:8080"),
    ]);
}

#[test]
fn values_have_their_exact_type() {
    assert_refused(&[
        ("scopes: [orders:read]", "scopes: ⟦read", "scopes are a list"),
        ("scopes: [orders:read]", "scopes: [⟦1.0]", "found a number"),
        ("scopes: [orders:read]", "scopes: [⟦true]", "found true or false"),
        ("scopes: [orders:read]", "scopes: [⟦null]", "a value is missing"),
        ("scopes: [orders:read]", "scopes: ⟦['orders:read orders:write']", "several scopes are a list"),
        ("scopes: [orders:read]", "scopes: [⟦any_authenticated]", "is not a scope"),
        ("audience: https://api.example.com/orders", "audience: ⟦123", "found a number; quote it"),
        ("      tenant:", "      max_token_age: ⟦10\n      tenant:", "a number without a unit"),
        ("      tenant:", "      max_token_age: ⟦-1\n      tenant:", "found a number"),
        ("      tenant:", "      max_token_age: ⟦1e9h\n      tenant:", "not a duration"),
        ("      tenant:", "      max_token_age: ⟦99999999999999999999h\n      tenant:", "not a duration"),
        ("      tenant:", "      max_token_age: ⟦400d\n      tenant:", "longer than a year"),
        ("      tenant:", "      max_token_age: ⟦0s\n      tenant:", "above zero"),
        ("public: true", "public: ⟦yes", "expected true or false, found text"),
        ("public: true", "public: true\n    mode: ⟦shadw", "did you mean `shadow`?"),
        ("public: true", "public: true\n    mode: ⟦shadow", "nothing to shadow"),
        ("  admin:", "  limits: { body: ⟦10 }\n  admin:", "a number without a unit"),
        ("  admin:", "  limits: { body: ⟦10MB }\n  admin:", "not a size"),
        ("  admin:", "  limits: { header_bytes: ⟦1KiB }\n  admin:", "must be between"),
        ("127.0.0.1:9090 }", "127.0.0.1:9090, hosts: [⟦'*'] }", "not the name of a host"),
        ("  admin:", "  workers: ⟦0\n  admin:", "`auto` or a whole number above 0"),
        ("  admin:", "  workers: ⟦many\n  admin:", "`auto` or a whole number above 0"),
        (
            "  admin:",
            "  access_log: ⟦file\n  admin:",
            "expected `stdout`, `off` or a file; a file is `{ file: access.jsonl }`",
        ),
        ("  admin:", "  access_log: { ⟦path: a }\n  admin:", "unknown key `path`"),
        ("  admin:", "  access_log: { file: ⟦'' }\n  admin:", "an empty file name"),
        ("  admin:", "  trusted_proxies: [⟦10.0.0.0/99]\n  admin:", "not a network"),
        ("http: 127.0.0.1:8080", "http: ⟦localhost", "write `127.0.0.1:8080` for this machine alone"),
    ]);
}

#[test]
fn issuers_are_strict() {
    assert_refused(&[
        ("algorithms: [RS256]", "algorithms: [⟦HS256]", "symmetric"),
        ("algorithms: [RS256]", "algorithms: [⟦none]", "no signature"),
        ("algorithms: [RS256]", "algorithms: [⟦rs256]", "compared exactly"),
        ("algorithms: [RS256]", "algorithms: [⟦ES256K]", "not a supported algorithm"),
        ("algorithms: [RS256]", "algorithms: ⟦[]", "no algorithm is allowed"),
        (
            "issuer: https://idp.example.com/",
            "issuer: ⟦http://idp.example.com/",
            "must not be fetched over plain http",
        ),
        (
            "keys: { discovery: true }",
            "keys: { jwks_uri: ⟦'http://idp.example.com/jwks' }",
            "must not be fetched over plain http",
        ),
        (
            "keys: { discovery: true }",
            "keys: ⟦{ discovery: true, jwks_uri: 'https://idp.example.com/jwks' }",
            "exactly one source",
        ),
        ("keys: { discovery: true }", "keys: ⟦{ discovery: false }", "exactly one source"),
        ("keys: { discovery: true }", "keys: { jwks_file: ⟦missing.json }", "no such file"),
        (
            "keys: { discovery: true }",
            "keys: { discovery: true, token: { file: ⟦missing.token } }",
            "no such file",
        ),
        ("keys: { discovery: true }", "keys: { discovery: true, token: ⟦{} }", "a secret is either"),
        ("keys: { discovery: true }", "keys: { discovery: true }\n    leeway: ⟦1h", "`leeway` above 5m"),
        (
            "keys: { discovery: true }",
            "keys: { discovery: true }\n    token_type: ⟦JWT",
            "write `{ accept: […]",
        ),
        (
            "keys: { discovery: true }",
            "keys: { discovery: true }\n    token_type: ⟦{ accept: [JWT] }",
            "missing `require_claims`",
        ),
        (
            "keys: { discovery: true }",
            "keys: { discovery: true }\n    token_type: { accept: [JWT], require_claims: ⟦[] }",
            "only access tokens have",
        ),
        ("tenant: tenant_id", "tenant: ⟦a..b", "not a claim path"),
        (
            "issuer: https://idp.example.com/\n    keys: { discovery: true }",
            "issuer: 'https://idp.example.com/{tenant_id}'\n    keys: ⟦{ discovery: true }",
            "no common metadata; write the provider's `jwks_uri`",
        ),
        (
            "issuer: https://idp.example.com/\n    keys: { discovery: true }",
            "issuer: ⟦'https://idp.example.com/{tid}'\n    keys: { jwks_uri: 'https://idp.example.com/jwks' }",
            "names `tid`, but `claims.tenant` is `tenant_id`",
        ),
        (
            "issuer: https://idp.example.com/\n    keys: { discovery: true }",
            "issuer: ⟦'https://{tenant_id}.example.com/'\n    keys: { jwks_uri: 'https://idp.example.com/jwks' }",
            "must be in the path",
        ),
        (
            "issuer: https://idp.example.com/\n    keys: { discovery: true }",
            "issuer: ⟦'https://idp.example.com/{a}/{b}'\n    keys: { jwks_uri: 'https://idp.example.com/jwks' }",
            "one claim in braces",
        ),
        ("tenant: { from: path.tenant }", "tenant: ⟦all", "write `{ equals: … }`, `{ from: … }` or `any`"),
    ]);
}

#[test]
fn a_web_socket_needs_an_upstream_that_can_become_one() {
    let route = GOOD.replace("strip_prefix: /v1\n", "strip_prefix: /v1\n      websocket: true\n");
    assert!(parse(&route).is_ok());
    let errors = parse(&route.replace("9000 }", "9000, protocol: h2c }")).unwrap_err();
    assert!(errors.to_string().contains("a WebSocket needs an upstream with `protocol: http1`"), "{errors}");
}

#[test]
fn subprotocols_of_tokens_are_names_on_protected_routes() {
    let of = |value: &str| format!("strip_prefix: /v1\n      websocket: {value}\n");
    for (value, message) in [
        ("{ token_subprotocol: ⟦'' }", "not the name of a subprotocol"),
        ("{ token_subprotocol: ⟦'a, b' }", "not the name of a subprotocol"),
        ("{ token_subprotocol: ⟦'a b' }", "not the name of a subprotocol"),
        ("{ token_subprotocol: ⟦'a/b' }", "not the name of a subprotocol"),
        ("{ token_subprotocol: ⟦[bearer] }", "expected"),
        ("⟦{ }", "token_subprotocol"),
        ("{ ⟦subprotocol: bearer }", "unknown key `subprotocol`"),
        ("⟦bearer", "expected `true`, `false` or `{ token_subprotocol: … }`"),
    ] {
        assert_refused(&[("strip_prefix: /v1\n", &of(value), message)]);
    }
    let long = format!("{{ token_subprotocol: ⟦{} }}", "a".repeat(65));
    assert_refused(&[("strip_prefix: /v1\n", &of(&long), "not the name of a subprotocol")]);
    assert_refused(&[(
        "public: true",
        "public: true\n    forward: { websocket: { token_subprotocol: ⟦bearer } }",
        "a public route reads no token",
    )]);
    let good = with("strip_prefix: /v1\n", &of("{ token_subprotocol: bearer }"));
    let snapshot = parse(&good).unwrap().snapshot;
    let places = snapshot.routes[0].token_places.as_deref().unwrap();
    assert!(places.authorization && places.fields.is_empty() && snapshot.routes[0].websocket);
    assert_eq!(places.subprotocol.as_deref(), Some("bearer"));
    let elsewhere = good.replace("    algorithms", "    token_header: X-Token\n    algorithms");
    let errors = parse(&elsewhere).unwrap_err().to_string();
    assert!(errors.contains("each issuer of this route has a `token_header`"), "{errors}");
    let errors = parse(&good.replace("9000 }", "9000, protocol: h2c }")).unwrap_err().to_string();
    assert!(errors.contains("a WebSocket needs an upstream with `protocol: http1`"), "{errors}");
}

#[test]
fn upstreams_and_hosts_are_strict() {
    assert_refused(&[
        ("url: http://127.0.0.1:9000", "url: ⟦ftp://x", "begins with `https://` or `http://`"),
        ("url: http://127.0.0.1:9000", "url: ⟦http://127.0.0.1:9000/api", "scheme, host and port only"),
        ("url: http://127.0.0.1:9000", "url: ⟦http://user:pw@127.0.0.1", "user name"),
        ("url: http://127.0.0.1:9000", "url: ⟦http://127.0.0.1:99999", "the port is not"),
        (
            "url: http://127.0.0.1:9000",
            "url: ⟦http://127.0.0.1:9000, protocol: h2",
            "needs an `https://` address",
        ),
        (
            "url: http://127.0.0.1:9000",
            "url: ⟦https://127.0.0.1:9000, protocol: h2c",
            "needs an `http://` address",
        ),
        ("url: http://127.0.0.1:9000", "url: http://127.0.0.1:9000, ⟦tls: { }", "`tls` has no effect"),
        ("url: http://127.0.0.1:9000", "endpoints: ⟦[]", "no endpoint"),
        (
            "url: http://127.0.0.1:9000",
            "url: https://127.0.0.1:9000, tls: { server_name: ⟦'api.internal:8443' }",
            "without scheme, port or wildcard",
        ),
        (
            "url: http://127.0.0.1:9000",
            "url: https://127.0.0.1:9000, tls: { server_name: ⟦'*.internal' }",
            "`*.internal` is not a DNS name or an IP address",
        ),
        (
            "url: http://127.0.0.1:9000",
            "url: https://127.0.0.1:9000, tls: { server_name: ⟦'' }",
            "not a DNS name",
        ),
        (
            "url: http://127.0.0.1:9000",
            "url: https://127.0.0.1:9000, tls: { pin: ⟦'sha1/2jmj7l5rSw0yVb/vlWAYkK/YBwk=' }",
            "a pin is `sha256/` and the base64 of 32 bytes",
        ),
        ("url: http://127.0.0.1:9000", "url: https://127.0.0.1:9000, tls: { pin: ⟦'' }", "openssl x509"),
        ("url: http://127.0.0.1:9000", "url: https://127.0.0.1:9000, tls: { pin: ⟦[] }", "no pin"),
        (
            "url: http://127.0.0.1:9000",
            "url: https://127.0.0.1:9000, tls: { pin: [\"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\", \
             ⟦\"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"] }",
            "the same pin twice",
        ),
        ("{ url: http://127.0.0.1:9000 }", "⟦{ protocol: http1 }", "either `url` or `endpoints`"),
        ("external_url: https://api.example.com", "external_url: ⟦http://api.example.com", "must be https"),
        ("external_url: https://api.example.com", "external_url: ⟦https://api.example.com/x", "an origin"),
        ("  api.example.com:", "  ⟦'*.example.com':", "not to a wildcard"),
    ]);
}

#[test]
fn listeners_and_the_way_out_are_strict() {
    assert_refused(&[
        ("http: 127.0.0.1:8080", "⟦http: 127.0.0.1:8080\n      proxy_protocol: true", "nobody could connect"),
        ("http: 127.0.0.1:8080", "http: 127.0.0.1:8080\n      redirect: ⟦http", "`https`"),
        ("http: 127.0.0.1:8080", "https: 127.0.0.1:8080\n      ⟦redirect: https", "on an https listener"),
        (
            "  admin:",
            "  egress_proxy: { url: ⟦'https://proxy:3128' }\n  admin:",
            "`http://`, a host and a port",
        ),
        ("  admin:", "  egress_proxy: { url: ⟦'http://u:p@proxy:3128' }\n  admin:", "user name"),
        (
            "  admin:",
            "  egress_proxy: { url: ⟦'http://proxy:3128/x' }\n  admin:",
            "`http://`, a host and a port",
        ),
        (
            "  admin:",
            "  egress_proxy: { url: 'http://proxy:3128', credentials: ⟦{ env: SECRET } }\n  admin:",
            "not `user:password`",
        ),
        (
            "  admin:",
            "  egress_proxy: { url: 'http://proxy:3128', no_proxy: [a.internal, ⟦'*'] }\n  admin:",
            "`*` is not the name of a host",
        ),
        ("discovery: true", "discovery: true, ca: ⟦missing.crt", "cannot read"),
    ]);
}

#[test]
fn hsts_is_what_a_browser_can_keep() {
    let url = "external_url: https://api.example.com";
    assert_refused(&[
        (url, "external_url: 'http://127.0.0.1', hsts: ⟦{ max_age: 1h }", "not https"),
        (
            url,
            "external_url: https://api.example.com, hsts: ⟦{ max_age: 365d, preload: true }",
            "`preload` needs",
        ),
        (
            url,
            "external_url: https://api.example.com, hsts: ⟦{ max_age: 364d, include_subdomains: true, preload: true }",
            "`preload` needs",
        ),
        (url, "external_url: https://api.example.com, hsts: ⟦{ }", "max_age"),
    ]);
}

#[test]
fn identity_headers_cannot_be_fields_with_a_meaning() {
    for name in [
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Cookie",
        "Proxy-Authorization",
        "Upgrade",
        "X-Forwarded-For",
        "TE",
    ] {
        let to = format!("{{ ⟦{name}: sub }}");
        let to: &'static str = to.leak();
        assert_refused(&[("{ X-User: sub }", to, "has a meaning of its own in HTTP")]);
    }
    assert_refused(&[
        ("{ X-User: sub }", "{ ⟦X_User: sub }", "many servers read `_` as `-`"),
        ("{ X-User: sub }", "{ X-User: ⟦subject }", "nothing an identity header can carry"),
        ("{ X-User: sub }", "{ X-User: ⟦claim. }", "nothing an identity header can carry"),
        ("{ X-User: sub }", "{ X-User: sub, ⟦x-user: client }", "twice, in another case"),
        ("{ X-User: sub }", "{ ⟦'X User': sub }", "not the name of a header field"),
        (
            "public: true\n",
            "public: true\n    forward: { ⟦identity_headers: { X-User: sub } }\n",
            "does not know who calls",
        ),
    ]);
}

#[test]
fn tokens_cannot_come_in_fields_with_a_meaning() {
    let refused = |name: &str, message: &str| {
        let to = format!("    token_header: ⟦{name}\n    algorithms");
        assert_refused(&[("    algorithms", &to, message)]);
    };
    for name in [
        "Connection",
        "TE",
        "Transfer-Encoding",
        "Content-Length",
        "Host",
        "Cookie",
        "Proxy-Authorization",
        "Sec-WebSocket-Protocol",
        "X-Forwarded-For",
        "X-Request-ID",
    ] {
        refused(name, "tokens cannot come in");
        refused(name, "it has a meaning of its own in HTTP");
    }
    for name in
        ["X-Original-URL", "X-Forwarded-Access-Token", "Client-Cert", "X-HTTP-Method", "Remote-User", "Proxy"]
    {
        refused(name, "it says something about the connection, the client or the request");
    }
    refused("authorization", "leave `token_header` out");
    refused("X_Token", "many servers read `_` as `-`");
    refused("X.Token", "only letters, digits and `-`");
    refused("''", "not the name of a header field");
    refused("'X Token'", "not the name of a header field");
    refused("[X-Token]", "expected");
    let taken = with("    algorithms", "    token_header: X-USER\n    algorithms");
    let errors = parse(&taken).unwrap_err().to_string();
    assert!(errors.contains("`x-user` is the field that tokens of issuer `corp` come in"), "{errors}");
    assert!(parse(&taken.replace("X-USER", "Cf-Access-Jwt-Assertion")).is_ok());
}

#[test]
fn cors_and_matches_are_strict() {
    assert_refused(&[
        ("public: true", "public: true\n    cors: { origins: '*', credentials: ⟦true }", "with any origin"),
        ("public: true", "public: true\n    cors: { origins: [⟦'*'] }", "written alone"),
        ("public: true", "public: true\n    cors: { origins: ⟦https://app.example.com/ }", "not an origin"),
        ("public: true", "public: true\n    cors: { origins: [⟦https://App.example.com] }", "not an origin"),
        ("public: true", "public: true\n    cors: { origins: [⟦'null'] }", "not an origin"),
        ("public: true", "public: true\n    cors: { origins: ⟦[] }", "an empty list of origins"),
        ("methods: [GET]", "methods: [⟦get]", "in capitals"),
        ("methods: [GET]", "methods: ⟦[]", "methods:"),
        ("methods: [GET]", "methods: ⟦[GET, GET]", "listed twice"),
        ("path: /status", "path: ⟦status", "not a path"),
        ("path: /status", "path: ⟦'/a/{b'", "not a path"),
        ("path: /status", "path: /status, allow_path: [⟦dots]", "not a spelling of paths"),
        ("host: api.example.com, path: /status", "host: ⟦'a*.example.com', path: /status", "not a host"),
        ("host: api.example.com, path: /status", "host: ⟦[], path: /status", "an empty list of hosts"),
    ]);
}

#[test]
fn claim_rules_are_exactly_one_test() {
    assert_refused(&[
        ("      tenant:", "      claims: { department: ⟦{} }\n      tenant:", "exactly one of"),
        (
            "      tenant:",
            "      claims: { department: ⟦{ equals: a, contains: b } }\n      tenant:",
            "exactly one of",
        ),
        ("      tenant:", "      claims: { department: ⟦{ one_of: [] } }\n      tenant:", "exactly one of"),
        (
            "      tenant:",
            "      claims: { department: { ⟦equal: a } }\n      tenant:",
            "did you mean `equals`?",
        ),
        (
            "      tenant:",
            "      claims: { department: { equals: ⟦.nan } }\n      tenant:",
            "not a finite number",
        ),
        ("      tenant:", "      claims: { ⟦'a..b': { equals: a } }\n      tenant:", "not a claim path"),
    ]);
}

#[test]
fn variables_are_expanded_after_parsing() {
    assert_refused(&[
        ("scopes: [orders:read]", "scopes: [⟦'${MISSING}']", "`MISSING` is not set"),
        ("audience: https://api.example.com/orders", "audience: ⟦${MISSING}", "`MISSING` is not set"),
        ("audience: https://api.example.com/orders", "audience: ⟦${EMPTY}", "a value is missing"),
        ("audience: https://api.example.com/orders", "audience: ⟦${UNCLOSED", "without `}`"),
        ("scopes: [orders:read]", "scopes: ⟦['${EVIL}']", "is not a scope"),
        (
            "admin: { address: 127.0.0.1:9090 }",
            "admin: { address: 127.0.0.1:9090, token: ⟦'${SECRET}' }",
            "found text",
        ),
        (
            "admin: { address: 127.0.0.1:9090 }",
            "admin: { address: 127.0.0.1:9090, token: ⟦{ env: MISSING } }",
            "`MISSING` is not set",
        ),
        (
            "admin: { address: 127.0.0.1:9090 }",
            "admin: { address: 127.0.0.1:9090, token: ⟦{ file: none } }",
            "no such file",
        ),
        (
            "admin: { address: 127.0.0.1:9090 }",
            "admin: { address: 127.0.0.1:9090, token: ⟦{ } }",
            "either `{ file: … }` or `{ env: … }`",
        ),
    ]);
    let text = with("127.0.0.1:8080", "'127.0.0.1:${PORT}'");
    assert_eq!(parse(&text).unwrap().snapshot.gateway.listen[0].address.port(), 8080);
    let text = with("      tenant:", "      clients: ['${NUMBER}', '$${NUMBER}']\n      tenant:");
    assert!(parse(&text).is_ok(), "a variable that looks like a number is text where text is asked for");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_printed() {
    let text = with("{ address: 127.0.0.1:9090 }", "{ address: '${SECRET}', token: '${SECRET}' }");
    let errors = parse(&text).unwrap_err().to_string();
    assert!(!errors.contains("s3cret"), "{errors}");
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text =
        with("RS256", "HS256").replace("{ url: http", "{ url: ftp").replace("- id: status", "- ID: status");
    let errors = parse(&text).unwrap_err();
    let lines: Vec<u32> = errors.0.iter().map(|d| d.line).collect();
    assert_eq!(lines, [12, 17, 31], "{errors}");
    // A section that cannot be read hides none of the others.
    let text = with("gateway:\n", "gateway:\n  lisen: 1\n").replace("- id: status", "- ID: status");
    let lines: Vec<u32> = parse(&text).unwrap_err().0.iter().map(|d| d.line).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    // One route with a misspelt key on each level: all are told, and what is missing under its right name is not.
    let text = with("scopes: [orders:read]", "scope: [orders:read]\n      audiance: x")
        .replace("- id: status", "- id: status\n    pubic: true\n    Owner: me");
    let keys: Vec<_> = parse(&text).unwrap_err().0.into_iter().map(|d| d.key.unwrap_or_default()).collect();
    assert_eq!(keys, ["scope", "audiance", "pubic", "Owner"]);
}

#[test]
fn brackets_stand_around_ipv6_addresses_alone() {
    let url = "http://127.0.0.1:9000";
    assert_refused(&[
        (url, "⟦'http://[api]:9000'", "brackets around what is no IPv6 address"),
        (url, "⟦'http://[127.0.0.1]:9000'", "brackets around what is no IPv6 address"),
        ("{ url: http://127.0.0.1:9000 }", "{ url: http://127.0.0.1:9000, host: ⟦'[api]' }", "not a host"),
        (
            "{ host: api.example.com, path: /status",
            "{ host: ⟦'[api]', path: /status",
            "brackets around what is no IPv6",
        ),
        ("https://idp.example.com/", "⟦'https://[idp]/'", "brackets around what is no IPv6 address"),
        (
            "external_url: https://api.example.com",
            "external_url: ⟦'https://[api]'",
            "brackets around what is no IPv6 address",
        ),
    ]);
    assert!(parse(&with(url, "'http://[::1]:9000'")).is_ok());
}

#[test]
fn a_variable_with_a_byte_order_mark_is_named() {
    let from = "audience: https://api.example.com/orders";
    assert_refused(&[(
        from,
        "audience: ⟦\"${MARKED}\"",
        "the value of `MARKED` begins with a byte order mark",
    )]);
}
