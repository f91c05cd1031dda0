//! The registry of tenants, in the real store.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_aggregator::meters::LiveMeters;
use rentroll_aggregator::tenants::{
    self, Action, ImportOptions, Listing, Organisation, Page, Registry, TenantVersion, TenantsError,
};
use rentroll_aggregator::usage::overview::Span;
use rentroll_aggregator::usage::{Limits, Scope, Usage};
use rentroll_schemas::Quantity;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::tenant::csv::{self, Reading};
use rentroll_schemas::tenant::{Origin, TenantRecord, Tenants, written};
use rentroll_schemas::yaml;

use crate::common::{Pipeline, Sent};

const NOW: &str = "2026-05-17T12:00:30Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn registry(pipeline: &Pipeline) -> Registry {
    Registry::new(pipeline.store.clone())
}

fn record(tenant: &str, organisation: &str, tier: &str) -> TenantRecord {
    TenantRecord {
        tenant: tenant.into(),
        organisation: organisation.into(),
        tier: tier.into(),
        ..TenantRecord::default()
    }
}

fn from(record: TenantRecord, time: &str) -> TenantRecord {
    TenantRecord { valid_from: Some(at(time)), ..record }
}

fn actions(changes: &[tenants::Change]) -> Vec<Action> {
    changes.iter().map(|change| change.action).collect()
}

fn ids(page: &Page) -> Vec<&str> {
    page.tenants.iter().map(|tenant| tenant.record.tenant.as_str()).collect()
}

async fn rows(pipeline: &Pipeline) -> u64 {
    pipeline.store.client().query("SELECT count() FROM tenants").fetch_one().await.unwrap()
}

/// What is written comes back to the letter, whatever the letters; and again it adds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_comes_back_and_is_stored_once() {
    let pipeline = Pipeline::new("tenants_put").await;
    let registry = registry(&pipeline);
    let odd = TenantRecord {
        tenant: r"o'neil\x{a:String}".into(),
        name: "日本 \"🙂\" \\N ' {".into(),
        organisation: "Acme, Inc".into(),
        tier: "pro".into(),
        tags: [("aws/region".into(), "eu'-\\1".into()), ("team".into(), "red".into())].into(),
        external_ids: [("stripe".into(), "=cus_1".into())].into(),
        ..TenantRecord::default()
    };
    let records = [odd.clone(), record("acme", "Acme, Inc", "free")];
    let put = || registry.put(&records, Origin::Api, at(NOW));
    assert_eq!(actions(&put().await.unwrap()), [Action::Added; 2]);
    assert_eq!(actions(&put().await.unwrap()), [Action::Unchanged; 2]);
    assert_eq!(rows(&pipeline).await, 2);

    let versions = registry.get(&odd.tenant).await.unwrap();
    let expected =
        TenantVersion { record: odd.clone(), valid_to: None, origin: Origin::Api, recorded_at: at(NOW) };
    assert_eq!(versions, std::slice::from_ref(&expected));
    assert_eq!(registry.at(&odd.tenant, at("1999-01-01T00:00:00Z")).await.unwrap(), Some(expected.clone()));
    let listing = Listing { tags: odd.tags.clone(), ..Listing::new(at(NOW), 10) };
    assert_eq!(registry.list(&listing).await.unwrap(), Page { tenants: vec![expected], next: None });
    assert_eq!(registry.get("nobody").await.unwrap(), []);
}

/// A tier that changes in mid-month is visible as such: in the history, as of any time, and in the view that usage is
/// joined with.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_mid_month_is_seen_as_one() {
    let pipeline = Pipeline::new("tenants_month").await;
    let registry = registry(&pipeline);
    registry.put(&[record("acme", "Acme", "free")], Origin::File, at("2026-05-01T00:00:00Z")).await.unwrap();
    let changes = registry.put(&[record("acme", "Acme", "pro")], Origin::Api, at(NOW)).await.unwrap();
    assert_eq!(changes[0].valid_from, Some(at("2026-05-17T12:01:00Z")));
    for (time, tier) in [
        ("2026-05-01T00:00:00Z", "free"),
        ("2026-05-17T12:00:59Z", "free"),
        ("2026-05-17T12:01:00Z", "pro"),
        ("2026-12-01T00:00:00Z", "pro"),
    ] {
        let known = registry.at("acme", at(time)).await.unwrap().unwrap();
        assert_eq!(known.record.tier, tier, "{time}");
        let page = registry.list(&Listing::new(at(time), 10)).await.unwrap();
        assert_eq!(page.tenants, [known], "{time}");
    }
    let seen: Vec<(String, u32)> = pipeline
        .store
        .client()
        .query("SELECT toString(tier), toUnixTimestamp(valid_from) FROM tenant_versions WHERE tenant = 'acme' ORDER BY 2")
        .fetch_all()
        .await
        .unwrap();
    let change = u32::try_from(at("2026-05-17T12:01:00Z").timestamp()).unwrap();
    assert_eq!(seen, [("free".to_owned(), 0), ("pro".to_owned(), change)]);

    let removed =
        registry.remove("acme", Some(at("2026-06-01T00:00:00Z")), Origin::Command, at(NOW)).await.unwrap();
    assert_eq!(removed.action, Action::Removed);
    let again = registry.remove("acme", None, Origin::Command, at("2026-07-01T00:00:00Z")).await.unwrap();
    assert_eq!(again.action, Action::Unchanged);
    assert_eq!(registry.at("acme", at("2026-06-01T00:00:00Z")).await.unwrap(), None);
    assert_eq!(ids(&registry.list(&Listing::new(at("2026-06-01T00:00:00Z"), 10)).await.unwrap()), [""; 0]);
    assert_eq!(ids(&registry.list(&Listing::new(at("2026-05-31T23:59:59Z"), 10)).await.unwrap()), ["acme"]);
    let versions = registry.get("acme").await.unwrap();
    assert_eq!(versions.len(), 3);
    assert!(versions[2].record.removed);
    let unknown = registry.remove("nobody", None, Origin::Command, at(NOW)).await.unwrap_err();
    assert_eq!(unknown.to_string(), "tenant: `nobody` is not in the registry");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_and_filters_hold_together() {
    let pipeline = Pipeline::new("tenants_pages").await;
    let registry = registry(&pipeline);
    // More than are asked for by name.
    let mut records: Vec<TenantRecord> = (0..1000)
        .map(|number| {
            let tier = if number % 10 == 0 { "pro" } else { "free" };
            let tenant = record(&format!("app-{number:04}"), &format!("org {}", number % 7), tier);
            TenantRecord { tags: [("shard".into(), (number % 3).to_string())].into(), ..tenant }
        })
        .collect();
    records.push(TenantRecord {
        name: "Ärger & Söhne".into(),
        external_ids: [("crm".into(), "X-77".into())].into(),
        ..record("zeta", "", "")
    });
    assert_eq!(registry.put(&records, Origin::Import, at(NOW)).await.unwrap().len(), 1001);
    assert_eq!(registry.put(&records, Origin::Import, at(NOW)).await.unwrap().len(), 1001);
    assert_eq!(rows(&pipeline).await, 1001);

    let mut listing = Listing::new(at(NOW), 300);
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let page = registry.list(&listing).await.unwrap();
        seen.extend(page.tenants.iter().map(|tenant| tenant.record.tenant.clone()));
        pages += 1;
        let Some(next) = page.next else { break };
        listing.cursor = Some(next);
    }
    assert_eq!(pages, 4);
    assert_eq!(seen, records.iter().map(|record| record.tenant.clone()).collect::<Vec<_>>());
    let last = Listing { cursor: Some("app-0999".into()), limit: 1, ..Listing::new(at(NOW), 1) };
    assert_eq!(registry.list(&last).await.unwrap().next, None, "a page that is just full is the last");

    let all = Listing::new(at(NOW), 2000);
    let some = |text: &str| Some(text.to_owned());
    let tag = |value: &str| [("shard".to_owned(), value.to_owned())].into();
    for (listing, expected) in [
        (Listing { tier: some("pro"), ..all.clone() }, 100),
        (Listing { tier: some(""), ..all.clone() }, 1),
        (Listing { organisation: some("org 3"), ..all.clone() }, 143),
        (Listing { organisation: some("org 3"), tier: some("pro"), ..all.clone() }, 15),
        (Listing { tags: tag("0"), ..all.clone() }, 334),
        (Listing { tags: tag("7"), ..all.clone() }, 0),
        (Listing { search: some("APP-099"), ..all.clone() }, 10),
        (Listing { search: some("äRGER"), ..all.clone() }, 1),
        (Listing { search: some("x-77"), ..all.clone() }, 1),
        (Listing { search: some("' OR 1 = 1 --"), ..all.clone() }, 0),
    ] {
        let page = registry.list(&listing).await.unwrap();
        assert_eq!(page.tenants.len(), expected, "{listing:?}");
    }

    let organisations = registry.organisations(at(NOW), None, 3).await.unwrap();
    let expected = [("org 0", 143), ("org 1", 143), ("org 2", 143)]
        .map(|(name, tenants)| Organisation { organisation: name.into(), tenants });
    assert_eq!(organisations, expected);
    let rest = registry.organisations(at(NOW), Some("org 2"), 100).await.unwrap();
    assert_eq!(rest.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_closed_period_was_billed_by_stays() {
    let pipeline = Pipeline::new("tenants_closed").await;
    let registry = registry(&pipeline);
    registry.put(&[record("acme", "Acme", "free")], Origin::Api, at("2026-05-01T00:00:00Z")).await.unwrap();
    pipeline
        .execute(
            "INSERT INTO periods (period, zone, starts_at, ends_at, state) VALUES \
             ('2026-05', 'Europe/Berlin', '2026-04-30 22:00:00', '2026-05-31 22:00:00', 'closed')",
        )
        .await;
    let now = at("2026-06-10T00:00:00Z");
    let records = [
        record("beta", "", "free"),
        from(record("acme", "Acme", "pro"), "2026-05-17T12:01:00Z"),
        from(record("gamma", "", "pro"), "2026-05-31T21:59:00Z"),
    ];
    let TenantsError::Refused(refusals) = registry.put(&records, Origin::Api, now).await.unwrap_err() else {
        panic!("not refused as records")
    };
    let refused: Vec<(usize, &str)> =
        refusals.iter().map(|refusal| (refusal.index, refusal.fault.field.as_str())).collect();
    assert_eq!(refused, [(1, "valid_from"), (2, "valid_from")]);
    assert!(refusals[0].fault.reason.contains("2026-05, which is closed"), "{}", refusals[0]);
    assert!(refusals[0].fault.reason.ends_with("2026-05-31T22:00:00Z"), "{}", refusals[0]);
    assert_eq!(rows(&pipeline).await, 1, "all or nothing");
    let later = from(record("acme", "Acme", "pro"), "2026-05-31T22:00:00Z");
    assert_eq!(registry.put(&[later], Origin::Api, now).await.unwrap()[0].action, Action::Changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_imported_unchanged_here_and_makes_the_same_registry_elsewhere() {
    let pipeline = Pipeline::new("tenants_csv").await;
    let here = registry(&pipeline);
    let records = [
        TenantRecord { name: "=1+1".into(), ..record("'=odd", "\"Acme\", Inc", "free") },
        from(record("'=odd", "\"Acme\", Inc", "pro"), "2026-05-17T12:01:00Z"),
        from(
            TenantRecord { tenant: "'=odd".into(), removed: true, ..TenantRecord::default() },
            "2026-08-01T00:00:00Z",
        ),
        TenantRecord { tags: [("region".into(), "-eu".into())].into(), ..record("beta", "", "") },
        from(record("gamma", "", "pro"), "2026-03-01T00:00:00Z"),
    ];
    here.put(&records, Origin::Api, at(NOW)).await.unwrap();
    let export = |versions: &[TenantVersion]| csv::write(versions.iter().map(|version| &version.record));
    let text = export(&here.versions().await.unwrap());
    let reading = Reading::new(text.clone().into_bytes()).unwrap();

    let imported = here.import(&reading, ImportOptions::default(), at("2026-09-01T00:00:00Z")).await.unwrap();
    assert_eq!(actions(&imported.changes), [Action::Unchanged; 5]);
    assert_eq!((imported.bad.len(), imported.is_applied, rows(&pipeline).await), (0, true, 5));

    let elsewhere = Pipeline::new("tenants_csv_elsewhere").await;
    let there = registry(&elsewhere);
    there.import(&reading, ImportOptions::default(), at("2026-09-01T00:00:00Z")).await.unwrap();
    assert_eq!(export(&there.versions().await.unwrap()), text);
    let stretches = |versions: Vec<TenantVersion>| -> Vec<(TenantRecord, Option<String>)> {
        versions.into_iter().map(|version| (version.record, version.valid_to.map(written))).collect()
    };
    assert_eq!(stretches(there.versions().await.unwrap()), stretches(here.versions().await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_bad_lines_is_imported_whole_or_without_them_if_so_asked() {
    let pipeline = Pipeline::new("tenants_bad").await;
    let registry = registry(&pipeline);
    let known = TenantRecord { name: "Acme's shop".into(), ..record("acme", "Acme", "free") };
    registry.put(&[known], Origin::Api, at("2026-05-01T00:00:00Z")).await.unwrap();
    pipeline
        .execute(
            "INSERT INTO periods (period, zone, starts_at, ends_at, state) VALUES \
             ('2026-04', 'UTC', '2026-04-01 00:00:00', '2026-05-01 00:00:00', 'closed')",
        )
        .await;
    // As `examples/functions/tenants.csv` is, and more.
    let text = "tenant,organisation,tier,valid_from\n\
                acme,Acme,pro,\n\
                016c8fe2,cf761b48,pro,\n\
                ,nobody,free,\n\
                02377f0b,7bf9b2f9,free,2026-04-10\n";
    let reading = Reading::new(text.as_bytes().to_vec()).unwrap();
    let import = |skip_bad, dry_run| registry.import(&reading, ImportOptions { skip_bad, dry_run }, at(NOW));
    let refused = import(false, false).await.unwrap();
    let said: Vec<String> =
        refused.bad.iter().map(|bad| format!("{} {}", bad.number, bad.fault.field)).collect();
    assert_eq!(said, ["4 tenant", "5 valid_from"]);
    assert!(!refused.is_applied);
    let tried = import(true, true).await.unwrap();
    assert_eq!(actions(&tried.changes), [Action::Changed, Action::Added]);
    assert!(!tried.is_applied);
    assert_eq!(rows(&pipeline).await, 1, "nothing was written yet");
    let taken = import(true, false).await.unwrap();
    assert!(taken.is_applied);
    assert_eq!((taken.changes, taken.bad), (tried.changes, tried.bad.clone()));
    let excerpt = reading.excerpt(tried.bad.iter().map(|bad| bad.place.clone()));
    let expected = "tenant,organisation,tier,valid_from\n,nobody,free,\n02377f0b,7bf9b2f9,free,2026-04-10\n";
    assert_eq!(String::from_utf8(excerpt).unwrap(), expected);
    // The file says nothing of names.
    let acme = registry.at("acme", at("2026-05-17T12:01:00Z")).await.unwrap().unwrap();
    assert_eq!((acme.record.name.as_str(), acme.record.tier.as_str()), ("Acme's shop", "pro"));
    assert_eq!(acme.origin, Origin::Import);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_applied_once_and_its_faults_are_told() {
    let pipeline = Pipeline::new("tenants_seed").await;
    let registry = registry(&pipeline);
    let seed = async |text: &str, now: &str| {
        let file: Tenants = yaml::parse(text, Path::new("tenants.yaml")).unwrap();
        tenants::seed(&pipeline.store, &file, at(now)).await
    };
    let first = "tenants: [{tenant: acme, tier: free}, {tenant: beta}]";
    assert_eq!(actions(&seed(first, NOW).await.unwrap().changes), [Action::Added; 2]);
    assert_eq!(seed(first, NOW).await.unwrap(), tenants::Seeded::default());
    registry.put(&[record("acme", "", "pro")], Origin::Api, at(NOW)).await.unwrap();
    assert_eq!(seed(first, "2026-05-18T00:00:00Z").await.unwrap().changes, [], "the API has the last word");

    let changes =
        seed("tenants: [{tenant: acme, tier: gold}]", "2026-05-19T00:00:00Z").await.unwrap().changes;
    assert_eq!(actions(&changes), [Action::Changed]);
    assert_eq!(registry.at("acme", at("2026-05-20T00:00:00Z")).await.unwrap().unwrap().record.tier, "gold");
    assert!(registry.at("beta", at("2026-05-20T00:00:00Z")).await.unwrap().is_some(), "still known");

    pipeline
        .execute(
            "INSERT INTO periods (period, zone, starts_at, ends_at, state) VALUES \
             ('2026-05', 'UTC', '2026-05-01 00:00:00', '2026-06-01 00:00:00', 'closed')",
        )
        .await;
    let text = "tenants: [{tenant: acme, tier: iron, valid_from: 2026-05-10}, {tenant: gamma}]";
    let seeded = seed(text, "2026-06-02T00:00:00Z").await.unwrap();
    assert_eq!(actions(&seeded.changes), [Action::Added]);
    assert_eq!(seeded.refusals.len(), 1);
    assert_eq!(seeded.refusals[0].tenant, "acme");

    let text = "tenants: [{tenant: delta}, {tenant: acme, tier: ' x'}]";
    let message = seed(text, "2026-06-02T00:00:00Z").await.unwrap_err().to_string();
    assert_eq!(message, "tenants[1] (`acme`): tier: begins or ends with a space");
    assert!(registry.get("delta").await.unwrap().is_empty(), "a file with a mistake changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_listed_with_what_is_known() {
    let pipeline = Pipeline::new("tenants_used").await;
    let registry = registry(&pipeline);
    let event = |tenant: &'static str, id: &'static str, bytes| Sent {
        tenant,
        id,
        time: "2015-05-17T10:05:03Z",
        bytes,
        method: "GET",
    };
    pipeline.send(&[event("acme", "1", 10), event("acme", "2", 20), event("beta", "1", 5)]).await;
    let usage = Usage::new(
        pipeline.store.clone(),
        LiveMeters::new(Meters::default()),
        chrono_tz::Tz::UTC,
        Limits::default(),
    )
    .scoped(Scope::All);
    let (from, to) = (at("2015-05-17T10:05:00Z"), at("2015-05-17T10:06:00Z"));
    let measured = async |from, to| usage.used(Span { from, to }, ["bytes", "nothing"]).await;
    let before = measured(at("2015-05-01T00:00:00Z"), from).await.unwrap();
    assert_eq!((before, measured(to, at(NOW) - TimeDelta::seconds(30)).await.unwrap()), (vec![], vec![]));
    let few = Limits { rows_read_max: 2, ..Limits::default() };
    let few = usage.clone().with_limits(few).used(Span { from, to }, ["bytes", "nothing"]).await;
    let said = few.unwrap_err().to_string();
    assert!(said.contains("is more than 2: ask for a shorter span"), "{said}");

    let q = |number: i64| Quantity::from_int(number);
    let all = Listing::new(at(NOW), 10);
    let list =
        async |listing: &Listing| registry.used(listing, measured(from, to).await.unwrap()).await.unwrap();
    let (used, _) = list(&all).await;
    let seen: Vec<_> = used.iter().map(|used| (used.tenant.as_str(), used.events, used.sums)).collect();
    assert_eq!(seen, [("acme", 2, [q(30), q(0)]), ("beta", 1, [q(5), q(0)])]);
    assert_eq!(used[0].first_event, Some(at("2015-05-17T10:05:03Z")));
    assert_eq!(used[0].tier, "");
    // A copy of an event does not count again.
    let copy = "INSERT INTO events SELECT * REPLACE (arrived_at + 1 AS arrived_at) FROM events WHERE tenant = 'beta'";
    pipeline.execute(copy).await;
    assert_eq!(list(&all).await.0, used);

    registry
        .put(&[record("acme", "Acme", "pro"), record("idle", "Acme", "free")], Origin::Api, at(NOW))
        .await
        .unwrap();
    let (used, totals) = list(&all).await;
    let seen: Vec<_> = used.iter().map(|used| (used.tenant.as_str(), used.tier.as_str())).collect();
    assert_eq!(seen, [("acme", "pro"), ("beta", ""), ("idle", "free")]);
    assert_eq!((used[2].events, used[2].first_event), (0, None));
    assert_eq!((totals.tenants, totals.registered, totals.events), (2, 2, 3));
    assert_eq!(totals.sums, [q(35), q(0)]);
    let (used, totals) = list(&Listing { limit: 1, ..all.clone() }).await;
    assert_eq!((used.len(), totals.events), (1, 3));
    for (listing, expected, bytes) in [
        (Listing { organisation: Some("Acme".into()), ..all.clone() }, &["acme", "idle"][..], 30),
        (Listing { organisation: Some(String::new()), ..all.clone() }, &["beta"], 5),
        (Listing { tier: Some("free".into()), ..all.clone() }, &["idle"], 0),
        (Listing { search: Some("BET".into()), ..all.clone() }, &["beta"], 5),
        (Listing { tags: [("a".into(), "b".into())].into(), ..all }, &[], 0),
    ] {
        let (used, totals) = list(&listing).await;
        let names: Vec<_> = used.iter().map(|used| used.tenant.as_str()).collect();
        assert_eq!((names.as_slice(), totals.sums[0]), (expected, q(bytes)), "{listing:?}");
    }
}
