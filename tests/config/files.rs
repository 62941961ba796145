//! Files that a policy names.

use std::fs;
use std::path::Path;

use scopegate::config::{self, ConfigErrors, Loaded};
use scopegate::snapshot::Admin;

use crate::{GOOD, NOW, with};

/// The public key of RFC 8037 §A.2.
const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn load(dir: &Path, text: &str) -> Result<Loaded, ConfigErrors> {
    let path = dir.join("routes.yaml");
    fs::write(&path, text).unwrap();
    config::load(&path, NOW)
}

fn certificate(dir: &Path, name: &str, not_after_year: i32) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(not_after_year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    fs::write(dir.join(format!("{name}.crt")), cert.pem()).unwrap();
    fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn https(cert: &str, key: &str) -> String {
    let listener = format!("https: 127.0.0.1:443\n      certificates: [{{ cert: {cert}, key: {key} }}]");
    with("http: 127.0.0.1:8080", &listener)
}

#[test]
fn faults_in_a_key_file_are_named_with_their_place() {
    for (content, message) in [
        (
            "{\"keys\":[\n  {\"kty\":\"EC\",}\n]}",
            "not acceptable JSON: line 2 column 15: not JSON: trailing comma",
        ),
        ("{\"keys\":[\n{\"kty\":\"EC\",\"kty\":\"EC\"}]}", "line 2 column 23: member \"kty\" stands twice"),
        ("", "line 1 column 0: not JSON: EOF while parsing a value"),
        ("-----BEGIN PUBLIC KEY-----", "line 1 column 2: not JSON: invalid number"),
        ("[]", "not acceptable JSON: not an object"),
        ("{\"kty\":\"EC\"}", "the key set has no array `keys`"),
        (
            "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"AA\"}]}",
            "key \"a\": it holds private or symmetric key material",
        ),
        (
            "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AA==\",\"e\":\"AQAB\"}]}",
            "key at position 0: its members are not strict base64url",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keys.json"), content).unwrap();
        let text = with("keys: { discovery: true }", "keys: { jwks_file: keys.json }");
        let error = load(folder.path(), &text).unwrap_err().to_string();
        assert!(error.contains(message), "{content}: {error}");
    }
}

#[test]
fn files_are_relative_to_the_policy_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("keys.json"), JWKS).unwrap();
    fs::write(dir.path().join("token"), "t0ken\n").unwrap();
    certificate(dir.path(), "a", 2100);
    let text = https("a.crt", "a.key")
        .replace("{ discovery: true }", "{ jwks_file: keys.json }")
        .replace("[RS256]", "[EdDSA]")
        .replace("https://api.example.com }", "https://api.example.com:8443 }")
        .replace("address: 127.0.0.1:9090", "address: 127.0.0.1:9090, token: { file: token }");
    let loaded = load(dir.path(), &text).unwrap();
    let names: Vec<_> =
        loaded.snapshot.files.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["routes.yaml", "a.crt", "a.key", "token", "keys.json"]);
    let Some(Admin { token: Some(token), .. }) = loaded.snapshot.gateway.admin else { panic!("no token") };
    assert!(token.matches(b"t0ken"), "one line end is removed");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn the_hash_is_that_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let hash = load(dir.path(), GOOD).unwrap().snapshot.hash;
    assert_eq!(hash.len(), 64);
    assert_ne!(hash, load(dir.path(), &GOOD.replace("...", "\n...")).unwrap().snapshot.hash);
}

#[test]
fn the_hash_covers_files_and_variables() {
    let text = with("{ discovery: true }", "{ jwks_file: keys.json }")
        .replace("[RS256]", "[EdDSA]")
        .replace("audience: https://api.example.com/orders", "audience: ${AUDIENCE}")
        .replace("address: 127.0.0.1:9090", "address: 127.0.0.1:9090, token: { file: token }");
    let other_keys = JWKS.replace(r#""kid":"a""#, r#""kid":"b""#);
    let of = |text: &str, keys: &str, audience: &str, token: &str| {
        // Each time in another folder, as on another replica.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("keys.json"), keys).unwrap();
        fs::write(dir.path().join("token"), token).unwrap();
        let env = |name: &str| (name == "AUDIENCE").then(|| audience.to_owned());
        let snapshot = config::parse("p", text.as_bytes(), dir.path(), &env, NOW).unwrap().snapshot;
        (snapshot.hash, snapshot.fingerprint, snapshot.text_hash)
    };
    let first = of(&text, JWKS, "a", "t0ken");
    assert_eq!(first, of(&text, JWKS, "a", "t0ken"), "two replicas agree");
    assert_ne!(first.0, first.2, "there is more to it than the text");
    for (what, other) in [
        ("text", of(&text.replace("...", "# x\n..."), JWKS, "a", "t0ken")),
        ("file", of(&text, &other_keys, "a", "t0ken")),
        ("variable", of(&text, JWKS, "b", "t0ken")),
    ] {
        assert!(first.0 != other.0 && first.1 != other.1, "{what}");
    }
    let secret = of(&text, JWKS, "a", "an0ther");
    assert_eq!(
        first.0, secret.0,
        "what is shown does not depend on a secret, so that nobody can try guesses"
    );
    assert_ne!(first.1, secret.1, "what is compared does");
}

#[test]
fn a_byte_order_mark_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), "\u{feff}t0ken").unwrap();
    fs::write(dir.path().join("keys.json"), format!("\u{feff}{JWKS}")).unwrap();
    certificate(dir.path(), "a", 2100);
    let cert = fs::read_to_string(dir.path().join("a.crt")).unwrap();
    fs::write(dir.path().join("b.crt"), format!("\u{feff}{cert}")).unwrap();
    for (what, text) in [
        ("a secret", with("address: 127.0.0.1:9090", "address: 127.0.0.1:9090, token: { file: token }")),
        ("a key set", with("{ discovery: true }", "{ jwks_file: keys.json }")),
        ("a certificate", https("b.crt", "a.key")),
        ("an authority", with("{ discovery: true }", "{ discovery: true, ca: b.crt }")),
        ("the policy", format!("\u{feff}{GOOD}")),
    ] {
        let errors = load(dir.path(), &text).unwrap_err().to_string();
        assert!(errors.contains("byte order mark"), "{what}: {errors}");
    }
}

#[test]
fn certificates_that_would_not_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "a", 2100);
    certificate(dir.path(), "b", 2100);
    fs::write(dir.path().join("junk"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    let rows = [
        ("a.crt", "b.key", "does not belong to the certificate"),
        ("empty", "a.key", "holds no certificate"),
        ("a.crt", "empty", "holds no private key"),
        ("junk", "a.key", "cannot be used"),
        ("missing.crt", "a.key", "no such file"),
    ];
    for (cert, key, message) in rows {
        let errors = load(dir.path(), &https(cert, key)).unwrap_err().to_string();
        assert!(errors.contains(message) && errors.contains(":5:"), "{cert} {key}: {errors}");
    }
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "old", 2001);
    let loaded = load(dir.path(), &https("old.crt", "old.key")).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.message.contains("expired")), "{:?}", loaded.warnings);
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    for file in [fifo.to_str().unwrap(), "/dev/zero", "."] {
        let text = with("{ discovery: true }", &format!("{{ jwks_file: '{file}' }}"));
        let errors = load(dir.path(), &text).unwrap_err().to_string();
        assert!(errors.contains("not a regular file"), "{file}: {errors}");
    }
    for path in [fifo.as_path(), Path::new("/dev/zero"), dir.path(), Path::new("/nowhere/routes.yaml")] {
        let errors = config::load(path, NOW).unwrap_err().to_string();
        assert!(errors.contains("cannot read the policy"), "{errors}");
    }
}

#[test]
fn a_key_file_that_holds_no_usable_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("keys.json"), JWKS).unwrap();
    fs::write(dir.path().join("none.json"), r#"{"keys":[]}"#).unwrap();
    fs::write(dir.path().join("text"), "hello").unwrap();
    for (file, algorithm) in [("keys.json", "RS256"), ("none.json", "EdDSA"), ("text", "EdDSA")] {
        let text = with("{ discovery: true }", &format!("{{ jwks_file: {file} }}"));
        let errors =
            load(dir.path(), &text.replace("[RS256]", &format!("[{algorithm}]"))).unwrap_err().to_string();
        assert!(errors.contains("the keys cannot be used"), "{file} {algorithm}: {errors}");
    }
}

#[test]
fn files_have_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("big"), vec![b' '; (4 << 20) + 1]).unwrap();
    let text = with("{ discovery: true }", "{ jwks_file: big }");
    assert!(load(dir.path(), &text).unwrap_err().to_string().contains("longer than"));
    fs::write(dir.path().join("routes.yaml"), vec![b'#'; (64 << 20) + 1]).unwrap();
    assert!(config::load(&dir.path().join("routes.yaml"), NOW).is_err());
}
