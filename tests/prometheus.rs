//! A real Prometheus scrapes the gateway and answers questions about it.
#![cfg(test)]

mod support;

use support::{Rig, process};

#[tokio::test]
async fn prometheus_scrapes_and_answers_who_was_refused_and_why() {
    let rig = Rig::start().await;
    for _ in 0..3 {
        assert_eq!(rig.get("/orders/1").send().await.status, 200);
    }
    rig.gateway.get("/orders/1").send().await;
    let prometheus = process::prometheus(rig.gateway.admin_address()).await;
    assert_eq!(
        process::query(&prometheus, r#"sum(scopegate_requests_total{route="orders",status="200"})"#).await,
        "3"
    );
    let refused = r#"sum(scopegate_decisions_total{route="orders",reason="credential_missing"})"#;
    assert_eq!(process::query(&prometheus, refused).await, "1");
    assert_eq!(process::query(&prometheus, "count(scopegate_policy_info)").await, "1");
    assert_eq!(process::query(&prometheus, r#"up{job="scopegate"}"#).await, "1");
    let median = "histogram_quantile(0.5, sum by (le) (scopegate_request_duration_seconds_bucket)) < 10";
    assert!(process::query(&prometheus, median).await.parse::<f64>().unwrap() >= 0.0);
}
