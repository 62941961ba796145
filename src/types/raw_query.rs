//! Octets that clients send in a query although RFC 3986 §3.4 does not allow them.

/// The places in a percent-encoded query that the client sent as raw octets.
///
/// Many clients send `"`, `<` and `>` unescaped, as in JSON, and many APIs expect to get them that way. The library that
/// parses requests rejects them. The gateway percent-encodes them before it parses, decides on that form, and sends the octets
/// that the client sent. Octets above 0x7E are not among them: UTF-8 passes as it is, and strict servers reject the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawQuery(Vec<usize>);

/// Length of a percent-encoded octet.
const ENCODED: usize = 3;

impl RawQuery {
    /// Appends `octets` of a query to `encoded`, with those that a URI cannot hold percent-encoded. `query` is how many bytes
    /// of the encoded query stand before them.
    pub fn encode(&mut self, octets: &[u8], query: usize, encoded: &mut Vec<u8>) {
        let start = encoded.len();
        for octet in octets {
            if Self::is_raw(*octet) {
                self.0.push(query + encoded.len() - start);
                encoded.extend_from_slice(percent_encoding::percent_encode_byte(*octet).as_bytes());
            } else {
                encoded.push(*octet);
            }
        }
    }

    /// Whether a query holds nothing that was encoded.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The octets that the client sent for this percent-encoded query. A place that holds nothing percent-encoded, which only
    /// another query has, stays as it is.
    pub fn decode(&self, encoded: &str) -> Vec<u8> {
        let mut raw = Vec::with_capacity(encoded.len());
        let mut next = 0;
        for place in &self.0 {
            let octet = encoded.get(*place..place + ENCODED).and_then(raw_octet);
            let Some((octet, before)) = octet.zip(encoded.get(next..*place)) else { continue };
            raw.extend_from_slice(before.as_bytes());
            raw.push(octet);
            next = place + ENCODED;
        }
        raw.extend_from_slice(encoded.get(next..).unwrap_or_default().as_bytes());
        raw
    }

    /// Whether a URI cannot hold this octet in its query, although clients send it there. Never one that ends a line, a
    /// target or a query.
    pub const fn is_raw(octet: u8) -> bool {
        matches!(octet, b'"' | b'<' | b'>')
    }
}

/// The octet of `%XX`, if it is one that is encoded here.
fn raw_octet(encoded: &str) -> Option<u8> {
    let octet = u8::from_str_radix(encoded.strip_prefix('%')?, 16).ok()?;
    RawQuery::is_raw(octet).then_some(octet)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encoded_query_decodes_to_its_octets() {
        for (raw, encoded) in [
            (&b"a=1"[..], "a=1"),
            (b"f={\"s\":\"<1>\"}", "f={%22s%22:%22%3C1%3E%22}"),
            (b"a=%22\"", "a=%22%22"),
            (b"", ""),
        ] {
            let (mut query, mut bytes) = (RawQuery::default(), Vec::new());
            query.encode(raw, 0, &mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), encoded);
            assert_eq!(query.decode(encoded), raw, "{encoded}");
        }
    }

    proptest! {
        #[test]
        fn any_split_of_a_query_decodes_to_its_octets(raw in "[!-~]*", cut: prop::sample::Index) {
            let raw = raw.into_bytes();
            let (first, second) = raw.split_at(cut.index(raw.len() + 1));
            let (mut query, mut bytes) = (RawQuery::default(), Vec::new());
            query.encode(first, 0, &mut bytes);
            let before = bytes.len();
            query.encode(second, before, &mut bytes);
            let encoded = String::from_utf8(bytes).unwrap();
            prop_assert!(!encoded.bytes().any(RawQuery::is_raw));
            prop_assert_eq!(query.decode(&encoded), raw);
        }

        #[test]
        fn places_of_another_query_add_no_line_end(places: Vec<usize>, query in "[!-~]*") {
            let raw = RawQuery(places.into_iter().map(|place| place % 64).collect()).decode(&query);
            prop_assert!(!raw.iter().any(|octet| *octet <= b' ' || *octet == 0x7f));
        }
    }
}
