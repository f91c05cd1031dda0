//! Usage per meter, tenant and minute, hour and day, of one batch. Pure.

use foldhash::HashMap;
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Meter, Meters};

use crate::block::{Block, BlockBuilder, Words, put_quantity, put_text};
use crate::columns::{Class, Columns, Row};
use crate::names::Names;

/// The key of a meter that groups by nothing: see [`Meter::group_key`].
const NO_DIMENSIONS: &[u8] = b"{}";

/// Usage of one batch, per minute.
///
/// Events come in the order of tenant, type and time, so that the events of a cell are mostly neighbours: a cell is
/// found by looking at the last one of its meter, and what is left is merged at the end.
#[derive(Debug, Default)]
pub struct Rollup {
    /// By meter.
    cells: Vec<Cells>,
    dimensions: Names,
    groups: Groups,
    applied: HashMap<u32, Vec<Applied>>,
    /// Events of a meter whose value was missing or not a number, by meter.
    pub without_value: HashMap<String, u64>,
}

/// What one meter makes of the events of one class.
#[derive(Debug)]
struct Applied {
    meter: u32,
    /// The meter is one of extremes.
    has_extremes: bool,
    value: Value,
    /// Place of the dimension, and what it may be.
    filter: Vec<(usize, Vec<Box<[u8]>>)>,
    /// Names and places of the dimensions that it groups by; a missing one is empty.
    group_by: Vec<(String, Option<usize>)>,
    /// The list of those names, as a number.
    group: u32,
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
    fn number(&mut self, meter: &Applied, columns: &Columns, row: &Row, dimensions: &mut Names) -> u32 {
        if meter.group_by.is_empty() {
            return dimensions.number(NO_DIMENSIONS);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&meter.group.to_le_bytes());
        for (_, place) in &meter.group_by {
            put_text(&mut self.scratch, place.map_or(&[][..], |nth| columns.text(row, nth)));
        }
        let number = self.texts.number(&self.scratch) as usize;
        if number == self.dimensions.len() {
            self.dimensions.push(dimensions.number(&group_key(&meter.group_by, columns, row)));
        }
        self.dimensions[number]
    }

    fn list(&mut self, meter: &Meter) -> u32 {
        self.lists.number(meter.group_by.join("\0").as_bytes())
    }
}

#[derive(Clone, Copy, Debug)]
enum Value {
    One,
    Measure(usize),
    Missing,
}

/// Usage of one tenant in one bucket. There is about one for each event and meter: half the size is half the time.
#[derive(Clone, Copy, Debug)]
struct Cell {
    total: Quantity,
    /// Number of the tenant.
    tenant: u32,
    /// Start of the bucket, seconds since the epoch.
    bucket: u32,
    /// Number of the dimensions.
    dimensions: u32,
    /// A batch is bounded far below 2^32 events.
    events: u32,
    /// Place of the least and the greatest value, for a meter of extremes.
    extremes: u32,
}

impl Cell {
    fn is_of(&self, other: &Cell) -> bool {
        (self.tenant, self.bucket) == (other.tenant, other.bucket)
    }
}

/// How far back a cell is looked for: the values of a dimension take turns within a minute.
const LOOK_BACK: usize = 8;

/// The cells of one meter.
#[derive(Clone, Debug, Default)]
struct Cells {
    list: Vec<Cell>,
    /// Least and greatest values; only meters of extremes have them.
    extremes: Vec<[Quantity; 2]>,
}

impl Cells {
    /// Adds a cell to one of the same key, if that is near. Sums past 38 digits stay at what they were; the store
    /// could not hold them either.
    fn push(&mut self, cell: Cell) {
        let near = self.list.iter_mut().rev().take(LOOK_BACK).take_while(|near| near.is_of(&cell));
        for near in near {
            if near.dimensions == cell.dimensions {
                near.events += cell.events;
                near.total = near.total.checked_add(cell.total).unwrap_or(near.total);
                if let Some([least, greatest]) = self.extremes.get(cell.extremes as usize).copied() {
                    let [near_least, near_greatest] = &mut self.extremes[near.extremes as usize];
                    *near_least = least.min(*near_least);
                    *near_greatest = greatest.max(*near_greatest);
                }
                return;
            }
        }
        self.list.push(cell);
    }

    /// In buckets of `seconds`, in the order of the table, each cell once.
    fn merged(mut self, seconds: u32, tenants: &[u32], dimensions: &[u32]) -> Cells {
        for cell in &mut self.list {
            cell.bucket -= cell.bucket % seconds;
        }
        self.list.sort_by_key(|cell| {
            let tenant = u64::from(tenants[cell.tenant as usize]);
            (tenant << 32 | u64::from(cell.bucket), dimensions[cell.dimensions as usize])
        });
        let mut merged = Cells { list: Vec::with_capacity(self.list.len()), extremes: self.extremes };
        for cell in self.list {
            merged.push(cell);
        }
        merged
    }
}

impl Rollup {
    /// Adds an event; returns how many meters it matched.
    pub fn add(&mut self, meters: &Meters, columns: &Columns, row: &Row) -> u16 {
        self.cells.resize_with(meters.meters.len(), Cells::default);
        let groups = &mut self.groups;
        let applied = self.applied.entry(row.class).or_insert_with(|| {
            let class = columns.class_of(row);
            applied(meters, class, columns.kinds.text(class.kind), groups)
        });
        let mut matched = 0;
        // The window admits only times that a DateTime holds.
        let bucket = (row.time_us.div_euclid(60_000_000) * 60) as u32;
        for meter in applied {
            let passes = |(nth, allowed): &(usize, Vec<Box<[u8]>>)| {
                let given = columns.text(row, *nth);
                allowed.iter().any(|value| **value == *given)
            };
            if !meter.filter.iter().all(passes) {
                continue;
            }
            matched += 1;
            let value = match meter.value {
                Value::One => Quantity::ONE,
                Value::Measure(nth) => columns.values(row)[nth],
                Value::Missing => {
                    let name = &meters.meters[meter.meter as usize].name;
                    *self.without_value.entry(name.clone()).or_default() += 1;
                    continue;
                }
            };
            let dimensions = self.groups.number(meter, columns, row, &mut self.dimensions);
            let cells = &mut self.cells[meter.meter as usize];
            let extremes = cells.extremes.len() as u32;
            if meter.has_extremes {
                cells.extremes.push([value; 2]);
            }
            cells.push(Cell { total: value, tenant: row.tenant, bucket, dimensions, events: 1, extremes });
        }
        matched
    }

    /// The rows of each rollup table: minutes as they are, hours made of minutes, days made of hours.
    pub fn tables(mut self, meters: &Meters, columns: &Columns) -> [(&'static str, Block); 3] {
        let tenants = columns.tenants.ranks();
        let dimensions = self.dimensions.ranks();
        let minutes = std::mem::take(&mut self.cells);
        let minutes: Vec<_> =
            minutes.into_iter().map(|cells| cells.merged(60, &tenants, &dimensions)).collect();
        let coarser = |cells: &[Cells], seconds| -> Vec<Cells> {
            cells.iter().map(|cells| cells.clone().merged(seconds, &tenants, &dimensions)).collect()
        };
        let hours = coarser(&minutes, 3_600);
        let days = coarser(&hours, 86_400);
        [("usage_minute", minutes), ("usage_hour", hours), ("usage_day", days)]
            .map(|(table, cells)| (table, self.block(meters, columns, &cells)))
    }

    fn block(&self, meters: &Meters, columns: &Columns, cells: &[Cells]) -> Block {
        let rows = cells.iter().map(|cells| cells.list.len()).sum();
        let names = meters.meters.iter().map(|meter| meter.name.as_bytes()).collect();
        let mut meter_column = Words::new(names, rows);
        let (mut tenants, mut buckets, mut dimensions) =
            (Vec::with_capacity(rows * 12), Vec::with_capacity(rows * 4), Vec::with_capacity(rows * 24));
        let mut events = Vec::with_capacity(rows * 8);
        let mut quantities = [(); 3].map(|()| Vec::with_capacity(rows * 16));
        let mut order: Vec<usize> = (0..meters.meters.len()).collect();
        order.sort_unstable_by_key(|meter| &meters.meters[*meter].name);
        for meter in order {
            let Some(cells) = cells.get(meter) else {
                continue;
            };
            for cell in &cells.list {
                meter_column.push(meter as u32);
                put_text(&mut tenants, columns.tenants.text(cell.tenant));
                buckets.extend_from_slice(&cell.bucket.to_le_bytes());
                put_text(&mut dimensions, self.dimensions.text(cell.dimensions));
                events.extend_from_slice(&i64::from(cell.events).to_le_bytes());
                // Only meters of extremes are asked for them; for the others they would be most of the table.
                let extremes = cells.extremes.get(cell.extremes as usize);
                let extremes = extremes.copied().unwrap_or([Quantity::ZERO; 2]);
                put_quantity(&mut quantities[0], cell.total);
                put_quantity(&mut quantities[1], extremes[0]);
                put_quantity(&mut quantities[2], extremes[1]);
            }
        }
        let [totals, least, greatest] = quantities;
        let mut block = BlockBuilder::new(rows);
        block
            .words("meter", &meter_column)
            .column("tenant", "String", tenants)
            .column("bucket", "DateTime('UTC')", buckets)
            .column("dimensions", "String", dimensions)
            .column("events", "Int64", events)
            .column("total", "Decimal(38, 9)", totals)
            .column("least_value", "Decimal(38, 9)", least)
            .column("greatest_value", "Decimal(38, 9)", greatest);
        block.finish()
    }
}

/// What the meters make of a class; those that have nothing to do with it are left out.
fn applied(meters: &Meters, class: &Class, kind: &[u8], groups: &mut Groups) -> Vec<Applied> {
    let dimension = |name: &str| class.dimensions.iter().position(|given| given == name);
    let mut apply = |(number, meter): (usize, &Meter)| {
        if meter.event_type.as_bytes() != kind {
            return None;
        }
        let mut filter = Vec::new();
        for (name, values) in &meter.filter {
            filter.push((dimension(name)?, values.iter().map(|value| value.as_bytes().into()).collect()));
        }
        let value = match &meter.value {
            None => Value::One,
            Some(name) => {
                class.measures.iter().position(|given| given == name).map_or(Value::Missing, Value::Measure)
            }
        };
        let group_by = meter.group_by.iter().map(|name| (name.clone(), dimension(name))).collect();
        let has_extremes = matches!(meter.aggregation, Aggregation::Min | Aggregation::Max);
        Some(Applied {
            meter: number as u32,
            has_extremes,
            value,
            filter,
            group_by,
            group: groups.list(meter),
        })
    };
    meters.meters.iter().enumerate().filter_map(&mut apply).collect()
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
                false => [("zone".to_owned(), zones.iter().map(|zone| (*zone).to_owned()).collect())].into(),
            },
            group_by: group_by.iter().map(|key| (*key).to_owned()).collect(),
        }
    }

    proptest! {
        /// A cell holds what [`Meter::read`] makes of each event alone.
        #[test]
        fn cells_are_what_the_meters_read(
            given in proptest::collection::vec((0_u8..3, 0_u32..60, prop_oneof!["[1-9][0-9]{0,3}", Just("\"?\"".to_owned())]), 1..60),
        ) {
            let meters = Meters {
                meters: vec![
                    meter("bytes", &[], &[], Some("bytes")),
                    meter("by_zone", &["zone", "gone"], &[], Some("bytes")),
                    meter("count", &[], &["z0", "z2"], None),
                    meter("other", &["zone"], &["nowhere"], None),
                ],
            };
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
                for (number, meter) in meters.meters.iter().enumerate() {
                    let mut expected: BTreeMap<(String, i64, String), (i64, i128)> = BTreeMap::new();
                    for event in &events {
                        if let Reading::Value(value) = meter.read(event) {
                            let bucket = event.time.timestamp() / seconds * seconds;
                            let cell = expected.entry((event.tenant.to_string(), bucket, meter.group_key(event))).or_default();
                            cell.0 += 1;
                            cell.1 += value.nanos();
                        }
                    }
                    let cells = rollup.cells[number].clone().merged(seconds as u32, &tenants, &dimensions);
                    let found: Vec<_> = cells
                        .list
                        .iter()
                        .map(|cell| {
                            let key = (columns.tenants.str(cell.tenant).to_owned(), i64::from(cell.bucket), rollup.dimensions.str(cell.dimensions).to_owned());
                            (key, (i64::from(cell.events), cell.total.nanos()))
                        })
                        .collect();
                    prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
                }
            }
        }
    }
}
