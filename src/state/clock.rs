//! The one place that reads the wall clock. Every decision is given the time as an argument.

use std::time::{Duration, SystemTime};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::types::Timestamp;

/// The time now, rounded down to the second. A clock before 1970 gives a negative time, not a fault.
#[expect(clippy::disallowed_methods, reason = "this is the edge at which the time is read")]
pub fn now() -> Timestamp {
    at(SystemTime::now())
}

/// The time now in milliseconds since 1970-01-01T00:00:00Z, for logs and ids. 0 on a clock before that.
#[expect(clippy::disallowed_methods, reason = "this is the edge at which the time is read")]
pub fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The clock by which TLS judges certificates. Before 1970 it tells nothing, so that a handshake fails; rustls' own would
/// panic.
#[derive(Clone, Copy, Debug)]
pub struct TlsClock;

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        u64::try_from(now().0).ok().map(Duration::from_secs).map(UnixTime::since_unix_epoch)
    }
}

/// A system time as a [`Timestamp`].
pub fn at(time: SystemTime) -> Timestamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Timestamp(0).plus(after),
        Err(before) => {
            let before = before.duration();
            let whole = Timestamp(0).minus(before);
            if before.subsec_nanos() == 0 { whole } else { Timestamp(whole.0.saturating_sub(1)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down_on_both_sides_of_1970() {
        let epoch = SystemTime::UNIX_EPOCH;
        for (time, seconds) in [
            (epoch, 0),
            (epoch + Duration::from_millis(1_999), 1),
            (epoch - Duration::from_millis(1), -1),
            (epoch - Duration::from_secs(1), -1),
            (epoch - Duration::from_millis(1_500), -2),
        ] {
            assert_eq!(at(time), Timestamp(seconds), "{time:?}");
        }
    }

    #[test]
    fn the_clock_is_in_this_century() {
        assert!(now() > Timestamp(1_700_000_000));
    }
}
