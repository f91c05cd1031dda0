//! Levels: the samples of each series, weighed by the time that they hold ([`rentroll_schemas::level`]).

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::level::{self, Sample, Window};
use rentroll_schemas::meter::Meter;
use rentroll_schemas::period::Period;
use serde::Deserialize;

use super::queries::{self, Scope};
use super::read::{OfMeter, combine, failed, quantity, too_large};
use super::versions::Versions;
use crate::error::{BillingError, Result};
use crate::rating::MeterUsage;

#[derive(Row, Deserialize)]
struct SeriesLine {
    tenant: String,
    version: u16,
    times: Vec<i64>,
    levels: Vec<String>,
}

/// One tenant's level: the period, and its days.
struct Weighed<'a> {
    meter: &'a Meter,
    days: &'a [(NaiveDate, DateTime<Utc>, DateTime<Utc>)],
    of_period: [Window; 1],
    of_days: Vec<Window>,
    /// By day: events, and the sum of their values.
    samples: Vec<MeterUsage>,
}

impl<'a> Weighed<'a> {
    fn new(versions: &Versions<'a>, days: &'a [(NaiveDate, DateTime<Utc>, DateTime<Utc>)]) -> Self {
        let meter = versions.newest();
        let per = meter.per.unwrap_or_default();
        let (from, to) = versions.span();
        let of_day = |(_, from, to): &(NaiveDate, DateTime<Utc>, DateTime<Utc>)| {
            Window::new(from.timestamp_micros(), to.timestamp_micros(), per)
        };
        Weighed {
            meter,
            days,
            of_period: [Window::new(from, to, per)],
            of_days: days.iter().map(of_day).collect(),
            samples: vec![MeterUsage::default(); days.len()],
        }
    }

    /// Adds one series, from `begins` to `ends`.
    fn add(&mut self, samples: &[Sample], begins: i64, ends: i64) -> Option<()> {
        for mut held in level::held(samples.iter().copied(), ends) {
            held.from = held.from.max(begins);
            level::weigh(&held, &mut self.of_period)?;
            level::weigh(&held, &mut self.of_days)?;
        }
        for (at, value) in samples.iter().filter(|(at, _)| (begins..ends).contains(at)) {
            let day = self.of_days.partition_point(|day| day.to <= *at);
            if let Some(day) = self.samples.get_mut(day) {
                day.events += 1;
                day.quantity = day.quantity.checked_add(*value)?;
            }
        }
        Some(())
    }

    /// Everything that was added; `None` if it is nothing: a level of 0 that was carried in.
    fn finish(self) -> Result<Option<OfMeter>> {
        let mut rolled = MeterUsage::default();
        let mut days = BTreeMap::new();
        for (((day, _, _), window), samples) in self.days.iter().zip(&self.of_days).zip(self.samples) {
            rolled = combine(self.meter, rolled, samples)?;
            let used = MeterUsage { events: samples.events, quantity: window.quantity() };
            if used != MeterUsage::default() {
                days.insert(*day, used);
            }
        }
        let total = MeterUsage { events: rolled.events, quantity: self.of_period[0].quantity() };
        let is_nothing = total == MeterUsage::default() && days.is_empty();
        Ok((!is_nothing).then_some(OfMeter { total, days, rolled: Some(rolled) }))
    }
}

/// Usage of a level by every tenant of the scope.
pub(super) async fn read(
    store: &Store,
    versions: &Versions<'_>,
    period: &Period,
    scope: Scope<'_>,
    tenants: &mut BTreeMap<String, OfMeter>,
) -> Result<()> {
    let (meter, levels, days) = (versions.newest(), versions.levels(), period.days());
    let (from, _) = versions.span();
    let mut cursor = scope
        .query(store, &queries::series_sql(&levels, from, scope))
        .param("meter", &meter.name)
        .fetch::<SeriesLine>()
        .map_err(|source| failed(store, source))?;
    let mut current: Option<(String, Weighed<'_>)> = None;
    let mut keep = |(tenant, weighed): (String, Weighed<'_>)| {
        if let Some(used) = weighed.finish()? {
            tenants.insert(tenant, used);
        }
        Ok::<(), BillingError>(())
    };
    while let Some(line) = cursor.next().await.map_err(|source| failed(store, source))? {
        let Some(level) = levels.get(usize::from(line.version)) else { continue };
        let mut samples: Vec<Sample> = Vec::with_capacity(line.times.len());
        for (at, level) in line.times.iter().zip(&line.levels) {
            samples.push((*at, quantity(&line.tenant, level)?));
        }
        if let Some(done) = current.take_if(|(tenant, _)| *tenant != line.tenant) {
            keep(done)?;
        }
        let (_, weighed) = current.get_or_insert_with(|| (line.tenant, Weighed::new(versions, &days)));
        weighed
            .add(&samples, level.from.timestamp_micros(), level.to.timestamp_micros())
            .ok_or_else(|| too_large(meter))?;
    }
    current.map_or(Ok(()), keep)
}
