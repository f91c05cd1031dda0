//! Numbers that a seed decides, the same on every machine and in every version.
//!
//! SplitMix64, written out because a library may change its generator between versions, and a seed that failed
//! once must go on failing. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.

/// A well-mixed number made of `seed` and `n`.
pub(super) fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequence of them.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    /// A sequence of its own for each `purpose`: more throws for one do not shift the others.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Dice { seed: mix(seed, purpose ^ 0x5eed), thrown: 0 }
    }

    /// Any number.
    pub(super) fn any(&mut self) -> u64 {
        self.thrown += 1;
        mix(self.seed, self.thrown)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.any() % bound.max(1)
    }

    /// A number from `low` to below `high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low))
    }

    /// True in that many of a hundred cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Puts `items` in any order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_pinned() {
        let mut dice = Dice::new(1, 2);
        let thrown: Vec<u64> = (0..4).map(|_| dice.below(1000)).collect();
        let mut again = Dice::new(1, 2);
        assert_eq!(thrown, (0..4).map(|_| again.below(1000)).collect::<Vec<_>>());
        assert_ne!(Dice::new(1, 3).any(), Dice::new(1, 2).any());
        // SplitMix64's published first output for seed 0.
        assert_eq!(mix(0, 0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..50).collect();
        Dice::new(7, 0).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
