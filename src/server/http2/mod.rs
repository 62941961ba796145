//! What is checked of an HTTP/2 connection before the library sees it, and what the library leaves unchecked.

mod fields;
mod flood;
mod frame;

pub use flood::{Breach, Frames};
