//! What a route changes in header fields: `forward.allow_headers`, `forward.headers` and `forward.answer_headers`.
//!
//! 1. Servers that hand fields over as variables (CGI, WSGI, PHP) read every character that is no letter or digit alike, so that
//!    `X_User` is `X-User` to them. Names are compared in that reading.
//! 2. No rule touches what only the gateway may say, what frames, routes or authenticates a message, or what belongs to one hop.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue, header};

use super::Parser;
use super::forward::header_name;
use crate::config::diagnostic::{Fault, Place};
use crate::config::raw_routes::{RawFieldChanges, RawForward};
use crate::config::read::Node;
use crate::snapshot::{FieldChanges, FieldRules, UpstreamCredential};
use crate::types::field_names::{as_read_by_cgi, is_gateway_only, is_hop_by_hop, is_odd};

/// A field of requests that a route names, and where it is written.
pub(super) type Named = (Place, HeaderName);

/// A credential of an upstream, and where it is written.
pub(super) type Credential = (Place, UpstreamCredential);

/// What is wrong with a name, and the cure.
type Trouble = (String, &'static str);

/// Longest value of a field that is set, in bytes.
const LONGEST_VALUE: usize = 4096;

impl Parser<'_, '_> {
    /// The rules of a route; `None` if it has none. The names of requests' fields are also added to `named`, to be compared
    /// with those that other routes, issuers and upstreams reserve.
    pub(super) fn field_rules(
        &mut self,
        raw: &RawForward,
        node: &Node<'_>,
        named: &mut Vec<Named>,
    ) -> Option<FieldRules> {
        let allow = self.allowed(raw, node, named);
        let request = self.changes("headers", &raw.headers, node, writable, Some(named));
        let response = self.changes("answer_headers", &raw.answer_headers, node, answerable, None);
        for (i, name) in allow.iter().enumerate() {
            let read = as_read_by_cgi(name.as_str());
            if request.remove.iter().any(|removed| as_read_by_cgi(removed.as_str()) == read) {
                let place = node.place_of_item(&["forward", "allow_headers"], i);
                let message = format!("`{name}` is let through here, and set or removed by `headers`");
                self.faults.error(Fault::new(place, message).key("allow_headers"));
            }
        }
        let rules = FieldRules { allow, request, response };
        (rules != FieldRules::default()).then_some(rules)
    }

    fn allowed(&mut self, raw: &RawForward, node: &Node<'_>, named: &mut Vec<Named>) -> Vec<HeaderName> {
        let mut names = Vec::with_capacity(raw.allow_headers.len());
        for (i, name) in raw.allow_headers.iter().enumerate() {
            let place = node.place_of_item(&["forward", "allow_headers"], i);
            match allowable(name) {
                Ok(header) if names.contains(&header) => {
                    let fault = Fault::new(place, format!("`{name}` twice"));
                    self.faults.error(fault.key("allow_headers"));
                }
                Ok(header) => {
                    named.push((place, header.clone()));
                    names.push(header);
                }
                Err((message, hint)) => {
                    let fault = Fault::new(place, format!("`{name}` cannot be let through: {message}"));
                    self.faults.error(fault.key("allow_headers").hint(hint));
                }
            }
        }
        names
    }

    fn changes(
        &mut self,
        key: &str,
        raw: &RawFieldChanges,
        node: &Node<'_>,
        check: fn(&str) -> Result<HeaderName, Trouble>,
        mut named: Option<&mut Vec<Named>>,
    ) -> FieldChanges {
        let mut changes = FieldChanges::default();
        let set = raw.set.iter().map(|(name, value)| {
            let place = node.place_of_key(&["forward", key, "set", name]);
            (name, place, Some((value, node.place_of(&["forward", key, "set", name]))))
        });
        let removed = raw
            .remove
            .iter()
            .enumerate()
            .map(|(i, name)| (name, node.place_of_item(&["forward", key, "remove"], i), None));
        for (name, place, value) in set.chain(removed) {
            let header = match check(name) {
                Ok(header) => header,
                Err((message, hint)) => {
                    let verb = if value.is_some() { "set" } else { "removed" };
                    let fault = Fault::new(place, format!("`{name}` cannot be {verb}: {message}"));
                    self.faults.error(fault.key(name.as_str()).hint(hint));
                    continue;
                }
            };
            if changes.remove.contains(&header) {
                let message = format!("`{name}` twice; what is set replaces what was sent");
                self.faults.error(Fault::new(place, message).key(name.as_str()));
                continue;
            }
            if let Some(named) = &mut named {
                named.push((place, header.clone()));
            }
            if let Some((value, place)) = value {
                match field_value(value) {
                    Ok(value) => changes.set.push((header.clone(), value)),
                    Err(message) => self.faults.error(Fault::new(place, message).key(name.as_str())),
                }
            }
            match named {
                Some(_) => changes.remove.extend(spellings(&header)),
                None => changes.remove.push(header),
            }
        }
        changes
    }

    /// Refuses names that some server reads as an identity header of any route, the `token_header` of an issuer or the field of
    /// an upstream's credential.
    pub(super) fn check_named(
        &mut self,
        named: &[Named],
        reserved: &[HeaderName],
        credentials: &[Option<Credential>],
    ) {
        let credentials = credentials.iter().flatten().map(|(_, credential)| &credential.name);
        let taken: HashSet<String> =
            reserved.iter().chain(credentials).map(|name| as_read_by_cgi(name.as_str())).collect();
        for (place, name) in named {
            let read = as_read_by_cgi(name.as_str());
            if taken.contains(&read) {
                let message = format!("`{name}` is `{read}` to some servers, which only the gateway sets");
                let fault = Fault::new(*place, message).key(name.as_str());
                self.faults.error(
                    fault.hint("it is an identity header, a `token_header` or the field of a credential"),
                );
            }
        }
    }
}

/// A name that `allow_headers` may list.
fn allowable(name: &str) -> Result<HeaderName, Trouble> {
    let header = parse(name)?;
    if !is_odd(header.as_str()) {
        let message = match is_gateway_only(header.as_str()) || is_hop_by_hop(header.as_str()) {
            true => "only the gateway may say it",
            false => "fields whose names are letters, digits and `-` need no permission",
        };
        return Err((message.to_owned(), "list names with other characters alone, such as `X_FOO`"));
    }
    let read = as_read_by_cgi(header.as_str());
    if is_gateway_only(&read) || is_hop_by_hop(&read) || header_name(&read).is_err() {
        let message = format!("some servers read it as `{read}`");
        return Err((message, "have the client send the field under another name"));
    }
    Ok(header)
}

/// A name that may be set in requests, or removed from them.
pub(super) fn writable(name: &str) -> Result<HeaderName, Trouble> {
    const OWN: [HeaderName; 4] = [header::HOST, header::CONTENT_LENGTH, header::VIA, header::MAX_FORWARDS];
    let name = parse(name)?;
    let read = as_read_by_cgi(name.as_str());
    if read == header::AUTHORIZATION.as_str() {
        let message = "it carries the caller's credential".to_owned();
        return Err((message, "a credential of the gateway's own is `credential` of the upstream"));
    }
    let own = OWN.iter().any(|own| own.as_str() == read) || read.starts_with("sec-websocket-");
    if own || is_gateway_only(&read) || is_hop_by_hop(&read) {
        let message = "it frames or routes the request, belongs to one hop, or only the gateway may say it";
        return Err((message.to_owned(), "leave it to the gateway"));
    }
    Ok(name)
}

/// A name that may be set in responses, or removed from them.
fn answerable(name: &str) -> Result<HeaderName, Trouble> {
    let name = parse(name)?;
    let text = name.as_str();
    if name == header::STRICT_TRANSPORT_SECURITY {
        return Err(("it is a promise of the whole host".to_owned(), "set `hosts.*.hsts`"));
    }
    if text.starts_with("access-control-") {
        return Err((
            "it opens the response to scripts of other origins".to_owned(),
            "use `cors` of the route",
        ));
    }
    let own = name == header::CONTENT_LENGTH || text == "x-request-id" || text.starts_with("sec-websocket-");
    if own || is_hop_by_hop(text) {
        let message = "it frames the response, belongs to one hop, or only the gateway may say it";
        return Err((message.to_owned(), "leave it to the gateway"));
    }
    Ok(name)
}

fn parse(name: &str) -> Result<HeaderName, Trouble> {
    name.parse().map_err(|_| {
        ("not the name of a header field".to_owned(), "write names such as `X_FOO`, without the colon")
    })
}

/// A name in each spelling that may go on from a client and that some server reads as this one.
pub(super) fn spellings(name: &HeaderName) -> Vec<HeaderName> {
    let read = as_read_by_cgi(name.as_str()).parse::<HeaderName>();
    std::iter::once(name.clone()).chain(read.ok().filter(|read| read != name)).collect()
}

fn field_value(value: &str) -> Result<HeaderValue, String> {
    if value.len() > LONGEST_VALUE {
        return Err(format!("the value is longer than {LONGEST_VALUE} bytes"));
    }
    if value.trim() != value || value.contains(char::is_control) {
        return Err("the value holds white space at an end, or control characters".to_owned());
    }
    let ascii = Some(value).filter(|value| value.is_ascii());
    ascii
        .and_then(|value| HeaderValue::from_str(value).ok())
        .ok_or_else(|| "the value holds other than ASCII characters".to_owned())
}
