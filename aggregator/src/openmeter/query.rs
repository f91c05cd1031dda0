//! `/api/v1/meters/{meter}/query`: how much of a meter.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use chrono_tz::Tz;

use super::definition::{Life, names, without_repeats};
use super::fields::{self, Fields};
use super::filters::{self, Named};
use super::problem::{cannot_be, of_usage};
use super::{Face, meters, rows};
use crate::api::gate::{Reader, Reading};
use crate::api::output::Wanted;
use crate::api::params::Params;
use crate::api::problem::{Kind, Problem, one_of};
use crate::api::{PathOf, segments, times};
use crate::meters::history::next_minute;
use crate::usage::{Filter, Group, Query, Row, Scope, UsageError, Window};

const KNOWN: [&str; 10] = [
    "from",
    "to",
    "windowSize",
    "windowTimeZone",
    "subject",
    "groupBy",
    "filterGroupBy",
    "advancedMeterGroupByFilters",
    "clientId",
    "filterCustomerId",
];
const WINDOWS: [(&str, Window); 4] =
    [("MINUTE", Window::Minute), ("HOUR", Window::Hour), ("DAY", Window::Day), ("MONTH", Window::Month)];
/// By which rows are grouped that is none of a meter's names.
pub(super) const SUBJECT: &str = "subject";

/// What was asked, whichever way.
#[derive(Debug, Default)]
struct Asked {
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    window: Window,
    zone: Tz,
    subjects: Vec<String>,
    groups: Vec<String>,
    filters: Filters,
}

/// What names must be, and where that was said.
#[derive(Debug, Default)]
struct Filters {
    field: &'static str,
    named: Vec<Named>,
}

/// What is answered.
pub(super) struct Answer {
    pub(super) slug: String,
    pub(super) from: Option<DateTime<Utc>>,
    pub(super) to: Option<DateTime<Utc>>,
    pub(super) window: Option<&'static str>,
    /// The names that rows are grouped by, each with its key; without the subject.
    pub(super) names: Vec<(String, String)>,
    pub(super) rows: Vec<Row>,
}

/// `GET /meters/{meter}/query`
pub(super) async fn get(
    reader: Reader,
    Wanted(form): Wanted,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let slug = segments(path)?;
    Ok(rows::answer(form, &answer(&reader, &slug, of_address(&uri, &KNOWN)?).await?))
}

/// `POST /meters/{meter}/query`
pub(super) async fn post(
    State(face): State<Face>,
    reader: Reader,
    Wanted(form): Wanted,
    path: PathOf<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let slug = segments(path)?;
    Params::of_address(&uri, &[])?;
    let asked = match fields::read_if_any(&face, &headers, body).await? {
        Some(body) => of_body(Fields::of(body, &KNOWN)?)?,
        None => Asked::default(),
    };
    Ok(rows::answer(form, &answer(&reader, &slug, asked).await?))
}

/// `GET /portal/meters/{meter}/query`: the same for the one tenant that the token is for.
pub(super) async fn portal(
    reader: Reader,
    Wanted(form): Wanted,
    path: PathOf<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let Scope::Tenant { tenant, .. } = reader.scope() else {
        let detail = "this is for the token of one subject; ask /api/v1/meters/{meter}/query";
        return Err(Problem::new(Kind::Forbidden, detail));
    };
    let own = tenant.clone();
    let slug = segments(path)?;
    if !reader.scope().shows_meter(&slug) {
        return Err(Problem::new(Kind::Forbidden, format!("the token is not for the meter `{slug:.80}`")));
    }
    let known: Vec<&str> = KNOWN.into_iter().filter(|name| *name != SUBJECT).collect();
    let asked = Asked { subjects: vec![own], ..of_address(&uri, &known)? };
    Ok(rows::answer(form, &answer(&reader, &slug, asked).await?))
}

fn of_address(uri: &Uri, known: &[&str]) -> Result<Asked, Problem> {
    let mut pairs = Vec::new();
    let mut single = Vec::new();
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned() {
        let inner = name.strip_prefix("filterGroupBy[").and_then(|rest| rest.strip_suffix(']'));
        match inner.map(str::to_owned) {
            Some(inner) => single.push((inner, value)),
            None => pairs.push((name, value)),
        }
    }
    let params = Params::of_pairs(pairs, known)?;
    let time = |name| {
        let text = params.one(name)?;
        text.map(|text| times::instant(name, text, Tz::UTC)).transpose()
    };
    if let Some(id) = params.all("filterCustomerId").find(|id| !id.is_empty()) {
        return Err(no_customers("filterCustomerId", id));
    }
    params.one("clientId")?;
    let simple = filters::of_address(single, params.one("filterGroupBy")?)?;
    let given = params.one("advancedMeterGroupByFilters")?.filter(|text| !text.is_empty());
    let advanced = given.map(filters::advanced_of_address).transpose()?;
    Ok(Asked {
        from: time("from")?,
        to: time("to")?,
        window: params.word("windowSize", &WINDOWS)?.unwrap_or_default(),
        zone: params.one("windowTimeZone")?.map_or(Ok(Tz::UTC), zone)?,
        subjects: params.texts(SUBJECT)?,
        groups: params.all("groupBy").map(str::to_owned).collect(),
        filters: of_one_kind(simple, advanced, given.unwrap_or_default())?,
    })
}

fn of_body(fields: Fields) -> Result<Asked, Problem> {
    if let Some(id) = fields.texts("filterCustomerId")?.unwrap_or_default().first() {
        return Err(no_customers("filterCustomerId", id));
    }
    fields.text("clientId")?;
    let window =
        fields.text("windowSize")?.map(|text| crate::api::params::word("windowSize", text, &WINDOWS));
    let subjects = fields.texts(SUBJECT)?.unwrap_or_default();
    if subjects.iter().any(String::is_empty) {
        return Err(cannot_be(SUBJECT, "", "texts that are not empty"));
    }
    let simple = fields.get("filterGroupBy").map(filters::simple).transpose()?.unwrap_or_default();
    let given = fields.get("advancedMeterGroupByFilters");
    let advanced = given.map(filters::advanced).transpose()?;
    Ok(Asked {
        from: fields.time("from")?,
        to: fields.time("to")?,
        window: window.transpose()?.unwrap_or_default(),
        zone: fields.text("windowTimeZone")?.map_or(Ok(Tz::UTC), zone)?,
        subjects,
        groups: fields.texts("groupBy")?.unwrap_or_default(),
        filters: of_one_kind(simple, advanced, &given.map(ToString::to_string).unwrap_or_default())?,
    })
}

fn of_one_kind(simple: Vec<Named>, advanced: Option<Vec<Named>>, given: &str) -> Result<Filters, Problem> {
    match (simple.is_empty(), advanced) {
        (_, None) => Ok(Filters { field: filters::SIMPLE, named: simple }),
        (true, Some(named)) => Ok(Filters { field: filters::ADVANCED, named }),
        (false, Some(_)) => Err(cannot_be(filters::ADVANCED, given, "this or `filterGroupBy`, not both")),
    }
}

fn zone(text: &str) -> Result<Tz, Problem> {
    let allowed = "an IANA time zone, such as UTC or Europe/Berlin";
    text.parse().map_err(|_| cannot_be("windowTimeZone", text, allowed))
}

/// There are none here.
pub(super) fn no_customers(name: &str, given: &str) -> Problem {
    cannot_be(name, given, "leave it out: there are no customers, and a subject is a tenant")
}

async fn answer(reader: &Reader, slug: &str, asked: Asked) -> Result<Answer, Problem> {
    let reading = reader.begin().await?;
    let life = meters::find(&reading.meter_versions().await?, slug)?;
    may_see(reader, &asked.subjects)?;
    let known = names(&life.meter);
    let key = |field: &str, name: &str| {
        let found = known.iter().find(|(known, _)| known == name).map(|(_, key)| key.clone());
        found.ok_or_else(|| {
            let mut allowed: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
            if field == "groupBy" {
                allowed.push(SUBJECT);
            }
            cannot_be(field, name, one_of(&allowed))
        })
    };
    let mut names = Vec::new();
    let mut by_subject = !asked.subjects.is_empty();
    for name in without_repeats(asked.groups) {
        match name.as_str() {
            SUBJECT => by_subject = true,
            "customer_id" => return Err(no_customers("groupBy", &name)),
            _ => names.push((name.clone(), key("groupBy", &name)?)),
        }
    }
    let mut group_by: Vec<Group> = by_subject.then_some(Group::Tenant).into_iter().collect();
    group_by.extend(
        without_repeats(names.iter().map(|(_, key)| key.clone()).collect()).into_iter().map(Group::Dimension),
    );
    let Filters { field, named } = asked.filters;
    let filters = named.into_iter().map(|(name, test)| Ok(Filter { key: key(field, &name)?, test }));
    let (from, to) = span(asked.from, asked.to)?;
    let query = Query {
        window: asked.window,
        zone: asked.zone,
        tenants: asked.subjects,
        filters: filters.collect::<Result<_, Problem>>()?,
        group_by,
        ..Query::new(slug, from.unwrap_or(DateTime::UNIX_EPOCH), to.unwrap_or(next_minute(Utc::now())))
    };
    let rows = rows_of(&reading, &life, query, from.is_none()).await?;
    let window = WINDOWS.iter().find(|(_, window)| *window == asked.window).map(|(name, _)| *name);
    Ok(Answer { slug: slug.to_owned(), from, to, window, names, rows })
}

/// A question about other subjects than one's own is refused, and never answered as if there were nothing.
pub(super) fn may_see(reader: &Reader, subjects: &[String]) -> Result<(), Problem> {
    let Scope::Tenant { tenant, .. } = reader.scope() else { return Ok(()) };
    match subjects.iter().find(|subject| *subject != tenant) {
        None => Ok(()),
        Some(other) => {
            let detail = format!("`subject`: the token is for one subject, which is not `{other:.80}`");
            Err(Problem::new(Kind::Forbidden, detail))
        }
    }
}

/// From when to when, where that was said.
pub(super) type Ends = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// A span in whole minutes, made greater to them.
pub(super) fn span(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Result<Ends, Problem> {
    let minute = TimeDelta::minutes(1);
    let end = to.unwrap_or_else(Utc::now);
    if let Some(from) = from.filter(|from| *from >= end) {
        let allowed = format!("a time before `to`, {}", fields::written(end));
        return Err(cannot_be("from", &fields::written(from), allowed));
    }
    let down = |time: DateTime<Utc>| time.duration_trunc(minute).unwrap_or(time);
    let up = |time: DateTime<Utc>| if down(time) == time { time } else { down(time) + minute };
    Ok((from.map(down), to.map(up)))
}

/// The rows of a question about a meter that there is. One that this process has not taken up yet has counted nothing.
pub(super) async fn rows_of(
    reading: &Reading,
    life: &Life,
    mut query: Query,
    is_from_first: bool,
) -> Result<Vec<Row>, Problem> {
    query.from = query.from.max(life.begins());
    if query.from >= query.to {
        return Ok(Vec::new());
    }
    if is_from_first {
        let months = Query { window: Window::Month, zone: Tz::UTC, group_by: Vec::new(), ..query.clone() };
        match asked(reading, &months).await?.first() {
            Some(first) => query.from = first.from,
            None => return Ok(Vec::new()),
        }
    }
    asked(reading, &query).await
}

async fn asked(reading: &Reading, query: &Query) -> Result<Vec<Row>, Problem> {
    match reading.query(query).await {
        Ok(answer) => Ok(answer.rows),
        Err(UsageError::UnknownMeter { .. }) => Ok(Vec::new()),
        Err(error) => Err(of_usage(error)),
    }
}
