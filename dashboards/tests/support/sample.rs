//! Views filled by hand, for the rendering tests and for `examples/preview.rs`.
//!
//! Shaped like the access-log example: 84 hours inside one month, a long tail of tenants.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

use chrono::{DateTime, Duration, NaiveDate, Utc};
use chrono_tz::Tz;
use rentroll_dashboards::address::Address;
use rentroll_dashboards::html::chart::{Chart, Series};
use rentroll_dashboards::html::shell::{Frame, Section, WindowBar};
use rentroll_dashboards::html::table::Direction;
use rentroll_dashboards::html::timeline::{Grain, Timeline};
use rentroll_dashboards::model::*;
use rentroll_dashboards::pages::tenant_table::Sorting;
use rentroll_dashboards::pages::*;
use rentroll_dashboards::window::Window;
use rentroll_schemas::Quantity;
use rentroll_schemas::currency::Currency;
use rentroll_schemas::invoice::*;
use rentroll_schemas::period::Period;
use rust_decimal::Decimal;

const USD: Currency = Currency::USD;
/// A tenant whose name tries everything.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script>&\"'/../?#%00 =cmd|'/c'!A1";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn usd(text: &str) -> Option<Amount> {
    Some(Amount::new(dec(text), USD))
}

pub(crate) fn frame(section: Section, path: &'static str) -> Frame {
    let may = Period::parse("2015-05", Tz::UTC).unwrap();
    let april = Period::parse("2015-04", Tz::UTC).unwrap();
    Frame {
        section,
        window: Some(WindowBar {
            window: Window::of(may),
            months: vec![may, april],
            address: Address::new(path),
            open: false,
        }),
        data_as_of: Some(at("2026-11-24T08:12:31Z")),
    }
}

pub(crate) fn meters() -> Vec<MeterColumn> {
    let meter = |name: &str, title: &str, unit: &str, description: &str| MeterColumn {
        name: name.into(),
        title: title.into(),
        unit: unit.into(),
        description: description.into(),
        additive: true,
    };
    vec![
        meter("requests", "Requests", "requests", "Requests answered, whatever their status"),
        meter("egress_bytes", "Egress bytes", "bytes", "Bytes of response bodies sent"),
    ]
}

pub(crate) fn month() -> MonthState {
    MonthState {
        invoice_currency: Some(USD),
        closed: true,
        allocation: Some(AllocationRun {
            run_id: "4f2a9c01d7be".into(),
            total: Amount::new(dec("1700"), USD),
            created_at: at("2026-11-24T08:12:40Z"),
        }),
    }
}

fn row(tenant: &str, plan: &str, requests: i64, bytes: i64, invoiced: &str, cost: &str) -> TenantRow {
    TenantRow {
        tenant: tenant.into(),
        plan: Some(plan.into()),
        usage: vec![Some(Quantity::from_int(requests)), Some(Quantity::from_int(bytes))],
        invoiced: usd(invoiced),
        cost: usd(cost),
    }
}

pub(crate) fn rows() -> Vec<TenantRow> {
    vec![
        row("66.249.73.135", "enterprise", 482, 74_112_331, "204.82", "72.310944821"),
        row("46.105.14.53", "enterprise", 364, 4_731_209, "203.64", "42.118820113"),
        row("130.237.218.86", "enterprise", 357, 70_213_876, "203.57", "60.000000001"),
        row("75.97.9.59", "enterprise", 273, 31_998_101, "202.73", "39.7"),
        row("50.16.19.13", "pro", 113, 1_221_398, "20.88", "12.6"),
        row("209.85.238.199", "pro", 102, 4_712_001, "20.77", "12.1"),
        row("68.180.224.225", "pro", 99, 1_032_112, "20.74", "11.55"),
        row(HOSTILE, "pro", 84, 421_212, "20.59", "9.43"),
        row("100.43.83.137", "pro", 84, 311_012, "20.59", "9.41"),
        TenantRow { plan: None, invoiced: None, ..row("198.46.149.143", "", 82, 912_112, "0", "21.2") },
    ]
}

pub(crate) fn totals() -> TenantTotals {
    TenantTotals {
        tenants: 1_753,
        usage: vec![Some(Quantity::from_int(10_000)), Some(Quantity::from_int(2_747_282_740))],
        invoiced: usd("1482.17"),
        cost: usd("1480"),
    }
}

/// 84 hours from 17 May 10:00, with a daily rhythm and two bursts.
fn charts(id: &str, scale: i64, unit: &str, title: &str) -> Chart {
    let start = at("2015-05-17T10:00:00Z");
    let points = (0..84_i64).flat_map(|hour| {
        let time = start + Duration::hours(hour);
        let wave =
            90 + (hour * 37 % 41) + if hour % 24 < 8 { 40 } else { 0 } + if hour == 30 { 180 } else { 0 };
        [(0, 8), (1, 6), (2, 5), (3, 64)].map(|(series, share)| {
            let value = wave * share * scale / 100 + if hour == 53 && series == 0 { 60 * scale } else { 0 };
            (time, series, Quantity::from_int(value))
        })
    });
    let named = |label: &str| Series {
        label: label.into(),
        href: Some(Address::tenant(label).to_string()),
        rest: false,
    };
    Chart {
        id: id.into(),
        title: title.into(),
        subtitle: "per hour, 17 May 10:00 to 20 May 22:00 UTC; the rest of May 2015 has no usage".into(),
        unit: unit.into(),
        series: vec![
            named("66.249.73.135"),
            named("46.105.14.53"),
            named(HOSTILE),
            Series { label: "1,750 others".into(), href: None, rest: true },
        ],
        timeline: Timeline::new(Grain::Hour, (start, start + Duration::hours(84)), 4, points),
    }
}

pub(crate) fn pools() -> Vec<PoolRow> {
    let pool = |name: &str, direct: &str, spread: &str, idle: &str, unallocated: &str, total: &str| PoolRow {
        pool: name.into(),
        tenants: 1_753,
        direct: dec(direct),
        idle_spread: dec(spread),
        idle: dec(idle),
        unallocated: dec(unallocated),
        total: dec(total),
    };
    vec![
        pool("api_compute", "780.000000000", "0", "200", "20", "1000"),
        pool("database", "500", "0", "0", "0", "500"),
        pool("object_storage", "164.333333333", "35.666666667", "0", "0", "200"),
    ]
}

pub(crate) fn overview() -> overview::View {
    overview::View {
        frame: frame(Section::Overview, "/"),
        meters: meters(),
        totals: totals(),
        charts: vec![
            charts("requests", 1, "requests", "Requests"),
            charts("egress_bytes", 274_728, "bytes", "Egress bytes"),
        ],
        top: rows(),
        month: Some(month()),
        pools: pools(),
        books: overview::Books { accepted: 10_000, stored: 10_000, duplicate: 0, rejected: 0 },
        rejects: 3,
        newest_event: Some(at("2015-05-20T21:05:59Z")),
    }
}

pub(crate) fn tenants() -> tenants::View {
    tenants::View {
        frame: frame(Section::Tenants, "/tenants"),
        meters: meters(),
        month: Some(month()),
        search: String::new(),
        sorting: Sorting { by: "requests".into(), direction: Direction::Descending },
        page: 2,
        rows: rows(),
        totals: totals(),
    }
}

pub(crate) fn invoice_rows() -> Vec<invoices::InvoiceRow> {
    let row = |number: &str, tenant: &str, plan: &str, total: &str| invoices::InvoiceRow {
        number: number.into(),
        tenant: tenant.into(),
        plan: plan.into(),
        issue_date: NaiveDate::from_ymd_opt(2026, 11, 24).unwrap(),
        due_date: NaiveDate::from_ymd_opt(2026, 12, 24).unwrap(),
        total: Amount::new(dec(total), USD),
    };
    vec![
        row("RR-2026-000001", "66.249.73.135", "enterprise", "204.82"),
        row("RR-2026-000002", HOSTILE, "pro", "20.59"),
        row("RR-2026-000003", "100.43.83.137", "pro", "20.59"),
    ]
}

fn corrected(id: &str, is_amended: bool, by: &str) -> tenant::Corrected {
    tenant::Corrected {
        time: "2015-05-17T10:05:03Z".parse().unwrap(),
        source: "web".into(),
        kind: "http.request".into(),
        id: id.into(),
        is_amended,
        by: by.into(),
    }
}

pub(crate) fn tenant() -> tenant::View {
    let share = |pool: &str, units: i64, direct: &str, idle: &str, total: &str| tenant::PoolShare {
        pool: pool.into(),
        driver_units: Quantity::from_int(units),
        direct: dec(direct),
        idle_share: dec(idle),
        total: dec(total),
    };
    let usage = meters()
        .into_iter()
        .zip(rows()[0].usage.clone())
        .map(|(meter, quantity)| tenant::MeterUsage { meter, quantity, events: 482 });
    let mut chart = charts("requests", 1, "requests", "Requests");
    chart.series = vec![Series { label: "66.249.73.135".into(), href: None, rest: false }];
    chart.timeline.buckets.iter_mut().for_each(|bucket| bucket.values.truncate(1));
    tenant::View {
        frame: frame(Section::Tenants, "/tenants/66.249.73.135"),
        row: rows().remove(0),
        usage: usage.collect(),
        charts: vec![chart],
        month: Some(month()),
        invoices: vec![invoice_rows().remove(0)],
        pools: vec![
            share("api_compute", 482, "43.000000001", "0", "43.000000001"),
            share("database", 482, "24.1", "0", "24.1"),
            share("object_storage", 74_112_331, "4.210944820", "1", "5.210944820"),
        ],
        corrected: vec![corrected("9f3a", false, "void-9f3a"), corrected("<b>", true, "\u{202e}amend")],
    }
}

pub(crate) fn invoices() -> invoices::View {
    invoices::View {
        frame: frame(Section::Invoices, "/invoices"),
        search: String::new(),
        page: 1,
        rows: invoice_rows(),
        count: 1_753,
        total: usd("1482.17"),
        billed: true,
    }
}

pub(crate) fn costs() -> costs::View {
    let top: Vec<TenantRow> = rows();
    let shown: Decimal = top.iter().map(|row| row.cost.unwrap().value).sum();
    costs::View {
        frame: frame(Section::Costs, "/costs"),
        split: Some(costs::Split {
            run: month().allocation.unwrap(),
            pools: pools(),
            pool_names: pools().into_iter().map(|pool| pool.pool).collect(),
            pool: None,
            tenants: costs::Tenants {
                top,
                others: 1_743,
                others_cost: dec("1480") - shown,
                others_invoiced: usd("463.84"),
            },
            invoiced: usd("1482.17"),
        }),
    }
}

pub(crate) fn rejects() -> rejects::View {
    let row = |bytes: &[u8], reason: &str, detail: &str, place: &str| rejects::RejectRow {
        rejected_at: at("2026-11-24T08:11:02Z"),
        source: "access-log".into(),
        place: place.into(),
        tenant: String::new(),
        reason: reason.into(),
        field: if reason == "invalid" { "data.bytes".into() } else { String::new() },
        detail: detail.into(),
        bytes: bytes.to_vec(),
        size: bytes.len() as u64,
    };
    rejects::View {
        frame: Frame { data_as_of: Some(at("2026-11-24T08:12:31Z")), ..Frame::bare(Section::Rejects) },
        reasons: vec![
            rejects::ReasonCount {
                reason: "unreadable".into(),
                count: 2,
                newest: at("2026-11-24T08:11:02Z"),
            },
            rejects::ReasonCount { reason: "invalid".into(), count: 1, newest: at("2026-11-24T08:10:02Z") },
        ],
        reason: None,
        page: 1,
        rows: vec![
            row(
                b"83.149.9.216 - - [17/May/2015:10:05 \"GET /\xff\x00<script>alert(1)</script>",
                "unreadable",
                "no time in `[…]`",
                "access.log:1048",
            ),
            row(
                b"not a line at all",
                "unreadable",
                "the line does not begin with a client address",
                "access.log:99812",
            ),
            row(
                br#"{"specversion":"1.0","data":{"bytes":"many"}}"#,
                "invalid",
                "must be a number",
                "usage/0/17",
            ),
        ],
    }
}

pub(crate) fn health() -> health::View {
    let check = |name: &str, state, detail: &str, remedy: &str| HealthCheck {
        name: name.into(),
        state,
        detail: detail.into(),
        remedy: remedy.into(),
    };
    health::View {
        frame: Frame { data_as_of: Some(at("2026-11-24T08:12:31Z")), ..Frame::bare(Section::Health) },
        checks: vec![
            check(
                "Batches",
                CheckState::Warn,
                "1 batch is planned and not done",
                "It is finished when the aggregator runs.",
            ),
            check("Store", CheckState::Ok, "answers in 3 ms", ""),
            check("Books", CheckState::Ok, "accepted = stored + duplicate + rejected, for every source", ""),
        ],
        sources: vec![health::SourceBooks {
            source: "access-log".into(),
            books: overview::Books { accepted: 10_003, stored: 10_000, duplicate: 0, rejected: 3 },
            newest_hour: at("2026-11-24T08:00:00Z"),
        }],
    }
}

pub(crate) fn failed() -> failed::View {
    failed::View {
        title: "The store did not answer".into(),
        advice: "Usage may well be there: it could not be read. Reload in a moment.".into(),
        command: Some("rentroll doctor".into()),
        request_id: Some("5b1c9e7a-12".into()),
    }
}

fn line(
    line: u32,
    kind: LineKind,
    (group, description): (&str, &str),
    (quantity, unit): (&str, &str),
    (price, amount): (&str, &str),
) -> InvoiceLine {
    InvoiceLine {
        line,
        kind,
        group: group.into(),
        description: description.into(),
        meter: None,
        tier: None,
        quantity: Exact(dec(quantity)),
        unit: unit.into(),
        unit_price: Exact(dec(price)),
        exact_amount: Exact(dec(quantity) * dec(price)),
        amount: Exact(dec(amount)),
        events: None,
    }
}

use rentroll_schemas::currency::Exact;

pub(crate) fn invoice() -> invoice::View {
    let day = |day: u32, meter: &str, unit: &str, quantity: i64| DailyUsage {
        day: NaiveDate::from_ymd_opt(2015, 5, day).unwrap(),
        meter: meter.into(),
        unit: unit.into(),
        events: 120,
        quantity: Quantity::from_int(quantity),
    };
    let invoice = Invoice {
        number: "RR-2026-000001".into(),
        status: InvoiceStatus::Issued,
        tenant: "66.249.73.135".into(),
        plan: "enterprise".into(),
        plan_title: "Enterprise".into(),
        plan_reason: "250 requests or more in the month".into(),
        currency: USD,
        seller: Seller {
            name: "Example Hosting Ltd".into(),
            address: vec!["1 Harbour Street".into(), "Dublin 1".into(), "Ireland".into()],
            tax_id: Some("IE1234567T".into()),
            email: Some("billing@example.com".into()),
            payment_instructions: vec!["IBAN IE29 AIBK 9311 5212 3456 78".into(), "BIC AIBKIE2D".into()],
            payment_terms_days: 30,
        },
        buyer: Party { name: "66.249.73.135".into(), address: vec![], tax_id: None },
        period: BilledPeriod {
            month: "2015-05".into(),
            zone: "UTC".into(),
            from: at("2015-05-01T00:00:00Z"),
            to: at("2015-06-01T00:00:00Z"),
        },
        issue_date: NaiveDate::from_ymd_opt(2026, 11, 24).unwrap(),
        due_date: NaiveDate::from_ymd_opt(2026, 12, 24).unwrap(),
        lines: vec![
            line(1, LineKind::BaseFee, ("Enterprise", "monthly fee"), ("1", "month"), ("200", "200.00")),
            line(2, LineKind::Usage, ("Requests", "first 100 requests"), ("100", "request"), ("0", "0.00")),
            line(3, LineKind::Usage, ("Requests", "next 900 requests"), ("382", "request"), ("0.01", "3.82")),
            line(4, LineKind::Usage, ("Egress", "egress, per GB"), ("0.074112331", "GB"), ("0.09", "0.01")),
        ],
        subtotal: Exact(dec("203.83")),
        tax: Some(InvoiceTax { name: "VAT".into(), rate: Exact(dec("0.23")), amount: Exact(dec("46.88")) }),
        total: Exact(dec("250.71")),
        usage: Vec::new(),
        daily: (17..=20)
            .flat_map(|d| {
                [
                    day(d, "egress_bytes", "byte", i64::from(d) * 1_001_221),
                    day(d, "requests", "request", 482 / 4),
                ]
            })
            .collect(),
        data_as_of: at("2026-11-24T08:12:31Z"),
        prices_from: NaiveDate::from_ymd_opt(2015, 1, 1).unwrap(),
        catalogue_digest: "0f3c".repeat(16),
        usage_digest: "9b7d".repeat(16),
    };
    invoice::View { frame: Frame::bare(Section::Invoices), invoice, digest: "c4e1".repeat(16), intact: true }
}
