//! The overflow lane: what a tenant sends beyond its share is marked once, here at the edge, so that the main
//! lane never waits behind a hot tenant. Nothing is refused for it and nothing is lost: the other lane is read
//! by the same aggregators, behind the main one.
//!
//! A tenant's share is a rate, `max(events_per_second_min, share_max × what this collector takes in all)`. It may
//! be saved up for `burst_seconds`. What goes beyond it takes the other lane and is not charged, so the main lane
//! gets exactly the share of a tenant that keeps sending too much.
//!
//! The rule is the generic cell rate algorithm (a token bucket turned around): per tenant one point in time, up
//! to which its share is used up. Each event moves it by `1 / rate`; an event that would move it further than
//! `burst_seconds` ahead of now goes beyond the share. A tenant whose point has passed is as good as one that was
//! never seen, and is forgotten: 16 bytes a tenant, and only for those who sent just now.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt as _};
use prometheus::IntCounter;
use rentroll_schemas::topics::Topic;
use serde::{Deserialize, Serialize};

/// Tenants that are remembered at once: 4 MB with the table's own room. They are those whose share is partly used
/// up at this instant, few of those who are active. Past it new ones take the main lane unmarked.
const TENANTS_MAX: usize = 100_000;
/// Tenants that passed their point are looked for when there are this many more than after the last search…
const SWEEP_EVERY_TENANTS: usize = 1024;
/// …and when the table is full no oftener than this: a search of all costs about a millisecond.
const SWEEP_WAIT: Duration = Duration::from_millis(100);
/// The collector's own rate is an average over about this long. Shorter, and a pause makes everybody's share
/// small; longer, and a collector that gets busy marks what is no longer too much.
const RATE_SECONDS: f64 = 10.0;
/// How often the average is brought up to date.
const RATE_EVERY: Duration = Duration::from_millis(500);

/// `[collector.overflow]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OverflowConfig {
    /// Whether there is an overflow lane.
    pub enabled: bool,
    /// A tenant's share of what this collector takes, above 0 and at most 1.
    pub share_max: f64,
    /// Events a second that are no tenant's excess, however little the collector takes in all.
    pub events_per_second_min: u32,
    /// Seconds of its share that a tenant may save up.
    pub burst_seconds: u32,
}

impl Default for OverflowConfig {
    fn default() -> Self {
        OverflowConfig { enabled: true, share_max: 0.1, events_per_second_min: 100, burst_seconds: 10 }
    }
}

impl OverflowConfig {
    /// The rules that the shape alone cannot express; the error is (field, reason).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), (String, String)> {
        let fail = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
        if !(self.share_max > 0.0 && self.share_max <= 1.0) {
            return fail("share_max", "must be above 0 and at most 1");
        }
        if self.events_per_second_min == 0 {
            return fail("events_per_second_min", "must be at least 1");
        }
        if !(1..=3600).contains(&self.burst_seconds) {
            return fail("burst_seconds", "must be from 1 to 3600");
        }
        Ok(())
    }
}

/// Decides on each event's lane. Clones decide together.
#[derive(Clone, Debug)]
pub struct Lanes {
    shares: Option<Arc<Mutex<Shares>>>,
    hasher: RandomState,
    marked: IntCounter,
}

#[derive(Debug)]
struct Shares {
    share_max: f64,
    rate_min: f64,
    burst: Duration,
    /// By the tenant's hash: until when its share is used up. Two tenants of one hash (one pair in 10⁹ at the
    /// most that are kept) share a share.
    until: HashMap<u64, Instant>,
    sweep_at_len: usize,
    swept_at: Instant,
    rate: Rate,
}

/// Events a second, averaged.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    since: Instant,
    count: u64,
}

impl Lanes {
    /// With nobody's share used up; `marked` counts the events that go beyond one.
    pub fn new(config: &OverflowConfig, marked: IntCounter) -> Self {
        let now = Instant::now();
        let shares = config.enabled.then(|| {
            Arc::new(Mutex::new(Shares {
                share_max: config.share_max,
                rate_min: f64::from(config.events_per_second_min),
                burst: Duration::from_secs(config.burst_seconds.into()),
                until: HashMap::new(),
                sweep_at_len: SWEEP_EVERY_TENANTS,
                swept_at: now,
                rate: Rate { per_second: 0.0, since: now, count: 0 },
            }))
        });
        Lanes { shares, hasher: RandomState::default(), marked }
    }

    /// The lane of `events` events that `tenant` sends together at `now`.
    pub fn lane(&self, tenant: &str, now: Instant, events: u32) -> Topic {
        let Some(shares) = &self.shares else { return Topic::Usage };
        let tenant = self.hasher.hash_one(tenant);
        let within = lock(shares).take(tenant, now, events);
        if within {
            return Topic::Usage;
        }
        self.marked.inc_by(events.into());
        Topic::Overflow
    }
}

fn lock(shares: &Mutex<Shares>) -> MutexGuard<'_, Shares> {
    // Each change is one assignment: a panic elsewhere leaves nothing half done.
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shares {
    /// Whether the tenant's share holds these events; if so they are taken from it.
    fn take(&mut self, tenant: u64, now: Instant, events: u32) -> bool {
        let rate = self.rate_min.max(self.share_max * self.rate.add(now, events));
        let cost = Duration::from_secs_f64(f64::from(events) / rate);
        if let Some(until) = self.until.get_mut(&tenant) {
            let after = (*until).max(now) + cost;
            if after > now + self.burst {
                return false;
            }
            *until = after;
            return true;
        }
        if cost > self.burst {
            return false;
        }
        if self.until.len() >= self.sweep_at_len {
            self.forget(now);
        }
        if self.until.len() < TENANTS_MAX {
            self.until.insert(tenant, now + cost);
        }
        true
    }

    /// Forgets those whose share is whole again.
    fn forget(&mut self, now: Instant) {
        if self.until.len() >= TENANTS_MAX && now.saturating_duration_since(self.swept_at) < SWEEP_WAIT {
            return;
        }
        self.swept_at = now;
        self.until.retain(|_, until| *until > now);
        if self.until.len() < self.until.capacity() / 4 {
            self.until.shrink_to(self.until.len() * 2);
        }
        // As many again as were left: what a search costs is spread over as many insertions.
        self.sweep_at_len = (2 * self.until.len()).clamp(SWEEP_EVERY_TENANTS, TENANTS_MAX);
    }
}

impl Rate {
    fn add(&mut self, now: Instant, events: u32) -> f64 {
        self.count += u64::from(events);
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= RATE_EVERY {
            let seconds = elapsed.as_secs_f64();
            let weight = 1.0 - (-seconds / RATE_SECONDS).exp();
            self.per_second += weight * (self.count as f64 / seconds - self.per_second);
            (self.since, self.count) = (now, 0);
        }
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lanes(config: &OverflowConfig) -> Lanes {
        Lanes::new(config, IntCounter::new("marked", "marked").unwrap())
    }

    fn tracked(lanes: &Lanes) -> (usize, usize) {
        let shares = lock(lanes.shares.as_ref().unwrap());
        (shares.until.len(), shares.until.capacity())
    }

    #[test]
    fn a_hot_tenant_keeps_its_share_of_the_main_lane_and_no_more() {
        let config =
            OverflowConfig { share_max: 0.1, events_per_second_min: 10, ..OverflowConfig::default() };
        let lanes = lanes(&config);
        let start = Instant::now();
        // 1,000 events a second of 100 tenants, for a minute; then one of them sends 1,000 more a second.
        let (mut main, mut over) = (0_u32, 0_u32);
        for millisecond in 0..180_000_u64 {
            let now = start + Duration::from_millis(millisecond);
            assert_eq!(lanes.lane(&format!("t{}", millisecond % 100), now, 1), Topic::Usage);
            if millisecond >= 60_000 {
                match lanes.lane("hot", now, 1) {
                    Topic::Usage => main += 1,
                    _ => over += 1,
                }
            }
        }
        // A tenth of 2,000 a second for 120 s, and 10 s of that saved up; the average takes a while to get there.
        assert!((22_000..=26_000).contains(&main), "{main}");
        assert_eq!(main + over, 120_000);
        assert_eq!(lanes.marked.get(), u64::from(over));
    }

    #[test]
    fn no_lane_without_a_lane() {
        let lanes = lanes(&OverflowConfig { enabled: false, ..OverflowConfig::default() });
        assert_eq!(lanes.lane("hot", Instant::now(), u32::MAX), Topic::Usage);
    }

    #[test]
    fn memory_is_that_of_the_tenants_whose_share_is_partly_used() {
        let lanes = lanes(&OverflowConfig::default());
        let start = Instant::now();
        // A million tenants, 100,000 a second: each one's event is forgotten after 10 ms.
        for n in 0..1_000_000_u64 {
            let _ = lanes.lane(&format!("tenant-{n}"), start + Duration::from_micros(10 * n), 1);
            assert!(tracked(&lanes).0 <= 4 * SWEEP_EVERY_TENANTS);
        }
        // All at one instant: no more than the limit, which is a few megabytes.
        for n in 0..300_000_u64 {
            let _ = lanes.lane(&format!("other-{n}"), start + Duration::from_secs(11), 1);
        }
        let (tenants, capacity) = tracked(&lanes);
        assert!(tenants <= TENANTS_MAX);
        assert!(capacity * (size_of::<(u64, Instant)>() + 1) < 10 << 20, "{capacity}");
        // And the room is given back.
        for n in 0..10_000_u64 {
            let _ = lanes.lane(&format!("late-{n}"), start + Duration::from_millis(60_000 + n * 20), 1);
        }
        assert!(tracked(&lanes).1 <= 8 * SWEEP_EVERY_TENANTS);
    }

    proptest! {
        /// Whatever the others do, a tenant within rate and burst never overflows; forgetting changes nothing.
        #[test]
        fn a_tenant_within_its_share_never_overflows(
            rate in 1_u32..500, burst in 1_u32..20, steps in proptest::collection::vec((0_u64..3_000, 0_u32..100), 1..60),
        ) {
            let config = OverflowConfig { events_per_second_min: rate, burst_seconds: burst, ..OverflowConfig::default() };
            let lanes = lanes(&config);
            let mut now = Instant::now();
            // The model: a bucket of rate × burst events, filled at the rate, in millionths of an event.
            let full = u64::from(rate) * u64::from(burst) * 1_000_000;
            let mut bucket = full;
            for (wait_ms, noise) in steps {
                now += Duration::from_millis(wait_ms);
                bucket = full.min(bucket + wait_ms * u64::from(rate) * 1_000);
                for n in 0..noise {
                    let _ = lanes.lane(&format!("other-{n}"), now, 1 + n % 50);
                }
                // Up to all that is left, less a hair for what is rounded.
                while bucket > 1_001_000 {
                    bucket -= 1_000_000;
                    prop_assert_eq!(lanes.lane("quiet", now, 1), Topic::Usage);
                    if bucket % 7 == 0 { break; }
                }
            }
        }

        /// Over any time, the main lane gets no more of one tenant than its burst and its rate allow.
        #[test]
        fn the_main_lane_is_bounded(rate in 1_u32..500, burst in 1_u32..20, gap_us in 1_u64..5_000) {
            let config = OverflowConfig { events_per_second_min: rate, burst_seconds: burst, share_max: 0.000_001, enabled: true };
            let lanes = lanes(&config);
            let start = Instant::now();
            let main = (0..10_000_u64)
                .filter(|n| lanes.lane("hot", start + Duration::from_micros(n * gap_us), 1) == Topic::Usage)
                .count() as f64;
            let seconds = (10_000 * gap_us) as f64 / 1e6;
            prop_assert!(main <= f64::from(rate) * (f64::from(burst) + seconds) + 1.0);
        }
    }
}
