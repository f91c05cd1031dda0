//! Organisations, tiers and tags, as the registry had them at the time.

use chrono::{DateTime, Utc};
use rentroll_aggregator::usage::{Group, Query, Source, Window};

use super::aggregations::{METERS, make_up, same};
use super::world::{Dice, Fact, World, at};

/// (tenant, from when on, organisation, tier, tag `plan`)
const VERSIONS: [(&str, &str, &str, &str, &str); 6] = [
    ("acme", "2026-10-01 00:00:00", "north", "free", "a"),
    ("acme", "2026-10-21 10:17:00", "north", "pro", "b"),
    ("acme", "2026-10-23 00:00:00", "south", "pro", "b"),
    ("beta", "2026-10-22 06:00:00", "north", "free", ""),
    ("t'x", "2026-10-20 00:00:00", "s\\'x", "enterprise", "a"),
    ("other", "2026-10-22 12:30:00", "north", "free", "a"),
];

fn then(tenant: &str, time: DateTime<Utc>) -> (&'static str, &'static str, &'static str) {
    let mut of_tenant = VERSIONS.iter().filter(|version| version.0 == tenant);
    let holds = |from: &str| at(&format!("{}Z", from.replace(' ', "T"))) <= time;
    match of_tenant.rfind(|version| holds(version.1)) {
        // The last one is a removal.
        Some(("beta", ..)) if time >= at("2026-10-23T06:00:00Z") => ("", "", ""),
        Some((_, _, organisation, tier, plan)) => (organisation, tier, plan),
        None => ("", "", ""),
    }
}

fn group(by: &Group, fact: &Fact) -> String {
    let (organisation, tier, plan) = then(&fact.tenant, fact.time);
    match by {
        Group::Organisation => organisation.replace('\\', ""),
        Group::Tier => tier.to_owned(),
        Group::Tag(tag) if tag == "plan" => plan.to_owned(),
        _ => String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_mid_day_parts_the_day_s_usage() {
    let mut world = World::new("registry", METERS).await;
    make_up(&mut world, &mut Dice(31), "2026-10-20T00:00:00Z", 5, 300);
    world.send(0).await;
    for (tenant, from, organisation, tier, plan) in VERSIONS {
        world.register(&tenant.replace('\'', "\\'"), from, organisation, tier, plan).await;
    }
    // What is recorded later of the same time holds.
    world
        .pipeline
        .execute(
            "INSERT INTO tenants (tenant, valid_from, recorded_at, organisation, tier, origin) VALUES \
         ('acme', '2026-10-21 10:17:00', '2026-01-01 00:00:00', 'wrong', 'wrong', 'api')",
        )
        .await;
    world
        .pipeline
        .execute(
            "INSERT INTO tenants (tenant, valid_from, recorded_at, organisation, tier, is_removed, origin) VALUES \
             ('beta', '2026-10-23 06:00:00', now64(6), 'gone', 'gone', true, 'api')",
        )
        .await;
    use Source::{Day, Events, Hour, Minute};
    let tag = |name: &str| Group::Tag(name.to_owned());
    let groups: [Vec<Group>; 5] = [
        vec![Group::Tier],
        vec![Group::Organisation, Group::Tenant],
        vec![Group::Organisation, Group::Dimension("method".to_owned()), tag("plan")],
        vec![tag("none")],
        vec![],
    ];
    for meter in ["requests", "bytes", "largest", "mean", "users", "newest", "pace"] {
        for group_by in &groups {
            for organisations in [vec![], vec!["north".to_owned()], vec!["s'x".to_owned(), "gone".to_owned()]]
            {
                let query = Query {
                    window: Window::Day,
                    group_by: group_by.clone(),
                    organisations,
                    ..Query::new(meter, at("2026-10-20T00:00:00Z"), at("2026-10-25T00:00:00Z"))
                };
                same(&world, &query, None, group).await;
            }
        }
    }
    let by_tier = Query {
        group_by: vec![Group::Tier],
        ..Query::new("bytes", at("2026-10-20T00:00:00Z"), at("2026-10-25T00:00:00Z"))
    };
    same(&world, &by_tier, Some(&[Day, Hour, Minute]), group).await;
    // Nothing changes in mid-day for these.
    let of_one = Query { tenants: vec!["t'x".to_owned()], ..by_tier.clone() };
    same(&world, &of_one, Some(&[Day]), group).await;
    let users = Query { meter: "users".to_owned(), ..by_tier };
    same(&world, &users, Some(&[Events]), group).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_are_no_trouble() {
    let mut world = World::new("registry_many", METERS).await;
    make_up(&mut world, &mut Dice(37), "2026-10-20T00:00:00Z", 2, 60);
    world.send(0).await;
    world
        .pipeline
        .execute(
            "INSERT INTO tenants (tenant, valid_from, recorded_at, organisation, origin) \
             SELECT if(number % 2 = 0, 'acme', 'x'), toDateTime('2026-10-20 00:00:00', 'UTC') + 60 * number, now64(6), \
             'o' || toString(number % 4), 'api' FROM numbers(2880)",
        )
        .await;
    let group = |by: &Group, fact: &Fact| match (by, fact.tenant.as_str()) {
        (Group::Organisation, "acme") => {
            let minute = (fact.time - at("2026-10-20T00:00:00Z")).num_minutes();
            format!("o{}", (minute - minute % 2) % 4)
        }
        _ => String::new(),
    };
    for meter in ["requests", "bytes", "users"] {
        let query = Query {
            group_by: vec![Group::Organisation],
            ..Query::new(meter, at("2026-10-20T00:00:00Z"), at("2026-10-22T00:00:00Z"))
        };
        same(&world, &query, None, group).await;
    }
}
