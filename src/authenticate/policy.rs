//! How one issuer's tokens are validated: the `issuers` section, parsed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::{ClaimPath, IssuerTemplate};
use crate::types::{Issuer, IssuerIndex, IssuerName, Scope, Secret};

/// A signature algorithm this gateway verifies (RFC 7518 §3.1, RFC 8037). Asymmetric only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// EdDSA on Ed25519, under the name that leaves the curve to the key (RFC 8037 §3.1).
    EdDsa,
    /// The same under its own name (RFC 9864 §2.2).
    Ed25519,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 11] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// The `alg` value, compared exactly: `rs256` or `NoNe` are nothing.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// The algorithm with this `alg` value.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// A set of algorithms: an allow-list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlgorithmSet(u16);

impl AlgorithmSet {
    /// Whether the algorithm is allowed.
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & (1 << algorithm as u16) != 0
    }

    /// The algorithms in the set.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |algorithm| self.contains(*algorithm))
    }
}

impl FromIterator<Algorithm> for AlgorithmSet {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        Self(algorithms.into_iter().fold(0, |set, algorithm| set | 1 << algorithm as u16))
    }
}

/// Which tenants an issuer may assert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TenantAssertion {
    /// Whichever its tenant claim names. The default.
    #[default]
    Any,
    /// The one that its tenant claim names, if it is one of these, which are sorted. A token that names another has no tenant.
    OneOf(Box<[Box<str>]>),
    /// This one, for every token: the issuer is a tenant itself. The claim is not read.
    Constant(Box<str>),
}

/// Which claims of an issuer carry what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMap {
    /// The scopes: the first path that is there counts alone, never a union. Default `scope`, then `scp`.
    pub scope: Vec<ClaimPath>,
    /// The client: the first path that is there. Default `client_id`, then `azp`.
    pub client: Vec<ClaimPath>,
    /// What a token is meant for: the first path that is there. Default `aud`.
    pub audience: Vec<ClaimPath>,
    /// The tenant.
    pub tenant: Option<ClaimPath>,
    /// The roles, for the identity header `roles`.
    pub roles: Option<ClaimPath>,
}

/// Which kinds of token an issuer's access tokens may claim to be (RFC 9068 §4, RFC 8725 §3.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTypes {
    /// Accepted `typ` values in lower case, `application/` removed. `at+jwt` by default.
    pub accept: Vec<Box<str>>,
    /// Whether a token without `typ` is accepted: never by default.
    pub accept_absent: bool,
    /// Claims that must be there. By RFC 9068 §2.2 `sub`, `client_id`, `iat`, `jti` for `at+jwt`; what routes.yaml says
    /// where it is relaxed. `iss`, `exp` and `aud` are demanded of every token.
    pub required_claims: Vec<ClaimPath>,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The issuer's metadata names the `jwks_uri` (RFC 8414 §3, OpenID Connect Discovery §4).
    Discovery,
    /// A fixed `jwks_uri`.
    Uri(http::Uri),
    /// A file. `content` was read together with the configuration, so that a reload sees one state of both.
    File {
        /// Where it was read from.
        path: PathBuf,
        /// What was in it: a JWK Set (RFC 7517 §5).
        content: std::sync::Arc<[u8]>,
    },
}

/// How often keys are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRefresh {
    /// Fetched again after this long. Default 5 minutes.
    pub interval: Duration,
    /// At most one fetch for unknown `kid`s in this long. Default 30 seconds.
    pub unknown_kid_cooldown: Duration,
    /// The last good keys are used for this long after their fetch. Default 24 hours.
    pub max_stale: Duration,
}

/// The bearer token that an issuer's keys are asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyToken {
    /// In this file, read for each fetch: whoever issues the token may replace it there.
    File(PathBuf),
    /// This one.
    Fixed(Secret),
}

/// How one issuer's tokens are validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerPolicy {
    /// Its key in routes.yaml.
    pub name: IssuerName,
    /// The `iss` value, or the text of the template.
    pub issuer: Issuer,
    /// Where the keys sign for many issuers: the form of their `iss`.
    pub template: Option<IssuerTemplate>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Allowed signature algorithms.
    pub algorithms: AlgorithmSet,
    /// Allowed kinds of token.
    pub token_types: TokenTypes,
    /// Longest allowed `exp - iat`. Default 24 hours.
    pub max_lifetime: Duration,
    /// Tolerated difference of clocks. Default 10 seconds.
    pub leeway: Duration,
    /// Which claims carry what.
    pub claims: ClaimMap,
    /// Which tenants it may assert.
    pub tenants: TenantAssertion,
    /// How often keys are fetched.
    pub refresh: KeyRefresh,
    /// Whether keys may be fetched over plain HTTP: only from a loopback address, for development.
    pub plain_http: bool,
    /// The token that its keys are asked for with. Only the server of the configured URL gets it.
    pub key_token: Option<KeyToken>,
    /// PEM of the authorities to trust instead of the public ones when keys are fetched.
    pub ca: Option<std::sync::Arc<[u8]>>,
    /// How clients must ask for scopes.
    pub advertised_scopes: AdvertisedScopes,
    /// The field that its tokens are read from; `None` is `Authorization`.
    pub token_header: Option<HeaderName>,
}

/// Whether a tenant is in a sorted list.
pub(super) fn is_listed(tenant: &str, tenants: &[Box<str>]) -> bool {
    tenants.binary_search_by(|listed| (**listed).cmp(tenant)).is_ok()
}

impl IssuerPolicy {
    /// Whether the `iss` fits the template and names a tenant that may be asserted.
    fn admits(&self, iss: &str) -> bool {
        let value = self.template.as_ref().and_then(|template| template.value(iss));
        value.is_some_and(|value| match &self.tenants {
            TenantAssertion::Any => true,
            TenantAssertion::OneOf(tenants) => is_listed(value, tenants),
            TenantAssertion::Constant(_) => false,
        })
    }

    /// Whether the claim at this path names its tenants, and it may not assert each of them.
    pub fn limits_tenants_at(&self, path: &ClaimPath) -> bool {
        self.tenants != TenantAssertion::Any && self.claims.tenant.as_ref() == Some(path)
    }
}

/// How clients must ask an issuer for the scopes that its tokens carry. Entra for one issues `read` to a client that asks for
/// `api://app/read`. Metadata and challenges use these names; nothing is compared with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdvertisedScopes {
    /// Put in front of each scope that has no name of its own.
    pub prefix: Option<Box<str>>,
    /// Names of single scopes.
    pub names: BTreeMap<Scope, Box<str>>,
}

impl AdvertisedScopes {
    /// The name of a scope.
    pub fn of<'s>(&'s self, scope: &'s Scope) -> Cow<'s, str> {
        match (self.names.get(scope), &self.prefix) {
            (Some(name), _) => Cow::Borrowed(name),
            (None, Some(prefix)) => Cow::Owned(format!("{prefix}{}", scope.as_str())),
            (None, None) => Cow::Borrowed(scope.as_str()),
        }
    }
}

/// The issuers of one snapshot, found by exact `iss`.
#[derive(Clone, Debug, Default)]
pub struct Issuers {
    list: Vec<IssuerPolicy>,
    by_issuer: HashMap<Issuer, IssuerIndex>,
    /// Those with a template, by the origin of their issuers.
    by_origin: HashMap<Box<str>, Vec<IssuerIndex>>,
}

impl Issuers {
    /// Takes the issuers in the order of the file; of two with one `iss` the parser has already complained.
    pub fn new(list: Vec<IssuerPolicy>) -> Self {
        let mut by_issuer = HashMap::new();
        let mut by_origin: HashMap<Box<str>, Vec<IssuerIndex>> = HashMap::new();
        for (i, policy) in (0u32..).zip(&list) {
            match &policy.template {
                None => {
                    by_issuer.insert(policy.issuer.clone(), IssuerIndex(i));
                }
                Some(template) => {
                    by_origin.entry(template.own_origin().into()).or_default().push(IssuerIndex(i));
                }
            }
        }
        Self { list, by_issuer, by_origin }
    }

    /// The issuer with this `iss`: the one with exactly this, else one whose template it fits and that may assert the tenant
    /// in it.
    pub fn find(&self, issuer: &str) -> Option<(IssuerIndex, &IssuerPolicy)> {
        if let Some(index) = self.by_issuer.get(issuer) {
            return Some((*index, self.get(*index)?));
        }
        if self.by_origin.is_empty() {
            return None;
        }
        let candidates = self.by_origin.get(IssuerTemplate::origin(issuer)?)?;
        let mut policies = candidates.iter().filter_map(|index| Some((*index, self.get(*index)?)));
        policies.find(|(_, policy)| policy.admits(issuer))
    }

    /// The issuer at this position.
    pub fn get(&self, index: IssuerIndex) -> Option<&IssuerPolicy> {
        self.list.get(index.get())
    }

    /// All issuers with their positions.
    pub fn iter(&self) -> impl Iterator<Item = (IssuerIndex, &IssuerPolicy)> {
        (0u32..).map(IssuerIndex).zip(&self.list)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
