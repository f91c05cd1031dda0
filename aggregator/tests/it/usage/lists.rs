//! Rows of lists of meters that are not known when a question comes.

use rentroll_aggregator::usage::top::Top;
use rentroll_aggregator::usage::{Group, Query, Scope, Scoped, Window};

use super::aggregations::METERS;
use super::top::top;
use super::world::{World, at, parse};

async fn send(world: &mut World, id: &str) {
    let first = world.facts.len();
    for tenant in ["acme", "other"] {
        let data = r#"{"bytes":7,"region":"eu","method":"GET"}"#;
        world.event(tenant, &format!("{tenant}-{id}"), "http.request", "2026-10-06T12:00:00Z", data, "");
    }
    world.send(first).await;
}

/// What is counted of a meter: of all, by tenant, by a dimension, by the minute, in the ranking.
async fn counted(usage: &Scoped, meter: &str) -> Vec<u64> {
    let whole = || Query::new(meter, at("2026-10-05T00:00:00Z"), at("2026-10-10T00:00:00Z"));
    let mut counted = Vec::new();
    for query in [
        whole(),
        Query { group_by: vec![Group::Tenant], ..whole() },
        Query { tenants: vec!["acme".to_owned(), "other".to_owned()], window: Window::Minute, ..whole() },
        Query { group_by: vec![Group::Dimension("method".to_owned())], ..whole() },
    ] {
        let rows = usage.query(&query).await.unwrap().rows;
        // Of another place in a list the total would be another meter's.
        for row in &rows {
            let quantity = match meter {
                "bytes" => 7 * row.events,
                "largest" => 7,
                _ => row.events,
            };
            assert_eq!(row.quantity.unwrap().to_string(), quantity.to_string(), "{meter}: {row:?}");
        }
        counted.push(rows.iter().map(|row| row.events).sum());
    }
    let top = Top { from: whole().from, to: whole().to, ..top(meter, Group::Tenant, 10) };
    counted.push(usage.top(&top).await.unwrap().total.events);
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_come_while_others_are_known_are_counted() {
    let mut world = World::new("lists", METERS).await;
    send(&mut world, "one").await;
    let usage = world.usage();
    let (all, acme) = (usage.scoped(Scope::All), usage.scoped(Scope::tenant("acme")));
    assert_eq!(counted(&all, "requests").await, [2; 5]);
    assert_eq!(counted(&all, "bytes").await, [2; 5]);
    assert_eq!(counted(&acme, "largest").await, [1; 5]);

    // A meter that shares rows with `bytes`, before it and after it: other lists, in which it has other places.
    let extra = "- {name: extra, unit: byte, event_type: http.request, aggregation: sum, value: bytes, group_by: [method]}";
    let first = METERS.replacen("meters:\n", &format!("meters:\n{extra}\n"), 1);
    let last = format!("{}\n{extra}\n", METERS.trim_end());
    for (nth, meters) in [first, last].iter().enumerate() {
        world.pipeline.meters = parse(meters);
        send(&mut world, &format!("more-{nth}")).await;
        let sent = nth as u64 + 2;
        for meter in ["bytes", "requests"] {
            assert_eq!(counted(&all, meter).await, [2 * sent; 5], "{meter}: {meters}");
            assert_eq!(counted(&acme, meter).await, [sent; 5], "{meter}");
            // What is remembered by now is the same.
            assert_eq!(counted(&all, meter).await, [2 * sent; 5], "{meter}");
        }
    }
}
