//! The benchmarks' events: CloudEvents of about 250 bytes, tenants by a Zipf law, three measures, one or two
//! dimensions. The same shape gives the same events in every process, so that whoever checks sums makes them
//! anew instead of being told.

use chrono::{DateTime, SecondsFormat, Utc};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Aggregation, Meter, Meters};
use serde::{Deserialize, Serialize};

/// The events' one type.
pub(super) const EVENT_TYPE: &str = "api.request";
/// Their measures, in the order of [`Drawn::measures`]; each has a meter of the same name.
pub(super) const MEASURES: [&str; 3] = ["bytes_out", "compute_ms", "rows_read"];
/// Before the `/` of every event's source: the name that a token of a trusted source is bound to.
pub(super) const SOURCE: &str = "gateway";
/// Where the events come from: so many sources.
const SOURCES: u64 = 8;
/// A tenant sits in one of so many regions.
const REGIONS: [&str; 4] = ["eu-west-1", "eu-north-1", "us-east-1", "ap-south-1"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
/// Most events are up to this late…
const LATE_MS: u64 = 5_000;
/// …one in a hundred up to this.
const VERY_LATE_MS: u64 = 1_800_000;

/// What events there are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Shape {
    /// How many.
    pub(super) events: u64,
    /// Of so many tenants.
    pub(super) tenants: u32,
    /// The Zipf law's exponent.
    pub(super) zipf: f64,
    /// Their times span so many minutes…
    pub(super) minutes: u32,
    /// …up to this one, in milliseconds since the epoch.
    pub(super) ends_at_ms: i64,
    /// Of the draws.
    pub(super) seed: u64,
}

/// What an event says, beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    /// The tenant's rank, from 0, the busiest.
    pub(super) tenant: u32,
    /// By [`MEASURES`].
    pub(super) measures: [Quantity; 3],
}

/// Draws events.
pub(super) struct Generator {
    shape: Shape,
    /// Running sums of the tenants' weights.
    weights: Vec<f64>,
    random: Random,
    number: u64,
}

impl Generator {
    /// From the first event on.
    pub(super) fn new(shape: &Shape) -> Self {
        let mut sum = 0.0;
        let weights = (1..=shape.tenants.max(1))
            .map(|rank| {
                sum += f64::from(rank).powf(-shape.zipf);
                sum
            })
            .collect();
        Generator { shape: shape.clone(), weights, random: Random(shape.seed), number: 0 }
    }

    /// Writes the next event's JSON to the end of `out`; `None` after the last one.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Option<Drawn> {
        use std::io::Write as _;
        if self.number >= self.shape.events {
            return None;
        }
        let time = self.time();
        self.number += 1;
        let total = self.weights.last().copied().unwrap_or(1.0);
        let at = self.random.fraction() * total;
        let tenant = self.weights.partition_point(|sum| *sum < at).min(self.weights.len() - 1) as u32;
        let (high, low) = (self.random.next(), self.random.next());
        let (bytes_out, micros, rows_read) =
            (self.random.below(65_536), self.random.below(250_000), self.random.below(5_000));
        let source = self.random.below(SOURCES);
        let region = REGIONS[tenant as usize % REGIONS.len()];
        let draw = self.random.next();
        let method = METHODS[(draw >> 1) as usize % METHODS.len()];
        // Writing to memory cannot fail.
        let _ = write!(
            out,
            r#"{{"specversion":"1.0","id":"{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}","source":"{SOURCE}/{source}","type":"{EVENT_TYPE}","subject":"{}","time":"{}","data":{{"bytes_out":{bytes_out},"compute_ms":{}.{:03},"rows_read":{rows_read},"region":"{region}""#,
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0xfff,
            low & 0xffff_ffff_ffff,
            tenant_name(tenant),
            time.to_rfc3339_opts(SecondsFormat::Millis, true),
            micros / 1_000,
            micros % 1_000,
        );
        if draw & 1 == 1 {
            let _ = write!(out, r#","method":"{method}""#);
        }
        out.extend_from_slice(b"}}");
        let of = |nanos: u64| Quantity::from_nanos(i128::from(nanos));
        let one = 1_000_000_000;
        Some(Drawn { tenant, measures: [of(bytes_out * one), of(micros * 1_000_000), of(rows_read * one)] })
    }

    /// Events come in the order of their times but for their lateness, as they do in a log.
    fn time(&mut self) -> DateTime<Utc> {
        let span_ms = u64::from(self.shape.minutes) * 60_000;
        let back = span_ms - span_ms * self.number / self.shape.events.max(1);
        let late = match self.random.below(100) {
            0 => self.random.below(VERY_LATE_MS),
            _ => self.random.below(LATE_MS),
        };
        let ms = self.shape.ends_at_ms - (back + late) as i64;
        DateTime::from_timestamp_millis(ms).unwrap_or_default()
    }
}

/// The tenant of that rank.
pub(super) fn tenant_name(rank: u32) -> String {
    format!("tenant-{rank:06}")
}

/// A sum of each measure, by the dimension in which a tenant's events agree: its region.
pub(super) fn meters() -> Meters {
    let meter = |name: &str| Meter {
        name: name.to_owned(),
        description: String::new(),
        unit: "unit".to_owned(),
        event_type: EVENT_TYPE.to_owned(),
        aggregation: Aggregation::Sum,
        value: Some(name.to_owned()),
        filter: Default::default(),
        group_by: vec!["region".to_owned()],
        ..Meter::default()
    };
    Meters { meters: MEASURES.map(meter).to_vec() }
}

/// Per tenant, the sums that a shape's events come to.
pub(super) fn sums(shape: &Shape) -> Vec<[Quantity; 3]> {
    let mut sums = vec![[Quantity::ZERO; 3]; shape.tenants.max(1) as usize];
    let mut generator = Generator::new(shape);
    let mut bytes = Vec::new();
    while let Some(drawn) = generator.next(&mut bytes) {
        for (sum, measure) in sums[drawn.tenant as usize].iter_mut().zip(drawn.measures) {
            // 38 digits are not reached by any number of events that can be made.
            *sum = sum.checked_add(measure).unwrap_or(*sum);
        }
        bytes.clear();
    }
    sums
}

/// SplitMix64: every seed is good, and the draws are the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// From 0 to 1, without 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rentroll_schemas::Event;
    use rentroll_schemas::meter::Reading;

    fn shape() -> Shape {
        Shape {
            events: 20_000,
            tenants: 1_000,
            zipf: 1.1,
            minutes: 60,
            ends_at_ms: 1_700_000_000_000,
            seed: 7,
        }
    }

    #[test]
    fn events_are_good_ones_of_the_stated_size_and_their_meters_read_what_was_drawn() {
        let shape = shape();
        let meters = meters();
        assert_eq!(meters.check(), Ok(()));
        let mut generator = Generator::new(&shape);
        let (mut bytes, mut all, mut busiest) = (Vec::new(), 0, 0);
        let mut ids = std::collections::HashSet::new();
        while let Some(drawn) = generator.next(&mut bytes) {
            let event = Event::from_json(&bytes).unwrap();
            assert_eq!(event.tenant, tenant_name(drawn.tenant));
            for (meter, measure) in meters.meters.iter().zip(drawn.measures) {
                assert_eq!(meter.read(&event), Reading::Value(measure));
            }
            assert!(ids.insert(event.identity()));
            all += bytes.len();
            busiest += u64::from(drawn.tenant < 10);
            bytes.clear();
        }
        let mean = all as u64 / shape.events;
        assert!((240..=260).contains(&mean), "{mean} bytes");
        // At exponent 1.1 the first 1 % of 1,000 tenants have about half of the load.
        let share = busiest * 100 / shape.events;
        assert!((45..=60).contains(&share), "{share} %");
    }

    #[test]
    fn a_shape_comes_to_the_same_sums_every_time() {
        let sums = sums(&shape());
        assert_eq!(sums, super::sums(&shape()));
        assert!(sums[0][0] > sums[999][0]);
    }
}
