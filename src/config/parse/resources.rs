//! `hosts`, and the protected resources they publish (RFC 9728).
//!
//! 1. The resource of a protected route is its first audience that is a URL under the host's external origin, else the
//!    external URL itself. Nothing comes from a request's Host.
//! 2. Routes with one resource at one host share one metadata document: all their issuers, and all their scopes by the names
//!    that clients must ask these issuers for.
//! 3. A route without host, or with a wildcard, is published at each host of this section that its requests can be for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use http::HeaderValue;

use super::Parser;
use crate::authenticate::Issuers;
use crate::config::diagnostic::{Fault, Place};
use crate::config::raw::{RawHost, RawHsts};
use crate::config::read::{Node, decode};
use crate::config::url::Url;
use crate::route::host::HostPattern;
use crate::route::table::RouteSpec;
use crate::snapshot::{Access, Gateway, Origin, Resource, Resources, Route};
use crate::types::{Audience, Shared};

/// Where metadata is published (RFC 9728 §3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The least `max_age` of what browsers ship with.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The scopes that a resource has already, by the names that clients ask for.
type ScopeNames = HashSet<Box<str>>;

/// The compiled section.
#[derive(Debug, Default)]
pub(super) struct Hosts(BTreeMap<Box<str>, Host>);

#[derive(Debug)]
struct Host {
    place: Place,
    /// As written, without a slash at its end.
    external: Box<str>,
    url: Url,
    hsts: Option<HeaderValue>,
}

impl Hosts {
    /// Warnings of origins whose port no listener has. Whether a load balancer in front has it is only known where the policy
    /// speaks of one.
    pub(super) fn without_listener(&self, gateway: &Gateway) -> impl Iterator<Item = Fault> {
        let fronted =
            !gateway.trusted_proxies.is_empty() || gateway.listen.iter().any(|own| own.proxy_protocol);
        self.0.iter().filter(move |_| !fronted).filter_map(|(name, host)| {
            let (secure, port) = (host.url.secure, host.url.port);
            let mut ports = gateway
                .listen
                .iter()
                .filter(|own| own.tls.is_some() == secure && !own.redirect)
                .map(|own| own.address.port());
            let first = ports.clone().next().filter(|port| *port != 0)?;
            let default = if secure { 443 } else { 80 };
            if port != default || ports.any(|own| own == port) {
                return None;
            }
            let message = format!("`external_url` of `{name}` means port {port}, where no listener is");
            let hint = format!(
                "write the port that clients use, such as `{}:{first}`; if a load balancer maps it, list it in `trusted_proxies`",
                host.external
            );
            Some(Fault::new(host.place, message).key("external_url").hint(hint))
        })
    }
}

impl Parser<'_, '_> {
    /// Compiles the section.
    pub(super) fn hosts(&mut self, node: Option<&Node<'_>>) -> Hosts {
        let mut hosts = Hosts::default();
        for (key, item) in self.entries(node, "hosts") {
            let name = match HostPattern::parse(&key.text) {
                Ok(HostPattern::Exact(name)) => name,
                Ok(HostPattern::Any | HostPattern::Below(_)) => {
                    let fault =
                        Fault::new(key.place, "a public origin belongs to one host, not to a wildcard");
                    self.faults.error(fault.key(&*key.text));
                    continue;
                }
                Err(message) => {
                    let message = format!("`{}` is not a host: {message}", key.text);
                    self.faults.error(Fault::new(key.place, message).key(&*key.text));
                    continue;
                }
            };
            let Some(raw) = decode::<RawHost>(item, self.faults) else {
                continue;
            };
            let place = item.place_of(&["external_url"]);
            let url = Url::parse(&raw.external_url)
                .map_err(|message| Fault::new(place, message).key("external_url"));
            let Some(url) = self.faults.take(url) else {
                continue;
            };
            if !url.is_origin() {
                let fault = Fault::new(place, "`external_url` is an origin: scheme, host and port only");
                self.faults.error(fault.key("external_url"));
            }
            if !url.secure && !url.is_loopback() {
                let fault = Fault::new(place, "`external_url` must be https").key("external_url");
                self.faults.error(
                    fault.hint("tokens must not travel in plain text; http is for loopback addresses"),
                );
            }
            let hsts = raw.hsts.as_ref().map(|hsts| self.hsts(hsts, &url, item));
            let external = raw.external_url.trim_end_matches('/').into();
            let host = Host { place: key.place, external, url, hsts };
            if hosts.0.insert(name, host).is_some() {
                let message = format!("host `{}` twice, in another spelling", key.text);
                self.faults.error(Fault::new(key.place, message).key(&*key.text));
            }
        }
        hosts
    }

    /// The value of Strict-Transport-Security (RFC 6797 §6.1).
    fn hsts(&mut self, raw: &RawHsts, url: &Url, node: &Node<'_>) -> HeaderValue {
        let max_age = raw.max_age.0;
        let mut error = |message, hint| {
            self.faults.error(Fault::new(node.place_of(&["hsts"]), message).key("hsts").hint(hint));
        };
        if !url.secure {
            error(
                "`hsts` at a host whose `external_url` is not https",
                "browsers could not reach it any more",
            );
        }
        if raw.preload && !(raw.include_subdomains && max_age >= YEAR) {
            error(
                "`preload` needs `include_subdomains: true` and a `max_age` of 365d",
                "the lists that browsers ship with take nothing less",
            );
        }
        let mut value = format!("max-age={}", max_age.as_secs());
        if raw.include_subdomains {
            value.push_str("; includeSubDomains");
        }
        if raw.preload {
            value.push_str("; preload");
        }
        HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("max-age=0"))
    }
}

impl Hosts {
    /// Where each host is reached.
    pub(super) fn origins(&self) -> HashMap<Box<str>, Origin> {
        let origin = |host: &Host| Origin { secure: host.url.secure, text: host.url.origin().into() };
        self.0.iter().map(|(name, host)| (name.clone(), origin(host))).collect()
    }

    /// Strict-Transport-Security of the hosts that have it.
    pub(super) fn hsts(&self) -> HashMap<Box<str>, HeaderValue> {
        self.0.iter().filter_map(|(name, host)| Some((name.clone(), host.hsts.clone()?))).collect()
    }

    /// Compiles the resources, and tells each route its metadata URL.
    pub(super) fn resources(
        &self,
        routes: &mut [Route],
        specs: &[RouteSpec],
        issuers: &Issuers,
    ) -> Resources {
        // There may be many scopes: a search in the list would make loading quadratic.
        let mut found: BTreeMap<(&str, String), (Resource, ScopeNames)> = BTreeMap::new();
        if self.0.is_empty() {
            return Resources::default();
        }
        let finder = Finder::new(specs);
        let mut urls = Shared::<str>::default();
        for (route, spec) in routes.iter_mut().zip(specs) {
            let Access::Protected(requirement) = &route.access else {
                continue;
            };
            for (name, host) in self.0.iter().filter(|(name, _)| finder.serves(spec, name)) {
                let (audience, path) = host.identifier(&requirement.audiences);
                let metadata_path = format!("{WELL_KNOWN}{path}");
                if route.resource_metadata.is_none() {
                    let url = format!("{}{metadata_path}", host.url.origin());
                    route.resource_metadata = Some(urls.of(url));
                }
                let key = (&**name, metadata_path.clone());
                let (resource, scopes) = found.entry(key).or_insert_with(|| {
                    let resource = Resource {
                        host: name.clone(),
                        metadata_path: metadata_path.into(),
                        resource: audience,
                        bearer: false,
                        authorization_servers: Vec::new(),
                        scopes: Vec::new(),
                    };
                    (resource, HashSet::new())
                });
                let accepted = requirement.issuers.iter().filter_map(|index| issuers.get(*index));
                // A client that follows the metadata sends its token in `Authorization`.
                for policy in accepted.filter(|policy| policy.token_header.is_none()) {
                    resource.bearer = true;
                    // A template is no issuer that a client could ask.
                    if policy.template.is_none() {
                        add(&mut resource.authorization_servers, &policy.issuer);
                    }
                    for scope in requirement.scopes.listed() {
                        let name = policy.advertised_scopes.of(scope);
                        if !scopes.contains(&*name) {
                            scopes.insert(name.as_ref().into());
                            resource.scopes.push(name.into());
                        }
                    }
                }
            }
        }
        Resources::new(found.into_values().map(|(resource, _)| resource).collect())
    }

    /// The hosts that are named for nothing: no route is published there, and nothing else is said of them.
    pub(super) fn without_routes(&self, resources: &Resources) -> Vec<(&str, Place)> {
        let served: HashSet<&str> = resources.0.iter().map(|resource| &*resource.host).collect();
        let unserved = self.0.iter().filter(|(name, host)| host.hsts.is_none() && !served.contains(&***name));
        unserved.map(|(name, host)| (&**name, host.place)).collect()
    }
}

impl Host {
    /// The resource identifier, and its path for the metadata: empty for `/` (RFC 9728 §3.1).
    fn identifier(&self, audiences: &[Audience]) -> (Audience, String) {
        for audience in audiences {
            if let Ok(url) = Url::parse(audience.as_str())
                && url.same_origin(&self.url)
                && !url.query
            {
                let path = if &*url.path == "/" { String::new() } else { url.path.into() };
                return (audience.clone(), path);
            }
        }
        (Audience::new(&*self.external), String::new())
    }
}

/// Finds out which routes are reached at a host, by the rule of the table: exact, then the longest wildcard, then any.
struct Finder<'s> {
    named: HashMap<&'s HostPattern, ()>,
}

impl<'s> Finder<'s> {
    fn new(specs: &'s [RouteSpec]) -> Self {
        let named = specs.iter().flat_map(|spec| &spec.hosts).map(|host| (host, ())).collect();
        Self { named }
    }

    fn serves(&self, spec: &RouteSpec, host: &str) -> bool {
        let chosen = self.chosen(host);
        match chosen {
            HostPattern::Any => spec.hosts.is_empty(),
            HostPattern::Exact(_) | HostPattern::Below(_) => spec.hosts.contains(&chosen),
        }
    }

    fn chosen(&self, host: &str) -> HostPattern {
        let exact = HostPattern::Exact(host.into());
        if self.named.contains_key(&exact) {
            return exact;
        }
        let mut rest = host;
        while let Some((_, below)) = rest.split_once('.') {
            let wildcard = HostPattern::Below(below.into());
            if self.named.contains_key(&wildcard) {
                return wildcard;
            }
            rest = below;
        }
        HostPattern::Any
    }
}

fn add<T: Clone + PartialEq>(list: &mut Vec<T>, item: &T) {
    if !list.contains(item) {
        list.push(item.clone());
    }
}
