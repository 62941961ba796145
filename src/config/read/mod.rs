//! From text to a tree of located nodes, and from nodes to Rust values.
//!
//! serde_yaml's own deserializer stops at its first error, lets a duplicate key win silently and knows the place of an
//! error only roughly. So the text is read once into a tree in which every key and value has its place ([`yaml`]), and
//! serde takes its values from that tree ([`de`]); serde_yaml decides what type a plain scalar has, nothing else.

mod de;
mod env;
mod node;
mod yaml;

pub(super) use de::{Error, decode};
pub(super) use env::Lookup;
pub(super) use node::{Key, Map, Node};
pub(super) use yaml::{MAX_BYTES, MAX_NODES, SMALLER, ends_with_marker, read, text};
