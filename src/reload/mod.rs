//! From the outside world to a new state: files to policies, issuers to keys.

pub mod fetch;
pub mod keys;
pub mod policy;
pub mod watch;

#[cfg(test)]
pub(crate) mod testing;
