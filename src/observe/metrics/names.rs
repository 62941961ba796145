//! Every metric of the gateway: its name, its kind, its help text.
//!
//! Counters end in `_total`; times are seconds, sizes are bytes.

use prometheus::proto::MetricType;

/// One metric.
pub(super) struct Name {
    /// The name as it is scraped.
    pub(super) name: &'static str,
    /// Counter, gauge or histogram.
    pub(super) kind: MetricType,
    /// What it tells, for people.
    pub(super) help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Name {
    let kind = MetricType::COUNTER;
    Name { name, kind, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Name {
    let kind = MetricType::GAUGE;
    Name { name, kind, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Name {
    let kind = MetricType::HISTOGRAM;
    Name { name, kind, help }
}

pub(super) const REQUESTS: Name =
    counter("scopegate_requests_total", "Requests answered, by route, method and status code.");
pub(super) const DECISIONS: Name = counter(
    "scopegate_decisions_total",
    "Decisions by route and reason; shadow is a refusal that was recorded and let through.",
);
pub(super) const REQUEST_DURATION: Name = histogram(
    "scopegate_request_duration_seconds",
    "Time from a request's head to the end of its answer, by route.",
);
pub(super) const DECISION_DURATION: Name =
    histogram("scopegate_decision_duration_seconds", "Time to decide one request, without waiting for keys.");
pub(super) const UPSTREAM_DURATION: Name = histogram(
    "scopegate_upstream_duration_seconds",
    "Time from forwarding a request to the head of the upstream's answer.",
);
pub(super) const UPSTREAM_ERRORS: Name =
    counter("scopegate_upstream_errors_total", "Requests that an upstream did not answer, by reason.");
pub(super) const UPSTREAM_CONNECTIONS: Name =
    gauge("scopegate_upstream_connections", "Open connections to an upstream, idle ones included.");
pub(super) const CONNECTIONS: Name = gauge("scopegate_connections", "Open client connections, by listener.");
pub(super) const IN_FLIGHT: Name = gauge("scopegate_in_flight_requests", "Requests being handled now.");
pub(super) const PANICS: Name =
    counter("scopegate_panics_total", "Faults of the gateway that ended one request with status 500.");
pub(super) const ACCESS_LOG_DROPPED: Name = counter(
    "scopegate_access_log_dropped_total",
    "Access log lines lost because the log could not be written fast enough, or at all.",
);
pub(super) const POLICY_RELOADS: Name = counter(
    "scopegate_policy_reloads_total",
    "Attempts to load the policy, by outcome; after a refused one the last good policy stays.",
);
pub(super) const POLICY_INFO: Name =
    gauge("scopegate_policy_info", "Always 1; the label is the SHA-256 of the policy in force.");
pub(super) const POLICY_REVISION: Name =
    gauge("scopegate_policy_revision", "How many policies this process has put in force.");
pub(super) const POLICY_LAST_SUCCESS: Name = gauge(
    "scopegate_policy_last_success_timestamp_seconds",
    "When the policy in force was loaded, in seconds since 1970.",
);
pub(super) const POLICY_LAST_SUCCESSFUL: Name = gauge(
    "scopegate_policy_last_reload_successful",
    "1 if the last attempt to load the policy was not refused, else 0.",
);
pub(super) const JWKS_REFRESHES: Name =
    counter("scopegate_jwks_refreshes_total", "Fetches of an issuer's keys, by outcome.");
pub(super) const JWKS_AGE: Name = gauge(
    "scopegate_jwks_age_seconds",
    "Time since an issuer's keys were last fetched with success; absent until they were.",
);
pub(super) const JWKS_KEYS: Name = gauge("scopegate_jwks_keys", "Usable keys of an issuer.");
pub(super) const TOKEN_CACHE_HITS: Name =
    counter("scopegate_token_cache_hits_total", "Tokens whose facts were remembered.");
pub(super) const TOKEN_CACHE_MISSES: Name =
    counter("scopegate_token_cache_misses_total", "Tokens that had to be verified.");
pub(super) const TOKEN_CACHE_EVICTIONS: Name =
    counter("scopegate_token_cache_evictions_total", "Token facts dropped for want of room.");
pub(super) const TOKEN_CACHE_BYTES: Name =
    gauge("scopegate_token_cache_bytes", "Memory that remembered token facts take.");
pub(super) const BUILD_INFO: Name = gauge("scopegate_build_info", "Always 1; the label is the version.");
