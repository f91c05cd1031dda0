//! The window: how far an event's own time may lie from its arrival.

use chrono::{DateTime, Duration, Utc};

use crate::reject::reason;

/// A live source's event may be this much older than its arrival. Dedup remembers identities as long.
pub const WINDOW: Duration = Duration::days(35);
/// …and this much newer: clocks differ, but a sender's clock that is an hour ahead would bill the future.
pub const FUTURE: Duration = Duration::minutes(5);

/// Whether an event of `time` that arrived at `arrived_at` is in the window. A declared backfill may bring any
/// time that the rollups' `DateTime` holds (1970 to 2106) up to [`FUTURE`] after its arrival.
///
/// # Errors
/// (reason word, sentence).
pub fn check(
    time: DateTime<Utc>,
    arrived_at: DateTime<Utc>,
    backfill: bool,
) -> Result<(), (&'static str, String)> {
    if time > arrived_at + FUTURE {
        let ahead = (time - arrived_at).num_seconds();
        return Err((
            reason::IN_FUTURE,
            format!("{ahead} s after its arrival at {arrived_at}; at most 300 s are accepted"),
        ));
    }
    if time.timestamp() < 0 || time.timestamp() > i64::from(u32::MAX) {
        return Err((reason::INVALID, format!("{time} is outside 1970 to 2106")));
    }
    if !backfill && time < arrived_at - WINDOW {
        let days = (arrived_at - time).num_days();
        return Err((
            reason::TOO_OLD,
            format!(
                "{days} days before its arrival; at most 35 are accepted, unless the source is declared a backfill"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_ends_belong_to_it() {
        let arrived_at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let word = |time, backfill| check(time, arrived_at, backfill).err().map(|(word, _)| word);
        let tick = Duration::microseconds(1);
        assert_eq!(word(arrived_at + FUTURE, false), None);
        assert_eq!(word(arrived_at + FUTURE + tick, true), Some(reason::IN_FUTURE));
        assert_eq!(word(arrived_at - WINDOW, false), None);
        assert_eq!(word(arrived_at - WINDOW - tick, false), Some(reason::TOO_OLD));
        assert_eq!(word(arrived_at - WINDOW - tick, true), None);
        assert_eq!(word(DateTime::from_timestamp(-1, 0).unwrap(), true), Some(reason::INVALID));
    }
}
