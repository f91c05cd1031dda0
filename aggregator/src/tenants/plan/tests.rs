use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A record by tenant, tier and time.
fn record(tenant: &str, tier: &str, from: Option<&str>) -> TenantRecord {
    TenantRecord {
        tenant: tenant.into(),
        tier: tier.into(),
        valid_from: from.map(at),
        removed: tier.is_empty(),
        ..TenantRecord::default()
    }
}

/// The registry as it becomes, one call of `put` after another.
#[derive(Default)]
struct Sim {
    known: Known,
}

impl Sim {
    fn put(&mut self, records: &[TenantRecord], origin: Origin, now: &str) -> Plan {
        let plan = self.known.clone().plan(records, origin, at(now));
        for row in &plan.rows {
            self.known.histories.entry(row.record.tenant.clone()).or_default().add(row.clone());
        }
        plan
    }

    fn actions(&mut self, records: &[TenantRecord], now: &str) -> Vec<Action> {
        let plan = self.put(records, Origin::Import, now);
        assert_eq!(plan.refusals, []);
        plan.changes.iter().map(|change| change.action).collect()
    }

    /// From when on which tier: as `free, pro@2026-05-17T10:01:00Z`.
    fn tiers(&self) -> String {
        let versions = self.known.histories.get("acme").map(History::versions).unwrap_or_default();
        let said = versions.into_iter().map(|version| {
            let from =
                version.record.valid_from.map(|from| format!("@{}", written(from))).unwrap_or_default();
            format!("{}{from}", version.record.tier)
        });
        said.collect::<Vec<_>>().join(", ")
    }
}

const NOON: &str = "2026-05-17T12:00:30Z";

#[test]
fn what_is_new_holds_from_the_beginning_and_a_change_from_the_next_minute() {
    let mut sim = Sim::default();
    assert_eq!(sim.actions(&[record("acme", "free", None)], NOON), [Action::Added]);
    assert_eq!(sim.actions(&[record("acme", "free", None)], NOON), [Action::Unchanged]);
    let plan = sim.put(&[record("acme", "pro", None)], Origin::Api, NOON);
    assert_eq!(plan.changes.len(), 1);
    assert_eq!(plan.changes[0].action, Action::Changed);
    assert_eq!(plan.changes[0].valid_from, Some(at("2026-05-17T12:01:00Z")));
    let difference = Difference { field: "tier".into(), before: "free".into(), after: "pro".into() };
    assert_eq!(plan.changes[0].differences, [difference]);
    // In the same minute, and much later, it says what is known.
    for now in [NOON, "2026-05-17T12:00:59.999Z", "2026-09-01T00:00:00Z"] {
        assert_eq!(sim.actions(&[record("acme", "pro", None)], now), [Action::Unchanged], "{now}");
    }
    assert_eq!(sim.tiers(), "free, pro@2026-05-17T12:01:00Z");
    // On the minute itself its usage may have begun to come.
    assert_eq!(next_minute(at("2026-05-17T12:00:00Z")), at("2026-05-17T12:01:00Z"));
}

#[test]
fn entries_of_one_tenant_are_its_history_in_any_order() {
    let history = [
        record("acme", "free", Some("2026-07-01T00:00:00Z")),
        record("acme", "free", None),
        record("acme", "pro", Some("2026-05-17T10:01:00Z")),
    ];
    let mut sim = Sim::default();
    assert_eq!(sim.actions(&history, NOON), [Action::Changed, Action::Added, Action::Changed]);
    assert_eq!(sim.tiers(), "free, pro@2026-05-17T10:01:00Z, free@2026-07-01T00:00:00Z");
    assert_eq!(sim.actions(&history, NOON), [Action::Unchanged; 3]);
    // What was known already of July is said all the same, as of May something else comes to be known.
    let mut sim = Sim::default();
    sim.actions(&[record("acme", "free", None)], NOON);
    assert_eq!(sim.actions(&history, NOON), [Action::Changed, Action::Unchanged, Action::Changed]);
    assert_eq!(sim.tiers(), "free, pro@2026-05-17T10:01:00Z, free@2026-07-01T00:00:00Z");
}

#[test]
fn a_version_is_put_right_by_a_later_record() {
    let mut sim = Sim::default();
    sim.actions(&[record("acme", "free", None), record("acme", "pro", Some("2026-05-01T00:00:00Z"))], NOON);
    let right = [record("acme", "enterprise", Some("2026-05-01T00:00:00Z"))];
    assert_eq!(sim.actions(&right, NOON), [Action::Changed]);
    assert_eq!(sim.tiers(), "free, enterprise@2026-05-01T00:00:00Z");
    // Though the clock is behind the one that recorded the other.
    let back = [record("acme", "pro", Some("2026-05-01T00:00:00Z"))];
    assert_eq!(sim.actions(&back, "2026-05-10T00:00:00Z"), [Action::Changed]);
    assert_eq!(sim.tiers(), "free, pro@2026-05-01T00:00:00Z");
}

#[test]
fn what_is_removed_may_come_back() {
    let mut sim = Sim::default();
    assert_eq!(sim.actions(&[record("acme", "", None)], NOON), [Action::Unchanged], "nothing to take away");
    sim.actions(&[record("acme", "free", None)], NOON);
    let plan = sim.put(&[record("acme", "", Some("2026-06-01T00:00:00Z"))], Origin::Command, NOON);
    assert_eq!(plan.changes[0].action, Action::Removed);
    assert_eq!(plan.changes[0].differences[0].after, "");
    assert_eq!(sim.actions(&[record("acme", "", Some("2026-06-02T00:00:00Z"))], NOON), [Action::Unchanged]);
    assert_eq!(sim.actions(&[record("acme", "pro", Some("2026-07-01T00:00:00Z"))], NOON), [Action::Added]);
    assert_eq!(sim.tiers(), "free, @2026-06-01T00:00:00Z, pro@2026-07-01T00:00:00Z");
}

#[test]
fn closed_periods_keep_what_was_known_of_them() {
    let closed = ClosedPeriod {
        period: "2026-05".into(),
        starts_at: at("2026-05-01T00:00:00Z"),
        ends_at: at("2026-06-01T00:00:00Z"),
    };
    let mut sim = Sim::default();
    sim.known.closed.push(closed);
    let june = "2026-06-10T00:00:00Z";
    sim.actions(&[record("acme", "free", None)], june);
    for (tenant, from) in
        [("acme", "2026-05-17T10:01:00Z"), ("acme", "2026-04-01T00:00:00Z"), ("new", "2026-05-31T23:59:00Z")]
    {
        let plan = sim.put(&[record(tenant, "pro", Some(from))], Origin::Import, june);
        let [refusal] = &plan.refusals[..] else { panic!("{plan:?}") };
        assert_eq!((refusal.index, refusal.tenant.as_str(), plan.rows.len()), (0, tenant, 0));
        assert_eq!(
            refusal.fault.to_string(),
            "valid_from: it would hold within the billing period 2026-05, which is closed: a change can begin at \
             2026-06-01T00:00:00Z"
        );
    }
    // Not a change; from the end on; and all that lies before it.
    assert_eq!(
        sim.actions(&[record("acme", "free", Some("2026-05-17T10:01:00Z"))], june),
        [Action::Unchanged]
    );
    assert_eq!(sim.actions(&[record("acme", "pro", Some("2026-06-01T00:00:00Z"))], june), [Action::Changed]);
    let mut sim = Sim { known: Known { closed: std::mem::take(&mut sim.known.closed), ..Known::default() } };
    let mut early = std::mem::take(&mut sim.known.closed);
    sim.actions(&[record("acme", "free", None), record("acme", "pro", Some("2026-05-01T00:00:00Z"))], june);
    sim.known.closed.append(&mut early);
    assert_eq!(
        sim.actions(&[record("acme", "trial", Some("2026-04-01T00:00:00Z"))], june),
        [Action::Changed]
    );
}

#[test]
fn bad_records_are_refused_with_field_and_reason_and_the_others_are_not() {
    let mut sim = Sim::default();
    let long = "x".repeat(65);
    let records = [
        record("acme", "free", None),
        record("", "free", None),
        record("beta", &long, None),
        record("gamma", "pro", Some("2026-05-01T00:00:30Z")),
        record("acme", "pro", None),
    ];
    let plan = sim.put(&records, Origin::Api, NOON);
    let said: Vec<String> = plan.refusals.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "tenants[1] (``): tenant: must be 1 to 512 bytes, is empty",
            "tenants[2] (`beta`): tier: 65 bytes are too many, at most 64",
            "tenants[3] (`gamma`): valid_from: 2026-05-01T00:00:30Z is not a whole minute",
            "tenants[4] (`acme`): tenant: `acme` is there twice, from the beginning",
        ]
    );
    assert_eq!(plan.rows.len(), 1);
}

#[test]
fn the_file_does_not_undo_what_was_changed_since() {
    let mut sim = Sim::default();
    let file = |sim: &mut Sim, records: &[TenantRecord], now: &str| {
        let plan = sim.put(records, Origin::File, now);
        plan.changes.iter().map(|change| change.action).collect::<Vec<_>>()
    };
    let free = [record("acme", "free", None)];
    assert_eq!(file(&mut sim, &free, "2026-05-01T00:00:00Z"), [Action::Added]);
    sim.put(&[record("acme", "pro", None)], Origin::Api, "2026-05-02T00:00:00Z");
    for now in ["2026-05-02T00:00:01Z", "2026-05-03T00:00:00Z"] {
        assert_eq!(file(&mut sim, &free, now), [Action::Unchanged], "{now}");
    }
    // Changed, the entry holds again; and what came before stays.
    let trial = [record("acme", "trial", None)];
    assert_eq!(file(&mut sim, &trial, "2026-05-04T00:00:00Z"), [Action::Changed]);
    assert_eq!(file(&mut sim, &trial, "2026-05-05T00:00:00Z"), [Action::Unchanged]);
    assert_eq!(sim.tiers(), "free, pro@2026-05-02T00:01:00Z, trial@2026-05-04T00:01:00Z");
    // The same of an entry with a time: put right by the API, it stays right.
    let with_time = [record("acme", "free", None), record("acme", "gold", Some("2026-06-01T00:00:00Z"))];
    assert_eq!(file(&mut sim, &with_time, "2026-05-06T00:00:00Z"), [Action::Unchanged, Action::Changed]);
    sim.put(&[record("acme", "iron", Some("2026-06-01T00:00:00Z"))], Origin::Api, "2026-05-07T00:00:00Z");
    assert_eq!(file(&mut sim, &with_time, "2026-05-08T00:00:00Z"), [Action::Unchanged; 2]);
    assert!(sim.tiers().ends_with("iron@2026-06-01T00:00:00Z"), "{}", sim.tiers());
}
