//! What changes in the head of a response on its way to the client, beside the fields of the upstream's hop.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

/// Corrects what the status alone requires of a response, whichever protocols upstream and client speak.
pub(super) fn fit_to_status<B>(response: &mut Response<B>) {
    let status = response.status();
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        // There is no body (RFC 9110 §8.6). hyper removes the field over HTTP/1, but not over HTTP/2.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    } else if status.canonical_reason().is_none() && response.extensions().get::<ReasonPhrase>().is_none() {
        // hyper writes `<none>` for the phrase of a status that it does not know.
        response.extensions_mut().insert(ReasonPhrase::from_static(b""));
    }
}

/// Says of a response that shared caches must not keep it, unless it says itself what they may do. For requests with
/// `Authorization` they know by themselves (RFC 9111 §3.5); of a token in another field they know nothing.
pub(super) fn keep_from_shared_caches(headers: &mut HeaderMap) {
    let settled = headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        let mut quoted = false;
        let directives = value.as_bytes().split(|byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        });
        directives.map(<[u8]>::trim_ascii).any(|directive| {
            let known: [&[u8]; 4] = [b"private", b"no-store", b"public", b"must-revalidate"];
            let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default();
            known.iter().any(|known| known.eq_ignore_ascii_case(directive))
                || name.eq_ignore_ascii_case(b"s-maxage")
        })
    });
    if !settled {
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_caches_keep_what_the_upstream_allows() {
        for (values, added) in [
            (&[][..], true),
            (&["max-age=60"], true),
            (&["max-age=60", "no-cache"], true),
            (&["private=\"set-cookie\""], true),
            (&["no-cache=\"a, public, b\""], true),
            (&["publicly"], true),
            (&["s-maxage-of-mine=1"], true),
            (&["private"], false),
            (&["max-age=60, PUBLIC"], false),
            (&["max-age=60", "no-store"], false),
            (&["s-maxage=60"], false),
            (&["must-revalidate , max-age=60"], false),
        ] {
            let field = |value: &&'static str| (header::CACHE_CONTROL, HeaderValue::from_static(value));
            let mut headers: HeaderMap = values.iter().map(field).collect();
            keep_from_shared_caches(&mut headers);
            let after: Vec<_> = headers.get_all(header::CACHE_CONTROL).iter().collect();
            let expected = values.iter().chain(added.then_some(&"private"));
            assert!(after.iter().eq(expected), "{values:?}: {after:?}");
        }
    }

    #[test]
    fn a_head_fits_its_status() {
        for (status, phrase, has_length, phrase_after) in [
            (200, None, true, None),
            (200, Some("Fine"), true, Some("Fine")),
            (204, None, false, None),
            (205, None, true, None),
            (304, None, false, None),
            (599, None, true, Some("")),
            (999, None, true, Some("")),
            (999, Some("Request denied"), true, Some("Request denied")),
        ] {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(header::CONTENT_LENGTH, 0.into());
            phrase.map(|phrase: &str| {
                response.extensions_mut().insert(ReasonPhrase::try_from(phrase.as_bytes()).unwrap())
            });
            fit_to_status(&mut response);
            let what = format!("{status} {phrase:?}");
            assert_eq!(response.headers().contains_key(header::CONTENT_LENGTH), has_length, "{what}");
            let after = response.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
            assert_eq!(after, phrase_after.map(str::as_bytes), "{what}");
        }
    }
}
