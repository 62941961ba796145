//! Any Authorization field: what is taken as a token is exactly what stands behind the scheme.
#![no_main]

use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use scopegate::authenticate::bearer;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    if let Ok(token) = bearer::extract(&headers, 64) {
        assert_eq!(token.as_bytes(), &data["Bearer ".len()..]);
        assert!((1..=64).contains(&token.len()));
    }
});
