//! The closed set of reasons for which a request is refused, and what each one means.
//!
//! A reason is at once the metric label, the log field and the `reason` member of the answer. Each has exactly one
//! [`Row`]: one status, one OAuth error or none, one control, one cure. There is no wildcard arm: a reason without a row
//! does not compile.

use std::borrow::Cow;
use std::fmt;

/// The part of the gateway that decided, and whose owner answers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Control {
    /// Who is calling: the credential.
    Authentication,
    /// What the caller may do on this route.
    Authorization,
    /// The gateway itself: capacity, drain, its own faults.
    Gateway,
    /// The shape of the HTTP request.
    Request,
    /// Which route the request belongs to.
    Routing,
    /// The API behind the gateway.
    Upstream,
}

impl Control {
    /// All controls.
    pub const ALL: [Self; 6] = [
        Self::Authentication,
        Self::Authorization,
        Self::Gateway,
        Self::Request,
        Self::Routing,
        Self::Upstream,
    ];

    /// The name in logs, answers and the `owners` section.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Gateway => "gateway",
            Self::Request => "request",
            Self::Routing => "routing",
            Self::Upstream => "upstream",
        }
    }
}

/// The `error` of a Bearer challenge (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OAuthError {
    /// The request itself is wrong: 400.
    InvalidRequest,
    /// The token is not accepted: 401.
    InvalidToken,
    /// The token is good but lacks a scope: 403.
    InsufficientScope,
}

impl OAuthError {
    /// The code as it stands in the challenge.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

/// What an answer carries in `WWW-Authenticate` (RFC 6750 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// No challenge: credentials would not help.
    None,
    /// A challenge without an error: nothing was presented.
    Plain,
    /// A challenge with its error.
    Error(OAuthError),
}

/// What a reason means: one row of the reason table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The stable name: metric label, log field, `reason` member, last part of the problem type.
    pub name: &'static str,
    /// The HTTP status code.
    pub status: u16,
    /// The challenge that goes with it.
    pub challenge: Challenge,
    /// Which control refused.
    pub control: Control,
    /// The `title` member of the problem (RFC 9457 §3.1.3).
    pub title: &'static str,
    /// The `detail` member: for the caller; tells nothing about keys or other issuers.
    pub detail: &'static str,
    /// What cures it: for the operator and the documentation.
    pub cure: &'static str,
}

/// Declares the reasons with their rows, so that neither can be without the other.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $challenge:expr, $control:ident,
        $title:literal, $detail:literal, $cure:literal;)*) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All reasons, in the order of the reason table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What this reason means.
            pub const fn row(self) -> &'static Row {
                match self {
                    $(Self::$variant => &Row {
                        name: $name,
                        status: $status,
                        challenge: $challenge,
                        control: Control::$control,
                        title: $title,
                        detail: $detail,
                        cure: $cure,
                    },)*
                }
            }
        }
    };
}

const NONE: Challenge = Challenge::None;
const PLAIN: Challenge = Challenge::Plain;
const REQUEST: Challenge = Challenge::Error(OAuthError::InvalidRequest);
const TOKEN: Challenge = Challenge::Error(OAuthError::InvalidToken);
const SCOPE: Challenge = Challenge::Error(OAuthError::InsufficientScope);

reasons! {
    /// No route matches host and path.
    RouteUnknown = "route_unknown", 404, NONE, Routing, "No such route",
        "Nothing is published at this host and path.",
        "Add a route for this host and path, or correct the URL.";
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, NONE, Routing, "Method not allowed",
        "This path does not answer this method; see the Allow header.",
        "Use an allowed method, or add it to the route's `methods`.";
    /// The path could be read in two ways.
    PathAmbiguous = "path_ambiguous", 400, NONE, Request, "Ambiguous path",
        "The path holds an encoding that two servers could read differently.",
        "Send the plain path: no dot segments, encoded slashes, backslashes, empty segments or semicolons.";
    /// The request breaks HTTP's rules.
    RequestInvalid = "request_invalid", 400, NONE, Request, "Invalid request",
        "The request is not valid HTTP.",
        "Correct the client: one Host, one framing, legal field names, an absolute path.";
    /// No bearer token was presented.
    CredentialMissing = "credential_missing", 401, PLAIN, Authentication, "Credentials required",
        "This route needs an access token.",
        "Send `Authorization: Bearer <token>`, or the issuer's `token_header`; the query and the body are not read.";
    /// More than one credential was presented.
    CredentialAmbiguous = "credential_ambiguous", 400, REQUEST, Authentication, "More than one credential",
        "The request carries more than one credential.",
        "Send exactly one token in one header field.";
    /// The token stands where tokens of its issuer are not read.
    CredentialMisplaced = "credential_misplaced", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "Send the token where its issuer's tokens are read: `Authorization`, or its `token_header` alone.";
    /// The credential authenticates a connection, not a request.
    CredentialUnsupported = "credential_unsupported", 400, NONE, Request, "Credential not supported",
        "The Authorization scheme authenticates a connection, which a gateway shares between clients.",
        "Use a scheme that authenticates each request, such as Bearer or Basic; NTLM cannot pass a gateway.";
    /// The token is not a well-formed compact JWS.
    TokenMalformed = "token_malformed", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "The token is damaged or not a signed JWT: fetch a new one from the issuer. Where the log names a bound, have the issuer put less into its tokens, such as fewer groups.";
    /// The token is of another kind, such as an ID token.
    TokenTypeRefused = "token_type_refused", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "Send an access token (typ at+jwt), not an ID token; or relax the issuer's `token_type`.";
    /// The signature algorithm is not on the issuer's list.
    AlgorithmRefused = "algorithm_refused", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "Sign with an algorithm on the issuer's `algorithms` list.";
    /// No configured issuer has this `iss`.
    IssuerUnknown = "issuer_unknown", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "Add the issuer to `issuers`, spelled exactly as in the token's iss.";
    /// The issuer has no usable key with this `kid` and algorithm.
    KeyUnknown = "key_unknown", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "The issuer does not publish the key that signed this token: withdrawn, or another environment's.";
    /// The signature does not verify.
    SignatureInvalid = "signature_invalid", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "The token was altered or signed by another key: fetch a new one.";
    /// `exp` has passed.
    TokenExpired = "token_expired", 401, TOKEN, Authentication, "Access token expired",
        "The access token has expired.",
        "Fetch a new token; if it is new, compare the clocks.";
    /// `nbf` or `iat` lies ahead.
    TokenNotYetValid = "token_not_yet_valid", 401, TOKEN, Authentication, "Access token not yet valid",
        "The access token is not valid yet.",
        "Compare the clocks of issuer and gateway; see the issuer's `leeway`.";
    /// `exp - iat` is longer than the issuer may grant.
    TokenLifetimeExcessive = "token_lifetime_excessive", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "Shorten the token's lifetime at the issuer, or raise the issuer's `max_lifetime`.";
    /// A claim that must be there is not.
    TokenClaimMissing = "token_claim_missing", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "Have the issuer add the claim; RFC 9068 asks for iss, exp, aud, sub, client_id, iat and jti.";
    /// A claim has the wrong type or value.
    TokenClaimInvalid = "token_claim_invalid", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "Have the issuer correct the claim's type; the log names it.";
    /// The token is bound to a key or certificate that the request does not prove.
    BindingMissing = "binding_missing", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "The token has a `cnf` claim: it is no bearer token. Get one that is not bound to its sender.";
    /// The token is not a JWT, and no issuer is configured for such tokens.
    TokenOpaque = "token_opaque", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "This gateway validates signed JWT access tokens: have the issuer issue those for this API.";
    /// The token or what it stands for was revoked.
    TokenRevoked = "token_revoked", 401, TOKEN, Authentication, "Access token revoked",
        "The access token was revoked.",
        "Sign in again; an operator sees who revoked it.";
    /// The issuer says the token is not active.
    TokenInactive = "token_inactive", 401, TOKEN, Authentication, "Access token not accepted",
        "The access token is not valid.",
        "Fetch a new token from the issuer.";
    /// The issuer is known, but not for this route.
    IssuerRefused = "issuer_refused", 401, TOKEN, Authorization, "Access token not accepted here",
        "The access token comes from an issuer this route does not accept.",
        "Use a token from one of the route's issuers, or add the issuer to `require.issuers`.";
    /// The token is meant for another resource.
    AudienceMismatch = "audience_mismatch", 401, TOKEN, Authorization, "Access token not meant for this resource",
        "The access token was issued for another resource.",
        "Ask the issuer for a token for this API (its `resource` or `audience`).";
    /// The token is older than the route allows.
    TokenStale = "token_stale", 401, TOKEN, Authorization, "Access token too old for this route",
        "The access token is valid, but was issued too long ago for this route.",
        "Fetch a new token; the route sets `max_token_age`.";
    /// A scope the route needs is missing.
    ScopeMissing = "scope_missing", 403, SCOPE, Authorization, "Required scope missing",
        "The token is valid, but does not carry the scope this route needs.",
        "Ask for the scopes in the challenge; have the client granted them at the issuer.";
    /// The client is not on the route's list.
    ClientRefused = "client_refused", 403, NONE, Authorization, "Client not allowed",
        "The token is valid, but this client may not call this route.",
        "Add the client to the route's `clients`.";
    /// The subject is not on the route's list.
    SubjectRefused = "subject_refused", 403, NONE, Authorization, "Subject not allowed",
        "The token is valid, but this subject may not call this route.",
        "Add the subject to the route's `subjects`.";
    /// The token belongs to another tenant.
    TenantMismatch = "tenant_mismatch", 403, NONE, Authorization, "Tenant mismatch",
        "The token is valid, but belongs to another tenant.",
        "Call with a token of this tenant; the issuer's `claims.tenant` names the claim that is compared.";
    /// A claim does not satisfy the route's rule.
    ClaimMismatch = "claim_mismatch", 403, NONE, Authorization, "Claim requirement not met",
        "The token is valid, but a claim does not meet this route's requirement.",
        "Compare the token's claims with the route's `claims`; the log names the claim.";
    /// The issuer's keys cannot be had.
    KeysUnavailable = "keys_unavailable", 503, NONE, Authentication, "Token validation unavailable",
        "The token cannot be validated at the moment; keep it and try again.",
        "The issuer's keys could not be fetched or are too old: see the issuer in /api/v1/status.";
    /// The introspection endpoint cannot be reached.
    IntrospectionUnavailable = "introspection_unavailable", 503, NONE, Authentication, "Token validation unavailable",
        "The token cannot be validated at the moment; keep it and try again.",
        "The introspection endpoint does not answer: see the issuer in /api/v1/status.";
    /// Shared state cannot be read.
    StateUnavailable = "state_unavailable", 503, NONE, Authentication, "Token validation unavailable",
        "The token cannot be validated at the moment; keep it and try again.",
        "The state store does not answer: see /api/v1/status.";
    /// The body is larger than allowed.
    BodyTooLarge = "body_too_large", 413, NONE, Request, "Body too large",
        "The request body is larger than this route accepts.",
        "Send less, or raise `limits.body` of the route.";
    /// The request target is longer than allowed.
    UriTooLong = "uri_too_long", 414, NONE, Request, "URI too long",
        "The request target is longer than this gateway accepts.",
        "Shorten the URL, or raise `limits.uri`.";
    /// The header section is larger than allowed.
    HeadersTooLarge = "headers_too_large", 431, NONE, Request, "Header fields too large",
        "The request's header fields are too many or too large.",
        "Send fewer or smaller fields, or raise `limits.headers` or `limits.header_bytes`.";
    /// The client was too slow.
    RequestTimeout = "request_timeout", 408, NONE, Request, "Request timeout",
        "The request did not arrive in time.",
        "Send the request faster and without pauses; see `limits.body_rate` and `timeouts`.";
    /// `Expect` asks for something unknown.
    ExpectationFailed = "expectation_failed", 417, NONE, Request, "Expectation failed",
        "Only the expectation 100-continue is known.",
        "Remove the Expect field.";
    /// The authority is not served on this connection.
    Misdirected = "misdirected", 421, NONE, Request, "Misdirected request",
        "This connection does not serve this host.",
        "Open a connection of its own to this host.";
    /// A quota is used up.
    RateLimited = "rate_limited", 429, NONE, Gateway, "Too many requests",
        "Too many requests; see Retry-After.",
        "Slow down, or have the quota raised.";
    /// The gateway sheds load.
    Overloaded = "overloaded", 503, NONE, Gateway, "Overloaded",
        "The gateway has more requests than it can hold; try again.",
        "Add capacity, or raise `limits`.";
    /// The gateway is shutting down.
    Draining = "draining", 503, NONE, Gateway, "Shutting down",
        "This gateway is shutting down; try again.",
        "Nothing: another replica answers the next try.";
    /// The gateway failed.
    Internal = "internal", 500, NONE, Gateway, "Internal error",
        "The gateway failed on this request.",
        "Report it with the request id: this is a fault of the gateway.";
    /// No connection to the upstream could be made.
    UpstreamUnreachable = "upstream_unreachable", 502, NONE, Upstream, "Upstream unreachable",
        "The API behind the gateway cannot be reached.",
        "Start the API, or correct the upstream's `url`, name or TLS settings.";
    /// The upstream's answer was no valid HTTP, or broke off.
    UpstreamInvalid = "upstream_invalid", 502, NONE, Upstream, "Upstream answer invalid",
        "The API behind the gateway gave no valid answer.",
        "See the API's own log: it closed the connection or answered with invalid HTTP.";
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream_timeout", 504, NONE, Upstream, "Upstream timeout",
        "The API behind the gateway did not answer in time.",
        "See the API's own log, or raise `timeouts.upstream_response` or `timeouts.upstream_idle`.";
}

impl Reason {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The reason with this stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }

    /// Which control refused.
    pub const fn control(self) -> Control {
        self.row().control
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: the reason for everybody, the cause for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The reason.
    pub reason: Reason,
    /// What was expected and what was found, for the log and `explain` only. Never holds a token; values are bounded
    /// ([`crate::types::Quoted`]) and marked where they are not verified.
    pub cause: Option<Cow<'static, str>>,
}

impl Reject {
    /// A refusal whose reason says everything.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, cause: None }
    }

    /// A refusal with its cause for the operator.
    pub fn because(reason: Reason, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, cause: Some(cause.into()) }
    }
}

impl From<Reason> for Reject {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{}: {cause}", self.reason),
            None => write!(f, "{}", self.reason),
        }
    }
}

impl std::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_one_row_with_a_name_of_its_own() {
        let names: HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        }
    }

    #[test]
    fn challenges_follow_the_status() {
        for reason in Reason::ALL {
            let row = reason.row();
            match row.challenge {
                Challenge::Plain | Challenge::Error(OAuthError::InvalidToken) => {
                    assert_eq!(row.status, 401, "{reason}")
                }
                Challenge::Error(OAuthError::InsufficientScope) => assert_eq!(row.status, 403, "{reason}"),
                Challenge::Error(OAuthError::InvalidRequest) => assert_eq!(row.status, 400, "{reason}"),
                Challenge::None => assert_ne!(row.status, 401, "{reason}"),
            }
        }
    }

    #[test]
    fn an_outage_is_never_blamed_on_the_token() {
        for reason in [Reason::KeysUnavailable, Reason::IntrospectionUnavailable, Reason::StateUnavailable] {
            assert_eq!(reason.row().status, 503);
            assert_eq!(reason.row().challenge, Challenge::None);
        }
    }
}
