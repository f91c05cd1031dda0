//! Usage per meter, tenant and minute, hour and day, of one batch. Pure.

use std::collections::HashMap;

use rentroll_schemas::meter::{Meters, Reading};
use rentroll_schemas::{Event, Quantity};

use crate::rows::Rows;

/// The rollup tables and the seconds of their buckets.
pub const TABLES: [(&str, u32); 3] = [("usage_minute", 60), ("usage_hour", 3_600), ("usage_day", 86_400)];

/// Columns of a rollup table, in the order of [`Rollup::rows`].
pub const COLUMNS: [&str; 8] =
    ["meter", "tenant", "bucket", "dimensions", "events", "total", "least_value", "greatest_value"];

/// Usage of one batch, per minute.
#[derive(Debug, Default)]
pub struct Rollup {
    cells: HashMap<Key, Cell>,
    /// Events of a meter whose value was missing or not a number, by meter.
    pub without_value: HashMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    meter: u16,
    bucket: u32,
    tenant: Box<str>,
    dimensions: Box<str>,
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

impl Rollup {
    /// Adds an event; returns how many meters it matched.
    pub fn add(&mut self, meters: &Meters, event: &Event<'_>) -> u16 {
        let mut matched = 0;
        let minute = event.time.timestamp().div_euclid(60) * 60;
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
            let key = Key {
                meter: index as u16,
                // The window admits only times that a DateTime holds.
                bucket: minute as u32,
                tenant: event.tenant.as_ref().into(),
                dimensions: meter.group_key(event).into(),
            };
            let cell = Cell { events: 1, total: value, least: value, greatest: value };
            self.cells.entry(key).and_modify(|held| held.add(&cell)).or_insert(cell);
        }
        matched
    }

    /// The rows of the table whose buckets have `seconds`.
    pub fn rows(&self, meters: &Meters, seconds: u32) -> Rows {
        let mut cells: HashMap<Key, Cell> = HashMap::with_capacity(self.cells.len());
        for (key, cell) in &self.cells {
            let key = Key { bucket: key.bucket - key.bucket % seconds, ..key.clone() };
            cells.entry(key).and_modify(|held| held.add(cell)).or_insert(*cell);
        }
        let mut rows = Rows::default();
        for (key, cell) in cells {
            let Some(meter) = meters.meters.get(usize::from(key.meter)) else {
                continue;
            };
            rows.text(meter.name.as_bytes())
                .text(key.tenant.as_bytes())
                .u32(key.bucket)
                .text(key.dimensions.as_bytes())
                .i64(cell.events)
                .quantity(cell.total)
                .quantity(cell.least)
                .quantity(cell.greatest)
                .end_row();
        }
        rows
    }
}
