//! Usage per meter, tenant and minute, hour and day, of one batch. Pure.

use foldhash::{HashMap, HashMapExt as _};
use rentroll_schemas::meter::{Meters, Reading};
use rentroll_schemas::{Event, Quantity};

use crate::rows::Rows;

/// Columns of a rollup table, in the order of [`Rollup::tables`].
pub const COLUMNS: [&str; 8] =
    ["meter", "tenant", "bucket", "dimensions", "events", "total", "least_value", "greatest_value"];

/// Bytes of a row, with names of common length; only to reserve room.
const ROW_BYTES: usize = 112;

/// The key of a meter that groups by nothing: see [`rentroll_schemas::meter::Meter::group_key`].
const NO_DIMENSIONS: &str = "{}";

/// Usage of one batch, per minute.
///
/// Tenants and dimensions are numbered as they come, so that a cell's key is four integers: most events find
/// their cell without an allocation.
#[derive(Debug, Default)]
pub struct Rollup {
    tenants: Names,
    dimensions: Names,
    cells: HashMap<Key, Cell>,
    /// Stored events, by number of the tenant.
    events_by_tenant: Vec<u64>,
    /// Events of a meter whose value was missing or not a number, by meter.
    pub without_value: HashMap<String, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    meter: u32,
    bucket: u32,
    tenant: u32,
    dimensions: u32,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    events: i64,
    total: Quantity,
    least: Quantity,
    greatest: Quantity,
}

impl Cell {
    /// Sums past 38 digits stay at what they were; the store could not hold them either.
    fn add(&mut self, other: &Cell) {
        self.events += other.events;
        self.total = self.total.checked_add(other.total).unwrap_or(self.total);
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
    }
}

/// Texts, numbered in the order in which they first came.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Names {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        // A batch has at most a million records.
        let number = self.texts.len() as u32;
        self.numbers.insert(text.into(), number);
        self.texts.push(text.into());
        number
    }

    fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }
}

impl Rollup {
    /// Adds an event; returns how many meters it matched.
    pub fn add(&mut self, meters: &Meters, event: &Event<'_>) -> u16 {
        let mut matched = 0;
        // The window admits only times that a DateTime holds.
        let bucket = (event.time.timestamp().div_euclid(60) * 60) as u32;
        let tenant = self.tenants.number(&event.tenant);
        match self.events_by_tenant.get_mut(tenant as usize) {
            Some(events) => *events += 1,
            None => self.events_by_tenant.push(1),
        }
        for (index, meter) in meters.meters.iter().enumerate() {
            let value = match meter.read(event) {
                Reading::NotMine => continue,
                Reading::NoValue => {
                    matched += 1;
                    *self.without_value.entry(meter.name.clone()).or_default() += 1;
                    continue;
                }
                Reading::Value(value) => value,
            };
            matched += 1;
            let dimensions = match meter.group_by.is_empty() {
                true => self.dimensions.number(NO_DIMENSIONS),
                false => self.dimensions.number(&meter.group_key(event)),
            };
            let key = Key { meter: index as u32, bucket, tenant, dimensions };
            let cell = Cell { events: 1, total: value, least: value, greatest: value };
            self.cells.entry(key).and_modify(|held| held.add(&cell)).or_insert(cell);
        }
        matched
    }

    /// Stored events by tenant.
    pub fn by_tenant(&self) -> impl Iterator<Item = (&str, u64)> {
        self.tenants.texts.iter().map(AsRef::as_ref).zip(self.events_by_tenant.iter().copied())
    }

    /// The rows of each rollup table: minutes as they are, hours made of minutes, days made of hours.
    pub fn tables(&self, meters: &Meters) -> [(&'static str, Rows); 3] {
        let hours = coarser(&self.cells, 3_600);
        let days = coarser(&hours, 86_400);
        [
            ("usage_minute", self.rows(meters, &self.cells)),
            ("usage_hour", self.rows(meters, &hours)),
            ("usage_day", self.rows(meters, &days)),
        ]
    }

    fn rows(&self, meters: &Meters, cells: &HashMap<Key, Cell>) -> Rows {
        let mut rows = Rows::with_capacity(cells.len() * ROW_BYTES);
        for (key, cell) in cells {
            let Some(meter) = meters.meters.get(key.meter as usize) else { continue };
            rows.text(meter.name.as_bytes())
                .text(self.tenants.text(key.tenant).as_bytes())
                .u32(key.bucket)
                .text(self.dimensions.text(key.dimensions).as_bytes())
                .i64(cell.events)
                .quantity(cell.total)
                .quantity(cell.least)
                .quantity(cell.greatest)
                .end_row();
        }
        rows
    }
}

/// The same usage in buckets of `seconds`, a multiple of the buckets that it is in.
fn coarser(cells: &HashMap<Key, Cell>, seconds: u32) -> HashMap<Key, Cell> {
    let mut coarse: HashMap<Key, Cell> = HashMap::with_capacity(cells.len() / 4);
    for (key, cell) in cells {
        let key = Key { bucket: key.bucket - key.bucket % seconds, ..*key };
        coarse.entry(key).and_modify(|held| held.add(cell)).or_insert(*cell);
    }
    coarse
}

#[cfg(test)]
mod tests {
    use super::*;
    use rentroll_schemas::meter::{Aggregation, Meter};

    fn event(tenant: &str, minute: u32, bytes: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"{tenant}","time":"2023-11-14T22:{minute:02}:59Z","data":{{"bytes":{bytes},"zone":"z{minute}"}}}}"#
        )
    }

    fn meter(group_by: &[&str]) -> Meters {
        let group_by = group_by.iter().map(|key| (*key).to_owned()).collect();
        let meter = Meter {
            name: "bytes".into(),
            description: String::new(),
            unit: "byte".into(),
            event_type: "t".into(),
            aggregation: Aggregation::Sum,
            value: Some("bytes".into()),
            filter: Default::default(),
            group_by,
        };
        Meters { meters: vec![meter] }
    }

    #[test]
    fn cells_are_per_tenant_bucket_and_dimensions() {
        for (group_by, minutes, hours) in [(&[][..], 3, 2), (&["zone"][..], 3, 3)] {
            let meters = meter(group_by);
            let mut rollup = Rollup::default();
            for (tenant, minute, bytes) in
                [("a", 1, "1"), ("a", 1, "2"), ("a", 2, "4"), ("b", 1, "8"), ("b", 1, "\"?\"")]
            {
                let text = event(tenant, minute, bytes);
                assert_eq!(rollup.add(&meters, &Event::from_json(text.as_bytes()).unwrap()), 1);
            }
            let counts = rollup.tables(&meters).map(|(_, rows)| rows.count());
            assert_eq!(counts, [minutes, hours, hours]);
            assert_eq!(rollup.by_tenant().collect::<Vec<_>>(), [("a", 3), ("b", 2)]);
            assert_eq!(rollup.without_value["bytes"], 1);
        }
    }
}
