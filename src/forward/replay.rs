//! A request body that is sent to an HTTP/2 upstream again, if the upstream said that it processed nothing of the request
//! (RFC 9113 §8.7).
//!
//! What was taken of the body is kept while it is small. A larger body is sent once: its request is not repeated.

use std::cell::RefCell;
use std::rc::Rc;

use http::Method;

use super::body::ClientBody;
use super::kept::{Attempted, Kept};

/// The body of a request for all attempts.
#[derive(Debug)]
pub(super) enum Replay {
    /// Nothing.
    Empty,
    /// What the client sends.
    Kept(Rc<RefCell<Kept>>),
}

impl Replay {
    /// Keeps what will be taken of a body.
    pub(super) fn new(body: ClientBody) -> Self {
        match body {
            ClientBody::Streaming(source) => Self::Kept(Kept::new(source)),
            ClientBody::Attempted(attempted) => Self::Kept(attempted.into_kept()),
            ClientBody::Empty => Self::Empty,
        }
    }

    /// Whether there is no body.
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Gives up what was kept: there will be no other attempt.
    pub(super) fn forget(&self) {
        if let Self::Kept(kept) = self {
            kept.borrow_mut().forget();
        }
    }

    /// The body for another attempt; none if a part was taken that was not kept.
    pub(super) fn again(&self) -> Option<ClientBody> {
        match self {
            Self::Empty => Some(ClientBody::Empty),
            Self::Kept(kept) => Attempted::again(kept).map(ClientBody::Attempted),
        }
    }
}

/// Whether doing it twice does no more than doing it once (RFC 9110 §9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}
