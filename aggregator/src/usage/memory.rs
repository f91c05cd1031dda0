//! Answers of the store, remembered for as long as nothing came into what they were read from.
//!
//! Dashboards ask the same again and again, and of most of a month nothing changes any more. What a statement was answered is kept
//! beside a stamp of the parts that the tables had in its time, taken before it was asked. It is given again only if a stamp that is
//! taken after the question came is the same: an answer is never older than its question. The statement is the key, with
//! all its values and with whose usage may be seen, so that nobody is given what was read for somebody else.

use std::any::Any;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::Weekday;
use clickhouse::{RowOwned, RowRead};

use super::ask::{Ask, Params};
use super::plan::{Plan, instant};
use super::rows::table;
use super::scope::{REGISTRY, Table};
use super::{Scope, Source, UsageError};

/// Most bytes of a statement and its answer that are kept: larger ones are asked for seldom.
const BYTES_EACH_MAX: usize = 256 << 10;
/// Most bytes of all that are kept.
const BYTES_MAX: usize = 32 << 20;
/// What an entry takes besides.
const ENTRY_BYTES: usize = 512;

/// What a statement reads: the partitions of rollups, and the registry of tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Of each table the first and the last, by their names.
    partitions: Vec<(&'static str, RangeInclusive<String>)>,
    needs_registry: bool,
}

/// The partition of rollups that a time is in, by its name: of days the month, of what is finer the week, by its Monday. Names are in
/// the order of time.
fn partition(source: Source, at: i64) -> String {
    let day = instant(at).date_naive();
    match source {
        Source::Day => day.format("%Y%m").to_string(),
        Source::Hour | Source::Minute | Source::Events => day.week(Weekday::Mon).first_day().to_string(),
    }
}

/// What a statement is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Statement {
    sql: String,
    params: Params,
    scope: Scope,
}

impl Statement {
    fn bytes(&self) -> usize {
        self.sql.len() + self.params.bytes()
    }
}

/// A row that can be kept.
pub(super) trait Kept: RowOwned + RowRead + Send + Sync + 'static {
    /// What its texts take, besides itself.
    fn text_bytes(&self) -> usize;
}

struct Remembered {
    stamp: u64,
    rows: Arc<dyn Any + Send + Sync>,
    bytes: usize,
    used: u64,
}

#[derive(Default)]
struct Held {
    statements: HashMap<Statement, Remembered>,
    bytes: usize,
    uses: u64,
}

/// The parts of tables, by table and partition, each as a number: others if anything is stored, changed, merged or dropped.
#[derive(Debug, Default)]
pub(super) struct Stamps(Vec<(String, String, u64)>);

/// Stamps, and when their reading began.
type Stamped = Option<(Instant, Arc<Stamps>)>;

/// What is remembered. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Memory {
    held: Arc<Mutex<Held>>,
    /// Held while they are read, so that all who wait take what the next reading gives.
    stamps: Arc<tokio::sync::Mutex<Stamped>>,
    recalled: Arc<AtomicU64>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("statements", &self.held().statements.len()).finish()
    }
}

impl Reach {
    /// That of a plan; `None` if it reads events.
    pub(super) fn of(plan: &Plan, read_from: &[Source]) -> Option<Reach> {
        if read_from.contains(&Source::Events) {
            return None;
        }
        let (from, to) = (plan.cut.from(), plan.cut.to() - 1);
        let of_table =
            |source: &Source| (table(*source).name(), partition(*source, from)..=partition(*source, to));
        Some(Reach {
            partitions: read_from.iter().map(of_table).collect(),
            needs_registry: plan.needs_registry(),
        })
    }
}

impl Stamps {
    /// The parts that a statement reads, as one number. `None` if that is not known: a table that is spread over servers has no parts
    /// here, and neither has one that is empty.
    fn of(&self, reach: &Reach) -> Option<u64> {
        let has_parts = |name: &str| self.0.iter().any(|(table, ..)| table == name);
        if !reach.partitions.iter().all(|(table, _)| has_parts(table)) {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        for stamped @ (table, partition, _) in &self.0 {
            let is_within =
                |(name, names): &(&str, RangeInclusive<String>)| table == name && names.contains(partition);
            let is_read = match table == REGISTRY {
                true => reach.needs_registry,
                false => reach.partitions.iter().any(is_within),
            };
            if is_read {
                stamped.hash(&mut hasher);
            }
        }
        Some(hasher.finish())
    }
}

impl Memory {
    /// How many statements were not put to the store.
    pub(super) fn recalled(&self) -> u64 {
        self.recalled.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn get<T: Kept>(&mut self, statement: &Statement) -> Option<(u64, Arc<Vec<T>>)> {
        self.uses += 1;
        let remembered = self.statements.get_mut(statement)?;
        remembered.used = self.uses;
        let rows = Arc::clone(&remembered.rows).downcast().ok()?;
        Some((remembered.stamp, rows))
    }

    fn keep<T: Kept>(&mut self, statement: Statement, stamp: u64, rows: &Arc<Vec<T>>) {
        let of_rows: usize = rows.iter().map(|row| size_of::<T>() + row.text_bytes()).sum();
        let bytes = ENTRY_BYTES + statement.bytes() + of_rows;
        if bytes > BYTES_EACH_MAX {
            return;
        }
        self.uses += 1;
        let kept = Remembered { stamp, rows: Arc::<Vec<T>>::clone(rows), bytes, used: self.uses };
        self.bytes += bytes;
        if let Some(replaced) = self.statements.insert(statement, kept) {
            self.bytes -= replaced.bytes;
        }
        if self.bytes > BYTES_MAX {
            self.forget_half();
        }
    }

    /// Forgets what was not used for longest.
    fn forget_half(&mut self) {
        let mut used: Vec<u64> = self.statements.values().map(|kept| kept.used).collect();
        let middle = used.len() / 2;
        let median = *used.select_nth_unstable(middle).1;
        self.statements.retain(|_, kept| kept.used > median);
        self.bytes = self.statements.values().map(|kept| kept.bytes).sum();
    }
}

impl Ask<'_> {
    /// All rows of a statement, of which some may be known.
    pub(super) async fn recall<T: Kept>(
        &self,
        sql: &str,
        params: &Params,
        reach: Option<&Reach>,
    ) -> Result<Arc<Vec<T>>, UsageError> {
        let (Some(memory), Some(reach)) = (self.memory(), reach) else {
            return Ok(Arc::new(self.fetch(sql, params).await?));
        };
        let statement =
            Statement { sql: sql.to_owned(), params: params.clone(), scope: self.scope().clone() };
        let known = memory.held().get(&statement);
        // What is not known needs no new stamps: older ones are only the sooner another's.
        let since = known.as_ref().map(|_| Instant::now());
        let stamp = self.stamps(memory, since).await?.of(reach);
        if let Some((held, rows)) = known
            && Some(held) == stamp
        {
            memory.recalled.fetch_add(1, Ordering::Relaxed);
            return Ok(rows);
        }
        let rows = Arc::new(self.fetch(sql, params).await?);
        if let Some(stamp) = stamp {
            memory.held().keep(statement, stamp, &rows);
        }
        Ok(rows)
    }

    /// Stamps whose reading began at this time or later; any, without one.
    async fn stamps(&self, memory: &Memory, since: Option<Instant>) -> Result<Arc<Stamps>, UsageError> {
        // Whoever reads them now may have more time than this one.
        let waiting = tokio::time::timeout(self.left(), memory.stamps.lock());
        let mut stamped = waiting.await.map_err(|_| self.timed_out())?;
        if let Some((began, stamps)) = stamped.as_ref()
            && since.is_none_or(|since| *began >= since)
        {
            return Ok(Arc::clone(stamps));
        }
        let began = Instant::now();
        let sql = format!("SELECT table, partition, stamp FROM {}", self.scope().table(Table::Parts));
        let stamps = match self.fetch::<(String, String, u64)>(&sql, &Params::default()).await {
            Ok(mut read) => {
                read.sort_unstable();
                Arc::new(Stamps(read))
            }
            // Who may not look at parts remembers nothing.
            Err(UsageError::Store(error)) if !error.is_retryable() => Arc::default(),
            Err(error) => return Err(error),
        };
        *stamped = Some((began, Arc::clone(&stamps)));
        Ok(stamps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(partitions: &[(&'static str, &str)], needs_registry: bool) -> Reach {
        let one = |(table, name): &(&'static str, &str)| (*table, (*name).to_owned()..=(*name).to_owned());
        Reach { partitions: partitions.iter().map(one).collect(), needs_registry }
    }

    #[test]
    fn partitions_are_named_as_the_store_names_them() {
        let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp();
        assert_eq!(partition(Source::Day, at("2026-11-01T00:00:00Z")), "202611");
        assert_eq!(partition(Source::Day, at("2026-10-31T23:59:59Z")), "202610");
        assert_eq!(partition(Source::Hour, at("2026-11-01T00:00:00Z")), "2026-10-26");
        assert_eq!(partition(Source::Minute, at("2026-11-02T00:00:00Z")), "2026-11-02");
    }

    fn stamps(of: &[(&str, &str, u64)]) -> Stamps {
        Stamps(
            of.iter().map(|(table, week, stamp)| ((*table).to_owned(), (*week).to_owned(), *stamp)).collect(),
        )
    }

    #[test]
    fn a_stamp_is_of_what_is_read_and_of_nothing_else() {
        let before = stamps(&[
            ("rollup_day", "202609", 1),
            ("rollup_day", "202610", 2),
            ("rollup_hour", "2026-09-28", 3),
        ]);
        let month = reach(&[("rollup_day", "202609")], false);
        for (other, is_same) in [
            (stamps(&[("rollup_day", "202609", 1), ("rollup_day", "202610", 9)]), true),
            (stamps(&[("rollup_day", "202609", 1), ("tenants", "tuple()", 9)]), true),
            (stamps(&[("rollup_day", "202609", 9), ("rollup_day", "202610", 2)]), false),
            (stamps(&[("rollup_day", "202610", 1)]), false),
        ] {
            assert_eq!(before.of(&month) == other.of(&month), is_same, "{other:?}");
        }
        let registry = Reach { needs_registry: true, ..month.clone() };
        let changed = stamps(&[("rollup_day", "202609", 1), ("tenants", "tuple()", 9)]);
        assert_ne!(before.of(&registry), changed.of(&registry));
        let hours = reach(&[("rollup_day", "202609"), ("rollup_hour", "2026-09-28")], false);
        let changed = stamps(&[("rollup_day", "202609", 1), ("rollup_hour", "2026-09-28", 9)]);
        assert_ne!(before.of(&hours), changed.of(&hours));
        let none = reach(&[("rollup_day", "202609"), ("rollup_minute", "2026-09-28")], false);
        assert_eq!(before.of(&none), None, "a table without parts may be spread over servers");
    }

    #[derive(clickhouse::Row, serde::Deserialize)]
    struct Text {
        text: String,
    }

    #[derive(clickhouse::Row, serde::Deserialize)]
    struct Number {
        #[expect(dead_code)]
        number: u64,
    }

    impl Kept for Text {
        fn text_bytes(&self) -> usize {
            self.text.len()
        }
    }

    impl Kept for Number {
        fn text_bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn what_was_used_last_is_kept() {
        let mut held = Held::default();
        let statement =
            |nth: usize| Statement { sql: nth.to_string(), params: Params::default(), scope: Scope::All };
        let rows = |bytes: usize| Arc::new(vec![Text { text: "x".repeat(bytes) }]);
        let each = rows(BYTES_EACH_MAX - 2 * ENTRY_BYTES);
        let mut most = 0;
        for nth in 0..200 {
            held.keep(statement(nth), nth as u64, &each);
            assert!(held.get::<Text>(&statement(0)).is_some());
            assert!(held.bytes <= BYTES_MAX, "{}", held.bytes);
            most = most.max(held.bytes);
        }
        assert!(most > BYTES_MAX / 10 * 9, "{most}");
        assert!(held.get::<Text>(&statement(199)).is_some());
        assert!(held.get::<Text>(&statement(1)).is_none());
        assert!(held.get::<Number>(&statement(0)).is_none(), "rows of another kind");
        held.keep(statement(200), 1, &rows(BYTES_EACH_MAX));
        assert!(held.get::<Text>(&statement(200)).is_none(), "too large an answer");
        let mut params = Params::default();
        params.texts(&vec!["tenant".to_owned(); BYTES_EACH_MAX / 6]);
        let long = Statement { params, ..statement(201) };
        held.keep(long, 1, &rows(1));
        assert!(!held.statements.keys().any(|kept| kept.sql == "201"), "too large a question");
        let other = Statement { scope: Scope::tenant("acme"), ..statement(0) };
        assert!(held.get::<Text>(&other).is_none(), "another one's");
    }
}
