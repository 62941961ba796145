//! Attacks that must fail. Every row says what is sent, what must come of it, and where the attack is known from; one file
//! a class.
//!
//! - [`harness`], [`normalise`]: how rows of bytes are sent, whole and in pieces, and who judges them.
//! - [`framing`], [`target`], [`paths`], [`default_deny`], [`headers`], [`upgrade`], [`websocket`]: requests of HTTP/1,
//!   and what they become.
//! - [`http2`], [`http2_floods`], [`http2_credit`]: frames of HTTP/2.
//! - [`tls`]: what comes before a request.
//! - [`trial`]: how rows of tokens are sent and judged.
//! - [`jose`], [`jose_bytes`], [`claims`], [`bearer`]: tokens, what they say, and how they are presented.
//! - [`keys`], [`issuer_tls`]: key sets and those who serve them, and the TLS in front of these.
//! - [`clock`]: a wall clock that is stepped.
//! - [`reload`], [`process`]: the configuration while it changes, and the process as a whole.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod harness;
mod normalise;
mod trial;

mod bearer;
mod claims;
mod clock;
mod default_deny;
mod framing;
mod headers;
mod http2;
mod http2_credit;
mod http2_floods;
mod issuer_tls;
mod jose;
mod jose_bytes;
mod keys;
mod paths;
mod process;
mod reload;
mod target;
mod tls;
mod upgrade;
mod websocket;
