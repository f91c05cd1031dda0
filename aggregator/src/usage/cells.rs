//! What was measured, by group and step, and what windows come to. Pure.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Meter, Per};

use super::exact;

/// What was measured in one step or window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// Events; of a level there may be none.
    pub(super) events: i64,
    pub(super) amount: Amount,
}

/// What a quantity is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// 10⁻⁹ of whatever the store gives: a total, an extreme, a value.
    Nanos(i128),
    /// A level: 10⁻⁹ times microseconds.
    Level(BigInt),
}

/// By group, by step.
pub(super) type Cells = BTreeMap<Vec<String>, BTreeMap<usize, Cell>>;

impl Cell {
    /// Adds what was measured in a later step.
    pub(super) fn add(&mut self, later: &Cell, aggregation: Aggregation) {
        self.events += later.events;
        match (&mut self.amount, &later.amount) {
            (Amount::Level(sum), Amount::Level(later)) => *sum += later,
            (Amount::Nanos(held), Amount::Nanos(later)) => {
                *held = match aggregation {
                    Aggregation::Min => *later.min(held),
                    Aggregation::Max => *later.max(held),
                    Aggregation::Latest => *later,
                    // A sum that passes 38 digits is no quantity, and found to be none.
                    _ => held.saturating_add(*later),
                }
            }
            (held, later) => *held = later.clone(),
        }
    }

    /// The quantity of a window of so many seconds; `None` where it is too large for one.
    pub(super) fn quantity(&self, meter: &Meter, seconds: i64) -> Option<Quantity> {
        let per = meter.per.unwrap_or_default();
        match &self.amount {
            Amount::Level(sum) => {
                let unit = BigInt::from(per.seconds().unwrap_or(seconds)) * 1_000_000;
                exact::quotient(sum, &(unit * Quantity::ONE.nanos()))
            }
            Amount::Nanos(nanos) => match (meter.aggregation, per) {
                (Aggregation::Avg, _) => exact::share(*nanos, 1, self.events),
                (Aggregation::Rate, Per::Window) => exact::share(*nanos, 1, 1),
                (Aggregation::Rate, per) => exact::share(*nanos, per.seconds().unwrap_or(1), seconds),
                _ => exact::share(*nanos, 1, 1),
            },
        }
    }
}

/// Windows of several steps each, made of those of one: the `nth` has the steps from `nth` on.
pub(super) fn rolled(cells: Cells, steps: usize, windows: usize, aggregation: Aggregation) -> Cells {
    let roll = |of_group: BTreeMap<usize, Cell>| {
        let mut rolled = BTreeMap::new();
        // Each step has a part in so many windows: those that begin up to it.
        for (step, cell) in &of_group {
            for window in (step + 1).saturating_sub(steps)..=(*step).min(windows.saturating_sub(1)) {
                match rolled.entry(window) {
                    std::collections::btree_map::Entry::Vacant(vacant) => {
                        vacant.insert(cell.clone());
                    }
                    std::collections::btree_map::Entry::Occupied(mut occupied) => {
                        Cell::add(occupied.get_mut(), cell, aggregation);
                    }
                }
            }
        }
        rolled
    };
    cells.into_iter().map(|(keys, of_group)| (keys, roll(of_group))).collect()
}

/// Whether the quantities of groups add up to that of all.
pub(super) fn adds_up(aggregation: Aggregation) -> bool {
    match aggregation {
        Aggregation::Count | Aggregation::Sum | Aggregation::Rate | Aggregation::TimeWeighted => true,
        Aggregation::Min
        | Aggregation::Max
        | Aggregation::Avg
        | Aggregation::UniqueCount
        | Aggregation::Latest
        | Aggregation::Percentile => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(events: i64, nanos: i128) -> Cell {
        Cell { events, amount: Amount::Nanos(nanos) }
    }

    #[test]
    fn windows_roll_over_gaps() {
        let steps = BTreeMap::from([(0, cell(1, 5)), (2, cell(2, 3)), (4, cell(1, 9))]);
        let of = |aggregation| {
            let rolled = rolled(BTreeMap::from([(Vec::new(), steps.clone())]), 2, 4, aggregation);
            let windows = rolled.into_values().next().unwrap().into_iter();
            windows
                .map(|(window, cell)| match cell.amount {
                    Amount::Nanos(nanos) => (window, cell.events, nanos),
                    Amount::Level(_) => panic!(),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Aggregation::Sum), [(0, 1, 5), (1, 2, 3), (2, 2, 3), (3, 1, 9)]);
        let rolled = rolled(BTreeMap::from([(Vec::new(), steps.clone())]), 3, 3, Aggregation::Latest);
        assert_eq!(rolled[&Vec::new()][&0], cell(3, 3));
        assert_eq!(rolled[&Vec::new()][&2], cell(3, 9));
    }

    #[test]
    fn quantities_are_by_the_time_and_by_the_events() {
        let meter = |aggregation, per| Meter { aggregation, per, ..Meter::default() };
        let q = |text: &str| Some(text.parse::<Quantity>().unwrap());
        let seven = cell(3, 7_000_000_000);
        assert_eq!(seven.quantity(&meter(Aggregation::Sum, None), 60), q("7"));
        assert_eq!(seven.quantity(&meter(Aggregation::Avg, None), 60), q("2.333333333"));
        assert_eq!(seven.quantity(&meter(Aggregation::Rate, None), 60), q("0.116666667"));
        assert_eq!(seven.quantity(&meter(Aggregation::Rate, Some(Per::Minute)), 60), q("7"));
        assert_eq!(seven.quantity(&meter(Aggregation::Rate, Some(Per::Window)), 3_600), q("7"));
        let level = Cell { events: 0, amount: Amount::Level(BigInt::from(7_000_000_000_i64) * 30_000_000) };
        assert_eq!(level.quantity(&meter(Aggregation::TimeWeighted, Some(Per::Window)), 60), q("3.5"));
        assert_eq!(level.quantity(&meter(Aggregation::TimeWeighted, None), 60), q("210"));
        let vast = Cell { events: 0, amount: Amount::Level(BigInt::from(i128::MAX) * i64::MAX) };
        assert_eq!(vast.quantity(&meter(Aggregation::TimeWeighted, None), 60), None);
    }
}
