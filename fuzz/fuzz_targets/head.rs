//! Any bytes as the head of an HTTP/1 request: the checks before a decision never panic, and what they take has one host and
//! one framing.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use libfuzzer_sys::fuzz_target;
use scopegate::admit::{self, Head};
use scopegate::route::host::Host;
use scopegate::route::path::CanonicalPath;
use scopegate::snapshot::Limits;

const LIMITS: Limits = Limits::DEFAULT;

fuzz_target!(|bytes: &[u8]| {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(_)) = request.parse(bytes) else {
        return;
    };
    let Some((method, uri, headers)) = convert(&request) else {
        return;
    };
    let version = if request.version == Some(0) {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    for version in [version, Version::HTTP_2] {
        let head = Head {
            method: &method,
            uri: &uri,
            version,
            headers: &headers,
        };
        if admit::check(&head, &LIMITS).is_err() {
            continue;
        }
        let framings = headers.get_all(header::CONTENT_LENGTH).iter().count()
            + headers.get_all(header::TRANSFER_ENCODING).iter().count();
        assert!(framings <= 1, "one framing");
        if let Ok(host) = Host::of(&uri, &headers) {
            assert!(!host.as_str().is_empty());
            assert!(headers.get_all(header::HOST).iter().count() <= 1, "one host");
            assert!(
                !host
                    .as_str()
                    .bytes()
                    .any(|byte| byte.is_ascii_uppercase() || byte == b'@')
            );
        }
        let _ = CanonicalPath::parse(uri.path());
    }
});

fn convert(request: &httparse::Request<'_, '_>) -> Option<(Method, Uri, HeaderMap)> {
    let method = request.method?.parse().ok()?;
    let uri = request.path?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for field in request.headers.iter() {
        headers.append(
            HeaderName::from_bytes(field.name.as_bytes()).ok()?,
            HeaderValue::from_bytes(field.value).ok()?,
        );
    }
    Some((method, uri, headers))
}
