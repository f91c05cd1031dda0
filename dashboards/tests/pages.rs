//! Rendering alone: views filled by hand, no store.
//!
//! The pages are compared with `tests/golden/*.html`; `RENTROLL_BLESS=1 cargo test -p rentroll-dashboards --test
//! pages` writes them anew, and the difference is then for the reviewer.

use std::path::PathBuf;

use maud::Markup;
use proptest::prelude::*;
use rentroll_dashboards::html::shell::page;
use rentroll_dashboards::pages;
use rentroll_schemas::invoice::InvoiceStatus;
use rust_decimal::Decimal;

#[path = "support/sample.rs"]
mod sample;

/// Every page with the sample's values.
fn all() -> Vec<(&'static str, Markup)> {
    vec![
        ("overview", pages::overview::render(&sample::overview())),
        ("overview-empty", pages::overview::render_empty("Overview")),
        ("tenants", pages::tenants::render(&sample::tenants())),
        ("tenant", pages::tenant::render(&sample::tenant())),
        ("invoices", pages::invoices::render(&sample::invoices())),
        ("invoice", pages::invoice::render(&sample::invoice())),
        ("costs", pages::costs::render(&sample::costs())),
        ("rejects", pages::rejects::render(&sample::rejects())),
        ("health", pages::health::render(&sample::health())),
        ("failed", pages::failed::render(&sample::failed())),
    ]
}

#[test]
fn pages_are_as_they_were_reviewed() {
    let bless = std::env::var_os("RENTROLL_BLESS").is_some();
    for (name, markup) in all() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.html"));
        // A tag a line, so that a difference can be read.
        let html = markup.into_string().replace("><", ">\n<") + "\n";
        if bless {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &html).unwrap();
        }
        let golden =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (number, (now, then)) in html.lines().zip(golden.lines()).enumerate() {
            assert_eq!(now, then, "{name}.html line {}", number + 1);
        }
        assert_eq!(html.len(), golden.len(), "{name}.html");
    }
}

#[test]
fn nothing_needs_what_the_policy_forbids() {
    for (name, markup) in all() {
        let frame = sample::overview().frame;
        let html = page(&frame, name, &markup).into_string();
        for forbidden in
            ["<script", " style=", "<style", "javascript:", " onclick", " onload", "http://", "https://"]
        {
            assert!(!html.contains(forbidden), "{name} contains {forbidden}");
        }
    }
}

#[test]
fn every_figure_has_an_image_role_a_title_and_its_table() {
    let html = pages::overview::render(&sample::overview()).into_string();
    assert_eq!(html.matches("<figure").count(), 2);
    for part in ["role=\"img\" aria-label=\"Bar chart: ", "<figcaption>", "<summary>Data</summary>"] {
        assert_eq!(html.matches(part).count(), 2, "{part}");
    }
}

#[test]
fn lines_of_an_invoice_add_up_to_its_subtotal() {
    let view = sample::invoice();
    let html = pages::invoice::render(&view).into_string();
    let lines =
        html.split("<tbody class=\"product\">").skip(1).map(|rest| rest.split("</tbody>").next().unwrap());
    let amounts = lines.flat_map(|product| product.split("</tr>")).filter_map(|row| {
        let cell =
            row.rsplit("<td class=\"number\">").next().filter(|_| row.contains("<td class=\"number\">"))?;
        Some(cell.split("</td>").next().unwrap().replace(',', "").parse::<Decimal>().unwrap())
    });
    assert_eq!(amounts.sum::<Decimal>(), view.invoice.subtotal.0);
}

#[test]
fn a_draft_cannot_be_taken_for_an_invoice() {
    let mut view = sample::invoice();
    view.invoice.status = InvoiceStatus::Draft;
    let html = pages::invoice::render(&view).into_string();
    assert!(
        html.contains("Draft invoice") && html.contains("not to be paid") && !html.contains("How to pay")
    );
}

#[test]
fn a_split_that_does_not_tie_out_says_so() {
    let mut view = sample::costs();
    assert!(pages::costs::render(&view).into_string().contains("ties out"));
    view.split.as_mut().unwrap().tenants.others_cost += Decimal::new(1, 9);
    assert!(pages::costs::render(&view).into_string().contains("does not tie out"));
}

#[test]
fn books_that_do_not_balance_say_so() {
    let mut view = sample::overview();
    view.books.stored -= 1;
    assert!(pages::overview::render(&view).into_string().contains("do not balance"));
}

/// The tags of a page with what they are made of, without text and without where links lead.
fn skeleton(html: &str) -> String {
    let mut out = String::new();
    for tag in html.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap_or_default();
        let pieces: Vec<&str> =
            tag.split('"').enumerate().filter(|(index, _)| index % 2 == 0).map(|(_, piece)| piece).collect();
        out.push_str(&pieces.join("\""));
        out.push('\n');
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever outsiders choose as a name, it stays text: the page has the same tags and attributes as with a
    /// harmless one.
    #[test]
    fn names_are_text(name in "\\PC{1,40}|[<>\"'&=/ a-z]{1,60}") {
        let with = |name: &str| {
            let mut overview = sample::overview();
            overview.top[0].tenant = name.to_owned();
            overview.charts[0].series[0].label = name.to_owned();
            let mut tenants = sample::tenants();
            tenants.rows[0].tenant = name.to_owned();
            tenants.search = name.to_owned();
            let mut tenant = sample::tenant();
            tenant.row.tenant = name.to_owned();
            let mut invoices = sample::invoices();
            invoices.rows[0].tenant = name.to_owned();
            let mut invoice = sample::invoice();
            invoice.invoice.tenant = name.to_owned();
            invoice.invoice.buyer.name = name.to_owned();
            let mut rejects = sample::rejects();
            rejects.rows[0].detail = name.to_owned();
            rejects.rows[0].bytes = name.as_bytes().to_vec();
            rejects.rows[0].place = name.to_owned();
            let bodies = [
                pages::overview::render(&overview),
                pages::tenants::render(&tenants),
                pages::tenant::render(&tenant),
                pages::invoices::render(&invoices),
                pages::invoice::render(&invoice),
                pages::rejects::render(&rejects),
            ];
            bodies.map(|body| skeleton(&page(&tenants.frame, name, &body).into_string()))
        };
        prop_assert_eq!(with(&name), with("harmless"));
    }
}
