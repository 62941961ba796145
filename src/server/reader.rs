//! How fast a client takes what is sent to it over one connection.
//!
//! 1. Only time counts in which the client's side takes no more although there is more for it. Whoever waits for an upstream
//!    is no slow reader, and an answer that is taken at once costs two looks at a number.
//! 2. Such waits add up until the client has taken `least` bytes since the first of them; then they are forgotten. With
//!    `least` as the bytes that are due in the time a client may take, it can neither stop nor drip for longer than that.
//! 3. Bytes count as taken when the system's buffers take them (over TLS: `counted`). The system says so in steps: a third of
//!    a buffer, which a fast connection makes large.
//!
//! No I/O and no clock: times are milliseconds since the connection was opened. Everything runs on one thread; the atomics are
//! relaxed and only make the type `Send`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// There is no wait.
const NEVER: u64 = u64::MAX;

/// How slowly an answer may be taken: by the client of a connection, or on one stream of it (`answers`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long it may be waited for.
    pub(super) stall: Duration,
    /// Fewest bytes a second, on average, in that time.
    pub(super) rate: u64,
}

impl Patience {
    /// Fewest bytes in all that time; never none.
    pub(super) fn least(self) -> u64 {
        let least = u128::from(self.rate) * self.stall.as_millis() / 1000;
        u64::try_from(least).unwrap_or(u64::MAX).max(1)
    }
}

/// The waits for the client of one connection.
#[derive(Debug)]
pub(super) struct Reader {
    /// Since when it takes no more; [`NEVER`] while it does.
    blocked: AtomicU64,
    /// How long earlier waits were.
    waited: AtomicU64,
    /// Bytes it has taken since the first of them.
    taken: AtomicU64,
    /// Bytes that make up for all of them.
    least: u64,
}

impl Reader {
    /// A client that nobody has waited for. `least` is that of its [`Patience`].
    pub(super) fn new(least: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self { blocked: AtomicU64::new(NEVER), waited: zero(), taken: zero(), least }
    }

    /// It takes no more at the moment.
    pub(super) fn blocked(&self, now: impl FnOnce() -> u64) {
        if self.blocked.load(Ordering::Relaxed) == NEVER {
            self.blocked.store(now(), Ordering::Relaxed);
        }
    }

    /// It took this many bytes. Tells whether it was waited for.
    pub(super) fn took(&self, count: usize, now: impl FnOnce() -> u64) -> bool {
        let (blocked, waited) = (self.blocked.load(Ordering::Relaxed), self.waited.load(Ordering::Relaxed));
        if blocked == NEVER && waited == 0 {
            return false;
        }
        let taken = self.taken.load(Ordering::Relaxed).saturating_add(count as u64);
        let waits = match blocked {
            _ if taken >= self.least => 0,
            NEVER => waited,
            since => waited + now().saturating_sub(since),
        };
        self.blocked.store(NEVER, Ordering::Relaxed);
        self.waited.store(waits, Ordering::Relaxed);
        self.taken.store(if waits == 0 { 0 } else { taken }, Ordering::Relaxed);
        blocked != NEVER
    }

    /// Since when it is waited for, as if all waits that count were one; `None` while it takes what there is.
    pub(super) fn since(&self) -> Option<u64> {
        let blocked = self.blocked.load(Ordering::Relaxed);
        (blocked != NEVER).then(|| blocked.saturating_sub(self.waited.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits from `from` to `to`, and then takes so much.
    fn wait(reader: &Reader, from: u64, to: u64, count: usize) {
        reader.blocked(|| from);
        assert!(reader.took(count, || to), "it was waited for");
    }

    #[test]
    fn waits_add_up_until_enough_is_taken() {
        let reader = Reader::new(1000);
        assert_eq!(reader.since(), None);
        wait(&reader, 10_000, 10_400, 600);
        assert_eq!(reader.since(), None);
        reader.blocked(|| 20_000);
        reader.blocked(|| 20_300);
        assert_eq!(reader.since(), Some(19_600), "400 before, and since the first look");
        assert!(reader.took(399, || 20_500));
        reader.blocked(|| 30_000);
        assert_eq!(reader.since(), Some(29_100));
        assert!(reader.took(1, || 30_500), "1000 in all");
        reader.blocked(|| 40_000);
        assert_eq!(reader.since(), Some(40_000), "forgotten");
        assert!(reader.took(999, || 40_100));
        reader.blocked(|| 50_000);
        assert_eq!(reader.since(), Some(49_900), "what was taken before counts once");
    }

    #[test]
    fn time_without_a_wait_does_not_count_and_bytes_do() {
        let reader = Reader::new(1000);
        assert!(!reader.took(5, || unreachable!("the clock is not looked at")));
        wait(&reader, 1_000, 1_200, 1);
        assert!(!reader.took(500, || unreachable!("nor here")), "an hour later, at once");
        reader.blocked(|| 4_000_000);
        assert_eq!(reader.since(), Some(3_999_800));
        assert!(reader.took(499, || 4_000_100));
        reader.blocked(|| 5_000_000);
        assert_eq!(reader.since(), Some(5_000_000));
    }

    #[test]
    fn without_a_rate_any_byte_is_enough() {
        let reader = Reader::new(Patience { stall: Duration::from_secs(30), rate: 0 }.least());
        wait(&reader, 1_000, 9_000, 1);
        reader.blocked(|| 10_000);
        assert_eq!(reader.since(), Some(10_000));
    }
}
