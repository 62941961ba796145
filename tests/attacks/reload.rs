//! Group N: the configuration while it changes. Whatever stands in the file, what is in force is a whole policy that was
//! checked, and no state in between is weaker.
//!
//! How a file is watched is tested in `tests/watch.rs`, how it is read in `tests/config`; here both happen to a gateway that
//! serves.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Client, Gateway, Policy, Rig, eventually, has_keys, process};

const DENIED: &str = "401 credential_missing";

/// What must hold whatever has become of the file: protected routes ask for a token, and a good one is served.
pub(crate) async fn unweakened(rig: &Rig, what: &str) {
    for path in ["/orders/1", "/orders/", "/orders/a/b"] {
        assert_eq!(rig.gateway.get(path).send().await.verdict(), DENIED, "{what}: {path} without a token");
    }
    let weak = rig.issuer.token().scope("orders:none").mint();
    assert_eq!(
        rig.gateway.get("/orders/1").token(&weak).send().await.verdict(),
        "403 scope_missing",
        "{what}"
    );
    assert_eq!(rig.get("/orders/1").send().await.verdict(), "200 -", "{what}");
}

/// Contents that are no policy, each with its number in the catalogue.
fn faults(good: &str) -> Vec<(&'static str, String, Vec<u8>)> {
    let edit = |from: &str, to: &str| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from:?} is not there");
        text
    };
    let mut laughs = String::from("a0: &a0 [lol, lol]\n");
    for level in 1..10 {
        let _ = writeln!(laughs, "a{level}: &a{level} [{}]", vec![format!("*a{}", level - 1); 9].join(", "));
    }
    let scopes = "scopes: [orders:read]";
    let text: Vec<(&str, &str, String)> = vec![
        ("N09", "billion laughs", laughs),
        ("N09", "an alias of itself", "a: &a [*a]\n...\n".into()),
        ("N09", "many aliases", format!("a: &a 1\nb: [{}]\n...\n", "*a, ".repeat(50_000))),
        ("N09", "100,000 deep", "[".repeat(100_000)),
        ("N09", "block deep", (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        ("N10", "a merge key", edit("  require:", "  <<: { public: true }\n    require:")),
        ("N10", "an anchor", edit("upstream: orders", "upstream: &u orders")),
        ("N10", "an alias", edit("  owner: orders", "  owner: *nobody #")),
        ("N10", "a tag", edit(scopes, "scopes: !!set [orders:read]")),
        ("N12", "scopes as text", edit(scopes, "scopes: orders:read")),
        ("N12", "scopes of other types", edit(scopes, "scopes: [no, on, 1.0, 0777, null]")),
        ("N12", "no scopes", edit(scopes, "scopes: []")),
        ("N12", "scopes null", edit(scopes, "scopes:")),
        ("N12", "an audience that is a number", edit("audience: https://api.example.com", "audience: 123")),
        ("N12", "public as text", edit("public: true", "public: 'true'")),
        ("N12", "public as yes", edit("public: true", "public: yes")),
        ("N12", "public false and nothing else", edit("public: true", "public: false")),
        ("N12", "a time without unit", edit("  admin:", "  timeouts: { idle: 10 }\n  admin:")),
        ("N12", "a time below zero", edit("  admin:", "  timeouts: { idle: -1s }\n  admin:")),
        ("N12", "a time beyond all", edit("  admin:", "  timeouts: { idle: 1e9h }\n  admin:")),
        ("N12", "a size beyond all", edit("  admin:", "  limits: { body: 99999999999GiB }\n  admin:")),
        ("N13", "scope", edit("scopes:", "scope:")),
        ("N13", "audiance", edit("audience:", "audiance:")),
        ("N13", "requires", edit("require:", "requires:")),
        ("N13", "require in capitals", edit("require:", "Require:")),
        ("N13", "issuer for issuers", edit("issuers: [corp]", "issuer: [corp]")),
        ("N13", "no requirement at all", edit("require:", "#")),
        ("N13", "both public and not", edit("  require:", "  public: true\n    require:")),
        ("N13", "an unknown section", format!("rotues: []\n{good}")),
        ("N13", "a key twice", edit("version: 1", "version: 1\nversion: 1")),
        ("N13", "another version", edit("version: 1", "version: 2")),
        ("N13", "no version", edit("version: 1", "")),
        ("N14", "empty", String::new()),
        ("N14", "spaces", "   \n\n".into()),
        ("N14", "a comment", "# nothing\n...\n".into()),
        ("N14", "a marker", "---\n...\n".into()),
        ("N14", "null", "null\n...\n".into()),
        ("N14", "a list", "[]\n...\n".into()),
        ("N14", "an object", "{}\n...\n".into()),
        ("N14", "text", "hello\n...\n".into()),
        ("N14", "two documents", good.replace("...\n", "---\n") + good),
        ("N14", "tabs", good.replace("    ", "\t")),
        ("N14", "a byte order mark", format!("\u{feff}{good}")),
        ("N14", "no routes", good.split("routes:").next().unwrap().to_owned() + "...\n"),
        (
            "N20",
            "another listener",
            edit("- http: 127.0.0.1:0", "- http: 127.0.0.1:0\n    - http: 127.0.0.1:0"),
        ),
        ("N21", "an issuer without keys", edit("keys: { discovery: true }", "#")),
        ("N21", "a symmetric algorithm", edit("algorithms: [", "algorithms: [HS256, ")),
        ("N21", "no algorithm", edit("algorithms: [RS256", "algorithms: [none")),
        ("N21", "a key file that is not there", edit("{ discovery: true }", "{ jwks_file: gone.json }")),
        ("N21", "a key file that is none", edit("{ discovery: true }", "{ jwks_file: routes.yaml }")),
        ("N21", "an empty admin token", edit("file: admin.token", "file: empty.token")),
        (
            "N21",
            "an authority that is none",
            edit("upstreams:\n  orders:", "upstreams:\n  orders:\n    tls: { ca: routes.yaml }"),
        ),
        (
            "N24",
            "a variable that is not set",
            edit("owner: orders-team@example.com", "owner: '${NOT_SET_ANYWHERE}'"),
        ),
        ("N24", "a variable without an end", edit("owner: orders-team@example.com", "owner: '${HOME'")),
    ];
    let mut all: Vec<(&'static str, String, Vec<u8>)> = Vec::new();
    for (id, what, text) in text {
        all.push((id, what.to_owned(), text.into_bytes()));
    }
    let utf16 = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    all.push(("N14", "UTF-16".into(), utf16));
    all.push(("N08", "binary".into(), (0..=255).cycle().take(100_000).collect()));
    all.push(("N08", "zeros".into(), vec![0; 100_000]));
    all.push((
        "N14",
        "latin-1".into(),
        good.replace("orders-team", "\u{f6}").chars().map(|c| c as u8).collect(),
    ));
    all
}

#[tokio::test]
async fn n08_to_n24_what_is_no_policy_changes_nothing_here_at_boot_and_in_check() {
    let rig = Rig::with(Policy::default()).await;
    let gateway = &rig.gateway;
    let good = Policy::default().render(rig.issuer.url(), &rig.upstream.url());
    std::fs::write(gateway.dir().join("empty.token"), "").unwrap();
    let hash = gateway.config_hash();
    for (id, what, content) in faults(&good) {
        let what = format!("{id} {what}");
        let new = gateway.dir().join(".new");
        std::fs::write(&new, &content).unwrap();
        std::fs::rename(new, gateway.config_path()).unwrap();
        let response = gateway.reload().await;
        assert_eq!(response.status, 422, "{what}: {}", response.text());
        let status = gateway.status().await;
        assert!(
            status["reload"]["error"].as_str().is_some_and(|error| !error.is_empty()),
            "{what}: {status}"
        );
        assert_eq!(status["policy"]["hash"], hash, "{what}");
        assert_eq!(gateway.metric("scopegate_policy_last_reload_successful", &[]).await, 0.0, "N25 {what}");
        unweakened(&rig, &what).await;
        // `check` says the same of the same file, except of what only a running process knows.
        let check = process::scopegate(["check", "--config", gateway.config_path().to_str().unwrap()]).await;
        let expected = if id == "N20" { Some(0) } else { Some(1) };
        assert_eq!(check.code, expected, "N16 {what}: {check:?}");
    }
    gateway.replace_config(&good);
    assert_eq!(gateway.reload().await.status, 200, "N25");
    let status = gateway.status().await;
    assert!(status["reload"]["error"].is_null() && status["policy"]["hash"] == hash, "N25: {status}");
    assert_eq!(gateway.metric("scopegate_policy_last_reload_successful", &[]).await, 1.0, "N25");
    assert!(gateway.peak_memory() < 256 << 20, "N09: {} bytes at the most", gateway.peak_memory());
}

#[tokio::test]
async fn n16_what_is_no_policy_does_not_start() {
    let good = Policy::default().render("https://idp.example.com", "http://127.0.0.1:1");
    let rows = faults(&good);
    for (id, what, content) in rows.iter().filter(|row| row.0 != "N20") {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.yaml");
        std::fs::write(dir.path().join("admin.token"), "0123456789abcdef0123456789abcdef").unwrap();
        std::fs::write(dir.path().join("empty.token"), "").unwrap();
        std::fs::write(&path, content).unwrap();
        let run = process::scopegate(["run", "--config", path.to_str().unwrap()]).await;
        assert_eq!(run.code, Some(1), "N16 {id} {what}: {run:?}");
        assert!(run.stderr.contains("routes.yaml"), "N16 {id} {what}: the place is named: {}", run.stderr);
    }
}

#[tokio::test]
async fn n08_what_is_no_file_changes_nothing_and_holds_up_nothing() {
    let rig = Rig::with(Policy::default()).await;
    let gateway = &rig.gateway;
    let (path, good) = (gateway.config_path(), std::fs::read_to_string(gateway.config_path()).unwrap());
    let hash = gateway.config_hash();
    let huge = gateway.dir().join("huge");
    // Sparse: a gibibyte that takes no room.
    std::fs::File::create(&huge).unwrap().set_len(1 << 30).unwrap();
    let fifo = gateway.dir().join("fifo");
    assert_eq!(process::run("mkfifo", [fifo.as_os_str()]).await.code, Some(0));
    let link = |to: &std::path::Path| {
        let new = gateway.dir().join(".link");
        std::os::unix::fs::symlink(to, &new).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    for target in
        ["/dev/zero", "/dev/random", "/dev/null", "/proc/self/mem", "/nowhere/at/all", "routes.yaml", "/etc"]
    {
        link(std::path::Path::new(target));
        assert_eq!(gateway.reload().await.status, 422, "N08 {target}");
        unweakened(&rig, &format!("N08 {target}")).await;
    }
    for target in [&huge, &fifo] {
        link(target);
        assert_eq!(gateway.reload().await.status, 422, "N08 {}", target.display());
        unweakened(&rig, &format!("N08 {}", target.display())).await;
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(gateway.reload().await.status, 422, "N06: gone");
    unweakened(&rig, "N06").await;
    std::fs::create_dir(&path).unwrap();
    assert_eq!(gateway.reload().await.status, 422, "N08: a folder");
    unweakened(&rig, "N08, a folder").await;
    std::fs::remove_dir(&path).unwrap();
    gateway.replace_config(&good);
    assert_eq!(gateway.reload().await.status, 200);
    assert_eq!(gateway.status().await["policy"]["hash"], *hash);
    assert!(gateway.peak_memory() < 200 << 20, "N08: {} bytes at the most", gateway.peak_memory());
}

/// A client without a token, asking without pause until told to stop; every answer must be the same refusal.
fn stranger(gateway: &Gateway, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let (call, address, stop) = (gateway.get("/orders/1"), gateway.address(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        let mut refused = 0;
        while !stop.load(Ordering::SeqCst) {
            let verdict = call.on(&mut client).await.unwrap().verdict();
            // Where the route itself is cut off there is nothing to be had either.
            assert!([DENIED, "404 route_unknown"].contains(&verdict.as_str()), "N01: {verdict}");
            refused += 1;
        }
        refused
    })
}

#[tokio::test]
async fn n01_no_prefix_of_a_policy_opens_anything() {
    let rig = Rig::with(Policy::default()).await;
    let good = std::fs::read_to_string(rig.gateway.config_path()).unwrap();
    let mut applied = 0;
    for end in 0..good.len() {
        // Replaced, and reloaded by command: nothing but the policy itself can say that it is not whole.
        rig.gateway.replace_config(&good[..end]);
        let status = rig.gateway.reload().await.status;
        assert!([200, 422].contains(&status), "N01 cut at {end}: {status}");
        applied += usize::from(status == 200);
        let verdict = rig.gateway.get("/orders/1").send().await.verdict();
        assert!([DENIED, "404 route_unknown"].contains(&verdict.as_str()), "N01 cut at {end}: {verdict}");
        let weak = rig.issuer.token().scope("orders:none").mint();
        let verdict = rig.gateway.get("/orders/1").token(&weak).send().await.verdict();
        assert!(
            ["403 scope_missing", "404 route_unknown"].contains(&verdict.as_str()),
            "N01 cut at {end}: {verdict}"
        );
    }
    assert!(applied > 0, "some prefixes are whole policies, or this tests nothing");
    assert_eq!(rig.upstream.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n03_a_file_written_letter_by_letter_counts_when_it_is_whole() {
    let rig = Rig::with(Policy::default()).await;
    let tight = Policy::default()
        .require("{ issuers: [corp], audience: https://api.example.com, scopes: [orders:read, orders:more] }")
        .render(rig.issuer.url(), &rig.upstream.url());
    let stop = Arc::new(AtomicBool::new(false));
    let stranger = stranger(&rig.gateway, &stop);
    let before = rig.gateway.status().await["policy"]["generation"].as_u64().unwrap();
    // Up to here it is a whole policy to every reader but one that waits for its last line.
    let pause = tight.rfind("  owner:").unwrap() - 2;
    // The last two bytes come together: without the second of them, the end of a line, the file is whole already.
    for end in (0..=tight.len()).filter(|end| *end != tight.len() - 1) {
        rig.gateway.write_config_in_place(&tight[..end]);
        if end == pause {
            eventually("N03: it is seen, and not believed", || async {
                let status = rig.gateway.status().await;
                status["reload"]["error"].as_str()?.contains("may be incomplete").then_some(())
            })
            .await;
            assert_eq!(rig.get("/orders/1").send().await.verdict(), "200 -", "N03 at the pause");
        }
        if end % 100 == 0 {
            // While it is half written, what was whole is in force.
            assert_eq!(rig.get("/orders/1").send().await.verdict(), "200 -", "N03 at {end}");
        }
    }
    rig.gateway.wait_loaded().await;
    let after = rig.gateway.status().await["policy"]["generation"].as_u64().unwrap();
    assert_eq!(after, before + 1, "N03: loaded once");
    assert_eq!(rig.get("/orders/1").send().await.verdict(), "403 scope_missing", "N03");
    stop.store(true, Ordering::SeqCst);
    assert!(stranger.await.unwrap() > 0);
}

#[tokio::test]
async fn n20_a_stricter_policy_counts_on_old_connections_and_for_tokens_seen_before() {
    let rig = Rig::with(Policy::default()).await;
    let call = rig.get("/orders/1");
    let mut client = Client::connect(rig.gateway.address()).await;
    assert_eq!(call.on(&mut client).await.unwrap().verdict(), "200 -", "N20: the token is known now");
    let all = |from: &str, to: &str| {
        let text = Policy::default().render(rig.issuer.url(), &rig.upstream.url());
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    };
    let rows = [
        ("another scope", all("[orders:read]", "[orders:admin]"), "403 scope_missing"),
        (
            "another audience",
            all("audience: https://api.example.com", "audience: urn:other"),
            "401 audience_mismatch",
        ),
        ("fewer algorithms", all("ES256, ES384, ", ""), "401 algorithm_refused"),
        (
            "a shorter life",
            all("claims: { tenant", "max_lifetime: 1m\n    claims: { tenant"),
            "401 token_lifetime_excessive",
        ),
        (
            "more claims",
            all("scopes: [orders", "subjects: [bob]\n      scopes: [orders"),
            "403 subject_refused",
        ),
        ("another path", all("/orders/{*rest}", "/other/{*rest}"), "404 route_unknown"),
        ("another method", all("{*rest}' }", "{*rest}', methods: [POST] }"), "405 method_not_allowed"),
    ];
    for (what, text, verdict) in rows {
        rig.gateway.replace_config(&text);
        assert_eq!(rig.gateway.reload().await.status, 200, "N20 {what}");
        // An issuer that is another one now has its keys fetched anew.
        has_keys(&rig.gateway).await;
        assert_eq!(call.on(&mut client).await.unwrap().verdict(), verdict, "N20 {what}");
    }
    rig.gateway.replace_config(&Policy::default().render(rig.issuer.url(), &rig.upstream.url()));
    assert_eq!(rig.gateway.reload().await.status, 200);
    has_keys(&rig.gateway).await;
    assert_eq!(call.on(&mut client).await.unwrap().verdict(), "200 -", "N20: as before");
}

#[tokio::test]
async fn n21_certificates_that_would_not_work_are_refused_with_the_policy() {
    let authority = crate::support::tls::Authority::new("authority");
    let (leaf, other) = (authority.server(&["api.example.com"]), authority.server(&["api.example.com"]));
    let policy = Policy::default().listen(
        "- { http: 127.0.0.1:0 }\n- { https: 127.0.0.1:0, certificates: [{ cert: c.pem, key: k.pem }] }",
    );
    let (issuer, upstream) = (
        crate::support::TestIssuer::start().await,
        crate::support::Upstream::start(|_| crate::support::ok("hello")).await,
    );
    let files = [("c.pem", leaf.cert.as_str()), ("k.pem", leaf.key.as_str())];
    let gateway = Gateway::start_with(&policy.render(issuer.url(), &upstream.url()), &files).await;
    let connect = crate::support::tls::Connect {
        authority: &authority,
        name: "api.example.com",
        alpn: &[],
        client: None,
    };
    let write = |name: &str, text: &str| std::fs::write(gateway.dir().join(name), text).unwrap();
    for (what, cert, key) in [
        ("the key of another", leaf.cert.as_str(), other.key.as_str()),
        ("no certificate", "", leaf.key.as_str()),
        ("no key", leaf.cert.as_str(), ""),
        ("both in one another's place", leaf.key.as_str(), leaf.cert.as_str()),
        ("cut off", &leaf.cert[..leaf.cert.len() / 2], leaf.key.as_str()),
        ("binary", "\u{0}\u{1}\u{2}", leaf.key.as_str()),
    ] {
        write("c.pem", cert);
        write("k.pem", key);
        assert_eq!(gateway.reload().await.status, 422, "N21 {what}");
        let stream = connect.to(gateway.https()).await.unwrap();
        assert!(crate::tls::shows(&stream, &leaf), "N21 {what}: the old certificate serves");
    }
    write("c.pem", &other.cert);
    write("k.pem", &other.key);
    assert_eq!(gateway.reload().await.status, 200, "N21");
    let stream = connect.to(gateway.https()).await.unwrap();
    assert!(crate::tls::shows(&stream, &other), "N21: the new certificate serves");
}

#[tokio::test]
async fn n24_a_variable_is_a_value_and_never_more_of_the_policy() {
    let (issuer, upstream) = (
        crate::support::TestIssuer::start().await,
        crate::support::Upstream::start(|_| crate::support::ok("hello")).await,
    );
    let injected = "x\n    public: true\n  - id: open\n    match: { path: '/{*rest}' }\n    public: true\n    upstream: orders #";
    let text = Policy::default().render(issuer.url(), &upstream.url());
    // A name and a text: the one is refused with the whole policy, the other is what it is, line ends and all.
    let named = text.replace("owner: orders-team@example.com", "owner: ${ATTACK}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("routes.yaml"), named).unwrap();
    std::fs::write(dir.path().join("admin.token"), "0123456789abcdef0123456789abcdef").unwrap();
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["run", "--config"])
        .arg(dir.path().join("routes.yaml"))
        .env("ATTACK", injected)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.code() == Some(1) && told.contains("an owner is one line of text"), "N24: {told}");
    for from in ["scopes: [orders:read]", "audience: https://api.example.com"] {
        let (key, _) = from.split_once(": ").unwrap();
        for value in ["'${ATTACK}'", "${ATTACK}", "[\"${ATTACK}\"]"] {
            let text = text.replace(from, &format!("{key}: {value}"));
            std::fs::write(dir.path().join("routes.yaml"), text).unwrap();
            let check = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
                .args(["check", "--config"])
                .arg(dir.path().join("routes.yaml"))
                .env("ATTACK", injected)
                .output()
                .unwrap();
            let told =
                String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
            assert!(
                check.status.code() == Some(1) || told.contains("ok: 2 routes"),
                "N24 {key} {value}: {told}"
            );
        }
    }
    // Where any text may stand, it stands there as one value.
    let text = text.replace(
        "scopes: [orders:read]",
        "claims: { note: { equals: '${ATTACK}' } }\n      scopes: [orders:read]",
    );
    let gateway = Gateway::start_in_environment(&text, &[("ATTACK", injected)]).await;
    has_keys(&gateway).await;
    assert_eq!(gateway.get("/orders/1").send().await.verdict(), DENIED, "N24");
    assert_eq!(gateway.get("/anything").send().await.verdict(), "404 route_unknown", "N24");
    let token = issuer.token();
    let without = gateway.get("/orders/1").token(&token.mint()).send().await.verdict();
    assert_eq!(without, "403 claim_mismatch", "N24");
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn n17_n18_reloads_of_a_large_policy_give_their_memory_back() {
    let rig = Rig::with(Policy::default()).await;
    let large = |n: usize| {
        let mut routes = String::new();
        for i in 0..300 {
            let _ = writeln!(
                routes,
                "- {{ id: r{i}, match: {{ path: '/r{i}/v{n}' }}, require: {{ issuers: [corp], audience: 'https://api.example.com', scopes: [s{i}] }}, upstream: orders }}"
            );
        }
        let orders = "
- id: orders
  match: { path: '/orders/{*rest}' }
  require: { issuers: [corp], audience: https://api.example.com, scopes: [orders:read] }
  upstream: orders
";
        Policy::default().routes(&(routes + orders)).render(rig.issuer.url(), &rig.upstream.url())
    };
    let mut early = 0;
    for n in 0..150 {
        rig.gateway.replace_config(&large(n));
        let reload = rig.gateway.reload().await;
        assert_eq!(reload.status, 200, "N18 {n}: {}", reload.text());
        if n == 10 {
            early = rig.gateway.peak_memory();
        }
    }
    // Whoever kept each of these policies would need some 60 MiB more.
    let grown = rig.gateway.peak_memory() - early;
    assert!(grown < 40 << 20, "N18: {grown} bytes more than {early} after 139 more reloads");
    eventually("the last policy is in force", || async {
        (rig.get("/orders/1").send().await.verdict() == "200 -").then_some(())
    })
    .await;
}

/// A million routes behind `routes:`, each of which this writes.
fn a_million(route: impl Fn(usize) -> String) -> String {
    (0..1_000_000).fold(String::from("routes:\n"), |mut text, n| {
        text.push_str(&route(n));
        text
    })
}

#[tokio::test]
async fn n17_a_policy_beyond_its_bounds_says_so_and_changes_nothing() {
    let rig = Rig::with(Policy::default()).await;
    let gateway = &rig.gateway;
    let good = std::fs::read_to_string(gateway.config_path()).unwrap();
    let sections = good.split("routes:").next().unwrap();
    let (path, hash) = (gateway.config_path().to_str().unwrap().to_owned(), gateway.config_hash());
    let usual = a_million(|n| {
        format!("- {{ id: orders-{n}, match: {{ path: /orders/{n} }}, public: true, upstream: orders }}\n")
    });
    // Where the sections come last, routes are not looked at before all of them are read.
    let shortest = a_million(|_| String::from("- {}\n"));
    assert!(usual.len() > 64 << 20 && shortest.len() < 8 << 20);
    for (what, text, said) in [
        (
            "a million routes",
            [sections, &usual].concat(),
            "routes.yaml:1:1: error: cannot read the policy: longer than 64 MiB",
        ),
        ("a million routes in few bytes", [&shortest, sections].concat(), "more than 200000 routes"),
    ] {
        gateway.replace_config(&format!("{text}...\n"));
        for command in ["check", "run"] {
            let output = process::scopegate([command, "--config", &path]).await;
            assert_eq!(output.code, Some(1), "N17 {what}: {command}: {output:?}");
            assert!(output.stderr.contains(said), "N17 {what}: {command}: {}", output.stderr);
            assert!(
                output.stderr.contains("split the policy among"),
                "N17 {what}: {command}: {}",
                output.stderr
            );
        }
        let meanwhile = rig.get("/orders/meanwhile");
        let (response, served) = tokio::join!(gateway.reload(), meanwhile.send());
        assert_eq!(
            (response.status, served.verdict().as_str()),
            (422, "200 -"),
            "N17 {what}: {}",
            response.text()
        );
        let status = gateway.status().await;
        let error = status["reload"]["error"].to_string();
        assert!(error.contains(said) && error.contains("split the policy among"), "N17 {what}: {error}");
        assert_eq!(status["policy"]["hash"], hash, "N17 {what}");
        unweakened(&rig, what).await;
    }
    let peak = gateway.peak_memory();
    assert!(peak < 512 << 20, "N17: {peak} bytes at the most");
    gateway.replace_config(&good);
    assert_eq!(gateway.reload().await.status, 200, "N17");
}
