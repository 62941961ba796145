//! How slow a client may be with the body of a request.
//!
//! 1. Only time in which the gateway waits for the client counts against it, never time in which an upstream takes nothing.
//!    The one exception is the total time, which runs from the head of the request.
//! 2. Until the answer begins, a body is too slow if it pauses for longer than `idle`, if it takes longer than `total`, or
//!    if, after `idle` of waiting, fewer bytes than `rate` came for each second of waiting. A client that sends a byte now
//!    and then keeps to the first of these alone.
//! 3. Once the answer has begun, the two directions may be a conversation (gRPC, for one), in which silence of the client is
//!    no fault. Then the exchange ends only if neither direction moves for `stream_idle`.
//!
//! A body that is at hand as soon as it is wanted costs no clock and no timer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::deadline::ring;
use crate::limits::BodyLimits;

/// The clocks of one request body.
#[derive(Debug)]
pub(super) struct Pace {
    limits: BodyLimits,
    /// When the head of the request was there.
    began: Instant,
    /// Since when the gateway waits for the client, if it does.
    waiting: Option<Instant>,
    /// All waiting before that.
    waited: Duration,
    /// Set back only when it rings too early, so that a body that keeps its pace does not touch it.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(super) const fn new(limits: BodyLimits, began: Instant) -> Self {
        Self { limits, began, waiting: None, waited: Duration::ZERO, alarm: None }
    }

    /// Something came.
    pub(super) fn arrived(&mut self) {
        if let Some(since) = self.waiting.take() {
            self.waited += since.elapsed();
        }
    }

    /// Nothing is there yet, of a body of which this many bytes were. Ready: it is too slow. `answered` is when the answer
    /// last moved, if it has begun.
    pub(super) fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        bytes: u64,
        answered: Option<Instant>,
    ) -> Poll<()> {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let deadline = self.deadline(since, bytes, answered);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ring(alarm.as_mut(), cx, deadline)
    }

    /// When patience ends, if nothing comes before.
    fn deadline(&self, since: Instant, bytes: u64, answered: Option<Instant>) -> Instant {
        let BodyLimits { rate, idle, total, stream_idle, .. } = self.limits;
        if let Some(answered) = answered {
            return since.max(answered) + stream_idle;
        }
        let paused = (since + idle).min(self.began + total);
        // The waiting that so many bytes allow for.
        let Some(seconds) = bytes.checked_div(rate) else { return paused };
        let allowed = idle.max(Duration::from_secs(seconds));
        paused.min(since + allowed.saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        bytes: u64::MAX,
        rate: 100,
        idle: Duration::from_secs(10),
        total: Duration::from_secs(300),
        stream_idle: Duration::from_secs(60),
    };

    /// Seconds from now to the deadline, for a body that waits since now.
    fn left(began: u64, waited: u64, bytes: u64, answered: Option<u64>) -> u64 {
        let now = Instant::now() + Duration::from_secs(1000);
        let ago = |seconds| now - Duration::from_secs(seconds);
        let mut pace = Pace::new(LIMITS, ago(began));
        pace.waited = Duration::from_secs(waited);
        (pace.deadline(now, bytes, answered.map(ago)) - now).as_secs()
    }

    #[test]
    fn the_first_limit_that_is_reached_counts() {
        for (began, waited, bytes, answered, expected, message) in [
            (0, 0, 0, None, 10, "a pause"),
            (0, 4, 0, None, 6, "pauses that add up to one"),
            (0, 9, 1, None, 1, "a byte now and then does not begin a new pause"),
            (40, 40, 4_500, None, 5, "as many seconds as the bytes allow for"),
            (40, 40, 1_000_000, None, 10, "what came fast may pause"),
            (41, 41, 4_000, None, 0, "below the rate already"),
            (295, 0, 1 << 40, None, 5, "the total time"),
            (400, 0, 1 << 40, None, 0, "the total time is over"),
            (400, 400, 0, Some(0), 60, "the answer moves"),
            (400, 400, 0, Some(50), 60, "the client has just moved"),
        ] {
            assert_eq!(left(began, waited, bytes, answered), expected, "{message}");
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        let now = Instant::now();
        let mut pace = Pace::new(BodyLimits { rate: 0, ..LIMITS }, now);
        pace.waited = Duration::from_secs(200);
        assert_eq!(pace.deadline(now, 1, None), now + LIMITS.idle);
    }
}
