//! A method in the query: Rails, Laravel, Symfony and others take `_method=DELETE` for the method of the request.

use std::borrow::Cow;

use http::Method;

use crate::reject::{Reason, Reject};

/// The longest spelling of the name that is decoded: each octet escaped.
const MAX_NAME: usize = 3 * "_method".len();

/// Checks each `_method` of a query. `is_same_rule` says whether the route that was found also serves this method.
///
/// # Errors
///
/// `request_invalid` for a method that another rule decides on.
pub fn check(query: &str, is_same_rule: impl Fn(&Method) -> bool) -> Result<(), Reject> {
    for pair in query.split(['&', ';']) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !is_method_name(name) {
            continue;
        }
        let value = decode(value).trim().to_ascii_uppercase();
        let Ok(method) = Method::from_bytes(value.as_bytes()) else { continue };
        if !is_same_rule(&method) {
            let cause = "`_method` in the query names a method for which this path has another rule; \
                `match.allow_method_query` allows it";
            return Err(Reject::because(Reason::RequestInvalid, cause));
        }
    }
    Ok(())
}

/// Whether frameworks read this name as `_method`. PHP drops spaces in front and turns `.`, `[` and spaces into `_`.
fn is_method_name(name: &str) -> bool {
    if name.len() < "_method".len() || !name.contains(['%', '+', '_', '.', '[']) {
        return false;
    }
    let name = name.trim_start_matches('+').trim_start_matches("%20");
    if name.len() > MAX_NAME {
        return false;
    }
    let name = if name.contains('%') { decode(name) } else { Cow::Borrowed(name) };
    let name = name.trim_start();
    // PHP ends a name at a NUL and reads `_method[]` as a list.
    let end = name.find(['\0', '[']).filter(|end| *end > 0).unwrap_or(name.len());
    let name = name.get(..end).unwrap_or_default();
    name.strip_prefix(['_', '.', '[']).is_some_and(|rest| rest.eq_ignore_ascii_case("method"))
}

fn decode(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_method_in_the_query_is_refused() {
        for (query, refused) in [
            ("_method=DELETE", true),
            ("a=b&_method=delete", true),
            ("a=b;_method=Delete", true),
            ("%5Fmethod=DELETE", true),
            ("%5f%6d%65%74%68%6f%64=%44ELETE", true),
            ("_METHOD=DELETE", true),
            (".method=DELETE", true),
            ("+_method=DELETE", true),
            ("%20_method=DELETE", true),
            ("_method[]=DELETE", true),
            ("_method%00x=DELETE", true),
            ("_method=GET&_method=DELETE", true),
            ("_method=DELETE&_method=GET", true),
            ("_method=%20DELETE", true),
            ("_method=GET", false),
            ("_method=get", false),
            ("_method=", false),
            ("_method", false),
            ("_methods=DELETE", false),
            ("x_method=DELETE", false),
            ("method=DELETE", false),
            ("q=_method%3DDELETE", false),
            ("", false),
        ] {
            let checked = check(query, |method| *method == Method::GET);
            assert_eq!(checked.is_err(), refused, "{query}");
        }
    }
}
