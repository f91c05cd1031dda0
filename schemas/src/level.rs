//! Levels, such as bytes stored, weighted by the time that they hold: exact, and without a store.
//!
//! `Σ b_i · (min(t_{i+1}, P1) − max(t_i, P0))` over the samples of one series, divided by the unit of time. The last sample
//! before a window is carried into it; of several samples with one time the last one holds. Times are microseconds since
//! the epoch, as events have them.
//!
//! [`held`] makes stretches of samples, [`weigh`] adds them to windows, and [`Share`] is the sum: a whole number of
//! 10⁻⁹ and a remainder, so that nothing is rounded before the end, and products may be wider than 128 bits.

use crate::Quantity;
use crate::meter::Per;

/// A value that was measured: when, in microseconds since the epoch, and how much.
pub type Sample = (i64, Quantity);

/// The time [from, to) in which a level held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// First microsecond.
    pub from: i64,
    /// First microsecond after it.
    pub to: i64,
    /// How much.
    pub level: Quantity,
}

/// The stretches that the samples of one series make: each holds until the next one, the last one until `until`. Samples
/// in the order of time, those of one time in the order in which they hold: the last one does. What is not before
/// `until` is left out.
pub fn held(samples: impl IntoIterator<Item = Sample>, until: i64) -> impl Iterator<Item = Held> {
    let mut samples = samples.into_iter().peekable();
    std::iter::from_fn(move || {
        while let Some((from, level)) = samples.next() {
            let next = samples.peek().map_or(until, |(at, _)| *at);
            let to = next.min(until);
            if from < to {
                return Some(Held { from, to, level });
            }
        }
        None
    })
}

/// Σ value · times, divided by a number, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    divisor: i128,
    /// In 10⁻⁹.
    whole: i128,
    /// In 10⁻⁹ / `divisor`: from 0 to below `divisor`.
    rest: i128,
}

impl Share {
    /// Nothing yet, to be divided by `divisor`; 0 counts as 1.
    pub fn by(divisor: u64) -> Self {
        Share { divisor: i128::from(divisor.max(1)), whole: 0, rest: 0 }
    }

    /// Adds `value · times`; `None` where the sum would not fit into a quantity.
    #[must_use = "it may be too large"]
    pub fn add(&mut self, value: Quantity, times: u64) -> Option<()> {
        let times = i128::from(times);
        // value = whole · divisor + rest, so that the product need not be formed. Both factors of the rest are below 2⁶⁴:
        // unsigned, their product may pass i128, but not u128.
        let whole = value.nanos().div_euclid(self.divisor).checked_mul(times)?;
        let product = value.nanos().rem_euclid(self.divisor).unsigned_abs() * times.unsigned_abs();
        let divisor = self.divisor.unsigned_abs();
        let sum = self.rest.unsigned_abs() + product % divisor;
        let carried = i128::try_from(product / divisor + sum / divisor).ok()?;
        let whole = self.whole.checked_add(whole)?.checked_add(carried)?;
        Quantity::ZERO.checked_add(Quantity::from_nanos(whole))?;
        self.whole = whole;
        self.rest = i128::try_from(sum % divisor).ok()?;
        Some(())
    }

    /// The quotient, rounded once at nine decimals, half away from zero.
    pub fn quantity(&self) -> Quantity {
        let twice = 2 * self.rest;
        let is_up = if self.whole < 0 { twice > self.divisor } else { twice >= self.divisor };
        Quantity::from_nanos(self.whole + i128::from(is_up))
    }
}

/// A window [from, to) and what levels come to in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First microsecond.
    pub from: i64,
    /// First microsecond after it.
    pub to: i64,
    share: Share,
}

impl Window {
    /// Nothing yet, by `per`: byte-seconds, byte-hours, or the average level of the window.
    pub fn new(from: i64, to: i64, per: Per) -> Self {
        let unit = per.seconds().map_or(to.saturating_sub(from), |seconds| seconds * 1_000_000);
        Window { from, to, share: Share::by(u64::try_from(unit).unwrap_or_default()) }
    }

    /// Adds the part of `held` that is in it; `None` where the sum would not fit into a quantity.
    #[must_use = "it may be too large"]
    pub fn add(&mut self, held: &Held) -> Option<()> {
        let micros = held.to.min(self.to).saturating_sub(held.from.max(self.from));
        match u64::try_from(micros) {
            Ok(micros) => self.share.add(held.level, micros),
            Err(_) => Some(()),
        }
    }

    /// What it comes to: of all series that were added, rounded once.
    pub fn quantity(&self) -> Quantity {
        self.share.quantity()
    }
}

/// Adds `held` to those of the windows that it reaches into. `windows` are in the order of time and do not overlap.
/// `None` where a sum would not fit into a quantity.
#[must_use = "it may be too large"]
pub fn weigh(held: &Held, windows: &mut [Window]) -> Option<()> {
    let first = windows.partition_point(|window| window.to <= held.from);
    windows[first..]
        .iter_mut()
        .take_while(|window| window.from < held.to)
        .try_for_each(|window| window.add(held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;

    fn total(samples: &[Sample], from: i64, to: i64, per: Per) -> Quantity {
        let mut windows = [Window::new(from, to, per)];
        for one in held(samples.iter().copied(), to) {
            weigh(&one, &mut windows).unwrap();
        }
        windows[0].quantity()
    }

    #[test]
    fn a_hundred_gib_for_half_a_month_and_a_thousand_times_as_much_for_the_rest() {
        let gib = |n: i64| Quantity::from_int(n << 30);
        let samples = [(0, gib(100)), (15 * DAY, gib(100 << 10))];
        let average = total(&samples, 0, 31 * DAY, Per::Window);
        assert_eq!(average, gib(52_900));
        let byte_hours = total(&samples, 0, 31 * DAY, Per::Hour);
        assert_eq!(byte_hours, Quantity::from_int(42_259_901_212_262_400));
        let byte_seconds = total(&samples, 0, 31 * DAY, Per::Second);
        assert_eq!(byte_seconds.to_string(), "152135644364144640000", "more than 64 bits hold");
    }

    #[test]
    fn the_last_sample_before_is_carried_in_and_the_last_of_one_time_holds() {
        let one = |n| Quantity::from_int(n);
        let samples = [(-50, one(9)), (-5, one(1)), (10, one(7)), (10, one(2)), (40, one(100))];
        // 1 for 10 µs, 2 for 30 µs; what comes at the end holds no longer.
        assert_eq!(total(&samples, 0, 40, Per::Window), "1.75".parse().unwrap());
        assert_eq!(total(&samples[4..], 0, 40, Per::Window), Quantity::ZERO);
        assert_eq!(total(&samples[..2], 0, 40, Per::Window), one(1), "without a sample in the window");
    }

    #[test]
    fn halves_go_away_from_zero_and_only_once() {
        for (nanos, times, divisor, expected) in [
            (1, 1, 2, 1),
            (-1, 1, 2, -1),
            (1, 1, 3, 0),
            (2, 1, 3, 1),
            (-2, 1, 3, -1),
            (-4, 1, 3, -1),
            (7, 3, 1, 21),
        ] {
            let mut share = Share::by(divisor);
            share.add(Quantity::from_nanos(nanos), times).unwrap();
            assert_eq!(share.quantity().nanos(), expected, "{nanos} · {times} / {divisor}");
        }
        let mut thirds = Share::by(3);
        for _ in 0..3 {
            thirds.add(Quantity::ONE, 1).unwrap();
        }
        assert_eq!(thirds.quantity(), Quantity::ONE);
    }

    #[test]
    fn what_no_quantity_holds_is_said() {
        let most = Quantity::from_nanos(10_i128.pow(38) - 1);
        let mut share = Share::by(1);
        assert!(share.add(most, 2).is_none());
        assert!(share.add(most, u64::MAX).is_none());
        let mut share = Share::by(u64::MAX);
        share.add(most, u64::MAX).unwrap();
        assert_eq!(share.quantity(), most, "the product is wider than 128 bits");
        assert!(share.add(Quantity::from_nanos(1), u64::MAX).is_none());
    }

    /// Microsecond by microsecond: the level is that of the last sample that is not later.
    fn naive(samples: &[Sample], from: i64, to: i64) -> i128 {
        let level =
            |at| samples.iter().rev().find(|(time, _)| *time <= at).map_or(0, |(_, level)| level.nanos());
        (from..to).map(level).sum()
    }

    proptest! {
        #[test]
        fn it_is_what_a_clock_that_ticks_through_it_says(
            mut samples in proptest::collection::vec((-20_i64..120, -1_000_i128..1_000), 0..12),
            cuts in proptest::collection::btree_set(0_i64..100, 2..6),
        ) {
            // A stable sort: those of one time stay in their order, and the last one holds.
            samples.sort_by_key(|(at, _)| *at);
            let samples: Vec<Sample> =
                samples.into_iter().map(|(at, nanos)| (at, Quantity::from_nanos(nanos))).collect();
            let cuts: Vec<i64> = cuts.into_iter().collect();
            let window = |pair: &[i64]| Window { from: pair[0], to: pair[1], share: Share::by(1) };
            let mut windows: Vec<Window> = cuts.windows(2).map(window).collect();
            let (from, to) = (cuts[0], cuts[cuts.len() - 1]);
            for one in held(samples.iter().copied(), to) {
                weigh(&one, &mut windows).unwrap();
            }
            for window in &windows {
                prop_assert_eq!(window.quantity().nanos(), naive(&samples, window.from, window.to));
            }
            // The whole, divided and rounded once, is what exact arithmetic makes of it.
            let average = total(&samples, from, to, Per::Window).nanos();
            let (sum, length) = (naive(&samples, from, to), i128::from(to - from));
            let rounded = (2 * sum.abs() + length) / (2 * length) * sum.signum();
            prop_assert_eq!(average, rounded);
        }

        #[test]
        fn parts_and_their_order_make_no_difference(
            parts in proptest::collection::vec((any::<i64>(), any::<u32>()), 1..8),
            divisor in 1_u64..,
        ) {
            let of = |parts: &mut dyn Iterator<Item = &(i64, u32)>| {
                let mut share = Share::by(divisor);
                for (nanos, times) in parts {
                    share.add(Quantity::from_nanos(i128::from(*nanos)), u64::from(*times)).unwrap();
                }
                share
            };
            let forward = of(&mut parts.iter());
            prop_assert_eq!(forward, of(&mut parts.iter().rev()));
            let exact: i128 = parts.iter().map(|(nanos, times)| i128::from(*nanos) * i128::from(*times)).sum();
            let divisor = i128::from(divisor);
            prop_assert_eq!((forward.whole, forward.rest), (exact.div_euclid(divisor), exact.rem_euclid(divisor)));
        }
    }
}
