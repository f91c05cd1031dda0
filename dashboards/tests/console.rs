//! The console over a real store: what is in the tables is what is on the pages. Needs the ClickHouse library
//! (`cargo xtask install`).

use std::collections::BTreeSet;

use axum::http::{StatusCode, header};
use rentroll_dashboards::address::Address;
use rentroll_dashboards::{ConsoleState, router};

#[path = "console/fixture.rs"]
mod fixture;
#[allow(dead_code, reason = "shared with the rendering tests and the preview")]
#[path = "support/sample.rs"]
mod sample;

use fixture::{Console, get};

/// The cells of the first row of `html` whose first cell is `name`, tags taken off.
fn row(html: &str, name: &str) -> Vec<String> {
    let rows = html.split("<tr").skip(1).map(|rest| rest.split("</tr>").next().unwrap_or_default());
    let cells = |row: &str| -> Vec<String> {
        let inner = row.split_once('>').map_or("", |(_, inner)| inner);
        inner.split_inclusive("</td>").flat_map(|cell| cell.split_inclusive("</th>")).map(strip).collect()
    };
    let mut found = rows.map(cells).filter(|cells| cells.first().is_some_and(|first| first == name));
    found.next().unwrap_or_else(|| panic!("no row `{name}` in\n{html}"))
}

/// The first cells of all rows of the first table's body.
fn first_cells(html: &str) -> Vec<String> {
    let body =
        html.split("<tbody>").nth(1).and_then(|rest| rest.split("</tbody>").next()).unwrap_or_default();
    body.split("<th scope=\"row\">")
        .skip(1)
        .map(|rest| strip(rest.split("</th>").next().unwrap_or_default()))
        .collect()
}

fn strip(html: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    unescape(out.trim())
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_what_is_stored() {
    let console = Console::filled().await;

    // The newest month with usage is the default; the address chooses another.
    assert!(console.page("/").await.contains("<strong>June 2015</strong>"));
    let overview = console.page("/?period=2015-05").await;
    for shown in [
        "2,747,282,751",
        "270.70",
        "1,700.00",
        "Of <strong>20</strong>",
        "<strong>17</strong>",
        "balanced",
        "2 rejects",
    ] {
        assert!(overview.contains(shown), "{shown}: {overview}");
    }
    assert!(
        overview.contains("per hour, UTC: 17 May 10:00 to 20 May 22:00; the rest of May 2015 has no usage")
    );
    assert!(
        overview.contains("Data as of <time datetime=\"2015-07-01T08:00:01+00:00\">2015-07-01 08:00:01 UTC")
    );

    let tenants = console.page("/tenants?period=2015-05").await;
    assert_eq!(
        row(&tenants, "acme")[1..],
        ["enterprise", "10", "2,000,000,500", "40", "250.71", "1,183.83", "−933.12"]
    );
    assert_eq!(row(&tenants, "zeta")[1..], ["pro", "1", "0", "7", "19.99", "0.25", "19.74"]);
    assert_eq!(
        row(&tenants, "All 4 tenants")[2..],
        ["17", "2,747,282,751", "–", "270.70", "1,350.75", "−1,080.05"]
    );
    // Neither billed nor allocated is not the same as nothing.
    assert_eq!(row(&tenants, "..")[1..], ["–", "2", "11", "3", "–", "–", "–"]);

    let acme = console.page("/tenants/acme?period=2015-05").await;
    assert_eq!(row(&acme, "slowest_ms")[1..4], ["40", "ms", "10"]);
    assert_eq!(row(&acme, "database")[2..], ["333.333333334", "0.000000000", "333.333333334"]);
    assert_eq!(row(&acme, "All pools")[4], "1,183.833333334");
    assert_eq!(row(&acme, "RR-2015-000001")[5], "250.71");

    let invoices = console.page("/invoices?period=2015-05").await;
    assert_eq!(row(&invoices, "RR-2015-000003")[1..], ["zeta", "pro", "2015-07-01", "2015-07-31", "19.99"]);
    assert_eq!(row(&invoices, "All 3 invoices")[5], "270.70");
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_tie_out_for_all_pools_and_for_each() {
    let console = Console::filled().await;
    let all = console.page("/costs?period=2015-05").await;
    assert!(all.contains("ties out") && !all.contains("does not tie out"), "{all}");
    let compute = ["700.750000000", "0.000000000", "299.250000000", "0.000000000", "1,000.000000000"];
    assert_eq!(row(&all, "compute")[2..], compute);
    assert_eq!(row(&all, "acme")[1], "1,183.833333334");
    assert_eq!(row(&all, "Idle, kept apart")[1], "299.250000000");
    assert_eq!(row(&all, "Unallocated")[1], "50.000000000");
    assert!(all.contains("1,700.00"), "the newest run counts, not the one before it");

    let storage = console.page("/costs?period=2015-05&pool=object_storage").await;
    assert!(storage.contains("ties out") && !storage.contains("does not tie out"), "{storage}");
    assert_eq!(row(&storage, "acme")[1], "150.000000000");

    // A row is lost: the page must say so instead of adding up what is left.
    console.sql("ALTER TABLE allocations DELETE WHERE tenant = 'zeta' SETTINGS mutations_sync = 1").await;
    assert!(console.page("/costs?period=2015-05").await.contains("does not tie out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_sorted_searched_and_paged_by_the_address() {
    let console = Console::filled().await;
    let order =
        async |query: &str| first_cells(&console.page(&format!("/tenants?period=2015-05&{query}")).await);
    assert_eq!(order("").await, ["acme", sample::HOSTILE, "..", "zeta"]);
    assert_eq!(order("sort=egress_bytes&order=asc").await, ["zeta", "..", sample::HOSTILE, "acme"]);
    assert_eq!(order("sort=slowest_ms").await, ["acme", sample::HOSTILE, "zeta", ".."]);
    // What is not known comes last, whichever way.
    assert_eq!(order("sort=margin&order=desc").await, ["zeta", sample::HOSTILE, "acme", ".."]);
    assert_eq!(order("sort=margin&order=asc").await, ["acme", sample::HOSTILE, "zeta", ".."]);
    assert_eq!(order("sort=tenant").await, ["..", sample::HOSTILE, "acme", "zeta"]);
    assert_eq!(order("q=ACM").await, ["acme"]);

    for (search, found) in [("%25", 1), ("_", 0), ("'+OR+1=1+--", 0), ("%22", 1), ("%5C", 0)] {
        let page = console.page(&format!("/tenants?period=2015-05&q={search}")).await;
        assert_eq!(first_cells(&page).len(), found, "{search}");
        assert_eq!(page.contains("Clear the filter"), found == 0, "{search}");
    }
    assert!(first_cells(&console.page("/tenants?period=2015-05&page=2").await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_window_cuts_hours_and_shows_no_money() {
    let console = Console::filled().await;
    let page = console.page("/tenants?from=2015-05-17T10:00Z&to=2015-05-17T23:00Z").await;
    assert_eq!(row(&page, "acme")[1..], ["7", "2,000,000,000", "12"]);
    assert!(!page.contains("Margin") && page.contains("choose a month"), "{page}");
    // Half-open: the end is excluded, the start included.
    let page = console.page("/tenants?from=2015-05-17T23:00Z&to=2015-06-01").await;
    assert_eq!(row(&page, "acme")[1..], ["3", "500", "40"]);
    let page = console.page("/tenants?from=2015-06-01&to=2015-06-01T00:01").await;
    assert_eq!(row(&page, "acme")[1..], ["5", "1,000", "90"]);
}

/// Every link of every page leads to a page, and keeps the month.
#[tokio::test(flavor = "multi_thread")]
async fn every_link_leads_somewhere() {
    let console = Console::filled().await;
    let mut seen = BTreeSet::new();
    let mut next = vec!["/?period=2015-05".to_owned()];
    while let Some(address) = next.pop() {
        if !seen.insert(address.clone()) {
            continue;
        }
        let answer = console.get(&address).await;
        assert_eq!(answer.status, StatusCode::OK, "{address}: {}", answer.body);
        for attribute in [" href=\"", " src=\""] {
            for link in answer.body.split(attribute).skip(1) {
                let link = unescape(link.split('"').next().unwrap());
                assert!(link.starts_with('/') || link.starts_with('#'), "{address} links to {link}");
                if link.starts_with('/') {
                    next.push(link);
                }
            }
        }
    }
    let hostile = Address::tenant(sample::HOSTILE).with("period", "2015-05").to_string();
    let dots = "/tenant?name=..&period=2015-05";
    for expected in [
        hostile.as_str(),
        dots,
        "/tenants.csv?period=2015-05&sort=requests&order=desc",
        "/invoices/RR-2015-000002",
    ] {
        assert!(seen.contains(expected), "{expected} is not among {seen:#?}");
    }
    assert!(seen.len() > 40, "{}", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_shown_as_issued_or_with_a_warning() {
    let console = Console::filled().await;
    let page = console.page("/invoices/RR-2015-000001").await;
    for shown in
        ["RR-2015-000001", "Example Hosting Ltd", "next 900 requests", "250.71", "VAT 23 %", "2015-05-20"]
    {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(!page.contains("does not match its digest"));
    assert!(console.page("/invoices/RR-2015-000002").await.contains("does not match its digest"));
    assert_eq!(console.get("/invoices/RR-2015-999999").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_counted_once_and_shown_escaped() {
    let console = Console::filled().await;
    let page = console.page("/rejects").await;
    assert_eq!(row(&page, "unreadable")[1..], ["1", "2015-08-01 08:00:00"]);
    assert_eq!(row(&page, "All reasons")[1], "2");
    assert!(page.contains(r"a\u{0}&lt;script&gt;\xff"), "{page}");
    assert!(page.contains("600 bytes, the first 512 shown"), "{page}");
    let one = console.page("/rejects?reason=invalid").await;
    assert!(one.contains("usage/0/3") && !one.contains("access.log:10"), "{one}");
    assert!(console.page("/rejects?reason=nothing").await.contains("Clear the filter"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_hold_what_the_page_shows_exactly() {
    let console = Console::filled().await;
    let csv = console.get("/tenants.csv?period=2015-05&sort=tenant").await;
    assert_eq!(csv.status, StatusCode::OK);
    assert_eq!(csv.headers[header::CONTENT_TYPE], "text/csv; charset=utf-8");
    assert_eq!(csv.headers[header::CONTENT_DISPOSITION], "attachment; filename=\"tenants-2015-05.csv\"");
    let lines: Vec<&str> = csv.body.lines().collect();
    assert_eq!(lines.len(), 5, "{}", csv.body);
    assert_eq!(
        lines[0],
        "from_utc,to_utc,tenant,plan,requests,egress_bytes,slowest_ms,invoice_amount,invoice_currency,allocated_cost,cost_currency,margin"
    );
    let ends = "2015-05-01T00:00:00Z,2015-06-01T00:00:00Z";
    assert_eq!(lines[1], format!("{ends},\"..\",\"\",2,11,3,,,,,"));
    assert_eq!(
        lines[3],
        format!(
            "{ends},\"acme\",\"enterprise\",10,2000000500,40,250.71,USD,1183.833333334,USD,-933.123333334"
        )
    );
    assert_eq!(console.get("/tenants.csv?period=2015-05&q=acme").await.body.lines().count(), 2);

    let costs = console.get("/costs.csv?period=2015-05").await;
    let column = |line: &str| line.rsplit(',').nth(3).unwrap().parse::<rust_decimal::Decimal>().unwrap();
    let total: rust_decimal::Decimal =
        costs.body.lines().skip(1).filter(|line| !line.contains(",,")).map(column).sum();
    let without_cost =
        costs.body.lines().skip(1).filter(|line| line.contains(",,") && !line.contains("__")).count();
    let special: rust_decimal::Decimal =
        costs.body.lines().filter(|line| line.contains("__")).map(column).sum();
    assert_eq!(without_cost, 0, "{}", costs.body);
    assert_eq!((total + special).to_string(), "1700.000000000", "{}", costs.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_yet_is_said_with_the_next_command() {
    let console = Console::empty().await;
    for address in ["/", "/tenants", "/invoices", "/costs", "/tenants/acme"] {
        let page = console.page(address).await;
        assert!(
            page.contains("No usage has been stored yet") && page.contains("rentroll demo"),
            "{address}: {page}"
        );
    }
    assert!(console.page("/rejects").await.contains("Nothing was rejected"));
    assert!(console.page("/health").await.contains("No event has arrived yet"));
    // Usage without billing: the commands that make it.
    console
        .sql("INSERT INTO rollup_day (meters, tenant, bucket, dimensions, events, total_1) VALUES ('requests\\0', 'a', '2015-05-17 00:00:00', '{}', 1, 1)")
        .await;
    assert!(console.page("/costs").await.contains("rentroll allocate run --period 2015-05"));
    assert!(console.page("/invoices").await.contains("rentroll bill run --period 2015-05"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_names_what_is_wrong() {
    let console = Console::filled().await;
    let page = console.page("/health").await;
    assert!(page.contains("All is well"), "{page}");
    assert_eq!(row(&page, "log")[1..6], ["20", "17", "2", "1", "balanced"]);
    console
        .sql(
            "INSERT INTO batches (topic, partition, first, next, state, written_at, tallies) VALUES \
             ('usage', 0, 20, 30, 1, '2015-07-01 09:00:00', [('log', '2015-07-01 09:00:00', 10, 9, 0, 0)]), \
             ('usage', 1, 0, 30, 0, '2015-07-01 09:00:00', [])",
        )
        .await;
    let page = console.page("/health").await;
    assert!(page.contains("Something is broken"), "{page}");
    assert_eq!(row(&page, "Books")[1..3], ["fail", "do not balance for log"]);
    assert!(
        row(&page, "Batches")[2].starts_with("1 batch is planned and not done, the oldest since 2015-07-01")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_never_shown_as_no_data() {
    let bare = Console::bare().await;
    let away = clickhouse::Client::default().with_url("http://127.0.0.1:1");
    let away = router(ConsoleState::new(away, fixture::meters().as_ref().clone().into(), None));
    for address in [
        "/",
        "/tenants",
        "/tenants/acme",
        "/invoices",
        "/invoices/1",
        "/costs",
        "/rejects",
        "/tenants.csv",
        "/costs.csv",
    ] {
        for (router, title) in
            [(&bare.router, "The store has no tables yet"), (&away, "The store did not answer")]
        {
            let answer = get(router, address).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{address}: {}", answer.body);
            assert!(answer.body.contains(title), "{address}: {}", answer.body);
            let id = answer.headers["x-request-id"].to_str().unwrap();
            assert!(answer.body.contains(id), "{address}: the page must name {id}");
            assert!(answer.headers.contains_key(header::RETRY_AFTER));
        }
    }
    let health = get(&away, "/health").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(health.body.contains("did not answer"), "{}", health.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_says_what_is_wrong() {
    let console = Console::filled().await;
    for (address, status, said) in [
        ("/?period=2015-13", StatusCode::BAD_REQUEST, "is not a month"),
        ("/?from=2015-05-01", StatusCode::BAD_REQUEST, "to is missing"),
        ("/tenants?sort=<b>", StatusCode::BAD_REQUEST, "there is no column `&lt;b&gt;`"),
        ("/tenants?order=up", StatusCode::BAD_REQUEST, "neither asc nor desc"),
        ("/tenants?page=0", StatusCode::BAD_REQUEST, "is not a page"),
        ("/tenants?q=a&q=b", StatusCode::BAD_REQUEST, "duplicate field"),
        ("/tenants/%ff", StatusCode::BAD_REQUEST, "Invalid UTF-8"),
        ("/nowhere/<script>", StatusCode::NOT_FOUND, "There is no page at"),
        ("/costs?period=2015-05&pool=none", StatusCode::NOT_FOUND, "no pool `none`"),
        ("/costs.csv?period=2015-06", StatusCode::NOT_FOUND, "No cost has been allocated"),
        ("/tenants/nobody?period=2015-05", StatusCode::NOT_FOUND, "has no usage, invoice or cost"),
        ("/tenants/nobody", StatusCode::NOT_FOUND, "No tenant of that name"),
        ("/tenants/zeta?period=2015-06", StatusCode::OK, "has no usage, invoice or cost"),
        ("/tenants/zeta", StatusCode::OK, "<strong>May 2015</strong>"),
    ] {
        let address = address.replace('<', "%3C").replace('>', "%3E");
        let answer = console.get(&address).await;
        assert_eq!(answer.status, status, "{address}: {}", answer.body);
        assert!(answer.body.contains(said), "{address}: {}", answer.body);
        assert!(!answer.body.contains("<script"), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_policy() {
    let console = Console::filled().await;
    for address in ["/", "/nowhere", "/assets/console.css", "/tenants?page=0", "/tenants.csv"] {
        let headers = console.get(address).await.headers;
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{address}");
    }
    let css = console.get("/assets/console.css").await;
    assert_eq!(css.headers[header::CONTENT_TYPE], "text/css; charset=utf-8");
    assert_eq!(console.get("/assets/..%2fCargo.toml").await.status, StatusCode::NOT_FOUND);
}
