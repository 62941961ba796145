//! What a policy may say, but someone should look at.

use std::collections::{BTreeMap, HashSet};

use super::diagnostic::{Fault, Faults, Place};
use super::places::{Names, RoutePlaces};
use super::read::Node;
use super::url::ends_in_number;
use crate::authorize::Mode;
use crate::reject::Control;
use crate::route::host::HostPattern;
use crate::route::table::{LookalikeKind, RouteSpec};
use crate::snapshot::{Access, Route, Snapshot};
use crate::types::{IssuerIndex, RouteIndex, Scope};

/// Where things are.
pub(super) struct Context<'c, 't> {
    pub(super) root: &'c Node<'t>,
    pub(super) specs: &'c [RouteSpec],
    pub(super) places: &'c [RoutePlaces],
    pub(super) issuers: &'c Names,
    pub(super) upstreams: &'c Names,
    pub(super) scopes: &'c BTreeMap<Scope, Vec<Scope>>,
    /// The hosts at which no protected route is published, and where they are.
    pub(super) unserved_hosts: &'c [(&'c str, Place)],
}

/// Gathers the warnings.
pub(super) fn lint(snapshot: &Snapshot, context: &Context<'_, '_>, faults: &mut Faults) {
    if snapshot.routes.is_empty() {
        let fault =
            Fault::new(context.root.place_of(&["routes"]), "no routes: every request is answered 404");
        faults.warn(fault.key("routes"));
    }
    edge(snapshot, context, faults);
    hidden(snapshot, context, faults);
    lookalikes(snapshot, context, faults);
    unused(snapshot, context, faults);
    unused_scopes(snapshot, context, faults);
    owners(snapshot, context, faults);
    numeric_names(snapshot, context, faults);
}

/// Names whose last label is a number.
fn numeric_names(snapshot: &Snapshot, context: &Context<'_, '_>, faults: &mut Faults) {
    let mut warn = |name: &str, place: Place, key: &str| {
        if ends_in_number(name) {
            let message = format!("the last label of `{name}` is a number, but it is no IPv4 address");
            let fault = Fault::new(place, message).key(key);
            faults.warn(fault.hint("browsers and resolvers read such a name as an address, or refuse it"));
        }
    };
    for (spec, places) in context.specs.iter().zip(context.places) {
        for host in &spec.hosts {
            if let HostPattern::Exact(name) | HostPattern::Below(name) = host {
                warn(name, places.matches, "host");
            }
        }
    }
    for name in snapshot.origins.keys() {
        warn(name, context.root.place_of_key(&["hosts", name]), "hosts");
    }
    for upstream in &snapshot.upstreams {
        for endpoint in &upstream.endpoints {
            let place = context.root.place_of_key(&["upstreams", upstream.name.as_str()]);
            warn(&endpoint.host, place, "upstreams");
        }
    }
}

/// Controls whose refusals have no owner, in a policy that names owners.
fn owners(snapshot: &Snapshot, context: &Context<'_, '_>, faults: &mut Faults) {
    if context.root.get("owners").is_none() {
        return;
    }
    let owned = |control: Control| {
        snapshot.owners.of(control).is_some()
            || (0u32..)
                .zip(&snapshot.routes)
                .all(|(index, _)| snapshot.owner(Some(RouteIndex(index)), control).is_some())
    };
    let names: Vec<_> = Control::ALL
        .into_iter()
        .filter(|control| !owned(*control))
        .map(|control| format!("`{}`", control.as_str()))
        .collect();
    if !names.is_empty() {
        let message = format!("nobody is named for refusals of {}", names.join(", "));
        let fault = Fault::new(context.root.place_of_key(&["owners"]), message).key("owners");
        faults.warn(fault.hint("add `default: …` for the controls without an owner of their own"));
    }
}

/// What listeners and hosts promise to browsers.
fn edge(snapshot: &Snapshot, context: &Context<'_, '_>, faults: &mut Faults) {
    let named = context.specs.iter().any(|spec| !spec.hosts.is_empty())
        || snapshot.origins.values().any(|origin| origin.secure);
    if !named && snapshot.gateway.listen.iter().any(|listener| listener.redirect) {
        let message = "a listener redirects, but no host is named: it answers 404 to every request";
        let fault = Fault::new(context.root.place_of(&["gateway", "listen"]), message).key("redirect");
        faults.warn(fault.hint("name the public hosts under `hosts`, or in the routes"));
    }
    for (host, value) in &snapshot.hsts {
        if value.as_bytes().ends_with(b"preload") {
            let message = format!("host `{host}` is asked to be preloaded as https only");
            let place = context.root.place_of_key(&["hosts", &**host, "hsts"]);
            let hint = "that outlasts its removal by months, for every name below it";
            faults.warn(Fault::new(place, message).key("preload").hint(hint));
        }
    }
}

/// What a single route gives away.
pub(super) fn route(route: &Route, node: &Node<'_>, faults: &mut Faults) {
    let id = &route.id;
    if let Access::Protected(requirement) = &route.access
        && requirement.mode == Mode::Shadow
    {
        let message = format!("route `{id}` is in shadow mode: refusals of authorization are only recorded");
        faults.warn(Fault::new(node.place_of_key(&["mode"]), message).key("mode"));
    }
    if route.forward_token {
        let message = format!("route `{id}` hands the caller's token to its upstream");
        let fault =
            Fault::new(node.place_of_key(&["forward", "forward_token"]), message).key("forward_token");
        faults.warn(fault.hint("whoever holds the token can use it elsewhere; prefer `identity_headers`"));
    }
    if !route.path_opt_outs.is_empty() {
        let names: Vec<_> = route.path_opt_outs.names().collect();
        let message = format!("route `{id}` takes doubtful spellings of a path: {}", names.join(", "));
        let fault = Fault::new(node.place_of_key(&["match", "allow_path"]), message).key("allow_path");
        faults.warn(fault.hint("make sure that its upstream reads them as the gateway does"));
    }
    if is_metadata(&route.matches) {
        let message = format!("route `{id}` is not reached: the gateway answers this path itself (RFC 9728)");
        faults.warn(Fault::new(node.place_of(&["match", "path"]), message).key("path"));
    }
}

fn is_metadata(matches: &str) -> bool {
    matches.contains("/.well-known/oauth-protected-resource")
}

/// Routes that a narrower host keeps requests from.
fn hidden(snapshot: &Snapshot, context: &Context<'_, '_>, faults: &mut Faults) {
    for hidden in snapshot.table.hidden(context.specs) {
        let (Some(route), Some(places)) =
            (snapshot.route(hidden.route), context.places.get(hidden.route.get()))
        else {
            continue;
        };
        let message = format!(
            "route `{}` is not reached at host `{}`, which has routes of its own",
            route.id, hidden.host
        );
        let fault = Fault::new(places.matches, message).key("host");
        faults.warn(fault.hint("add the host to its `host` list if it should be"));
    }
}

/// Routes that demand different things, although some servers do not tell their requests apart.
fn lookalikes(snapshot: &Snapshot, context: &Context<'_, '_>, faults: &mut Faults) {
    for pair in snapshot.table.lookalikes(context.specs) {
        let (Some(first), Some(second), Some(places)) =
            (snapshot.route(pair.first), snapshot.route(pair.second), context.places.get(pair.second.get()))
        else {
            continue;
        };
        if pair.kind == LookalikeKind::Host && first.upstream != second.upstream {
            continue;
        }
        let (what, hint) = match pair.kind {
            LookalikeKind::Slash => (
                "some of their paths differ only in the `/` at the end, or in letter case too",
                "many servers ignore both; demand the same on both, or make sure that the upstream tells them apart",
            ),
            LookalikeKind::Case => (
                "some of their paths differ only in letter case",
                "many servers ignore letter case; demand the same on both, or make sure that the upstream tells them apart",
            ),
            LookalikeKind::Head => (
                "one answers GET, the other HEAD at the same path",
                "many servers answer HEAD by their handler for GET; demand the same on both",
            ),
            LookalikeKind::Directory => (
                "one is for a path, the other for all that is below it",
                "many servers show at `/dir` what is at `/dir/`; demand the same on both, or make sure that the upstream tells them apart",
            ),
            LookalikeKind::Host => (
                "the second has their paths at other hosts too, with the same upstream",
                "a client chooses the Host that it sends; name the hosts of the second route, or demand the same on both",
            ),
        };
        let message =
            format!("routes `{}` and `{}` demand different things, but {what}", first.id, second.id);
        faults.warn(Fault::new(places.matches, message).key("path").hint(hint));
    }
}

/// What nothing refers to.
fn unused(snapshot: &Snapshot, context: &Context<'_, '_>, faults: &mut Faults) {
    let issuers: HashSet<IssuerIndex> = snapshot
        .routes
        .iter()
        .filter_map(|route| match &route.access {
            Access::Protected(requirement) => Some(&requirement.issuers),
            Access::Public => None,
        })
        .flatten()
        .copied()
        .collect();
    for (index, policy) in snapshot.issuers.iter() {
        if !issuers.contains(&index) {
            let name = policy.name.as_str();
            let message = format!("no route accepts issuer `{name}`");
            faults.warn(Fault::new(context.issuers.place(name), message).key(name));
        }
    }
    let upstreams: HashSet<usize> = snapshot.routes.iter().map(|route| route.upstream.get()).collect();
    for (position, policy) in snapshot.upstreams.iter().enumerate() {
        if !upstreams.contains(&position) {
            let name = policy.name.as_str();
            let message = format!("no route goes to upstream `{name}`");
            faults.warn(Fault::new(context.upstreams.place(name), message).key(name));
        }
    }
    // A redirect needs to know where a host is, whatever is published there.
    let redirects = snapshot.gateway.listen.iter().any(|listener| listener.redirect);
    for (name, place) in context.unserved_hosts.iter().filter(|_| !redirects) {
        let message = format!("no protected route is published at host `{name}`");
        faults.warn(Fault::new(*place, message).key(*name));
    }
}

/// Implications that make no difference to any route: a misspelt scope looks like this.
fn unused_scopes(snapshot: &Snapshot, context: &Context<'_, '_>, faults: &mut Faults) {
    let mut wanted: HashSet<&Scope> = HashSet::new();
    for route in &snapshot.routes {
        if let Access::Protected(requirement) = &route.access {
            wanted.extend(requirement.scopes.listed());
        }
    }
    for (scope, implied) in context.scopes {
        let matters = |scope: &Scope| wanted.contains(scope) || context.scopes.contains_key(scope);
        if !implied.iter().any(matters) {
            let message = format!("scope `{scope}` implies nothing that a route demands");
            let place: Place = context.root.place_of_key(&["scopes", scope.as_str()]);
            faults.warn(Fault::new(place, message).key("scopes"));
        }
    }
}
