//! Attacks that must fail, a file for each class: each row has an id, bytes, an outcome and a source.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod http2;
mod http2_floods;
