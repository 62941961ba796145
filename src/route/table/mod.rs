//! Finds a route by host, path and method.
//!
//! 1. Host: the exact one, else the longest wildcard that covers it, else the routes without host. A host pattern that any
//!    route names has a table of its own, and what is not in there is not found elsewhere.
//! 2. Path: the most specific pattern that matches, decided at the first segment in which two differ: literal before
//!    parameter before rest.
//! 3. Method: of the routes with this host and path. None fits: [`NotFound::Method`].
//! 4. The order of the routes never matters: two that could match one request equally are a [`Conflict`].
//! 5. Letter case is part of a path. But a path that comes to a route only because it differs in case from a more
//!    specific one is refused, and so is a path with doubtful spellings that some server reads as one for another route
//!    ([`NotFound::Ambiguous`]): what is behind may be less exact than this table.
//!
//! No route of a table without conflicts is out of reach: each shape of path is there once, every method of it belongs to
//! one route, and neither literals nor exact hosts can exhaust what a parameter or a wildcard stands for. What can hide a
//! route is a host of its own ([`RouteTable::hidden`]) and a pattern that needs an opt-out ([`PathPattern::doubts`]).

mod lenient;
mod pattern;
#[cfg(test)]
mod tests;
mod trie;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::Method;
use smallvec::SmallVec;

pub use lenient::{AccessClass, Lookalike, LookalikeKind};
pub(in crate::route) use pattern::Segment;
pub use pattern::{Methods, PathPattern};

use super::host::HostPattern;
use super::path::readings::readings;
use super::path::{CanonicalPath, PathOptOuts, decode};
use crate::types::{RouteIndex, Shared};
use trie::{EndpointId, NodeId, Trie};

/// What the table must know of a route.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// The route.
    pub index: RouteIndex,
    /// Its hosts; empty for any host.
    pub hosts: Vec<HostPattern>,
    /// Its path.
    pub path: PathPattern,
    /// Its methods.
    pub methods: Methods,
    /// The doubtful spellings it takes.
    pub opt_outs: PathOptOuts,
    /// What it demands.
    pub access: AccessClass,
}

/// Two routes that could match one request equally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The one that comes first.
    pub first: RouteIndex,
    /// The other.
    pub second: RouteIndex,
    /// The host pattern both name.
    pub host: HostPattern,
    /// A method both answer.
    pub method: Method,
}

/// A route that is out of reach at one host, because that host has a table of its own with nothing at the route's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The route, which names a wider host pattern or none.
    pub route: RouteIndex,
    /// The first such host pattern.
    pub host: HostPattern,
}

/// The compiled table.
#[derive(Default)]
pub struct RouteTable {
    trie: Trie,
    /// What is at each endpoint.
    endpoints: Vec<Endpoint>,
    /// The routes, in the order they were given.
    entries: Vec<Entry>,
    exact: HashMap<Box<str>, NodeId>,
    below: HashMap<Box<str>, NodeId>,
    any: Option<NodeId>,
}

/// What a search must know of a route.
#[derive(Debug)]
struct Entry {
    index: RouteIndex,
    opt_outs: PathOptOuts,
    access: AccessClass,
    methods: Methods,
    /// The names of the path's parameters from the left.
    params: Arc<[Box<str>]>,
}

/// One shape of path within one host.
#[derive(Debug, Default)]
struct Endpoint {
    /// Positions in `entries`.
    entries: SmallVec<[u32; 4]>,
    /// The value of the Allow header.
    allow: Arc<str>,
    /// Patterns whose paths differ from this one's only in letter case or the slash at their end.
    lookalikes: Box<[EndpointId]>,
    is_rest: bool,
}

/// A route with the parameters of its path.
#[derive(Debug)]
pub struct Found<'t, 'p> {
    /// The route.
    pub route: RouteIndex,
    /// Where it is, for [`RouteTable::route_at`].
    pub endpoint: u32,
    /// Path parameters: name, and value percent-decoded once. One whose value is not UTF-8 is absent: nothing equals it.
    pub params: SmallVec<[(&'t str, Cow<'p, str>); 4]>,
}

/// Why no route was found.
#[derive(Debug, PartialEq, Eq)]
pub enum NotFound<'a> {
    /// Nothing is published at this host and path.
    Route,
    /// The path does not answer this method; `allow` is the value of the Allow header.
    Method {
        /// Methods it answers, separated by a comma and a space.
        allow: &'a str,
    },
    /// Another server could read the path as one for another route.
    Ambiguous,
}

impl RouteTable {
    /// Builds the table.
    ///
    /// # Errors
    ///
    /// The conflicts: each route once for each host pattern, with the first route it conflicts with.
    pub fn build(specs: &[RouteSpec]) -> Result<Self, Vec<Conflict>> {
        let mut table = Self { entries: Vec::with_capacity(specs.len()), ..Self::default() };
        let mut conflicts = Vec::new();
        let (mut methods, mut params) = (Shared::default(), Shared::<[Box<str>]>::default());
        for (position, spec) in (0u32..).zip(specs) {
            table.entries.push(Entry {
                index: spec.index,
                opt_outs: spec.opt_outs,
                access: spec.access,
                methods: spec.methods.shared(&mut methods),
                params: params.of(spec.path.params().map(Box::from).collect::<Vec<_>>()),
            });
            for host in hosts_of(spec) {
                conflicts.extend(table.insert(position, spec, &host));
            }
        }
        table.add_lookalikes(specs);
        table.trie.shrink();
        table.endpoints.shrink_to_fit();
        let mut allow = Shared::<str>::default();
        for endpoint in &mut table.endpoints {
            endpoint.allow = allow.of(allowed(&table.entries, endpoint));
        }
        if conflicts.is_empty() { Ok(table) } else { Err(conflicts) }
    }

    fn insert(&mut self, position: u32, spec: &RouteSpec, host: &HostPattern) -> Option<Conflict> {
        let trie = &mut self.trie;
        let root = match host {
            HostPattern::Any => *self.any.get_or_insert_with(|| trie.add_root()),
            HostPattern::Exact(name) => *self.exact.entry(name.clone()).or_insert_with(|| trie.add_root()),
            HostPattern::Below(name) => *self.below.entry(name.clone()).or_insert_with(|| trie.add_root()),
        };
        let id = trie.insert(root, spec.path.segments())? as usize;
        if self.endpoints.len() <= id {
            self.endpoints.resize_with(id + 1, Endpoint::default);
        }
        let endpoint = self.endpoints.get_mut(id)?;
        let clash = endpoint
            .entries
            .iter()
            .filter_map(|other| self.entries.get(*other as usize))
            .find_map(|other| Some((other.index, other.methods.shared_with(&spec.methods)?)));
        let Some((first, method)) = clash else {
            endpoint.entries.push(position);
            return None;
        };
        Some(Conflict { first, second: spec.index, host: host.clone(), method })
    }

    /// Finds the route. `host` is in lower case without port, as [`super::host::Host`] gives it.
    ///
    /// A path with doubtful spellings that the route does not take is found all the same, for
    /// [`CanonicalPath::allowed_by`] to refuse it and say why.
    ///
    /// # Errors
    ///
    /// [`NotFound`].
    pub fn find<'t, 'p>(
        &'t self,
        host: &str,
        path: &'p CanonicalPath<'_>,
        method: &Method,
    ) -> Result<Found<'t, 'p>, NotFound<'t>> {
        let root = self.root(host).ok_or(NotFound::Route)?;
        let hit = self.trie.find(root, path.as_str()).ok_or(NotFound::Route)?;
        let endpoint = self.endpoints.get(hit.endpoint as usize).ok_or(NotFound::Route)?;
        let entry = self.entry(endpoint, method).ok_or(NotFound::Method { allow: &endpoint.allow })?;
        let is_confused = |path: &str| self.is_confused(root, path, hit.endpoint, entry, method);
        if hit.missed_by_case && self.leads_elsewhere(root, path.as_str(), hit.endpoint) {
            return Err(NotFound::Ambiguous);
        }
        if (hit.missed_by_case || hit.missed_by_slash || hit.has_twin) && is_confused(path.as_str()) {
            return Err(NotFound::Ambiguous);
        }
        // Readings cost time, so they are not made for a path that will be refused for its spelling.
        if entry.opt_outs.contains(path.doubts())
            && readings(path)
                .any(|reading| self.leads_elsewhere(root, &reading, hit.endpoint) || is_confused(&reading))
        {
            return Err(NotFound::Ambiguous);
        }
        let params = entry
            .params
            .iter()
            .zip(hit.captures)
            .filter_map(|(name, value)| Some((&**name, decode(value)?)))
            .collect();
        Ok(Found { route: entry.index, endpoint: hit.endpoint, params })
    }

    /// The value of the Allow header at an endpoint that [`Self::find`] found.
    pub fn allow_at(&self, endpoint: u32) -> &str {
        self.endpoints.get(endpoint as usize).map_or("", |endpoint| &endpoint.allow)
    }

    /// The methods of all routes with exactly this host pattern and path, names of parameters aside.
    pub fn methods_at(&self, host: &HostPattern, path: &PathPattern) -> Vec<Method> {
        self.root_of(host)
            .and_then(|root| self.trie.endpoint(root, path.segments()))
            .and_then(|id| self.endpoints.get(id as usize))
            .into_iter()
            .flat_map(|endpoint| self.entries_at(endpoint))
            .flat_map(|entry| entry.methods.listed())
            .cloned()
            .collect()
    }

    /// The routes that a narrower host pattern puts out of reach at that host, each with the first such pattern: the
    /// host has a table of its own, in which no pattern covers the route's path. `specs` is what the table was built
    /// from. At most a million pairs of route and host are looked at.
    pub fn hidden(&self, specs: &[RouteSpec]) -> Vec<Hidden> {
        let mut hosts: Vec<(HostPattern, NodeId)> = self
            .exact
            .iter()
            .map(|(name, root)| (HostPattern::Exact(name.clone()), *root))
            .chain(self.below.iter().map(|(name, root)| (HostPattern::Below(name.clone()), *root)))
            .collect();
        hosts.sort();
        let pairs = specs.iter().flat_map(|spec| {
            hosts_of(spec)
                .into_iter()
                .filter(|own| !matches!(own, HostPattern::Exact(_)))
                .flat_map(|own| hosts.iter().map(move |host| (own.clone(), host)))
                .map(move |(own, host)| (spec, own, host))
        });
        let mut hidden: Vec<Hidden> = Vec::new();
        for (spec, own, (host, root)) in pairs.take(1_000_000) {
            let known = hidden.last().is_some_and(|last| last.route == spec.index);
            if !known
                && own.is_wider_than(host)
                && !hosts_of(spec).contains(host)
                && !self.trie.covers(*root, spec.path.segments())
            {
                hidden.push(Hidden { route: spec.index, host: host.clone() });
            }
        }
        hidden
    }

    /// Whether any route names this host, itself or by a wildcard. `host` is as for [`Self::find`].
    pub fn names(&self, host: &str) -> bool {
        self.named(host).is_some()
    }

    /// The tree of exactly this host pattern.
    fn root_of(&self, host: &HostPattern) -> Option<NodeId> {
        match host {
            HostPattern::Any => self.any,
            HostPattern::Exact(name) => self.exact.get(name).copied(),
            HostPattern::Below(name) => self.below.get(name).copied(),
        }
    }

    fn entries_at<'t>(&'t self, endpoint: &'t Endpoint) -> impl Iterator<Item = &'t Entry> {
        endpoint.entries.iter().filter_map(|position| self.entries.get(*position as usize))
    }

    fn entry<'t>(&'t self, endpoint: &'t Endpoint, method: &Method) -> Option<&'t Entry> {
        self.entries_at(endpoint).find(|entry| entry.methods.contains(method))
    }

    /// The tree for a host: of the exact name, of the longest wildcard, or of the routes without host.
    fn root(&self, host: &str) -> Option<NodeId> {
        self.named(host).or(self.any)
    }

    fn named(&self, host: &str) -> Option<NodeId> {
        if let Some(root) = self.exact.get(host) {
            return Some(*root);
        }
        if !self.below.is_empty() {
            let mut name = host;
            while let Some((_, parent)) = name.split_once('.') {
                if let Some(root) = self.below.get(parent) {
                    return Some(*root);
                }
                name = parent;
            }
        }
        None
    }

    /// Whether a server, which may ignore letter case, takes this reading of the path for one of another endpoint.
    fn leads_elsewhere(&self, root: NodeId, reading: &str, endpoint: EndpointId) -> bool {
        self.trie.find_loosely(root, reading).iter().any(|other| *other != endpoint)
    }
}

/// The hosts of a route, each once.
fn hosts_of(spec: &RouteSpec) -> Vec<HostPattern> {
    if spec.hosts.is_empty() {
        return vec![HostPattern::Any];
    }
    let mut hosts = spec.hosts.clone();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// The value of the Allow header for an endpoint.
fn allowed(entries: &[Entry], endpoint: &Endpoint) -> String {
    let methods: Vec<&str> = endpoint
        .entries
        .iter()
        .filter_map(|position| entries.get(*position as usize))
        .flat_map(|entry| entry.methods.listed())
        .map(Method::as_str)
        .collect();
    methods.join(", ")
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable")
            .field("routes", &self.entries.len())
            .field("endpoints", &self.endpoints.len())
            .finish_non_exhaustive()
    }
}
