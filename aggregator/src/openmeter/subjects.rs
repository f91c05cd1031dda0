//! `/api/v1/subjects`: the registry of tenants.
//!
//! What is said of a tenant holds from the next minute on. Here it is shown at once: as it will be then.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use rentroll_schemas::tenant::{Origin, TenantRecord};
use serde::Serialize;
use serde_json::Value;

use super::fields::{self, Fields, written};
use super::problem::{cannot_be, fault};
use super::{Face, query};
use crate::api::gate::{Manager, Reader};
use crate::api::output::{self, TakesJson};
use crate::api::params::Params;
use crate::api::problem::{Kind, Problem};
use crate::api::{PathOf, segments};
use crate::tenants::plan::next_minute;
use crate::tenants::{Registry, TenantVersion, TenantsError};

const UPSERTS_MAX: usize = 1_000;
/// More tenants than that are not asked for one by one: the registry is read whole.
const ONE_BY_ONE_MAX: usize = 16;
/// The system of the external id that OpenMeter has a field for.
const STRIPE: &str = "stripe";
const FIELDS: [&str; 6] =
    ["key", "displayName", "metadata", "stripeCustomerId", "currentPeriodStart", "currentPeriodEnd"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subject<'a> {
    id: &'a str,
    key: &'a str,
    display_name: Option<&'a str>,
    metadata: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_customer_id: Option<&'a str>,
    created_at: String,
    updated_at: String,
}

/// What is known of a tenant next, since it was registered.
struct Known<'a> {
    record: &'a TenantRecord,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// The same of one tenant's versions, in the order of time.
fn known(versions: &[TenantVersion], at: DateTime<Utc>) -> Option<Known<'_>> {
    let nth = versions.iter().position(|version| version.holds_at(at) && !version.record.removed)?;
    let begun = versions[..nth].iter().rposition(|version| version.record.removed).map_or(0, |end| end + 1);
    let recorded = || versions[begun..=nth].iter().map(|version| version.recorded_at);
    Some(Known {
        record: &versions[nth].record,
        created_at: recorded().min()?,
        updated_at: recorded().max()?,
    })
}

impl<'a> Known<'a> {
    fn shown(&self) -> Subject<'a> {
        let record = self.record;
        Subject {
            id: &record.tenant,
            key: &record.tenant,
            display_name: Some(record.name.as_str()).filter(|name| !name.is_empty()),
            metadata: Some(&record.tags).filter(|tags| !tags.is_empty()),
            stripe_customer_id: record.external_ids.get(STRIPE).map(String::as_str),
            created_at: written(self.created_at),
            updated_at: written(self.updated_at),
        }
    }
}

/// `GET /subjects`
pub(super) async fn list(reader: Reader, _: TakesJson, uri: Uri) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    Params::of_address(&uri, &[])?;
    let versions = reader.begin().await?.all_tenants().await?;
    let at = next_minute(Utc::now());
    let tenants = versions.chunk_by(|one, other| one.record.tenant == other.record.tenant);
    let known: Vec<Known<'_>> = tenants.filter_map(|versions| known(versions, at)).collect();
    Ok(output::json(StatusCode::OK, &known.iter().map(Known::shown).collect::<Vec<_>>()))
}

/// `GET /subjects/{subject}`
pub(super) async fn get(
    reader: Reader,
    _: TakesJson,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let key = segments(path)?;
    Params::of_address(&uri, &[])?;
    query::may_see(&reader, std::slice::from_ref(&key))?;
    let versions = reader.begin().await?.known_tenant(&key).await?;
    let known = known(&versions, next_minute(Utc::now())).ok_or_else(|| no_subject(&key))?;
    Ok(output::json(StatusCode::OK, &known.shown()))
}

fn no_subject(key: &str) -> Problem {
    Problem::not_found(format!("there is no subject `{key:.80}`"))
}

/// `POST /subjects`
pub(super) async fn upsert(
    State(face): State<Face>,
    manager: Manager,
    _: TakesJson,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Params::of_address(&uri, &[])?;
    let Value::Array(given) = fields::read(&face, &headers, body).await? else {
        return Err(Problem::new(Kind::UnreadableBody, "the body must be a JSON array of subjects"));
    };
    if !(1..=UPSERTS_MAX).contains(&given.len()) {
        let detail = format!("{} subjects, but 1 to {UPSERTS_MAX} are taken at once", given.len());
        return Err(Problem::new(Kind::InvalidParameter, detail));
    }
    let registry = Registry::new(manager.store().clone());
    let now = Utc::now();
    let mut subjects = Vec::with_capacity(given.len());
    for subject in given {
        let fields = Fields::of(subject, &FIELDS)?;
        let key = fields.needed("key", "the tenant: a text of 1 to 512 bytes")?.to_owned();
        subjects.push((key, fields));
    }
    let keys: Vec<&str> = subjects.iter().map(|(key, _)| key.as_str()).collect();
    let before = histories(&registry, &keys).await?;
    let mut records = Vec::with_capacity(subjects.len());
    for (key, fields) in &subjects {
        let known = known_of(&before, key, now).map(|known| known.record.clone());
        records.push(changed(known.unwrap_or_default(), key, fields)?);
    }
    registry.put(&records, Origin::Api, now).await.map_err(refused)?;
    let after = histories(&registry, &keys).await?;
    let shown = |key: &&str| Ok(known_of(&after, key, now).ok_or_else(|| no_subject(key))?.shown());
    Ok(output::json(StatusCode::OK, &keys.iter().map(shown).collect::<Result<Vec<_>, Problem>>()?))
}

/// All versions of some tenants, each in the order of time.
async fn histories(
    registry: &Registry,
    keys: &[&str],
) -> Result<BTreeMap<String, Vec<TenantVersion>>, Problem> {
    let mut histories: BTreeMap<String, Vec<TenantVersion>> = BTreeMap::new();
    if keys.len() <= ONE_BY_ONE_MAX {
        for key in keys {
            histories.insert((*key).to_owned(), registry.get(key).await.map_err(refused)?);
        }
        return Ok(histories);
    }
    for version in registry.versions().await.map_err(refused)? {
        histories.entry(version.record.tenant.clone()).or_default().push(version);
    }
    Ok(histories)
}

fn known_of<'a>(
    histories: &'a BTreeMap<String, Vec<TenantVersion>>,
    key: &str,
    now: DateTime<Utc>,
) -> Option<Known<'a>> {
    known(histories.get(key)?, next_minute(now))
}

/// What is left out stays, and null erases.
fn changed(before: TenantRecord, key: &str, fields: &Fields) -> Result<TenantRecord, Problem> {
    let mut record = TenantRecord { tenant: key.to_owned(), valid_from: None, removed: false, ..before };
    match fields.text("displayName")? {
        Some(name) => name.clone_into(&mut record.name),
        None if fields.is_null("displayName") => record.name.clear(),
        None => {}
    }
    match fields.text("stripeCustomerId")? {
        Some(id) if !id.is_empty() => drop(record.external_ids.insert(STRIPE.to_owned(), id.to_owned())),
        None if !fields.is_null("stripeCustomerId") => {}
        _ => drop(record.external_ids.remove(STRIPE)),
    }
    match fields.get("metadata") {
        Some(Value::Object(entries)) => {
            record.tags.clear();
            for (name, value) in entries {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    other => return Err(no_metadata(other)),
                };
                record.tags.insert(name.clone(), text);
            }
        }
        Some(other) => return Err(no_metadata(other)),
        None if fields.is_null("metadata") => record.tags.clear(),
        None => {}
    }
    Ok(record)
}

fn no_metadata(value: &Value) -> Problem {
    cannot_be("metadata", &value.to_string(), "an object of texts, numbers and booleans")
}

/// `DELETE /subjects/{subject}`
pub(super) async fn delete(manager: Manager, path: PathOf<String>, uri: Uri) -> Result<Response, Problem> {
    let key = segments(path)?;
    Params::of_address(&uri, &[])?;
    let registry = Registry::new(manager.store().clone());
    let now = Utc::now();
    let versions = registry.get(&key).await.map_err(refused)?;
    known(&versions, next_minute(now)).ok_or_else(|| no_subject(&key))?;
    registry.remove(&key, None, Origin::Api, now).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Why the registry does not take subjects, each by the name that its field has here.
fn refused(error: TenantsError) -> Problem {
    let TenantsError::Refused(refusals) = error else { return error.into() };
    let faults = refusals.iter().map(|refusal| {
        let field = match refusal.fault.field.split('.').next().unwrap_or_default() {
            "tenant" => "key",
            "name" => "displayName",
            "tags" => "metadata",
            "external_ids" => "stripeCustomerId",
            other => other,
        };
        (format!("[{}].{field}", refusal.index), &refusal.fault.reason)
    });
    let faults: Vec<_> = faults.collect();
    let told: Vec<String> =
        faults.iter().map(|(field, reason)| format!("{field}: {reason}")).take(5).collect();
    let listed = faults.iter().map(|(field, reason)| fault(field, Kind::InvalidParameter, reason)).collect();
    Problem::new(Kind::InvalidParameter, told.join("; ")).listing(listed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_stays_and_null_erases() {
        let fields = |value| Fields::of(value, &FIELDS).unwrap();
        let first = json!({"key": "a", "displayName": "A", "metadata": {"n": 1.5, "t": true, "s": "x"}, "stripeCustomerId": "cus",
            "currentPeriodStart": "2026-01-01T00:00:00Z"});
        let made =
            changed(TenantRecord { tier: "pro".into(), ..TenantRecord::default() }, "a", &fields(first))
                .unwrap();
        assert_eq!((made.name.as_str(), made.tier.as_str()), ("A", "pro"));
        let tags: Vec<(&str, &str)> =
            made.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(tags, [("n", "1.5"), ("s", "x"), ("t", "true")]);
        assert_eq!(changed(made.clone(), "a", &fields(json!({"key": "a"}))).unwrap(), made);
        let erased = json!({"key": "a", "displayName": null, "metadata": null, "stripeCustomerId": null});
        let erased = changed(made, "a", &fields(erased)).unwrap();
        assert_eq!(
            erased,
            TenantRecord { tenant: "a".into(), tier: "pro".into(), ..TenantRecord::default() }
        );
        assert!(changed(erased, "a", &fields(json!({"key": "a", "metadata": {"x": []}}))).is_err());
    }

    #[test]
    fn a_tenant_that_is_registered_again_is_as_old_as_that() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let version = |to: Option<i64>, recorded, removed| TenantVersion {
            record: TenantRecord { tenant: "a".into(), removed, ..TenantRecord::default() },
            valid_to: to.map(at),
            origin: Origin::Api,
            recorded_at: at(recorded),
        };
        let mut versions =
            vec![version(Some(60), 1, false), version(Some(120), 50, true), version(None, 100, false)];
        versions[1].record.valid_from = Some(at(60));
        versions[2].record.valid_from = Some(at(120));
        let times = |at| known(&versions, at).map(|known| (known.created_at, known.updated_at));
        assert_eq!(times(at(30)), Some((at(1), at(1))));
        assert_eq!(times(at(60)), None);
        assert_eq!(times(at(120)), Some((at(100), at(100))));
    }
}
