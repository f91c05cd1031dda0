//! What the billing verbs have in common: a month, the files that price it, the store; money in tables.

use rentroll_billing::BillingError;
use rentroll_engines::store::Store;
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::currency::{Currency, Exact};
use rentroll_schemas::meter::Meters;
use rentroll_schemas::period::Period;

use crate::cli::{Exit, WrongUse, said};
use crate::config::Config;
use crate::context::{self, Context};
use crate::output::grouped;

/// A month, and what is needed to bill it.
pub(super) struct Month {
    pub(super) config: Config,
    pub(super) meters: Meters,
    pub(super) catalogue: Catalogue,
    pub(super) period: Period,
    pub(super) store: Store,
}

impl Month {
    /// Reads the files and opens the store. The month is cut in the catalogue's time zone.
    pub(super) async fn open(context: &Context, period: &str) -> anyhow::Result<Month> {
        let config = context.config()?;
        let store = context::store(&config).await?;
        let meters = context::meters_in_force(&config, &store).await?;
        let catalogue = context::catalogue(&config, &meters)?;
        let period = Period::parse(period, catalogue.time_zone)
            .map_err(|error| WrongUse(format!("--period: {error}")))?;
        Ok(Month { config, meters, catalogue, period, store })
    }
}

/// Makes "the books or a check do not hold" an exit code of its own: said on stderr, not a failure.
pub(super) fn exit(result: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    match result {
        Err(error) if error.downcast_ref::<BillingError>().is_some_and(BillingError::is_check) => {
            eprintln!("does not hold: {}", said(&error));
            Ok(Exit::DoesNotHold)
        }
        other => other,
    }
}

/// An amount at the currency's minor unit: the only rounding is for the eye, JSON and CSV have every digit.
pub(super) fn money(amount: Exact, currency: Currency) -> String {
    grouped(&currency.round(amount.0).to_string())
}

/// The footer of a month's table.
pub(super) fn footer(month: &str, zone: &str, rest: &str) {
    eprintln!("\n{month}, from its first instant up to the next month's, {zone}; {rest}");
}
