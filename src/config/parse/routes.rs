//! The `routes` section.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::fields::Named;
use super::groups::{GroupUse, Joined};
use super::matches::describe;
use super::{Declared, Parser};
use crate::authenticate::TokenPlaces;
use crate::authorize::Requirement;
use crate::config::diagnostic::{Fault, Faults, Place, suggest};
use crate::config::lint;
use crate::config::places::RoutePlaces;
use crate::config::raw_routes::{RawMode, RawRoute};
use crate::config::raw_values::RawWebSocket;
use crate::config::read::{Node, decode};
use crate::route::host::HostPattern;
use crate::route::rewrite::Rewrite;
use crate::route::table::{AccessClass, PathPattern, RouteSpec, RouteTable};
use crate::snapshot::{Access, BodyLimits, FieldRules, IdentityField, Route};
use crate::types::{RouteId, RouteIndex, Shared, UpstreamIndex};

/// The compiled routes.
#[derive(Default)]
pub(super) struct Routes {
    /// By [`RouteIndex`], as the next two.
    pub(super) compiled: Vec<Route>,
    pub(super) specs: Vec<RouteSpec>,
    pub(super) places: Vec<RoutePlaces>,
    /// Hosts and path of the routes that answer cross-origin requests.
    pub(super) keys: Vec<(usize, Vec<HostPattern>, PathPattern)>,
    /// What someone should look at, once it is known that there are no errors.
    pub(super) warnings: Faults,
    requirements: Shared<Requirement>,
    identity_headers: Shared<[(HeaderName, IdentityField)]>,
    token_places: Shared<TokenPlaces>,
    fields: Shared<FieldRules>,
    /// The fields of requests that the routes name.
    pub(super) named_fields: Vec<Named>,
    /// Each id with the line it is on.
    ids: HashMap<RouteId, u32>,
    pub(super) groups: GroupUse,
}

impl Parser<'_, '_> {
    /// Compiles the section, as far as that was not done while it was read.
    pub(super) fn routes<'t>(
        &mut self,
        node: Option<&Node<'t>>,
        declared: &Declared<'t>,
        routes: &mut Routes,
    ) -> Option<()> {
        let node = node?;
        let Some(items) = node.items() else {
            self.faults.error(Fault::new(node.place, "`routes` is a list").key("routes"));
            return None;
        };
        for item in items {
            self.route_item(item, declared, routes);
        }
        Some(())
    }

    /// Compiles one item of the section, with what its group adds.
    pub(super) fn route_item<'t>(&mut self, item: &Node<'t>, declared: &Declared<'t>, routes: &mut Routes) {
        match self.joined(item, declared, &mut routes.groups) {
            Joined::Alone => self.whole_route(item, declared, routes),
            Joined::With(item) => self.whole_route(&item, declared, routes),
            Joined::Failed => {}
        }
    }

    fn whole_route(&mut self, item: &Node<'_>, declared: &Declared<'_>, routes: &mut Routes) {
        let Some(raw) = decode::<RawRoute>(item, self.faults) else {
            return;
        };
        let place = item.place_of(&["id"]);
        self.check_name(&raw.id, place, "route");
        let id = RouteId::new(raw.id.as_str());
        match routes.ids.entry(id.clone()) {
            Entry::Occupied(first) => {
                let message = format!("duplicate route id `{}`, first on line {}", raw.id, first.get());
                self.faults.error(Fault::new(place, message).key("id"));
            }
            Entry::Vacant(free) => {
                free.insert(place.line);
            }
        }
        let Ok(position) = u32::try_from(routes.compiled.len()) else {
            return;
        };
        let Some((route, spec)) = self.route(id, &raw, item, declared, RouteIndex(position), routes) else {
            return;
        };
        lint::route(&route, item, &mut routes.warnings);
        if route.cors.is_some() {
            routes.keys.push((routes.compiled.len(), spec.hosts.clone(), spec.path.clone()));
        }
        routes.compiled.push(route);
        routes.specs.push(spec);
        routes.places.push(RoutePlaces {
            matches: item.place_of(&["match"]),
            path: item.place_of(&["match", "path"]),
        });
    }

    fn route(
        &mut self,
        id: RouteId,
        raw: &RawRoute,
        node: &Node<'_>,
        declared: &Declared<'_>,
        index: RouteIndex,
        routes: &mut Routes,
    ) -> Option<(Route, RouteSpec)> {
        let spec = self.spec(&raw.matches, node, index);
        let access = self.access(raw, node, spec.as_ref(), declared);
        let upstream = self.upstream_of(raw, node, declared);
        let rewrite = spec.as_ref().and_then(|spec| self.rewrite(raw, node, &spec.path));
        let identity_headers = self.identity_headers(&raw.forward, node, raw.public);
        let fields = self.field_rules(&raw.forward, node, &mut routes.named_fields);
        let cors = match &raw.cors {
            None => None,
            Some(cors) => Some(self.cors(cors, node)?),
        };
        let defaults = &declared.gateway;
        let mut timeout =
            |key: &str, value, default: Duration| self.duration(value, default, node, &["timeouts", key]);
        let body = BodyLimits {
            bytes: raw.limits.body.map_or(defaults.limits.body, |size| size.0),
            rate: raw.limits.body_rate.map_or(defaults.limits.body_rate, |size| size.0),
            idle: timeout("body_idle", raw.timeouts.body_idle, defaults.timeouts.body_idle),
            total: timeout("body_total", raw.timeouts.body_total, defaults.timeouts.body_total),
            stream_idle: timeout("stream_idle", raw.timeouts.stream_idle, defaults.timeouts.stream_idle),
        };
        let upstream_response =
            timeout("upstream_response", raw.timeouts.upstream_response, defaults.timeouts.upstream_response);
        let upstream_idle =
            timeout("upstream_idle", raw.timeouts.upstream_idle, defaults.timeouts.upstream_idle);
        let owner = match &raw.owner {
            None => None,
            Some(owner) => Some(self.owner(owner, node.place_of(&["owner"]))?),
        };
        let access = access?;
        if let Some(requirement) = &access {
            self.check_identity(&identity_headers, requirement, node, declared);
            self.check_token_headers(&identity_headers, node, declared);
        }
        let token_places = self.token_places(access.as_ref(), &raw.forward.websocket, node, declared);
        let token_places = token_places.map(|places| routes.token_places.of(places));
        let access = match access {
            Some(requirement) => Access::Protected(routes.requirements.of(requirement)),
            None => Access::Public,
        };
        let mut spec = spec?;
        if let Access::Protected(requirement) = &access {
            // Routes that demand the same share one.
            spec.access = AccessClass(Arc::as_ptr(requirement).addr());
        }
        let route = Route {
            id,
            matches: describe(&raw.matches, &spec).into(),
            access,
            upstream: upstream?,
            rewrite: rewrite?,
            path_opt_outs: spec.opt_outs,
            method_query: raw.matches.allow_method_query,
            token_places,
            forward_token: raw.forward.forward_token,
            websocket: !matches!(raw.forward.websocket, RawWebSocket::No),
            rewrite_location: raw.forward.rewrite_location.unwrap_or(true),
            rewrite_cookies: raw.forward.rewrite_cookies,
            identity_headers: routes.identity_headers.of(identity_headers),
            fields: fields.map(|rules| routes.fields.of(rules)),
            cors,
            body,
            upstream_response,
            upstream_idle,
            owner,
            resource_metadata: None,
        };
        Some((route, spec))
    }

    /// What a route demands, `None` within if nothing. A route says `require`, or that it is public: silence is an
    /// error.
    fn access(
        &mut self,
        raw: &RawRoute,
        node: &Node<'_>,
        spec: Option<&RouteSpec>,
        declared: &Declared<'_>,
    ) -> Option<Option<Requirement>> {
        match (&raw.require, raw.public) {
            (Some(require), false) => {
                let at = node.get("require").unwrap_or(node);
                self.requirement(require, at, raw.mode, spec, declared).map(Some)
            }
            (None, true) => {
                if raw.mode == RawMode::Shadow {
                    let fault = Fault::new(node.place_of(&["mode"]), "a public route has nothing to shadow");
                    self.faults.error(fault.key("mode"));
                }
                Some(None)
            }
            (None, false) => {
                let fault =
                    Fault::new(node.place, format!("route `{}` does not say who may call it", raw.id));
                self.faults.error(
                    fault.key("require").hint("add `require`, or `public: true` for a route without token"),
                );
                None
            }
            (Some(_), true) => {
                let fault = Fault::new(
                    node.place_of_key(&["public"]),
                    "a route has either `require` or `public: true`",
                );
                let hint = match raw.group {
                    Some(_) => "remove one of them, or take the route out of its group",
                    None => "remove one of them",
                };
                self.faults.error(fault.key("public").hint(hint));
                None
            }
        }
    }

    fn upstream_of(
        &mut self,
        raw: &RawRoute,
        node: &Node<'_>,
        declared: &Declared<'_>,
    ) -> Option<UpstreamIndex> {
        let names = &declared.upstream_names;
        match names.find(&raw.upstream) {
            Some(position) => {
                let index = position.map(UpstreamIndex)?;
                let policy = declared.upstreams.get(index.get());
                self.check_websocket(raw, node, policy);
                if declared.credentials.get(index.get()).is_some_and(Option::is_some) {
                    self.check_shared_credential(raw, node);
                }
                Some(index)
            }
            None => {
                let place = node.place_of(&["upstream"]);
                let mut fault =
                    Fault::new(place, format!("unknown upstream `{}`", raw.upstream)).key("upstream");
                fault.hint = suggest(&raw.upstream, names.iter());
                self.faults.error(fault);
                None
            }
        }
    }

    fn rewrite(&mut self, raw: &RawRoute, node: &Node<'_>, path: &PathPattern) -> Option<Rewrite> {
        let (strip, add) = (raw.forward.strip_prefix.as_deref(), raw.forward.add_prefix.as_deref());
        let rewrite = Rewrite::new(strip, add)
            .map_err(|message| Fault::new(node.place_of(&["forward"]), message).key("forward"));
        let rewrite = self.faults.take(rewrite)?;
        if !rewrite.fits(path) {
            let place = node.place_of(&["forward", "strip_prefix"]);
            let fault = Fault::new(place, format!("not every path of `{path}` begins with `strip_prefix`"));
            self.faults.error(
                fault.key("strip_prefix").hint("it must be whole, literal segments at the path's start"),
            );
            return None;
        }
        Some(rewrite)
    }

    /// Builds the table, or says which routes are in each other's way.
    pub(super) fn table(
        &mut self,
        specs: &[RouteSpec],
        places: &[RoutePlaces],
        routes: &[Route],
    ) -> Option<RouteTable> {
        let conflicts = match RouteTable::build(specs) {
            Ok(table) => return Some(table),
            Err(conflicts) => conflicts,
        };
        let line = |index: RouteIndex| places.get(index.get()).map_or(0, |places| places.matches.line);
        let id = |index: RouteIndex| routes.get(index.get()).map_or("", |route| route.id.as_str());
        for conflict in conflicts {
            let place = places.get(conflict.second.get()).map_or(Place::START, |places| places.path);
            let message = format!(
                "route `{}` (line {}) and route `{}` (line {}) match the same requests: {} {}",
                id(conflict.second),
                line(conflict.second),
                id(conflict.first),
                line(conflict.first),
                conflict.method,
                conflict.host,
            );
            let fault = Fault::new(place, message).key("match");
            self.faults.error(fault.hint("the order does not decide: change a host, a path or the methods"));
        }
        None
    }
}
