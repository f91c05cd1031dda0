//! The rows of an answer, in JSON and CSV.

use std::collections::BTreeMap;

use axum::http::header::CONTENT_DISPOSITION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use rentroll_schemas::Quantity;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::fields::written;
use super::query::Answer;
use crate::api::output::{self, Cell, Form, Table};
use crate::usage::Row;

/// A quantity as a JSON number, with all its digits.
pub(super) struct Exact(pub(super) Quantity);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_size: Option<&'a str>,
    data: Vec<ShownRow<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownRow<'a> {
    value: Exact,
    window_start: String,
    window_end: String,
    subject: Option<&'a str>,
    group_by: BTreeMap<&'a str, Option<&'a str>>,
}

/// The value of a name; none that is missing or empty.
fn value<'a>(row: &'a Row, key: &str) -> Option<&'a str> {
    row.dimensions.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// The answer in the form that is wanted.
pub(super) fn answer(form: Form, answer: &Answer) -> Response {
    match form {
        Form::Json => output::json(StatusCode::OK, &json(answer)),
        Form::Csv => {
            let mut response =
                output::tagged(StatusCode::OK, "text/csv; charset=utf-8", table(answer).write());
            let name = format!("attachment; filename=\"{}.csv\"", answer.slug);
            if let Ok(name) = HeaderValue::from_str(&name) {
                response.headers_mut().insert(CONTENT_DISPOSITION, name);
            }
            response
        }
    }
}

fn json(answer: &Answer) -> Shown<'_> {
    Shown {
        from: answer.from.map(written),
        to: answer.to.map(written),
        window_size: answer.window,
        data: answer.rows.iter().filter_map(|row| shown(answer, row)).collect(),
    }
}

/// A window that has nothing has no row.
fn shown<'a>(answer: &'a Answer, row: &'a Row) -> Option<ShownRow<'a>> {
    let group = answer.names.iter().map(|(name, key)| (name.as_str(), value(row, key)));
    Some(ShownRow {
        value: Exact(row.quantity?),
        window_start: written(row.from),
        window_end: written(row.to),
        subject: row.tenant.as_deref(),
        group_by: group.collect(),
    })
}

fn table(answer: &Answer) -> Table {
    let mut table = Table::new(&["window_start", "window_end", "subject"]);
    table.header.extend(answer.names.iter().map(|(name, _)| name.clone()));
    table.header.push("value".to_owned());
    for row in &answer.rows {
        let Some(quantity) = row.quantity else { continue };
        let mut cells = vec![Cell::value(written(row.from)), Cell::value(written(row.to))];
        cells.push(Cell::text(row.tenant.as_deref().unwrap_or_default()));
        cells.extend(answer.names.iter().map(|(_, key)| Cell::text(value(row, key).unwrap_or_default())));
        cells.push(Cell::value(quantity));
        table.rows.push(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn answered() -> Answer {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let row = |quantity: &str, model: &str| Row {
            from: at(0),
            to: at(86_400),
            tenant: Some("acme, \"inc\"".into()),
            organisation: None,
            tier: None,
            tags: BTreeMap::new(),
            dimensions: BTreeMap::from([("model".to_owned(), model.to_owned())]),
            quantity: Some(quantity.parse().unwrap()),
            events: 1,
        };
        Answer {
            slug: "m".into(),
            from: Some(at(0)),
            to: None,
            window: Some("DAY"),
            names: vec![("as".into(), "model".into())],
            rows: vec![row("12345678901234567890123456789.123456789", "o3"), row("-0.1", "")],
        }
    }

    #[test]
    fn values_are_numbers_with_all_their_digits() {
        let text = serde_json::to_string(&json(&answered())).unwrap();
        let expected = r#"{"from":"1970-01-01T00:00:00Z","windowSize":"DAY","data":[{"value":12345678901234567890123456789.123456789,"windowStart":"1970-01-01T00:00:00Z","windowEnd":"1970-01-02T00:00:00Z","subject":"acme, \"inc\"","groupBy":{"as":"o3"}},{"value":-0.1,"windowStart":"1970-01-01T00:00:00Z","windowEnd":"1970-01-02T00:00:00Z","subject":"acme, \"inc\"","groupBy":{"as":null}}]}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn csv_has_a_line_for_each_row() {
        let text = String::from_utf8(table(&answered()).write()).unwrap();
        let day = "1970-01-01T00:00:00Z,1970-01-02T00:00:00Z,\"acme, \"\"inc\"\"\"";
        let expected = format!(
            "window_start,window_end,subject,as,value\r\n{day},o3,12345678901234567890123456789.123456789\r\n{day},,-0.1\r\n"
        );
        assert_eq!(text, expected);
    }
}
