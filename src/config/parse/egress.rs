//! `gateway.egress_proxy`: the way to issuers.

use std::sync::Arc;

use super::Parser;
use crate::config::diagnostic::Fault;
use crate::config::raw::RawEgressProxy;
use crate::config::read::Node;
use crate::config::url::Url;
use crate::route::host::HostPattern;
use crate::snapshot::EgressProxy;

const KEY: &str = "egress_proxy";

impl Parser<'_, '_> {
    /// Compiles the section.
    pub(super) fn egress_proxy(&mut self, raw: &RawEgressProxy, node: &Node<'_>) -> Option<Arc<EgressProxy>> {
        let place = node.place_of(&[KEY, "url"]);
        let url = Url::parse(&raw.url).map_err(|message| Fault::new(place, message).key("url"));
        let url = self.faults.take(url)?;
        if url.secure || !url.is_origin() {
            let fault = Fault::new(place, "the egress proxy is `http://`, a host and a port").key("url");
            self.faults.error(fault.hint("what is fetched is TLS from end to end, also through the proxy"));
        }
        let credentials = match &raw.credentials {
            None => None,
            Some(secret) => {
                let place = node.place_of(&[KEY, "credentials"]);
                let secret = self.files.secret(secret, place).map_err(|fault| fault.key("credentials"));
                let secret = self.faults.take(secret)?;
                if !secret.expose().contains(':') {
                    let fault = Fault::new(place, "the credentials are not `user:password`");
                    self.faults.error(fault.key("credentials"));
                }
                Some(secret)
            }
        };
        let mut no_proxy = Vec::with_capacity(raw.no_proxy.len());
        for (i, name) in raw.no_proxy.iter().enumerate() {
            match HostPattern::parse(name) {
                Ok(pattern @ (HostPattern::Exact(_) | HostPattern::Below(_))) => no_proxy.push(pattern),
                Ok(HostPattern::Any) | Err(_) => {
                    let place = node.place_of_item(&[KEY, "no_proxy"], i);
                    let fault =
                        Fault::new(place, format!("`{name}` is not the name of a host")).key("no_proxy");
                    self.faults.error(fault.hint("write `idp.internal` or `*.internal`"));
                }
            }
        }
        Some(Arc::new(EgressProxy { host: url.host, port: url.port, credentials, no_proxy }))
    }
}
