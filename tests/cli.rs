//! The command line: exit codes, where output goes, and that every command helps.
#![cfg(test)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{ADMIN_TOKEN, Policy, Rig, TestIssuer, Upstream, ok, process};

const COMMANDS: [&str; 6] = ["run", "demo", "check", "schema", "status", "reload"];

/// A policy with faults in three sections.
const BAD: &str = "version: 1
gateway:
  listen: [{ http: 127.0.0.1:0 }]
  lisen: 1
upstreams:
  orders: { url: 'ftp://127.0.0.1' }
routes:
  - { id: a, match: { path: /a }, upstream: nobody }
...
";

fn file(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn config(rig: &Rig) -> String {
    rig.gateway.config_path().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_command_has_help_with_an_example() {
    let all = process::scopegate(["--help"]).await;
    for command in COMMANDS {
        let output = process::scopegate([command, "--help"]).await;
        let example = format!("Example:\n  scopegate {command}");
        assert!(output.code == Some(0) && output.stdout.contains(&example), "{command}: {output:?}");
        assert!(all.stdout.contains(&format!("  {command} ")), "{command} is not in {}", all.stdout);
    }
    assert!(process::scopegate(["--version"]).await.stdout.starts_with("scopegate 0."));
}

#[tokio::test]
async fn what_is_no_command_is_an_error_of_usage() {
    for args in [
        vec!["bogus"],
        vec!["run", "--bogus"],
        vec!["check", "--format", "xml"],
        vec!["status", "--admin", "x"],
    ] {
        let output = process::scopegate(&args).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{args:?}: {output:?}");
        assert!(output.stderr.contains("Usage") || output.stderr.contains("--help"), "{output:?}");
    }
}

#[tokio::test]
async fn run_check_and_reload_name_all_errors_with_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let bad = file(dir.path(), "bad.yaml", BAD);
    for command in ["check", "run", "demo"] {
        let output = process::scopegate([command, "--config", &bad]).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{command}: {output:?}");
        for part in
            ["bad.yaml:4:3: error", "did you mean `listen`?", ":6:", ":8:", "does not say who may call it"]
        {
            assert!(output.stderr.contains(part), "{command}: {part} is missing: {}", output.stderr);
        }
    }
    let json = process::scopegate(["check", "--config", &bad, "--format", "json"]).await;
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &answer["ok"]), (Some(1), &Value::Bool(false)));
    let first = &answer["diagnostics"][0];
    assert_eq!((first["line"].as_u64(), first["column"].as_u64()), (Some(4), Some(3)), "{answer}");
    assert_eq!((&first["key"], &first["severity"]), (&"lisen".into(), &"error".into()), "{answer}");
    assert!(answer["diagnostics"].as_array().unwrap().len() >= 3, "{answer}");
}

#[tokio::test]
async fn a_good_policy_checks_with_its_warnings() {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("routes.yaml");
    let output = process::scopegate(["check", "-c", good.to_str().unwrap()]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.starts_with("ok: 5 routes, 1 issuer, 1 upstream"), "{output:?}");
    assert!(output.stderr.contains("warning") && output.stderr.contains("shadow"), "{output:?}");
    let missing = process::scopegate(["check", "-c", "/nowhere/routes.yaml"]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
}

#[tokio::test]
async fn the_schema_is_json_and_takes_the_repositorys_policy() {
    let output = process::scopegate(["schema"]).await;
    let schema: Value = serde_json::from_str(&output.stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let policy: Value =
        serde_yaml::from_str(include_str!("../routes.yaml").trim_end_matches("...\n")).unwrap();
    assert!(validator.is_valid(&policy), "{:?}", validator.iter_errors(&policy).next());
    assert!(!validator.is_valid(&serde_json::json!({ "version": 1, "rotes": [] })));
}

#[tokio::test]
async fn status_and_reload_use_the_policys_address_and_token() {
    let rig = Rig::start().await;
    // The port was chosen by the system, so the policy alone does not know it.
    let admin = rig.gateway.admin_address().to_string();
    let status = process::scopegate(["status", "-c", &config(&rig), "--admin", &admin]).await;
    let json: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((status.code, json["policy"]["hash"].as_str()), (Some(0), Some(&*rig.gateway.config_hash())));
    let reload = process::scopegate(["reload", "-c", &config(&rig), "--admin", &admin]).await;
    assert_eq!(reload.code, Some(0), "{reload:?}");
    let whole = std::fs::read_to_string(rig.gateway.config_path()).unwrap();
    let named = file(
        rig.gateway.dir(),
        "named.yaml",
        &whole.replace("address: 127.0.0.1:0", &format!("address: {admin}")),
    );
    assert_eq!(process::scopegate(["reload", "-c", &named]).await.code, Some(0));
    let token = file(rig.gateway.dir(), "token", ADMIN_TOKEN);
    assert_eq!(process::scopegate(["reload", "--admin", &admin, "--token-file", &token]).await.code, Some(0));
}

#[tokio::test]
async fn a_reload_that_is_refused_says_why_and_fails() {
    let rig = Rig::start().await;
    let admin = rig.gateway.admin_address().to_string();
    let token = file(rig.gateway.dir(), "wrong", "wrong");
    let wrong = process::scopegate(["reload", "--admin", &admin, "--token-file", &token]).await;
    assert!(wrong.code == Some(1) && wrong.stdout.is_empty() && !wrong.stderr.is_empty(), "{wrong:?}");
    let none = process::scopegate(["reload", "--admin", &admin, "-c", "/nowhere.yaml"]).await;
    assert_eq!(none.code, Some(1), "{none:?}");
    rig.gateway.replace_config(BAD);
    let good = file(rig.gateway.dir(), "token", ADMIN_TOKEN);
    let bad = process::scopegate(["reload", "--admin", &admin, "--token-file", &good]).await;
    assert!(bad.code == Some(1) && bad.stderr.contains(":4:3"), "{bad:?}");
    assert_eq!(rig.get("/orders/1").send().await.status, 200, "the last good policy stays");
}

#[tokio::test]
async fn a_gateway_that_does_not_run_is_said_to_be_out_of_reach() {
    let nobody = process::free_address().to_string();
    for command in ["status", "reload"] {
        let output = process::scopegate([command, "--admin", &nobody]).await;
        assert!(output.code == Some(1) && output.stderr.contains(&nobody), "{command}: {output:?}");
        assert!(output.stderr.contains("is the gateway running?"), "{command}: {output:?}");
    }
}

#[tokio::test]
async fn without_a_command_it_runs() {
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    let address = process::free_address();
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "admin.token", ADMIN_TOKEN);
    let policy =
        Policy::default().listen(&format!("- http: {address}")).render(issuer.url(), &upstream.url());
    file(dir.path(), "routes.yaml", &policy);
    let gateway = process::Background::start(env!("CARGO_BIN_EXE_scopegate"), [""; 0], address, dir).await;
    let call = support::Call::new(gateway.address(), "GET", "/status");
    assert_eq!(call.send().await.text(), "hello");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "admin.token", ADMIN_TOKEN);
    let whole = Policy::default().render("http://127.0.0.1:1", "http://127.0.0.1:2");
    for (from, key) in
        [("- http: 127.0.0.1:0", "gateway.listen"), ("address: 127.0.0.1:0", "gateway.admin.address")]
    {
        let text = whole.replace(from, &from.replace("127.0.0.1:0", &address));
        let output = process::scopegate(["run", "-c", &file(dir.path(), "routes.yaml", &text)]).await;
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains(&address) && output.stderr.contains(key), "{output:?}");
    }
}

#[tokio::test]
async fn a_second_gateway_cannot_take_the_firsts_port() {
    let rig = Rig::start().await;
    let text = Policy::default().listen(&format!("- http: {}", rig.gateway.address()));
    let config = file(rig.gateway.dir(), "second.yaml", &text.render(rig.issuer.url(), &rig.upstream.url()));
    let output = process::scopegate(["run", "-c", &config]).await;
    assert!(output.code == Some(1) && output.stderr.contains("gateway.listen"), "{output:?}");
}

#[tokio::test]
async fn a_ready_file_that_cannot_be_written_is_an_error_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "admin.token", ADMIN_TOKEN);
    let text = Policy::default().render("http://127.0.0.1:1", "http://127.0.0.1:2");
    let config = file(dir.path(), "routes.yaml", &text);
    let output = process::scopegate(["run", "-c", &config, "--ready-file", "/nowhere/ready"]).await;
    assert!(output.code == Some(1) && output.stderr.contains("/nowhere/ready"), "{output:?}");
}
