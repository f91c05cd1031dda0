//! `/events`: did mine count, and if not, why not?

use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::Response;
use chrono::Utc;
use rentroll_schemas::Quantity;
use serde::Serialize;

use super::gate::Reader;
use super::output::{self, Cell, Wanted};
use super::params::{self, Params};
use super::problem::{Kind, Problem};
use super::{Api, RECENT, page, times, usage};
use crate::usage::events::{EVENTS_MAX, EventPage, EventQuery, FoundEvent, Order, Verdict};
use crate::usage::overview::{NotCountedPlace, NotCountedRow, NotCountedTotal, Span};

const SEARCH: [&str; 12] = [
    "tenant", "meter", "type", "source", "id", "from", "to", "verdict", "order", "format", "cursor", "limit",
];
const VERDICTS: [(&str, Verdict); 9] = [
    ("counted", Verdict::Counted),
    ("unmatched", Verdict::Unmatched),
    ("without_value", Verdict::WithoutValue),
    ("voided", Verdict::Voided),
    ("amended", Verdict::Amended),
    ("void", Verdict::Void),
    ("copy", Verdict::Copy),
    ("rejected", Verdict::Rejected),
    ("conflict", Verdict::Conflict),
];
const ORDERS: [(&str, Order); 2] = [("newest", Order::NewestFirst), ("oldest", Order::OldestFirst)];

#[derive(Serialize)]
struct Found {
    events: Vec<FoundEvent>,
    next_cursor: Option<String>,
}

/// `GET /events`
pub(super) async fn search(
    State(api): State<Api>,
    reader: Reader,
    Wanted(form): Wanted,
    uri: Uri,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let params = Params::of_address(&uri, &SEARCH)?;
    let meter = params.one("meter")?.map(str::to_owned);
    meter.as_deref().map_or(Ok(()), usage::is_meter)?;
    let time = |name| {
        let text = params.one(name)?;
        text.map(|text| times::instant(name, text, chrono_tz::Tz::UTC)).transpose()
    };
    let (from, to) = (time("from")?, time("to")?);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        let given = params.one("to")?.unwrap_or_default();
        return Err(Problem::unanswerable(
            "to",
            given,
            format!("a time after `from`, {}", from.to_rfc3339()),
        ));
    }
    let query = EventQuery {
        tenant: params.text("tenant")?,
        meter,
        kind: params.text("type")?,
        source: params.text("source")?,
        id: params.text("id")?,
        from,
        to,
        verdicts: params.list("verdict").into_iter().map(verdict).collect::<Result<_, _>>()?,
        order: params.word("order", &ORDERS)?.unwrap_or_default(),
        cursor: params.text("cursor")?,
        limit: params.limit(page::ROWS, EVENTS_MAX)?,
    };
    let EventPage { events, next } = reader.begin().await?.events(&query).await?;
    api.metrics().rows.with_label_values(&["/api/v1/events"]).inc_by(events.len() as u64);
    let found = Found { events, next_cursor: next };
    let response = output::answer(form, &found, || table(&found.events));
    Ok(output::linked(response, &uri, found.next_cursor.as_deref()))
}

fn verdict(text: &str) -> Result<Verdict, Problem> {
    params::word("verdict", text, &VERDICTS)
}

fn word(verdict: Verdict) -> &'static str {
    VERDICTS.iter().find(|(_, one)| *one == verdict).map_or("", |(word, _)| word)
}

fn table(events: &[FoundEvent]) -> output::Table {
    let mut table = output::Table::new(&[
        "tenant",
        "source",
        "id",
        "type",
        "time",
        "arrived_at",
        "stored_at",
        "verdict",
        "reason",
        "field",
        "detail",
        "meters",
        "measures",
        "dimensions",
    ]);
    for event in events {
        let meters: Vec<&str> = event.meters.iter().map(|counted| counted.meter.as_str()).collect();
        let numbers: Vec<(&String, &Quantity)> = event.measures.iter().collect();
        let json = |value: Result<String, _>| value.unwrap_or_else(|_: serde_json::Error| String::new());
        let measures =
            if numbers.is_empty() { String::new() } else { json(serde_json::to_string(&event.measures)) };
        let dimensions = match event.dimensions.is_empty() {
            true => String::new(),
            false => json(serde_json::to_string(&event.dimensions)),
        };
        table.rows.push(vec![
            Cell::text(&event.tenant),
            Cell::text(&event.source),
            Cell::text(&event.id),
            Cell::text(&event.kind),
            event.time.map_or(Cell::Empty, Cell::time),
            Cell::time(event.arrived_at),
            event.stored_at.map_or(Cell::Empty, Cell::time),
            Cell::value(word(event.verdict)),
            Cell::text(&event.reason),
            Cell::text(&event.field),
            Cell::text(&event.detail),
            Cell::value(meters.join(" ")),
            Cell::text(measures),
            Cell::text(dimensions),
        ]);
    }
    table
}

#[derive(Serialize)]
struct Uncounted {
    #[serde(flatten)]
    span: Span,
    totals: Vec<NotCountedTotal>,
    rows: Vec<NotCountedRow>,
    next_cursor: Option<String>,
}

/// `GET /events/unmatched`
pub(super) async fn unmatched(reader: Reader, Wanted(form): Wanted, uri: Uri) -> Result<Response, Problem> {
    not_counted(reader, form, &uri, true).await
}

/// `GET /events/without-value`
pub(super) async fn without_value(
    reader: Reader,
    Wanted(form): Wanted,
    uri: Uri,
) -> Result<Response, Problem> {
    not_counted(reader, form, &uri, false).await
}

async fn not_counted(
    reader: Reader,
    form: output::Form,
    uri: &Uri,
    are_unmatched: bool,
) -> Result<Response, Problem> {
    let reader = reader.more_than_usage()?;
    let params = Params::of_address(uri, &["from", "to", "format", "cursor", "limit"])?;
    let span = times::recent(&params, RECENT, Utc::now())?;
    let rows = params.limit(page::ROWS, page::ROWS_MAX)?;
    let after = page::name(&params)?.map(|place| place_of(&params, &place)).transpose()?;
    let reading = reader.begin().await?;
    let counts = match are_unmatched {
        true => reading.unmatched(span, after.as_ref(), rows).await?,
        false => reading.without_value(span, after.as_ref(), rows).await?,
    };
    let last = counts.rows.last().filter(|_| counts.is_cut);
    // Texts and numbers always serialise.
    let place = last.map(|last| serde_json::to_string(&last.place()).unwrap_or_default());
    let next_cursor = place.map(|place| page::of_name(&params, &place));
    let answer = Uncounted { span, totals: counts.totals, rows: counts.rows, next_cursor };
    let response = output::answer(form, &answer, || {
        let mut table =
            output::Table::new(&[if are_unmatched { "type" } else { "meter" }, "tenant", "events", "last"]);
        for row in &answer.rows {
            let cells = vec![
                Cell::text(&row.key),
                Cell::text(&row.tenant),
                Cell::value(row.events),
                Cell::time(row.last),
            ];
            table.rows.push(cells);
        }
        table
    });
    Ok(output::linked(response, uri, answer.next_cursor.as_deref()))
}

/// The place that a cursor stands for.
fn place_of(params: &Params, text: &str) -> Result<NotCountedPlace, Problem> {
    let cursor = params.one("cursor")?.unwrap_or_default();
    serde_json::from_str(text)
        .map_err(|_| Problem::unanswerable("cursor", cursor, "the `next_cursor` of an answer"))
}

/// `POST /events`: the collector's, where it runs in this process. It looks at the token itself.
pub(super) async fn receive(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (gate, headers) = (api.gate(), request.headers().clone());
    if let Some(answer) = api.events_door().and_then(|door| door(request)) {
        return Ok(answer.await);
    }
    gate.speaker(&headers)?;
    let detail =
        "no events are received here: send them to POST /v1/events of a collector (collector.http.listen)";
    Err(Problem::new(Kind::Unavailable, detail).again_after(60))
}
