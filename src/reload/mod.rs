//! What renews itself while the gateway runs.

pub mod fetch;
pub mod keys;

#[cfg(test)]
pub(crate) mod testing;
