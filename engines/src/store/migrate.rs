//! Numbered schema steps with checksums.
//!
//! What was applied is in the table `schema_migrations` of the same database. A step is recorded after all its
//! statements have run; each statement can be repeated, so that a crash in mid-step is mended by running the
//! step again. A store whose steps are not a beginning of this program's is refused, and never changed. Of several
//! programs that start at once, one applies what is missing and the others wait for it (`turn`).

use rentroll_schemas::migrations::Migration;
use serde::{Deserialize, Serialize};

use self::turn::Turn;
use super::{SchemaError, Store, StoreError};

mod turn;

/// What [`Store::migrate`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The step at which the store was; 0 for an empty one.
    pub from: u32,
    /// The step at which it is.
    pub to: u32,
    /// Names of the steps that were applied now.
    pub applied: Vec<&'static str>,
}

/// A step as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, clickhouse::Row, Deserialize, Serialize)]
struct Applied {
    version: u32,
    name: String,
    checksum: String,
}

const APPLIED: &str =
    "SELECT DISTINCT version, name, checksum FROM schema_migrations ORDER BY version, checksum";

const RECORDS: &str = "CREATE TABLE IF NOT EXISTS schema_migrations
(
    version    UInt32,
    name       String,
    checksum   String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY version
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1";

impl Store {
    /// Creates the database if it is missing, and applies the steps that it lacks, in their order.
    ///
    /// # Errors
    /// [`StoreError::Schema`] if the store's steps are not a beginning of `migrations`; nothing is changed then.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<Migrated, StoreError> {
        self.create_database().await?;
        self.run(RECORDS).await?;
        let from = check(&self.applied().await?, migrations)?;
        let mut migrated = Migrated { from, to: from, applied: Vec::new() };
        if from < last(migrations) {
            let turn = Turn::take(self).await?;
            let result = self.apply(&turn, migrations, &mut migrated).await;
            turn.end().await;
            result?;
        }
        Ok(migrated)
    }

    /// Applies what is still missing now that it is our turn.
    async fn apply(
        &self,
        turn: &Turn<'_>,
        migrations: &[Migration],
        migrated: &mut Migrated,
    ) -> Result<(), StoreError> {
        migrated.to = check(&self.applied().await?, migrations)?;
        for migration in migrations.iter().skip(migrated.to as usize) {
            for statement in migration.statements() {
                turn.run(statement).await?;
            }
            let record = Applied {
                version: migration.version,
                name: migration.name.to_owned(),
                checksum: migration.checksum(),
            };
            self.record(record).await?;
            tracing::info!(version = migration.version, name = migration.name, "applied a schema step");
            migrated.to = migration.version;
            migrated.applied.push(migration.name);
        }
        Ok(())
    }

    /// Checks that the store has exactly the steps of `migrations`, without changing it.
    ///
    /// # Errors
    /// As [`Store::migrate`], and [`SchemaError::Older`] if steps are missing.
    pub async fn check_schema(&self, migrations: &[Migration]) -> Result<u32, StoreError> {
        let found = check(&self.applied().await?, migrations)?;
        let known = last(migrations);
        if found < known {
            return Err(SchemaError::Older { known, found }.into());
        }
        Ok(found)
    }

    /// The last step that was applied; 0 if none was.
    pub async fn schema_version(&self) -> Result<u32, StoreError> {
        Ok(self.applied().await?.last().map_or(0, |step| step.version))
    }

    async fn create_database(&self) -> Result<(), StoreError> {
        let (database, client) = (self.database(), self.client().clone().with_database(""));
        // A server's administrator chooses the engine (Replicated, say); ours must not be left to the default.
        let engine = if self.is_embedded_here() { " ENGINE = Atomic" } else { "" };
        let sql = format!("CREATE DATABASE IF NOT EXISTS `{database}`{engine}");
        client.query_raw(&sql).execute().await.map_err(|error| self.error(error))
    }

    async fn run(&self, statement: &str) -> Result<(), StoreError> {
        self.client().query_raw(statement).execute().await.map_err(|error| self.error(error))
    }

    /// What was applied; nothing if the table, or the database, is missing.
    async fn applied(&self) -> Result<Vec<Applied>, StoreError> {
        match self.client().query(APPLIED).fetch_all::<Applied>().await.map_err(|error| self.error(error)) {
            Err(StoreError::Refused { code: 60 | 81, .. }) => Ok(Vec::new()),
            other => other,
        }
    }

    async fn record(&self, step: Applied) -> Result<(), StoreError> {
        let token = format!("schema-{}-{}", step.version, step.checksum);
        let mut insert = self
            .client()
            .insert::<Applied>("schema_migrations")
            .await
            .map_err(|error| self.error(error))?
            .with_setting("insert_deduplication_token", token)
            .with_setting("async_insert", "0");
        insert.write(&step).await.map_err(|error| self.error(error))?;
        insert.end().await.map_err(|error| self.error(error))
    }
}

fn last(migrations: &[Migration]) -> u32 {
    migrations.last().map_or(0, |migration| migration.version)
}

/// The last applied step, if what was applied is a beginning of `migrations`.
fn check(applied: &[Applied], migrations: &[Migration]) -> Result<u32, SchemaError> {
    let found = applied.last().map_or(0, |step| step.version);
    let known = last(migrations);
    if found > known {
        return Err(SchemaError::Newer { known, found });
    }
    let mut expected = 1;
    for step in applied {
        if step.version > expected {
            return Err(SchemaError::Gap { missing: expected, found: step.version });
        }
        // Versions up to `known` have a migration: they are contiguous from 1.
        let Some(migration) = migrations.get(step.version as usize - 1) else {
            continue;
        };
        if migration.checksum() != step.checksum {
            return Err(SchemaError::Edited {
                version: step.version,
                name: step.name.clone(),
                found: step.checksum.clone(),
                known: migration.checksum(),
            });
        }
        expected = step.version + 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Migration] = &[
        Migration { version: 1, name: "0001_a", sql: "a;\n" },
        Migration { version: 2, name: "0002_b", sql: "b;\n" },
    ];

    fn applied(migration: &Migration) -> Applied {
        Applied {
            version: migration.version,
            name: migration.name.to_owned(),
            checksum: migration.checksum(),
        }
    }

    #[test]
    fn only_a_beginning_is_accepted() {
        assert_eq!(check(&[], STEPS), Ok(0));
        assert_eq!(check(&[applied(&STEPS[0])], STEPS), Ok(1));
        assert_eq!(check(&[applied(&STEPS[0]), applied(&STEPS[1])], STEPS), Ok(2));
        assert_eq!(check(&[applied(&STEPS[1])], STEPS), Err(SchemaError::Gap { missing: 1, found: 2 }));
        let newer = check(&[applied(&STEPS[0]), applied(&STEPS[1])], &STEPS[..1]);
        assert_eq!(newer, Err(SchemaError::Newer { known: 1, found: 2 }));
        let mut edited = applied(&STEPS[0]);
        edited.checksum = "other".to_owned();
        assert!(matches!(check(&[edited], STEPS), Err(SchemaError::Edited { version: 1, .. })));
    }
}
