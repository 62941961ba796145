//! `credential` of an upstream: what the gateway shows an API that takes no tokens.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};

use super::Parser;
use super::fields::{Credential, spellings, writable};
use crate::config::diagnostic::Fault;
use crate::config::raw::{RawBasic, RawCredential, RawSecretField};
use crate::config::read::Node;
use crate::snapshot::{Endpoint, UpstreamCredential};

impl Parser<'_, '_> {
    /// Reads the credential of an upstream with these endpoints.
    pub(super) fn upstream_credential(
        &mut self,
        raw: &RawCredential,
        node: &Node<'_>,
        endpoints: &[Endpoint],
    ) -> Option<Credential> {
        let place = node.place_of_key(&["credential"]);
        let (name, value) = match (&raw.basic, &raw.header) {
            (Some(basic), None) => (header::AUTHORIZATION, self.basic(basic, node)?),
            (None, Some(field)) => self.secret_field(field, node)?,
            (Some(_), Some(_)) | (None, None) => {
                let fault = Fault::new(place, "a credential is either `basic` or `header`");
                self.faults.error(fault.key("credential"));
                return None;
            }
        };
        let ascii = Some(value).filter(|value| value.is_ascii());
        let mut value = ascii.and_then(|value| HeaderValue::try_from(value).ok()).or_else(|| {
            let fault = Fault::new(place, "the value holds characters that a header field cannot carry");
            self.faults.error(fault.key("credential").hint("printable ASCII characters and spaces"));
            None
        })?;
        value.set_sensitive(true);
        if endpoints.iter().any(|endpoint| !endpoint.secure && !is_loopback(&endpoint.host)) {
            let fault = Fault::new(place, "the credential travels in plain text").key("credential");
            self.faults.warn(fault.hint("use an `https://` address, or a loopback one"));
        }
        Some((place, UpstreamCredential { remove: spellings(&name), name, value }))
    }

    fn basic(&mut self, raw: &RawBasic, node: &Node<'_>) -> Option<String> {
        let keys = ["credential", "basic", "password"];
        let password = self.files.secret_text(&raw.password, node.place_of(&keys));
        let password = self.faults.take(password.map_err(|fault| fault.key("password")))?;
        if raw.user.contains(|c: char| c == ':' || c.is_control()) {
            let place = node.place_of(&["credential", "basic", "user"]);
            let fault = Fault::new(place, "a user holds neither `:` nor control characters (RFC 7617)");
            self.faults.error(fault.key("user"));
            return None;
        }
        let pair = format!("{}:{}", raw.user, password.expose());
        Some(format!("Basic {}", STANDARD.encode(pair)))
    }

    fn secret_field(&mut self, raw: &RawSecretField, node: &Node<'_>) -> Option<(HeaderName, String)> {
        let name = match raw.name.parse::<HeaderName>() {
            Ok(name) if name == header::AUTHORIZATION => Ok(name),
            Ok(_) | Err(_) => writable(&raw.name),
        };
        let name = name.map_err(|(message, hint)| {
            let place = node.place_of(&["credential", "header", "name"]);
            Fault::new(place, format!("`{}` cannot carry a credential: {message}", raw.name))
                .key("name")
                .hint(hint)
        });
        let name = self.faults.take(name);
        let keys = ["credential", "header", "value"];
        let value = self.files.secret_text(&raw.value, node.place_of(&keys));
        let value = self.faults.take(value.map_err(|fault| fault.key("value")))?;
        Some((name?, value.expose().to_owned()))
    }

    /// Refuses credentials in fields that carry an identity or the tokens of an issuer.
    pub(super) fn check_credentials(&mut self, credentials: &[Option<Credential>], reserved: &[HeaderName]) {
        for (place, credential) in credentials.iter().flatten() {
            if let Some(name) = reserved.iter().find(|name| credential.remove.contains(name)) {
                let message = format!("`{name}` is an identity header or the `token_header` of an issuer");
                let fault = Fault::new(*place, message).key("credential");
                self.faults
                    .error(fault.hint("the API could not tell one from the other: rename one of them"));
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
