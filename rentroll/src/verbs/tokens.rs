//! `rentroll tokens`: who may send events.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, SubsecRound as _, TimeDelta, Utc};
use clap::Subcommand;
use rand::TryRng as _;
use rentroll_schemas::token::{Grant, Token, Tokens};
use serde::Serialize;

use crate::cli::{Exit, WrongUse};
use crate::context::{self, Context};
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
  curl -H \"authorization: Bearer $(rentroll tokens create --tenant acme)\" …")]
    Create {
        /// Its holder sends events of this tenant, and of no other.
        #[arg(long, required_unless_present = "source", conflicts_with = "source")]
        tenant: Option<String>,
        /// Its holder is this trusted source: it sends events of any tenant, whose `source` is this name or begins
        /// with it and a `/`.
        #[arg(long)]
        source: Option<String>,
        /// The source is a declared backfill: its events may be older than 35 days.
        #[arg(long, requires = "source")]
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
    },
    /// List tokens; never their secrets.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a token back. Running collectors notice within a second.
    Revoke {
        /// The token's id: the second part of its secret, `rr_ID_…`.
        id: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
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
        let state = match token {
            Token { revoked_at: Some(_), .. } => "revoked",
            Token { expires_at: Some(end), .. } if *end <= now => "expired",
            _ => "good",
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
        Action::Create { tenant, source, backfill, name, expires, json } => {
            let grant = match (tenant, source) {
                (Some(tenant), _) => Grant::Tenant { tenant },
                (None, source) => Grant::Source { source: source.unwrap_or_default(), backfill },
            };
            grant.check().map_err(|(field, reason)| WrongUse(format!("--{field}: {reason}")))?;
            let expires_at = match expires {
                Some(End::At(time)) => Some(time),
                Some(End::In(delta)) => {
                    Some(now.checked_add_signed(delta).context("--expires is too far ahead")?)
                }
                None => None,
            };
            if expires_at.is_some_and(|end| end <= now) {
                return Err(WrongUse("--expires: is over already".into()).into());
            }
            let (token, secret) = create(&path, grant, name, now, expires_at)?;
            let shown = Shown::of(&token, now);
            if json {
                output::json(&Made { secret: &secret, shown })?;
            } else {
                output::line(&secret)?;
                eprintln!(
                    "token {} for {}, in {}; this is the only time that its secret is shown",
                    token.id,
                    speaks_for(&token.grant),
                    path.display()
                );
            }
        }
        Action::List { json } => list(&context::tokens_in(&path)?, now, json)?,
        Action::Revoke { id, json } => {
            let token = revoke(&path, &id, now)?;
            match json {
                true => output::json(&Shown::of(&token, now))?,
                false => eprintln!("token {id} for {} is revoked", speaks_for(&token.grant)),
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
            &speaks_for(one.grant),
            one.name,
            one.state,
            &time(one.created_at),
            &one.expires_at.map(time).unwrap_or_default(),
        ]);
    }
    sheet.print()
}

fn speaks_for(grant: &Grant) -> String {
    match grant {
        Grant::Tenant { tenant } => format!("tenant {tenant}"),
        Grant::Source { source, backfill: false } => format!("source {source}"),
        Grant::Source { source, backfill: true } => format!("source {source} (backfill)"),
    }
}

fn create(
    path: &Path,
    grant: Grant,
    name: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
) -> anyhow::Result<(Token, String)> {
    let mut random = [0; 32];
    let mut letters = [0; 8];
    let mut system = rand::rngs::SysRng;
    system.try_fill_bytes(&mut random).context("the system gives no random numbers")?;
    change(path, |tokens| {
        let id = loop {
            system.try_fill_bytes(&mut letters).context("the system gives no random numbers")?;
            // 36 does not divide 256: an id need not be evenly drawn, it is no secret.
            let id: String = letters
                .iter()
                .map(|byte| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[usize::from(byte % 36)]))
                .collect();
            if tokens.tokens.iter().all(|token| token.id != id) {
                break id;
            }
        };
        let (token, secret) = Token::make(id, &random, grant, name, created_at, expires_at);
        tokens.tokens.push(token.clone());
        Ok((token, secret))
    })
}

fn revoke(path: &Path, id: &str, now: DateTime<Utc>) -> anyhow::Result<Token> {
    change(path, |tokens| {
        let token = tokens.tokens.iter_mut().find(|token| token.id == id);
        let token = token.with_context(|| format!("no token `{id}` in {}", path.display()))?;
        token.revoked_at.get_or_insert(now);
        Ok(token.clone())
    })
}

/// Changes the file, for its owner's eyes only; readers see the old or the new one, and two changes at the same
/// time come one after the other.
fn change<T>(path: &Path, change: impl FnOnce(&mut Tokens) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(dir).with_context(|| format!("cannot open folder {}", dir.display()))?;
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)
        .with_context(|| format!("cannot lock {}", dir.display()))?;
    let mut tokens = context::tokens_in(path)?;
    let result = change(&mut tokens)?;
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        // One left by a crash may have other rights.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(tokens.to_toml().map_err(std::io::Error::other)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        folder.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(result)
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
