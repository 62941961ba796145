//! `scopegate demo` as a newcomer meets it: what it prints is what works.
#![cfg(test)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::{Call, Client, Gateway, Policy, TestIssuer, Upstream, ok, process};

/// The repository's own policy, with its four ports replaced by free ones.
fn policy() -> String {
    let mut text = include_str!("../routes.yaml").to_owned();
    for port in ["8080", "9090", "9400", "9401"] {
        assert!(text.contains(port), "the demo's policy has no port {port}");
        let free = process::free_address().port().to_string();
        text = text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"));
    }
    text
}

/// A folder with this policy.
fn folder(policy: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("routes.yaml"), policy).unwrap();
    dir
}

/// The address on the line of this policy that begins so.
fn address_of(policy: &str, line: &str) -> String {
    let rest = policy.lines().find_map(|text| text.trim().strip_prefix(line)).unwrap();
    let port = rest.split("127.0.0.1:").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next();
    format!("127.0.0.1:{}", port.unwrap())
}

async fn demo(policy: &str) -> Gateway {
    let gateway = Gateway::start_command("demo", folder(policy)).await;
    support::eventually("the demo explains itself", || async {
        gateway.output().contains("Ctrl-C ends the demo").then_some(())
    })
    .await;
    gateway
}

/// The lines to copy: how to get the token, and the commands with what is said to come of them.
fn printed(output: &str) -> (String, Vec<(String, String)>) {
    let mut said = String::new();
    let (mut token, mut commands) = (String::new(), Vec::new());
    for line in output.lines() {
        match line.strip_prefix("  ") {
            Some(command) if command.starts_with("TOKEN=") => command.clone_into(&mut token),
            Some(command) if command.starts_with("curl ") => {
                commands.push((said.get(..3).unwrap_or_default().to_owned(), command.to_owned()));
            }
            Some(_) => {}
            None => line.clone_into(&mut said),
        }
    }
    (token, commands)
}

/// What a shell shows of a printed command.
async fn shell(token: &str, command: &str) -> String {
    process::run("bash", ["-c", &format!("{token}\n{command} --silent --noproxy '*'")]).await.stdout
}

#[tokio::test]
async fn the_printed_commands_do_what_is_said_of_them() {
    let demo = demo(&policy()).await;
    let (token, commands) = printed(&demo.output());
    let statuses: Vec<&str> = commands.iter().map(|(status, _)| status.as_str()).collect();
    assert_eq!(statuses, ["200", "401", "403", "403"], "{}", demo.output());
    for (status, command) in &commands {
        let answer = shell(&token, command).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{command}: {answer}");
    }
    let permitted = shell(&token, &commands[0].1).await;
    assert!(permitted.contains(r#""x-user": "alice""#), "the API is told who calls: {permitted}");
    let refused = shell(&token, &commands[2].1).await;
    for told in ["scope_missing", "orders:write", "orders-team@example.com", "insufficient_scope"] {
        assert!(refused.contains(told), "{told} is missing: {refused}");
    }
}

#[tokio::test]
async fn a_change_of_the_file_applies_while_it_runs_and_an_interrupt_ends_it() {
    let mut demo = demo(&policy()).await;
    let (token, commands) = printed(&demo.output());
    let text = std::fs::read_to_string(demo.config_path()).unwrap();
    demo.write_config_in_place(&text.replace("scopes: [orders:write]\n", "scopes: [orders:read]\n"));
    demo.wait_loaded().await;
    let answer = shell(&token, &commands[2].1).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    demo.signal("INT");
    assert_eq!(demo.wait_exit().await, Some(0), "{}", demo.output());
    assert!(!demo.output().contains("ERROR"), "{}", demo.output());
}

#[tokio::test]
async fn every_address_it_prints_answers() {
    let demo = demo(&policy()).await;
    let output = demo.output();
    let addresses: BTreeSet<SocketAddr> = output
        .split("http://")
        .skip(1)
        .map(|rest| rest.split(|c: char| c.is_whitespace() || c == '/').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(addresses.len(), 4, "gateway, admin, issuer and API: {output}");
    for address in addresses {
        Call::new(address, "GET", "/").send().await;
    }
    let issuer = output.lines().find(|line| line.trim_start().starts_with("issuer")).unwrap();
    let issuer = issuer.split_whitespace().nth(1).unwrap();
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/jwks"] {
        let answer = process::curl(["-f", &format!("{issuer}{path}")]).await;
        assert_eq!(answer.code, Some(0), "{path}: {answer:?}");
    }
    let form = ["-f", "-d", "grant_type=client_credentials&scope=orders:read", &format!("{issuer}/token")];
    assert!(process::curl(form).await.stdout.contains(r#""token_type": "Bearer""#));
    support::eventually("it has the issuer's keys", || async {
        (demo.admin("GET", "/readyz").send().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_key_to_change() {
    let text = policy();
    for (key, line) in [
        ("gateway.listen", "- http:"),
        ("gateway.admin.address", "admin: { address:"),
        ("issuers.demo.issuer", "issuer:"),
        ("upstreams.orders.url", "orders: { url:"),
    ] {
        let address = address_of(&text, line);
        let port = address.rsplit(':').next().unwrap();
        let _taken = std::net::TcpListener::bind(&address).unwrap();
        let dir = folder(&text);
        let output =
            process::scopegate(["demo".as_ref(), "-c".as_ref(), dir.path().join("routes.yaml").as_os_str()])
                .await;
        assert_eq!(output.code, Some(1), "{key}: {output:?}");
        assert!(output.stderr.contains(port) && output.stderr.contains(key), "{key} {port}: {output:?}");
    }
}

/// Starts the demo in this folder, where it cannot go on, since the issuer's port is taken, but makes its files.
async fn make_files(dir: &Path, issuer: &str) -> process::Output {
    // Another may have it now and give it back before the demo asks for it: only one's own is taken for sure.
    let _taken = support::eventually("the issuer's port is taken", || async {
        std::net::TcpListener::bind(issuer).ok()
    })
    .await;
    process::scopegate(["demo".as_ref(), "-c".as_ref(), dir.join("routes.yaml").as_os_str()]).await
}

#[tokio::test]
async fn a_missing_policy_is_written_and_keys_are_their_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let output = make_files(dir.path(), "127.0.0.1:9400").await;
    assert_eq!(output.code, Some(1), "{output:?}");
    let written = std::fs::read_to_string(dir.path().join("routes.yaml")).unwrap();
    assert_eq!(written, include_str!("../routes.yaml"));
    let files: Vec<_> =
        std::fs::read_dir(dir.path().join("certs")).unwrap().map(|f| f.unwrap().path()).collect();
    let keys: Vec<_> = files.iter().filter(|file| file.extension().is_some_and(|e| e == "key")).collect();
    assert!(keys.len() >= 4, "{files:?}");
    for key in keys {
        let mode = std::fs::metadata(key).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", key.display());
    }
    let before = std::fs::read(dir.path().join("certs/dev-server.key")).unwrap();
    make_files(dir.path(), "127.0.0.1:9400").await;
    assert_eq!(
        std::fs::read(dir.path().join("certs/dev-server.key")).unwrap(),
        before,
        "what is there stays"
    );
}

#[tokio::test]
async fn the_certificates_it_makes_and_those_of_the_script_work() {
    let listen = "- https: 127.0.0.1:0\n  certificates: [{ cert: certs/dev-server.crt, key: certs/dev-server.key }]\n  client_ca: certs/dev-clients-ca.crt";
    let issuer = TestIssuer::start().await;
    let upstream = Upstream::start(|_| ok("hello")).await;
    for maker in ["demo", "script"] {
        let own = policy();
        let dir = folder(&own);
        let certs = dir.path().join("certs");
        if maker == "demo" {
            make_files(dir.path(), &address_of(&own, "issuer:")).await;
        } else {
            std::fs::create_dir(&certs).unwrap();
            std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/make"), certs.join("make"))
                .unwrap();
            assert_eq!(process::run("bash", [certs.join("make")]).await.code, Some(0));
        }
        let text = Policy::default().listen(listen).render(issuer.url(), &upstream.url());
        std::fs::write(dir.path().join("routes.yaml"), text).unwrap();
        let gateway = Gateway::start_in(dir).await;
        let port = gateway.https().port();
        let certs = gateway.dir().join("certs");
        let file = |name: &str| certs.join(name).to_str().unwrap().to_owned();
        let url = format!("https://api.example.com:{port}/status");
        let resolve = format!("api.example.com:{port}:127.0.0.1");
        let own = ["--cacert", &file("dev-ca.crt"), "--resolve", &resolve, &url].map(str::to_owned);
        let client = ["--cert", &file("dev-client.crt"), "--key", &file("dev-client.key")].map(str::to_owned);
        for args in [own.to_vec(), [&own[..], &client].concat()] {
            let output = process::curl(args).await;
            assert_eq!(output.stdout, "hello", "{maker}: {output:?}");
        }
    }
}

#[tokio::test]
async fn what_the_demo_cannot_play_is_said_with_its_key() {
    for (from, to, key) in [
        ("issuer: http://127.0.0.1:", "issuer: https://idp.example.com:", "issuers.demo.issuer"),
        ("orders: { url: \"http://127.0.0.1:", "orders: { url: \"http://192.0.2.1:", "upstreams.orders.url"),
    ] {
        let dir = folder(&policy().replace(from, to));
        let output =
            process::scopegate(["demo".as_ref(), "-c".as_ref(), dir.path().join("routes.yaml").as_os_str()])
                .await;
        assert!(output.code == Some(1) && output.stderr.contains(key), "{key}: {output:?}");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_up_the_end() {
    let mut demo = demo(&policy()).await;
    let _silent = Client::connect(demo.address()).await;
    demo.signal("INT");
    assert_eq!(demo.wait_exit().await, Some(0));
}
