//! Tests of the metrics by what is scraped.

use std::collections::{HashMap, HashSet};
use std::sync::Barrier;

use proptest::prelude::*;

use super::*;

/// A scrape, parsed as strictly as the format asks: samples by name with labels, and the types by family.
#[derive(Debug, Default)]
struct Scrape {
    samples: HashMap<String, f64>,
    types: HashMap<String, String>,
}

impl Scrape {
    fn of(metrics: &Metrics) -> Self {
        Self::with(metrics, |_| {})
    }

    fn with(metrics: &Metrics, extra: impl FnOnce(&mut Extra)) -> Self {
        Self::parse(&metrics.render(extra).unwrap())
    }

    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        let mut helped = HashSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(help.len() > 10, "{name} has no help text");
                assert!(helped.insert(name.to_owned()), "{name} has two help texts");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                let before = scrape.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} has two types");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let before = scrape.samples.insert(sample.to_owned(), value.parse().unwrap());
                assert_eq!(before, None, "{sample} is there twice");
            }
        }
        assert_eq!(helped, scrape.types.keys().cloned().collect());
        scrape
    }

    #[track_caller]
    fn expect(&self, sample: &str, value: f64) {
        assert_eq!(self.samples.get(sample), Some(&value), "{sample} in {:#?}", self.samples);
    }

    fn series(&self, family: &str) -> usize {
        let labelled = format!("{family}{{");
        self.samples.keys().filter(|sample| sample.starts_with(&labelled)).count()
    }
}

fn route(metrics: &Metrics, id: &str) -> Option<MetricRoute> {
    Some(metrics.route_handle(&RouteId::new(id)))
}

#[test]
fn workers_on_two_threads_are_summed() {
    let metrics = Metrics::new();
    let route = route(&metrics, "orders");
    let upstream = metrics.upstream_handle(&UpstreamName::new("legacy"));
    let listener = metrics.listener_handle("127.0.0.1:8080".parse().unwrap());
    let (recorded, scraped) = (Barrier::new(3), Barrier::new(3));
    std::thread::scope(|scope| {
        for status in [200, 403] {
            let (metrics, recorded, scraped) = (&metrics, &recorded, &scraped);
            scope.spawn(move || {
                let worker = metrics.worker();
                let guards = (
                    worker.in_flight(),
                    worker.connection_opened(listener),
                    worker.upstream_connection_opened(upstream),
                );
                for _ in 0..1000 {
                    worker.request(route, &Method::GET, 200, Duration::from_millis(3));
                }
                worker.request(route, &Method::POST, status, Duration::from_secs(61));
                worker.decision(route, Decision::Deny, Some(Reason::ScopeMissing));
                worker.decision_duration(Duration::from_micros(2));
                worker.upstream(upstream, Duration::from_millis(4));
                worker.upstream_error(upstream, Reason::UpstreamTimeout);
                worker.panic();
                recorded.wait();
                scraped.wait();
                drop(guards);
            });
        }
        recorded.wait();
        let scrape = Scrape::of(&metrics);
        scraped.wait();
        for (sample, value) in [
            (r#"scopegate_requests_total{route="orders",method="GET",status="200"}"#, 2000.0),
            (r#"scopegate_requests_total{route="orders",method="POST",status="200"}"#, 1.0),
            (r#"scopegate_requests_total{route="orders",method="POST",status="403"}"#, 1.0),
            (r#"scopegate_request_duration_seconds_bucket{route="orders",le="0.0025"}"#, 0.0),
            (r#"scopegate_request_duration_seconds_bucket{route="orders",le="0.005"}"#, 2000.0),
            (r#"scopegate_request_duration_seconds_bucket{route="orders",le="60"}"#, 2000.0),
            (r#"scopegate_request_duration_seconds_bucket{route="orders",le="+Inf"}"#, 2002.0),
            (r#"scopegate_request_duration_seconds_count{route="orders"}"#, 2002.0),
            (r#"scopegate_decisions_total{route="orders",decision="deny",reason="scope_missing"}"#, 2.0),
            (r#"scopegate_decision_duration_seconds_bucket{le="0.0000025"}"#, 2.0),
            (r#"scopegate_upstream_duration_seconds_count{upstream="legacy"}"#, 2.0),
            (r#"scopegate_upstream_errors_total{upstream="legacy",reason="upstream_timeout"}"#, 2.0),
            (r#"scopegate_upstream_connections{upstream="legacy"}"#, 2.0),
            (r#"scopegate_connections{listener="127.0.0.1:8080"}"#, 2.0),
            ("scopegate_in_flight_requests", 2.0),
            ("scopegate_panics_total", 2.0),
        ] {
            scrape.expect(sample, value);
        }
    });
    // The workers are gone: what they held is released, what they counted stays.
    let scrape = Scrape::of(&metrics);
    scrape.expect("scopegate_in_flight_requests", 0.0);
    scrape.expect(r#"scopegate_connections{listener="127.0.0.1:8080"}"#, 0.0);
    scrape.expect(r#"scopegate_requests_total{route="orders",method="GET",status="200"}"#, 2000.0);
    let sum = scrape.samples[r#"scopegate_request_duration_seconds_sum{route="orders"}"#];
    assert!((sum - 128.0).abs() < 1e-6, "{sum}");
}

#[test]
fn no_client_can_add_a_series() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    for number in 0..2000_u16 {
        let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        worker.request(None, &method, number.wrapping_mul(600), Duration::ZERO);
    }
    worker.request(None, &Method::from_bytes(b"get").unwrap(), 600, Duration::ZERO);
    worker.request(None, &Method::GET, 99, Duration::ZERO);
    let scrape = Scrape::of(&metrics);
    // Codes that happen to be valid aside, all of it is one series, and GET makes the other.
    assert!(
        scrape.series("scopegate_requests_total") <= 501 + 1,
        "{}",
        scrape.series("scopegate_requests_total")
    );
    scrape.expect(r#"scopegate_requests_total{route="none",method="GET",status="other"}"#, 1.0);
    assert_eq!(scrape.series("scopegate_request_duration_seconds_count"), 1);
}

#[test]
fn every_label_of_a_closed_set_is_its_name() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    let methods = [
        Method::CONNECT,
        Method::DELETE,
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
        Method::POST,
        Method::PUT,
        Method::TRACE,
    ];
    for method in &methods {
        worker.request(None, method, 599, Duration::ZERO);
    }
    for reason in Reason::ALL {
        worker.decision(None, Decision::Shadow, Some(*reason));
    }
    worker.decision(None, Decision::Permit, None);
    Cause::ALL.iter().for_each(|cause| worker.connection_closed(*cause));
    let scrape = Scrape::of(&metrics);
    for cause in Cause::ALL {
        let sample = format!(r#"scopegate_connections_closed_total{{cause="{}"}}"#, cause.as_str());
        scrape.expect(&sample, 1.0);
    }
    for method in methods {
        scrape.expect(
            &format!(r#"scopegate_requests_total{{route="none",method="{method}",status="599"}}"#),
            1.0,
        );
    }
    for reason in Reason::ALL {
        let sample =
            format!(r#"scopegate_decisions_total{{route="none",decision="shadow",reason="{reason}"}}"#);
        scrape.expect(&sample, 1.0);
    }
    scrape.expect(r#"scopegate_decisions_total{route="none",decision="permit",reason="none"}"#, 1.0);
}

#[test]
fn a_handle_is_the_same_after_a_reload() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    for _ in 0..2 {
        let route = route(&metrics, "orders");
        worker.request(route, &Method::GET, 200, Duration::ZERO);
    }
    assert_ne!(route(&metrics, "orders"), route(&metrics, "status"));
    let sample = r#"scopegate_requests_total{route="orders",method="GET",status="200"}"#;
    Scrape::of(&metrics).expect(sample, 2.0);
}

#[test]
fn routes_named_like_a_reserved_label_make_no_second_series() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    worker.request(route(&metrics, "none"), &Method::GET, 200, Duration::ZERO);
    worker.request(None, &Method::GET, 200, Duration::ZERO);
    // The parser of the scrape refuses duplicates.
    let sample = r#"scopegate_requests_total{route="none",method="GET",status="200"}"#;
    Scrape::of(&metrics).expect(sample, 2.0);
}

#[test]
fn names_beyond_the_bound_count_as_other() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    for number in 0..MAX_NAMES + 50 {
        let route = route(&metrics, &format!("route-{number}"));
        if number >= MAX_NAMES {
            worker.request(route, &Method::GET, 200, Duration::ZERO);
        }
        metrics.jwks_refresh(&IssuerName::new(format!("issuer-{number}")), RefreshOutcome::Failed);
    }
    let scrape = Scrape::of(&metrics);
    scrape.expect(r#"scopegate_requests_total{route="other",method="GET",status="200"}"#, 50.0);
    scrape.expect(r#"scopegate_jwks_refreshes_total{issuer="other",outcome="failed"}"#, 50.0);
    assert_eq!(lock(&metrics.routes).names.len(), MAX_NAMES);
}

#[test]
fn the_policy_in_force_is_the_only_one_shown() {
    let metrics = Metrics::new();
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.series("scopegate_policy_info"), 0);
    scrape.expect(r#"scopegate_policy_reloads_total{outcome="refused"}"#, 0.0);

    metrics.policy_applied("aa", Timestamp(1_700_000_000));
    metrics.policy_reload(ReloadOutcome::Applied);
    metrics.policy_applied("bb", Timestamp(1_800_000_000));
    metrics.policy_reload(ReloadOutcome::Applied);
    metrics.policy_reload(ReloadOutcome::Refused);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.series("scopegate_policy_info"), 1);
    scrape.expect(r#"scopegate_policy_info{hash="bb"}"#, 1.0);
    scrape.expect("scopegate_policy_last_success_timestamp_seconds", 1_800_000_000.0);
    scrape.expect("scopegate_policy_last_reload_successful", 0.0);
    scrape.expect("scopegate_policy_revision", 2.0);
    scrape.expect(r#"scopegate_policy_reloads_total{outcome="applied"}"#, 2.0);
    scrape.expect(r#"scopegate_policy_reloads_total{outcome="refused"}"#, 1.0);

    metrics.policy_reload(ReloadOutcome::Unchanged);
    Scrape::of(&metrics).expect("scopegate_policy_last_reload_successful", 1.0);
}

#[test]
fn live_state_is_added_at_the_scrape() {
    let metrics = Metrics::new();
    let corp = IssuerName::new("corp");
    metrics.jwks_refresh(&corp, RefreshOutcome::Changed);
    metrics.access_log_dropped(7);
    let scrape = Scrape::with(&metrics, |extra| {
        extra.jwks(&corp, Some(Duration::from_millis(1500)), 2);
        extra.jwks(&IssuerName::new("never"), None, 0);
        extra.token_cache(TokenCacheStats { hits: 1, misses: 2, evictions: 3, bytes: 4 });
    });
    for (sample, value) in [
        (r#"scopegate_jwks_refreshes_total{issuer="corp",outcome="changed"}"#, 1.0),
        (r#"scopegate_jwks_age_seconds{issuer="corp"}"#, 1.5),
        (r#"scopegate_jwks_keys{issuer="corp"}"#, 2.0),
        (r#"scopegate_jwks_keys{issuer="never"}"#, 0.0),
        ("scopegate_token_cache_hits_total", 1.0),
        ("scopegate_token_cache_misses_total", 2.0),
        ("scopegate_token_cache_evictions_total", 3.0),
        ("scopegate_token_cache_bytes", 4.0),
        ("scopegate_access_log_dropped_total", 7.0),
        (concat!("scopegate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        scrape.expect(sample, value);
    }
    assert_eq!(scrape.series("scopegate_jwks_age_seconds"), 1, "an issuer without keys has no age");
}

#[test]
fn every_metric_has_the_labels_it_is_documented_with() {
    let metrics = Metrics::new();
    let route = route(&metrics, "orders");
    let upstream = metrics.upstream_handle(&UpstreamName::new("legacy"));
    let listener = metrics.listener_handle("127.0.0.1:8080".parse().unwrap());
    let worker = metrics.worker();
    let _held = (worker.connection_opened(listener), worker.upstream_connection_opened(upstream));
    worker.request(route, &Method::GET, 200, Duration::ZERO);
    worker.decision(route, Decision::Permit, None);
    worker.failed(route, Reason::RequestTimeout);
    worker.connection_closed(Cause::Age);
    worker.decision_duration(Duration::ZERO);
    worker.upstream(upstream, Duration::ZERO);
    worker.removed_fields(None, 1);
    worker.upstream_error(upstream, Reason::UpstreamTimeout);
    worker.connect_error(upstream, ConnectFault::Refused);
    worker.connection_closed(Cause::Frames);
    StreamError::all().for_each(|error| worker.stream_reset(error));
    metrics.policy_applied("abc", Timestamp(1));
    let issuer = IssuerName::new("corp");
    metrics.jwks_refresh(&issuer, RefreshOutcome::Changed);
    let scrape = Scrape::with(&metrics, |extra| {
        extra.jwks(&issuer, Some(Duration::ZERO), 1);
        extra.failing_addresses(&UpstreamName::new("legacy"), 1);
        extra.token_cache(TokenCacheStats::default());
    });
    let own = scrape.types.keys().filter(|name| name.starts_with("scopegate_")).count();
    assert_eq!(own, NAMES.len(), "a metric is missing in the list, or in this test");
    for name in NAMES {
        assert_eq!(scrape.types.get(name.name).map(String::as_str), Some(name.kind()), "{}", name.name);
        let suffix = if name.kind() == "histogram" { "_count" } else { "" };
        let series = format!("{}{suffix}", name.name);
        let mut samples = scrape.samples.keys().filter_map(|sample| {
            let (of, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            (of == series).then(|| labels.trim_end_matches('}'))
        });
        let labels: Vec<_> = samples
            .next()
            .unwrap_or_else(|| panic!("{series} has no sample"))
            .split(',')
            .filter_map(|label| Some(label.split_once('=')?.0))
            .collect();
        assert_eq!(labels, name.labels, "{}", name.name);
    }
}

#[test]
fn a_duration_on_a_bound_belongs_to_that_bucket() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    for bound in cells::FAST {
        worker.decision_duration(bound);
    }
    let scrape = Scrape::of(&metrics);
    for (position, bound) in cells::FAST.iter().enumerate() {
        let sample = format!(r#"scopegate_decision_duration_seconds_bucket{{le="{}"}}"#, bound.as_secs_f64());
        scrape.expect(&sample, (position + 1) as f64);
    }
}

proptest! {
    #[test]
    fn any_name_makes_a_scrape_that_parses(id in "\\PC*|[\\x00-\\x7f]*") {
        let metrics = Metrics::new();
        metrics.worker().request(route(&metrics, &id), &Method::GET, 200, Duration::ZERO);
        let text = metrics.render(|_| {}).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("scopegate_requests_total{")).count();
        prop_assert_eq!(lines, 1);
        Scrape::parse(&text);
    }
}
