//! What surrounds a request on its way to an upstream.

use std::cell::Cell;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::headers::{self, Client, TrailerNames};
use super::pool::{Pool, Terms};
use crate::snapshot::{Route, Snapshot};
use crate::types::Timestamp;

/// The surroundings of a request that forwarding needs beside the permit.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The policy that permitted.
    pub snapshot: &'a Snapshot,
    /// The route that was permitted.
    pub route: &'a Route,
    /// This worker's connections to the route's upstream.
    pub pool: &'a Pool,
    /// The client.
    pub client: &'a Client,
    /// The address of the peer of the connection.
    pub peer: &'a str,
    /// Whether the request came over TLS.
    pub secure: bool,
    /// The id of the request.
    pub request_id: &'a HeaderValue,
    /// When the request was permitted.
    pub now: Instant,
    /// Until when a new request with the caller's token would be accepted; `None` on public routes.
    pub expires: Option<Timestamp>,
    /// Set to the number of fields that were removed for their names.
    pub removed_fields: &'a Cell<u64>,
}

impl Way<'_> {
    /// How connections to the upstream are made and kept.
    pub(super) fn terms(&self) -> Terms {
        let gateway = &self.snapshot.gateway;
        Terms {
            connect: gateway.timeouts.upstream_connect,
            keep: gateway.timeouts.upstream_keep_alive,
            header_bytes: gateway.limits.upstream_header_bytes,
        }
    }

    /// The trailer fields of the request that may go on: none that the gateway removes or sets itself.
    pub(super) fn announced_trailers(&self, headers: &HeaderMap) -> TrailerNames {
        let mut names = headers::announced_trailers(headers, &self.snapshot.reserved_headers);
        let rules = self.route.fields.as_ref();
        let credential = self.snapshot.credential(self.route.upstream);
        names.retain(|name| {
            rules.is_none_or(|rules| !rules.request.remove.contains(name))
                && credential.is_none_or(|credential| !credential.remove.contains(name))
        });
        names
    }
}
