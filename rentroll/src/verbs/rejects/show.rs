//! `rentroll rejects show`: one reject whole, and what to do.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use clickhouse::Row;
use rentroll_engines::store::Store;
use rentroll_schemas::reject::reason;
use serde::{Deserialize, Serialize};

use super::select::{self, Filter, Kept};
use crate::cli::{Exit, WrongUse};
use crate::output;

/// Bytes in a line of the hexadecimal form.
const LINE_BYTES: usize = 16;

/// What came of a replay.
#[derive(Debug, Row, Serialize, Deserialize)]
struct Replay {
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    replayed_at: DateTime<Utc>,
    outcome: String,
    /// Identity of the event that was appended, hexadecimal; empty for none.
    event: String,
    reason: String,
    field: String,
    detail: String,
}

pub(super) async fn run(store: &Store, id: &str, json: bool) -> anyhow::Result<Exit> {
    let mut found = select::read(store, &Filter::default(), &[id.to_owned()], None, 2).await?;
    let reject = match found.len() {
        1 => found.remove(0),
        0 => return Err(WrongUse(format!("no reject has an id that begins with `{id}`")).into()),
        _ => return Err(WrongUse(format!("more than one id begins with `{id}`: write more of it")).into()),
    };
    let sql = "SELECT replayed_at, toString(outcome) AS outcome, \
               if(event = toFixedString('', 16), '', lower(hex(event))) AS event, toString(reason) AS reason, field, detail \
               FROM replays WHERE reject = unhex({id:String}) ORDER BY replayed_at";
    let query = store.client().query(sql).param("id", &reject.id);
    let replays: Vec<Replay> = query.fetch_all().await.map_err(|error| store.error(error))?;
    match json {
        true => {
            let mut shown = serde_json::json!(reject);
            shown["replays"] =
                serde_json::json!(replays
                .iter()
                .map(|replay| serde_json::json!({
                    "replayed_at": replay.replayed_at, "outcome": replay.outcome, "event": replay.event,
                    "reason": replay.reason, "field": replay.field, "detail": replay.detail,
                }))
                .collect::<Vec<_>>());
            shown["to_do"] = to_do(&reject).into();
            output::json(&shown)?;
        }
        false => output::line(&text(&reject, &replays))?,
    }
    Ok(Exit::Done)
}

fn text(reject: &Kept, replays: &[Replay]) -> String {
    let time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let clean = |text: &str| -> String {
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    };
    let mut out = String::new();
    for (name, value) in [
        ("id", reject.id.clone()),
        ("rejected", time(reject.rejected_at)),
        ("source", reject.source.clone()),
        ("place", reject.place.clone()),
        ("tenant", reject.tenant.clone()),
        ("reason", reject.reason.clone()),
        ("field", reject.field.clone()),
        ("detail", reject.detail.clone()),
    ] {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<9} {}", clean(&value));
        }
    }
    for replay in replays {
        let what = match replay.outcome.as_str() {
            "appended" => format!("appended as event {}", replay.event),
            _ => format!("refused again: {} {} {}", replay.reason, replay.field, replay.detail),
        };
        let _ = writeln!(out, "{:<9} {}, {}", "replayed", time(replay.replayed_at), clean(&what));
    }
    let _ = writeln!(out, "{:<9} {}\n", "to do", to_do(reject));
    let is_text = std::str::from_utf8(&reject.bytes)
        .is_ok_and(|text| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r')));
    match is_text {
        true => out.push_str(&reject.text),
        false => hexadecimal(&mut out, &reject.bytes),
    }
    out
}

/// As `hexdump -C` has it.
fn hexadecimal(out: &mut String, bytes: &[u8]) {
    for (line, some) in bytes.chunks(LINE_BYTES).enumerate() {
        let digits: Vec<String> = some.iter().map(|byte| format!("{byte:02x}")).collect();
        let printable = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' };
        let letters: String = some.iter().map(printable).collect();
        let _ = writeln!(out, "{:08x}  {:<47}  |{letters}|", line * LINE_BYTES, digits.join(" "));
    }
}

fn to_do(reject: &Kept) -> &'static str {
    if reject.replayed_at.is_some() {
        return "nothing: it was replayed";
    }
    match reject.reason.as_str() {
        reason::UNREADABLE => {
            "set the source's format to what it is in the configuration, then `rentroll rejects replay`; a line that \
             is no event at all can stay"
        }
        reason::TOO_LARGE => "only its beginning was kept: send it again in smaller parts",
        reason::TOO_OLD => {
            "if its source is meant to bring old events, declare it a backfill (`backfill = true`), then \
             `rentroll rejects replay`"
        }
        reason::IN_FUTURE => "set the sender's clock right, and send the event again with its true time",
        reason::FORBIDDEN => {
            "give the sender a token for what it sends (`rentroll tokens create`), and send it again"
        }
        reason::IDENTITY_MISMATCH => {
            "a producer writes records under keys, or into partitions, of its own: the key is the identity of the \
             event, and the partition follows from it. `rentroll rejects replay` puts it where it belongs"
        }
        _ => {
            "mend the field named above at the sender, and send the event again; if the rule was wrong, mend that \
              and `rentroll rejects replay`"
        }
    }
}
