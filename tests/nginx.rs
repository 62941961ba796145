//! Real legacy servers behind the gateway: nginx, and Python's HTTP/1.0 file server.
#![cfg(test)]

mod support;

use support::{Gateway, Policy, TestIssuer, process};

#[tokio::test]
async fn nginx_sees_the_identity_and_serves_files_large_and_small() {
    let nginx = process::nginx(
        "location /orders/who { default_type text/plain; return 200 '$http_x_user|$http_authorization|$http_host'; }",
    )
    .await;
    let files = nginx.dir().join("html/orders");
    std::fs::create_dir_all(&files).unwrap();
    let large = "0123456789abcdef".repeat(256 * 1024);
    std::fs::write(files.join("large.bin"), &large).unwrap();
    std::fs::write(files.join("small.txt"), "small").unwrap();

    let issuer = TestIssuer::start().await;
    let gateway = Gateway::start(&Policy::default().render(issuer.url(), &nginx.url())).await;
    let get = |path: &str| gateway.get(path).token(&issuer.token().mint());
    assert_eq!(get("/orders/who").send().await.text(), "alice||api.example.com");
    assert_eq!(get("/orders/small.txt").send().await.text(), "small");
    let response = get("/orders/large.bin").send().await;
    assert!(response.body == large.as_bytes(), "{} of {} bytes", response.body.len(), large.len());
    let part = get("/orders/large.bin").header("Range", "bytes=16-19").send().await;
    assert_eq!((part.status, part.text().as_str()), (206, "0123"));
    let etag = get("/orders/small.txt").send().await.header("etag").unwrap().to_owned();
    assert_eq!(get("/orders/small.txt").header("If-None-Match", &etag).send().await.status, 304);
    assert_eq!(get("/orders/nothing").send().await.status, 404, "the API's own errors pass");
    assert_eq!(gateway.get("/orders/small.txt").send().await.verdict(), "401 credential_missing");
}

#[tokio::test]
async fn an_upstream_of_http_1_0_works() {
    let python = process::python_http_server().await;
    std::fs::create_dir(python.dir().join("orders")).unwrap();
    std::fs::write(python.dir().join("orders/a.txt"), "from a file").unwrap();
    let issuer = TestIssuer::start().await;
    let gateway = Gateway::start(&Policy::default().render(issuer.url(), &python.url())).await;
    for _ in 0..3 {
        let response = gateway.get("/orders/a.txt").token(&issuer.token().mint()).send().await;
        assert_eq!((response.status, response.text().as_str()), (200, "from a file"));
    }
    assert_eq!(gateway.get("/orders/nothing").token(&issuer.token().mint()).send().await.status, 404);
}
