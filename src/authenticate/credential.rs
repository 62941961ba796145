//! Where the one token of a request is read from.
//!
//! 1. By default only `Authorization` is read ([`super::bearer`]). A route whose issuers have a `token_header` reads those
//!    fields too; it reads `Authorization` only if one of its issuers has none.
//! 2. A request brings its credential in one place. Fields in two places that count for the route are refused, whatever is
//!    in them: which one counts must not depend on who reads.
//! 3. The whole value of a `token_header` field is one token, without a scheme.
//! 4. A token counts only in the place of its issuer (`Credential::fits`): a proxy in front vouches for its field, not for
//!    what a client writes elsewhere.

use std::fmt;

use http::{HeaderMap, HeaderName, header};

use super::subprotocol::{self, Offer};
use super::{IssuerPolicy, bearer};
use crate::reject::{Reason, Reject};

/// The places that a route reads tokens from, where that is not `Authorization` alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenPlaces {
    /// Whether `Authorization` is one of them.
    pub authorization: bool,
    /// The `token_header` fields of the route's issuers, each once.
    pub fields: Box<[HeaderName]>,
    /// The subprotocol that announces a token in a WebSocket handshake ([`super::subprotocol`]). Its tokens are those that
    /// would else come in `Authorization`.
    pub subprotocol: Option<Box<str>>,
}

/// What of a request authentication looks at.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The fields of the head.
    pub headers: &'a HeaderMap,
    /// Where the route reads tokens from; `None` is `Authorization` alone.
    pub places: Option<&'a TokenPlaces>,
    /// Whether it is a WebSocket handshake. Only asked where a place needs one.
    pub handshake: bool,
    /// Longest token in bytes that is looked at.
    pub max_token: usize,
}

/// The place that a token was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPlace<'a> {
    /// `Authorization`, with the scheme `Bearer`.
    Authorization,
    /// The field of this name.
    Field(&'a HeaderName),
    /// `Sec-WebSocket-Protocol` of a handshake, where this name announces it.
    Subprotocol(&'a str),
}

/// As it stands in causes.
impl fmt::Display for TokenPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization => f.write_str("Authorization"),
            Self::Field(name) => write!(f, "`{name}`"),
            Self::Subprotocol(_) => f.write_str("Sec-WebSocket-Protocol"),
        }
    }
}

/// The token of a request, not verified.
#[derive(Clone, Copy)]
pub struct Credential<'a> {
    /// The token.
    pub token: &'a str,
    /// Where it stood.
    pub place: TokenPlace<'a>,
}

impl Credential<'_> {
    /// Checks that tokens of this issuer are read from this place.
    ///
    /// # Errors
    ///
    /// `credential_misplaced`.
    pub(super) fn fits(&self, issuer: &IssuerPolicy) -> Result<(), Reject> {
        let fits = match (self.place, &issuer.token_header) {
            (TokenPlace::Authorization | TokenPlace::Subprotocol(_), None) => true,
            (TokenPlace::Field(name), Some(expected)) => name == expected,
            (TokenPlace::Authorization | TokenPlace::Subprotocol(_), Some(_))
            | (TokenPlace::Field(_), None) => false,
        };
        if fits {
            return Ok(());
        }
        let expected = issuer.token_header.as_ref().map_or(TokenPlace::Authorization, TokenPlace::Field);
        let cause = format!(
            "expected tokens of issuer `{}` in {expected}, found one (unverified) in {}",
            issuer.name, self.place
        );
        Err(Reject::because(Reason::CredentialMisplaced, cause))
    }
}

impl<'a> Presented<'a> {
    /// Takes the one token out of the head. The form of one in `Authorization` is not checked yet ([`bearer::check_form`]).
    ///
    /// # Errors
    ///
    /// `credential_missing`, `credential_ambiguous`, `token_malformed`.
    pub(super) fn credential(&self) -> Result<Credential<'a>, Reject> {
        let place = match self.places {
            None => TokenPlace::Authorization,
            Some(places) => self.place(places)?,
        };
        let token = match place {
            TokenPlace::Authorization => bearer::find(self.headers, self.max_token)?,
            TokenPlace::Field(name) => self.whole(name)?,
            TokenPlace::Subprotocol(name) => {
                let offer = Offer::parse(self.headers, name, self.max_token)?;
                offer
                    .ok_or(Reject::because(Reason::CredentialMissing, "no subprotocol announces a token"))?
                    .token()
            }
        };
        Ok(Credential { token, place })
    }

    /// The one place with a field in it.
    fn place(&self, places: &'a TokenPlaces) -> Result<TokenPlace<'a>, Reject> {
        let present = |place: &TokenPlace<'_>| match place {
            TokenPlace::Authorization => self.headers.contains_key(header::AUTHORIZATION),
            TokenPlace::Field(name) => self.headers.contains_key(*name),
            TokenPlace::Subprotocol(name) => self.handshake && subprotocol::bring_token(self.headers, name),
        };
        let mut found = places.all().filter(present);
        let Some(first) = found.next() else {
            return Err(Reject::because(
                Reason::CredentialMissing,
                format!("the request has no {}", Listed(places)),
            ));
        };
        match found.next() {
            None => Ok(first),
            Some(second) => {
                let cause = format!("credentials in both {first} and {second}");
                Err(Reject::because(Reason::CredentialAmbiguous, cause))
            }
        }
    }

    /// The token that is the whole value of this field.
    fn whole(&self, name: &HeaderName) -> Result<&'a str, Reject> {
        let mut fields = self.headers.get_all(name).iter();
        let missing = || Reject::because(Reason::CredentialMissing, format!("the request has no `{name}`"));
        let field = fields.next().ok_or_else(missing)?;
        if fields.next().is_some() {
            return Err(Reject::because(
                Reason::CredentialAmbiguous,
                format!("more than one `{name}` field"),
            ));
        }
        let malformed = |cause: &str| Reject::because(Reason::TokenMalformed, format!("`{name}` {cause}"));
        if field.len() > self.max_token {
            return Err(bearer::too_long(self.max_token));
        }
        let token = std::str::from_utf8(field.as_bytes()).ok().filter(|text| bearer::is_b64token(text));
        token.ok_or_else(|| malformed("holds anything but one token"))
    }
}

impl TokenPlaces {
    /// The places of a route that accepts these issuers; `None` if that is `Authorization` alone. `subprotocol` announces a
    /// token in a WebSocket handshake.
    pub fn of<'i>(
        issuers: impl Iterator<Item = &'i IssuerPolicy>,
        subprotocol: Option<&str>,
    ) -> Option<Self> {
        let mut fields: Vec<HeaderName> = Vec::new();
        let mut authorization = false;
        for issuer in issuers {
            match &issuer.token_header {
                None => authorization = true,
                Some(name) if fields.contains(name) => {}
                Some(name) => fields.push(name.clone()),
            }
        }
        let subprotocol = subprotocol.map(Box::from);
        let elsewhere = !fields.is_empty() || subprotocol.is_some();
        elsewhere.then(|| Self { authorization, fields: fields.into(), subprotocol })
    }

    fn all(&self) -> impl Iterator<Item = TokenPlace<'_>> {
        let authorization = self.authorization.then_some(TokenPlace::Authorization);
        let subprotocol = self.subprotocol.as_deref().map(TokenPlace::Subprotocol);
        authorization.into_iter().chain(self.fields.iter().map(TokenPlace::Field)).chain(subprotocol)
    }
}

/// Places as they stand in a cause.
struct Listed<'a>(&'a TokenPlaces);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, place) in self.0.all().enumerate() {
            let between = if position > 0 { " and no " } else { "" };
            write!(f, "{between}{place}")?;
        }
        f.write_str(" field")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::authenticate::testing::policy;

    const IAP: HeaderName = HeaderName::from_static("x-goog-iap-jwt-assertion");
    const ACCESS: HeaderName = HeaderName::from_static("cf-access-jwt-assertion");

    fn places(authorization: bool) -> TokenPlaces {
        TokenPlaces { authorization, fields: Box::new([IAP, ACCESS]), subprotocol: None }
    }

    fn fields(list: &[(HeaderName, &[u8])]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    /// The token and the place it was found in, or the reason and cause.
    fn found(authorization: bool, list: &[(HeaderName, &[u8])]) -> Result<String, (Reason, String)> {
        let (headers, places) = (fields(list), places(authorization));
        let presented =
            Presented { headers: &headers, places: Some(&places), handshake: false, max_token: 64 };
        match presented.credential() {
            Ok(Credential { token, place }) => Ok(format!("{token} in {place}")),
            Err(reject) => Err((reject.reason, reject.cause.unwrap().into_owned())),
        }
    }

    #[test]
    fn one_field_brings_the_token() {
        let basic: (_, &[u8]) = (header::AUTHORIZATION, b"Basic YTpi");
        for (authorization, list, expected) in [
            (true, &[(header::AUTHORIZATION, &b"Bearer a.b.c"[..])][..], "a.b.c in Authorization"),
            (true, &[(IAP, b"a.b.c")], "a.b.c in `x-goog-iap-jwt-assertion`"),
            (true, &[(ACCESS, b"a.b.c")], "a.b.c in `cf-access-jwt-assertion`"),
            (false, &[(IAP, b"a.b.c")], "a.b.c in `x-goog-iap-jwt-assertion`"),
            // Authorization is the upstream's own affair where the route reads no token from it.
            (false, &[(IAP, b"a.b.c"), basic], "a.b.c in `x-goog-iap-jwt-assertion`"),
        ] {
            assert_eq!(found(authorization, list), Ok(expected.to_owned()), "{list:?}");
        }
    }

    #[test]
    fn doubtful_credentials_are_refused() {
        use Reason::{CredentialAmbiguous, CredentialMissing, TokenMalformed};
        const TOKEN: &[u8] = b"a.b.c";
        const BEARER: &[u8] = b"Bearer a.b.c";
        let long = [b'a'; 65];
        for (authorization, list, reason, cause) in [
            (true, &[][..], CredentialMissing, "no Authorization and no `x-goog-iap-jwt-assertion` and no"),
            (
                false,
                &[],
                CredentialMissing,
                "no `x-goog-iap-jwt-assertion` and no `cf-access-jwt-assertion` field",
            ),
            (false, &[(header::AUTHORIZATION, BEARER)], CredentialMissing, "no `x-goog-iap-jwt-assertion`"),
            (
                true,
                &[(header::AUTHORIZATION, BEARER), (IAP, TOKEN)],
                CredentialAmbiguous,
                "in both Authorization and",
            ),
            (
                true,
                &[(header::AUTHORIZATION, b""), (IAP, TOKEN)],
                CredentialAmbiguous,
                "in both Authorization and",
            ),
            (
                true,
                &[(header::AUTHORIZATION, BEARER), (IAP, b"")],
                CredentialAmbiguous,
                "in both Authorization and",
            ),
            (
                false,
                &[(IAP, TOKEN), (ACCESS, TOKEN)],
                CredentialAmbiguous,
                "in both `x-goog-iap-jwt-assertion` and",
            ),
            (
                false,
                &[(IAP, TOKEN), (IAP, TOKEN)],
                CredentialAmbiguous,
                "more than one `x-goog-iap-jwt-assertion`",
            ),
            (
                false,
                &[(IAP, TOKEN), (IAP, b"")],
                CredentialAmbiguous,
                "more than one `x-goog-iap-jwt-assertion`",
            ),
            (false, &[(IAP, b"")], TokenMalformed, "anything but one token"),
            (false, &[(IAP, BEARER)], TokenMalformed, "anything but one token"),
            (false, &[(IAP, b"a.b.c, a.b.c")], TokenMalformed, "anything but one token"),
            (false, &[(IAP, b"a.b.c\xff")], TokenMalformed, "anything but one token"),
            (false, &[(IAP, &long)], TokenMalformed, "more than 64 bytes (`limits.token`)"),
        ] {
            let (found, why) = found(authorization, list).unwrap_err();
            assert!(found == reason && why.contains(cause), "{list:?}: {found}: {why}");
        }
    }

    #[test]
    fn subprotocols_count_in_handshakes_alone() {
        let places = TokenPlaces { subprotocol: Some("bearer".into()), ..places(true) };
        let listed: (_, &[u8]) = (header::SEC_WEBSOCKET_PROTOCOL, b"chat, bearer, a.b.c");
        let bearer: (_, &[u8]) = (header::AUTHORIZATION, b"Bearer a.b.c");
        for (handshake, list, expected) in [
            (true, &[listed.clone()][..], Ok("Sec-WebSocket-Protocol")),
            (false, std::slice::from_ref(&listed), Err(Reason::CredentialMissing)),
            (false, &[listed.clone(), bearer.clone()], Ok("Authorization")),
            (true, &[listed.clone(), bearer.clone()], Err(Reason::CredentialAmbiguous)),
            (true, &[listed.clone(), (IAP, b"a.b.c")], Err(Reason::CredentialAmbiguous)),
            (true, &[(header::SEC_WEBSOCKET_PROTOCOL, b"chat"), bearer], Ok("Authorization")),
            (true, &[(header::SEC_WEBSOCKET_PROTOCOL, b"bearer")], Err(Reason::TokenMalformed)),
            (true, &[(header::SEC_WEBSOCKET_PROTOCOL, b"BEARER, a.b.c")], Err(Reason::TokenMalformed)),
        ] {
            let headers = fields(list);
            let presented = Presented { headers: &headers, places: Some(&places), handshake, max_token: 64 };
            let found = presented.credential().map(|found| found.place.to_string());
            assert_eq!(
                found.map_err(|reject| reject.reason),
                expected.map(str::to_owned),
                "{handshake} {list:?}"
            );
        }
    }

    #[test]
    fn tokens_count_in_their_issuers_place_alone() {
        let of = |token_header| IssuerPolicy { token_header, ..policy() };
        for (issuer, place, fits) in [
            (of(None), TokenPlace::Authorization, true),
            (of(None), TokenPlace::Field(&IAP), false),
            (of(Some(IAP)), TokenPlace::Field(&IAP), true),
            (of(Some(IAP)), TokenPlace::Field(&ACCESS), false),
            (of(Some(IAP)), TokenPlace::Authorization, false),
            (of(None), TokenPlace::Subprotocol("bearer"), true),
            (of(Some(IAP)), TokenPlace::Subprotocol("bearer"), false),
        ] {
            let result = Credential { token: "a.b.c", place }.fits(&issuer);
            assert_eq!(result.is_ok(), fits, "{place}: {result:?}");
        }
    }

    #[test]
    fn issuers_decide_what_a_route_reads() {
        let of = |headers: &[Option<HeaderName>]| {
            let issuers: Vec<_> =
                headers.iter().map(|name| IssuerPolicy { token_header: name.clone(), ..policy() }).collect();
            TokenPlaces::of(issuers.iter(), None)
        };
        assert_eq!(of(&[None, None]), None);
        let both = TokenPlaces { fields: Box::new([IAP]), ..places(true) };
        assert_eq!(of(&[Some(IAP), None, Some(IAP)]), Some(both));
        assert_eq!(of(&[Some(IAP), Some(ACCESS)]), Some(places(false)));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_the_whole_value(value in "[ -~]{0,40}") {
            let list = [(IAP, value.as_bytes())];
            if let Ok(found) = found(false, &list) {
                prop_assert_eq!(found, format!("{value} in `x-goog-iap-jwt-assertion`"));
            }
        }
    }
}
