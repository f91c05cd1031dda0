//! Which lists of meters the rollups have: the meters that count the same events share rows, under the list of their names.
//!
//! The list is the first column of the sort key, so that a meter's rows are found by the lists that it is in. Those are looked up in
//! the index, which has nearly all of them and is asked seldom: what is known is used to pass over what is certainly another meter's.
//! Rows of lists that are not known are looked at one by one, so that an answer never depends on what is known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::UsageError;
use super::ask::{Ask, Params};
use super::scope::Table;

/// How long what was looked up is used. A list that is not known costs time, and nothing else.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Most lists that are kept: each statement has them all.
const LISTS_MAX: usize = 500;
/// How many meters share a row at most: the columns `total_1` and so on.
pub(super) const PACKED_MAX: usize = 4;

/// The lists that are known, each name followed by a NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists(Arc<Vec<String>>);

/// What was looked up last. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownLists(Arc<Mutex<Option<(Instant, Lists)>>>);

impl Lists {
    /// Those that have the meter at the `nth` place.
    pub(super) fn with(&self, meter: &str, nth: usize) -> Vec<String> {
        let is_there = |list: &&String| list.split_terminator('\0').nth(nth) == Some(meter);
        self.0.iter().filter(is_there).cloned().collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> &[String] {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn of(lists: &[&str]) -> Lists {
        Lists(Arc::new(lists.iter().map(|list| (*list).to_owned()).collect()))
    }
}

impl Ask<'_> {
    /// The lists that are known.
    pub(super) async fn lists(&self) -> Result<Lists, UsageError> {
        let known = self.known_lists();
        let held = known.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, lists)) = held
            && at.elapsed() < KNOWN_FOR
        {
            return Ok(lists);
        }
        let sql =
            format!("SELECT DISTINCT meters FROM {} LIMIT {LISTS_MAX}", self.scope().table(Table::Lists));
        let lists = match self.fetch::<String>(&sql, &Params::default()).await {
            Ok(lists) => Lists(Arc::new(lists)),
            // A table that is spread over servers has no index to be read.
            Err(UsageError::Store(error)) if !error.is_retryable() => Lists::default(),
            Err(error) => return Err(error),
        };
        *known.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), lists.clone()));
        Ok(lists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_is_found_by_its_place() {
        let lists = Lists::of(&["a\0b\0", "b\0", "c\0a\0"]);
        assert_eq!(lists.with("a", 0), ["a\0b\0"]);
        assert_eq!(lists.with("a", 1), ["c\0a\0"]);
        assert_eq!(lists.with("b", 0), ["b\0"]);
        assert_eq!(lists.with("d", 0), Vec::<String>::new());
    }
}
