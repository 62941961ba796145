//! `forward.allow_headers` of a route.
//!
//! Servers that hand fields over as variables (CGI, WSGI, PHP) read every character that is no letter or digit alike, so that
//! `X_User` is `X-User` to them. A name that is let through must therefore not be, in that reading, one that only the gateway
//! may say, or that frames or authenticates the request.

use http::HeaderName;

use super::Parser;
use super::forward::header_name;
use crate::config::diagnostic::{Fault, Place};
use crate::config::raw_routes::RawForward;
use crate::config::read::Node;
use crate::snapshot::FieldRules;
use crate::types::field_names::{as_read_by_cgi, is_gateway_only, is_hop_by_hop, is_odd};

/// A name that a route lets through, and where it is written.
pub(super) type Allowed = (Place, HeaderName);

impl Parser<'_, '_> {
    /// The rules of a route; `None` if it has none. The names that it lets through are also added to `allowed`, to be
    /// compared with those that other routes reserve.
    pub(super) fn field_rules(
        &mut self,
        raw: &RawForward,
        node: &Node<'_>,
        allowed: &mut Vec<Allowed>,
    ) -> Option<FieldRules> {
        let mut rules = FieldRules::default();
        for (i, name) in raw.allow_headers.iter().enumerate() {
            let place = node.place_of_item(&["forward", "allow_headers"], i);
            match allow(name) {
                Ok(header) if rules.allow.contains(&header) => {
                    let fault = Fault::new(place, format!("`{name}` twice"));
                    self.faults.error(fault.key("allow_headers"));
                }
                Ok(header) => {
                    allowed.push((place, header.clone()));
                    rules.allow.push(header);
                }
                Err((message, hint)) => {
                    let fault = Fault::new(place, format!("`{name}` cannot be let through: {message}"));
                    self.faults.error(fault.key("allow_headers").hint(hint));
                }
            }
        }
        (rules != FieldRules::default()).then_some(rules)
    }

    /// Refuses names that some server reads as one of `reserved`: identity headers of any route and `token_header` of any issuer.
    pub(super) fn check_allowed(&mut self, allowed: &[Allowed], reserved: &[HeaderName]) {
        for (place, name) in allowed {
            let read = as_read_by_cgi(name.as_str());
            if reserved.iter().any(|reserved| reserved.as_str() == read) {
                let message = format!(
                    "`{name}` cannot be let through: some servers read it as `{read}`, which only the gateway sets"
                );
                let fault = Fault::new(*place, message).key("allow_headers");
                self.faults.error(fault.hint("remove it, or rename the identity header"));
            }
        }
    }
}

fn allow(name: &str) -> Result<HeaderName, (String, &'static str)> {
    let header: HeaderName = name.parse().map_err(|_| {
        ("not the name of a header field".to_owned(), "list names such as `X_FOO`, without the colon")
    })?;
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
