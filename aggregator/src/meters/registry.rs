//! The table of meters: read whole, changed by adding a version.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use clickhouse::Row;
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::meter::{Aggregation, Meter, Meters};
use serde::{Deserialize, Serialize};

use super::history::{self, Stored, next_minute};

/// Where a definition comes from that was written in `meters.yaml`.
pub const FILE: &str = "file";
/// Where one comes from that was made through the API.
pub const API: &str = "api";

/// Another writer may have taken the number of a version; it is tried again so often.
const TRIES_MAX: usize = 5;

const COLUMNS: [&str; 6] = ["name", "version", "definition", "effective_from", "origin", "written_at"];

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// It was like this before.
    Unchanged {
        /// The meter.
        name: String,
        /// Its version.
        version: u32,
    },
    /// A new version, of a new meter if it is the first.
    Versioned {
        /// The meter.
        name: String,
        /// The new version.
        version: u32,
        /// From when on it counts; `None` for all times.
        effective_from: Option<DateTime<Utc>>,
    },
    /// It counts no more.
    Ended {
        /// The meter.
        name: String,
        /// From when on.
        effective_from: DateTime<Utc>,
    },
}

/// Why a meter cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The definition does not hold.
    #[error("{field}: {reason}")]
    Definition {
        /// The field at fault.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is none of that name.
    #[error("there is no meter `{0}`")]
    Unknown(String),
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A definition in the table is none that this program writes.
    #[error("meter `{name}`, version {version}: {reason}")]
    Stored {
        /// The meter.
        name: String,
        /// The version.
        version: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// Others change it all the time.
    #[error("meter `{0}` is being changed by others; try again")]
    Contended(String),
}

#[derive(Row, Deserialize)]
struct Line {
    name: String,
    version: u32,
    definition: String,
    effective_from: i64,
    origin: String,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    written_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct NewLine<'a> {
    name: &'a str,
    version: u32,
    definition: String,
    effective_from: i64,
    origin: &'a str,
    written_at: String,
}

/// All versions that were ever written, in the order of name and version.
///
/// # Errors
/// The store's; [`MeterError::Stored`].
pub async fn stored(store: &Store) -> Result<Vec<Stored>, MeterError> {
    let sql = "SELECT name, version, definition, effective_from, toString(origin) AS origin, written_at FROM meters \
               ORDER BY name, version, written_at, definition LIMIT 1 BY name, version";
    let lines: Vec<Line> = store.client().query(sql).fetch_all().await.map_err(|error| store.error(error))?;
    lines.into_iter().map(read).collect()
}

fn read(line: Line) -> Result<Stored, MeterError> {
    let definition = match line.definition.as_str() {
        "" => None,
        text => Some(serde_json::from_str(text).map_err(|error| MeterError::Stored {
            name: line.name.clone(),
            version: line.version,
            reason: error.to_string(),
        })?),
    };
    Ok(Stored {
        definition,
        effective_from: DateTime::from_timestamp(line.effective_from, 0)
            .filter(|_| line.effective_from != i64::MIN),
        name: line.name,
        version: line.version,
        origin: line.origin,
        written_at: line.written_at,
    })
}

/// The meters in force.
///
/// # Errors
/// As [`stored`].
pub async fn load(store: &Store) -> Result<Meters, MeterError> {
    Ok(history::versions(&stored(store).await?))
}

/// Makes the meter what `definition` says: a new one counts all events, older ones as well; a change is a new version,
/// from the definition's `effective_from` on or from the next minute. Says so if it is that already.
///
/// # Errors
/// [`MeterError::Definition`] also for what a change cannot change: unit and aggregation of a name, and a closed
/// period.
pub async fn put(
    store: &Store,
    definition: &Meter,
    origin: &str,
    now: DateTime<Utc>,
) -> Result<Change, MeterError> {
    for _ in 0..TRIES_MAX {
        let rows = stored(store).await?;
        let name = &definition.name;
        let (version, effective_from) = match decide(store, &rows, definition, now).await? {
            Decided::Same(version) => return Ok(Change::Unchanged { name: name.clone(), version }),
            Decided::Write { version, effective_from } => (version, effective_from),
        };
        if write(store, name, version, Some(definition), effective_from, origin, now).await? {
            return Ok(Change::Versioned { name: name.clone(), version, effective_from });
        }
    }
    Err(MeterError::Contended(definition.name.clone()))
}

/// What it takes to make a meter what a definition says.
enum Decided {
    /// Nothing: it is this version.
    Same(u32),
    /// A new version.
    Write { version: u32, effective_from: Option<DateTime<Utc>> },
}

async fn decide(
    store: &Store,
    rows: &[Stored],
    definition: &Meter,
    now: DateTime<Utc>,
) -> Result<Decided, MeterError> {
    definition.check().map_err(|(field, reason)| MeterError::Definition { field, reason })?;
    let newest = rows.iter().rfind(|row| row.name == definition.name);
    let before = newest.and_then(|newest| newest.definition.as_ref());
    let version = newest.map_or(1, |newest| newest.version + 1);
    let given = definition.effective_from;
    let (effective_from, reaches_back) = match (newest, before) {
        (None, _) => (given, false),
        (Some(newest), Some(before)) if before.counts_as(definition) => {
            let for_people =
                |meter: &Meter| (meter.description.clone(), meter.title.clone(), meter.labels.clone());
            let is_same = for_people(before) == for_people(definition);
            if is_same && (given.is_none() || given == newest.effective_from) {
                return Ok(Decided::Same(newest.version));
            }
            // Other words alone: the same counting under them.
            (given.or(newest.effective_from), given.is_some() && given != newest.effective_from)
        }
        (Some(_), before) => {
            if let Some(before) = before {
                keeps_its_meaning(before, definition)?;
            }
            (Some(given.unwrap_or_else(|| next_minute(now))), true)
        }
    };
    if reaches_back {
        is_open(store, effective_from).await?;
    }
    Ok(Decided::Write { version, effective_from })
}

/// Lets the meter count no more, from the next minute on. What it counted stays.
///
/// # Errors
/// [`MeterError::Unknown`] if there is none, or it has ended.
pub async fn end(store: &Store, name: &str, origin: &str, now: DateTime<Utc>) -> Result<Change, MeterError> {
    for _ in 0..TRIES_MAX {
        let rows = stored(store).await?;
        let newest = rows.iter().rfind(|row| row.name == name).filter(|row| row.definition.is_some());
        let Some(newest) = newest else { return Err(MeterError::Unknown(name.to_owned())) };
        let from = end_of(Some(newest), now);
        if write(store, name, newest.version + 1, None, Some(from), origin, now).await? {
            return Ok(Change::Ended { name: name.to_owned(), effective_from: from });
        }
    }
    Err(MeterError::Contended(name.to_owned()))
}

/// Makes the meters of the file what it says. One that came from a file before and is not in it any more ends; those of
/// the API are left alone.
///
/// # Errors
/// As [`put`].
pub async fn seed(store: &Store, file: &Meters, now: DateTime<Utc>) -> Result<Vec<Change>, MeterError> {
    let rows = stored(store).await?;
    let mut changes = Vec::new();
    for (meter, place) in file.meters.iter().zip(0..) {
        // Hardly ever is there anything to write, and then the table need not be read for each.
        if let Decided::Same(_) = decide(store, &rows, meter, now).await? {
            continue;
        }
        // Later ones are written later: by that they keep the order of the file.
        changes.push(put(store, meter, FILE, now + TimeDelta::milliseconds(place)).await?);
    }
    for name in ended(&rows, file) {
        changes.push(end(store, &name, FILE, now).await?);
    }
    changes.retain(|change| !matches!(change, Change::Unchanged { .. }));
    Ok(changes)
}

/// What [`seed`] would change.
///
/// # Errors
/// As [`seed`].
pub async fn preview(store: &Store, file: &Meters, now: DateTime<Utc>) -> Result<Vec<Change>, MeterError> {
    let rows = stored(store).await?;
    let mut changes = Vec::new();
    for meter in &file.meters {
        match decide(store, &rows, meter, now).await? {
            Decided::Same(_) => {}
            Decided::Write { version, effective_from } => {
                changes.push(Change::Versioned { name: meter.name.clone(), version, effective_from });
            }
        }
    }
    let ends = |name: String| {
        let newest = rows.iter().rfind(|row| row.name == name);
        Change::Ended { effective_from: end_of(newest, now), name }
    };
    changes.extend(ended(&rows, file).into_iter().map(ends));
    Ok(changes)
}

/// When a meter ends that is to end now.
fn end_of(newest: Option<&Stored>, now: DateTime<Utc>) -> DateTime<Utc> {
    next_minute(now).max(newest.and_then(|newest| newest.effective_from).unwrap_or(DateTime::<Utc>::MIN_UTC))
}

/// The meters that came from a file, count, and are not in `file`.
fn ended(rows: &[Stored], file: &Meters) -> Vec<String> {
    let is_newest =
        |row: &&Stored| rows.iter().all(|other| other.name != row.name || other.version <= row.version);
    let of_file = rows.iter().filter(|row| row.origin == FILE && row.definition.is_some());
    let gone = of_file.filter(is_newest).filter(|row| file.get(&row.name).is_none());
    gone.map(|row| row.name.clone()).collect()
}

/// What a name stands for does not change: sums over its versions would be of two kinds.
fn keeps_its_meaning(before: &Meter, after: &Meter) -> Result<(), MeterError> {
    let aggregation = |meter: &Meter| {
        let percentile = meter.percentile.map(|percentile| format!(" {}", percentile.percents()));
        let per = meter.per.unwrap_or_default();
        let per = matches!(meter.aggregation, Aggregation::Rate | Aggregation::TimeWeighted)
            .then(|| format!(" per {}", format!("{per:?}").to_lowercase()));
        format!("{}{}{}", meter.aggregation.name(), percentile.unwrap_or_default(), per.unwrap_or_default())
    };
    let name = &after.name;
    for (field, before, after) in [
        ("aggregation", aggregation(before), aggregation(after)),
        ("unit", before.unit.clone(), after.unit.clone()),
    ] {
        if before != after {
            let reason = format!(
                "`{after}`, but meter `{name}` is kept as `{before}`, and a version cannot change that: give a new meter \
                 another name"
            );
            return Err(MeterError::Definition { field: field.to_owned(), reason });
        }
    }
    Ok(())
}

/// A closed period never changes.
async fn is_open(store: &Store, from: Option<DateTime<Utc>>) -> Result<(), MeterError> {
    let sql = "SELECT toInt64(toUnixTimestamp(max(ends_at))), count() FROM periods WHERE state = 'closed'";
    let (ends_at, closed): (i64, u64) =
        store.client().query(sql).fetch_one().await.map_err(|error| store.error(error))?;
    let ends_at = DateTime::from_timestamp(ends_at, 0).unwrap_or_default();
    match closed > 0 && from.is_none_or(|from| from < ends_at) {
        true => Err(MeterError::Definition {
            field: "effective_from".to_owned(),
            reason: format!(
                "billing periods are closed up to {}: a change can begin then",
                ends_at.to_rfc3339()
            ),
        }),
        false => Ok(()),
    }
}

/// Writes a version; whether it is the one, and not another writer's.
async fn write(
    store: &Store,
    name: &str,
    version: u32,
    definition: Option<&Meter>,
    effective_from: Option<DateTime<Utc>>,
    origin: &str,
    now: DateTime<Utc>,
) -> Result<bool, MeterError> {
    // What the row says beside it is not said twice.
    let bare = definition.map(|meter| Meter {
        version: 1,
        effective_from: None,
        effective_to: None,
        ..meter.clone()
    });
    let line = NewLine {
        name,
        version,
        // A meter of texts and numbers always serialises.
        definition: bare
            .as_ref()
            .map(|meter| serde_json::to_string(meter).unwrap_or_default())
            .unwrap_or_default(),
        effective_from: effective_from.map_or(i64::MIN, |from| from.timestamp()),
        origin,
        written_at: now.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    };
    let body = serde_json::to_vec(&line).unwrap_or_default();
    let token = format!("meter:{name}:{version}");
    store.insert("meters", &COLUMNS, "JSONEachRow", Bytes::from(body), Some(&token)).await?;
    let written = stored(store).await?.into_iter().find(|row| row.name == name && row.version == version);
    Ok(written.is_some_and(|row| row.definition == bare && row.effective_from == effective_from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_ends_its_own_meters_alone() {
        let row = |name: &str, version: u32, origin: &str, ends: bool| Stored {
            name: name.into(),
            version,
            definition: (!ends).then(Meter::default),
            effective_from: None,
            origin: origin.into(),
            written_at: DateTime::default(),
        };
        let rows = [
            row("a", 1, FILE, false),
            row("b", 1, FILE, false),
            row("c", 1, API, false),
            row("d", 1, FILE, false),
            row("d", 2, FILE, true),
        ];
        let file = Meters { meters: vec![Meter { name: "a".into(), ..Meter::default() }] };
        assert_eq!(ended(&rows, &file), ["b"]);
    }
}
