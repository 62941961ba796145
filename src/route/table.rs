//! Finds a route by host, path and method.

use std::borrow::Cow;

use http::Method;
use smallvec::SmallVec;

use super::path::CanonicalPath;
use crate::types::RouteIndex;

/// The compiled table.
#[derive(Debug)]
pub struct RouteTable {}

/// A route with the parameters of its path.
#[derive(Debug)]
pub struct Found<'t, 'p> {
    /// The route.
    pub route: RouteIndex,
    /// Path parameters: name, and value percent-decoded once.
    pub params: SmallVec<[(&'t str, Cow<'p, str>); 4]>,
}

/// Why no route was found.
#[derive(Debug, PartialEq, Eq)]
pub enum NotFound<'a> {
    /// Nothing is published at this host and path.
    Route,
    /// The path does not answer this method; `allow` is the value of the Allow header.
    Method {
        /// Methods it answers, separated by a comma and a space.
        allow: &'a str,
    },
}

impl RouteTable {
    /// Finds the route.
    ///
    /// # Errors
    ///
    /// [`NotFound`].
    pub fn find<'t, 'p>(
        &'t self,
        host: &str,
        path: &'p CanonicalPath<'_>,
        method: &Method,
    ) -> Result<Found<'t, 'p>, NotFound<'t>> {
        let _ = (host, path, method);
        todo!()
    }
}
