//! Windows that roll, gaps and how they are filled, corrections, versions, and what cannot be asked.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use chrono_tz::Tz;
use rentroll_aggregator::usage::{Fill, Group, Limits, Query, Scope, Source, UsageError, Window};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::Meters;

use super::aggregations::{METERS, make_up, nobody, same};
use super::naive::{heaps, quantity};
use super::world::{Dice, World, at, keys, parse};

fn q(text: &str) -> Option<Quantity> {
    Some(text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_windows_look_back_over_whole_ones() {
    let mut world = World::new("rolling", METERS).await;
    make_up(&mut world, &mut Dice(41), "2026-10-22T00:00:00Z", 6, 120);
    world.send(0).await;
    // Clocks are set back on the 25th.
    let edges = ["20", "21", "22", "23", "24"].map(|day| at(&format!("2026-10-{day}T22:00:00Z")));
    let edges: Vec<_> =
        edges.into_iter().chain([at("2026-10-25T23:00:00Z"), at("2026-10-26T05:00:00Z")]).collect();
    for meter in ["requests", "bytes", "largest", "smallest", "mean", "pace", "users", "newest", "median"] {
        let query = Query {
            window: Window::Day,
            zone: Tz::Europe__Berlin,
            rolling: Some(TimeDelta::days(3)),
            group_by: vec![Group::Tenant],
            ..Query::new(meter, at("2026-10-23T06:00:00Z"), at("2026-10-26T05:00:00Z"))
        };
        let answer = world.all().query(&query).await.unwrap();
        let found: BTreeMap<_, _> = answer
            .rows
            .iter()
            .map(|row| ((row.from, row.to, keys(row)), (row.quantity.unwrap(), row.events)))
            .collect();
        let of_meter = world.pipeline.meters.get(meter).unwrap();
        let mut expected = BTreeMap::new();
        for span in edges.windows(4) {
            let whole = Query { group_by: query.group_by.clone(), ..Query::new(meter, span[0], span[3]) };
            for ((_, keys), heap) in heaps(&world, &whole, nobody) {
                let seconds = (span[3] - span[0]).num_seconds();
                let of_heap = quantity(of_meter, &heap, seconds);
                expected.insert((span[0], span[3], keys), (of_heap, heap.len() as u64));
            }
        }
        // The first window that is asked for is the one of the 23rd.
        expected.retain(|(from, ..), _| *from >= edges[0]);
        assert_eq!(found, expected, "{meter}");
    }
    let hourly = |rolling, window| Query {
        window,
        rolling: Some(rolling),
        ..Query::new("bytes", at("2026-10-23T06:00:00Z"), at("2026-10-26T05:00:00Z"))
    };
    for (rolling, window, allowed) in [
        (TimeDelta::minutes(90), Window::Hour, "1h"),
        (TimeDelta::zero(), Window::Hour, "1h"),
        (TimeDelta::days(1), Window::Month, "minute, hour or day"),
    ] {
        let error = world.all().query(&hourly(rolling, window)).await.unwrap_err();
        assert!(matches!(&error, UsageError::Parameter { name: "rolling", .. }), "{error}");
        assert!(error.to_string().contains(allowed), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_gaps_unless_they_are_filled() {
    let mut world = World::new("gaps", METERS).await;
    for (id, tenant, time, bytes) in [
        ("1", "acme", "2026-10-02T10:00:00Z", 5),
        ("2", "acme", "2026-10-04T10:00:00Z", 7),
        ("3", "beta", "2026-10-03T10:00:00Z", 1),
        ("4", "beta", "2026-10-04T11:00:00Z", 9),
    ] {
        world.event(tenant, id, "http.request", time, &format!(r#"{{"bytes":{bytes}}}"#), "");
    }
    // Corrected to nothing: a gap, and none of zero.
    world.event("beta", "v", "http.request", "2026-10-05T00:00:00Z", "{}", r#","voids":"4""#);
    world.send(0).await;
    let query = |fill, group_by: Vec<Group>| Query {
        window: Window::Day,
        fill,
        group_by,
        ..Query::new("bytes", at("2026-10-01T00:00:00Z"), at("2026-10-05T00:00:00Z"))
    };
    let rows = async |fill, group_by: Vec<Group>| -> Vec<(u32, Option<String>, Option<Quantity>, u64)> {
        let answer = world.all().query(&query(fill, group_by)).await.unwrap();
        let day = |row: &rentroll_aggregator::usage::Row| row.from.format("%d").to_string().parse().unwrap();
        answer.rows.iter().map(|row| (day(row), row.tenant.clone(), row.quantity, row.events)).collect()
    };
    let tenant = |name: &str| Some(name.to_owned());
    let (acme, beta) = (tenant("acme"), tenant("beta"));
    assert_eq!(
        rows(Fill::None, vec![Group::Tenant]).await,
        [(2, acme.clone(), q("5"), 1), (3, beta.clone(), q("1"), 1), (4, acme.clone(), q("7"), 1)]
    );
    assert_eq!(
        rows(Fill::None, vec![]).await,
        [(2, None, q("5"), 1), (3, None, q("1"), 1), (4, None, q("7"), 1)]
    );
    assert_eq!(rows(Fill::Zero, vec![]).await[0], (1, None, q("0"), 0));
    let nothing = Query { tenants: vec!["nobody".to_owned()], ..query(Fill::Null, vec![]) };
    let nothing = world.all().query(&nothing).await.unwrap().rows;
    assert_eq!(nothing.iter().map(|row| row.quantity).collect::<Vec<_>>(), [None; 4]);
    let filled = |fill| {
        let of = |quantity: &str| match (fill, quantity) {
            (_, "") => None,
            (Fill::Null, quantity) if quantity.starts_with('~') => None,
            (Fill::Zero, quantity) if quantity.starts_with('~') => q("0"),
            (_, quantity) => q(quantity.trim_start_matches('~')),
        };
        let first = if fill == Fill::Zero { q("0") } else { None };
        vec![
            (1, acme.clone(), first, 0),
            (1, beta.clone(), first, 0),
            (2, acme.clone(), of("5"), 1),
            (2, beta.clone(), first, 0),
            (3, acme.clone(), of("~5"), 0),
            (3, beta.clone(), of("1"), 1),
            (4, acme.clone(), of("7"), 1),
            (4, beta.clone(), of("~1"), 0),
        ]
    };
    for fill in [Fill::Null, Fill::Zero, Fill::Previous] {
        assert_eq!(rows(fill, vec![Group::Tenant]).await, filled(fill), "{fill:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_and_copies_change_rollups_and_events_alike() {
    let mut world = World::new("corrections", METERS).await;
    make_up(&mut world, &mut Dice(43), "2026-10-20T00:00:00Z", 3, 120);
    let mut dice = Dice(47);
    for nth in 0..40_usize {
        let of = world.facts[dice.below(120 + nth as u64) as usize].clone();
        let (id, time) = (format!("c{nth}"), "2026-10-21T12:34:56Z");
        match dice.below(2) {
            0 => {
                world.event(&of.tenant, &id, "http.request", time, "{}", &format!(r#","voids":"{}""#, of.id))
            }
            _ => {
                let data = format!(r#"{{"bytes":{},"user":"u1","method":"GET"}}"#, dice.below(2_000));
                world.event(
                    &of.tenant,
                    &id,
                    "http.request",
                    time,
                    &data,
                    &format!(r#","amends":"{}""#, of.id),
                );
            }
        }
    }
    world.send(0).await;
    let counting = world.counting().len();
    assert!(counting < world.facts.len() - 40, "{counting}");
    let columns = "tenant, type, time, identity_high, identity_low, id_uuid, id_text, source, content, measure_names, measure_values, \
                   dimension_names, dimension_values, correction, corrects, meters, log_topic, log_partition, log_batch";
    for copies in [false, true] {
        if copies {
            // What an aggregator writes that does not know that it was succeeded.
            let copy = format!(
                "INSERT INTO events ({columns}, arrived_at) SELECT {columns}, arrived_at + INTERVAL 1 SECOND FROM events \
                 WHERE identity_low % 3 = 0"
            );
            world.pipeline.execute(&copy).await;
        }
        for meter in ["requests", "bytes", "smallest", "mean", "users", "newest", "median", "gets"] {
            for group_by in [vec![], vec![Group::Dimension("user".to_owned())]] {
                let query = Query {
                    window: Window::Day,
                    group_by,
                    ..Query::new(meter, at("2026-10-20T00:00:00Z"), at("2026-10-23T00:00:00Z"))
                };
                same(&world, &query, None, nobody).await;
                let by_user = Query { tenants: vec!["acme".to_owned()], ..query };
                same(&world, &by_user, None, nobody).await;
            }
        }
    }
}

/// `bytes` counts twice as much from the 22nd at 06:30 on: another measure, and only of GETs.
fn versions() -> Meters {
    let mut meters = parse(METERS);
    let changed = at("2026-10-22T06:30:00Z");
    for name in ["bytes", "newest"] {
        let first = meters.meters.iter_mut().find(|meter| meter.name == name).unwrap();
        first.effective_to = Some(changed);
        let mut second = first.clone();
        second.version = 2;
        second.effective_from = Some(changed);
        second.effective_to = None;
        second.value = Some("status".to_owned());
        second.filter = parse(METERS).get("gets").unwrap().filter.clone();
        meters.meters.push(second);
    }
    meters
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_meter_count_each_its_own_time() {
    let mut world = World::new("versions", METERS).await;
    world.pipeline.meters = versions();
    make_up(&mut world, &mut Dice(53), "2026-10-20T00:00:00Z", 5, 200);
    world.send(0).await;
    for meter in ["bytes", "newest"] {
        for group_by in
            [vec![], vec![Group::Dimension("method".to_owned())], vec![Group::Dimension("user".to_owned())]]
        {
            let query = Query {
                window: Window::Day,
                group_by,
                ..Query::new(meter, at("2026-10-20T00:00:00Z"), at("2026-10-25T00:00:00Z"))
            };
            same(&world, &query, None, nobody).await;
        }
    }
    // Of a key that one version alone keeps apart, the events are asked.
    let mut meters = versions();
    let second = meters.meters.iter_mut().rfind(|meter| meter.name == "bytes").unwrap();
    second.group_by = vec!["region".to_owned()];
    let all = world.usage_with(meters.clone(), Limits::default()).scoped(Scope::All);
    let by = |key: &str, from: &str| Query {
        group_by: vec![Group::Dimension(key.to_owned())],
        ..Query::new("bytes", at(from), at("2026-10-25T00:00:00Z"))
    };
    let read_from = async |query: Query| all.query(&query).await.unwrap().read_from;
    assert_eq!(read_from(by("method", "2026-10-20T00:00:00Z")).await, [Source::Events]);
    assert_eq!(read_from(by("region", "2026-10-23T00:00:00Z")).await, [Source::Day]);
    // What does not add up is not added up.
    let second = meters.meters.iter_mut().rfind(|meter| meter.name == "bytes").unwrap();
    second.aggregation = rentroll_schemas::meter::Aggregation::Max;
    let all = world.usage_with(meters, Limits::default()).scoped(Scope::All);
    let error = all.query(&by("method", "2026-10-20T00:00:00Z")).await.unwrap_err().to_string();
    assert!(error.contains("from sum into max at 2026-10-22T06:30:00Z"), "{error}");
    assert!(all.query(&by("region", "2026-10-23T00:00:00Z")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_too_much_is_refused_with_how_to_ask_for_less() {
    let mut world = World::new("limits", METERS).await;
    make_up(&mut world, &mut Dice(59), "2026-10-20T00:00:00Z", 3, 300);
    world.send(0).await;
    let limited = |limits| world.usage_with(world.pipeline.meters.clone(), limits).scoped(Scope::All);
    let whole = |meter: &str| Query::new(meter, at("2026-10-20T00:00:00Z"), at("2026-10-23T00:00:00Z"));
    let few = Limits { rows_read_max: 50, ..Limits::default() };
    let error = limited(few).query(&whole("users")).await.unwrap_err();
    assert!(matches!(error, UsageError::TooLarge { limit: 50, .. }), "{error}");
    assert!(error.to_string().contains("name tenants"), "{error}");
    let by_user = Query { group_by: vec![Group::Dimension("user".to_owned())], ..whole("bytes") };
    let error = limited(few).query(&by_user).await.unwrap_err().to_string();
    assert!(error.contains("the meter's `group_by`"), "{error}");
    // Rollups have fewer rows, but no fewer than this.
    let one = Limits { rows_read_max: 1, ..Limits::default() };
    let error = limited(one).query(&whole("bytes")).await.unwrap_err();
    assert!(matches!(error, UsageError::TooLarge { .. }), "{error}");
    let short = Limits { rows_answered_max: 10, ..Limits::default() };
    let hourly = Query { window: Window::Hour, ..whole("bytes") };
    let error = limited(short).query(&hourly).await.unwrap_err().to_string();
    assert!(error.contains("rows of the answer") && error.contains("coarser window"), "{error}");
    let filled = Query { fill: Fill::Zero, tenants: vec!["nobody".to_owned()], ..hourly };
    assert!(matches!(limited(short).query(&filled).await, Err(UsageError::TooLarge { .. })));
    let minutes = Query {
        window: Window::Minute,
        ..Query::new("bytes", at("2026-01-01T00:00:00Z"), at("2026-10-23T00:00:00Z"))
    };
    let error = world.all().query(&minutes).await.unwrap_err().to_string();
    assert!(error.contains("10000") && error.contains("`hour`"), "{error}");
    // Users by the hundred thousand.
    world
        .pipeline
        .execute(
            "INSERT INTO events (tenant, type, time, identity_high, identity_low, id_text, source, arrived_at, dimension_names, \
             dimension_values) SELECT 'many', 'http.request', '2026-10-21 00:00:00', cityHash64(number), number, toString(number), \
             's', '2026-11-01 00:00:00', 'user\\0', [toString(number)] FROM numbers(300000)",
        )
        .await;
    assert_eq!(world.all().query(&whole("users")).await.unwrap().rows[0].quantity, q("300007"));
    let little = Limits { memory_bytes_max: 8 << 20, ..Limits::default() };
    let error = limited(little).query(&whole("users")).await.unwrap_err();
    assert!(matches!(error, UsageError::Memory { bytes: 8_388_608, .. }), "{error}");
    assert!(error.to_string().contains("or for an `approximate` answer"), "{error}");
    // About right, they take less than all of them side by side.
    let little = Limits { memory_bytes_max: 32 << 20, ..Limits::default() };
    let error = limited(little).query(&whole("users")).await.unwrap_err();
    assert!(matches!(error, UsageError::Memory { .. }), "{error}");
    let about = limited(little).query(&Query { approximate: true, ..whole("users") }).await.unwrap();
    let about = about.rows[0].quantity.unwrap().nanos() / 1_000_000_000;
    assert!((295_000..305_000).contains(&about), "{about}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_any_more_is_not_answered_for() {
    let mut world = World::new("kept", METERS).await;
    make_up(&mut world, &mut Dice(61), "2015-05-17T00:00:00Z", 1, 50);
    world.send(0).await;
    let of_2015 = |meter: &str| Query::new(meter, at("2015-05-17T00:00:00Z"), at("2015-05-18T00:00:00Z"));
    // A backfill of old events is kept like any others.
    assert!(world.all().query(&of_2015("users")).await.is_ok());
    world
        .pipeline
        .execute("INSERT INTO batches (topic, partition, first, state, written_at) VALUES ('usage', 9, 0, 1, '2015-06-01 00:00:00')")
        .await;
    assert!(world.all().query(&of_2015("users")).await.is_ok());
    // An event that the rollups counted and that is gone.
    world
        .pipeline
        .execute(
            "INSERT INTO rollup_day (meters, tenant, bucket, dimensions, events, total_1) VALUES \
             ('users\\0', 'acme', '2015-05-17 00:00:00', '{\"method\":\"\"}', 1, 1)",
        )
        .await;
    let error = world.all().query(&of_2015("users")).await.unwrap_err();
    assert!(matches!(&error, UsageError::Parameter { name: "from", .. }), "{error}");
    assert!(error.to_string().contains("kept for 13 months"), "{error}");
    assert!(world.all().query(&of_2015("bytes")).await.is_ok());
    assert!(world.of("beta").query(&of_2015("users")).await.is_ok(), "it was another tenant's");
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_that_come_later_are_found_at_once() {
    let mut world = World::new("lists", METERS).await;
    make_up(&mut world, &mut Dice(83), "2026-10-20T00:00:00Z", 2, 60);
    world.send(0).await;
    let whole = Query::new("bytes", at("2026-10-20T00:00:00Z"), at("2026-10-22T00:00:00Z"));
    // It has looked up which lists of meters there are.
    let usage = world.usage();
    let scopes = [Scope::All, Scope::tenant("acme")];
    for scope in &scopes {
        usage.scoped(scope.clone()).query(&whole).await.unwrap();
    }
    // From now on others share the rows of `bytes`, and it is at another place among them.
    let more = "- {name: another, unit: x, event_type: http.request, aggregation: sum, value: status, group_by: [method]}\n";
    let mut meters = parse(&format!("{METERS}{more}"));
    meters.meters.rotate_right(1);
    world.pipeline.meters = meters;
    let known = world.facts.len();
    for nth in 0..5 {
        let data = format!(r#"{{"bytes":{},"status":1000000,"method":"GET"}}"#, 10 + nth);
        world.event("acme", &format!("later{nth}"), "http.request", "2026-10-21T00:00:00Z", &data, "");
    }
    world.send(known).await;
    for scope in scopes {
        let known = usage.scoped(scope.clone()).query(&whole).await.unwrap();
        let anew = world.usage().scoped(scope.clone()).query(&whole).await.unwrap();
        assert_eq!(known.rows, anew.rows, "{scope:?}");
        let named = Query {
            tenants: if scope == Scope::All { vec![] } else { vec!["acme".to_owned()] },
            ..whole.clone()
        };
        let all = heaps(&world, &named, nobody).into_values().next().unwrap();
        assert_eq!(known.rows[0].events, all.len() as u64, "{scope:?}");
        let meter = world.pipeline.meters.get("bytes").unwrap();
        assert_eq!(known.rows[0].quantity, Some(quantity(meter, &all, 1)), "{scope:?}");
    }
    let lists: Vec<String> = world
        .pipeline
        .store
        .client()
        .query("SELECT DISTINCT meters FROM rollup_day")
        .fetch_all()
        .await
        .unwrap();
    assert!(lists.iter().any(|list| list.starts_with("another\0bytes\0")), "{lists:?}");
}
