//! Where tokens are read from: `token_header` of an issuer, `token_subprotocol` of a route.

use http::{HeaderName, header};

use super::forward::header_name;
use super::{Declared, Parser};
use crate::authenticate::TokenPlaces;
use crate::authenticate::subprotocol::is_token;
use crate::authorize::Requirement;
use crate::config::diagnostic::Fault;
use crate::config::raw_values::{RawTokenSubprotocol, RawWebSocket};
use crate::config::read::Node;
use crate::snapshot::IdentityField;
use crate::types::field_names::{is_gateway_only, is_hop_by_hop, is_odd};

impl Parser<'_, '_> {
    /// The field that an issuer's tokens are read from, where it is not `Authorization`.
    pub(super) fn token_header(&mut self, name: Option<&str>, node: &Node<'_>) -> Option<HeaderName> {
        let name = name?;
        let place = node.place_of(&["token_header"]);
        let (message, hint) = match check(name) {
            Ok(header) => return Some(header),
            Err(trouble) => trouble,
        };
        let message = format!("tokens cannot come in `{name}`: {message}");
        self.faults.error(Fault::new(place, message).key("token_header").hint(hint));
        None
    }

    /// Refuses an identity header that is also the field of an issuer's tokens: the API could not tell which of them it gets.
    pub(super) fn check_token_headers(
        &mut self,
        headers: &[(HeaderName, IdentityField)],
        node: &Node<'_>,
        declared: &Declared<'_>,
    ) {
        if declared.token_headers.is_empty() {
            return;
        }
        for (name, _) in headers {
            let Some(issuer) = declared.token_headers.get(name) else { continue };
            let place = node.place_of_key(&["forward", "identity_headers"]);
            let message = format!("`{name}` is the field that tokens of issuer `{issuer}` come in");
            let fault = Fault::new(place, message).key("identity_headers");
            self.faults.error(fault.hint("choose another name for the identity header"));
        }
    }

    /// Where a route reads tokens from; `None` is `Authorization` alone. A public route, without `requirement`, reads none.
    pub(super) fn token_places(
        &mut self,
        requirement: Option<&Requirement>,
        websocket: &RawWebSocket,
        node: &Node<'_>,
        declared: &Declared<'_>,
    ) -> Option<TokenPlaces> {
        let accepted = requirement.into_iter().flat_map(|requirement| &requirement.issuers);
        let accepted = accepted.filter_map(|index| declared.issuers.get(index.get()));
        let RawWebSocket::With(RawTokenSubprotocol { token_subprotocol: name }) = websocket else {
            return TokenPlaces::of(accepted, None);
        };
        let places = TokenPlaces::of(accepted, Some(name));
        let trouble = if requirement.is_none() {
            Some(("a public route reads no token", "write `websocket: true`"))
        } else if places.as_ref().is_some_and(|places| !places.authorization) {
            let message =
                "each issuer of this route has a `token_header`, and its tokens are read nowhere else";
            Some((message, "write `websocket: true`"))
        } else if name.len() > LONGEST_SUBPROTOCOL || !is_token(name) {
            Some((
                "not the name of a subprotocol",
                "1 to 64 letters, digits or other characters of a token, such as `bearer`",
            ))
        } else {
            None
        };
        if let Some((message, hint)) = trouble {
            let place = node.place_of(&["forward", "websocket", "token_subprotocol"]);
            self.faults.error(Fault::new(place, message).key("token_subprotocol").hint(hint));
        }
        places
    }
}

/// Longest name of a subprotocol, in bytes.
const LONGEST_SUBPROTOCOL: usize = 64;

/// The name, or what is wrong with it and the cure.
fn check(name: &str) -> Result<HeaderName, (&'static str, &'static str)> {
    const OTHER: &str = "name the field that the proxy in front sets, such as `Cf-Access-Jwt-Assertion`";
    let parsed = name.parse::<HeaderName>();
    if parsed.as_ref().is_ok_and(|name| *name == header::AUTHORIZATION) {
        return Err(("that is where tokens are read from anyway", "leave `token_header` out"));
    }
    let header = header_name(name).map_err(|message| (message, OTHER))?;
    let text = header.as_str();
    if is_hop_by_hop(text) || is_gateway_only(text) {
        return Err(("it says something about the connection, the client or the request", OTHER));
    }
    if is_odd(text) {
        return Err(("only letters, digits and `-` are read alike by all servers", OTHER));
    }
    Ok(header)
}
