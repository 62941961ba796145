//! A token among the subprotocols of a WebSocket handshake, for browsers: a script can set no other field of it.
//!
//! 1. The lines of `Sec-WebSocket-Protocol` are one list (RFC 6455 §11.3.4). The name that the policy gives announces the
//!    token, which is the next item: `bearer, <token>, chat`. Without that name there is no credential here.
//! 2. With it, the list must be in order: items of legal characters, the name once and in its letter case, one token.
//!    Anything else is refused and never forwarded, since an item could be a token. So is a token that nothing announces.
//! 3. The other items are the application's own, and go on in their order.

use http::{HeaderMap, header};
use smallvec::SmallVec;

use super::bearer::{is_b64token, is_tchar};
use crate::reject::{Reason, Reject};

/// Most subprotocols beside the token. Clients offer a few; a header section has room for thousands.
const MOST_OTHERS: usize = 64;

/// What a handshake offers beside its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// The token.
    token: &'a str,
    /// The other subprotocols.
    others: SmallVec<[&'a str; 4]>,
}

impl<'a> Offer<'a> {
    /// Reads the list; `None` if nothing in it announces a token. `name` is the item that does, `max_token` is in bytes.
    ///
    /// # Errors
    ///
    /// `token_malformed`, `credential_ambiguous`.
    pub fn parse(headers: &'a HeaderMap, name: &str, max_token: usize) -> Result<Option<Self>, Reject> {
        if !bring_token(headers, name) {
            return Ok(None);
        }
        let mut others = SmallVec::<[&str; 4]>::new();
        let mut token = None;
        let mut items = items(headers);
        while let Some(item) = items.next() {
            let item = legal(item)?;
            if item == name {
                let next = items
                    .next()
                    .ok_or_else(|| malformed("has no token behind the name that announces it"))?;
                let next = legal(next)?;
                if next.eq_ignore_ascii_case(name) || token.replace(next).is_some() {
                    return Err(ambiguous("announces more than one token"));
                }
            } else if item.eq_ignore_ascii_case(name) {
                return Err(malformed("announces a token in another letter case"));
            } else if others.len() == MOST_OTHERS {
                return Err(malformed("holds more than 64 subprotocols beside a token"));
            } else {
                others.push(item);
            }
        }
        let token: &str = token.ok_or_else(|| malformed("holds a token that nothing announces"))?;
        if token.len() > max_token || !is_b64token(token) {
            return Err(malformed("announces what is not a token within `limits.token`"));
        }
        if others.iter().any(|other| *other == token || is_jwt(other.as_bytes())) {
            return Err(ambiguous("holds a second token"));
        }
        Ok(Some(Self { token, others }))
    }

    /// The token.
    pub const fn token(&self) -> &'a str {
        self.token
    }

    /// The other subprotocols, in their order.
    pub fn others(&self) -> &[&'a str] {
        &self.others
    }
}

/// Whether a word in the list announces a token, in any letter case, or is one.
pub(super) fn bring_token(headers: &HeaderMap, name: &str) -> bool {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut words = lines.flat_map(|line| line.as_bytes().split(|byte| !is_tchar(*byte)));
    words.any(|word| word.eq_ignore_ascii_case(name.as_bytes()) || is_jwt(word))
}

/// The items of the list, without the white space around them (RFC 9110 §5.6.1).
fn items(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    // Of white space, a field value holds no more than spaces and tabs.
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// An item of legal characters: a `token` (RFC 6455 §4.1).
fn legal(item: &[u8]) -> Result<&str, Reject> {
    let item = std::str::from_utf8(item).ok().filter(|item| is_token(item));
    item.ok_or_else(|| malformed("holds an empty item, or one with characters that are not allowed"))
}

/// Whether a text is a `token`, as each name of a subprotocol is (RFC 6455 §4.1).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Whether an item has the shape of a signed token: three parts, the first of which is a JSON object in base64url.
fn is_jwt(item: &[u8]) -> bool {
    item.starts_with(b"ey") && item.iter().filter(|byte| **byte == b'.').count() == 2
}

fn malformed(what: &str) -> Reject {
    Reject::because(Reason::TokenMalformed, format!("Sec-WebSocket-Protocol {what}"))
}

fn ambiguous(what: &str) -> Reject {
    Reject::because(Reason::CredentialAmbiguous, format!("Sec-WebSocket-Protocol {what}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[&[u8]]) -> HeaderMap {
        let line = |line: &&[u8]| (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes(line).unwrap());
        lines.iter().map(line).collect()
    }

    #[test]
    fn one_announced_token_is_taken_out() {
        for (lines, expected) in [
            (&[][..], None),
            (&[&b"chat"[..]], None),
            (&[b"bearer.x, bearers"], None),
            (&[b"bearer, a.b.c"], Some(("a.b.c", &[][..]))),
            (&[b"bearer,a.b.c,chat"], Some(("a.b.c", &["chat"][..]))),
            (&[b"chat, bearer, a.b.c , v2.chat.example"], Some(("a.b.c", &["chat", "v2.chat.example"]))),
            (&[b"\tbearer\t,\ta.b.c\t"], Some(("a.b.c", &[]))),
            (&[b"chat", b"bearer, a.b.c"], Some(("a.b.c", &["chat"]))),
            (&[b"bearer", b"a.b.c", b"chat"], Some(("a.b.c", &["chat"]))),
        ] {
            let headers = fields(lines);
            let offer = Offer::parse(&headers, "bearer", 64).unwrap();
            let offer = offer.as_ref().map(|offer| (offer.token(), offer.others()));
            assert_eq!(offer, expected, "{lines:?}");
        }
    }

    #[test]
    fn doubtful_lists_are_refused() {
        use Reason::{CredentialAmbiguous, TokenMalformed};
        let long = [b"bearer, ".to_vec(), vec![b'a'; 65]].concat();
        let many = ["a,".repeat(MOST_OTHERS + 1).as_bytes(), b"bearer, a.b.c"].concat();
        for (lines, expected) in [
            (&[&b"bearer"[..]][..], TokenMalformed),
            (&[b"a.b.c, bearer"], TokenMalformed),
            (&[b"bearer,"], TokenMalformed),
            (&[b"chat, eyJh.eyJp.sig"], TokenMalformed),
            (&[b"bearer;, eyJh.eyJp.sig"], TokenMalformed),
            (&[b"Bearer eyJh.eyJp.sig", b"eyJh.eyJp.sig"], TokenMalformed),
            (&[b"bearer,, a.b.c"], TokenMalformed),
            (&[b"bearer, a.b.c,"], TokenMalformed),
            (&[b", bearer, a.b.c"], TokenMalformed),
            (&[b"", b"bearer, a.b.c"], TokenMalformed),
            (&[b"bearer", b"", b"a.b.c"], TokenMalformed),
            (&[b"bearer a.b.c"], TokenMalformed),
            (&[b"chat \"eyJh.eyJp.sig\""], TokenMalformed),
            (&[b"token=eyJh.eyJp.sig"], TokenMalformed),
            (&[b"Bearer, a.b.c"], TokenMalformed),
            (&[b"bearer, a.b.c, BEARER"], TokenMalformed),
            (&[b"bearer, \"a.b.c\""], TokenMalformed),
            (&[b"bearer, a.b.c, chat x"], TokenMalformed),
            (&[b"bearer, a.b.c, \xff"], TokenMalformed),
            (&[b"bearer, a.b.c="], TokenMalformed),
            (&[b"bearer, a.b!c"], TokenMalformed),
            (&[&long], TokenMalformed),
            (&[&many], TokenMalformed),
            (&[b"bearer, bearer, a.b.c"], CredentialAmbiguous),
            (&[b"bearer, a.b.c, bearer, a.b.c"], CredentialAmbiguous),
            (&[b"bearer, a.b.c", b"bearer, d.e.f"], CredentialAmbiguous),
            (&[b"bearer, a.b.c, a.b.c"], CredentialAmbiguous),
            (&[b"bearer, a.b.c, eyJh.eyJp.sig"], CredentialAmbiguous),
            (&[b"eyJh.eyJp.sig, bearer, a.b.c"], CredentialAmbiguous),
        ] {
            let headers = fields(lines);
            let refused = Offer::parse(&headers, "bearer", 64).map_err(|reject| reject.reason);
            assert_eq!(refused, Err(expected), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_the_announcement_is_lost(
            before in proptest::collection::vec("[ \t]?[a-c]{1,3}[ \t]?", 0..4),
            behind in proptest::collection::vec("[ \t]?[a-c]{1,3}[ \t]?", 0..4),
        ) {
            let items: Vec<_> = before.iter().chain(["bearer", "x.y.z"].map(str::to_owned).iter()).chain(&behind).cloned().collect();
            let headers = fields(&[items.join(",").as_bytes()]);
            let offer = Offer::parse(&headers, "bearer", 64).unwrap().unwrap();
            let others: Vec<_> = before.iter().chain(&behind).map(|item| item.trim_ascii()).collect();
            prop_assert_eq!(offer.others(), &others[..]);
            prop_assert_eq!(offer.token(), "x.y.z");
        }
    }
}
