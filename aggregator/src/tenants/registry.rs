//! The table of tenants: read, and changed by adding rows.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::tenant::{Origin, TenantRecord};
use serde::{Deserialize, Serialize};

use super::TenantsError;
use super::history::{Entry, History, TenantVersion};
use super::plan::{Change, ClosedPeriod, Known, Plan};

/// Up to so many bytes of tenants' ids are asked for by name, in the address of the request; of more, the whole table is
/// read. A proxy in between takes addresses of 8 KiB at the least.
const NAMES_BYTES_MAX: usize = 4096;

const COLUMNS: [&str; 10] = [
    "tenant",
    "valid_from",
    "recorded_at",
    "name",
    "organisation",
    "tier",
    "tags",
    "external_ids",
    "is_removed",
    "origin",
];

/// The registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(super) store: Store,
}

#[derive(Row, Deserialize)]
struct Line {
    tenant: String,
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    valid_from: DateTime<Utc>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::micros")]
    recorded_at: DateTime<Utc>,
    name: String,
    organisation: String,
    tier: String,
    tags: Vec<(String, String)>,
    external_ids: Vec<(String, String)>,
    is_removed: bool,
    origin: String,
}

#[derive(Serialize)]
struct NewLine<'a> {
    tenant: &'a str,
    valid_from: String,
    recorded_at: String,
    name: &'a str,
    organisation: &'a str,
    tier: &'a str,
    tags: &'a BTreeMap<String, String>,
    external_ids: &'a BTreeMap<String, String>,
    is_removed: bool,
    origin: &'a str,
}

#[derive(Row, Deserialize)]
struct Closed {
    period: String,
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    starts_at: DateTime<Utc>,
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    ends_at: DateTime<Utc>,
}

impl Registry {
    /// That of `store`.
    pub fn new(store: Store) -> Self {
        Registry { store }
    }

    /// Makes known what `records` say: all of them, or none. The changes are in the order of the records, one for each.
    ///
    /// # Errors
    /// [`TenantsError::Refused`] names each record that is not taken, with field and reason. The store's: then the records
    /// may or may not be in, and can be put again.
    pub async fn put(
        &self,
        records: &[TenantRecord],
        origin: Origin,
        now: DateTime<Utc>,
    ) -> Result<Vec<Change>, TenantsError> {
        let plan = self.plan(records, origin, now).await?;
        if !plan.refusals.is_empty() {
            return Err(TenantsError::Refused(plan.refusals));
        }
        self.write(&plan.rows).await?;
        Ok(plan.changes)
    }

    /// What [`Registry::put`] would do. Nothing is written.
    ///
    /// # Errors
    /// The store's.
    pub async fn plan(
        &self,
        records: &[TenantRecord],
        origin: Origin,
        now: DateTime<Utc>,
    ) -> Result<Plan, TenantsError> {
        Ok(self.known(records).await?.plan(records, origin, now))
    }

    /// Lets nothing be known of a tenant from `from` on, or from the next minute. What was known before stays.
    ///
    /// # Errors
    /// [`TenantsError::Unknown`] if nothing was ever known of it; else as [`Registry::put`].
    pub async fn remove(
        &self,
        tenant: &str,
        from: Option<DateTime<Utc>>,
        origin: Origin,
        now: DateTime<Utc>,
    ) -> Result<Change, TenantsError> {
        let unknown = || TenantsError::Unknown(tenant.to_owned());
        if self.get(tenant).await?.is_empty() {
            return Err(unknown());
        }
        let record = TenantRecord {
            tenant: tenant.to_owned(),
            valid_from: from,
            removed: true,
            ..TenantRecord::default()
        };
        self.put(&[record], origin, now).await?.pop().ok_or_else(unknown)
    }

    /// All versions of a tenant, in the order of time, removals too; none if it is not known.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, tenant: &str) -> Result<Vec<TenantVersion>, TenantsError> {
        let histories = self.read(Some(&[tenant])).await?;
        Ok(histories.get(tenant).map(History::versions).unwrap_or_default())
    }

    /// What is known of a tenant at a time.
    ///
    /// # Errors
    /// The store's.
    pub async fn at(&self, tenant: &str, time: DateTime<Utc>) -> Result<Option<TenantVersion>, TenantsError> {
        let mut versions = self.get(tenant).await?;
        versions.retain(|version| version.holds_at(time) && !version.record.removed);
        Ok(versions.pop())
    }

    /// All versions of all tenants, in the order of tenants and time, removals too.
    ///
    /// # Errors
    /// The store's.
    pub async fn versions(&self) -> Result<Vec<TenantVersion>, TenantsError> {
        Ok(self.read(None).await?.values().flat_map(History::versions).collect())
    }

    /// What bears on `records`.
    pub(super) async fn known(&self, records: &[TenantRecord]) -> Result<Known, TenantsError> {
        let names: BTreeSet<&str> = records.iter().map(|record| record.tenant.as_str()).collect();
        let bytes: usize = names.iter().map(|name| name.len() + 3).sum();
        let names: Vec<&str> = names.into_iter().collect();
        let histories = self.read((bytes <= NAMES_BYTES_MAX).then_some(&names)).await?;
        let sql = "SELECT period, starts_at, ends_at FROM periods WHERE state = 'closed' ORDER BY starts_at, period";
        let closed: Vec<Closed> =
            self.store.client().query(sql).fetch_all().await.map_err(|error| self.store.error(error))?;
        let closed = closed
            .into_iter()
            .map(|Closed { period, starts_at, ends_at }| ClosedPeriod { period, starts_at, ends_at })
            .collect();
        Ok(Known { histories, closed })
    }

    async fn read(&self, names: Option<&[&str]>) -> Result<BTreeMap<String, History>, TenantsError> {
        let condition = if names.is_some() { "tenant IN {names:Array(String)}" } else { "true" };
        let sql = format!(
            "SELECT tenant, valid_from, recorded_at, name, organisation, toString(tier) AS tier, tags, external_ids, \
             is_removed, toString(origin) AS origin FROM tenants WHERE {condition}"
        );
        let query = self.store.client().query(&sql);
        let query = match names {
            Some(names) => query.param("names", names),
            None => query,
        };
        let lines: Vec<Line> = query.fetch_all().await.map_err(|error| self.store.error(error))?;
        let mut histories: BTreeMap<String, History> = BTreeMap::new();
        for line in lines {
            let entry = entry(line)?;
            histories.entry(entry.record.tenant.clone()).or_default().add(entry);
        }
        Ok(histories)
    }

    /// Adds rows, as one block.
    pub(super) async fn write(&self, rows: &[Entry]) -> Result<(), TenantsError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut body = Vec::with_capacity(rows.len() * 256);
        for Entry { record, recorded_at, origin } in rows {
            let line = NewLine {
                tenant: &record.tenant,
                valid_from: record.starts_at().unwrap_or_default().format("%Y-%m-%d %H:%M:%S").to_string(),
                recorded_at: recorded_at.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
                name: &record.name,
                organisation: &record.organisation,
                tier: &record.tier,
                tags: &record.tags,
                external_ids: &record.external_ids,
                is_removed: record.removed,
                origin: origin.name(),
            };
            serde_json::to_writer(&mut body, &line).map_err(|error| TenantsError::Stored {
                tenant: record.tenant.clone(),
                reason: error.to_string(),
            })?;
            body.push(b'\n');
        }
        // One that is sent again says the same again: no token is needed.
        Ok(self.store.insert("tenants", &COLUMNS, "JSONEachRow", body.into(), None).await?)
    }
}

fn entry(line: Line) -> Result<Entry, TenantsError> {
    let origin = origin(&line.tenant, &line.origin)?;
    let record = TenantRecord {
        tenant: line.tenant,
        name: line.name,
        organisation: line.organisation,
        tier: line.tier,
        tags: line.tags.into_iter().collect(),
        external_ids: line.external_ids.into_iter().collect(),
        valid_from: start(line.valid_from),
        removed: line.is_removed,
    };
    Ok(Entry { record, recorded_at: line.recorded_at, origin })
}

pub(super) fn origin(tenant: &str, name: &str) -> Result<Origin, TenantsError> {
    Origin::from_name(name).ok_or_else(|| TenantsError::Stored {
        tenant: tenant.to_owned(),
        reason: format!("`{name}` is no origin that this program knows"),
    })
}

/// The epoch is the beginning.
pub(super) fn start(valid_from: DateTime<Utc>) -> Option<DateTime<Utc>> {
    Some(valid_from).filter(|time| *time > DateTime::UNIX_EPOCH)
}
