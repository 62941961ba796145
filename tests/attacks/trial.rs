//! How a row about tokens is sent and judged.
//!
//! Each row is one request to a protected route on a kept connection. It is judged by its status, reason and challenge; by
//! the requests that reached the upstream (one if it was permitted, else none); by the calls to the issuer (none, unless
//! the row says otherwise); and by canaries: now and then, and at the end, another client with a good token must get its
//! own answer. At the end no request may have panicked, and the metrics must have counted each refusal under its reason,
//! once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Client, Policy, Response, Rig, eventually, has_keys, ok};

/// One attack.
pub(crate) struct Row {
    /// The number in the catalogue of attacks, such as `H01`.
    pub(crate) id: &'static str,
    /// What is sent, in words.
    pub(crate) what: String,
    /// The header fields beside Host, as lines with their ends.
    pub(crate) fields: Vec<u8>,
    /// The verdicts that are right, separated by `|`, such as `401 token_malformed`.
    pub(crate) expected: &'static str,
    /// Where the attack is known from.
    pub(crate) source: &'static str,
}

impl Row {
    /// A token, presented as it should be.
    pub(crate) fn token(
        id: &'static str,
        what: impl Into<String>,
        token: &str,
        expected: &'static str,
        source: &'static str,
    ) -> Self {
        Self::fields(id, what, format!("Authorization: Bearer {token}\r\n"), expected, source)
    }

    /// Any header fields.
    pub(crate) fn fields(
        id: &'static str,
        what: impl Into<String>,
        fields: impl Into<Vec<u8>>,
        expected: &'static str,
        source: &'static str,
    ) -> Self {
        Self { id, what: what.into(), fields: fields.into(), expected, source }
    }
}

/// A gateway under attack.
pub(crate) struct Trial {
    /// The gateway with its issuer and upstream. The upstream answers with the target it was asked for.
    pub(crate) rig: Rig,
    client: Client,
    judged: usize,
    /// How many requests were refused, by reason.
    refused: BTreeMap<String, usize>,
}

/// A canary sings after this many rows.
const CANARY: usize = 50;

/// Keys are fetched at the start, and once for forged tokens.
pub(crate) const RARE: &str = "key_refresh: { interval: 1h, unknown_kid_cooldown: 1h }";

/// The target of the rows.
const TARGET: &str = "/orders/attack";

impl Trial {
    /// With the default policy, but for fetches of keys, which would be calls to the issuer in the middle.
    pub(crate) async fn start() -> Self {
        Self::with(Policy::default().issuer(RARE)).await.without_fetches().await
    }

    /// Uses up the one fetch that forged tokens cause in a cooldown, which must be long.
    pub(crate) async fn without_fetches(mut self) -> Self {
        let forged = self.rig.issuer.token().mint_with_signature(&[7; 64]);
        let response = self.rig.gateway.get(TARGET).token(&forged).send().await;
        assert_eq!(response.verdict(), "401 signature_invalid");
        self.also_refused(&response.verdict(), 1);
        self
    }

    /// With this policy, which must permit the usual token at `/orders/{*rest}`.
    pub(crate) async fn with(policy: Policy) -> Self {
        Self::over(Rig::with(policy).await).await
    }

    /// Over this rig. The keys are there when this returns.
    pub(crate) async fn over(rig: Rig) -> Self {
        has_keys(&rig.gateway).await;
        rig.upstream.answers(|request| ok(&request.target));
        let client = Client::connect(rig.gateway.address()).await;
        let trial = Self { rig, client, judged: 0, refused: BTreeMap::new() };
        trial.canary().await;
        trial
    }

    /// Sends one row and judges it; the issuer must not be called.
    pub(crate) async fn judge(&mut self, row: &Row) -> Option<Response> {
        let calls = self.calls();
        // Boxed: a test of many rows holds the futures of all.
        let response = Box::pin(self.judge_but_for_calls(row)).await;
        assert_eq!(self.calls(), calls, "{} {}: the issuer was called", row.id, row.what);
        response
    }

    /// Sends all these rows and judges them.
    pub(crate) async fn judge_all(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            self.judge(&row).await;
        }
    }

    /// Sends one row and judges it by all but the calls to the issuer.
    pub(crate) async fn judge_but_for_calls(&mut self, row: &Row) -> Option<Response> {
        let name = format!("{} {} ({})", row.id, row.what, row.source);
        let forwarded = self.rig.upstream.requests().len();
        let head = format!("GET {TARGET} HTTP/1.1\r\nHost: api.example.com\r\n");
        self.client.send([head.as_bytes(), &row.fields, b"\r\n"].concat()).await;
        let response = self.client.response_to("GET").await;
        let verdict = response.as_ref().map_or("closed".to_owned(), Response::verdict);
        assert!(
            row.expected.split('|').any(|right| right == verdict),
            "{name}: {verdict}, not {}",
            row.expected
        );
        let permitted = usize::from(verdict.starts_with('2'));
        assert_eq!(self.rig.upstream.requests().len() - forwarded, permitted, "{name}: requests forwarded");
        if let Some(response) = &response {
            check_challenge(&name, response);
            if permitted == 0 {
                self.also_refused(&verdict, 1);
            }
        }
        let closes = response.as_ref().is_none_or(|answer| answer.header("connection") == Some("close"));
        if closes {
            self.client = Client::connect(self.rig.gateway.address()).await;
        }
        self.judged += 1;
        if self.judged.is_multiple_of(CANARY) {
            self.canary().await;
        }
        response
    }

    /// So many requests were refused with this verdict, such as those that a test sends beside its rows.
    pub(crate) fn also_refused(&mut self, verdict: &str, count: usize) {
        if let Some((_, reason)) = verdict.split_once(' ').filter(|(_, reason)| *reason != "-") {
            *self.refused.entry(reason.to_owned()).or_default() += count;
        }
    }

    /// How often the issuer was asked for anything.
    pub(crate) fn calls(&self) -> usize {
        self.rig.issuer.jwks_requests() + self.rig.issuer.metadata_requests()
    }

    /// Another client with a good token gets its own answer.
    pub(crate) async fn canary(&self) {
        static NONCE: AtomicU64 = AtomicU64::new(0);
        let path = format!("/orders/canary-{}", NONCE.fetch_add(1, Ordering::Relaxed));
        let answer = self.rig.get(&path).send().await;
        assert_eq!((answer.status, answer.text()), (200, path), "the canary after {} rows", self.judged);
        // What the upstream recorded is of no more use: long families would gather much of it.
        self.rig.upstream.forget();
    }

    /// The last judgement: nothing panicked, each refusal was counted, and a good client is still served.
    pub(crate) async fn finish(self) {
        assert!(self.judged > 0, "no row was sent");
        self.canary().await;
        let gateway = &self.rig.gateway;
        assert_eq!(gateway.metric("scopegate_panics_total", &[]).await, 0.0);
        for (reason, count) in &self.refused {
            let label = format!("reason=\"{reason}\"");
            let what = format!("{count} refusals counted as {reason}");
            let counted = Box::pin(eventually(&what, || async {
                let counted = gateway.metric("scopegate_decisions_total", &[&label]).await as usize;
                (counted >= *count).then_some(counted)
            }))
            .await;
            assert_eq!(counted, *count, "refusals counted as {reason}");
        }
    }
}

/// A 401 says `invalid_token`, or nothing where nothing was presented; a 400 `invalid_request`; a 403 `insufficient_scope`.
fn check_challenge(name: &str, response: &Response) {
    let challenge = response.challenge();
    let wanted = match response.verdict().as_str() {
        "401 credential_missing" => {
            assert!(challenge.starts_with("Bearer ") && !challenge.contains("error"), "{name}: {challenge}");
            return;
        }
        "400 credential_ambiguous" => r#"error="invalid_request""#,
        "403 scope_missing" => r#"error="insufficient_scope""#,
        verdict if verdict.starts_with("401") => r#"error="invalid_token""#,
        _ => return,
    };
    assert!(challenge.starts_with("Bearer ") && challenge.contains(wanted), "{name}: {challenge}");
}
