//! `scopegate check` and `scopegate schema`.

use std::process::{Command, Output};

use crate::with;

fn scopegate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scopegate")).args(args).output().unwrap()
}

fn check(text: &str, format: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("routes.yaml");
    std::fs::write(&path, text).unwrap();
    scopegate(&["check", "--config", path.to_str().unwrap(), "--format", format])
}

#[test]
fn a_good_policy_is_summarised_in_one_line() {
    let output = check(crate::GOOD, "text");
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.starts_with("ok: 2 routes, 1 issuer, 1 upstream; sha256 "), "{stdout}");
    assert_eq!(stdout.lines().count(), 1);
    assert_eq!(output.stderr, b"");
}

#[test]
fn a_bad_policy_lists_its_errors_with_their_places() {
    let output = check(&with("scopes: [orders:read]", "scope: [orders:read]"), "text");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("routes.yaml:25:7: error: unknown key `scope`; did you mean `scopes`?"),
        "{stderr}"
    );
}

#[test]
fn json_is_one_object_either_way() {
    let bad = check(&with("scopes: [orders:read]", "scope: [orders:read]"), "json");
    assert_eq!(bad.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["diagnostics"][0]["line"], 25);
    assert_eq!(answer["diagnostics"][0]["severity"], "error");
    let good = check(crate::GOOD, "json");
    let answer: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!((&answer["ok"], &answer["routes"]), (&true.into(), &2.into()));
}

#[test]
fn the_schema_is_printed() {
    let output = scopegate(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn foreign_parameters_in_paths_are_warned_of() {
    for (path, wanted) in [("/status/:id", "`{id}`"), ("/status/*", "`{*rest}`"), ("/status/**", "`{*rest}`")]
    {
        let output = check(&with("path: /status", &format!("path: '{path}'")), "text");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && text.contains("is literal text") && text.contains(wanted),
            "{path}: {text}"
        );
    }
}

#[test]
fn routes_that_servers_confuse_are_warned_of() {
    let slash = "path: /status }\n    public: true\n    upstream: orders\n  - id: slash\n    match: { path: /status/ }\n    \
        require: { issuers: [corp], audience: a, scopes: any_authenticated }\n    upstream: orders\n  - id: other\n    \
        match: { path: /other";
    let output = check(&with("path: /status", slash), "text");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && text.contains("`slash`"), "{text}");
}
