//! How field names are spelled over HTTP/1.
//!
//! Letter case means nothing in a name (RFC 9110 §5.1), and the HTTP library hands names over in lower case. Some old servers
//! compare names literally all the same, so each word of a name begins with a capital letter, as most clients write it.

/// Names that are commonly written otherwise.
const COMMON: [(&str, &str); 17] = [
    ("content-md5", "Content-MD5"),
    ("dnt", "DNT"),
    ("etag", "ETag"),
    ("mime-version", "MIME-Version"),
    ("sec-websocket-accept", "Sec-WebSocket-Accept"),
    ("sec-websocket-extensions", "Sec-WebSocket-Extensions"),
    ("sec-websocket-key", "Sec-WebSocket-Key"),
    ("sec-websocket-protocol", "Sec-WebSocket-Protocol"),
    ("sec-websocket-version", "Sec-WebSocket-Version"),
    ("soapaction", "SOAPAction"),
    ("te", "TE"),
    ("www-authenticate", "WWW-Authenticate"),
    ("x-api-key", "X-API-Key"),
    ("x-correlation-id", "X-Correlation-ID"),
    ("x-real-ip", "X-Real-IP"),
    ("x-request-id", "X-Request-ID"),
    ("x-ua-compatible", "X-UA-Compatible"),
];

/// Appends a name that is in lower case.
pub(super) fn append(bytes: &mut Vec<u8>, name: &str) {
    // Few names begin like those that are written otherwise.
    if matches!(name.as_bytes(), [b'c' | b'd' | b'e' | b'm' | b's' | b't' | b'w' | b'x', ..])
        && let Ok(position) = COMMON.binary_search_by(|(known, _)| (*known).cmp(name))
        && let Some((_, spelling)) = COMMON.get(position)
    {
        bytes.extend_from_slice(spelling.as_bytes());
        return;
    }
    let mut before = b'-';
    bytes.extend(name.bytes().map(|byte| {
        let spelled = if before == b'-' { byte.to_ascii_uppercase() } else { byte };
        before = byte;
        spelled
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_with_a_capital() {
        for (name, spelling) in [
            ("host", "Host"),
            ("content-type", "Content-Type"),
            ("x--a-", "X--A-"),
            ("x_foo-1a", "X_foo-1a"),
            ("-a", "-A"),
            ("soapaction", "SOAPAction"),
            ("www-authenticate", "WWW-Authenticate"),
            ("sec-websocket-key", "Sec-WebSocket-Key"),
        ] {
            let mut bytes = b"x: y\r\n".to_vec();
            append(&mut bytes, name);
            assert_eq!(String::from_utf8(bytes).unwrap(), format!("x: y\r\n{spelling}"));
        }
    }

    #[test]
    fn common_spellings_differ_in_case_alone() {
        assert!(COMMON.is_sorted(), "they are searched by halves");
        for (name, spelling) in COMMON {
            assert_eq!(spelling.to_ascii_lowercase(), name);
            let mut bytes = Vec::new();
            append(&mut bytes, name);
            assert_eq!(bytes, spelling.as_bytes());
        }
    }
}
