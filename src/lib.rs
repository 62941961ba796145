//! Scopegate: a reverse-proxy API gateway that answers *who is calling* and *what may it do here* before it forwards.
//!
//! The library is there for the binary, its tests and its benchmarks; it promises no stable interface. `README.md` is for those who
//! use the gateway, `ARCHITECTURE.md` tells why it is built this way.
//!
//! # The way of one request
//!
//! 1. **Connection.** A [`server::worker`] accepts it and agrees on TLS and the version of HTTP. [`server`] knows nothing
//!    of policy: it hands each request to its [`server::Handler`], which is [`pipeline::Gateway`].
//! 2. **Policy.** The pipeline takes the [`state::live::Live`] in force: a [`snapshot::Snapshot`] and the cells that outlive
//!    it. The request ends on it, whatever is reloaded meanwhile.
//! 3. **Decision.** [`decide::decide`] is pure: snapshot, head of the request, what is known of the token, and the time
//!    come in; a [`decide::DecisionRecord`] comes out. Its stages:
//!    - [`admit`]: does the head have one meaning?
//!    - [`route`]: [`route::host`], [`route::path`] and [`route::table`] find the route; [`route::rewrite`] makes the target.
//!    - [`authenticate`]: credential, JWT, keys, claims; the result is a [`authenticate::Principal`].
//!    - [`authorize`]: the route's [`authorize::Requirement`] against the principal; the result is a [`authorize::Permit`].
//!
//!    What cannot be decided is an [`authenticate::Need`]. The pipeline waits for the keys and decides once more.
//! 4. **Forwarding.** [`forward::forward`] takes the permit, sets the header fields ([`forward::headers`]) and sends the
//!    request on a connection of this worker ([`forward::pool`]). Bodies stream ([`forward::body`]).
//! 5. **Answer.** The upstream's answer streams back; or [`respond`] turns a [`reject::Reject`] into a problem, a challenge
//!    or a gRPC status.
//! 6. **Record.** When the last part of the answer is gone, the request is counted and logged ([`observe`]).
//!
//! # Beside requests
//!
//! [`config`] compiles `routes.yaml` into a snapshot. [`reload`] watches files, fetches keys and swaps snapshots. [`admin`]
//! shows what is in force. [`cli`] starts all of it.

pub mod admin;
pub mod admit;
pub mod authenticate;
pub mod authorize;
pub mod cli;
pub mod config;
pub mod decide;
pub mod forward;
pub mod limits;
pub mod observe;
pub mod pipeline;
pub mod reject;
pub mod reload;
pub mod respond;
pub mod route;
pub mod server;
pub mod snapshot;
pub mod state;
pub mod types;
