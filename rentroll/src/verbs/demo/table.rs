//! What the demo prints in the end.

use rentroll_billing::allocation::split::{Use, split};
use rentroll_billing::overview::{Overview, TenantRow};
use rentroll_schemas::costs::IdlePolicy;
use rentroll_schemas::currency::Exact;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::money::round_money;
use rust_decimal::Decimal;

use crate::output::{self, Sheet, grouped};

/// The tenants of `overview`, each by the name that `name_of` gives it, and what has no tenant.
pub(super) fn print(overview: &Overview, meters: &Meters, name_of: fn(&str) -> String) -> anyhow::Result<()> {
    let currency = |currency: Option<rentroll_schemas::currency::Currency>| {
        currency.map_or_else(String::new, |code| format!(" {}", code.code()))
    };
    let invoiced = format!(">invoiced{}", currency(overview.invoice_currency));
    let cost = format!(">cost{}", currency(overview.cost_currency));
    let margin = format!(">margin{}", currency(overview.cost_currency));
    let mut headers = vec!["tenant".to_owned()];
    headers.extend(meters.meters.iter().map(|meter| format!(">{} ({})", meter.name, meter.unit)));
    headers.extend(["tier".to_owned(), "invoice".to_owned(), invoiced, cost, margin]);
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut sheet = Sheet::new(&headers);
    let money = |amount: Option<Exact>| {
        amount.map_or_else(|| "–".to_owned(), |Exact(amount)| grouped(&round_money(amount, 2).to_string()))
    };
    let cells = |name: &str, row: &TenantRow| {
        let mut cells = vec![name.to_owned()];
        for meter in &meters.meters {
            cells.push(
                row.usage
                    .get(&meter.name)
                    .map_or_else(|| "–".to_owned(), |quantity| grouped(&quantity.to_string())),
            );
        }
        cells.push(row.plan.clone().unwrap_or_default());
        cells.push(row.invoice.clone().unwrap_or_default());
        cells.extend([money(row.invoiced), money(row.allocated), money(row.margin)]);
        cells
    };
    for row in &overview.rows {
        sheet.row(&cells(&name_of(&row.tenant), row));
    }
    sheet.row(&cells(&format!("all {} tenants", grouped(&overview.tenants.to_string())), &overview.total));
    let only_cost = |name: &str, amount: Option<Exact>| {
        let row = TenantRow { allocated: amount, ..TenantRow::default() };
        let mut cells = cells(name, &row);
        for cell in &mut cells {
            if cell == "–" {
                cell.clear();
            }
        }
        cells
    };
    sheet.row(&only_cost("idle", overview.idle));
    sheet.row(&only_cost("unallocated", overview.unallocated));
    sheet.row(&only_cost("spent", overview.spent));
    output::line("")?;
    sheet.print()?;
    eprintln!(
        "\nmonth {} [first, next first), zone {}; amounts shown to the cent, kept exactly",
        overview.period, overview.zone
    );
    Ok(())
}

/// The platform's arithmetic on equal apps, by the same code: $1,700 over 1,000 apps, each paying $20.
pub(super) fn reference_split() {
    let apps: Vec<Use> =
        (0..1_000).map(|app| Use { tenant: format!("app-{app}"), units: 1_u32.into() }).collect();
    let split = split(1_700_000_000_000, &apps, None, IdlePolicy::Keep);
    let least = split.parts.iter().map(|part| part.direct).min().unwrap_or_default();
    let most = split.parts.iter().map(|part| part.direct).max().unwrap_or_default();
    let cost = Decimal::from_i128_with_scale(least as i128, 9);
    let price = Decimal::from(20);
    let margin = (price - cost) / price * Decimal::ONE_HUNDRED;
    if least == most {
        eprintln!(
            "for scale   1,000 equal apps on the same $1,700: ${} an app; at $20 an app a margin of {} %",
            round_money(cost, 2),
            round_money(margin, 1)
        );
    }
}
