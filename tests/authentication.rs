//! Who is calling: every credential that is not one good access token is refused, says why, and reaches no upstream.
#![cfg(test)]

mod support;

use serde_json::{Value, json};
use support::{Alg, Behaviour, Client, Policy, Rig, TestIssuer};

const METADATA: &str = r#"resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"#;

#[tokio::test]
async fn a_good_token_of_every_algorithm_is_accepted() {
    let rig = Rig::start().await;
    for alg in Alg::ALL {
        let token = rig.issuer.token().alg(alg).mint();
        let response = rig.gateway.get("/orders/1").token(&token).send().await;
        assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{alg:?}");
    }
    assert_eq!(rig.upstream.requests().len(), Alg::ALL.len());
}

#[tokio::test]
async fn a_token_is_accepted_again_and_the_keys_are_fetched_once() {
    let rig = Rig::start().await;
    let token = rig.token();
    for _ in 0..5 {
        assert_eq!(rig.gateway.get("/orders/1").token(&token).send().await.status, 200);
    }
    assert_eq!(rig.issuer.jwks_requests(), 1);
}

#[tokio::test]
async fn a_token_that_is_not_a_good_access_token_is_refused() {
    let rig = Rig::start().await;
    let good = rig.issuer.token();
    let foreign = TestIssuer::start().await;
    foreign.rotate();
    let minted = good.mint();
    let (message, signature) = minted.rsplit_once('.').unwrap();
    let header = minted.split('.').next().unwrap();
    let payload = rig.issuer.token().scope("orders:write").mint().split('.').nth(1).unwrap().to_owned();
    let forged = foreign.token().claim("iss", rig.issuer.url());
    let now = support::now();
    // What it is, the token, the reasons that are right.
    let rows: &[(&str, String, &str)] = &[
        ("expired", good.clone().times(-700, -100).mint(), "token_expired"),
        ("nbf ahead", good.clone().claim("nbf", now + 300).mint(), "token_not_yet_valid"),
        ("iat ahead", good.clone().times(300, 600).mint(), "token_not_yet_valid"),
        ("lives too long", good.clone().times(0, 48 * 3600).mint(), "token_lifetime_excessive"),
        ("an ID token", good.clone().header("typ", "JWT").mint(), "token_type_refused"),
        ("a logout token", good.clone().header("typ", "logout+jwt").mint(), "token_type_refused"),
        ("no typ", good.clone().without_header("typ").mint(), "token_type_refused"),
        (
            "alg none",
            good.clone().header("alg", "none").mint_with_signature(b""),
            "algorithm_refused|token_malformed",
        ),
        ("alg nOnE", good.clone().header("alg", "nOnE").mint(), "algorithm_refused"),
        ("alg HS256", good.clone().header("alg", "HS256").mint(), "algorithm_refused"),
        ("alg not on the list", good.clone().header("alg", "ES512").mint(), "algorithm_refused"),
        ("no alg", good.clone().without_header("alg").mint(), "algorithm_refused|token_malformed"),
        ("alg of another key", good.clone().header("alg", "RS256").mint(), "key_unknown|algorithm_refused"),
        ("unknown kid", good.clone().header("kid", "nobody").mint(), "key_unknown"),
        ("unknown issuer", good.clone().claim("iss", "https://evil.example.com").mint(), "issuer_unknown"),
        (
            "issuer with a slash more",
            good.clone().claim("iss", format!("{}/", rig.issuer.url())).mint(),
            "issuer_unknown",
        ),
        ("no issuer", good.clone().without("iss").mint(), "token_claim_missing|issuer_unknown"),
        ("signed by another", forged.clone().header("kid", "p256-1").mint(), "signature_invalid"),
        (
            "brings its own key",
            forged.header("jwk", json!({"kty": "EC"})).header("jku", foreign.jwks_uri()).mint(),
            "key_unknown",
        ),
        ("other claims", format!("{header}.{payload}.{signature}"), "signature_invalid"),
        ("signature of zeros", good.mint_with_signature(&[0; 64]), "signature_invalid"),
        ("short signature", good.mint_with_signature(&[1; 63]), "signature_invalid"),
        (
            "critical extension",
            good.clone().header("crit", json!(["x"])).header("x", 1).mint(),
            "token_malformed",
        ),
        ("nested", good.clone().header("cty", "JWT").mint(), "token_malformed|token_type_refused"),
        ("no signature", format!("{message}."), "token_malformed|signature_invalid"),
        ("padded", format!("{minted}="), "token_malformed"),
        ("four parts", format!("{minted}.x"), "token_malformed|token_opaque"),
        ("two parts", message.to_owned(), "token_malformed|token_opaque"),
        ("encrypted", "eyJhbGciOiJkaXIifQ..aaaa.bbbb.cccc".into(), "token_malformed|token_opaque"),
        ("opaque", "2YotnFZFEjr1zCsicMWpAA".into(), "token_opaque"),
        ("longer than allowed", good.clone().claim("pad", "x".repeat(17 * 1024)).mint(), "token_malformed"),
    ];
    for (what, token, wanted) in rows {
        let response = rig.gateway.get("/orders/1").token(token).send().await;
        let verdict = response.verdict();
        assert!(wanted.split('|').any(|reason| verdict == format!("401 {reason}")), "{what}: {verdict}");
        assert!(response.challenge().starts_with("Bearer "), "{what}: {}", response.challenge());
        assert!(
            response.challenge().contains(r#"error="invalid_token""#),
            "{what}: {}",
            response.challenge()
        );
        assert!(response.challenge().contains(METADATA), "{what}: {}", response.challenge());
        assert_eq!(response.json()["control"], "authentication", "{what}");
    }
    assert_eq!(rig.upstream.requests().len(), 0, "nothing may reach the upstream");
    assert_eq!(
        rig.gateway.get("/orders/1").token(&minted).send().await.status,
        200,
        "and a good one still does"
    );
}

#[tokio::test]
async fn a_claim_that_is_missing_or_of_the_wrong_type_is_refused() {
    let rig = Rig::start().await;
    let good = rig.issuer.token();
    for claim in ["exp", "aud", "sub", "client_id", "iat", "jti"] {
        let response = rig.gateway.get("/orders/1").token(&good.clone().without(claim).mint()).send().await;
        assert_eq!(response.verdict(), "401 token_claim_missing", "without {claim}");
    }
    let rows: &[(&str, Value)] = &[
        ("exp", json!("1900000000")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("iat", json!(null)),
        ("nbf", json!("now")),
        ("aud", json!(7)),
        ("aud", json!([])),
        ("aud", json!(["https://api.example.com", 7])),
        ("sub", json!(["alice"])),
        ("sub", json!("")),
        ("scope", json!(7)),
        ("scope", json!({"orders:read": true})),
        ("client_id", json!(["mobile-app"])),
    ];
    for (claim, value) in rows {
        let token = good.clone().claim(claim, value.clone()).mint();
        let verdict = rig.gateway.get("/orders/1").token(&token).send().await.verdict();
        let right = ["401 token_claim_invalid", "401 token_claim_missing"].contains(&verdict.as_str());
        // A negative or absurd time is a number all the same: to call it expired or too long is right as well.
        let time = *claim == "exp"
            && ["401 token_expired", "401 token_lifetime_excessive"].contains(&verdict.as_str());
        assert!(right || time, "{claim}: {value}: {verdict}");
    }
    assert_eq!(rig.upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_missing_credential_is_asked_for_without_an_error() {
    let rig = Rig::start().await;
    let token = rig.token();
    let get = || rig.gateway.get("/orders/1");
    let query = rig.gateway.get(&format!("/orders/1?access_token={token}"));
    let form = rig
        .gateway
        .call("POST", "/orders/1")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("access_token={token}"));
    for (what, call) in [
        ("nothing", get()),
        ("another scheme", get().header("Authorization", "Basic YWxpY2U6c2VjcmV0")),
        ("in another field", get().header("X-Authorization", &format!("Bearer {token}"))),
        ("in a cookie", get().header("Cookie", &format!("access_token={token}"))),
        ("in the query", query),
        ("in the body", form),
    ] {
        let response = call.send().await;
        assert_eq!(response.verdict(), "401 credential_missing", "{what}");
        assert!(!response.challenge().contains("error"), "{what}: {}", response.challenge());
        assert!(response.challenge().starts_with("Bearer "), "{what}: {}", response.challenge());
        assert!(response.challenge().contains(METADATA), "{what}: {}", response.challenge());
    }
    assert_eq!(rig.upstream.requests().len(), 0);
}

#[tokio::test]
async fn more_than_one_credential_is_ambiguous() {
    let rig = Rig::start().await;
    let token = rig.token();
    let call = rig.get("/orders/1");
    for (what, call) in [
        ("the same twice", call.clone().token(&token)),
        ("a good one and another scheme", call.clone().header("authorization", "Basic YTpi")),
        ("a good one and nothing", call.clone().header("AUTHORIZATION", "")),
    ] {
        let response = call.send().await;
        assert_eq!(response.verdict(), "400 credential_ambiguous", "{what}");
        assert!(
            response.challenge().contains(r#"error="invalid_request""#),
            "{what}: {}",
            response.challenge()
        );
    }
    assert_eq!(rig.upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_field_that_cannot_be_read_is_never_a_missing_one() {
    let rig = Rig::start().await;
    let token = rig.token();
    for value in [
        "Bearer".to_owned(),
        format!("Bearer  {token}"),
        format!("Bearer {token}, Bearer {token}"),
        format!("Bearer {token} x"),
        format!("Bearer token=\"{token}\""),
        format!("Bearer\t{token}"),
    ] {
        let verdict = rig.gateway.get("/orders/1").header("Authorization", &value).send().await.verdict();
        assert_eq!(verdict, "401 token_malformed", "{value:?}");
    }
    for scheme in ["bearer", "BEARER", "bEaReR"] {
        let call = rig.gateway.get("/orders/1").header("Authorization", &format!("{scheme} {token}"));
        assert_eq!(call.send().await.status, 200, "the scheme has no case");
    }
    assert_eq!(rig.upstream.requests().len(), 3);
}

#[tokio::test]
async fn a_refusal_is_a_problem_that_says_which_control_refused() {
    let rig = Rig::start().await;
    let response = rig.gateway.get("/orders/1").send().await;
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let problem = response.json();
    assert_eq!(problem["type"], "https://scopegate.dev/reasons/credential_missing");
    assert_eq!(problem["title"], "Credentials required");
    assert_eq!(problem["status"], 401);
    assert_eq!(problem["reason"], "credential_missing");
    assert_eq!(problem["control"], "authentication");
    assert_eq!(problem["route"], "orders");
    assert!(problem["detail"].is_string() && problem["request_id"].is_string(), "{problem}");
    // Who is not authenticated learns neither the owner nor what would be needed.
    assert!(problem.get("owner").is_none() && problem.get("required_scopes").is_none(), "{problem}");

    let entry = rig.gateway.wait_for_log(|entry| entry["request_id"] == problem["request_id"]).await;
    assert_eq!(entry["reason"], "credential_missing");
    assert_eq!(entry["owner"], "iam@example.com", "the log always has the owner");
}

#[tokio::test]
async fn no_token_is_ever_printed() {
    let rig = Rig::start().await;
    let good = rig.token();
    let bad = rig.issuer.token().header("kid", "nobody").mint();
    for token in [&good, &bad] {
        rig.gateway.get("/orders/1").token(token).send().await;
        rig.gateway.get(&format!("/orders/1?access_token={token}")).token(token).send().await;
        rig.gateway.get(&format!("/orders/{token}")).token(token).send().await;
    }
    rig.gateway.wait_for_log(|entry| entry["reason"] == "key_unknown").await;
    eventually_logged(&rig, 6).await;
    let everything =
        [rig.gateway.output(), rig.gateway.metrics().await, rig.gateway.status().await.to_string()];
    for token in [&good, &bad] {
        for part in token.split('.').skip(1) {
            assert!(everything.iter().all(|text| !text.contains(part)), "part of a token was printed");
        }
    }
}

async fn eventually_logged(rig: &Rig, entries: usize) {
    support::eventually("all are logged", || async { (rig.gateway.log().len() >= entries).then_some(()) })
        .await;
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_an_outage_and_not_the_tokens_fault() {
    let issuer = TestIssuer::start().await;
    issuer.behave(Behaviour::Down);
    let upstream = support::Upstream::start(|_| support::ok("hello")).await;
    let gateway = support::Gateway::start(&Policy::default().render(issuer.url(), &upstream.url())).await;
    let response = gateway.get("/orders/1").token(&issuer.token().mint()).send().await;
    assert_eq!(response.verdict(), "503 keys_unavailable");
    assert!(response.header("retry-after").is_some());
    assert_eq!(response.challenge(), "", "a client would throw its good token away");
    assert_eq!(gateway.get("/status").send().await.status, 200, "what needs no key goes on");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn metadata_of_another_issuer_gives_no_keys() {
    let issuer = TestIssuer::start().await;
    issuer.behave(Behaviour::OtherIssuer("https://evil.example.com".into()));
    let upstream = support::Upstream::start(|_| support::ok("hello")).await;
    let gateway = support::Gateway::start(&Policy::default().render(issuer.url(), &upstream.url())).await;
    let response = gateway.get("/orders/1").token(&issuer.token().mint()).send().await;
    assert_eq!(response.verdict(), "503 keys_unavailable");
    assert_eq!((issuer.jwks_requests(), upstream.requests().len()), (0, 0));
}

#[tokio::test]
async fn a_new_key_is_found_without_a_restart_and_a_withdrawn_one_is_dead() {
    let policy = Policy::default().issuer("key_refresh: { interval: 1s, unknown_kid_cooldown: 1s }");
    let rig = Rig::with(policy).await;
    let old = rig.token();
    assert_eq!(rig.gateway.get("/orders/1").token(&old).send().await.status, 200);
    rig.issuer.add_keys();
    let new = rig.token();
    support::eventually("the new key is accepted", || async {
        (rig.gateway.get("/orders/1").token(&new).send().await.status == 200).then_some(())
    })
    .await;
    assert_eq!(
        rig.gateway.get("/orders/1").token(&old).send().await.status,
        200,
        "the old key is still published"
    );
    rig.issuer.withdraw_old_keys();
    support::eventually("the old key is refused, although its token was cached", || async {
        (rig.gateway.get("/orders/1").token(&old).send().await.verdict() == "401 key_unknown").then_some(())
    })
    .await;
    assert_eq!(rig.gateway.get("/orders/1").token(&new).send().await.status, 200);
}

#[tokio::test]
async fn unknown_keys_do_not_make_the_gateway_ask_again_and_again() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    for n in 0..50 {
        let token = rig.issuer.token().header("kid", format!("nobody-{n}")).mint();
        assert_eq!(rig.gateway.get("/orders/1").token(&token).send().await.verdict(), "401 key_unknown");
    }
    assert!(rig.issuer.jwks_requests() <= 2, "{} fetches", rig.issuer.jwks_requests());
}

#[tokio::test]
async fn keys_once_had_outlast_an_outage() {
    let rig = Rig::with(Policy::default().issuer("key_refresh: { interval: 1s }")).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    let before = rig.issuer.jwks_requests();
    rig.issuer.behave(Behaviour::Empty);
    support::eventually("the gateway has asked in vain", || async {
        (rig.issuer.jwks_requests() > before + 1).then_some(())
    })
    .await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200, "an empty answer does not take good keys away");
    let failures = || rig.gateway.metric("scopegate_jwks_refreshes_total", &[r#"outcome="failed""#]);
    let before = failures().await;
    rig.issuer.behave(Behaviour::Failing);
    // The first that is counted may be of an empty answer still.
    support::eventually("it fails", || async { (failures().await >= before + 2.0).then_some(()) }).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200);
    assert_eq!(
        rig.gateway.admin("GET", "/readyz").send().await.status,
        200,
        "an outage unreadies no replica"
    );
}

#[tokio::test]
async fn a_cached_token_expires_all_the_same() {
    let rig = Rig::with(Policy::default().issuer("leeway: 0s")).await;
    assert_eq!(rig.get("/orders/1").send().await.status, 200, "the keys are here before the token is made");
    let token = rig.issuer.token().times(0, 5).mint();
    assert_eq!(rig.gateway.get("/orders/1").token(&token).send().await.status, 200);
    support::eventually("the token expires", || async {
        let verdict = rig.gateway.get("/orders/1").token(&token).send().await.verdict();
        (verdict == "401 token_expired").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_relaxed_issuer_accepts_other_types_but_keeps_its_claims() {
    let relaxed = "token_type: { accept: [JWT], require_claims: [client_id] }";
    let rig = Rig::with(Policy::default().issuer(relaxed)).await;
    let jwt = rig.issuer.token().header("typ", "JWT");
    for (what, token, wanted) in [
        ("a JWT", jwt.clone().mint(), "200 -"),
        ("without jti", jwt.clone().without("jti").mint(), "200 -"),
        ("without client_id", jwt.clone().without("client_id").mint(), "401 token_claim_missing"),
        ("without exp", jwt.clone().without("exp").mint(), "401 token_claim_missing"),
        ("another type", jwt.clone().header("typ", "secevent+jwt").mint(), "401 token_type_refused"),
    ] {
        assert_eq!(rig.gateway.get("/orders/1").token(&token).send().await.verdict(), wanted, "{what}");
    }
}

#[tokio::test]
async fn a_refused_head_has_no_body_and_the_same_fields() {
    let rig = Rig::start().await;
    let (get, head) = (rig.gateway.get("/orders/1"), rig.gateway.call("HEAD", "/orders/1"));
    let mut client = Client::connect(rig.gateway.address()).await;
    for _ in 0..2 {
        let (get, head) = (get.on(&mut client).await.unwrap(), head.on(&mut client).await.unwrap());
        assert_eq!((head.status, head.challenge()), (401, get.challenge()));
        assert_eq!(head.header("content-length"), get.header("content-length"));
    }
}

#[tokio::test]
async fn an_algorithm_that_the_issuer_may_not_use_is_refused() {
    let rig = Rig::with(Policy::default().issuer("algorithms: [ES256]")).await;
    for alg in Alg::ALL {
        let verdict =
            rig.gateway.get("/orders/1").token(&rig.issuer.token().alg(alg).mint()).send().await.verdict();
        let wanted = if alg == Alg::Es256 { "200 -" } else { "401 algorithm_refused" };
        assert_eq!(verdict, wanted, "{alg:?}");
    }
}
