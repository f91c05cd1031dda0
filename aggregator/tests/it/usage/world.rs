//! Events that are made up, sent through the worker, and held in mind.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rentroll_aggregator::meters::LiveMeters;
use rentroll_aggregator::repair::keeper::Keeper;
use rentroll_aggregator::usage::{Limits, Scope, Scoped, Usage};
use rentroll_schemas::meter::Meters;
use rentroll_schemas::{Event, yaml};

use crate::common::{Pipeline, record};

/// Numbers that look random, and are the same each time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    pub(crate) fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len() as u64) as usize]
    }
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// An event that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) tenant: String,
    pub(crate) id: String,
    pub(crate) time: DateTime<Utc>,
    pub(crate) arrived_at: DateTime<Utc>,
    pub(crate) json: String,
    /// What it does to another one: the word, and that one's id.
    pub(crate) corrects: Option<(String, String)>,
}

impl Fact {
    pub(crate) fn event(&self) -> Event<'_> {
        Event::from_json(self.json.as_bytes()).unwrap()
    }
}

/// A store with events, and what is known of them.
pub(crate) struct World {
    pub(crate) pipeline: Pipeline,
    pub(crate) facts: Vec<Fact>,
    arrivals: i64,
}

impl World {
    pub(crate) async fn new(database: &str, meters: &str) -> World {
        let mut pipeline = Pipeline::new(&format!("usage_{database}")).await;
        pipeline.meters = parse(meters);
        World { pipeline, facts: Vec::new(), arrivals: 0 }
    }

    /// Holds an event in mind that will be sent; `data` is JSON, `further` more attributes.
    pub(crate) fn event(
        &mut self,
        tenant: &str,
        id: &str,
        kind: &str,
        time: &str,
        data: &str,
        further: &str,
    ) {
        let json = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"web","type":"{kind}","subject":"{tenant}","time":"{time}","data":{data}{further}}}"#
        );
        // Each arrives a moment after the one before.
        self.arrivals += 1;
        let arrived_at = at("2026-11-01T00:00:00Z") + TimeDelta::milliseconds(self.arrivals);
        let arrived_at = arrived_at.max(at(time));
        let corrects = further
            .strip_prefix(",\"")
            .and_then(|rest| rest.split_once("\":\""))
            .map(|(word, id)| (word.to_owned(), id.trim_end_matches('"').to_owned()));
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.facts.push(Fact { tenant, id, time: at(time), arrived_at, json, corrects });
    }

    /// Sends what was held in mind from the `first` fact on, and lets the rollups follow corrections.
    pub(crate) async fn send(&self, first: usize) {
        let records = self.facts[first..].iter().map(|fact| record(&fact.json, fact.arrived_at)).collect();
        self.pipeline.send_records(records).await;
        if self.facts.iter().any(|fact| fact.corrects.is_some()) {
            self.settle().await;
        }
    }

    pub(crate) async fn settle(&self) {
        let keeper = Keeper {
            store: self.pipeline.store.clone(),
            meters: self.pipeline.meters.clone().into(),
            after: TimeDelta::minutes(10),
            metrics: None,
        };
        for _ in 0..3 {
            keeper.settle().await.unwrap();
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        self.usage_with(self.pipeline.meters.clone(), Limits::default())
    }

    pub(crate) fn usage_with(&self, meters: Meters, limits: Limits) -> Usage {
        Usage::new(self.pipeline.store.clone(), LiveMeters::new(meters), Tz::Europe__Berlin, limits)
    }

    pub(crate) fn all(&self) -> Scoped {
        self.usage().scoped(Scope::All)
    }

    pub(crate) fn of(&self, tenant: &str) -> Scoped {
        self.usage().scoped(Scope::tenant(tenant))
    }

    /// The facts that count: corrections in force are those that no void in force names.
    pub(crate) fn counting(&self) -> Vec<&Fact> {
        let names = |fact: &Fact| fact.corrects.as_ref().map(|(_, id)| (fact.tenant.clone(), id.clone()));
        let mut in_force: BTreeSet<usize> =
            (0..self.facts.len()).filter(|nth| self.facts[*nth].corrects.is_some()).collect();
        // Voids of voids, from the outermost inwards: each round undoes the one before.
        for _ in 0..4 {
            let voided: BTreeSet<(String, String)> = in_force
                .iter()
                .filter(|nth| self.facts[**nth].corrects.as_ref().is_some_and(|(word, _)| word == "voids"))
                .filter_map(|nth| names(&self.facts[*nth]))
                .collect();
            in_force = (0..self.facts.len())
                .filter(|nth| self.facts[*nth].corrects.is_some())
                .filter(|nth| {
                    let fact = &self.facts[*nth];
                    !voided.contains(&(fact.tenant.clone(), fact.id.clone()))
                })
                .collect();
        }
        let corrected: BTreeSet<(String, String)> =
            in_force.iter().filter_map(|nth| names(&self.facts[*nth])).collect();
        self.facts
            .iter()
            .filter(|fact| fact.corrects.as_ref().is_none_or(|(word, _)| word != "voids"))
            .filter(|fact| !corrected.contains(&(fact.tenant.clone(), fact.id.clone())))
            .collect()
    }

    /// Stores what holds of a tenant from a time on.
    pub(crate) async fn register(
        &self,
        tenant: &str,
        from: &str,
        organisation: &str,
        tier: &str,
        plan: &str,
    ) {
        let sql = format!(
            "INSERT INTO tenants (tenant, valid_from, recorded_at, organisation, tier, tags, origin) VALUES \
             ('{tenant}', '{from}', now64(6), '{organisation}', '{tier}', map('plan', '{plan}'), 'api')"
        );
        self.pipeline.execute(&sql).await;
    }
}

pub(crate) fn parse(meters: &str) -> Meters {
    let meters: Meters = yaml::parse(meters, std::path::Path::new("meters.yaml")).unwrap();
    meters
}

/// Keys of an answer's row, in the order of its kinds.
pub(crate) fn keys(row: &rentroll_aggregator::usage::Row) -> Vec<String> {
    let named = [&row.tenant, &row.organisation, &row.tier].into_iter().flatten().cloned();
    let tags: BTreeMap<_, _> = row.tags.clone();
    named.chain(tags.into_values()).chain(row.dimensions.clone().into_values()).collect()
}
