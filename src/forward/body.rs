//! The body of a request for one upstream, or for one of several attempts.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::headers::TrailerNames;
use super::kept::Attempted;
use super::streaming::{Broken, Progress, Streaming};
use crate::limits::BodyLimits;
use crate::types::BodySignal;

/// A request body on its way to an upstream.
#[derive(Debug)]
pub enum ClientBody {
    /// Nothing.
    Empty,
    /// What the client sends.
    Streaming(Box<Streaming>),
    /// The same, for one of several attempts.
    Attempted(Attempted),
}

impl ClientBody {
    /// Wraps a body of a request that came at `began`: within `limits`, with no trailer fields but `trailers`.
    pub(super) fn new(
        body: Incoming,
        signal: Option<BodySignal>,
        limits: BodyLimits,
        began: Instant,
        trailers: TrailerNames,
        progress: &Rc<Progress>,
    ) -> Self {
        if body.is_end_stream() {
            progress.end();
            return Self::Empty;
        }
        Self::Streaming(Box::new(Streaming::new(body, signal, limits, began, trailers, progress)))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(streaming) => streaming.poll(cx),
            Self::Attempted(attempted) => attempted.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(streaming) => streaming.body().is_end_stream(),
            Self::Attempted(attempted) => attempted.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(streaming) => streaming.body().size_hint(),
            Self::Attempted(attempted) => attempted.size_hint(),
        }
    }
}
