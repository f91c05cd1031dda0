//! A CSV file, all or nothing.

use chrono::{DateTime, Utc};
use rentroll_schemas::tenant::csv::{BadLine, Reading};
use rentroll_schemas::tenant::{Origin, TenantRecord};

use super::plan::{Change, Plan};
use super::registry::Registry;
use super::{Action, TenantsError};

/// How a file is imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Takes the good lines though there are bad ones.
    pub skip_bad: bool,
    /// Only says what would come of it.
    pub dry_run: bool,
}

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// One for each line that is good, in the file's order.
    pub changes: Vec<Change>,
    /// The lines that are not, in the file's order: by themselves, or for what is known.
    pub bad: Vec<BadLine>,
    /// The changes were made. Not so if there were bad lines, unless those were to be skipped.
    pub is_applied: bool,
}

impl Imported {
    /// Changes of this kind.
    pub fn count(&self, action: Action) -> usize {
        self.changes.iter().filter(|change| change.action == action).count()
    }
}

impl Registry {
    /// Imports a file. What it has no column for stays as it is known at the time from which its line holds.
    ///
    /// # Errors
    /// The store's. Bad lines are no error: see [`Imported::is_applied`].
    pub async fn import(
        &self,
        reading: &Reading,
        options: ImportOptions,
        now: DateTime<Utc>,
    ) -> Result<Imported, TenantsError> {
        let mut records: Vec<TenantRecord> = reading.lines.iter().map(|line| line.record.clone()).collect();
        let known = self.known(&records).await?;
        let starts = known.starts(&records, now);
        for (record, start) in records.iter_mut().zip(starts) {
            if let Some(before) =
                known.histories.get(&record.tenant).and_then(|history| history.known_at(start))
            {
                reading.complete(record, before);
            }
        }
        let Plan { changes, refusals, rows } = known.plan(&records, Origin::Import, now);
        let mut bad = reading.bad.clone();
        // Refusals name records by their place among the good lines.
        bad.extend(refusals.into_iter().filter_map(|refusal| {
            let line = reading.lines.get(refusal.index)?;
            Some(BadLine { number: line.number, fault: refusal.fault, place: line.place.clone() })
        }));
        bad.sort_by_key(|bad| bad.number);
        let is_applied = !options.dry_run && (bad.is_empty() || options.skip_bad);
        if is_applied {
            self.write(&rows).await?;
        }
        Ok(Imported { changes, bad, is_applied })
    }
}
