//! How field names are spelled over HTTP/1.
//!
//! Letter case means nothing in a name (RFC 9110 §5.1), and the HTTP library hands names over in lower case. Some old servers
//! compare names literally all the same, so each word of a name begins with a capital letter, as most clients write it.

/// The spelling of names that are commonly written otherwise.
fn common(name: &str) -> Option<&'static str> {
    // Length and first letter tell almost all of them apart, so that other names cost no comparison.
    let spelling = match (name.len(), name.as_bytes()) {
        (2, [b't', ..]) => "TE",
        (3, [b'd', ..]) => "DNT",
        (4, [b'e', ..]) => "ETag",
        (9, [b'x', _, b'a', ..]) => "X-API-Key",
        (9, [b'x', ..]) => "X-Real-IP",
        (10, [b's', ..]) => "SOAPAction",
        (11, [b'c', ..]) => "Content-MD5",
        (12, [b'm', ..]) => "MIME-Version",
        (12, [b'x', ..]) => "X-Request-ID",
        (15, [b'x', ..]) => "X-UA-Compatible",
        (16, [b'w', ..]) => "WWW-Authenticate",
        (16, [b'x', ..]) => "X-Correlation-ID",
        (17, [b's', ..]) => "Sec-WebSocket-Key",
        (20, [b's', ..]) => "Sec-WebSocket-Accept",
        (21, [b's', ..]) => "Sec-WebSocket-Version",
        (22, [b's', ..]) => "Sec-WebSocket-Protocol",
        (24, [b's', ..]) => "Sec-WebSocket-Extensions",
        _ => return None,
    };
    spelling.eq_ignore_ascii_case(name).then_some(spelling)
}

/// Appends a name that is in lower case.
pub(super) fn append(bytes: &mut Vec<u8>, name: &str) {
    if let Some(spelling) = common(name) {
        bytes.extend_from_slice(spelling.as_bytes());
        return;
    }
    let mut begins_word = FIRST;
    let (words, rest) = name.as_bytes().as_chunks::<8>();
    for word in words {
        let (spelled, next) = capitalize(*word, begins_word);
        bytes.extend_from_slice(&spelled);
        begins_word = next;
    }
    let end = bytes.len() + rest.len();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
    let (spelled, _) = capitalize(last, begins_word);
    // Eight bytes and a cut cost less than a copy of unknown length.
    bytes.extend_from_slice(&spelled);
    bytes.truncate(end);
}

/// The mark of the first byte of a word.
const FIRST: u64 = 0x80;

/// Eight bytes of a name with the letters that begin a word as capitals. `begins_word` is [`FIRST`] if the first byte does;
/// the second value says so of the byte that comes next. A name is ASCII, so no sum below carries into the next byte.
const fn capitalize(bytes: [u8; 8], begins_word: u64) -> ([u8; 8], u64) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = EACH * 0x80;
    let word = u64::from_le_bytes(bytes) & !HIGH;
    let hyphens = !((word ^ (EACH * b'-' as u64)) + EACH * 0x7f) & HIGH;
    let from_a = word + EACH * (0x80 - b'a' as u64);
    let beyond_z = word + EACH * (0x80 - b'z' as u64 - 1);
    let begins = hyphens << 8 | begins_word;
    let capitals = (begins & from_a & !beyond_z & HIGH) >> 2;
    ((word ^ capitals).to_le_bytes(), hyphens >> 56)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        for spelling in [
            "Content-MD5",
            "DNT",
            "ETag",
            "MIME-Version",
            "Sec-WebSocket-Accept",
            "Sec-WebSocket-Extensions",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Protocol",
            "Sec-WebSocket-Version",
            "SOAPAction",
            "TE",
            "WWW-Authenticate",
            "X-API-Key",
            "X-Correlation-ID",
            "X-Real-IP",
            "X-Request-ID",
            "X-UA-Compatible",
        ] {
            let mut bytes = Vec::new();
            append(&mut bytes, &spelling.to_ascii_lowercase());
            assert_eq!(String::from_utf8(bytes).unwrap(), spelling);
        }
    }

    proptest! {
        #[test]
        fn every_name_is_capitalized_byte_for_byte(name in "[!#$%&'*+.^_`|~0-9a-z-]{1,40}") {
            let mut bytes = Vec::new();
            append(&mut bytes, &name);
            let mut before = b'-';
            let expected: Vec<u8> = name
                .bytes()
                .map(|byte| {
                    let spelled = if before == b'-' { byte.to_ascii_uppercase() } else { byte };
                    before = byte;
                    spelled
                })
                .collect();
            prop_assert!(common(&name).is_some() || bytes == expected);
            prop_assert_eq!(bytes.to_ascii_lowercase(), name.as_bytes());
        }
    }
}
