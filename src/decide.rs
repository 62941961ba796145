//! The one decision: pure, from a snapshot, a request's head and what is known of the token, to a [`DecisionRecord`].
//!
//! The live gateway, `explain`, shadow mode and the audit all call [`decide`], so they cannot disagree.

use http::{HeaderValue, Method, header};

use crate::admit::{self, Head};
use crate::authenticate::{Issuers, Knowledge, Need, Presented, Principal, Stop, authenticate};
use crate::authorize::{self, Context, Permit};
use crate::reject::{Reason, Reject};
use crate::route::host::Host;
use crate::route::path::CanonicalPath;
use crate::route::rewrite::Target;
use crate::route::table::{Found, NotFound};
use crate::snapshot::{Access, Resource, Resources, Snapshot};
use crate::types::{Check, Checks, Outcome, RouteIndex, Timestamp};

/// The methods that a route may answer.
const ANY_METHOD: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// What was decided.
#[derive(Debug)]
pub enum Verdict<'s> {
    /// Forward it: the proof, and the target to send.
    Permit(Permit, Target),
    /// Answer an OPTIONS request that is permitted and may not be forwarded, with the methods of its path.
    Options(Permit, &'s str),
    /// Answer a CORS preflight for this route.
    Preflight(RouteIndex),
    /// Answer with the metadata of this resource, or its CORS preflight.
    Metadata(&'s Resource),
    /// Refuse it.
    Reject(Reject),
}

/// A decision with everything that led to it.
#[derive(Debug)]
pub struct DecisionRecord<'s> {
    /// The checks in their order.
    pub checks: Checks,
    /// The route, once one matched.
    pub route: Option<RouteIndex>,
    /// The caller, once authenticated, where the verdict does not carry it.
    pub principal: Option<Principal>,
    /// What must be known to decide otherwise; the verdict then is the refusal that stands if it cannot be had.
    pub need: Option<Need>,
    /// Methods that the path answers, where the method was the problem.
    pub allow: Option<&'s str>,
    /// What was decided.
    pub verdict: Verdict<'s>,
}

impl DecisionRecord<'_> {
    /// The authenticated caller, whatever became of the request.
    pub fn principal(&self) -> Option<&Principal> {
        match &self.verdict {
            Verdict::Permit(permit, _) | Verdict::Options(permit, _) => permit.principal(),
            Verdict::Preflight(_) | Verdict::Metadata(_) | Verdict::Reject(_) => self.principal.as_ref(),
        }
    }
}

/// Decides one request.
pub fn decide<'s, K: Knowledge>(
    snapshot: &'s Snapshot,
    head: &Head<'_>,
    knowledge: &K,
    now: Timestamp,
) -> DecisionRecord<'s> {
    let mut record = DecisionRecord {
        checks: Checks::default(),
        route: None,
        principal: None,
        need: None,
        allow: None,
        verdict: Verdict::Reject(Reject::new(Reason::Internal)),
    };
    record.verdict = run(snapshot, head, knowledge, now, &mut record).unwrap_or_else(Verdict::Reject);
    record
}

/// Where a listener that only redirects sends a request: to the https origin of its host, with path and query as they came.
///
/// # Errors
///
/// A head that [`decide`] would refuse too; `route_unknown` for a host that the policy does not name, so that nobody is sent
/// wherever a Host field says.
pub fn redirect(snapshot: &Snapshot, head: &Head<'_>) -> Result<HeaderValue, Reject> {
    admit::check(head, &snapshot.gateway.limits)?;
    let host = Host::of(head.uri, head.headers, head.version)?;
    if host.is_absent() {
        return Err(Reject::because(Reason::RequestInvalid, "no Host: a redirect to https needs one"));
    }
    CanonicalPath::parse(head.uri.path())?;
    let unknown = || Reject::because(Reason::RouteUnknown, "no host of the policy's with an https origin");
    let origin = snapshot.https_origin(host.as_str()).ok_or_else(unknown)?;
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let location = HeaderValue::try_from(format!("{origin}{target}"));
    location.map_err(|_| Reject::because(Reason::RequestInvalid, "control characters in the target"))
}

/// The stages in their order.
fn run<'s, K: Knowledge>(
    snapshot: &'s Snapshot,
    head: &Head<'_>,
    knowledge: &K,
    now: Timestamp,
    record: &mut DecisionRecord<'s>,
) -> Result<Verdict<'s>, Reject> {
    admit::check(head, &snapshot.gateway.limits).inspect_err(|reject| record.allow = allow(reject))?;
    let host = Host::of(head.uri, head.headers, head.version)?;
    let path = CanonicalPath::parse(head.uri.path())?;
    if let Some(resource) = snapshot.resources.find(host.as_str(), path.as_str()) {
        return match *head.method {
            // OPTIONS asks for the CORS preflight of it.
            Method::GET | Method::HEAD | Method::OPTIONS => Ok(Verdict::Metadata(resource)),
            _ => {
                record.allow = Some("GET, HEAD, OPTIONS");
                Err(Reject::because(Reason::MethodNotAllowed, "metadata is only read"))
            }
        };
    }
    if Resources::are_at(path.as_str()) {
        // What an upstream says here could send clients elsewhere for their tokens.
        return Err(Reject::because(Reason::RouteUnknown, "no such protected resource"));
    }

    if let Some(route) = preflight(snapshot, head, &host, &path) {
        record.route = Some(route);
        return Ok(Verdict::Preflight(route));
    }

    let hops = admit::max_forwards::remaining(head.method, head.headers)?;
    let found = find(snapshot, &host, &path, head.method, record)?;
    let route = snapshot.route(found.route).ok_or(Reject::new(Reason::Internal))?;
    record.route = Some(found.route);
    path.allowed_by(route.path_opt_outs)?;
    if let Some(query) = head.uri.query()
        && !route.method_query
    {
        let same = |method: &Method| snapshot.table.route_at(found.endpoint, method) == Some(found.route);
        admit::method_query::check(query, same)?;
    }
    record.checks.passed(Check::Route);

    let target = route.rewrite.apply(&path, head.uri)?;
    let verdict = |permit| match hops {
        Some(0) => Verdict::Options(permit, snapshot.table.allow_at(found.endpoint)),
        Some(_) | None => Verdict::Permit(permit, target),
    };
    let requirement = match &route.access {
        Access::Public => return Ok(verdict(authorize::admit_public(found.route))),
        Access::Protected(requirement) => requirement,
    };
    let places = route.token_places.as_deref();
    let presented = Presented {
        headers: head.headers,
        places,
        handshake: places.is_some_and(|places| places.subprotocol.is_some())
            && admit::websocket::is_handshake(head),
        max_token: snapshot.gateway.limits.token,
    };
    let principal = match authenticate(presented, &snapshot.issuers, knowledge, now, &mut record.checks) {
        Ok(principal) => principal,
        Err(Stop::Reject(reject)) => return Err(reject),
        Err(Stop::Need(need)) => {
            record.need = Some(need);
            return Err(unmet(need, &snapshot.issuers, knowledge));
        }
    };
    let issuers = &snapshot.issuers;
    let context = Context { params: &found.params, host: host.as_str(), issuers, now };
    match authorize::authorize(found.route, principal, requirement, &context, &mut record.checks) {
        Ok(permit) => Ok(verdict(permit)),
        Err((principal, reject)) => {
            record.principal = Some(principal);
            Err(reject)
        }
    }
}

/// For a method that no path answers: those that some do (RFC 9110 §15.5.6).
pub fn allow(reject: &Reject) -> Option<&'static str> {
    (reject.reason == Reason::MethodNotAllowed).then_some(ANY_METHOD)
}

fn find<'s, 'p>(
    snapshot: &'s Snapshot,
    host: &Host<'_>,
    path: &'p CanonicalPath<'_>,
    method: &Method,
    record: &mut DecisionRecord<'s>,
) -> Result<Found<'s, 'p>, Reject> {
    let reject = match snapshot.table.find(host.as_str(), path, method) {
        Ok(found) => return Ok(found),
        Err(NotFound::Route) if host.is_absent() => {
            let cause = "no Host, and no route without `host` matches the path";
            Reject::because(Reason::RequestInvalid, cause)
        }
        Err(NotFound::Route) => {
            let cause = match snapshot.table.names(host.as_str()) {
                true => "routes name this host, but none matches the path",
                false => "no route names this host, and no route without `host` matches the path",
            };
            Reject::because(Reason::RouteUnknown, cause)
        }
        Err(NotFound::Method { allow }) => {
            record.allow = Some(allow);
            Reject::because(Reason::MethodNotAllowed, format!("the path's routes are for {allow}"))
        }
        Err(NotFound::Ambiguous) => Reject::because(
            Reason::PathAmbiguous,
            "a server that reads the path less strictly would take it for another route",
        ),
    };
    record.checks.push(Check::Route, Outcome::Failed(reject.reason));
    Err(reject)
}

/// The refusal that stands if a need cannot be met. A key that is not known while the issuer cannot be asked may be a new
/// one: that is an outage, and the client should keep its token.
fn unmet<K: Knowledge>(need: Need, issuers: &Issuers, knowledge: &K) -> Reject {
    let reason = match need {
        Need::NewerKeys(issuer) if knowledge.is_failing(issuer) => Need::Keys(issuer).unmet(),
        Need::NewerKeys(_) | Need::ReplacedKeys(_) | Need::Keys(_) => need.unmet(),
    };
    let issuer = issuers.get(need.issuer()).map_or("", |issuer| issuer.name.as_str());
    let cause = match need {
        Need::Keys(_) => format!("issuer `{issuer}` has no keys that may be used"),
        Need::NewerKeys(_) => format!("issuer `{issuer}` has no key for the token's `kid` and `alg`"),
        Need::ReplacedKeys(_) => {
            format!("the signature is not that of a key of issuer `{issuer}` that the token could mean")
        }
    };
    Reject::because(reason, cause)
}

/// The route a CORS preflight asks about (Fetch standard §3.3.6): OPTIONS with Origin and Access-Control-Request-Method,
/// on a route that enables CORS. Any other OPTIONS is a request like the rest.
fn preflight(
    snapshot: &Snapshot,
    head: &Head<'_>,
    host: &Host<'_>,
    path: &CanonicalPath<'_>,
) -> Option<RouteIndex> {
    if *head.method != Method::OPTIONS || !head.headers.contains_key(header::ORIGIN) {
        return None;
    }
    let wanted = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let wanted = Method::from_bytes(wanted.as_bytes()).ok()?;
    let found = snapshot.table.find(host.as_str(), path, &wanted).ok()?;
    let route = snapshot.route(found.route)?;
    route.cors.as_ref()?;
    path.allowed_by(route.path_opt_outs).ok()?;
    Some(found.route)
}
