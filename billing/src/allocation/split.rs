//! Splitting one pool: pure integer arithmetic on nano-units of the currency (10⁻⁹).
//!
//! `direct_t = D · u_t / max(U, C)`, where `u_t` are the tenant's cost units, `U` their sum and `C` the
//! capacity in the same units; `idle = D − Σ direct`. Floors are taken, and the nano-units that they leave
//! over go to the largest remainders (ties to the smaller name, idle last), so the rows of a pool add up to D
//! exactly, whatever the shares. Units are big integers: a petabyte in nano-units times a budget in
//! nano-dollars does not fit into 128 bits.

use num_bigint::BigUint;
use rentroll_schemas::costs::IdlePolicy;

/// What one tenant's use of a pool weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The tenant.
    pub tenant: String,
    /// Its cost units, in any unit that is common to the pool.
    pub units: BigUint,
}

/// One tenant's part of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The tenant.
    pub tenant: String,
    /// By use, in nano-units.
    pub direct: u128,
    /// Its share of what was idle, in nano-units.
    pub idle_share: u128,
}

/// A pool, split: Σ (direct + idle share) + idle = D.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// One part per tenant, in the order given.
    pub parts: Vec<Part>,
    /// What nobody bears, in nano-units.
    pub idle: u128,
}

/// Splits `amount` nano-units over `uses`; every tenant that was active in the period has an entry, with zero
/// units if it did not use this pool. A policy that has nothing to go by (nobody used the pool, or nobody
/// was there) leaves idle cost where it is.
pub fn split(amount: u128, uses: &[Use], capacity: Option<&BigUint>, policy: IdlePolicy) -> Split {
    let used: BigUint = uses.iter().map(|entry| &entry.units).sum();
    let basis = capacity.map_or_else(|| used.clone(), |capacity| capacity.max(&used).clone());
    let idle_units = &basis - &used;

    let mut weights: Vec<BigUint> = uses.iter().map(|entry| entry.units.clone()).collect();
    weights.push(idle_units);
    let (mut direct, idle) = match by_largest_remainder(amount, &weights, uses) {
        Some(mut shares) => {
            let idle = shares.pop().unwrap_or_default();
            (shares, idle)
        }
        None => (vec![0; uses.len()], amount),
    };
    direct.resize(uses.len(), 0);

    let weights: Vec<BigUint> = match policy {
        IdlePolicy::Keep => Vec::new(),
        IdlePolicy::Proportional => uses.iter().map(|entry| entry.units.clone()).collect(),
        IdlePolicy::Even => vec![BigUint::from(1_u8); uses.len()],
    };
    let (idle_shares, idle) = match by_largest_remainder(idle, &weights, uses) {
        Some(shares) => (shares, 0),
        None => (vec![0; uses.len()], idle),
    };

    let parts = uses
        .iter()
        .zip(direct.into_iter().zip(idle_shares))
        .map(|(entry, (direct, idle_share))| Part { tenant: entry.tenant.clone(), direct, idle_share })
        .collect();
    Split { parts, idle }
}

/// `amount` in proportion to `weights`, to the last unit; `None` if all weights are zero.
fn by_largest_remainder(amount: u128, weights: &[BigUint], names: &[Use]) -> Option<Vec<u128>> {
    let sum: BigUint = weights.iter().sum();
    if sum == BigUint::ZERO {
        return None;
    }
    let mut shares = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    for (index, weight) in weights.iter().enumerate() {
        let product = weight * amount;
        let share = &product / &sum;
        remainders.push((product - &share * &sum, index));
        // A share of `amount` is at most `amount`, which is a u128.
        shares.push(u128::try_from(share).unwrap_or(amount));
    }
    let mut left = amount - shares.iter().sum::<u128>();
    let name = |index: usize| (index >= names.len(), names.get(index).map(|entry| entry.tenant.as_str()));
    remainders
        .sort_by(|(a, a_index), (b, b_index)| b.cmp(a).then_with(|| name(*a_index).cmp(&name(*b_index))));
    for (_, index) in remainders {
        if left == 0 {
            break;
        }
        shares[index] += 1;
        left -= 1;
    }
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOLLAR: u128 = 1_000_000_000;

    fn uses(units: &[u128]) -> Vec<Use> {
        let named = |(index, units): (usize, &u128)| Use {
            tenant: format!("t{index:04}"),
            units: BigUint::from(*units),
        };
        units.iter().enumerate().map(named).collect()
    }

    fn sum(split: &Split) -> u128 {
        split.parts.iter().map(|part| part.direct + part.idle_share).sum::<u128>() + split.idle
    }

    /// The numbers that every demo must reproduce.
    #[test]
    fn a_thousand_equal_apps_cost_a_dollar_seventy_each() {
        let apps = uses(&[7; 1000]);
        let pools = [500, 200, 1000].map(|dollars| split(dollars * DOLLAR, &apps, None, IdlePolicy::Keep));
        for app in 0..1000 {
            let cost: u128 = pools.iter().map(|pool| pool.parts[app].direct).sum();
            assert_eq!(cost, 1_700_000_000);
            let price = 20 * DOLLAR;
            assert_eq!((price - cost) * 1000 / price, 915, "the margin at $20 an app is 91.5 %");
        }
        assert_eq!(pools.iter().map(sum).sum::<u128>(), 1700 * DOLLAR);
    }

    /// A write takes five times the units of a read. The weights the other way round charge the reader 83 %.
    #[test]
    fn a_reader_pays_for_reads() {
        let (read, write) = (1_u128, 5_u128);
        let reader_and_writer = uses(&[100 * read, 100 * write]);
        let split = split(100 * DOLLAR, &reader_and_writer, None, IdlePolicy::Keep);
        assert_eq!(split.parts[0].direct / DOLLAR, 16, "17 % rounded, not 83 %");
        assert_eq!(split.parts[1].direct / DOLLAR, 83);
        assert_eq!(sum(&split), 100 * DOLLAR);
    }

    #[test]
    fn capacity_that_nobody_used_is_idle() {
        let half = BigUint::from(200_u8);
        let kept = split(100, &uses(&[60, 40]), Some(&half), IdlePolicy::Keep);
        assert_eq!((kept.parts[0].direct, kept.parts[1].direct, kept.idle), (30, 20, 50));
        let proportional = split(100, &uses(&[60, 40]), Some(&half), IdlePolicy::Proportional);
        assert_eq!(
            (proportional.parts[0].idle_share, proportional.parts[1].idle_share, proportional.idle),
            (30, 20, 0)
        );
        let even = split(100, &uses(&[60, 40]), Some(&half), IdlePolicy::Even);
        assert_eq!((even.parts[0].idle_share, even.parts[1].idle_share, even.idle), (25, 25, 0));
    }

    #[test]
    fn use_above_capacity_leaves_nothing_idle() {
        let split = split(100, &uses(&[60, 40]), Some(&BigUint::from(10_u8)), IdlePolicy::Keep);
        assert_eq!((split.parts[0].direct, split.parts[1].direct, split.idle), (60, 40, 0));
    }

    #[test]
    fn without_any_use_the_whole_pool_is_idle() {
        for policy in [IdlePolicy::Keep, IdlePolicy::Proportional] {
            assert_eq!(split(100, &uses(&[0, 0]), None, policy).idle, 100);
        }
        assert_eq!(split(100, &[], Some(&BigUint::from(5_u8)), IdlePolicy::Even).idle, 100);
        assert_eq!(split(101, &uses(&[0, 0]), None, IdlePolicy::Even).parts[0].idle_share, 51);
    }

    #[test]
    fn what_cannot_be_halved_goes_to_the_smaller_name() {
        let split = split(3, &uses(&[1, 1]), None, IdlePolicy::Keep);
        assert_eq!((split.parts[0].direct, split.parts[1].direct), (2, 1));
    }

    fn policy() -> impl Strategy<Value = IdlePolicy> {
        prop_oneof![Just(IdlePolicy::Keep), Just(IdlePolicy::Proportional), Just(IdlePolicy::Even)]
    }

    /// From nothing to more than any pool has, in one set: extreme skew is the usual case.
    fn skewed() -> impl Strategy<Value = Vec<u128>> {
        let units = prop_oneof![
            Just(0_u128),
            0_u128..10,
            0_u128..1_000_000,
            (0_u32..127).prop_map(|bits| 1_u128 << bits)
        ];
        proptest::collection::vec(units, 0..60)
    }

    proptest! {
        #[test]
        fn rows_add_up_to_the_pool(
            amount in 0_u128..1 << 70,
            units in skewed(),
            capacity in proptest::option::of(any::<u128>()),
            policy in policy(),
        ) {
            let capacity = capacity.map(BigUint::from);
            prop_assert_eq!(sum(&split(amount, &uses(&units), capacity.as_ref(), policy)), amount);
        }

        #[test]
        fn a_direct_part_is_within_one_unit_of_its_share(
            amount in 0_u128..1 << 70,
            units in skewed(),
            capacity in proptest::option::of(any::<u128>()),
        ) {
            let capacity = capacity.map(BigUint::from);
            let entries = uses(&units);
            let used: BigUint = entries.iter().map(|entry| &entry.units).sum();
            let basis = capacity.clone().map_or(used.clone(), |capacity| capacity.max(used));
            for (part, entry) in split(amount, &entries, capacity.as_ref(), IdlePolicy::Keep).parts.iter().zip(&entries) {
                let (got, exact) = (&basis * part.direct, &entry.units * amount);
                let off = if got > exact { got - exact } else { exact - got };
                prop_assert!(off <= basis);
            }
        }

        #[test]
        fn who_used_nothing_bears_no_direct_cost(amount in 0_u128..1 << 70, units in skewed()) {
            let used_something = units.iter().any(|units| *units > 0);
            for (part, units) in split(amount, &uses(&units), None, IdlePolicy::Keep).parts.iter().zip(&units) {
                prop_assert!(*units > 0 || part.direct == 0 || !used_something);
            }
        }
    }
}
