//! The rows of a meter in a rollup table.

use super::Source;
use super::ask::{Ask, Params};
use super::cover::Part;
use super::lists::{Lists, PACKED_MAX};
use super::scope::Table;

/// Stretches that are written out in a statement, so that the index is used for each; more are looked up in an array.
const STRETCHES_MAX: usize = 24;

/// The rows of a meter in a table.
pub(super) struct Rows<'a> {
    pub(super) meter: &'a str,
    pub(super) value: RowValue,
    /// Of `tenant` and `dimensions` those that are taken, each followed by a comma.
    pub(super) columns: &'a str,
    /// Whether tenants are named, so that few rows are read.
    pub(super) is_of_few: bool,
    pub(super) part: &'a Part,
}

impl Rows<'_> {
    /// Queries of (columns, at, n, v) that have them together.
    pub(super) fn selects(
        &self,
        ask: &Ask<'_>,
        lists: &Lists,
        conditions: &[String],
        params: &mut Params,
    ) -> Vec<String> {
        let table = ask.scope().table(table(self.part.source));
        let mut conditions = conditions.to_vec();
        conditions.push(stretches_sql(&self.part.stretches, params));
        let conditions = conditions.join(" AND ");
        let select = |MeterRows { condition, events, value }: MeterRows| {
            format!(
                "SELECT {}toInt64(toUnixTimestamp(bucket)) AS at, {events} AS n, {value} AS v \
                 FROM {table} WHERE {condition} AND {conditions}",
                self.columns
            )
        };
        // Few rows of one tenant are read at once; of all tenants, not a column more than is needed.
        let rows = match self.is_of_few {
            true => vec![meter_rows_at_once(self.meter, self.value, lists, params)],
            false => meter_rows(self.meter, self.value, lists, params),
        };
        rows.into_iter().map(select).collect()
    }
}

/// The rollup table of a source.
pub(super) fn table(source: Source) -> Table {
    match source {
        Source::Day => Table::Days,
        Source::Hour => Table::Hours,
        Source::Minute | Source::Events => Table::Minutes,
    }
}

/// What is taken of a row of a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowValue {
    /// The total of the meter.
    Total,
    /// The least value, or the greatest.
    Column(&'static str),
    /// Nothing: events are counted.
    Nothing,
}

/// The names of a row's list.
const NAMES: &str = "arrayPopBack(splitByChar('\\0', meters))";

impl RowValue {
    fn column(self, total: &str) -> String {
        match self {
            RowValue::Total => format!("toDecimal128({total}, 9)"),
            RowValue::Column(name) => format!("toDecimal128({name}, 9)"),
            RowValue::Nothing => "toDecimal128(0, 9)".to_owned(),
        }
    }
}

/// Rows of a meter: which they are, and what one has.
pub(super) struct MeterRows {
    pub(super) condition: String,
    /// How many events.
    pub(super) events: String,
    pub(super) value: String,
}

impl MeterRows {
    fn of(condition: String, value: String) -> MeterRows {
        MeterRows { condition, events: "toInt64(events)".to_owned(), value }
    }
}

/// The places that a meter has in lists that are known: a condition of the rows of each, and its total in them.
fn places(meter: &str, lists: &Lists, params: &mut Params) -> Vec<(String, String)> {
    let mut places = Vec::new();
    for nth in 0..PACKED_MAX {
        let with = lists.with(meter, nth);
        if !with.is_empty() {
            places.push((format!("meters IN {}", params.texts(&with)), format!("total_{}", nth + 1)));
        }
    }
    places
}

/// The total of a row of one of these places, or `otherwise`.
fn total_of(places: &[(String, String)], otherwise: &str) -> String {
    if places.is_empty() {
        return otherwise.to_owned();
    }
    let cases: String = places.iter().map(|(condition, total)| format!("{condition}, {total}, ")).collect();
    format!("multiIf({cases}{otherwise})")
}

/// The rows of a meter in lists that are known, if these are to be taken for all and it is in some: a row of another list makes the
/// statement fail. For few rows: to look at the list of each takes longer, where they are many, than to read others besides.
pub(super) fn all_rows(
    meter: &str,
    value: RowValue,
    lists: &Lists,
    params: &mut Params,
) -> Option<MeterRows> {
    if !lists.are_all() {
        return None;
    }
    let places = places(meter, lists, params);
    let ((_, last), others) = places.split_last()?;
    let value = value.column(&total_of(others, last));
    let condition = not_without(meter, lists, params);
    let known: Vec<&str> = places.iter().map(|(condition, _)| condition.as_str()).collect();
    let events = format!("toInt64(events + throwIf(NOT ({})))", known.join(" OR "));
    Some(MeterRows { condition, events, value })
}

/// As [`all_rows`], for a statement that tells lists apart, so that one that is not known is seen in what it answers; with those that
/// are known.
pub(super) fn known_rows(
    meter: &str,
    value: RowValue,
    lists: &Lists,
    params: &mut Params,
) -> Option<(MeterRows, Vec<String>)> {
    if !lists.are_all() {
        return None;
    }
    let known = (0..PACKED_MAX).flat_map(|nth| lists.with(meter, nth)).collect();
    let places = places(meter, lists, params);
    let ((_, last), others) = places.split_last()?;
    let value = value.column(&total_of(others, last));
    Some((MeterRows::of(not_without(meter, lists, params), value), known))
}

/// The condition that a row is of no list that is known not to have the meter.
fn not_without(meter: &str, lists: &Lists, params: &mut Params) -> String {
    let without = lists.without(meter);
    match without.is_empty() {
        true => "1".to_owned(),
        false => format!("meters NOT IN {}", params.texts(&without)),
    }
}

/// The rows of a meter in a rollup table. Those of lists that are known are found by the sort key; all others are looked at, of which
/// there are hardly any.
fn meter_rows(meter: &str, value: RowValue, lists: &Lists, params: &mut Params) -> Vec<MeterRows> {
    let mut rows = places(meter, lists, params);
    rows.push(unknown_rows(meter, lists, params));
    rows.into_iter().map(|(condition, total)| MeterRows::of(condition, value.column(&total))).collect()
}

/// As [`meter_rows`], all under one condition.
pub(super) fn meter_rows_at_once(
    meter: &str,
    value: RowValue,
    lists: &Lists,
    params: &mut Params,
) -> MeterRows {
    if let Some(rows) = all_rows(meter, value, lists, params) {
        return rows;
    }
    let places = places(meter, lists, params);
    let (unknown, total) = unknown_rows(meter, lists, params);
    let mut condition: String = places.iter().map(|(condition, _)| format!("{condition} OR ")).collect();
    condition.push_str(&format!("({unknown})"));
    MeterRows::of(format!("({condition})"), value.column(&total_of(&places, &total)))
}

/// The condition of a meter's rows in lists that are not known, and its total in them.
fn unknown_rows(meter: &str, lists: &Lists, params: &mut Params) -> (String, String) {
    let name = params.text(meter);
    let mut condition = format!("has({NAMES}, {name})");
    if !lists.all().is_empty() {
        condition = format!("meters NOT IN {} AND {condition}", params.texts(lists.all()));
    }
    (condition, format!("[total_1, total_2, total_3, total_4][indexOf({NAMES}, {name})]"))
}

/// The condition that a bucket is in one of these stretches.
pub(super) fn stretches_sql(stretches: &[(i64, i64)], params: &mut Params) -> String {
    let mut between = |from: i64, to: i64| {
        let (from, to) = (params.moment(from), params.moment(to));
        format!("bucket >= {from} AND bucket < {to}")
    };
    if stretches.len() <= STRETCHES_MAX {
        let each: Vec<String> =
            stretches.iter().map(|(from, to)| format!("({})", between(*from, *to))).collect();
        return format!("({})", each.join(" OR "));
    }
    let (first, last) = (stretches[0].0, stretches[stretches.len() - 1].1);
    let around = between(first, last);
    // The last edge before a bucket is the beginning of a stretch, or the end of one.
    let edges = params.numbers(stretches.iter().flat_map(|(from, to)| [*from, *to]).collect());
    let begins = params.numbers(stretches.iter().map(|(from, _)| *from).collect());
    format!("{around} AND roundDown(toInt64(toUnixTimestamp(bucket)), {edges}) IN {begins}")
}
