//! The `issuers` section.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Parser;
use crate::authenticate::keys::KeySet;
use crate::authenticate::{
    AdvertisedScopes, Algorithm, AlgorithmSet, ClaimMap, ClaimPath, IssuerPolicy, KeyRefresh, KeySource,
    TokenTypes,
};
use crate::config::diagnostic::{Fault, Place};
use crate::config::places::Names;
use crate::config::raw_issuers::{RawClaims, RawIssuer, RawKeyRefresh, RawKeys};
use crate::config::raw_values::{OneOrMany, RawTokenType};
use crate::config::read::{Node, decode};
use crate::config::url::Url;
use crate::types::{Issuer, IssuerName};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Clocks that differ more are broken, and every expired token lives on for that long.
const MOST_LEEWAY: Duration = Duration::from_secs(300);

impl Parser<'_, '_> {
    /// Compiles the section.
    pub(super) fn issuers(&mut self, node: Option<&Node<'_>>) -> (Vec<IssuerPolicy>, Names) {
        let mut list: Vec<IssuerPolicy> = Vec::new();
        let mut names = Names::default();
        for (key, item) in self.entries(node, "issuers") {
            self.check_name(&key.text, key.place, "issuer");
            let policy = self.issuer(&key.text, item);
            let position = policy.map(|policy| {
                if let Some(other) = list.iter().find(|other| other.issuer == policy.issuer) {
                    let message = format!("the same `iss` as issuer `{}`", other.name);
                    let fault = Fault::new(item.place_of(&["issuer"]), message).key("issuer");
                    self.faults
                        .error(fault.hint("one issuer, one entry: its tokens could not be told apart"));
                }
                list.push(policy);
                list.len() - 1
            });
            names.insert(&key.text, position, key.place);
        }
        (list, names)
    }

    fn issuer(&mut self, name: &str, node: &Node<'_>) -> Option<IssuerPolicy> {
        let raw: RawIssuer = decode(node, self.faults)?;
        if raw.issuer.is_empty() {
            self.faults.error(Fault::new(node.place_of(&["issuer"]), "`issuer` is empty").key("issuer"));
        }
        let algorithms = self.algorithms(&raw.algorithms, node);
        let keys = self.key_source(&raw, algorithms, node);
        let token_types = self.token_types(raw.token_type.as_ref(), node);
        let mut claims = self.claim_map(&raw.claims, node);
        let leeway = raw.leeway.map_or(Duration::from_secs(10), |d| d.0);
        if leeway > MOST_LEEWAY {
            let fault = Fault::new(node.place_of(&["leeway"]), "`leeway` above 5m").key("leeway");
            self.faults
                .error(fault.hint("an expired token is accepted for this long; correct the clocks instead"));
        }
        let template = self.issuer_template(&raw, &claims, node);
        if let Some(template) = &template {
            claims.tenant = Some(template.claim.clone());
        }
        let (keys, plain_http) = keys?;
        let ca = raw.keys.ca.as_ref().and_then(|file| self.key_ca(file, &keys, plain_http, node));
        let key_token = raw.keys.token.as_ref().and_then(|token| self.key_token(token, &keys, node));
        Some(IssuerPolicy {
            name: IssuerName::new(name),
            issuer: Issuer::new(raw.issuer.as_str()),
            template,
            keys,
            algorithms,
            token_types,
            max_lifetime: self.duration(raw.max_lifetime, DAY, node, &["max_lifetime"]),
            leeway,
            tenants: self.tenant_assertion(&raw, node),
            claims,
            refresh: self.key_refresh(&raw.key_refresh, node),
            plain_http,
            key_token,
            ca,
            advertised_scopes: self.advertised_scopes(&raw.advertised_scopes, node),
            token_header: self.token_header(raw.token_header.as_deref(), node),
        })
    }

    /// How clients must ask for scopes.
    fn advertised_scopes(&mut self, raw: &BTreeMap<String, String>, node: &Node<'_>) -> AdvertisedScopes {
        let mut advertised = AdvertisedScopes::default();
        for (scope, name) in raw {
            let keys = ["advertised_scopes", scope.as_str()];
            if self.scope(name, node.place_of(&keys)).is_none() {
                continue;
            }
            if scope == "prefix" {
                advertised.prefix = Some(name.as_str().into());
            } else if let Some(scope) = self.scope(scope, node.place_of_key(&keys)) {
                advertised.names.insert(scope, name.as_str().into());
            }
        }
        advertised
    }

    /// The authorities that are trusted where keys are fetched.
    fn key_ca(
        &mut self,
        file: &str,
        keys: &KeySource,
        plain_http: bool,
        node: &Node<'_>,
    ) -> Option<Arc<[u8]>> {
        let place = node.place_of(&["keys", "ca"]);
        if plain_http || matches!(keys, KeySource::File { .. }) {
            let fault = Fault::new(place, "`ca` where no certificate is verified").key("ca");
            self.faults.error(fault.hint("it is for keys that are fetched over https"));
        }
        self.authorities(file, place, "ca")
    }

    /// Where the keys come from, and whether that is over plain HTTP.
    fn key_source(
        &mut self,
        raw: &RawIssuer,
        allowed: AlgorithmSet,
        node: &Node<'_>,
    ) -> Option<(KeySource, bool)> {
        let place = node.place_of(&["keys"]);
        match &raw.keys {
            RawKeys { discovery: Some(true), .. } if raw.issuer.contains('{') => {
                let fault =
                    Fault::new(place, "the issuers of a template have no common metadata").key("keys");
                self.faults.error(fault.hint("write the provider's `jwks_uri`"));
                None
            }
            RawKeys { discovery: Some(true), jwks_uri: None, jwks_file: None, .. } => {
                let url = self.key_url(&raw.issuer, node.place_of(&["issuer"]), "issuer")?;
                if url.query {
                    let message = "an issuer whose keys are discovered has no query (RFC 8414 §2)";
                    self.faults.error(Fault::new(node.place_of(&["issuer"]), message).key("issuer"));
                }
                Some((KeySource::Discovery, !url.secure))
            }
            RawKeys { discovery: None | Some(false), jwks_uri: Some(uri), jwks_file: None, .. } => {
                let url = self.key_url(uri, node.place_of(&["keys", "jwks_uri"]), "jwks_uri")?;
                Some((KeySource::Uri(url.uri), !url.secure))
            }
            RawKeys { discovery: None | Some(false), jwks_uri: None, jwks_file: Some(file), .. } => {
                let place = node.place_of(&["keys", "jwks_file"]);
                let (path, content) = self.read(file, place)?;
                if content.starts_with(b"\xef\xbb\xbf") {
                    let fault = Fault::new(place, "the file begins with a byte order mark").key("jwks_file");
                    self.faults.error(fault.hint("save it as UTF-8 without one (RFC 8259 §8.1)"));
                    return None;
                }
                match KeySet::from_jwks(&content, allowed) {
                    Ok((_, skipped)) => {
                        for key in skipped {
                            let message = format!("not used: {key}");
                            self.faults.warn(Fault::new(place, message).key("jwks_file"));
                        }
                    }
                    Err(e) => self
                        .faults
                        .error(Fault::new(place, format!("the keys cannot be used: {e}")).key("jwks_file")),
                }
                Some((KeySource::File { path, content }, false))
            }
            _ => {
                let fault = Fault::new(place, "keys come from exactly one source").key("keys");
                self.faults.error(
                    fault.hint("write `{ discovery: true }`, `{ jwks_uri: … }` or `{ jwks_file: … }`"),
                );
                None
            }
        }
    }

    /// A URL that keys are fetched from: whoever can change the answer can sign tokens, so plain HTTP stays on this machine.
    fn key_url(&mut self, text: &str, place: Place, key: &str) -> Option<Url> {
        let url = Url::parse(text).map_err(|message| Fault::new(place, message).key(key));
        let url = self.faults.take(url)?;
        if !url.secure && !url.is_loopback() {
            let fault = Fault::new(place, "keys must not be fetched over plain http").key(key);
            self.faults.error(fault.hint("use `https://`; `http://` is for loopback addresses only"));
        } else if !url.secure {
            let message = "keys are fetched over plain http: for development only";
            self.faults.warn(Fault::new(place, message).key(key));
        }
        Some(url)
    }

    fn algorithms(&mut self, names: &[String], node: &Node<'_>) -> AlgorithmSet {
        if names.is_empty() {
            let fault =
                Fault::new(node.place_of(&["algorithms"]), "no algorithm is allowed").key("algorithms");
            self.faults.error(fault.hint("write what the issuer signs with: `[RS256]`"));
        }
        let mut known = Vec::new();
        for (i, name) in names.iter().enumerate() {
            if let Some(algorithm) = Algorithm::from_name(name) {
                known.push(algorithm);
                continue;
            }
            let fault = Fault::new(node.place_of_item(&["algorithms"], i), algorithm_trouble(name));
            let hint = format!("allowed are {}", Algorithm::ALL.map(Algorithm::as_str).join(", "));
            self.faults.error(fault.key("algorithms").hint(hint));
        }
        known.into_iter().collect()
    }

    fn token_types(&mut self, raw: Option<&RawTokenType>, node: &Node<'_>) -> TokenTypes {
        let relaxed = match raw {
            None | Some(RawTokenType::AccessToken) => {
                let required = ["sub", "client_id", "iat", "jti"];
                return TokenTypes {
                    accept: vec!["at+jwt".into()],
                    accept_absent: false,
                    required_claims: required.iter().filter_map(|c| ClaimPath::parse(c)).collect(),
                };
            }
            Some(RawTokenType::Relaxed(relaxed)) => relaxed,
        };
        let mut types = self.accepted_types(&relaxed.accept, node);
        if relaxed.require_claims.is_empty() {
            let place = node.place_of(&["token_type", "require_claims"]);
            let fault = Fault::new(place, "a relaxed type needs claims that only access tokens have");
            self.faults.error(fault.key("require_claims").hint("write `require_claims: [client_id]`"));
        }
        for (i, path) in relaxed.require_claims.iter().enumerate() {
            let place = node.place_of_item(&["token_type", "require_claims"], i);
            types.required_claims.extend(self.claim_path(path, place));
        }
        if types.accept.iter().any(|name| **name != *"at+jwt") || types.accept_absent {
            let place = node.place_of_key(&["token_type"]);
            let fault = Fault::new(place, "tokens that are not `at+jwt` are accepted").key("token_type");
            self.faults.warn(fault.hint("make sure that no ID token of this issuer has the required claims"));
        }
        types
    }

    /// The accepted `typ` values; `none` is a token without one.
    fn accepted_types(&mut self, names: &[String], node: &Node<'_>) -> TokenTypes {
        let mut types = TokenTypes { accept: Vec::new(), accept_absent: false, required_claims: Vec::new() };
        if names.is_empty() {
            let fault = Fault::new(node.place_of(&["token_type", "accept"]), "no type is accepted");
            self.faults.error(fault.key("accept"));
        }
        for (i, name) in names.iter().enumerate() {
            let name = name.to_ascii_lowercase();
            let name = name.strip_prefix("application/").unwrap_or(&name);
            match name {
                "none" => types.accept_absent = true,
                name if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) => {
                    types.accept.push(name.into());
                }
                _ => {
                    let place = node.place_of_item(&["token_type", "accept"], i);
                    self.faults.error(Fault::new(place, "not a token type").key("accept"));
                }
            }
        }
        types
    }

    fn claim_map(&mut self, raw: &RawClaims, node: &Node<'_>) -> ClaimMap {
        ClaimMap {
            scope: self.claim_paths(raw.scope.as_ref(), &["scope", "scp"], node, "scope"),
            client: self.claim_paths(raw.client.as_ref(), &["client_id", "azp"], node, "client"),
            audience: self.claim_paths(raw.audience.as_ref(), &["aud"], node, "audience"),
            tenant: raw
                .tenant
                .as_ref()
                .and_then(|path| self.claim_path(path, node.place_of(&["claims", "tenant"]))),
            roles: raw
                .roles
                .as_ref()
                .and_then(|path| self.claim_path(path, node.place_of(&["claims", "roles"]))),
        }
    }

    fn claim_paths(
        &mut self,
        raw: Option<&OneOrMany>,
        default: &[&str],
        node: &Node<'_>,
        key: &str,
    ) -> Vec<ClaimPath> {
        let Some(raw) = raw else {
            return default.iter().filter_map(|path| ClaimPath::parse(path)).collect();
        };
        if raw.values.is_empty() {
            let place = node.place_of(&["claims", key]);
            self.faults.error(Fault::new(place, format!("`{key}` names no claim")).key(key));
        }
        let mut paths = Vec::new();
        for (i, path) in raw.values.iter().enumerate() {
            paths.extend(self.claim_path(path, node.place_of_item(&["claims", key], i)));
        }
        paths
    }

    /// A claim path.
    pub(super) fn claim_path(&mut self, text: &str, place: Place) -> Option<ClaimPath> {
        let path = ClaimPath::parse(text);
        if path.is_none() {
            let fault = Fault::new(place, format!("`{text}` is not a claim path"));
            self.faults.error(fault.hint("write `name` or `outer.inner`; a name that holds dots is quoted: `\"kubernetes.io\".namespace`"));
        }
        if let Some(path) = &path {
            self.check_claim_path(text, path, place);
        }
        path
    }

    fn key_refresh(&mut self, raw: &RawKeyRefresh, node: &Node<'_>) -> KeyRefresh {
        let mut of = |key: &str, value, default| {
            self.duration(value, Duration::from_secs(default), node, &["key_refresh", key])
        };
        let refresh = KeyRefresh {
            interval: of("interval", raw.interval, 5 * 60),
            unknown_kid_cooldown: of("unknown_kid_cooldown", raw.unknown_kid_cooldown, 30),
            max_stale: of("max_stale", raw.max_stale, 24 * 3600),
        };
        if refresh.max_stale < refresh.interval {
            let fault = Fault::new(node.place_of(&["key_refresh"]), "`max_stale` is shorter than `interval`");
            self.faults.error(fault.key("max_stale").hint("keys would lapse between two fetches"));
        }
        refresh
    }
}

/// Why a name is not an algorithm that can be allowed.
fn algorithm_trouble(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if upper == "NONE" {
        return "`none` is no signature: anyone could write such a token".to_owned();
    }
    if upper.starts_with("HS") {
        return format!("`{name}` is symmetric: whoever can verify it can forge it, so it is not supported");
    }
    if Algorithm::from_name(&upper).is_some() {
        return format!("algorithms are compared exactly: write `{upper}`");
    }
    format!("`{name}` is not a supported algorithm")
}
