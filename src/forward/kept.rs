//! A request body of which what was taken is kept while it is small, so that it can be taken again.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use smallvec::SmallVec;

use super::streaming::{Broken, Streaming};

/// Most bytes that are kept of one body: the window that servers usually open for a stream, and a frame. What a server does
/// not process gets no more than that window.
const MOST_BYTES: usize = 80 * 1024;
/// Most bytes that are given out at once, so that no more than the window is taken.
const PIECE: usize = 16 * 1024;
/// Most frames that are kept of one body. Each may hold a buffer that is larger than the frame.
const MOST_FRAMES: usize = 16;

/// What the client sends, and what was taken of it.
#[derive(Debug)]
pub(super) struct Kept {
    source: Box<Streaming>,
    frames: SmallVec<[Bytes; 1]>,
    /// What is left of a frame that was given out in part.
    rest: Bytes,
    bytes: usize,
    /// Whether all that was taken is kept.
    whole: bool,
    /// Whether the source has ended.
    ended: bool,
    attempt: u32,
}

/// The body for one attempt. It takes nothing once there is a later attempt.
#[derive(Debug)]
pub struct Attempted {
    kept: Rc<RefCell<Kept>>,
    attempt: u32,
    position: usize,
}

impl Kept {
    /// Keeps what will be taken of a body.
    pub(super) fn new(source: Box<Streaming>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            source,
            frames: SmallVec::new(),
            rest: Bytes::new(),
            bytes: 0,
            whole: true,
            ended: false,
            attempt: 0,
        }))
    }

    /// Gives up what was kept: there will be no other attempt.
    pub(super) fn forget(&mut self) {
        self.whole = false;
        self.frames.clear();
    }

    /// The beginning of a frame that is too long to be given out at once. What is left follows.
    fn cut(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) if data.len() > PIECE => {
                self.rest = data.split_off(PIECE);
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(trailers) => trailers,
        }
    }

    /// Keeps a frame, or gives up.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let fits = |data: &&Bytes| self.bytes + data.len() <= MOST_BYTES && self.frames.len() < MOST_FRAMES;
        match frame.data_ref().filter(fits) {
            Some(data) if self.whole => {
                self.bytes += data.len();
                self.frames.push(data.clone());
            }
            Some(_) | None => self.forget(),
        }
    }
}

impl Attempted {
    /// The body for another attempt; none if a part was taken that was not kept.
    pub(super) fn again(shared: &Rc<RefCell<Kept>>) -> Option<Self> {
        let mut kept = shared.borrow_mut();
        kept.attempt += 1;
        let attempt = kept.attempt;
        kept.whole.then(|| Self { kept: Rc::clone(shared), attempt, position: 0 })
    }

    /// What is kept for all attempts.
    pub(super) fn into_kept(self) -> Rc<RefCell<Kept>> {
        self.kept
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut kept = self.kept.borrow_mut();
        if kept.attempt != self.attempt {
            return Poll::Ready(Some(Err(Broken::Upstream)));
        }
        if let Some(data) = kept.frames.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if kept.ended {
            return Poll::Ready(None);
        }
        let polled = match kept.rest.is_empty() {
            true => ready!(kept.source.poll(cx)),
            false => Some(Ok(Frame::data(std::mem::take(&mut kept.rest)))),
        };
        let polled = polled.map(|frame| frame.map(|frame| kept.cut(frame)));
        match &polled {
            Some(Ok(frame)) => {
                kept.keep(frame);
                self.position += 1;
            }
            Some(Err(_)) => {}
            None => kept.ended = true,
        }
        Poll::Ready(polled)
    }

    /// Whether nothing follows.
    pub(super) fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        self.position >= kept.frames.len()
            && kept.rest.is_empty()
            && (kept.ended || kept.source.body().is_end_stream())
    }

    /// How much follows, where that is known.
    pub(super) fn size_hint(&self) -> SizeHint {
        let kept = self.kept.borrow();
        if kept.frames.is_empty() && kept.rest.is_empty() {
            kept.source.body().size_hint()
        } else {
            SizeHint::default()
        }
    }
}
