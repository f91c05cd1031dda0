//! Forms of an answer: JSON, or CSV (RFC 4180) that is safe to open in a spreadsheet.

use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, LINK};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rentroll_schemas::tenant::csv::guarded;
use serde::Serialize;

use super::problem::{Kind, Problem};

/// A form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Csv,
}

/// Their names.
pub(crate) const FORMS: [(&str, Form); 2] = [("json", Form::Json), ("csv", Form::Csv)];

/// The form that a request wants of an answer that has both: `format`, or else `accept`.
pub(crate) struct Wanted(pub(crate) Form);

/// The client takes JSON.
pub(crate) struct TakesJson;

impl<S: Sync> FromRequestParts<S> for Wanted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let format = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "format");
        if let Some((_, value)) = format {
            return super::params::word("format", &value, &FORMS).map(Wanted);
        }
        let [json, csv] = ["application/json", "text/csv"].map(|media| weight(&parts.headers, media));
        match (json, csv) {
            (0, 0) => Err(not_acceptable("application/json, text/csv")),
            (json, csv) if csv > json => Ok(Wanted(Form::Csv)),
            _ => Ok(Wanted(Form::Json)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for TakesJson {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match weight(&parts.headers, "application/json") {
            0 => Err(not_acceptable("application/json")),
            _ => Ok(TakesJson),
        }
    }
}

pub(crate) fn not_acceptable(offered: &str) -> Problem {
    Problem::new(Kind::NotAcceptable, format!("`accept` takes none of what this can answer with: {offered}"))
}

/// How much a client wants a media type, in thousandths (RFC 9110, 12.5.1): what speaks of it most exactly counts.
pub(crate) fn weight(headers: &HeaderMap, media: &str) -> u16 {
    let kind = media.split('/').next().unwrap_or_default();
    let mut best: Option<(u8, u16)> = None;
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty()) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let exactness = match name.as_str() {
            "*/*" => 1,
            name if name.strip_suffix("/*") == Some(kind) => 2,
            name if name == media => 3,
            _ => continue,
        };
        let given = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = given.map_or(1_000, |text| {
            let weight: f32 = text.trim().parse().unwrap_or(1.0);
            (weight.clamp(0.0, 1.0) * 1_000.0) as u16
        });
        if best.is_none_or(|(known, _)| exactness > known) {
            best = Some((exactness, weight));
        }
    }
    // Who says nothing takes everything.
    best.map_or(if headers.contains_key(ACCEPT) { 0 } else { 1_000 }, |(_, weight)| weight)
}

/// A cell of a table.
pub(crate) enum Cell {
    /// Text that came from outside.
    Text(String),
    /// A number or word that this program wrote.
    Value(String),
    /// Not a zero.
    Empty,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into())
    }

    pub(crate) fn value(value: impl ToString) -> Cell {
        Cell::Value(value.to_string())
    }

    pub(crate) fn time(time: chrono::DateTime<chrono::Utc>) -> Cell {
        Cell::Value(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    }

    pub(crate) fn option(value: Option<impl ToString>) -> Cell {
        value.map_or(Cell::Empty, Cell::value)
    }
}

/// An answer as CSV.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { header: header.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    pub(crate) fn write(self) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        // A vector takes every byte, and every row is as long as the header.
        let _ = writer.write_record(self.header.iter().map(|name| guarded(name)));
        for row in self.rows {
            let _ = writer.write_record(row.iter().map(|cell| match cell {
                Cell::Text(text) => guarded(text),
                Cell::Value(value) => value.clone(),
                Cell::Empty => String::new(),
            }));
        }
        writer.into_inner().unwrap_or_default()
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, answer: &impl Serialize) -> Response {
    match serde_json::to_vec(answer) {
        Ok(body) => tagged(status, "application/json", body),
        Err(error) => Problem::internal(&error).into_response(),
    }
}

/// An answer in JSON, or as a table.
pub(crate) fn answer(form: Form, answer: &impl Serialize, table: impl FnOnce() -> Table) -> Response {
    match form {
        Form::Json => json(StatusCode::OK, answer),
        Form::Csv => tagged(StatusCode::OK, "text/csv; charset=utf-8; header=present", table().write()),
    }
}

/// A body that can be told from others by its tag.
pub(crate) fn tagged(status: StatusCode, media: &'static str, body: Vec<u8>) -> Response {
    // Weak: the same answer, packed or not.
    let tag = format!("W/\"{}\"", &blake3::hash(&body).to_hex()[..24]);
    let mut response = (status, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// Says where the next page is (RFC 8288): CSV has no other place for it.
pub(crate) fn linked(mut response: Response, uri: &Uri, cursor: Option<&str>) -> Response {
    let Some(cursor) = cursor else { return response };
    let mut query = form_urlencoded::Serializer::new(String::new());
    let given = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.extend_pairs(given.filter(|(name, _)| name != "cursor")).append_pair("cursor", cursor);
    let link = format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish());
    if let Ok(link) = HeaderValue::from_str(&link) {
        response.headers_mut().insert(LINK, link);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(accept: &[&str]) -> (u16, u16) {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        (weight(&headers, "application/json"), weight(&headers, "text/csv"))
    }

    #[test]
    fn the_most_exact_wish_counts() {
        for (accept, expected) in [
            (&[][..], (1000, 1000)),
            (&["*/*"], (1000, 1000)),
            (&["text/csv"], (0, 1000)),
            (&["text/*;q=0.5, application/json;q=0.1"], (100, 500)),
            (&["*/*;q=0.8, text/csv;q=0"], (800, 0)),
            (&["image/png", "TEXT/CSV; header=present; q=0.3"], (0, 300)),
            (&["image/png"], (0, 0)),
        ] {
            assert_eq!(weights(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn formulas_are_disarmed_and_numbers_are_not() {
        let mut table = Table::new(&["tenant", "quantity", "x"]);
        table.rows.push(vec![Cell::text("=1+1"), Cell::value("-5.000000001"), Cell::Empty]);
        table.rows.push(vec![Cell::text("a\"b,\nc"), Cell::option(None::<u8>), Cell::text("@x")]);
        let text = String::from_utf8(table.write()).unwrap();
        assert_eq!(text, "tenant,quantity,x\r\n'=1+1,-5.000000001,\r\n\"a\"\"b,\nc\",,'@x\r\n");
    }
}
