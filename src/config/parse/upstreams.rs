//! The `upstreams` section.

use http::HeaderValue;
use rustls_pki_types::ServerName;

use super::Parser;
use super::fields::Credential;
use crate::config::diagnostic::{Fault, Place};
use crate::config::places::Names;
use crate::config::raw::{RawProtocol, RawUpstream, RawUpstreamTls};
use crate::config::raw_values::OneOrMany;
use crate::config::read::{Node, decode};
use crate::config::url::{Url, has_wrong_brackets};
use crate::snapshot::{CertifiedFiles, Endpoint, HostHeader, UpstreamPolicy, UpstreamProtocol, UpstreamTls};
use crate::types::{KeyPin, NotAPin, UpstreamName};

impl Parser<'_, '_> {
    /// Compiles the section.
    pub(super) fn upstreams(
        &mut self,
        node: Option<&Node<'_>>,
    ) -> (Vec<UpstreamPolicy>, Vec<Option<Credential>>, Names) {
        let (mut list, mut credentials) = (Vec::new(), Vec::new());
        let mut names = Names::default();
        for (key, item) in self.entries(node, "upstreams") {
            self.check_name(&key.text, key.place, "upstream");
            let position = self.upstream(&key.text, item).map(|(policy, credential)| {
                list.push(policy);
                credentials.push(credential);
                list.len() - 1
            });
            names.insert(&key.text, position, key.place);
        }
        (list, credentials, names)
    }

    fn upstream(&mut self, name: &str, node: &Node<'_>) -> Option<(UpstreamPolicy, Option<Credential>)> {
        let raw: RawUpstream = decode(node, self.faults)?;
        let written: Vec<(&str, Place)> = match (&raw.url, &raw.endpoints) {
            (Some(url), None) => vec![(url, node.place_of(&["url"]))],
            (None, Some(urls)) if !urls.is_empty() => {
                let place = |i| node.place_of_item(&["endpoints"], i);
                urls.iter().enumerate().map(|(i, url)| (url.as_str(), place(i))).collect()
            }
            (None, Some(_)) => {
                self.faults.error(Fault::new(node.place_of(&["endpoints"]), "no endpoint").key("endpoints"));
                return None;
            }
            (Some(_), Some(_)) | (None, None) => {
                let fault =
                    Fault::new(node.place, format!("upstream `{name}` needs either `url` or `endpoints`"));
                self.faults.error(fault.key("url"));
                return None;
            }
        };
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (url, place) in written {
            let endpoint = self.endpoint(url, place, raw.protocol);
            if endpoint.as_ref().is_some_and(|endpoint| endpoints.contains(endpoint)) {
                self.faults.error(Fault::new(place, "the same endpoint twice").key("endpoints"));
            }
            endpoints.extend(endpoint);
        }
        if raw.tls.is_some() && !endpoints.iter().any(|endpoint| endpoint.secure) {
            let message = "`tls` has no effect: no address begins with `https://`";
            self.faults.error(Fault::new(node.place_of_key(&["tls"]), message).key("tls"));
        }
        let credential = match &raw.credential {
            None => None,
            Some(credential) => Some(self.upstream_credential(credential, node, &endpoints)?),
        };
        let policy = UpstreamPolicy {
            name: UpstreamName::new(name),
            endpoints,
            protocol: match raw.protocol {
                RawProtocol::Http1 => UpstreamProtocol::Http1,
                RawProtocol::H2 => UpstreamProtocol::H2,
                RawProtocol::H2c => UpstreamProtocol::H2c,
            },
            host: self.host_header(raw.host.as_deref(), node),
            tls: self.upstream_tls(raw.tls.as_ref(), node)?,
        };
        Some((policy, credential))
    }

    fn endpoint(&mut self, text: &str, place: Place, protocol: RawProtocol) -> Option<Endpoint> {
        let url = Url::parse(text).map_err(|message| Fault::new(place, message).key("url"));
        let url = self.faults.take(url)?;
        if !url.is_origin() {
            let fault = Fault::new(place, "an upstream's URL is scheme, host and port only").key("url");
            self.faults.error(fault.hint("put the path into `forward.add_prefix` of its routes"));
        }
        match protocol {
            RawProtocol::H2 if !url.secure => {
                let fault = Fault::new(place, "`protocol: h2` needs an `https://` address").key("protocol");
                self.faults.error(fault.hint("HTTP/2 in plain text is `h2c`"));
            }
            RawProtocol::H2c if url.secure => {
                let fault = Fault::new(place, "`protocol: h2c` needs an `http://` address").key("protocol");
                self.faults.error(fault.hint("HTTP/2 over TLS is `h2`"));
            }
            RawProtocol::Http1 | RawProtocol::H2 | RawProtocol::H2c => {}
        }
        Some(Endpoint { secure: url.secure, host: url.host, port: url.port })
    }

    fn host_header(&mut self, host: Option<&str>, node: &Node<'_>) -> HostHeader {
        let Some(host) = host.filter(|host| *host != "preserve") else {
            return HostHeader::Preserve;
        };
        let legal =
            host.parse::<http::uri::Authority>().is_ok_and(|authority| !authority.as_str().contains('@'))
                && !has_wrong_brackets(host);
        match HeaderValue::from_str(host) {
            Ok(value) if legal => HostHeader::Literal(value),
            Ok(_) | Err(_) => {
                let fault = Fault::new(node.place_of(&["host"]), "not a host").key("host");
                self.faults.error(fault.hint("write `preserve` or a name such as `orders.internal`"));
                HostHeader::Preserve
            }
        }
    }

    fn upstream_tls(&mut self, raw: Option<&RawUpstreamTls>, node: &Node<'_>) -> Option<UpstreamTls> {
        let Some(raw) = raw else {
            return Some(UpstreamTls::default());
        };
        let ca = match &raw.ca {
            None => None,
            Some(file) => Some(self.authorities(file, node.place_of(&["tls", "ca"]), "ca")?),
        };
        let client = match (&raw.client_cert, &raw.client_key) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                let place = node.place_of(&["tls", "client_cert"]);
                let (cert_path, cert) = self.read(cert, place)?;
                let (_, key) = self.read(key, node.place_of(&["tls", "client_key"]))?;
                self.check_pair(&cert, &key, place, "client_cert");
                Some(CertifiedFiles { cert_path, cert, key })
            }
            (Some(_), None) | (None, Some(_)) => {
                let message = "`client_cert` and `client_key` belong together";
                self.faults.error(Fault::new(node.place_of(&["tls"]), message).key("tls"));
                None
            }
        };
        let server_name = raw.server_name.as_deref().and_then(|name| self.server_name(name, node));
        let pins = raw.pin.as_ref().map_or_else(Vec::new, |pins| self.pins(pins, node));
        Some(UpstreamTls { ca, client, server_name, pins })
    }

    fn server_name(&mut self, name: &str, node: &Node<'_>) -> Option<ServerName<'static>> {
        let parsed = ServerName::try_from(name.to_owned()).map_err(|_| {
            let place = node.place_of(&["tls", "server_name"]);
            let fault = Fault::new(place, format!("`{name}` is not a DNS name or an IP address"));
            fault
                .key("server_name")
                .hint("write the name alone, without scheme, port or wildcard, such as `orders.internal`")
        });
        self.faults.take(parsed)
    }

    fn pins(&mut self, raw: &OneOrMany, node: &Node<'_>) -> Vec<KeyPin> {
        const HINT: &str = "`openssl x509 -in server.crt -noout -pubkey | openssl pkey -pubin -outform der | \
                            openssl dgst -sha256 -binary | base64` prints what follows `sha256/`";
        let mut pins = Vec::new();
        for (i, text) in raw.values.iter().enumerate() {
            let place = node.place_of_item(&["tls", "pin"], i);
            match text.parse() {
                Ok(pin) if pins.contains(&pin) => {
                    self.faults.error(Fault::new(place, "the same pin twice").key("pin"));
                }
                Ok(pin) => pins.push(pin),
                Err(NotAPin) => {
                    self.faults.error(Fault::new(place, NotAPin.to_string()).key("pin").hint(HINT))
                }
            }
        }
        if raw.values.is_empty() {
            let fault = Fault::new(node.place_of(&["tls", "pin"]), "no pin: no server could be connected to");
            self.faults.error(fault.key("pin").hint("leave `pin` out to trust by certificate authority"));
        }
        pins
    }
}
