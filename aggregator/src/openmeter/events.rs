//! `GET /api/v1/events` and `/api/v2/events`: what came, and whether it counts.

use std::collections::BTreeMap;

use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Listed;
use super::fields::{Fields, texts};
use super::filters::like;
use super::problem::{cannot_be, of_usage};
use super::query::{may_see, no_customers};
use super::search::{self, Keep, Part, Place, STREAMS_MAX};
use super::{fields, literal};
use crate::api::gate::{Reader, Reading};
use crate::api::output::{self, TakesJson};
use crate::api::params::Params;
use crate::api::problem::{Kind, Problem};
use crate::api::times;
use crate::usage::events::{EventQuery, FoundEvent, Order, Verdict};
use crate::usage::{Scope, Test};

const LIMIT_MAX: usize = 100;
/// What is looked at where no time is said.
const RECENT: TimeDelta = TimeDelta::hours(72);
/// Those that are in the store. Copies are passed over when they are seen: the engine finds all of them with less work than some.
const STORED: [Verdict; 7] = [
    Verdict::Counted,
    Verdict::Unmatched,
    Verdict::WithoutValue,
    Verdict::Voided,
    Verdict::Amended,
    Verdict::Void,
    Verdict::Copy,
];

/// `GET /api/v1/events`
pub(super) async fn list(reader: Reader, _: TakesJson, uri: Uri) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let known =
        ["from", "to", "ingestedAtFrom", "ingestedAtTo", "id", "subject", "limit", "clientId", "customerId"];
    let params = Params::of_address(&uri, &known)?;
    params.one("clientId")?;
    if let Some(id) = params.all("customerId").find(|id| !id.is_empty()) {
        return Err(no_customers("customerId", id));
    }
    let time = |name| {
        let text = params.one(name)?;
        text.map(|text| times::instant(name, text, Tz::UTC)).transpose()
    };
    let to = time("to")?;
    let from = time("from")?.unwrap_or(to.unwrap_or_else(Utc::now) - RECENT);
    in_order("from", Some(from), to)?;
    let arrived = (time("ingestedAtFrom")?, time("ingestedAtTo")?);
    in_order("ingestedAtFrom", arrived.0, arrived.1)?;
    let mut keep = Keep { arrived, ..Keep::default() };
    keep.contains.extend(params.text("id")?.map(|text| (Part::Id, text)));
    let limit = params.limit(LIMIT_MAX, LIMIT_MAX)?;
    let subject = params.text("subject")?;
    let reading = reader.begin().await?;
    let subjects = match &subject {
        None => None,
        Some(text) => containing(&reader, &reading, text).await?,
    };
    if let (Some(text), None) = (subject, &subjects) {
        keep.contains.push((Part::Subject, text));
    }
    let base = EventQuery { from: Some(from), to, ..EventQuery::default() };
    let found = search::read(&reading, streams(&base, subjects), Vec::new(), &keep, limit).await?;
    if found.is_cut {
        let detail = "too many events would be looked through: give `from` and `to` closer to each other, or the whole `subject`";
        return Err(Problem::new(Kind::TooMuchToRead, detail));
    }
    let values = values(&reading, &found.events).await?;
    drop(reading);
    let listed: Vec<Listed<'_>> = found.events.iter().map(|event| Listed::of(event, &values)).collect();
    Ok(output::json(StatusCode::OK, &listed))
}

/// The subjects that contain a text; `None` if they are too many to be looked up one by one.
async fn containing(reader: &Reader, reading: &Reading, text: &str) -> Result<Option<Vec<String>>, Problem> {
    if let Scope::Tenant { tenant, .. } = reader.scope() {
        if !tenant.contains(text) {
            may_see(reader, &[text.to_owned()])?;
        }
        return Ok(Some(vec![tenant.clone()]));
    }
    // Letters of any case are found; here they count.
    let page = reading.tenants(Some(text), None, 10 * STREAMS_MAX).await.map_err(of_usage)?;
    let names = page.tenants.into_iter().map(|seen| seen.tenant).filter(|tenant| tenant.contains(text));
    let names: Vec<String> = names.collect();
    Ok((page.next.is_none() && names.len() <= STREAMS_MAX).then_some(names))
}

/// One question for each subject, or one for all.
fn streams(base: &EventQuery, subjects: Option<Vec<String>>) -> Vec<EventQuery> {
    let base = EventQuery { verdicts: STORED.to_vec(), order: Order::NewestFirst, ..base.clone() };
    match subjects {
        None => vec![base],
        Some(subjects) => {
            subjects.into_iter().map(|tenant| EventQuery { tenant: Some(tenant), ..base.clone() }).collect()
        }
    }
}

fn in_order(name: &str, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Result<(), Problem> {
    match (from, to) {
        (Some(from), Some(to)) if from >= to => {
            let allowed = format!("a time before the end, {}", fields::written(to));
            Err(cannot_be(name, &fields::written(from), allowed))
        }
        _ => Ok(()),
    }
}

/// The keys that meters take their values from, if any of the events lacks one.
async fn values(reading: &Reading, events: &[FoundEvent]) -> Result<BTreeMap<String, String>, Problem> {
    if events.iter().all(|event| event.verdict != Verdict::WithoutValue) {
        return Ok(BTreeMap::new());
    }
    let rows = reading.meter_versions().await?;
    let value = |definition: rentroll_schemas::meter::Meter| Some((definition.name, definition.value?));
    Ok(rows.into_iter().filter_map(|row| value(row.definition?)).collect())
}

/// Where a page ended.
#[derive(Serialize, Deserialize)]
struct Cursor {
    /// The question that it is of.
    q: String,
    /// Where the span began, in microseconds, if the question did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<i64>,
    s: Vec<Place>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    items: Vec<Listed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `GET /api/v2/events`
pub(super) async fn list_v2(reader: Reader, _: TakesJson, uri: Uri) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let params = Params::of_address(&uri, &["limit", "cursor", "filter", "clientId"])?;
    params.one("clientId")?;
    let limit = params.limit(LIMIT_MAX, LIMIT_MAX)?;
    let question = hex::encode(params.digest(&["cursor", "limit"]));
    let cursor = params.text("cursor")?.map(|text| cursor(&text, &question)).transpose()?;
    let Filtered { mut base, keep, subjects } = match params.one("filter")?.filter(|text| !text.is_empty()) {
        Some(text) => filtered(text)?,
        None => Filtered::default(),
    };
    may_see(&reader, subjects.as_deref().unwrap_or_default())?;
    let mut usual = None;
    if base.from.is_none() && base.to.is_none() {
        let begun = cursor.as_ref().and_then(|cursor| cursor.f).and_then(DateTime::from_timestamp_micros);
        let from = begun.unwrap_or_else(|| Utc::now() - RECENT);
        usual = Some(from.timestamp_micros());
        base.from = Some(from);
    }
    let places = cursor.map(|cursor| cursor.s).unwrap_or_default();
    let reading = reader.begin().await?;
    let found = search::read(&reading, streams(&base, subjects), places, &keep, limit).await?;
    let next_cursor = match found.places {
        None => None,
        Some(s) => {
            let cursor = serde_json::to_vec(&Cursor { q: question, f: usual, s });
            Some(hex::encode(cursor.map_err(|error| Problem::internal(&error))?))
        }
    };
    let values = values(&reading, &found.events).await?;
    let items = found.events.iter().map(|event| Listed::of(event, &values)).collect();
    Ok(output::json(StatusCode::OK, &Page { items, next_cursor }))
}

fn cursor(text: &str, question: &str) -> Result<Cursor, Problem> {
    let allowed = "the `nextCursor` of an answer to the same question";
    let read: Option<Cursor> = hex::decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let read = read.filter(|cursor| cursor.q == question && cursor.s.len() <= STREAMS_MAX);
    read.ok_or_else(|| cannot_be("cursor", text, allowed))
}

/// A filter, as the engine is asked, and what is left of it.
#[derive(Debug, Default)]
struct Filtered {
    base: EventQuery,
    keep: Keep,
    subjects: Option<Vec<String>>,
}

fn filtered(text: &str) -> Result<Filtered, Problem> {
    let known = ["id", "source", "subject", "type", "time", "ingestedAt"];
    let value = literal::read(text).ok_or_else(|| cannot_be("filter", text, "a JSON object"))?;
    let fields = Fields::of(value, &known).map_err(|problem| {
        let detail = problem.detail().to_owned();
        cannot_be("filter", text, format!("an object of {}", known.join(", ")))
            .saying(format!("`filter`: {detail}"))
    })?;
    let mut filtered = Filtered::default();
    for (name, part) in
        [("id", Part::Id), ("source", Part::Source), ("subject", Part::Subject), ("type", Part::Type)]
    {
        let Some(value) = fields.get(name) else { continue };
        let test = of_text(value)?;
        let base = &mut filtered.base;
        match (part, test) {
            (Part::Id, Test::In(texts)) if texts.len() == 1 => base.id = texts.into_iter().next(),
            (Part::Source, Test::In(texts)) if texts.len() == 1 => base.source = texts.into_iter().next(),
            (Part::Type, Test::In(texts)) if texts.len() == 1 => base.kind = texts.into_iter().next(),
            (Part::Subject, Test::In(mut texts)) => {
                texts.sort_unstable();
                texts.dedup();
                if texts.len() > STREAMS_MAX {
                    return Err(cannot_be("filter", name, format!("at most {STREAMS_MAX} subjects")));
                }
                filtered.subjects = Some(texts);
            }
            (part, test) => filtered.keep.tests.push((part, test)),
        }
    }
    if let Some(value) = fields.get("time") {
        (filtered.base.from, filtered.base.to) = of_time("time", value)?;
    }
    if let Some(value) = fields.get("ingestedAt") {
        filtered.keep.arrived = of_time("ingestedAt", value)?;
    }
    Ok(filtered)
}

/// The operators that are given. Python's models have those that are not as null.
fn operators<'a>(value: &'a Value, allowed: &str) -> Result<Vec<(&'a str, &'a Value)>, Problem> {
    match value {
        Value::Object(entries) => Ok(entries
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.as_str(), value))
            .collect()),
        other => Err(cannot_be("filter", &other.to_string(), allowed)),
    }
}

fn of_text(value: &Value) -> Result<Test, Problem> {
    let allowed = "one of $eq, $ne, $in, $nin and $like (`begins so%`)";
    let refused = || cannot_be("filter", &value.to_string(), allowed);
    let text =
        |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(refused);
    let list = |value: &Value| {
        let texts = texts("filter", value).ok();
        texts
            .filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.is_empty()))
            .ok_or_else(refused)
    };
    match operators(value, allowed)?.as_slice() {
        [("$eq", value)] => Ok(Test::In(vec![text(value)?])),
        [("$ne", value)] => Ok(Test::Not(vec![text(value)?])),
        [("$in", value)] => Ok(Test::In(list(value)?)),
        [("$nin", value)] => Ok(Test::Not(list(value)?)),
        [("$like", value)] => like(&text(value)?).ok_or_else(refused),
        _ => Err(refused()),
    }
}

type Bounds = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

fn of_time(name: &str, value: &Value) -> Result<Bounds, Problem> {
    let allowed = "$gte or $gt, and $lt or $lte, of times";
    let refused = || cannot_be("filter", &value.to_string(), allowed);
    let (mut from, mut to) = (None, None);
    for (operator, value) in operators(value, allowed)? {
        let time = times::instant("filter", value.as_str().ok_or_else(refused)?, Tz::UTC)?;
        let just_after = time + TimeDelta::microseconds(1);
        let (bound, time) = match operator {
            "$gte" => (&mut from, time),
            "$gt" => (&mut from, just_after),
            "$lt" => (&mut to, time),
            "$lte" => (&mut to, just_after),
            _ => return Err(refused()),
        };
        if bound.replace(time).is_some() {
            return Err(refused());
        }
    }
    if from.is_none() && to.is_none() {
        return Err(refused());
    }
    in_order("filter", from, to).map_err(|problem| {
        let detail = format!("`filter`: `{name}` ends before it begins");
        problem.saying(detail)
    })?;
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_asked_of_the_engine_where_it_can_be() {
        let text = r#"{"subject":{"$in":["b","a","b"]},"type":{"$eq":"prompt"},"source":{"$ne":"x"},
            "time":{"$gt":"2026-01-01T00:00:00Z","$lt":"2026-01-02T00:00:00Z"},"ingestedAt":{"$lte":"2026-01-03T00:00:00Z"}}"#;
        let Filtered { base, keep, subjects } = filtered(text).unwrap();
        assert_eq!(subjects.unwrap(), ["a", "b"]);
        assert_eq!((base.kind.as_deref(), base.source, base.id), (Some("prompt"), None, None));
        assert_eq!(keep.tests, [(Part::Source, Test::Not(vec!["x".into()]))]);
        assert_eq!(base.from.unwrap().to_rfc3339(), "2026-01-01T00:00:00.000001+00:00");
        assert_eq!(base.to.unwrap().to_rfc3339(), "2026-01-02T00:00:00+00:00");
        assert_eq!(keep.arrived.1.unwrap().to_rfc3339(), "2026-01-03T00:00:00.000001+00:00");
        for wrong in [
            "x",
            "[]",
            r#"{"colour":{"$eq":"a"}}"#,
            r#"{"id":"a"}"#,
            r#"{"id":{}}"#,
            r#"{"id":{"$eq":"a","$ne":"b"}}"#,
            r#"{"id":{"$in":[]}}"#,
            r#"{"id":{"$like":"%a"}}"#,
            r#"{"time":{}}"#,
            r#"{"time":{"$eq":"2026-01-01T00:00:00Z"}}"#,
            r#"{"time":{"$gt":"2026-01-01T00:00:00Z","$gte":"2026-01-01T00:00:00Z"}}"#,
            r#"{"time":{"$gte":"2026-01-02T00:00:00Z","$lt":"2026-01-01T00:00:00Z"}}"#,
            r#"{"time":{"$gte":7}}"#,
        ] {
            let problem = filtered(wrong).unwrap_err();
            assert!(problem.detail().contains("`filter`"), "{wrong}: {}", problem.detail());
        }
    }

    #[test]
    fn a_cursor_is_of_one_question() {
        let made = |question: &str, places: usize| {
            let cursor = Cursor { q: question.into(), f: Some(7), s: vec![Place::default(); places] };
            hex::encode(serde_json::to_vec(&cursor).unwrap())
        };
        assert_eq!(cursor(&made("a", 2), "a").unwrap().s.len(), 2);
        for (text, question) in
            [(made("a", 1), "b"), (made("a", 17), "a"), ("zz".into(), "a"), ("00".into(), "a")]
        {
            assert!(cursor(&text, question).is_err());
        }
    }
}
