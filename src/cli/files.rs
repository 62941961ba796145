//! Open files: as many as the system grants, and no promise beyond them.
//!
//! Each client connection and each connection to an upstream is an open file, and so is much else that must go on when
//! clients have taken all they may: issuers' keys, the admin listener, the policy. So what is promised to clients is planned
//! at the start, and a plan that does not fit is an error then, not a fault under load.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::snapshot::Limits;

/// Most client connections, unless more are asked for.
const CONNECTIONS: usize = 50_000;
/// Most requests at a time, unless more are asked for. Each may need a connection to an upstream.
const REQUESTS: usize = 10_000;
/// What is kept for everything beside clients and upstreams: the admin listener (64), keys, policies, logs, runtimes.
const RESERVE: usize = 128;
/// Open files of each worker beside its connections: its runtime, and one listener for each address.
const OF_A_WORKER: usize = 4;
/// Fewer client connections are no gateway.
const LEAST: usize = 16;

/// How many connections and requests there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Client connections.
    pub(super) connections: usize,
    /// Requests at a time.
    pub(super) requests: usize,
}

/// More is asked for than the system grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of open files is {files}, but {needed} are needed: {connections} for clients, {requests} for upstreams, \
     {reserve} for the gateway itself; raise it (`ulimit -n`, `LimitNOFILE=`), or lower `gateway.limits.connections` and \
     `gateway.limits.requests_in_flight`"
)]
pub(super) struct TooFew {
    files: usize,
    needed: usize,
    connections: usize,
    requests: usize,
    reserve: usize,
}

/// Takes as many open files as the system grants, and says how many that are. The soft limit is low by default for programs
/// that use `select`.
pub(super) fn raise() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

/// Plans for so many open files, workers and listening addresses.
///
/// # Errors
///
/// [`TooFew`].
pub(super) fn plan(files: usize, workers: usize, addresses: usize, limits: &Limits) -> Result<Room, TooFew> {
    let reserve = RESERVE + workers * (OF_A_WORKER + addresses);
    let room = files.saturating_sub(reserve);
    let (connections, requests) = match (limits.connections, limits.requests_in_flight) {
        (None, None) => {
            let requests = (room / 2).min(REQUESTS);
            ((room - requests).clamp(LEAST, CONNECTIONS), requests.max(LEAST))
        }
        (None, Some(requests)) => (room.saturating_sub(requests).clamp(LEAST, CONNECTIONS), requests),
        // As many as there are connections would be enough for HTTP/1.1.
        (Some(connections), None) => {
            let least = connections.min(REQUESTS);
            (connections, room.saturating_sub(connections).clamp(least, REQUESTS))
        }
        (Some(connections), Some(requests)) => (connections, requests),
    };
    let needed = connections.saturating_add(requests).saturating_add(reserve);
    if needed > files {
        return Err(TooFew { files, needed, connections, requests, reserve });
    }
    Ok(Room { connections, requests })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(files: usize, connections: Option<usize>, requests: Option<usize>) -> Option<(usize, usize)> {
        let mut limits = Limits::DEFAULT;
        (limits.connections, limits.requests_in_flight) = (connections, requests);
        // 128 + 2 * (4 + 2) for the gateway itself.
        plan(files, 2, 2, &limits).ok().map(|room| (room.connections, room.requests))
    }

    #[test]
    fn what_is_promised_fits_into_the_limit_of_open_files() {
        for (files, connections, requests, expected, message) in [
            (1 << 20, None, None, Some((50_000, 10_000)), "plenty"),
            (usize::MAX, None, None, Some((50_000, 10_000)), "no limit"),
            (1140, None, None, Some((500, 500)), "what there is is shared"),
            (30_140, None, None, Some((20_000, 10_000)), "more clients than requests"),
            (172, None, None, Some((16, 16)), "the least"),
            (171, None, None, None, "too few for anything"),
            (1140, Some(100), None, Some((100, 900)), "the rest is for requests"),
            (1140, Some(500), None, Some((500, 500)), "a request for each connection"),
            (1140, Some(501), None, None, "no room for their requests"),
            (1140, None, Some(100), Some((900, 100)), "the rest is for connections"),
            (1140, None, Some(990), None, "no room for connections"),
            (1140, Some(600), Some(400), Some((600, 400)), "as it is written"),
            (1140, Some(601), Some(400), None, "one too many"),
            (1140, Some(usize::MAX), None, None, "beyond counting"),
        ] {
            assert_eq!(planned(files, connections, requests), expected, "{message}");
        }
    }
}
