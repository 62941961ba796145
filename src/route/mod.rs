//! Which route a request belongs to: host, then path, then method. Each step is final.
//!
//! 1. The path is brought to its one canonical form ([`path`]); what is matched is what is sent.
//! 2. The host is looked up exactly, then by the longest wildcard, then among the routes without host ([`host`]).
//! 3. Within that host the most specific path wins ([`table`]); nothing falls back to a less specific host or path.
//! 4. Within that path the method decides; none fits: 405 with `Allow`.
//! 5. What is sent is the route's rewrite of the path that was matched ([`rewrite`]).

pub mod host;
pub mod path;
pub mod rewrite;
pub mod table;
