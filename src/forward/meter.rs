//! What a pool tells of its connections.

use crate::observe::metrics::{ConnectFault, Counted};

/// Counts what happens to the connections of a pool.
pub trait Meter {
    /// A connection was opened. It holds what is returned.
    fn opened(&self) -> Counted;

    /// A connection could not be opened.
    fn failed(&self, fault: ConnectFault);
}
