//! Who was active in the last five minutes of arrival: what the noisy-tenant alert looks at.
//!
//! Prometheus gets the busiest hundred tenants and `__other__`, never a label per tenant; ClickHouse has them
//! all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Minutes looked back.
const MINUTES: usize = 5;
/// Tenants with a label of their own.
const TOP: usize = 100;
/// The label of all the others.
pub const OTHER: &str = "__other__";

/// Events per tenant and minute of arrival.
#[derive(Debug, Default)]
pub struct Activity {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    minute: i64,
    tenants: HashMap<String, [u64; MINUTES]>,
}

/// One label's share.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The tenant, or [`OTHER`].
    pub tenant: String,
    /// Events in the last five minutes.
    pub events: u64,
}

/// What the last five minutes look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The busiest tenants, then all others together.
    pub shares: Vec<Share>,
    /// Events of all.
    pub total: u64,
    /// Tenants that sent something.
    pub active: usize,
}

impl Activity {
    /// Counts events that arrived in `minute` (minutes since the epoch).
    pub fn add<'a>(&self, minute: i64, by_tenant: impl Iterator<Item = (&'a str, u64)>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(minute);
        if state.minute - minute >= MINUTES as i64 {
            return;
        }
        let slot = minute.rem_euclid(MINUTES as i64) as usize;
        for (tenant, count) in by_tenant {
            match state.tenants.get_mut(tenant) {
                Some(minutes) => minutes[slot] += count,
                None => {
                    let mut minutes = [0; MINUTES];
                    minutes[slot] = count;
                    state.tenants.insert(tenant.to_owned(), minutes);
                }
            }
        }
    }

    /// The five minutes up to and with `minute`.
    pub fn snapshot(&self, minute: i64) -> Snapshot {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(minute);
        let mut shares: Vec<Share> = state
            .tenants
            .iter()
            .map(|(tenant, minutes)| Share { tenant: tenant.clone(), events: minutes.iter().sum() })
            .collect();
        shares.sort_by(|a, b| b.events.cmp(&a.events).then_with(|| a.tenant.cmp(&b.tenant)));
        let total = shares.iter().map(|share| share.events).sum();
        let active = shares.len();
        let other: u64 = shares.iter().skip(TOP).map(|share| share.events).sum();
        shares.truncate(TOP);
        if other > 0 {
            shares.push(Share { tenant: OTHER.to_owned(), events: other });
        }
        Snapshot { shares, total, active }
    }
}

impl State {
    fn advance(&mut self, minute: i64) {
        if minute <= self.minute {
            return;
        }
        let passed = (minute - self.minute).min(MINUTES as i64);
        for back in 0..passed {
            let slot = (minute - back).rem_euclid(MINUTES as i64) as usize;
            for minutes in self.tenants.values_mut() {
                minutes[slot] = 0;
            }
        }
        self.minute = minute;
        self.tenants.retain(|_, minutes| minutes.iter().any(|count| *count > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_pass_out_of_sight() {
        let activity = Activity::default();
        activity.add(100, [("a", 3)].into_iter());
        activity.add(104, [("a", 1), ("b", 2)].into_iter());
        assert_eq!(activity.snapshot(104).total, 6);
        let later = activity.snapshot(105);
        assert_eq!((later.total, later.active), (3, 2));
        activity.add(99, [("late", 9)].into_iter());
        assert_eq!(activity.snapshot(105).total, 3);
        assert_eq!(activity.snapshot(1_000), Snapshot::default());
    }

    #[test]
    fn at_most_a_hundred_tenants_and_the_rest_together() {
        let activity = Activity::default();
        let many: HashMap<String, u64> = (0..150_u64).map(|n| (format!("t{n}"), n + 1)).collect();
        activity.add(1, many.iter().map(|(tenant, count)| (tenant.as_str(), *count)));
        let snapshot = activity.snapshot(1);
        assert_eq!((snapshot.shares.len(), snapshot.active), (101, 150));
        assert_eq!(snapshot.shares[0], Share { tenant: "t149".into(), events: 150 });
        assert_eq!(snapshot.shares.iter().map(|share| share.events).sum::<u64>(), snapshot.total);
    }
}
