//! The `gateway` section.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Parser;
use crate::config::diagnostic::{Fault, Place};
use crate::config::pem;
use crate::config::raw::{RawAdmin, RawGateway, RawLimits, RawReady, RawTimeouts};
use crate::config::raw_access_log::{RawAccessLog, RawAccessLogFile};
use crate::config::raw_values::{AutoOr, RawDuration, RawSize};
use crate::config::read::{Node, decode};
use crate::route::host::HostPattern;
use crate::snapshot::{AccessLogTarget, Admin, Gateway, Limits, Listener, Readiness, Timeouts};

/// Beyond this a count is as good as none.
const COUNT_MOST: usize = 1_000_000_000;

/// Most workers: more than cores are no use, and each has its own listeners and connections.
const MOST_WORKERS: usize = 1024;

impl Parser<'_, '_> {
    /// Compiles the section. What is wrong in one part does not hide what is wrong in another; a section that cannot be
    /// read at all is an error and stands as one without listeners, so that the other sections are checked too.
    pub(super) fn gateway(&mut self, node: &Node<'_>) -> Gateway {
        match decode::<RawGateway>(node, self.faults) {
            Some(raw) => {
                let listen = self.listeners(&raw.listen, node);
                self.gateway_with(listen, &raw, node)
            }
            None => self.gateway_with(Vec::new(), &RawGateway::default(), node),
        }
    }

    fn gateway_with(&mut self, listen: Vec<Listener>, raw: &RawGateway, node: &Node<'_>) -> Gateway {
        let admin = raw.admin.as_ref().and_then(|admin| self.admin(admin, node));
        let mut taken: HashSet<SocketAddr> = HashSet::new();
        let addresses = listen.iter().map(|l| l.address).chain(admin.iter().map(|a| a.address));
        for (i, address) in addresses.enumerate() {
            // Port 0 asks for any free port, each time another.
            if address.port() != 0 && !taken.insert(address) {
                let place = if i < listen.len() {
                    node.place_of_item(&["listen"], i)
                } else {
                    node.place_of(&["admin", "address"])
                };
                self.faults.error(Fault::new(place, format!("two listeners at {address}")));
            }
        }
        let mut trusted_proxies: Vec<ipnet::IpNet> = Vec::new();
        for (i, network) in raw.trusted_proxies.iter().enumerate() {
            let place = node.place_of_item(&["trusted_proxies"], i);
            let parsed =
                network.parse().or_else(|_| network.parse::<std::net::IpAddr>().map(ipnet::IpNet::from));
            match parsed {
                Ok(network) => trusted_proxies.push(network),
                Err(_) => self.faults.error(
                    Fault::new(place, format!("`{network}` is not a network"))
                        .key("trusted_proxies")
                        .hint("write CIDR: `10.0.0.0/8` or `fd00::/8`"),
                ),
            }
        }
        self.check_proxy_protocol(raw, node);
        let workers = match raw.workers {
            Some(AutoOr::Number(n)) if n > MOST_WORKERS => {
                let message = format!("more than {MOST_WORKERS} workers");
                self.faults.error(Fault::new(node.place_of(&["workers"]), message).key("workers"));
                None
            }
            Some(AutoOr::Number(n)) => Some(n),
            Some(AutoOr::Auto) | None => None,
        };
        Gateway {
            listen,
            admin,
            trusted_proxies: trusted_proxies.into_iter().collect(),
            egress_proxy: raw.egress_proxy.as_ref().and_then(|proxy| self.egress_proxy(proxy, node)),
            workers,
            token_cache_bytes: raw.token_cache.as_ref().map_or(64 << 20, |cache| cache.bytes.0),
            limits: self.limits(&raw.limits, node),
            timeouts: self.timeouts(&raw.timeouts, node),
            access_log: match &raw.access_log {
                RawAccessLog::Stdout => AccessLogTarget::Stdout,
                RawAccessLog::Off => AccessLogTarget::Off,
                RawAccessLog::File(RawAccessLogFile { file }) => {
                    if file.is_empty() {
                        let place = node.place_of(&["access_log", "file"]);
                        self.faults.error(Fault::new(place, "an empty file name").key("file"));
                    }
                    AccessLogTarget::File(self.files.path(file))
                }
            },
            ready: match raw.ready {
                RawReady::Any => Readiness::Any,
                RawReady::All => Readiness::All,
            },
        }
    }

    /// Reads a file of authorities.
    pub(super) fn authorities(
        &mut self,
        file: &str,
        place: Place,
        key: &str,
    ) -> Option<std::sync::Arc<[u8]>> {
        let (_, content) = self.read(file, place)?;
        if let Err(message) = pem::check_authorities(&content) {
            self.faults.error(Fault::new(place, message).key(key));
        }
        Some(content)
    }

    /// Checks that a certificate and a key belong together, and warns of one that has expired: to refuse it would also
    /// refuse every other change until someone renews it.
    pub(super) fn check_pair(&mut self, cert: &[u8], secret: &[u8], place: Place, key: &str) {
        match pem::check_pair(cert, secret) {
            Err(message) => self.faults.error(Fault::new(place, message).key(key)),
            Ok(Some(until)) if until < self.now => {
                let fault = Fault::new(place, "the certificate has expired").key(key);
                self.faults.warn(fault.hint("clients will refuse it: renew it"));
            }
            Ok(_) => {}
        }
    }

    fn admin(&mut self, raw: &RawAdmin, node: &Node<'_>) -> Option<Admin> {
        let token = match &raw.token {
            None => None,
            Some(secret) => {
                let place = node.place_of(&["admin", "token"]);
                let secret = self.files.secret(secret, place).map_err(|fault| fault.key("token"));
                Some(self.faults.take(secret)?)
            }
        };
        if token.is_none() && !raw.address.ip().is_loopback() {
            let place = node.place_of(&["admin", "address"]);
            let message =
                "the admin listener is not on loopback and has no token: it answers metrics and health only";
            self.faults.warn(Fault::new(place, message).key("admin"));
        }
        let mut hosts = Vec::with_capacity(raw.hosts.len());
        for (i, name) in raw.hosts.iter().enumerate() {
            match HostPattern::parse(name) {
                Ok(HostPattern::Exact(host)) => hosts.push(host),
                Ok(HostPattern::Any | HostPattern::Below(_)) | Err(_) => {
                    let place = node.place_of_item(&["admin", "hosts"], i);
                    let fault = Fault::new(place, format!("`{name}` is not the name of a host")).key("hosts");
                    self.faults.error(fault.hint("a wildcard would let any web page's name in"));
                }
            }
        }
        Some(Admin { address: raw.address, token, hosts })
    }

    fn limits(&mut self, raw: &RawLimits, node: &Node<'_>) -> Limits {
        let mut bounded = |key: &str, value: Option<usize>, default: usize, least: usize, most: usize| {
            let Some(value) = value else { return default };
            if value < least || value > most {
                let message = format!("`{key}` must be between {least} and {most}");
                let place = node.place_of(&["limits", key]);
                self.faults.error(Fault::new(place, message).key(key));
            }
            value
        };
        let bytes = |size: Option<RawSize>| size.map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let number = |number: Option<AutoOr>| match number {
            Some(AutoOr::Number(n)) => Some(n),
            Some(AutoOr::Auto) | None => None,
        };
        let default = Limits::DEFAULT;
        let of_clients = raw.connections_per_client;
        let (streams, requests) = (default.streams as usize, default.connection_requests as usize);
        let control_frames = default.control_frames as usize;
        Limits {
            // Below 8 KiB ordinary requests fail; what clients may make us hold is bounded above.
            header_bytes: bounded(
                "header_bytes",
                bytes(raw.header_bytes),
                default.header_bytes,
                8 << 10,
                1 << 20,
            ),
            headers: bounded("headers", raw.headers, default.headers, 16, 1000),
            uri: bounded("uri", bytes(raw.uri), default.uri, 256, 65_534),
            token: bounded("token", bytes(raw.token), default.token, 1 << 10, 1 << 20),
            body: raw.body.map_or(default.body, |size| size.0),
            body_rate: raw.body_rate.map_or(default.body_rate, |size| size.0),
            response_rate: raw.response_rate.map_or(default.response_rate, |size| size.0),
            // hyper takes no less.
            buffer: bounded("buffer", bytes(raw.buffer), default.buffer, 8 << 10, 16 << 20),
            streams: count(bounded("streams", raw.streams, streams, 1, 10_000)),
            // Below that, settings, pings and window updates of a quiet client would be a flood.
            control_frames: count(bounded(
                "control_frames",
                raw.control_frames,
                control_frames,
                100,
                COUNT_MOST,
            )),
            connections: number(raw.connections),
            connections_per_client: bounded(
                "connections_per_client",
                of_clients,
                default.connections_per_client,
                1,
                COUNT_MOST,
            ),
            connection_requests: count(bounded(
                "connection_requests",
                raw.connection_requests,
                requests,
                1,
                COUNT_MOST,
            )),
            requests_in_flight: number(raw.requests_in_flight),
            upstream_header_bytes: bounded(
                "upstream_header_bytes",
                bytes(raw.upstream_header_bytes),
                default.upstream_header_bytes,
                8 << 10,
                1 << 20,
            ),
            upstream_headers: bounded(
                "upstream_headers",
                raw.upstream_headers,
                default.upstream_headers,
                16,
                256,
            ),
        }
    }

    fn timeouts(&mut self, raw: &RawTimeouts, node: &Node<'_>) -> Timeouts {
        let mut of = |key: &str, value: Option<RawDuration>, default: Duration| {
            self.duration(value, default, node, &["timeouts", key])
        };
        let default = Timeouts::DEFAULT;
        Timeouts {
            handshake: of("handshake", raw.handshake, default.handshake),
            header: of("header", raw.header, default.header),
            body_idle: of("body_idle", raw.body_idle, default.body_idle),
            body_total: of("body_total", raw.body_total, default.body_total),
            stream_idle: of("stream_idle", raw.stream_idle, default.stream_idle),
            response_stall: of("response_stall", raw.response_stall, default.response_stall),
            upstream_connect: of("upstream_connect", raw.upstream_connect, default.upstream_connect),
            upstream_response: of("upstream_response", raw.upstream_response, default.upstream_response),
            idle: of("idle", raw.idle, default.idle),
            connection_age: of("connection_age", raw.connection_age, default.connection_age),
            drain: of("drain", raw.drain, default.drain),
            drain_notice: raw.drain_notice.map_or(default.drain_notice, |RawDuration(notice)| notice),
            upstream_idle: of("upstream_idle", raw.upstream_idle, default.upstream_idle),
            // Zero: no connection is used twice.
            upstream_keep_alive: raw
                .upstream_keep_alive
                .map_or(default.upstream_keep_alive, |RawDuration(keep)| keep),
        }
    }

    /// A duration above zero, or its default.
    pub(super) fn duration(
        &mut self,
        value: Option<RawDuration>,
        default: Duration,
        node: &Node<'_>,
        keys: &[&str],
    ) -> Duration {
        match value {
            Some(RawDuration(Duration::ZERO)) => {
                let key = keys.last().copied().unwrap_or_default();
                let fault = Fault::new(node.place_of(keys), format!("`{key}` must be above zero"));
                self.faults.error(fault.key(key));
                default
            }
            Some(RawDuration(value)) => value,
            None => default,
        }
    }
}
