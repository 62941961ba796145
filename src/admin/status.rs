//! What is in force, and how it is.

use std::time::Instant;

use serde_json::{Value, json};

use super::Admin;
use crate::snapshot::{Access, Route, Snapshot};
use crate::state::live::Live;
use crate::types::Timestamp;

/// `GET /api/v1/status`.
pub(super) fn status(admin: &Admin, live: &Live) -> Value {
    let reload = admin.reloads.status();
    let counts = admin.process.tokens.counts();
    let listeners = admin.listeners.iter().map(|(address, tls)| json!({ "address": address, "tls": tls }));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": time(admin.started),
        "draining": admin.process.is_draining(),
        "policy": {
            "hash": live.snapshot.hash,
            "text_hash": live.snapshot.text_hash,
            "generation": live.generation,
            "loaded": time(live.loaded),
            "file": live.snapshot.files.first(),
            "routes": live.snapshot.routes.len(),
        },
        "reload": {
            "attempted": reload.attempted.map(time),
            "error": reload.error.as_deref(),
        },
        "issuers": issuers(live),
        "upstreams": upstreams(live),
        "listeners": listeners.collect::<Vec<_>>(),
        "token_cache": {
            "entries": admin.process.tokens.len(),
            "bytes": admin.process.tokens.weight(),
            "hits": counts.hits,
            "misses": counts.misses,
            "evictions": counts.evictions,
        },
    })
}

fn issuers(live: &Live) -> Value {
    let now = Instant::now();
    let issuers = live.issuers.iter().map(|cell| {
        let policy = cell.policy();
        let keys = cell.status(now);
        let list = keys.keys.iter().map(|key| {
            json!({ "kid": key.kid, "alg": key.algorithm, "kty": key.key_type })
        });
        json!({
            "name": policy.name.as_str(),
            "issuer": policy.issuer.as_str(),
            "usable": keys.usable,
            "key_age_seconds": keys.age.map(|age| age.as_secs()),
            "fetched": keys.fetched_at.map(time),
            "last_attempt": keys.last_attempt.map(time),
            "last_error": keys.last_error.as_ref().map(|(at, error)| json!({ "time": time(*at), "error": error })),
            "accepted_token_types": policy.token_types.accept,
            "keys": list.collect::<Vec<_>>(),
        })
    });
    issuers.collect()
}

fn upstreams(live: &Live) -> Value {
    let upstreams = live.upstreams.iter().map(|cell| {
        let addresses: Vec<_> = cell.addresses().iter().map(|address| address.socket.to_string()).collect();
        let failing = cell.health.failing().into_iter().map(|(address, failing)| {
            json!({
                "address": address.to_string(),
                "since": time(failing.since),
                "last": time(failing.last),
                "failures": failing.failures,
                "cause": failing.fault.as_str(),
                "error": failing.error,
            })
        });
        let failing: Vec<_> = failing.collect();
        json!({ "name": cell.policy.name.as_str(), "addresses": addresses, "failing": failing })
    });
    upstreams.collect()
}

/// `GET /api/v1/routes`.
pub(super) fn routes(snapshot: &Snapshot) -> Value {
    snapshot.routes.iter().map(|route| describe(snapshot, route)).collect()
}

fn describe(snapshot: &Snapshot, route: &Route) -> Value {
    let upstream = snapshot.upstream(route.upstream).map(|upstream| upstream.name.as_str());
    let mut description = json!({
        "id": route.id.as_str(),
        "match": route.matches,
        "upstream": upstream,
        "owner": route.owner.as_ref().map(AsRef::as_ref),
    });
    let details = match &route.access {
        Access::Public => json!({ "public": true }),
        Access::Protected(requirement) => {
            let issuers = requirement.issuers.iter().filter_map(|index| snapshot.issuers.get(*index));
            json!({
                "issuers": issuers.map(|issuer| issuer.name.as_str()).collect::<Vec<_>>(),
                "audience": requirement.audiences.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
                "scopes": requirement.scopes.listed().iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
                "mode": match requirement.mode {
                    crate::authorize::Mode::Enforce => "enforce",
                    crate::authorize::Mode::Shadow => "shadow",
                },
            })
        }
    };
    if let (Value::Object(description), Value::Object(details)) = (&mut description, details) {
        description.extend(details);
    }
    description
}

/// RFC 3339.
fn time(at: Timestamp) -> Value {
    jiff::Timestamp::from_second(at.0).map_or(Value::Null, |at| Value::String(at.to_string()))
}
