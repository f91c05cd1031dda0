//! Levels, added up by group and step, exactly. Pure.
//!
//! A level that holds over many steps is added to the first and the last of them, and noted where it begins and ends to hold over
//! whole ones: what a question costs grows with its samples and its windows, not with their product.

use std::collections::{BTreeMap, HashMap};

use num_bigint::BigInt;

use crate::usage::cells::{Amount, Cell, Cells};
use crate::usage::windows::Cut;

const SECOND: i64 = 1_000_000;

/// Sums of all groups.
pub(super) struct Sums<'a> {
    cut: &'a Cut,
    places: HashMap<Vec<String>, usize>,
    groups: Vec<Group>,
}

/// By step.
struct Group {
    keys: Vec<String>,
    events: Vec<i64>,
    /// 10⁻⁹ times microseconds, of steps over a part of which a level holds.
    parts: Vec<BigInt>,
    /// What the sum of levels that hold over whole steps changes by; one more than steps.
    changes: Vec<i128>,
    /// What the number of series that have a level changes by; likewise.
    series: Vec<i64>,
}

impl<'a> Sums<'a> {
    pub(super) fn new(cut: &'a Cut) -> Self {
        Sums { cut, places: HashMap::new(), groups: Vec::new() }
    }

    fn steps(&self) -> usize {
        self.cut.edges.len() - 1
    }

    /// How many sums are held.
    pub(super) fn held(&self) -> usize {
        self.groups.len() * self.steps()
    }

    /// The place of a group.
    pub(super) fn place(&mut self, keys: Vec<String>) -> usize {
        if let Some(place) = self.places.get(&keys) {
            return *place;
        }
        let steps = self.steps();
        self.places.insert(keys.clone(), self.groups.len());
        self.groups.push(Group {
            keys,
            events: vec![0; steps],
            parts: vec![BigInt::ZERO; steps],
            changes: vec![0; steps + 1],
            series: vec![0; steps + 1],
        });
        self.groups.len() - 1
    }

    /// Counts an event of the span, in microseconds.
    pub(super) fn event(&mut self, place: usize, at: i64) {
        let step = self.cut.step(at.div_euclid(SECOND));
        self.groups[place].events[step] += 1;
    }

    /// Adds a level that holds in [from, to), microseconds of the span. `None` where the sum of levels passes any number.
    pub(super) fn hold(&mut self, place: usize, from: i64, to: i64, level: i128) -> Option<()> {
        let first = self.cut.step(from.div_euclid(SECOND));
        let last = self.cut.step((to - 1).div_euclid(SECOND));
        let edge = |step: usize| self.cut.edges[step] * SECOND;
        let Group { parts, changes, series, .. } = &mut self.groups[place];
        let mut add = |step: usize, micros: i64| parts[step] += BigInt::from(level) * micros;
        if first == last {
            add(first, to - from);
        } else {
            add(first, edge(first + 1) - from);
            add(last, to - edge(last));
            changes[first + 1] = changes[first + 1].checked_add(level)?;
            changes[last] = changes[last].checked_sub(level)?;
        }
        series[first] += 1;
        series[last + 1] -= 1;
        Some(())
    }

    /// What steps come to. `None` where the sum of levels passes any number.
    pub(super) fn finish(self) -> Option<Cells> {
        let edges = &self.cut.edges;
        let mut cells = Cells::new();
        for group in self.groups {
            let mut of_group = BTreeMap::new();
            let (mut level, mut series) = (0_i128, 0);
            for (step, (part, events)) in group.parts.into_iter().zip(group.events).enumerate() {
                level = level.checked_add(group.changes[step])?;
                series += group.series[step];
                if series > 0 || events > 0 {
                    let micros = (edges[step + 1] - edges[step]) * SECOND;
                    let amount = Amount::Level(part + BigInt::from(level) * micros);
                    of_group.insert(step, Cell { events, amount });
                }
            }
            cells.insert(group.keys, of_group);
        }
        Some(cells)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_adding_each_step_gives(
            cuts in proptest::collection::btree_set(0..60_i64, 2..8),
            held in proptest::collection::vec((0..60_000_000_i64, 0..60_000_000_i64, -9..9_i128), 0..8),
        ) {
            let cut = Cut { edges: cuts.into_iter().collect(), steps: 1 };
            let mut sums = Sums::new(&cut);
            let place = sums.place(Vec::new());
            let steps = cut.edges.len() - 1;
            let mut naive = vec![(0_i128, false); steps];
            for (from, to, level) in held {
                let (from, to) = (from.max(cut.from() * SECOND), to.min(cut.to() * SECOND));
                if from >= to {
                    continue;
                }
                sums.hold(place, from, to, level).unwrap();
                for (step, sum) in naive.iter_mut().enumerate() {
                    let begins = from.max(cut.edges[step] * SECOND);
                    let overlap = to.min(cut.edges[step + 1] * SECOND) - begins;
                    if overlap > 0 {
                        *sum = (sum.0 + level * i128::from(overlap), true);
                    }
                }
            }
            let cells = sums.finish().unwrap().remove(&Vec::new()).unwrap();
            for (step, (sum, is_there)) in naive.into_iter().enumerate() {
                let expected = is_there.then(|| Amount::Level(BigInt::from(sum)));
                prop_assert_eq!(cells.get(&step).map(|cell| cell.amount.clone()), expected);
            }
        }
    }
}
