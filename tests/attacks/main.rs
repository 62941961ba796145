//! Attacks on the gateway, over raw sockets: every row says what is sent, what must come of it, and where the attack is
//! known from. One file a group.
//!
//! - [`trial`]: how one row is sent and judged.
//! - [`reload`], [`process`]: the configuration while it changes, and the process as a whole.
//! - [`keys`]: key sets and those who serve them.
//! - [`jose`], [`jose_bytes`], [`claims`], [`bearer`]: tokens, what they say, and how they are presented.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod trial;

mod bearer;
mod claims;
mod jose;
mod jose_bytes;
mod keys;
mod process;
mod reload;
