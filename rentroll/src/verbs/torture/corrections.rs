//! Which events of a stream correct which others, and what then counts, by other means than SQL.
//!
//! Every new event has a level, thrown by itself: one of level 0 corrects nothing, one of level *k* an event of level
//! *k* − 1. So chains end, no two events correct each other, and voids of voids are as deep as the product follows
//! them ([`rentroll_schemas::effective::DEPTH`]) and no deeper.

use std::collections::HashMap;

use rentroll_schemas::event::CorrectionKind;

use super::items::{Item, Stream};

/// Of a hundred new events, so many are of level 1, 2, 3 and 4. Deep ones are rarer in truth; here they are to be tried.
const OF_LEVELS: [u64; 4] = [6, 3, 2, 1];
/// How far back an event may lie that is corrected, in items…
const REACH_BACK: u64 = 4_000;
/// …and how far ahead: its correction then comes first, and waits for it.
const REACH_AHEAD: u64 = 300;
/// An event of the level below is looked for among so many items, of which one in a hundred is of the rarest level.
const LOOKED_AT_MAX: u64 = 1_000;

/// What an event corrects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrects {
    /// How.
    pub(super) kind: CorrectionKind,
    /// The number of the event that it names.
    pub(super) target: u64,
    /// It keeps its own tenant: for another's event it names an id that means nothing.
    is_foreign: bool,
}

impl Stream {
    fn level(&self, n: u64) -> u64 {
        let mut thrown = self.dice(n, 4).below(100);
        for (level, share) in (1..).zip(OF_LEVELS) {
            if thrown < share {
                return level;
            }
            thrown -= share;
        }
        0
    }

    /// What the event that is new with item `n` corrects; the same in all its versions.
    pub(super) fn corrects(&self, n: u64) -> Option<Corrects> {
        let level = self.level(n);
        if level == 0 {
            return None;
        }
        let mut dice = self.dice(n, 5);
        let kind = if dice.chance(50) { CorrectionKind::Voids } else { CorrectionKind::Amends };
        let is_foreign = dice.chance(8);
        let from = match dice.chance(15) {
            true => n + dice.below(REACH_AHEAD),
            false => n.saturating_sub(dice.below(REACH_BACK)),
        };
        let is_below = |m: &u64| self.level(*m) + 1 == level && self.item(*m) == Item::New;
        // A stream's first events may find nobody to correct.
        let target = (0..=from).rev().take(LOOKED_AT_MAX as usize).find(is_below)?;
        Some(Corrects { kind, target, is_foreign })
    }

    /// The event whose tenant that of item `n` takes over: its original, and what that corrects in turn.
    pub(super) fn tenant_of(&self, n: u64) -> u64 {
        match self.corrects(n) {
            Some(corrects) if !corrects.is_foreign => self.tenant_of(corrects.target),
            _ => n,
        }
    }
}

/// The corrections among the events that are stored, by the number of the event that they name.
#[derive(Debug, Default)]
pub(super) struct Corrections {
    naming: HashMap<u64, Vec<(CorrectionKind, u64)>>,
}

impl Corrections {
    /// Event `n` is stored; `is_same_tenant` says whether two events are of one tenant.
    pub(super) fn add(&mut self, n: u64, corrects: Corrects, is_same_tenant: impl Fn(u64, u64) -> bool) {
        if is_same_tenant(n, corrects.target) {
            self.naming.entry(corrects.target).or_default().push((corrects.kind, n));
        }
    }

    /// Whether the correction `n` is in force: no void in force names it.
    fn is_in_force(&self, n: u64) -> bool {
        self.named_by(n).all(|(kind, by)| kind != CorrectionKind::Voids || !self.is_in_force(by))
    }

    /// Whether event `n`, which does that to another, counts.
    pub(super) fn counts(&self, n: u64, corrects: Option<Corrects>) -> bool {
        let is_void = corrects.is_some_and(|corrects| corrects.kind == CorrectionKind::Voids);
        !is_void && self.named_by(n).all(|(_, by)| !self.is_in_force(by))
    }

    fn named_by(&self, n: u64) -> impl Iterator<Item = (CorrectionKind, u64)> {
        self.naming.get(&n).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        let begun = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Stream { seed: 5, source: "torture", begun, has_garbage: true }
    }

    #[test]
    fn chains_are_as_deep_as_the_product_follows_them() {
        assert_eq!(OF_LEVELS.len(), rentroll_schemas::effective::DEPTH);
        let stream = stream();
        let new = |n: &u64| stream.item(*n) == Item::New;
        let (mut depths, mut ahead, mut foreign) = ([0; 5], 0, 0);
        for n in (0..20_000).filter(new) {
            let mut chain = vec![n];
            while let Some(corrects) = stream.corrects(chain[chain.len() - 1]) {
                assert!(new(&corrects.target));
                ahead += u32::from(corrects.target > n);
                foreign += u32::from(corrects.is_foreign);
                chain.push(corrects.target);
            }
            depths[chain.len() - 1] += 1;
        }
        assert!(depths.iter().all(|count| *count > 100), "{depths:?}");
        assert!(ahead > 100 && foreign > 100, "{ahead} {foreign}");
    }

    #[test]
    fn what_counts_is_what_the_rules_say() {
        let of = |named: &[(u64, CorrectionKind, u64)]| {
            let mut corrections = Corrections::default();
            for (n, kind, target) in named {
                let corrects = Corrects { kind: *kind, target: *target, is_foreign: false };
                corrections.add(*n, corrects, |_, _| true);
            }
            let counts = |n: u64| {
                let own = named.iter().find(|(by, ..)| *by == n);
                let corrects =
                    own.map(|(_, kind, target)| Corrects { kind: *kind, target: *target, is_foreign: false });
                corrections.counts(n, corrects)
            };
            (0..=3).map(counts).collect::<Vec<_>>()
        };
        let (voids, amends) = (CorrectionKind::Voids, CorrectionKind::Amends);
        assert_eq!(of(&[(1, voids, 0)]), [false, false, true, true]);
        assert_eq!(of(&[(1, voids, 0), (2, voids, 1)]), [true, false, false, true]);
        assert_eq!(of(&[(1, voids, 0), (2, voids, 1), (3, voids, 2)]), [false, false, false, false]);
        assert_eq!(of(&[(1, amends, 0)]), [false, true, true, true]);
        // The newest of a chain counts alone; an amendment that is voided gives its original back.
        assert_eq!(of(&[(1, amends, 0), (2, amends, 1)]), [false, false, true, true]);
        assert_eq!(of(&[(1, amends, 0), (2, voids, 1)]), [true, false, false, true]);
        assert_eq!(of(&[(1, amends, 0), (2, voids, 0)]), [false, true, false, true]);
    }
}
