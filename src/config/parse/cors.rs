//! `cors` of a route.

use std::time::Duration;

use http::{HeaderName, Method, Uri};

use super::Parser;
use crate::config::diagnostic::Fault;
use crate::config::raw_routes::RawCors;
use crate::config::read::Node;
use crate::route::host::HostPattern;
use crate::route::table::{PathPattern, RouteTable};
use crate::snapshot::{Cors, Route};

impl Parser<'_, '_> {
    /// Compiles the section; the methods are added once the table is built.
    pub(super) fn cors(&mut self, raw: &RawCors, node: &Node<'_>) -> Option<Cors> {
        let Some(written) = &raw.origins else {
            let place = node.place_of(&["cors"]);
            self.faults.error(Fault::new(place, "missing `origins`").key("origins"));
            return None;
        };
        let any = !written.list && written.values.iter().any(|origin| origin == "*");
        if any && raw.credentials {
            let fault =
                Fault::new(node.place_of(&["cors", "credentials"]), "`credentials: true` with any origin");
            self.faults.error(
                fault.key("credentials").hint("name the origins: any web page could act for its visitor"),
            );
        }
        if written.values.is_empty() {
            let place = node.place_of(&["cors", "origins"]);
            self.faults.error(Fault::new(place, "an empty list of origins").key("origins"));
        }
        let origins = if any { None } else { Some(self.origins(&written.values, node)) };
        let headers = self.header_list(&raw.headers, node, "headers");
        let expose = self.header_list(&raw.expose, node, "expose");
        Some(Cors {
            origins,
            credentials: raw.credentials,
            headers,
            expose,
            max_age: raw.max_age.map_or(Duration::from_secs(600), |age| age.0),
            methods: Vec::new(),
        })
    }

    fn origins(&mut self, written: &[String], node: &Node<'_>) -> Vec<Box<str>> {
        let mut origins = Vec::with_capacity(written.len());
        for (i, origin) in written.iter().enumerate() {
            if is_origin(origin) {
                origins.push(origin.as_str().into());
                continue;
            }
            let place = node.place_of_item(&["cors", "origins"], i);
            let fault = Fault::new(place, format!("`{origin}` is not an origin")).key("origins");
            self.faults.error(fault.hint(if origin == "*" {
                "any origin is written alone: `origins: '*'`"
            } else {
                "scheme, host in lower case and port if it is not the scheme's own: `https://app.example.com`"
            }));
        }
        origins.sort_unstable();
        origins
    }

    fn header_list(&mut self, names: &[String], node: &Node<'_>, key: &str) -> Vec<HeaderName> {
        let mut headers = Vec::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            match name.parse() {
                Ok(header) => headers.push(header),
                Err(_) => {
                    let place = node.place_of_item(&["cors", key], i);
                    let message = format!("`{name}` is not the name of a header field");
                    self.faults.error(Fault::new(place, message).key(key));
                }
            }
        }
        headers
    }
}

/// Adds the methods of all routes at the same hosts and path, which a preflight's answer lists.
pub(super) fn add_methods(
    routes: &mut [Route],
    table: &RouteTable,
    keys: &[(usize, Vec<HostPattern>, PathPattern)],
) {
    for (position, hosts, path) in keys {
        let any = [HostPattern::Any];
        let hosts = if hosts.is_empty() { &any[..] } else { hosts };
        let mut methods: Vec<Method> = Vec::new();
        for method in hosts.iter().flat_map(|host| table.methods_at(host, path)) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        if let Some(cors) = routes.get_mut(*position).and_then(|route| route.cors.as_mut()) {
            cors.methods = methods;
        }
    }
}

/// Whether a browser would send just this text as `Origin`.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    let own = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    format!("{scheme}://{authority}") == *text
        && !text.bytes().any(|b| b.is_ascii_uppercase() || matches!(b, b'@' | b'*'))
        && (own.is_none() || authority.port_u16() != own)
}
