//! What changes in the head of a response on its way to the client, beside the fields of the upstream's hop.

use http::{Response, StatusCode, header};
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

#[cfg(test)]
mod tests {
    use super::*;

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
