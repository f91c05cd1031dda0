//! Which lists of meters the rollups have: the meters that count the same events share rows, under the list of their names.
//!
//! The list is the first column of the sort key, so that a meter's rows are found by the lists that it is in. Those are looked up
//! seldom: what is known is used to pass over what is certainly another meter's. The index has nearly all; by it all that has none of
//! these is found without much reading.
//! Of lists that are not known an answer never depends: their rows are looked at one by one; or, as there are hardly ever any and to
//! look for them takes a third of a short statement, a statement that finds one fails, and is put again with what is known then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rentroll_engines::store::StoreError;

use super::UsageError;
use super::ask::{Ask, Params};
use super::scope::Table;

/// How long what was looked up is used. A list that is not known costs time, and nothing else.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// ClickHouse's code of what `throwIf` throws.
const THROWN: u32 = 395;
/// Most lists that are kept: each statement has them all.
const LISTS_MAX: usize = 500;
/// How many meters share a row at most: the columns `total_1` and so on.
pub(super) const PACKED_MAX: usize = 4;

/// The lists that are known, each name followed by a NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    known: Arc<Vec<String>>,
    /// A row of another list makes a statement fail.
    are_all: bool,
}

/// What was looked up last. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownLists(Arc<Mutex<Option<(Instant, Lists)>>>);

impl Lists {
    /// Those that have the meter at the `nth` place.
    pub(super) fn with(&self, meter: &str, nth: usize) -> Vec<String> {
        let is_there = |list: &&String| list.split_terminator('\0').nth(nth) == Some(meter);
        self.known.iter().filter(is_there).cloned().collect()
    }

    /// Those that do not have the meter.
    pub(super) fn without(&self, meter: &str) -> Vec<String> {
        let is_there = |list: &&String| list.split_terminator('\0').any(|name| name == meter);
        self.known.iter().filter(|list| !is_there(list)).cloned().collect()
    }

    /// Whether a statement takes them for all that there are, and fails if it finds another.
    pub(super) fn are_all(&self) -> bool {
        self.are_all
    }

    /// All of them.
    pub(super) fn all(&self) -> &[String] {
        &self.known
    }

    #[cfg(test)]
    pub(super) fn of(lists: &[&str]) -> Lists {
        Lists { known: Arc::new(lists.iter().map(|list| (*list).to_owned()).collect()), are_all: false }
    }
}

impl Ask<'_> {
    /// Asks with the lists that are known, taken for all that there are. If that finds another one, by an error of the store or by
    /// `None`, it is asked again: with those that are known by then, or with a look at each row if these are no others.
    pub(super) async fn by_lists<T, F: Future<Output = Result<Option<T>, UsageError>>>(
        &self,
        ask: impl Fn(Lists) -> F,
    ) -> Result<T, UsageError> {
        let mut lists = Lists { are_all: true, ..self.lists().await? };
        loop {
            match ask(lists.clone()).await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(UsageError::Store(StoreError::Refused { code: THROWN, .. })) if lists.are_all => {}
                Err(error) => return Err(error),
            }
            *self.known_lists().0.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let now = self.lists().await?;
            lists = Lists { are_all: now.known != lists.known, ..now };
        }
    }

    /// The lists that are known, with all others looked for.
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
        let mut lists: Vec<String> = match self.fetch(&sql, &Params::default()).await {
            Ok(lists) => lists,
            // A table that is spread over servers has no index to be read.
            Err(UsageError::Store(error)) if !error.is_retryable() => Vec::new(),
            Err(error) => return Err(error),
        };
        if !lists.is_empty() {
            let mut params = Params::default();
            let others = self.scope().lists_where(&format!("meters NOT IN {}", params.texts(&lists)));
            // Where that is too much, what the index has will do.
            let others = self.fetch::<String>(&format!("{others} LIMIT {LISTS_MAX}"), &params).await;
            lists.extend(others.unwrap_or_default());
        }
        let lists = Lists { known: Arc::new(lists), are_all: false };
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
        assert_eq!(lists.without("a"), ["b\0"]);
        assert_eq!(lists.without("d").len(), 3);
    }
}
