//! The documents say what the program does: tables, examples and commands of README.md are held to the code.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use scopegate::config;
use scopegate::observe::access_log::{Disposition, Entry};
use scopegate::observe::metrics::{Cause, ConnectFault, NAMES};
use scopegate::reject::{Challenge, Reason};
use serde_json::Value;

const README: &str = include_str!("../README.md");
const CHANGELOG: &str = include_str!("../CHANGELOG.md");
const POLICY: &str = include_str!("../routes.yaml");

/// What stands between a comment that begins with this word and the next `<!-- end -->`.
fn marked(word: &str) -> &'static str {
    let start = README.find(&format!("<!-- {word}")).unwrap_or_else(|| panic!("no mark `{word}`"));
    let (_, rest) = README[start..].split_once("-->").unwrap();
    rest.split_once("<!-- end -->").unwrap().0
}

/// The rows of a marked table, without its head.
fn rows(word: &str) -> Vec<&'static str> {
    marked(word).trim().lines().skip(2).collect()
}

/// The text between two headings of this level, the first of which is given.
fn section(heading: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let level = heading.split(' ').next().unwrap();
    rest.split(&format!("\n{level} ")).next().unwrap()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[track_caller]
fn assert_rows(word: &str, expected: &[String]) {
    let written = rows(word);
    assert!(written == *expected, "README.md: the rows of `{word}` must be:\n{}", expected.join("\n"));
}

#[test]
fn the_reason_table_is_that_of_the_code() {
    let expected: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| {
            let row = reason.row();
            let error = match row.challenge {
                Challenge::None => "–".to_owned(),
                Challenge::Plain => "no error".to_owned(),
                Challenge::Error(error) => format!("`{}`", error.as_str()),
            };
            let control = row.control.as_str();
            format!("| `{}` | {} | {error} | {control} | {} |", row.name, row.status, row.cure)
        })
        .collect();
    assert_rows("reasons", &expected);
}

#[test]
fn the_reserved_reasons_are_those_that_nothing_gives() {
    let mut code = String::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    let given = |reason: &Reason| code.contains(&format!("Reason::{reason:?}"));
    let unused: Vec<_> = Reason::ALL.iter().filter(|reason| !given(reason)).map(|r| r.as_str()).collect();
    assert_eq!(quoted(marked("reserved")).collect::<Vec<_>>(), unused);
}

/// The code that can refuse: without tests, without the reasons themselves, and without `respond`, which only renders them.
fn collect(folder: &Path, code: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "respond" {
            collect(&path, code);
        } else if name.ends_with(".rs") && !matches!(name, "reject.rs" | "tests.rs" | "testing.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            code.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap());
        }
    }
}

#[test]
fn the_metrics_table_is_that_of_the_code() {
    let expected: Vec<_> = NAMES
        .iter()
        .map(|name| {
            let labels: Vec<_> = name.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
            format!("| `{}` | {} | {labels} | {} |", name.name, name.kind(), name.help)
        })
        .collect();
    assert_rows("metrics", &expected);
}

#[test]
fn the_table_of_causes_has_all_of_them() {
    let written: Vec<_> = rows("causes").iter().map(|row| quoted(row).next().unwrap()).collect();
    let expected: Vec<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
    assert_eq!(written, expected);
}

#[test]
fn the_table_of_connect_faults_has_all_of_them() {
    let written: Vec<_> = rows("connect faults").iter().map(|row| quoted(row).next().unwrap()).collect();
    let expected: Vec<_> = ConnectFault::ALL.iter().map(|fault| fault.as_str()).collect();
    assert_eq!(written, expected);
}

#[test]
fn the_access_log_table_names_the_fields_of_a_full_line() {
    let full = Entry {
        unix_ms: 0,
        request_id: "r",
        address: Some("192.0.2.1".parse().unwrap()),
        method: &http::Method::GET,
        host: Some(b"h"),
        path: b"/",
        protocol: http::Version::HTTP_11,
        tls: true,
        route: Some("r"),
        status: 403,
        decision: Some(Disposition::Deny),
        reason: Some(Reason::ScopeMissing),
        cause: Some("c"),
        owner: Some("o"),
        issuer: Some("i"),
        client: Some("c"),
        subject: Some("s"),
        tenant: Some("t"),
        upstream: Some("u"),
        duration: Duration::ZERO,
        decision_duration: Some(Duration::ZERO),
        upstream_duration: Some(Duration::ZERO),
        removed_headers: Some("x_foo"),
        request_bytes: 0,
        response_bytes: 0,
    };
    let mut line = Vec::new();
    full.write_line(&mut line);
    let line = String::from_utf8(line).unwrap();
    let written: Vec<_> = rows("access log").iter().map(|row| quoted(row).next().unwrap()).collect();
    let places: Vec<_> = written.iter().map(|field| line.find(&format!("\"{field}\":"))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{written:?} in {line}");
    let fields: BTreeMap<String, Value> = serde_json::from_str(&line).unwrap();
    assert_eq!(fields.len(), written.len(), "{line}");
}

// The configuration.

/// Every place of the schema where a value stands: `gateway.listen[].http`, `issuers.*.issuer`.
fn leaves(node: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = node["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        // A demand for scopes nests in itself; the keys of a group are those of a route.
        if ["ScopeDemand", "Group"].contains(&name) {
            found.insert(path.to_owned());
        } else {
            leaves(&schema["$defs"][name], schema, path, found);
        }
        return;
    }
    let mut below = false;
    let mut go = |child: &Value, path: String| {
        below = true;
        leaves(child, schema, &path, found);
    };
    for choice in ["anyOf", "oneOf"].iter().filter_map(|key| node[*key].as_array()).flatten() {
        if choice["$ref"].is_string() || choice["properties"].is_object() {
            go(choice, path.to_owned());
        }
    }
    for (key, child) in node["properties"].as_object().into_iter().flatten() {
        go(child, if path.is_empty() { key.clone() } else { format!("{path}.{key}") });
    }
    if node["additionalProperties"].is_object() {
        go(&node["additionalProperties"], format!("{path}.*"));
    }
    if node["items"]["$ref"].is_string() || node["items"]["properties"].is_object() {
        go(&node["items"], format!("{path}[]"));
    }
    if !below {
        found.insert(path.to_owned());
    }
}

#[test]
fn the_reference_has_every_key_of_the_policy_and_no_other() {
    let schema = config::schema();
    let mut expected = BTreeSet::new();
    leaves(&schema, &schema, "", &mut expected);
    let mut written = BTreeSet::new();
    let mut prefix = "";
    for line in section("## Configuration").lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            prefix = quoted(heading).next().unwrap_or_default();
        } else if line.starts_with("| `") {
            let key = quoted(line).next().unwrap();
            let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
            assert!(written.insert(path.clone()), "{path} twice");
        }
    }
    let missing: Vec<_> = expected.difference(&written).collect();
    let unknown: Vec<_> = written.difference(&expected).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:#?}, unknown: {unknown:#?}");
}

/// Code blocks of README.md with exactly this after the backticks.
fn blocks(kind: &str) -> Vec<&'static str> {
    let fence = format!("\n```{kind}\n");
    README.split(&fence).skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect()
}

/// The files that the examples name.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let jwks = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    std::fs::write(dir.path().join("keys.json"), jwks).unwrap();
    std::fs::write(dir.path().join("admin.token"), "example-token\n").unwrap();
    std::fs::write(dir.path().join("proxy.secret"), "user:password\n").unwrap();
    std::fs::create_dir(dir.path().join("certs")).unwrap();
    let leaf = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    for (name, content) in [
        ("dev-ca.crt", leaf.cert.pem()),
        ("dev-server.crt", leaf.cert.pem()),
        ("dev-server.key", leaf.signing_key.serialize_pem()),
    ] {
        std::fs::write(dir.path().join("certs").join(name), content).unwrap();
    }
    dir
}

#[track_caller]
fn assert_loads(what: &str, text: &str) {
    let dir = files();
    let loaded = config::parse(
        what,
        text.as_bytes(),
        dir.path(),
        &|_| None,
        scopegate::types::Timestamp(1_800_000_000),
    );
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert!(loaded.complete, "{what} does not end with `...`");
    let schema = jsonschema::draft202012::new(&config::schema()).unwrap();
    let json: Value = serde_yaml::from_str(text.trim_end().trim_end_matches("...")).unwrap();
    let errors: Vec<_> = schema.iter_errors(&json).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}");
}

/// Top-level sections of a policy by their keys.
fn sections(text: &str) -> BTreeMap<&str, String> {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = "";
    for line in text.lines().filter(|line| *line != "...") {
        if line.starts_with(|c: char| c.is_ascii_lowercase()) {
            current = line.split(':').next().unwrap();
        }
        let section = sections.entry(current).or_default();
        section.push_str(line);
        section.push('\n');
    }
    sections
}

#[test]
fn the_whole_policies_load_and_fit_the_schema() {
    assert_loads("routes.yaml", POLICY);
    let policies = blocks("yaml");
    assert!(!policies.is_empty());
    for policy in policies {
        assert_loads("README.md", &format!("{policy}\n"));
    }
}

#[test]
fn the_fragments_load_within_the_whole_policy() {
    let whole = blocks("yaml")[0];
    let fragments = blocks("yaml fragment");
    assert!(fragments.len() >= 3, "the fragments are not where this test looks for them");
    for fragment in fragments {
        let mut policy = sections(whole);
        policy.extend(sections(fragment));
        let text: String = policy.into_values().collect();
        assert_loads("README.md, fragment", &format!("{text}...\n"));
    }
}

// The command line.

fn help(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_scopegate")).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The long options of a help text, but for `--help` and `--version`, which every command has.
fn options(help: &str) -> BTreeSet<&str> {
    help.lines()
        .filter_map(|line| {
            line.trim_start().split("--").nth(1).filter(|_| line.trim_start().starts_with('-'))
        })
        .map(|rest| rest.split([' ', '=', ',']).next().unwrap())
        .filter(|option| !matches!(*option, "help" | "version"))
        .collect()
}

#[test]
fn the_commands_and_their_options_are_those_of_the_binary() {
    let top = help(&[]);
    let (_, list) = top.split_once("Commands:\n").unwrap();
    let commands: BTreeSet<&str> = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let mut written = BTreeMap::new();
    for row in section("## Command line").lines().filter(|line| line.starts_with("| `scopegate ")) {
        let mut columns = row.split('|').skip(1);
        let command = quoted(columns.next().unwrap()).next().unwrap().trim_start_matches("scopegate ");
        let options: BTreeSet<_> =
            quoted(columns.next().unwrap()).map(|option| option.trim_start_matches("--")).collect();
        written.insert(command, options);
    }
    assert_eq!(written.keys().copied().collect::<BTreeSet<_>>(), commands);
    for (command, listed) in written.iter().filter(|(command, _)| **command != "help") {
        assert_eq!(*listed, options(&help(&[command])), "scopegate {command}");
    }
    for option in written.values().flatten() {
        assert!(section("## Command line").contains(&format!("`--{option} ")), "--{option} is not explained");
    }
}

#[test]
fn no_document_names_a_command_that_is_not_there() {
    let known: BTreeSet<_> = ["run", "demo", "check", "schema", "status", "reload", "help"].into();
    for (name, text) in [
        ("README.md", README),
        ("ARCHITECTURE.md", include_str!("../ARCHITECTURE.md")),
        ("CONTRIBUTING.md", include_str!("../CONTRIBUTING.md")),
        ("SECURITY.md", include_str!("../SECURITY.md")),
        ("CHANGELOG.md", CHANGELOG),
    ] {
        for (at, _) in text.match_indices("`scopegate ") {
            let command: String =
                text[at + "`scopegate ".len()..].chars().take_while(char::is_ascii_lowercase).collect();
            assert!(command.is_empty() || known.contains(command.as_str()), "{name}: scopegate {command}");
        }
    }
}

// The rest.

#[test]
fn the_changelog_has_an_entry_for_this_version() {
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(CHANGELOG.contains(&heading), "CHANGELOG.md has no `{}`", heading.trim());
}

/// Every document, by its path in the repository.
const DOCUMENTS: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/hardening.md",
    "docs/hardening-tools.md",
    "docs/performance.md",
];

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in DOCUMENTS {
        let (folder, own) = (root.join(name).parent().unwrap().to_owned(), root.join(name));
        let text = std::fs::read_to_string(&own).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.starts_with("https://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { own.clone() } else { folder.join(file) };
            assert!(file.exists(), "{name}: {target}");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&file).unwrap();
                assert!(text.lines().filter_map(anchor).any(|anchor| anchor == heading), "{name}: {target}");
            }
        }
    }
}

/// The anchor that a heading gets.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

#[test]
fn the_tests_that_documents_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for folder in ["src", "tests"] {
        all(&root.join(folder), &mut code);
    }
    for (document, heading) in [("ARCHITECTURE.md", "## Invariants"), ("docs/hardening.md", "# Hardening")] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let (_, table) = text.split_once(heading).unwrap();
        let names: Vec<_> =
            quoted(table).filter_map(|name| name.rsplit_once("::")).map(|(_, name)| name).collect();
        assert!(names.len() > 10, "the names are not where this test looks for them: {names:?}");
        for name in names {
            assert!(code.contains(&format!("fn {name}(")), "{document}: no test is named {name}");
        }
    }
}

fn all(folder: &Path, code: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            all(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
