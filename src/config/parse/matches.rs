//! `match` of a route.

use http::Method;

use super::Parser;
use crate::config::diagnostic::{Fault, suggest};
use crate::config::raw_routes::RawMatch;
use crate::config::read::Node;
use crate::route::host::HostPattern;
use crate::route::path::PathOptOuts;
use crate::route::table::{AccessClass, Methods, PathPattern, RouteSpec};
use crate::types::RouteIndex;

impl Parser<'_, '_> {
    /// Compiles the section; what the route demands is filled in later.
    pub(super) fn spec(&mut self, raw: &RawMatch, node: &Node<'_>, index: RouteIndex) -> Option<RouteSpec> {
        let mut sound = true;
        let mut hosts: Vec<HostPattern> = Vec::new();
        for (i, text) in raw.host.iter().flat_map(|host| &host.values).enumerate() {
            let place = node.place_of_item(&["match", "host"], i);
            let host = match HostPattern::parse(text) {
                Ok(HostPattern::Any) => Err("a route for any host has no `host`".to_owned()),
                Ok(host) if hosts.contains(&host) => Err(format!("host `{text}` twice")),
                Ok(host) => Ok(host),
                Err(message) => Err(format!("`{text}` is not a host: {message}")),
            };
            match host {
                Ok(host) => hosts.push(host),
                Err(message) => {
                    self.faults.error(Fault::new(place, message).key("host"));
                    sound = false;
                }
            }
        }
        if raw.host.as_ref().is_some_and(|host| host.values.is_empty()) {
            let fault = Fault::new(node.place_of(&["match", "host"]), "an empty list of hosts").key("host");
            self.faults.error(fault.hint("leave `host` out for a route on any host"));
            sound = false;
        }
        let opt_outs = self.opt_outs(raw, node);
        let methods = self.methods(raw, node);
        let path = PathPattern::parse(&raw.path).map_err(|message| {
            Fault::new(node.place_of(&["match", "path"]), format!("`{}` is not a path: {message}", raw.path))
                .key("path")
        });
        let path = self.faults.take(path)?;
        if let Some((segment, wanted)) = foreign_parameter(&raw.path) {
            let message = format!("`{segment}` in a path is literal text");
            let fault = Fault::new(node.place_of(&["match", "path"]), message).key("path");
            self.faults.warn(fault.hint(format!("for a parameter write `{wanted}`")));
        }
        let missing = path.doubts().without(opt_outs);
        if !missing.is_empty() {
            let names: Vec<_> = missing.names().collect();
            let place = node.place_of(&["match", "path"]);
            let fault =
                Fault::new(place, "no request reaches this path: its spelling is refused").key("path");
            self.faults
                .error(fault.hint(format!("write `allow_path: [{}]`, or the plain path", names.join(", "))));
        }
        if !sound {
            return None;
        }
        Some(RouteSpec { index, hosts, path, methods: methods?, opt_outs, access: AccessClass::default() })
    }

    fn opt_outs(&mut self, raw: &RawMatch, node: &Node<'_>) -> PathOptOuts {
        let mut opt_outs = PathOptOuts::NONE;
        for (i, name) in raw.allow_path.iter().enumerate() {
            match PathOptOuts::from_name(name) {
                Some(opt_out) => opt_outs |= opt_out,
                None => {
                    let place = node.place_of_item(&["match", "allow_path"], i);
                    let mut fault =
                        Fault::new(place, format!("`{name}` is not a spelling of paths")).key("allow_path");
                    fault.hint = suggest(name, PathOptOuts::ALL_NAMES);
                    self.faults.error(fault);
                }
            }
        }
        opt_outs
    }

    fn methods(&mut self, raw: &RawMatch, node: &Node<'_>) -> Option<Methods> {
        let Some(names) = &raw.methods else {
            return Some(Methods::any());
        };
        let mut methods = Vec::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            let upper = !name.bytes().any(|b| b.is_ascii_lowercase());
            match Method::from_bytes(name.as_bytes()) {
                Ok(method) if upper => methods.push(method),
                Ok(_) | Err(_) => {
                    let place = node.place_of_item(&["match", "methods"], i);
                    let fault = Fault::new(place, format!("`{name}` is not a method")).key("methods");
                    self.faults.error(fault.hint("methods are compared exactly and are in capitals: `GET`"));
                    return None;
                }
            }
        }
        let methods = Methods::only(methods).map_err(|message| {
            Fault::new(node.place_of(&["match", "methods"]), format!("methods: {message}")).key("methods")
        });
        self.faults.take(methods)
    }
}

/// How a route is matched, as written.
pub(super) fn describe(raw: &RawMatch, spec: &RouteSpec) -> String {
    let mut text = String::new();
    if let Some(methods) = &raw.methods {
        text.push_str(&methods.join(","));
        text.push(' ');
    }
    for (i, host) in raw.host.iter().flat_map(|host| &host.values).enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(host);
    }
    text.push_str(spec.path.as_str());
    text
}

/// A segment that is a parameter in the patterns of other routers, and how it is written here.
fn foreign_parameter(path: &str) -> Option<(&str, String)> {
    path.split('/').find_map(|segment| match (segment, segment.strip_prefix(':')) {
        ("*" | "**", _) => Some((segment, "{*rest}".to_owned())),
        (_, Some(name)) if !name.is_empty() => Some((segment, format!("{{{name}}}"))),
        _ => None,
    })
}
