//! Rows of lists of meters that are not known when a question comes.

use rentroll_aggregator::usage::top::Top;
use rentroll_aggregator::usage::{Group, Query, Scope, Scoped, Window};
use rentroll_schemas::Quantity;

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

/// Of another place in a list the total would be another meter's.
fn same_quantity(meter: &str, found: Option<Quantity>, events: u64) {
    let quantity = match meter {
        "bytes" => 7 * events,
        "largest" => 7,
        _ => events,
    };
    assert_eq!(found.unwrap().to_string(), quantity.to_string(), "{meter} of {events} events");
}

/// Kinds of questions.
const KINDS: usize = 6;

/// One for each kind of question, so that each finds by itself that there are other lists.
fn usages(world: &World, scope: &Scope) -> [Scoped; KINDS] {
    std::array::from_fn(|_| world.usage().scoped(scope.clone()))
}

/// What is counted of a meter: of all, by tenant, by a dimension, by the minute, in two rankings.
async fn counted(usages: &[Scoped; KINDS], meter: &str) -> Vec<u64> {
    let whole = || Query::new(meter, at("2026-10-05T00:00:00Z"), at("2026-10-10T00:00:00Z"));
    let tenants = || vec!["acme".to_owned(), "other".to_owned()];
    let mut counted = Vec::new();
    let queries = [
        whole(),
        Query { group_by: vec![Group::Tenant], ..whole() },
        Query { tenants: tenants(), window: Window::Minute, ..whole() },
        Query { group_by: vec![Group::Dimension("method".to_owned())], ..whole() },
    ];
    let (for_queries, for_tops) = usages.split_at(queries.len());
    for (usage, query) in for_queries.iter().zip(queries) {
        let rows = usage.query(&query).await.unwrap().rows;
        for row in &rows {
            same_quantity(meter, row.quantity, row.events);
        }
        counted.push(rows.iter().map(|row| row.events).sum());
    }
    let tops = [(Group::Tenant, Vec::new()), (Group::Dimension("method".to_owned()), tenants())];
    for (usage, (by, tenants)) in for_tops.iter().zip(tops) {
        let top = Top { from: whole().from, to: whole().to, tenants, ..top(meter, by, 10) };
        let answer = usage.top(&top).await.unwrap();
        for row in &answer.rows {
            same_quantity(meter, row.quantity, row.events);
        }
        counted.push(answer.total.events);
    }
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_come_while_others_are_known_are_counted() {
    let mut world = World::new("lists", METERS).await;
    send(&mut world, "one").await;
    let (all, acme) = (usages(&world, &Scope::All), usages(&world, &Scope::tenant("acme")));
    assert_eq!(counted(&all, "requests").await, [2; KINDS]);
    assert_eq!(counted(&all, "bytes").await, [2; KINDS]);
    assert_eq!(counted(&acme, "largest").await, [1; KINDS]);

    // A meter that shares rows with `bytes`, before it and after it: other lists, in which it has other places.
    let extra = "- {name: extra, unit: byte, event_type: http.request, aggregation: sum, value: bytes, group_by: [method]}";
    let first = METERS.replacen("meters:\n", &format!("meters:\n{extra}\n"), 1);
    let last = format!("{}\n{extra}\n", METERS.trim_end());
    for (nth, meters) in [first, last].iter().enumerate() {
        world.pipeline.meters = parse(meters);
        send(&mut world, &format!("more-{nth}")).await;
        let sent = nth as u64 + 2;
        for meter in ["bytes", "requests"] {
            assert_eq!(counted(&all, meter).await, [2 * sent; KINDS], "{meter}: {meters}");
            assert_eq!(counted(&acme, meter).await, [sent; KINDS], "{meter}");
            // What is remembered by now is the same.
            assert_eq!(counted(&all, meter).await, [2 * sent; KINDS], "{meter}");
        }
    }
}
