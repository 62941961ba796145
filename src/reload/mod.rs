//! From a change of a file to a new snapshot.

pub mod watch;
