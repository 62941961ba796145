//! What servers that are less exact than the table make of a request: they ignore a slash at the end of a path, serve HEAD
//! by their handler for GET, or take the method from the query.
//!
//! A request whose path, with the slash at its end added or removed, leads to another endpoint is rejected unless that
//! endpoint demands the same for the method. Two patterns that differ only in that slash are what the operator wrote: both
//! are served, and `check` warns if they demand different things.

use std::borrow::Cow;
use std::collections::HashSet;

use http::Method;

use super::trie::{EndpointId, NodeId};
use super::{Endpoint, Entry, RouteSpec, RouteTable, Segment, hosts_of};
use crate::route::host::HostPattern;
use crate::types::RouteIndex;

/// What a route demands, as far as it can be compared: equal for two routes that demand the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessClass(pub usize);

/// Two routes that demand different things, and that some servers do not tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lookalike {
    /// The route that comes first; for [`LookalikeKind::Host`] the one with the narrower host pattern.
    pub first: RouteIndex,
    /// The other one.
    pub second: RouteIndex,
    /// Why a server may take a request for the one as a request for the other.
    pub kind: LookalikeKind,
}

/// Why servers may not tell two routes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookalikeKind {
    /// The paths differ only in a slash at the end, and maybe in letter case.
    Slash,
    /// The paths differ only in letter case.
    Case,
    /// One answers GET and the other HEAD at the same path.
    Head,
    /// One is for a path, the other for all that is below it.
    Directory,
    /// The second is for the paths of the first at a wider host pattern, so a client chooses between them by its Host.
    Host,
}

impl RouteTable {
    /// The route at an endpoint that [`RouteTable::find`] found, for another method.
    pub fn route_at(&self, endpoint: u32, method: &Method) -> Option<RouteIndex> {
        let endpoint = self.endpoints.get(endpoint as usize)?;
        self.entry(endpoint, method).map(|entry| entry.index)
    }

    /// The pairs of routes that demand different things and that servers may not tell apart, though each is served. `specs`
    /// is what the table was built from. At most a million pairs of route and host are looked at.
    pub fn lookalikes(&self, specs: &[RouteSpec]) -> Vec<Lookalike> {
        let mut pairs = Pairs::default();
        self.wider_hosts(specs, &mut pairs);
        self.spellings(specs, &mut pairs);
        for endpoint in &self.endpoints {
            if let Some((get, head)) =
                self.entry(endpoint, &Method::GET).zip(self.entry(endpoint, &Method::HEAD))
            {
                note(&mut pairs, get, head, LookalikeKind::Head);
            }
        }
        pairs.list
    }

    /// Patterns whose paths differ only in letter case, or in the slash at their end and maybe in letter case; and a path
    /// beside all that is below it, for many servers show at `/dir` what is at `/dir/`.
    fn spellings(&self, specs: &[RouteSpec], pairs: &mut Pairs) {
        for spec in specs {
            let segments = spec.path.segments();
            let turned = with_slash_turned(segments);
            let (other, kind) = match (segments, &turned) {
                ([directory @ .., Segment::Rest(_)], _) => (directory, LookalikeKind::Directory),
                (_, Some(turned)) => (turned.as_slice(), LookalikeKind::Slash),
                (_, None) => continue,
            };
            for root in hosts_of(spec).iter().filter_map(|host| self.root_of(host)) {
                let Some(own) = self.trie.endpoint(root, segments) else { continue };
                let Some(one) = self.endpoints.get(own as usize) else { continue };
                for (other, kind) in [(segments, LookalikeKind::Case), (other, kind)] {
                    let others = self.trie.alike(root, other).into_iter().filter(|other| *other != own);
                    for other in others.filter_map(|id| self.endpoints.get(id as usize)) {
                        if other.is_rest == (one.is_rest && kind == LookalikeKind::Case) {
                            self.note_all(pairs, one, other, kind);
                        }
                    }
                }
            }
        }
    }

    /// Routes of a wider host pattern that cover the paths of a route.
    fn wider_hosts(&self, specs: &[RouteSpec], pairs: &mut Pairs) {
        let below = self.below.iter().map(|(name, root)| (HostPattern::Below(name.clone()), *root));
        let roots: Vec<(HostPattern, NodeId)> =
            self.any.map(|root| (HostPattern::Any, root)).into_iter().chain(below).collect();
        let own = specs.iter().flat_map(|spec| hosts_of(spec).into_iter().map(move |host| (spec, host)));
        let all = own.flat_map(|(spec, host)| roots.iter().map(move |root| (spec, host.clone(), root)));
        for (spec, host, (wider, root)) in all.take(1_000_000) {
            if !wider.is_wider_than(&host) {
                continue;
            }
            let at = |root, segments| {
                let id = self.trie.find_pattern(root, segments)?;
                self.endpoints.get(id as usize)
            };
            let segments = spec.path.segments();
            let found = self.root_of(&host).and_then(|own| self.trie.endpoint(own, segments));
            let found = found.and_then(|id| self.endpoints.get(id as usize));
            if let Some((one, other)) = found.zip(at(*root, segments)) {
                self.note_all(pairs, one, other, LookalikeKind::Host);
            }
        }
    }

    /// Notes each pair of routes at the endpoints that have a method in common. GET and HEAD are one here, for many servers
    /// answer HEAD by their handler for GET.
    fn note_all(&self, pairs: &mut Pairs, one: &Endpoint, other: &Endpoint, kind: LookalikeKind) {
        for (one, other) in self.pairs(one, other) {
            let crossed = |get: &Entry, head: &Entry| {
                get.methods.contains(&Method::GET) && head.methods.contains(&Method::HEAD)
            };
            if one.methods.shared_with(&other.methods).is_some() || crossed(one, other) || crossed(other, one)
            {
                note(pairs, one, other, kind);
            }
        }
    }

    fn pairs<'t>(
        &'t self,
        one: &'t Endpoint,
        other: &'t Endpoint,
    ) -> impl Iterator<Item = (&'t Entry, &'t Entry)> {
        self.entries_at(one).flat_map(|entry| self.entries_at(other).map(move |second| (entry, second)))
    }

    /// Notes for each pattern those that the operator wrote beside it although some servers confuse them.
    pub(super) fn add_lookalikes(&mut self, specs: &[RouteSpec]) {
        for spec in specs {
            let segments = spec.path.segments();
            let is_rest = matches!(segments.last(), Some(Segment::Rest(_)));
            let turned = with_slash_turned(segments);
            for host in hosts_of(spec) {
                let Some(root) = self.root_of(&host) else { continue };
                let Some(id) = self.trie.endpoint(root, segments) else { continue };
                let mut lookalikes = self.trie.alike(root, segments);
                if let Some(turned) = &turned {
                    lookalikes.extend(self.trie.find_pattern(root, turned));
                    lookalikes.extend(self.trie.alike(root, turned));
                }
                lookalikes.sort_unstable();
                lookalikes.dedup();
                lookalikes.retain(|other| *other != id);
                if let Some(endpoint) = self.endpoints.get_mut(id as usize) {
                    (endpoint.lookalikes, endpoint.is_rest) = (lookalikes.into(), is_rest);
                }
            }
        }
    }

    /// Whether a server that ignores letter case and a slash at the end may take the path for one of another endpoint,
    /// which does not demand the same for this method.
    pub(super) fn is_confused(
        &self,
        root: NodeId,
        path: &str,
        found: EndpointId,
        entry: &Entry,
        method: &Method,
    ) -> bool {
        let turned: Cow<'_, str> = match path.strip_suffix('/') {
            Some("") => return false,
            Some(path) => path.into(),
            None => format!("{path}/").into(),
        };
        let lookalikes = self.endpoints.get(found as usize).map(|endpoint| &*endpoint.lookalikes);
        let lookalikes = lookalikes.unwrap_or_default();
        let mut others = self.trie.find_loosely(root, path);
        others.extend(self.trie.find_loosely(root, &turned));
        others.extend(self.trie.below(root, path.strip_prefix('/')));
        others.iter().filter(|other| **other != found && !lookalikes.contains(other)).any(|other| {
            let Some(other) = self.endpoints.get(*other as usize) else { return true };
            let same = |method: &Method| self.entry(other, method).map(|other| other.access == entry.access);
            same(method) != Some(true) || (*method == Method::HEAD && same(&Method::GET) == Some(false))
        })
    }
}

/// A pattern with the slash at its end added or removed. `None` for one that ends in a `{*rest}`.
fn with_slash_turned(segments: &[Segment]) -> Option<Vec<Segment>> {
    match segments.split_last() {
        Some((Segment::Rest(_), _)) => None,
        Some((Segment::Literal(text), rest)) if text.is_empty() => Some(rest.to_vec()),
        Some(_) | None => Some(segments.iter().cloned().chain([Segment::Literal("".into())]).collect()),
    }
}

/// Pairs in the order in which they were found, each once.
#[derive(Default)]
struct Pairs {
    list: Vec<Lookalike>,
    seen: HashSet<Lookalike>,
}

fn note(pairs: &mut Pairs, one: &Entry, other: &Entry, kind: LookalikeKind) {
    let (first, second) = match kind {
        LookalikeKind::Host => (one.index, other.index),
        LookalikeKind::Slash | LookalikeKind::Case | LookalikeKind::Head | LookalikeKind::Directory => {
            (one.index.min(other.index), one.index.max(other.index))
        }
    };
    let pair = Lookalike { first, second, kind };
    if one.access != other.access && pairs.seen.insert(pair) {
        pairs.list.push(pair);
    }
}
