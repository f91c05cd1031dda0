//! Levels that hold over time.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use chrono_tz::Tz;
use rentroll_aggregator::usage::{Fill, Filter, Group, Query, Source, Test, UsageError, Window};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::{Meter, Per, Reading};

use super::naive::divided;
use super::world::{Dice, Fact, World, at, keys, parse};

const METERS: &str = "meters:
- {name: stored, unit: byte, event_type: snapshot, aggregation: time_weighted, per: window, value: bytes, series: [bucket], group_by: [class]}
- {name: byte_hours, unit: byte, event_type: snapshot, aggregation: time_weighted, per: hour, value: bytes, series: [bucket], group_by: [class]}
- {name: byte_seconds, unit: byte, event_type: snapshot, aggregation: time_weighted, value: bytes, series: [bucket], group_by: [class]}
- {name: held, unit: connection, event_type: connections, aggregation: time_weighted, per: minute, value: open}
";

fn q(text: &str) -> Quantity {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_gib_and_then_a_hundred_tib_are_exactly_52_900_gib_months() {
    let mut world = World::new("gib", METERS).await;
    let gib = 1_u64 << 30;
    world.event(
        "acme",
        "1",
        "snapshot",
        "2026-05-01T00:00:00Z",
        &format!(r#"{{"bytes":{}}}"#, 100 * gib),
        "",
    );
    world.event(
        "acme",
        "2",
        "snapshot",
        "2026-05-16T00:00:00Z",
        &format!(r#"{{"bytes":{}}}"#, 102_400 * gib),
        "",
    );
    world.send(0).await;
    for (meter, quantity) in [
        ("stored", Quantity::from_int(52_900 << 30)),
        ("byte_hours", q("42259901212262400")),
        ("byte_seconds", q("152135644364144640000")),
    ] {
        let month = Query::new(meter, at("2026-05-01T00:00:00Z"), at("2026-06-01T00:00:00Z"));
        let answer = world.all().query(&month).await.unwrap();
        assert_eq!(answer.rows[0].quantity, Some(quantity), "{meter}");
        assert_eq!((answer.rows[0].events, answer.read_from.as_slice()), (2, &[Source::Events][..]));
        // A later month has no sample, and still the level.
        let later = Query::new(meter, at("2026-07-01T00:00:00Z"), at("2026-07-02T00:00:00Z"));
        let later = world.all().query(&later).await.unwrap();
        let day = q("2638827906662400");
        let (level, hours) = (Quantity::from_int(102_400 << 30), day);
        let expected = match meter {
            "stored" => level,
            "byte_hours" => hours,
            _ => Quantity::from_nanos(hours.nanos() * 3_600),
        };
        assert_eq!((later.rows[0].quantity, later.rows[0].events), (Some(expected), 0), "{meter}");
    }
    // Before the first sample there is nothing.
    let before = Query {
        window: Window::Month,
        ..Query::new("stored", at("2026-03-01T00:00:00Z"), at("2026-06-01T00:00:00Z"))
    };
    let before = world.all().query(&before).await.unwrap();
    assert_eq!(before.rows.iter().map(|row| row.from).collect::<Vec<_>>(), [at("2026-05-01T00:00:00Z")]);
}

/// Snapshots of three tenants' buckets; some share a time, some are corrected.
fn make_up(world: &mut World, dice: &mut Dice, count: u64) {
    let mut time = at("2026-09-01T00:00:00Z");
    for nth in 0..count {
        if dice.below(5) > 0 {
            time =
                at("2026-09-01T00:00:00Z") + TimeDelta::microseconds(dice.below(40 * 86_400_000_000) as i64);
        }
        let text = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let (bucket, class) = (dice.below(3), dice.below(2));
        let bytes = dice.below(1_000_000);
        let data =
            format!(r#"{{"bytes":{bytes}.{:02},"bucket":"b{bucket}","class":"c{class}"}}"#, dice.below(100));
        let tenant = dice.of(&["acme", "beta", "zeta"]);
        world.event(tenant, &format!("e{nth}"), "snapshot", &text, &data, "");
        if dice.below(9) == 0 && nth > 0 {
            let of = world.facts[dice.below(nth) as usize].clone();
            let further = format!(r#","voids":"{}""#, of.id);
            world.event(&of.tenant, &format!("v{nth}"), "snapshot", &text, "{}", &further);
        }
    }
}

/// What every series comes to in a window, added up by group.
fn naive(
    facts: &[&Fact],
    meter: &Meter,
    windows: &[(i64, i64)],
    group: impl Fn(&Fact, i64) -> Option<Vec<String>>,
    cuts: &[i64],
) -> BTreeMap<(i64, Vec<String>), (Quantity, u64)> {
    let mut series: BTreeMap<(String, String), Vec<&Fact>> = BTreeMap::new();
    for fact in facts {
        if matches!(meter.read(&fact.event()), Reading::Value(_)) {
            let key = meter.group_key(&fact.event());
            series.entry((fact.tenant.clone(), key)).or_default().push(*fact);
        }
    }
    let mut sums: BTreeMap<(i64, Vec<String>), (i128, u64)> = BTreeMap::new();
    for of_series in series.values_mut() {
        of_series.sort_by_key(|fact| (fact.time, fact.arrived_at));
        for (nth, fact) in of_series.iter().enumerate() {
            let Reading::Value(level) = meter.read(&fact.event()) else { unreachable!() };
            let begins = fact.time.timestamp_micros();
            let ends = of_series.get(nth + 1).map_or(i64::MAX, |next| next.time.timestamp_micros());
            for (from, to) in windows {
                let (from_us, to_us) = (from * 1_000_000, to * 1_000_000);
                if from_us <= begins
                    && begins < to_us
                    && let Some(keys) = group(fact, begins)
                {
                    sums.entry((*from, keys)).or_default().1 += 1;
                }
                // Where the registry changes, a level goes over to another group.
                let first = begins.max(from_us);
                let mut edges = vec![first];
                edges.extend(cuts.iter().map(|cut| cut * 1_000_000).filter(|cut| *cut > first));
                edges.push(ends.min(to_us));
                for pair in edges.windows(2) {
                    let (begin, end) = (pair[0], pair[1].min(ends.min(to_us)));
                    if begin < end
                        && let Some(keys) = group(fact, begin)
                    {
                        sums.entry((*from, keys)).or_default().0 += level.nanos() * i128::from(end - begin);
                    }
                }
            }
        }
    }
    sums.into_iter()
        .map(|((from, keys), (sum, events))| {
            let seconds = windows.iter().find(|window| window.0 == from).map_or(0, |(from, to)| to - from);
            let unit = meter.per.unwrap_or_default().seconds().unwrap_or(seconds);
            ((from, keys), (divided(sum, 1, i128::from(unit) * 1_000_000), events))
        })
        .collect()
}

async fn found(world: &World, query: &Query) -> BTreeMap<(i64, Vec<String>), (Quantity, u64)> {
    let answer = world.all().query(query).await.unwrap();
    let row = |row: &rentroll_aggregator::usage::Row| {
        ((row.from.timestamp(), keys(row)), (row.quantity.unwrap(), row.events))
    };
    answer.rows.iter().map(row).collect()
}

fn days(from: &str, count: i64) -> Vec<(i64, i64)> {
    let from = at(from).timestamp();
    (0..count).map(|day| (from + day * 86_400, from + (day + 1) * 86_400)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_are_what_their_series_say_by_the_microsecond() {
    let mut world = World::new("levels", METERS).await;
    make_up(&mut world, &mut Dice(5), 150);
    world.send(0).await;
    let facts = world.counting();
    assert!(facts.len() < world.facts.len());
    let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    for meter in ["stored", "byte_hours", "byte_seconds"] {
        let of_meter = world.pipeline.meters.get(meter).unwrap();
        // Most series have their last sample before it; some have several in its minute.
        for first in ["2026-09-12T00:00:00Z", "2026-10-15T00:00:00Z"] {
            let windows = days(first, 6);
            let base =
                Query { window: Window::Day, ..Query::new(meter, at(first), at(first) + TimeDelta::days(6)) };
            let all = found(&world, &base).await;
            assert_eq!(
                all,
                naive(&facts, of_meter, &windows, |_, _| Some(Vec::new()), &[]),
                "{meter} {first}"
            );
            let by = Query {
                group_by: vec![Group::Tenant, Group::Dimension("class".to_owned())],
                filters: vec![Filter { key: "bucket".to_owned(), test: Test::Not(texts(&["b1"])) }],
                tenants: texts(&["acme", "zeta"]),
                ..base
            };
            let group = |fact: &Fact, _: i64| {
                let event = fact.event();
                let is_asked = event.dimension("bucket") != Some("b1") && fact.tenant != "beta";
                is_asked.then(|| vec![fact.tenant.clone(), event.dimension("class").unwrap().to_owned()])
            };
            assert_eq!(
                found(&world, &by).await,
                naive(&facts, of_meter, &windows, group, &[]),
                "{meter} {first}"
            );
        }
    }
    // In another zone, by the hour, from the midst of an hour.
    let (from, to) = ("2026-09-20T10:20:00Z", "2026-09-20T14:50:00Z");
    let hours =
        Query { window: Window::Hour, zone: Tz::Asia__Kolkata, ..Query::new("stored", at(from), at(to)) };
    let edges: Vec<i64> = ["10:20", "10:30", "11:30", "12:30", "13:30", "14:30", "14:50"]
        .map(|time| at(&format!("2026-09-20T{time}:00Z")).timestamp())
        .to_vec();
    let windows: Vec<(i64, i64)> = edges.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let stored = world.pipeline.meters.get("stored").unwrap();
    assert_eq!(found(&world, &hours).await, naive(&facts, stored, &windows, |_, _| Some(Vec::new()), &[]));
    // A day looks back three days.
    let rolling = Query {
        window: Window::Day,
        rolling: Some(TimeDelta::days(3)),
        ..Query::new("stored", at("2026-09-14T00:00:00Z"), at("2026-09-17T00:00:00Z"))
    };
    let first = at("2026-09-12T00:00:00Z").timestamp();
    let three: Vec<(i64, i64)> =
        (0..3).map(|day| (first + day * 86_400, first + (day + 3) * 86_400)).collect();
    assert_eq!(found(&world, &rolling).await, naive(&facts, stored, &three, |_, _| Some(Vec::new()), &[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_several_samples_of_one_minute_is_carried_in() {
    let mut world = World::new("carried", METERS).await;
    let sample = |world: &mut World, id: &str, time: &str, open: u64| {
        world.event("acme", id, "connections", time, &format!(r#"{{"open":{open}}}"#), "");
    };
    sample(&mut world, "1", "2026-09-01T10:00:05Z", 3);
    sample(&mut world, "2", "2026-09-01T10:00:50Z", 8);
    // Two of one time: the one that was stored last holds.
    sample(&mut world, "3", "2026-09-01T10:00:50Z", 5);
    world.send(0).await;
    let hour = Query::new("held", at("2026-09-03T00:00:00Z"), at("2026-09-03T01:00:00Z"));
    let answer = world.all().query(&hour).await.unwrap();
    assert_eq!(answer.rows[0].quantity, Some(q("300")), "5 connections over 60 minutes");
    // Taken back, and not followed by the rollups yet: the one before holds.
    let known = world.facts.len();
    world.event("acme", "v1", "connections", "2026-09-01T10:00:50Z", "{}", r#","voids":"3""#);
    world.event("acme", "v2", "connections", "2026-09-01T10:00:50Z", "{}", r#","voids":"2""#);
    let records =
        world.facts[known..].iter().map(|fact| crate::common::record(&fact.json, fact.arrived_at)).collect();
    world.pipeline.send_records(records).await;
    let answer = world.all().query(&hour).await.unwrap();
    assert_eq!(answer.rows[0].quantity, Some(q("180")));
    world.settle().await;
    let answer = world.all().query(&hour).await.unwrap();
    assert_eq!(answer.rows[0].quantity, Some(q("180")));
    // Windows are filled for what had not begun, and not for what holds.
    let two = Query {
        window: Window::Hour,
        fill: Fill::Zero,
        ..Query::new("held", at("2026-09-01T09:00:00Z"), at("2026-09-01T11:00:00Z"))
    };
    let rows = world.all().query(&two).await.unwrap().rows;
    assert_eq!(
        rows.iter().map(|row| row.quantity).collect::<Vec<_>>(),
        [Some(Quantity::ZERO), Some(q("179.75"))]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_goes_over_to_another_tier_in_the_midst_of_a_day() {
    let mut world = World::new("level_tiers", METERS).await;
    make_up(&mut world, &mut Dice(9), 60);
    world.send(0).await;
    world.register("acme", "2026-09-01 00:00:00", "north", "free", "a").await;
    world.register("acme", "2026-09-12 10:17:00", "north", "pro", "b").await;
    world.register("beta", "2026-09-13 00:00:00", "south", "pro", "a").await;
    let cuts = ["2026-09-12T10:17:00Z", "2026-09-13T00:00:00Z"].map(|text| at(text).timestamp());
    let of = |fact: &Fact, micros: i64| -> (&'static str, &'static str, &'static str) {
        match (fact.tenant.as_str(), micros >= cuts[0] * 1_000_000, micros >= cuts[1] * 1_000_000) {
            ("acme", false, _) => ("north", "free", "a"),
            ("acme", true, _) => ("north", "pro", "b"),
            ("beta", _, true) => ("south", "pro", "a"),
            _ => ("", "", ""),
        }
    };
    let facts = world.counting();
    let stored = world.pipeline.meters.get("stored").unwrap();
    let windows = days("2026-09-10T00:00:00Z", 8);
    let base = Query {
        window: Window::Day,
        group_by: vec![Group::Organisation, Group::Tier, Group::Tag("plan".to_owned())],
        ..Query::new("stored", at("2026-09-10T00:00:00Z"), at("2026-09-18T00:00:00Z"))
    };
    let group = |fact: &Fact, micros: i64| {
        let (organisation, tier, plan) = of(fact, micros);
        Some([organisation, tier, plan].map(str::to_owned).to_vec())
    };
    assert_eq!(found(&world, &base).await, naive(&facts, stored, &windows, group, &cuts));
    let north = Query { organisations: vec!["north".to_owned()], ..base };
    let group = |fact: &Fact, micros: i64| {
        let (organisation, tier, plan) = of(fact, micros);
        (organisation == "north").then(|| [organisation, tier, plan].map(str::to_owned).to_vec())
    };
    assert_eq!(found(&world, &north).await, naive(&facts, stored, &windows, group, &cuts));
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_are_told_apart_by_their_series_alone_and_end_with_them() {
    let mut world = World::new("level_versions", METERS).await;
    world.event(
        "acme",
        "1",
        "snapshot",
        "2026-09-01T00:00:00Z",
        r#"{"bytes":10,"bucket":"a","class":"x"}"#,
        "",
    );
    world.event(
        "acme",
        "2",
        "snapshot",
        "2026-09-03T12:00:00Z",
        r#"{"bytes":4,"bucket":"a","class":"x"}"#,
        "",
    );
    world.send(0).await;
    let query = |group_by: Vec<Group>| Query {
        window: Window::Day,
        group_by,
        ..Query::new("stored", at("2026-09-01T00:00:00Z"), at("2026-09-06T00:00:00Z"))
    };
    let error = world.all().query(&query(vec![Group::Dimension("colour".to_owned())])).await.unwrap_err();
    assert!(matches!(&error, UsageError::Parameter { name: "group_by", .. }), "{error}");
    assert!(error.to_string().contains("bucket, class"), "{error}");
    // From the third on the same bytes are told apart otherwise: what was measured before holds until then.
    let mut meters = parse(METERS);
    let at_noon = at("2026-09-03T00:00:00Z");
    meters.meters.retain(|meter| meter.name == "stored");
    let mut second = meters.meters[0].clone();
    meters.meters[0].effective_to = Some(at_noon);
    second.version = 2;
    second.effective_from = Some(at_noon);
    second.series = vec!["region".to_owned()];
    meters.meters.push(second);
    let usage = world.usage_with(meters, rentroll_aggregator::usage::Limits::default());
    let all = usage.scoped(rentroll_aggregator::usage::Scope::All);
    let rows = all.query(&query(Vec::new())).await.unwrap().rows;
    let days: Vec<(String, Option<Quantity>)> =
        rows.iter().map(|row| (row.from.format("%d").to_string(), row.quantity)).collect();
    let expected = [("01", "10"), ("02", "10"), ("03", "2"), ("04", "4"), ("05", "4")];
    assert_eq!(days, expected.map(|(day, level)| (day.to_owned(), Some(q(level)))));
    assert_eq!(Per::default(), Per::Second);
}
