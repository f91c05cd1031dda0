//! `rentroll rejects replay`: judged again, appended, noted.

use anyhow::Context as _;
use chrono::Utc;
use rentroll_collector::format::Refusal;
use rentroll_collector::replay::{Rules, judge};
use rentroll_engines::log::embedded::door::Door;
use rentroll_engines::log::{LogError, Record, SharedLog};
use rentroll_engines::store::Store;
use rentroll_schemas::topics::Topic;
use serde::Serialize;

use super::select::{self, Filter, Kept, Named};
use crate::cli::{Exit, WrongUse};
use crate::config::{Config, LogKind};
use crate::context;
use crate::output::{self, Sheet, grouped};

/// Rejects that are appended and noted together.
const AT_ONCE: u64 = 1_000;
/// Refusals that are shown; all are counted.
const SHOWN_MAX: usize = 50;

/// What to replay, and how.
pub(super) struct Order {
    pub(super) ids: Vec<String>,
    pub(super) filter: Filter,
    pub(super) again: bool,
    pub(super) dry_run: bool,
    pub(super) json: bool,
}

/// What came of one.
#[derive(Debug, Serialize)]
struct Verdict {
    id: String,
    source: String,
    place: String,
    outcome: &'static str,
    /// Identity of the event, hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    event: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// The way into the log: our own, or that of the process that holds it.
enum Way {
    Own(SharedLog),
    Door(Door),
}

impl Way {
    async fn find(config: &Config) -> anyhow::Result<Way> {
        let for_opening = config.clone();
        match tokio::task::spawn_blocking(move || context::event_log(&for_opening)).await? {
            Ok(log) => Ok(Way::Own(log)),
            Err(error) => match (config.log.kind, error.downcast_ref()) {
                (LogKind::Embedded, Some(LogError::InUse { .. })) => {
                    Ok(Way::Door(Door::of(&config.data_dir().join("log"))))
                }
                _ => Err(error),
            },
        }
    }

    async fn append(&self, records: Vec<Record>) -> Result<(), LogError> {
        match self {
            Way::Own(log) => log.append(Topic::Usage, records).await,
            Way::Door(door) => door.append(Topic::Usage, &records).await,
        }
    }
}

pub(super) async fn run(config: &Config, store: &Store, order: Order) -> anyhow::Result<Exit> {
    let Order { ids, mut filter, again, dry_run, json } = order;
    if ids.is_empty() && filter.is_empty() {
        return Err(WrongUse(
            "say which: ids, or filters such as --source or --open (all that are not replayed)".into(),
        )
        .into());
    }
    let repeats = again && !filter.open;
    filter.open = false;
    let named = select::named(store, &filter, &ids).await?;
    let (before, to_do): (Vec<Named>, Vec<Named>) =
        named.into_iter().partition(|named| named.replayed_at.is_some() && !repeats);
    let is_in_vain = !before.is_empty() && to_do.is_empty();
    let ids: Vec<String> = to_do.into_iter().map(|named| named.id).collect();
    filter.open = !repeats;
    let rules = rules(config)?;
    let verdicts = match (is_in_vain, dry_run) {
        // Without ids it would be all rejects.
        (true, _) => Vec::new(),
        (false, true) => all(store, &filter, &ids, &rules, None).await?,
        (false, false) => all(store, &filter, &ids, &rules, Some(&Way::find(config).await?)).await?,
    };
    report(&verdicts, &before, dry_run, json)?;
    let all_good = verdicts.iter().all(|verdict| verdict.outcome == "appended");
    Ok(if all_good && !is_in_vain { Exit::Done } else { Exit::DoesNotHold })
}

/// Judges all that are selected; what is good is appended and noted, if there is a way.
async fn all(
    store: &Store,
    filter: &Filter,
    ids: &[String],
    rules: &Rules,
    way: Option<&Way>,
) -> anyhow::Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    let mut last: Option<Kept> = None;
    loop {
        let kept = select::read(store, filter, ids, last.as_ref(), AT_ONCE).await?;
        if kept.is_empty() {
            return Ok(verdicts);
        }
        let mut records = Vec::new();
        let mut of_chunk = Vec::new();
        for reject in &kept {
            let judged = judge(&reject.reject(), rules);
            of_chunk.push(verdict(reject, &judged));
            records.extend(judged.ok());
        }
        if let Some(way) = way {
            way.append(records)
                .await
                .context("cannot append to the event log; nothing of this part was noted")?;
            note(store, &kept, &of_chunk).await?;
        }
        verdicts.extend(of_chunk);
        last = kept.into_iter().last();
    }
}

fn rules(config: &Config) -> anyhow::Result<Rules> {
    let tokens = context::tokens(config)?;
    // As the door that they came by has it.
    let reserved = config.collector.http.reserved().cloned().collect();
    Rules::new(&config.collector.sources, tokens, reserved, Utc::now())
        .map_err(|(field, reason)| anyhow::anyhow!("collector.sources: {field}: {reason}"))
}

fn verdict(reject: &Kept, judged: &Result<Record, Refusal>) -> Verdict {
    let (event, refusal) = match judged {
        Ok(record) => (record.key.to_string(), None),
        Err(refusal) => (String::new(), Some(refusal)),
    };
    Verdict {
        id: reject.id.clone(),
        source: reject.source.clone(),
        place: reject.place.clone(),
        outcome: if refusal.is_none() { "appended" } else { "refused" },
        event,
        reason: refusal.map(|refusal| refusal.reason.to_owned()).unwrap_or_default(),
        field: refusal.map(|refusal| refusal.field.clone()).unwrap_or_default(),
        detail: refusal.map(|refusal| refusal.detail.clone()).unwrap_or_default(),
    }
}

/// Notes what came of it, after the append: a crash in between replays again, and that counts nothing twice.
async fn note(store: &Store, kept: &[Kept], verdicts: &[Verdict]) -> anyhow::Result<()> {
    let replayed_at = Utc::now().timestamp_millis();
    let mut body = Vec::new();
    let text = |body: &mut Vec<u8>, text: &str| {
        let mut length = text.len();
        while length >= 0x80 {
            body.push(length as u8 | 0x80);
            length >>= 7;
        }
        body.push(length as u8);
        body.extend_from_slice(text.as_bytes());
    };
    for (reject, verdict) in kept.iter().zip(verdicts) {
        let Some(identity) = reject.identity() else { continue };
        let event = rentroll_schemas::Identity::from_hex(&verdict.event).map_or([0; 16], |event| event.0);
        body.extend_from_slice(&identity.0);
        body.extend_from_slice(&replayed_at.to_le_bytes());
        text(&mut body, verdict.outcome);
        body.extend_from_slice(&event);
        text(&mut body, &verdict.reason);
        text(&mut body, &verdict.field);
        text(&mut body, &verdict.detail);
    }
    let columns = ["reject", "replayed_at", "outcome", "event", "reason", "field", "detail"];
    Ok(store.insert("replays", &columns, "RowBinary", body.into(), None).await?)
}

fn report(verdicts: &[Verdict], before: &[Named], dry_run: bool, json: bool) -> anyhow::Result<()> {
    let refused: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.outcome == "refused").collect();
    let good = verdicts.len() - refused.len();
    if json {
        return output::json(&serde_json::json!({
            "dry_run": dry_run, "appended": good, "refused": refused.len(), "verdicts": verdicts,
            "replayed_before": before,
        }));
    }
    if !refused.is_empty() {
        let mut sheet = Sheet::new(&["refused again", "source", "place", "reason", "field", "detail"]);
        for verdict in refused.iter().take(SHOWN_MAX) {
            let id: String = verdict.id.chars().take(12).collect();
            sheet.row(&[
                &id,
                &verdict.source,
                &verdict.place,
                &verdict.reason,
                &verdict.field,
                &verdict.detail,
            ]);
        }
        sheet.print()?;
        if refused.len() > SHOWN_MAX {
            output::line(&format!("and {} more", grouped(&(refused.len() - SHOWN_MAX).to_string())))?;
        }
    }
    for named in before.iter().take(SHOWN_MAX) {
        let at = named.replayed_at.unwrap_or_default().format("%Y-%m-%d %H:%M:%S UTC");
        let id: String = named.id.chars().take(12).collect();
        eprintln!("{id} was replayed before, {at}; --again replays it once more");
    }
    let before = match before.len() {
        0 => String::new(),
        count => format!(", {} replayed before", grouped(&count.to_string())),
    };
    let (good, refused) = (grouped(&good.to_string()), grouped(&refused.len().to_string()));
    let word = if dry_run { "would be appended" } else { "appended to the event log" };
    eprintln!("{good} {word}, {refused} refused again{before}");
    Ok(())
}
