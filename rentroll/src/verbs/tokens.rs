//! `rentroll tokens`: who may send events, and who may read usage.

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, SubsecRound as _, TimeDelta, Utc};
use clap::Subcommand;
use rentroll_schemas::token::file::{self, FileError, Wanted};
use rentroll_schemas::token::{Grant, Token, Tokens};
use serde::Serialize;

use crate::cli::{Exit, WrongUse};
use crate::context::Context;
use crate::output::{self, Sheet};

/// Arguments of `rentroll tokens`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token, and print its secret: it is kept nowhere else, and cannot be shown again.
    #[command(after_help = "\
Examples:
  rentroll tokens create --tenant acme --expires 90d
  rentroll tokens create --source edge --name 'proxy in eu-1'
  rentroll tokens create --admin --expires 12h
  rentroll tokens create --service --source billing-sync
  rentroll tokens create --portal acme --meters egress_bytes,requests --expires 1h
  curl -H \"authorization: Bearer $(rentroll tokens create --tenant acme)\" …")]
    Create(Create),
    /// List tokens; never their secrets.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a token back. Running collectors and servers notice within a second.
    Revoke {
        /// The token's id: the second part of its secret, `rr_ID_…`.
        id: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Whom the token is for, and until when.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("holder").args(["tenant", "source", "admin", "service", "portal"]).required(true).multiple(true)))]
struct Create {
    /// Its holder sends events of this tenant and reads its usage, and of no other.
    #[arg(long, conflicts_with_all = ["source", "admin", "service", "portal"])]
    tenant: Option<String>,
    /// Its holder is this trusted source: it sends events of any tenant, whose `source` is this name or begins
    /// with it and a `/`. It reads nothing, unless --admin or --service is given as well.
    #[arg(long, conflicts_with = "portal")]
    source: Option<String>,
    /// Its holder does all that the API can: reads all usage, changes meters and tenants, makes tokens for portals.
    #[arg(long, conflicts_with_all = ["service", "portal"])]
    admin: bool,
    /// Its holder reads everything, and changes nothing.
    #[arg(long, conflicts_with = "portal")]
    service: bool,
    /// Its holder reads the usage of this tenant, and sends nothing: for the browsers of the tenant's users.
    #[arg(long, value_name = "TENANT")]
    portal: Option<String>,
    /// Of the portal's tenant, these meters alone; of all if left out.
    // `requires` alone asks for nothing where the other kind excludes it.
    #[arg(long, requires = "portal", conflicts_with_all = ["tenant", "source", "admin", "service"])]
    #[arg(value_delimiter = ',', value_name = "METER,…")]
    meters: Vec<String>,
    /// The source is a declared backfill: its events may be older than 35 days.
    #[arg(long, requires = "source", conflicts_with_all = ["tenant", "admin", "service", "portal"])]
    backfill: bool,
    /// What it is for.
    #[arg(long, default_value = "")]
    name: String,
    /// When it ends: a day (2027-01-31), a time (RFC 3339), or a number of days or hours from now (90d, 12h).
    #[arg(long, value_parser = end)]
    expires: Option<End>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Create {
    fn grant(&self) -> Grant {
        let source = self.source.clone();
        match (&self.tenant, &self.portal) {
            (Some(tenant), _) => Grant::Tenant { tenant: tenant.clone() },
            (_, Some(tenant)) => Grant::Portal { tenant: tenant.clone(), meters: self.meters.clone() },
            _ if self.admin => Grant::Admin { source },
            _ if self.service => Grant::Service { source },
            // The group has one of them.
            _ => Grant::Source { source: source.unwrap_or_default(), backfill: self.backfill },
        }
    }

    fn expires_at(&self, now: DateTime<Utc>) -> anyhow::Result<Option<DateTime<Utc>>> {
        let expires_at = match self.expires {
            Some(End::At(time)) => Some(time),
            Some(End::In(delta)) => {
                Some(now.checked_add_signed(delta).context("--expires is too far ahead")?)
            }
            None => None,
        };
        if let Some(end) = expires_at.filter(|end| *end <= now) {
            let end = end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            return Err(WrongUse(format!("--expires: {end} is over already")).into());
        }
        Ok(expires_at)
    }

    /// What was given for a field of the grant that has bounds. What is wrong with a meter's name says it already.
    fn given(&self, field: &str) -> Option<&str> {
        match field {
            "tenant" => self.tenant.as_deref().or(self.portal.as_deref()),
            "source" => self.source.as_deref(),
            _ => None,
        }
    }

    /// Why a field of the grant is not taken, by what was typed.
    fn refused(&self, field: &str, reason: &str) -> WrongUse {
        let flag = if field == "tenant" && self.portal.is_some() { "portal" } else { field };
        match self.given(field) {
            Some(given) => WrongUse(format!("--{flag}: {} {reason}", quoted(given))),
            None => WrongUse(format!("--{flag}: {reason}")),
        }
    }
}

/// A text that was typed, cut where it is long.
fn quoted(given: &str) -> String {
    const SHOWN: usize = 40;
    match given.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("`{}…` ({} bytes)", given[..end].escape_debug(), given.len()),
        None => format!("`{}`", given.escape_debug()),
    }
}

/// When a token ends.
#[derive(Clone, Copy, Debug)]
enum End {
    At(DateTime<Utc>),
    In(TimeDelta),
}

fn end(text: &str) -> Result<End, String> {
    let number = |unit: char| text.strip_suffix(unit).and_then(|number| number.parse::<u32>().ok());
    if let Some(delta) = number('d').and_then(|days| TimeDelta::try_days(days.into())) {
        return Ok(End::In(delta));
    }
    if let Some(delta) = number('h').and_then(|hours| TimeDelta::try_hours(hours.into())) {
        return Ok(End::In(delta));
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(End::At(day.and_time(chrono::NaiveTime::MIN).and_utc()));
    }
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(End::At(time.with_timezone(&Utc))),
        Err(_) => {
            Err("not a day (2027-01-31), a time (RFC 3339) or a number of days or hours (90d, 12h)".into())
        }
    }
}

#[derive(Serialize)]
struct Made<'a> {
    secret: &'a str,
    #[serde(flatten)]
    shown: Shown<'a>,
}

/// A token as it is shown: without its hash, which is of no use to a reader.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(flatten)]
    grant: &'a Grant,
    state: &'static str,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl<'a> Shown<'a> {
    fn of(token: &'a Token, now: DateTime<Utc>) -> Self {
        let state = match token.revoked_at {
            Some(_) => "revoked",
            None if token.is_good(now) => "good",
            None => "expired",
        };
        Shown {
            id: &token.id,
            name: &token.name,
            grant: &token.grant,
            state,
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
        }
    }
}

/// Runs it.
///
/// # Errors
/// The file cannot be read or written, or there is no such token.
pub fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let path = config.path(&config.files.tokens);
    let now = Utc::now().trunc_subsecs(0);
    match args.action {
        Action::Create(create) => {
            let expires_at = create.expires_at(now)?;
            let wanted = Wanted { grant: create.grant(), name: create.name.clone(), expires_at };
            let (token, secret) = file::create(&path, wanted, now).map_err(|error| match error {
                FileError::Grant { field, reason } => create.refused(field, &reason).into(),
                error => anyhow::Error::from(error),
            })?;
            let shown = Shown::of(&token, now);
            if create.json {
                output::json(&Made { secret: &secret, shown })?;
            } else {
                output::line(&secret)?;
                eprintln!(
                    "token {} for {}, in {}; this is the only time that its secret is shown",
                    token.id,
                    token.grant,
                    path.display()
                );
            }
        }
        Action::List { json } => list(&file::read(&path)?, now, json)?,
        Action::Revoke { id, json } => {
            let token = file::revoke(&path, &id, now).map_err(|error| match error {
                FileError::NoSuchToken { .. } => {
                    anyhow::anyhow!("{error}; `rentroll tokens list` lists their ids")
                }
                error => error.into(),
            })?;
            match json {
                true => output::json(&Shown::of(&token, now))?,
                false => eprintln!("token {id} for {} is revoked", token.grant),
            }
        }
    }
    Ok(Exit::Done)
}

fn list(tokens: &Tokens, now: DateTime<Utc>, json: bool) -> anyhow::Result<()> {
    let shown: Vec<Shown<'_>> = tokens.tokens.iter().map(|token| Shown::of(token, now)).collect();
    if json {
        return output::json(&shown);
    }
    if shown.is_empty() {
        eprintln!("no tokens; `rentroll tokens create` makes one");
        return Ok(());
    }
    let time = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M:%S").to_string();
    let mut sheet = Sheet::new(&["id", "for", "name", "state", "created at (UTC)", "expires at (UTC)"]);
    for one in &shown {
        sheet.row(&[
            one.id,
            &one.grant.to_string(),
            one.name,
            one.state,
            &time(one.created_at),
            &one.expires_at.map(time).unwrap_or_default(),
        ]);
    }
    sheet.print()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_day_a_time_or_a_while() {
        assert!(matches!(end("90d"), Ok(End::In(delta)) if delta == TimeDelta::days(90)));
        assert!(matches!(end("12h"), Ok(End::In(delta)) if delta == TimeDelta::hours(12)));
        let midnight = DateTime::from_timestamp(1_800_000_000 - 1_800_000_000 % 86_400, 0).unwrap();
        let day = midnight.format("%Y-%m-%d").to_string();
        assert!(matches!(end(&day), Ok(End::At(time)) if time == midnight));
        assert!(matches!(end("2027-01-15T08:00:00Z"), Ok(End::At(_))));
        for wrong in ["", "90", "d", "-1d", "tomorrow"] {
            assert!(end(wrong).is_err(), "{wrong}");
        }
    }
}
