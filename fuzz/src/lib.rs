//! What the targets share: one policy with its keys and genuine tokens, how lax servers read a path, and strict readers
//! of what the gateway reads and writes. The readers are written apart from the gateway's own code, so that a fault in it is not
//! in them too.

pub mod http2;
pub mod paths;
pub mod wire;
pub mod world;
