//! Usage per meter, tenant and minute, hour and day, of one batch. Pure.

use foldhash::HashMap;
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Condition, Given, Meter, Meters, UNMATCHED, WITHOUT_VALUE};

use crate::block::{Block, BlockBuilder, Words, put_quantity, put_text};
use crate::columns::{Class, Columns, Row};
use crate::names::Names;

/// The key of a meter that groups by nothing: see [`Meter::group_key`].
const NO_DIMENSIONS: &[u8] = b"{}";

/// Usage of one batch, per minute.
///
/// Events come in the order of tenant, type and time, so that the events of a cell are mostly neighbours: a cell is
/// found by looking at the last ones of its table, and what is left is merged at the end.
#[derive(Debug, Default)]
pub struct Rollup {
    /// The names of meters that share rows, each followed by a NUL.
    lists: Names,
    /// By number of `lists`.
    cells: Vec<Cells>,
    dimensions: Names,
    groups: Groups,
    applied: HashMap<u32, Applied>,
    /// Events of a meter whose value was missing or not a number, by meter.
    pub without_value: HashMap<String, u64>,
}

/// What the meters make of the events of one class.
#[derive(Debug)]
struct Applied {
    packs: Vec<Pack>,
    /// Number of the dimensions that events which none matches are counted under.
    unmatched: u32,
}

/// How many meters share a row at most: the columns `total_1` and so on.
const PACKED_MAX: usize = 4;

/// What some meters make of the events of one class: those that count the same events in the same dimensions share a
/// row, since a row costs the store more than its values do.
#[derive(Debug)]
struct Pack {
    /// Number of their names.
    list: u32,
    /// It is a meter of extremes, and then the only one.
    has_extremes: bool,
    values: Vec<Value>,
    /// Meters of the same events that find no value in this class.
    without_value: Vec<Without>,
    /// Its meter, the only one then, takes a text, which need not be a number.
    takes_text: Option<Without>,
    /// Where it looks, and what must be there.
    filter: Filter,
    /// It counts buckets from this one on, and before this one, in seconds since the epoch.
    effective: (i64, i64),
    /// Names and places of the dimensions that they group by; a missing one is empty.
    group_by: Vec<(String, Option<usize>)>,
    /// The list of those names, as a number.
    group: u32,
}

type Filter = Vec<(At, Condition)>;

/// Where the events of a class have something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Dimension(usize),
    Measure(usize),
}

impl At {
    fn find(class: &Class, name: &str) -> Option<At> {
        let measure = || class.measures.iter().position(|given| given == name).map(At::Measure);
        dimension(class, name).map(At::Dimension).or_else(measure)
    }

    fn given<'a>(self, columns: &'a Columns, row: &Row) -> Given<'a> {
        match self {
            At::Dimension(nth) => Given::Text(columns.text(row, nth)),
            At::Measure(nth) => Given::Number(columns.value(row, nth)),
        }
    }
}

/// A meter whose value is missing.
#[derive(Clone, Debug)]
struct Without {
    name: String,
    /// Number of the dimensions that it is counted under.
    dimensions: u32,
}

/// The texts that a meter groups by, and what they are in the table: the JSON of each is written once a batch.
#[derive(Debug, Default)]
struct Groups {
    /// Lists of names.
    lists: Names,
    /// The number of a list and the texts, each behind its length.
    texts: Names,
    /// By number of `texts`: number of the dimensions.
    dimensions: Vec<u32>,
    scratch: Vec<u8>,
}

impl Groups {
    fn number(&mut self, pack: &Pack, columns: &Columns, row: &Row, dimensions: &mut Names) -> u32 {
        if pack.group_by.is_empty() {
            return dimensions.number(NO_DIMENSIONS);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&pack.group.to_le_bytes());
        for (_, place) in &pack.group_by {
            put_text(&mut self.scratch, place.map_or(&[][..], |nth| columns.text(row, nth)));
        }
        let number = self.texts.number(&self.scratch) as usize;
        if number == self.dimensions.len() {
            self.dimensions.push(dimensions.number(&group_key(&pack.group_by, columns, row)));
        }
        self.dimensions[number]
    }

    fn list(&mut self, meter: &Meter) -> u32 {
        let keys: Vec<&str> = meter.key_dimensions().into_iter().collect();
        self.lists.number(keys.join("\0").as_bytes())
    }
}

#[derive(Clone, Copy, Debug)]
enum Value {
    One,
    Measure(usize),
    /// A text, which is a number or none: a meter that takes one has rows of its own.
    Text(usize),
}

impl Value {
    fn of(self, columns: &Columns, row: &Row) -> Option<Quantity> {
        match self {
            Value::One => Some(Quantity::ONE),
            Value::Measure(nth) => Some(columns.value(row, nth)),
            Value::Text(nth) => Given::Text(columns.text(row, nth)).number(),
        }
    }
}

/// Usage of one tenant in one bucket. There is about one for each event: half the size is half the time.
#[derive(Clone, Copy, Debug)]
struct Cell {
    /// Number of the tenant.
    tenant: u32,
    /// Start of the bucket, seconds since the epoch.
    bucket: u32,
    /// Number of the dimensions.
    dimensions: u32,
    /// A batch is bounded far below 2^32 events.
    events: u32,
}

impl Cell {
    fn is_of(&self, other: &Cell) -> bool {
        (self.tenant, self.bucket) == (other.tenant, other.bucket)
    }
}

/// How far back a cell is looked for: the values of a dimension take turns within a minute.
const LOOK_BACK: usize = 8;

/// The cells of meters that share rows.
#[derive(Clone, Debug, Default)]
struct Cells {
    list: Vec<Cell>,
    /// Of each cell: the totals of the meters, or the total, the least and the greatest value of one of extremes.
    values: Vec<Quantity>,
    /// How many values a cell has.
    width: usize,
    has_extremes: bool,
}

impl Cells {
    fn empty(&self, cells: usize) -> Cells {
        let (list, values) = (Vec::with_capacity(cells), Vec::with_capacity(cells * self.width));
        Cells { list, values, ..*self }
    }

    fn values(&self, place: usize) -> &[Quantity] {
        &self.values[place * self.width..][..self.width]
    }

    /// How many totals a cell has.
    fn totals(&self) -> usize {
        if self.has_extremes { 1 } else { self.width }
    }

    /// The `nth` total of a cell; zero for one that others have.
    fn total(&self, place: usize, nth: usize) -> Quantity {
        self.values(place)[..self.totals()].get(nth).copied().unwrap_or(Quantity::ZERO)
    }

    /// The least value of a cell of extremes, then the greatest; zero of others.
    fn extreme(&self, place: usize, nth: usize) -> Quantity {
        self.values(place)[self.totals()..].get(nth).copied().unwrap_or(Quantity::ZERO)
    }

    /// Adds a cell to one of the same key, if that is near. Sums past 38 digits stay at what they were; the store
    /// could not hold them either.
    fn push(&mut self, cell: Cell, values: impl Iterator<Item = Quantity>) {
        let near = self.list.iter_mut().enumerate().rev().take(LOOK_BACK);
        for (place, near) in near.take_while(|(_, near)| near.is_of(&cell)) {
            if near.dimensions == cell.dimensions {
                near.events += cell.events;
                let near = &mut self.values[place * self.width..][..self.width];
                for (nth, (near, value)) in near.iter_mut().zip(values).enumerate() {
                    *near = match (self.has_extremes, nth) {
                        (true, 1) => value.min(*near),
                        (true, 2) => value.max(*near),
                        _ => near.checked_add(value).unwrap_or(*near),
                    };
                }
                return;
            }
        }
        self.list.push(cell);
        self.values.extend(values);
    }

    /// In buckets of `seconds`, in the order of the table, each cell once.
    fn merged(&self, seconds: u32, tenants: &[u32], dimensions: &[u32]) -> Cells {
        let in_order = |(place, cell): (usize, &Cell)| {
            let cell = Cell { bucket: cell.bucket - cell.bucket % seconds, ..*cell };
            let tenant = u64::from(tenants[cell.tenant as usize]);
            (
                (tenant << 32 | u64::from(cell.bucket), dimensions[cell.dimensions as usize]),
                place as u32,
                cell,
            )
        };
        let mut cells: Vec<_> = self.list.iter().enumerate().map(in_order).collect();
        cells.sort_by_key(|(key, ..)| *key);
        let mut merged = self.empty(cells.len());
        for (_, place, cell) in cells {
            merged.push(cell, self.values(place as usize).iter().copied());
        }
        merged
    }
}

impl Rollup {
    /// Adds an event; returns how many meters it matched.
    pub fn add(&mut self, meters: &Meters, columns: &Columns, row: &Row) -> u16 {
        if !self.applied.contains_key(&row.class) {
            let applied = self.apply(meters, columns, row);
            self.applied.insert(row.class, applied);
        }
        let mut matched = 0;
        // The window admits only times that a DateTime holds.
        let bucket = (row.time_us.div_euclid(60_000_000) * 60) as u32;
        let Some(applied) = self.applied.get(&row.class) else { return 0 };
        let one = |dimensions| Cell { tenant: row.tenant, bucket, dimensions, events: 1 };
        for pack in &applied.packs {
            let passes = |(at, condition): &(At, Condition)| condition.holds(at.given(columns, row));
            let (from, to) = pack.effective;
            if !(from..to).contains(&i64::from(bucket)) || !pack.filter.iter().all(passes) {
                continue;
            }
            matched += (pack.values.len() + pack.without_value.len()) as u16;
            let without = |without: &Without, cells: &mut Vec<Cells>, counts: &mut HashMap<String, u64>| {
                *counts.entry(without.name.clone()).or_default() += 1;
                cells[WITHOUT_VALUE_LIST].push(one(without.dimensions), [Quantity::ONE].into_iter());
            };
            for meter in &pack.without_value {
                without(meter, &mut self.cells, &mut self.without_value);
            }
            if let Some(meter) = &pack.takes_text
                && pack.values.iter().any(|value| value.of(columns, row).is_none())
            {
                without(meter, &mut self.cells, &mut self.without_value);
                continue;
            }
            if pack.values.is_empty() {
                continue;
            }
            let cell = one(self.groups.number(pack, columns, row, &mut self.dimensions));
            let values = pack.values.iter().map(|value| value.of(columns, row).unwrap_or_default());
            let cells = &mut self.cells[pack.list as usize];
            match pack.has_extremes {
                true => cells.push(cell, values.flat_map(|value| [value; 3])),
                false => cells.push(cell, values),
            }
        }
        if matched == 0 {
            self.cells[UNMATCHED_LIST].push(one(applied.unmatched), [Quantity::ONE].into_iter());
        }
        matched
    }

    /// What the meters make of the class of `row`; those that have nothing to do with it are left out.
    fn apply(&mut self, meters: &Meters, columns: &Columns, row: &Row) -> Applied {
        if self.cells.is_empty() {
            // The numbers of these two: see UNMATCHED_LIST.
            for name in [UNMATCHED, WITHOUT_VALUE] {
                self.list(format!("{name}\0").as_bytes(), 1, false);
            }
        }
        let class = columns.class_of(row);
        let kind = columns.kinds.text(class.kind);
        let mut packs: Vec<(Pack, Vec<u8>)> = Vec::new();
        for meter in &meters.meters {
            let Some(filter) = applies(meter, class, kind) else {
                continue;
            };
            let without = |dimensions: &mut Names| Without {
                name: meter.name.clone(),
                dimensions: dimensions.number(&member("meter", &meter.name)),
            };
            let value = value(meter, class);
            let takes_text = matches!(value, Some(Value::Text(_))).then(|| without(&mut self.dimensions));
            let (group, effective) = (self.groups.list(meter), effective(meter));
            let has_extremes = meter.aggregation.keeps_extremes();
            let shares = |(pack, _): &&mut (Pack, Vec<u8>)| {
                let is_alone = has_extremes || pack.has_extremes || pack.values.len() == PACKED_MAX;
                let reads_text = takes_text.is_some() || pack.takes_text.is_some();
                let is_same = pack.group == group && pack.effective == effective && pack.filter == filter;
                !is_alone && !reads_text && is_same
            };
            let place = packs.iter_mut().position(|pack| shares(&pack)).unwrap_or_else(|| {
                let place = |name: &str| (name.to_owned(), dimension(class, name));
                let pack = Pack {
                    list: 0,
                    has_extremes,
                    values: Vec::new(),
                    without_value: Vec::new(),
                    takes_text: takes_text.clone(),
                    filter,
                    effective,
                    group_by: meter.key_dimensions().into_iter().map(place).collect(),
                    group,
                };
                packs.push((pack, Vec::new()));
                packs.len() - 1
            });
            let (pack, names) = &mut packs[place];
            match value {
                None => pack.without_value.push(without(&mut self.dimensions)),
                Some(value) => {
                    pack.values.push(value);
                    names.extend_from_slice(meter.name.as_bytes());
                    names.push(0);
                }
            }
        }
        let numbered = |(mut pack, names): (Pack, Vec<u8>)| {
            let width = if pack.has_extremes { 3 } else { pack.values.len() };
            pack.list = self.list(&names, width, pack.has_extremes);
            pack
        };
        let packs = packs.into_iter().map(numbered).collect();
        let kind = std::str::from_utf8(kind).unwrap_or_default();
        Applied { packs, unmatched: self.dimensions.number(&member("type", kind)) }
    }

    /// The number of the list of names, with cells for it.
    fn list(&mut self, names: &[u8], width: usize, has_extremes: bool) -> u32 {
        let list = self.lists.number(names);
        if list as usize == self.cells.len() {
            self.cells.push(Cells { width, has_extremes, ..Cells::default() });
        }
        list
    }

    /// The rows of each rollup table: minutes as they are, hours made of minutes, days made of hours.
    pub fn tables(mut self, columns: &Columns) -> [(&'static str, Block); 3] {
        let tenants = columns.tenants.ranks();
        let dimensions = self.dimensions.ranks();
        let coarser = |cells: &[Cells], seconds| -> Vec<Cells> {
            cells.iter().map(|cells| cells.merged(seconds, &tenants, &dimensions)).collect()
        };
        let minutes = coarser(&std::mem::take(&mut self.cells), 60);
        let hours = coarser(&minutes, 3_600);
        let days = coarser(&hours, 86_400);
        [("rollup_minute", minutes), ("rollup_hour", hours), ("rollup_day", days)]
            .map(|(table, cells)| (table, self.block(columns, &cells)))
    }

    fn block(&self, columns: &Columns, cells: &[Cells]) -> Block {
        let rows = cells.iter().map(|cells| cells.list.len()).sum();
        let mut lists = Words::new(self.lists.texts(), rows);
        let (mut tenants, mut buckets, mut dimensions) =
            (Vec::with_capacity(rows * 12), Vec::with_capacity(rows * 4), Vec::with_capacity(rows * 24));
        let mut events = Vec::with_capacity(rows * 8);
        // What no row says is left to the columns' defaults.
        let column = || Vec::with_capacity(rows * 16);
        let of_most = cells.iter().map(Cells::totals).max().unwrap_or_default();
        let mut totals: Vec<Vec<u8>> = (0..of_most).map(|_| column()).collect();
        // Only meters of extremes are asked for them; for the others they would be most of the table.
        let has_extremes = cells.iter().any(|cells| cells.has_extremes);
        let mut extremes: Vec<Vec<u8>> = EXTREMES.iter().filter(|_| has_extremes).map(|_| column()).collect();
        let mut order: Vec<usize> = (0..cells.len()).collect();
        order.sort_unstable_by_key(|list| self.lists.text(*list as u32));
        for list in order {
            let cells = &cells[list];
            for (place, cell) in cells.list.iter().enumerate() {
                lists.push(list as u32);
                put_text(&mut tenants, columns.tenants.text(cell.tenant));
                buckets.extend_from_slice(&cell.bucket.to_le_bytes());
                put_text(&mut dimensions, self.dimensions.text(cell.dimensions));
                events.extend_from_slice(&i64::from(cell.events).to_le_bytes());
                for (nth, column) in totals.iter_mut().enumerate() {
                    put_quantity(column, cells.total(place, nth));
                }
                for (nth, column) in extremes.iter_mut().enumerate() {
                    put_quantity(column, cells.extreme(place, nth));
                }
            }
        }
        let mut block = BlockBuilder::new(rows);
        block
            .words("meters", lists)
            .column("tenant", "String", tenants)
            .column("bucket", "DateTime('UTC')", buckets)
            .column("dimensions", "String", dimensions)
            .column("events", "Int64", events);
        for (name, values) in TOTALS.into_iter().zip(totals).chain(EXTREMES.into_iter().zip(extremes)) {
            block.column(name, "Decimal(38, 9)", values);
        }
        block.finish()
    }
}

const TOTALS: [&str; PACKED_MAX] = ["total_1", "total_2", "total_3", "total_4"];
const EXTREMES: [&str; 2] = ["least_value", "greatest_value"];

fn dimension(class: &Class, name: &str) -> Option<usize> {
    class.dimensions.iter().position(|given| given == name)
}

/// Numbers of the lists of the built-in meters: they are made first.
const UNMATCHED_LIST: usize = 0;
const WITHOUT_VALUE_LIST: usize = 1;

/// The dimensions of a built-in meter: an object with one member.
fn member(name: &str, value: &str) -> Vec<u8> {
    // A map of strings always serialises.
    serde_json::to_vec(&std::collections::BTreeMap::from([(name, value)])).unwrap_or_default()
}

/// The span of buckets that a meter counts.
fn effective(meter: &Meter) -> (i64, i64) {
    let seconds =
        |time: Option<chrono::DateTime<chrono::Utc>>, none| time.map_or(none, |time| time.timestamp());
    (seconds(meter.effective_from, i64::MIN), seconds(meter.effective_to, i64::MAX))
}

/// Where a meter finds its value in the events of a class; `None` if they have none.
fn value(meter: &Meter, class: &Class) -> Option<Value> {
    let Some(name) = &meter.value else { return Some(Value::One) };
    match (At::find(class, name)?, meter.aggregation) {
        (_, Aggregation::UniqueCount) => Some(Value::One),
        (At::Measure(nth), _) => Some(Value::Measure(nth)),
        (At::Dimension(nth), _) => Some(Value::Text(nth)),
    }
}

/// What the events of a class must have for the meter to count them; `None` if it never does.
fn applies(meter: &Meter, class: &Class, kind: &[u8]) -> Option<Filter> {
    if meter.event_type.as_bytes() != kind {
        return None;
    }
    let mut filter = Filter::new();
    for (name, condition) in &meter.filter {
        match At::find(class, name) {
            Some(at) => filter.push((at, condition.clone())),
            None if condition.holds(Given::Nothing) => {}
            None => return None,
        }
    }
    Some(filter)
}

/// The same as [`Meter::group_key`].
fn group_key(group_by: &[(String, Option<usize>)], columns: &Columns, row: &Row) -> Vec<u8> {
    let text = |place: &Option<usize>| {
        let bytes = place.map_or(&[][..], |nth| columns.text(row, nth));
        std::str::from_utf8(bytes).unwrap_or_default()
    };
    let group: std::collections::BTreeMap<&str, &str> =
        group_by.iter().map(|(name, place)| (name.as_str(), text(place))).collect();
    // A map of strings always serialises.
    serde_json::to_vec(&group).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rentroll_schemas::Event;
    use rentroll_schemas::meter::Reading;
    use std::collections::BTreeMap;

    fn event(tenant: &str, minute: u32, bytes: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"{tenant}","time":"2023-11-14T22:{minute:02}:59Z","data":{{"bytes":{bytes},"zone":"z{}"}}}}"#,
            minute % 3
        )
    }

    fn meter(name: &str, group_by: &[&str], zones: &[&str], value: Option<&str>) -> Meter {
        Meter {
            name: name.into(),
            description: String::new(),
            unit: "byte".into(),
            event_type: "t".into(),
            aggregation: if value.is_some() { Aggregation::Sum } else { Aggregation::Count },
            value: value.map(str::to_owned),
            filter: match zones.is_empty() {
                true => BTreeMap::new(),
                false => {
                    let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
                    [("zone".to_owned(), Condition::In(zones))].into()
                }
            },
            group_by: group_by.iter().map(|key| (*key).to_owned()).collect(),
            ..Meter::default()
        }
    }

    proptest! {
        /// A cell holds what [`Meter::read`] makes of each event alone.
        #[test]
        fn cells_are_what_the_meters_read(
            few in proptest::bool::ANY,
            given in proptest::collection::vec((0_u8..3, 0_u32..60, prop_oneof!["[1-9][0-9]{0,3}", Just("\"?\"".to_owned()), "\"[0-9]{1,3}\""]), 1..60),
        ) {
            let half = chrono::DateTime::parse_from_rfc3339("2023-11-14T22:30:00Z").unwrap().to_utc();
            let filter = |json: &str| serde_json::from_str(json).unwrap();
            let all = vec![
                    meter("bytes", &[], &[], Some("bytes")),
                    meter("by_zone", &["zone", "gone"], &[], Some("bytes")),
                    meter("count", &[], &["z0", "z2"], None),
                    meter("other", &["zone"], &["nowhere"], None),
                    meter("events", &[], &[], None),
                    Meter { aggregation: Aggregation::Max, ..meter("most", &[], &[], Some("bytes")) },
                    meter("events_too", &[], &[], None),
                    meter("bytes_too", &[], &[], Some("bytes")),
                    meter("fifth", &[], &[], None),
                    meter("by_zone_too", &["zone", "gone"], &[], Some("zone")),
                    Meter { aggregation: Aggregation::UniqueCount, ..meter("zones", &[], &[], Some("zone")) },
                    Meter { filter: filter(r#"{"zone":{"not":["z1"]},"bytes":{"from":5,"below":500}}"#), ..meter("some", &[], &[], None) },
                    Meter { effective_to: Some(half), ..meter("changed", &[], &[], None) },
                    Meter { effective_from: Some(half), version: 2, ..meter("changed", &["zone"], &[], Some("bytes")) },
                    meter("without", &[], &[], Some("nothing")),
                ];
            // With these alone some events have no meter.
            let meters = Meters { meters: all.into_iter().skip(if few { 11 } else { 0 }).take(if few { 3 } else { usize::MAX }).collect() };
            let texts: Vec<String> =
                given.iter().map(|(tenant, minute, bytes)| event(&format!("t{tenant}"), *minute, bytes)).collect();
            let events: Vec<Event<'_>> = texts.iter().map(|text| Event::from_json(text.as_bytes()).unwrap()).collect();
            let mut columns = Columns::default();
            for event in &events {
                columns.push(event, event.identity(), 0);
            }
            let mut rollup = Rollup::default();
            for place in columns.sorted((0..events.len() as u32).collect()) {
                let event = &events[place as usize];
                let matched = rollup.add(&meters, &columns, &columns.rows[place as usize]);
                let expected = meters.meters.iter().filter(|meter| meter.read(event) != Reading::NotMine).count();
                prop_assert_eq!(usize::from(matched), expected);
            }
            for seconds in [60, 3_600, 86_400] {
                let (tenants, dimensions) = (columns.tenants.ranks(), rollup.dimensions.ranks());
                // What the view makes of the rows: one per meter.
                let mut found: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
                for (list, cells) in rollup.cells.iter().enumerate() {
                    let merged = cells.merged(seconds as u32, &tenants, &dimensions);
                    for (nth, meter) in rollup.lists.str(list as u32).split_terminator('\0').enumerate() {
                        for (place, cell) in merged.list.iter().enumerate() {
                            let key = (columns.tenants.str(cell.tenant).to_owned(), i64::from(cell.bucket), rollup.dimensions.str(cell.dimensions).to_owned());
                            let values = merged.values(place);
                            let greatest = if merged.has_extremes { values[2] } else { Quantity::ZERO };
                            // Events with another value missing are of another list.
                            let found: &mut (i64, i128, i128) = found.entry(meter.to_owned()).or_default().entry(key).or_default();
                            found.0 += i64::from(cell.events);
                            found.1 += values[nth].nanos();
                            found.2 = found.2.max(greatest.nanos());
                        }
                    }
                }
                let mut expected: BTreeMap<String, BTreeMap<_, (i64, i128, i128)>> = BTreeMap::new();
                for event in &events {
                    let bucket = event.time.timestamp() / seconds * seconds;
                    let mut count = |meter: &str, dimensions: String, value: Quantity, most: bool| {
                        let key = (event.tenant.to_string(), bucket, dimensions);
                        let cell = expected.entry(meter.to_owned()).or_default().entry(key).or_default();
                        cell.0 += 1;
                        cell.1 += value.nanos();
                        cell.2 = if most { cell.2.max(value.nanos()) } else { 0 };
                    };
                    for meter in &meters.meters {
                        match meter.read(event) {
                            Reading::NotMine => {}
                            Reading::NoValue => {
                                count(WITHOUT_VALUE, format!(r#"{{"meter":"{}"}}"#, meter.name), Quantity::ONE, false);
                            }
                            Reading::Value(value) => {
                                let most = meter.aggregation == Aggregation::Max;
                                count(&meter.name, meter.group_key(event), value, most);
                            }
                        }
                    }
                    if meters.meters.iter().all(|meter| meter.read(event) == Reading::NotMine) {
                        count(UNMATCHED, r#"{"type":"t"}"#.to_owned(), Quantity::ONE, false);
                    }
                }
                found.retain(|_, cells| !cells.is_empty());
                prop_assert_eq!(found, expected);
            }
        }
    }
}
