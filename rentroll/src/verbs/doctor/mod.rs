//! `rentroll doctor`: what is wrong with this set-up, and what to do.

use serde::Serialize;

use crate::cli::Exit;
use crate::context::Context;
use crate::output::{self, Sheet};

mod checks;
mod ingest;

/// Arguments of `rentroll doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll doctor
  rentroll doctor --json | jq '.[] | select(.state != \"ok\")'

Exits with 3 if a check fails.")]
pub struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Well.
    Ok,
    /// Works, but look at it.
    Warn,
    /// Does not work.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it came out.
    pub state: State,
    /// What was seen.
    pub detail: String,
    /// What to do; empty if all is well.
    pub mend: String,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Finding { check, state: State::Ok, detail: detail.into(), mend: String::new() }
    }

    fn warn(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { check, state: State::Warn, detail: detail.into(), mend: mend.into() }
    }

    fn fail(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { check, state: State::Fail, detail: detail.into(), mend: mend.into() }
    }
}

/// Runs it.
///
/// # Errors
/// If stdout is closed: what is wrong with the set-up is a finding, not an error.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let findings = checks::all(context).await;
    if args.json {
        output::json(&findings)?;
    } else {
        let mut sheet = Sheet::new(&["check", "state", "detail"]);
        for finding in &findings {
            let state = match finding.state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "FAIL",
            };
            sheet.row(&[finding.check, state, &finding.detail]);
            if !finding.mend.is_empty() {
                sheet.row(&["", "", &format!("→ {}", finding.mend)]);
            }
        }
        sheet.print()?;
    }
    let failed = findings.iter().any(|finding| finding.state == State::Fail);
    Ok(if failed { Exit::DoesNotHold } else { Exit::Done })
}
