//! When batches were stored, and with them their events.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::LogPlace;
use super::page::millis;
use crate::usage::UsageError;
use crate::usage::ask::{Ask, Params};
use crate::usage::scope::Table;

/// Batches that are remembered: some megabytes. The newest events of all tenants are of the newest batches.
const REMEMBERED_MAX: usize = 20_000;

/// The time at which a batch was stored does not change; what was seen is remembered.
#[derive(Clone, Debug, Default)]
pub(in crate::usage) struct Storings {
    known: Arc<Mutex<HashMap<LogPlace, Vec<DateTime<Utc>>>>>,
}

impl Storings {
    /// When the batches of events were stored that arrived then; `None` of one that is not done.
    ///
    /// A log that was made anew has batches with the places of earlier ones: that of an event is the first that was
    /// written after its arrival.
    pub(super) async fn of(
        &self,
        ask: &Ask<'_>,
        arrivals: &[(&LogPlace, DateTime<Utc>)],
    ) -> Result<Vec<Option<DateTime<Utc>>>, UsageError> {
        let mut times = self.known_of(arrivals);
        let unknown: BTreeSet<&LogPlace> = arrivals
            .iter()
            .zip(&times)
            .filter(|(_, time)| time.is_none())
            .map(|((place, _), _)| *place)
            .collect();
        if !unknown.is_empty() {
            self.learn(ask, &unknown).await?;
            times = self.known_of(arrivals);
        }
        Ok(times)
    }

    fn known_of(&self, arrivals: &[(&LogPlace, DateTime<Utc>)]) -> Vec<Option<DateTime<Utc>>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(place, arrived): &(&LogPlace, DateTime<Utc>)| {
            known.get(*place)?.iter().filter(|written| *written >= arrived).min().copied()
        };
        arrivals.iter().map(of).collect()
    }

    async fn learn(&self, ask: &Ask<'_>, places: &BTreeSet<&LogPlace>) -> Result<(), UsageError> {
        let mut params = Params::of(true);
        let topics: Vec<String> = places.iter().map(|place| place.topic.clone()).collect();
        let numbers = |of: fn(&LogPlace) -> i64| places.iter().map(|place| of(place)).collect::<Vec<_>>();
        let sql = format!(
            "SELECT toString(topic), partition, first, toUnixTimestamp64Milli(written_at) FROM {} \
             WHERE (topic, partition, first) IN (SELECT one.1, toUInt16(one.2), toUInt64(one.3) FROM (\
             SELECT arrayJoin(arrayZip({}, {}, {})) AS one))",
            ask.scope().table(Table::Batches),
            params.texts(&topics),
            params.numbers(numbers(|place| i64::from(place.partition))),
            params.numbers(numbers(|place| i64::try_from(place.batch).unwrap_or(i64::MAX))),
        );
        let rows: Vec<(String, u16, u64, i64)> = ask.fetch(&sql, &params).await?;
        let mut written: HashMap<LogPlace, Vec<DateTime<Utc>>> = HashMap::new();
        for (topic, partition, batch, at) in rows {
            written.entry(LogPlace { topic, partition, batch }).or_default().push(millis(at));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + written.len() > REMEMBERED_MAX {
            known.clear();
        }
        known.extend(written);
        Ok(())
    }
}
