//! `gateway.listen`: public listeners.

use super::Parser;
use crate::config::diagnostic::Fault;
use crate::config::raw::{RawGateway, RawListener, RawRedirect};
use crate::config::read::Node;
use crate::snapshot::{CertifiedFiles, Listener, TlsPolicy};

impl Parser<'_, '_> {
    pub(super) fn listeners(&mut self, raw: &[RawListener], node: &Node<'_>) -> Vec<Listener> {
        if raw.is_empty() {
            let fault = Fault::new(node.place_of(&["listen"]), "no listener").key("listen");
            self.faults.error(fault.hint("write `- http: 127.0.0.1:8080`"));
        }
        let mut listeners = Vec::new();
        for (i, listener) in raw.iter().enumerate() {
            let item = node.get("listen").and_then(|list| list.items()?.get(i)).unwrap_or(node);
            let parsed = self.listener(listener, item);
            listeners.extend(parsed);
        }
        listeners
    }

    fn listener(&mut self, raw: &RawListener, node: &Node<'_>) -> Option<Listener> {
        match (raw.http, raw.https) {
            (Some(address), None) => {
                for key in ["certificates", "client_ca"] {
                    if node.get(key).is_some() {
                        let message = format!("`{key}` on a plain http listener");
                        let fault = Fault::new(node.place_of_key(&[key]), message).key(key);
                        self.faults.error(fault.hint("write `https:` instead of `http:`"));
                    }
                }
                let redirect = matches!(raw.redirect, Some(RawRedirect::Https));
                Some(Listener { address, tls: None, redirect, proxy_protocol: raw.proxy_protocol })
            }
            (None, Some(address)) => {
                if raw.redirect.is_some() {
                    let place = node.place_of_key(&["redirect"]);
                    let fault = Fault::new(place, "`redirect` on an https listener").key("redirect");
                    self.faults.error(fault.hint("what came over https has nowhere better to go"));
                }
                let tls = Some(self.tls(raw, node)?);
                Some(Listener { address, tls, redirect: false, proxy_protocol: raw.proxy_protocol })
            }
            (Some(_), Some(_)) | (None, None) => {
                let fault = Fault::new(node.place, "a listener is either `http` or `https`");
                self.faults.error(fault.hint("write two listeners for both"));
                None
            }
        }
    }

    fn tls(&mut self, raw: &RawListener, node: &Node<'_>) -> Option<TlsPolicy> {
        let pairs = raw.certificates.as_deref().unwrap_or_default();
        if pairs.is_empty() {
            let place = node.place_of(&["certificates"]);
            let fault = Fault::new(place, "an https listener without certificate").key("certificates");
            self.faults.error(fault.hint("write `certificates: [{ cert: …, key: … }]`"));
        }
        let mut certificates = Vec::new();
        for (i, pair) in pairs.iter().enumerate() {
            let item = node.get("certificates").and_then(|list| list.items()?.get(i)).unwrap_or(node);
            let (cert_at, key_at) = (item.place_of(&["cert"]), item.place_of(&["key"]));
            let cert = self.read(&pair.cert, cert_at);
            let key = self.read(&pair.key, key_at);
            let (Some((cert_path, cert)), Some((_, key))) = (cert, key) else {
                continue;
            };
            self.check_pair(&cert, &key, cert_at, "cert");
            certificates.push(CertifiedFiles { cert_path, cert, key });
        }
        let client_ca = match &raw.client_ca {
            None => None,
            Some(file) => Some(self.authorities(file, node.place_of(&["client_ca"]), "client_ca")?),
        };
        (!certificates.is_empty()).then_some(TlsPolicy { certificates, client_ca })
    }

    /// A PROXY header is the word of whoever connects, so it must be said whose word counts.
    pub(super) fn check_proxy_protocol(&mut self, raw: &RawGateway, node: &Node<'_>) {
        if !raw.trusted_proxies.is_empty() {
            return;
        }
        for (i, _) in raw.listen.iter().enumerate().filter(|(_, listener)| listener.proxy_protocol) {
            let place = node.place_of_item(&["listen"], i);
            let fault = Fault::new(place, "`proxy_protocol` without `trusted_proxies`: nobody could connect");
            self.faults.error(
                fault
                    .key("proxy_protocol")
                    .hint("write the load balancer's network: `trusted_proxies: [10.0.0.0/8]`"),
            );
        }
    }
}
