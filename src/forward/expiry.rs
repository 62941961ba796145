//! The end of what a token permitted and what lasts longer than a request: streams and tunnels.
//!
//! 1. It comes as soon as either clock says so: the time that the token had left has passed, or the wall clock shows that it
//!    has expired. So a wall clock that is set back lengthens nothing.
//! 2. The monotonic clock hears nothing of a wall clock that is set forward, and stands still while the machine sleeps. So
//!    the wall clock is looked at every [`LOOK`], and a token that expires in such a jump is noticed that much later at most.

use std::time::Duration;

use tokio::time::Instant;

use crate::state::clock;
use crate::types::Timestamp;

/// How long the wall clock is taken at its word.
const LOOK: Duration = Duration::from_secs(10);

/// When a token expires, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    time: Timestamp,
    /// The same, if nobody touches the wall clock. A time too far to be told is none.
    at: Option<Instant>,
    /// When to look at the clocks.
    look: Instant,
}

impl Expiry {
    /// Of a token that expires at `time`, from now on.
    pub(super) fn new(time: Timestamp) -> Self {
        Self::from(time, Instant::now(), clock::now())
    }

    fn from(time: Timestamp, now: Instant, wall: Timestamp) -> Self {
        let mut this = Self { time, at: now.checked_add(time.since(wall)), look: now };
        this.look_after(now);
        this
    }

    /// When to ask next whether it has come.
    pub(super) const fn look(&self) -> Instant {
        self.look
    }

    /// Whether it has come. If it has not, there is another look to wait for.
    pub(super) fn has_come(&mut self) -> bool {
        let now = Instant::now();
        now >= self.look && self.has_come_at(now, clock::now())
    }

    /// Waits for it.
    pub(super) async fn comes(mut self) {
        while !self.has_come() {
            tokio::time::sleep_until(self.look).await;
        }
    }

    fn has_come_at(&mut self, now: Instant, wall: Timestamp) -> bool {
        self.look_after(now);
        wall >= self.time || self.at.is_some_and(|at| now >= at)
    }

    fn look_after(&mut self, now: Instant) {
        let look = now + LOOK;
        self.look = self.at.map_or(look, |at| at.min(look));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_clock_that_says_so_ends_it() {
        const BEGUN: Timestamp = Timestamp(1_000);
        let begun = Instant::now();
        // Seconds of the token, then how far each clock has gone when it is asked.
        for (left, gone, wall, expected, message) in [
            (600, 0, 0, false, "it has just begun"),
            (600, 599, 599, false, "the last second"),
            (600, 600, 600, true, "both clocks"),
            (600, 10, 600, true, "the wall clock was set forward, or the machine slept"),
            (600, 600, -86_400, true, "the wall clock was set back"),
            (600, 10, -86_400, false, "the same, with time left"),
            (0, 0, 0, true, "there was none left"),
            (i64::MAX - 1_000, 86_400, 86_400, false, "a time that cannot be told"),
        ] {
            let mut expiry = Expiry::from(Timestamp(BEGUN.0 + left), begun, BEGUN);
            let come = expiry.has_come_at(begun + Duration::from_secs(gone), Timestamp(BEGUN.0 + wall));
            assert_eq!(come, expected, "{message}");
        }
    }

    #[test]
    fn the_wall_clock_is_looked_at_now_and_then() {
        let begun = Instant::now();
        let mut expiry = Expiry::from(Timestamp(25), begun, Timestamp(0));
        let mut looks = Vec::new();
        for _ in 0..3 {
            let look = expiry.look();
            looks.push((look - begun).as_secs());
            expiry.has_come_at(look, Timestamp(0));
        }
        assert_eq!(looks, [10, 20, 25]);
    }
}
