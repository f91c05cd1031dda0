//! What the parts ask of the store: is it there, store this block once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::chdb::EngineError;
use super::open::Embedded;
use super::quote::quote;
use super::{SchemaError, Store, StoreError, direct};

/// Rows below which an insert is one block, and so all or nothing, with one deduplication token. ClickHouse
/// splits at the first of these limits that is passed.
const BLOCK_ROWS: &str = "4000000";
const BLOCK_BYTES: &str = "4000000000";

/// How long a store may take to answer `SELECT 1`. A machine that swaps takes seconds; one that needs longer is
/// of no use.
const PING_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long the store may take none of an insert's bytes, and how long to store the block then. A full block with
/// its rollups takes seconds; a merge that holds it up, some tens. What comes too late is sent again.
const INSERT_SEND_WAIT_MAX: Duration = Duration::from_secs(60);
const INSERT_STORE_WAIT_MAX: Duration = Duration::from_secs(300);

/// Settings of every insert, on which "stored once" stands. Spelled out because servers differ in their defaults.
const INSERT_SETTINGS: &[(&str, &str)] = &[
    // The answer comes when the rows are stored, and they are stored as one block.
    ("async_insert", "0"),
    ("wait_for_async_insert", "1"),
    ("insert_deduplicate", "1"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    ("max_insert_block_size", BLOCK_ROWS),
    ("min_insert_block_size_rows", BLOCK_ROWS),
    ("min_insert_block_size_bytes", BLOCK_BYTES),
    ("max_insert_threads", "1"),
    // Rows of rollups come with each key once. To merge such a block with itself took half of its insert.
    ("optimize_on_insert", "0"),
    // Cuts text formats into pieces, each a block.
    ("input_format_parallel_parsing", "0"),
    // As many as there are: one batch may hold a backfill of many years, and rows are kept by the week.
    ("max_partitions_per_insert_block", "0"),
];

/// How far inserts stand back behind questions in the embedded engine, where its process may set it (CAP_SYS_NICE):
/// people wait for the ones, and the others have seconds. Less far than merges.
const NICE_OF_INSERTS: (&str, &str) = ("os_threads_nice_value_query", "2");

/// Table settings on which exactly-once storage stands: name, least value that will do, value to give.
const TABLE_SETTINGS: &[(&str, u64, &str)] = &[
    // Only the newest batch of a log partition is retried: room for some partitions' worth of blocks, each of
    // which may be cut along the table's own partitions.
    ("non_replicated_deduplication_window", 1000, "10000"),
    ("fsync_after_insert", 1, "1"),
    ("fsync_part_directory", 1, "1"),
];

impl Store {
    /// Whether it answers, with the credential.
    pub async fn ping(&self) -> Result<(), StoreError> {
        // Without a database: it may not have been created yet.
        let client = self.client().clone().with_database("");
        let answer = tokio::time::timeout(PING_WAIT_MAX, client.query("SELECT 1").fetch_one()).await;
        let one: u8 = answer
            .map_err(|_| StoreError::Unavailable {
                url: self.url().to_owned(),
                reason: format!("no answer within {} s", PING_WAIT_MAX.as_secs()),
            })?
            .map_err(|error| self.error(error))?;
        if one != 1 {
            return Err(StoreError::Answer { reason: format!("SELECT 1 gave {one}") });
        }
        Ok(())
    }

    /// Stores `rows`, written in `format` (`RowBinary`, `Native`…), as one block in one request.
    ///
    /// With a `token` the block is stored once, however often it is sent: the table remembers the tokens of its
    /// last blocks. The same token with other rows would be dropped silently, so that a hash of the rows belongs
    /// into it. When this returns `Ok`, the rows are as safe as the table's settings make them.
    ///
    /// # Errors
    /// After [`StoreError::Unavailable`] the rows may or may not be stored: send them again, with the same token.
    pub async fn insert(
        &self,
        table: &str,
        columns: &[&str],
        format: &str,
        rows: Bytes,
        token: Option<&str>,
    ) -> Result<(), StoreError> {
        self.insert_parts(table, columns, format, vec![rows], token).await
    }

    /// As [`Store::insert`], for rows that are cut anywhere into parts: they need not be copied together.
    ///
    /// # Errors
    /// As there.
    pub async fn insert_parts(
        &self,
        table: &str,
        columns: &[&str],
        format: &str,
        rows: Vec<Bytes>,
        token: Option<&str>,
    ) -> Result<(), StoreError> {
        let names: Vec<String> = columns.iter().map(|column| quote(column, '`')).collect();
        let (table, names) = (quote(table, '`'), names.join(", "));
        let token = token.map(|token| ("insert_deduplication_token", token));
        let settings = INSERT_SETTINGS.iter().copied().chain(token);
        if let Some(embedded) = &self.inner.embedded {
            let settings = settings.chain([NICE_OF_INSERTS]);
            let statement = direct::Statement {
                sql: format!("INSERT INTO {}.{table} ({names})", quote(self.database(), '`')),
                format: format.to_owned(),
                settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            };
            return self.insert_directly(Arc::clone(embedded), statement, rows).await;
        }
        let sql = format!("INSERT INTO {table} ({names}) FORMAT {format}");
        let mut insert = self
            .client()
            .insert_formatted_with(sql)
            .with_timeouts(Some(INSERT_SEND_WAIT_MAX), Some(INSERT_STORE_WAIT_MAX));
        for (name, value) in settings {
            insert = insert.with_setting(name, value);
        }
        for part in rows {
            insert.send(part).await.map_err(|error| self.error(error))?;
        }
        insert.end().await.map_err(|error| self.error(error))
    }

    /// Inserts into the engine of this process. One that is given up after its time goes on; what is sent again has
    /// the same token.
    async fn insert_directly(
        &self,
        embedded: Arc<Embedded>,
        statement: direct::Statement,
        rows: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        // It holds the data directory until it has ended.
        let inserting =
            tokio::task::spawn_blocking(move || direct::insert(embedded.engine(), &statement, &rows));
        let unavailable = |reason: String| StoreError::Unavailable { url: self.url().to_owned(), reason };
        match tokio::time::timeout(INSERT_STORE_WAIT_MAX, inserting).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(EngineError::Exception { text, .. }))) => {
                Err(self.error(clickhouse::error::Error::BadResponse(text)))
            }
            Ok(Ok(Err(error))) => Err(unavailable(error.to_string())),
            // The runtime goes down.
            Ok(Err(error)) => Err(unavailable(error.to_string())),
            Err(_) => Err(unavailable(format!("not stored within {} s", INSERT_STORE_WAIT_MAX.as_secs()))),
        }
    }

    /// Checks that each table that rows are inserted into still has the settings on which exactly-once storage
    /// stands.
    ///
    /// # Errors
    /// [`SchemaError::Setting`] names the table, the setting and the statement that mends it.
    pub async fn check_settings(&self) -> Result<(), StoreError> {
        let tables: Vec<(String, String, String)> = self
            .client()
            .query("SELECT name, engine, create_table_query FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree' AND name NOT LIKE '.%'")
            .param("database", self.database())
            .fetch_all()
            .await
            .map_err(|error| self.error(error))?;
        for (table, engine, definition) in tables {
            for (setting, least, needed) in TABLE_SETTINGS {
                let is_replicated = engine.starts_with("Replicated");
                if is_replicated && setting.starts_with("non_replicated") {
                    continue;
                }
                let found = setting_of(&definition, setting);
                let value: Option<u64> = found.and_then(|value| value.parse().ok());
                if value.is_none_or(|value| value < *least) {
                    return Err(StoreError::Schema(SchemaError::Setting {
                        table,
                        setting: (*setting).to_owned(),
                        found: found.unwrap_or("its default").to_owned(),
                        needed: (*needed).to_owned(),
                    }));
                }
            }
        }
        Ok(())
    }
}

/// The value of `setting` in a table's definition.
fn setting_of<'a>(definition: &'a str, setting: &str) -> Option<&'a str> {
    let (_, settings) = definition.rsplit_once(" SETTINGS ")?;
    settings.split(", ").find_map(|pair| {
        let (name, value) = pair.split_once(" = ")?;
        (name.trim() == setting).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_setting_of_a_definition() {
        let definition = "CREATE TABLE d.t (`a` String) ENGINE = MergeTree ORDER BY a SETTINGS x = 1, fsync_after_insert = 1";
        assert_eq!(setting_of(definition, "fsync_after_insert"), Some("1"));
        assert_eq!(setting_of(definition, "fsync_part_directory"), None);
    }
}
