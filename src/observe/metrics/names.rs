//! Every metric of the gateway: its name, its kind, its labels, its help text.
//!
//! Counters end in `_total`; times are seconds, sizes are bytes.

use prometheus::proto::MetricType;

/// One metric.
#[derive(Debug)]
pub struct Name {
    /// The name as it is scraped.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub(super) kind: MetricType,
    /// The names of its labels, in their order.
    pub labels: &'static [&'static str],
    /// What it tells, for people.
    pub help: &'static str,
}

impl Name {
    /// `counter`, `gauge` or `histogram`.
    pub const fn kind(&self) -> &'static str {
        match self.kind {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::UNTYPED => "untyped",
        }
    }
}

/// Declares the metrics and the list of all of them, so that none can be missing there.
macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Name =
            Name { name: $name, kind: MetricType::$kind, labels: &[$($label),*], help: $help };)*

        /// Every metric of the gateway's own, in the order of the documentation.
        pub const NAMES: &[Name] = &[$($constant),*];
    };
}

metrics! {
    REQUESTS: COUNTER "scopegate_requests_total" ["route", "method", "status"]
        "Requests answered, by route, method and status code.";
    DECISIONS: COUNTER "scopegate_decisions_total" ["route", "decision", "reason"]
        "Decisions by route and reason; shadow is a refusal that was recorded and let through.";
    FAILURES: COUNTER "scopegate_failed_requests_total" ["route", "reason"]
        "Permitted requests that ended before their answer did, or were answered by the gateway for it, by reason.";
    REQUEST_DURATION: HISTOGRAM "scopegate_request_duration_seconds" ["route"]
        "Time from a request's head to the end of its answer, by route.";
    DECISION_DURATION: HISTOGRAM "scopegate_decision_duration_seconds" []
        "Time to decide one request, without waiting for keys.";
    REMOVED_FIELDS: COUNTER "scopegate_removed_headers_total" ["route"]
        "Header fields of requests that did not go on because servers could confuse their names (`X_User`), by route.";
    UPSTREAM_DURATION: HISTOGRAM "scopegate_upstream_duration_seconds" ["upstream"]
        "Time from forwarding a request to the head of the upstream's answer.";
    UPSTREAM_ERRORS: COUNTER "scopegate_upstream_errors_total" ["upstream", "reason"]
        "Requests that an upstream did not answer, or not to the end, by reason.";
    CONNECT_ERRORS: COUNTER "scopegate_upstream_connect_errors_total" ["upstream", "cause"]
        "Connections to an upstream that could not be opened, by cause; the request may have been served at another address.";
    UPSTREAM_CONNECTIONS: GAUGE "scopegate_upstream_connections" ["upstream"]
        "Open connections to an upstream, idle ones included.";
    FAILING_ADDRESSES: GAUGE "scopegate_upstream_failing_addresses" ["upstream"]
        "Addresses of an upstream to which the last connection could not be opened.";
    CONNECTIONS: GAUGE "scopegate_connections" ["listener"]
        "Open client connections, by listener.";
    CONNECTIONS_CLOSED: COUNTER "scopegate_connections_closed_total" ["cause"]
        "Client connections that ended, by what ended them.";
    RESET_STREAMS: COUNTER "scopegate_reset_streams_total" ["code"]
        "HTTP/2 streams of clients that the gateway reset, by error code.";
    STALLED_STREAMS: COUNTER "scopegate_stalled_streams_total" []
        "HTTP/2 streams that were reset because their client took too little of the answer.";
    ACCEPT_ERRORS: COUNTER "scopegate_accept_errors_total" []
        "Times the system refused to hand over a connection, such as for want of file descriptors.";
    IN_FLIGHT: GAUGE "scopegate_in_flight_requests" []
        "Requests being handled now.";
    PANICS: COUNTER "scopegate_panics_total" []
        "Faults of the gateway that ended one request with status 500.";
    ACCESS_LOG_DROPPED: COUNTER "scopegate_access_log_dropped_total" []
        "Access log lines lost because the log could not be written fast enough, or at all.";
    DIAGNOSTICS_DROPPED: COUNTER "scopegate_diagnostics_dropped_total" []
        "Messages for standard error lost because they could not be written fast enough.";
    POLICY_RELOADS: COUNTER "scopegate_policy_reloads_total" ["outcome"]
        "Attempts to load the policy, by outcome; after a refused one the last good policy stays.";
    POLICY_INFO: GAUGE "scopegate_policy_info" ["hash"]
        "Always 1; the label is the SHA-256 of the policy in force, its files and variables.";
    POLICY_REVISION: GAUGE "scopegate_policy_revision" []
        "How many policies this process has put in force.";
    POLICY_LAST_SUCCESS: GAUGE "scopegate_policy_last_success_timestamp_seconds" []
        "When the policy in force was loaded, in seconds since 1970.";
    POLICY_LAST_SUCCESSFUL: GAUGE "scopegate_policy_last_reload_successful" []
        "1 if the last attempt to load the policy was not refused, else 0.";
    JWKS_REFRESHES: COUNTER "scopegate_jwks_refreshes_total" ["issuer", "outcome"]
        "Fetches of an issuer's keys, by outcome.";
    JWKS_AGE: GAUGE "scopegate_jwks_age_seconds" ["issuer"]
        "Time since an issuer's keys were last fetched with success; absent until they were.";
    JWKS_KEYS: GAUGE "scopegate_jwks_keys" ["issuer"]
        "Usable keys of an issuer.";
    TOKEN_CACHE_HITS: COUNTER "scopegate_token_cache_hits_total" []
        "Tokens whose facts were remembered.";
    TOKEN_CACHE_MISSES: COUNTER "scopegate_token_cache_misses_total" []
        "Tokens that had to be verified.";
    TOKEN_CACHE_EVICTIONS: COUNTER "scopegate_token_cache_evictions_total" []
        "Token facts dropped for want of room.";
    TOKEN_CACHE_BYTES: GAUGE "scopegate_token_cache_bytes" []
        "Memory that remembered token facts take.";
    BUILD_INFO: GAUGE "scopegate_build_info" ["version"]
        "Always 1; the label is the version.";
}
