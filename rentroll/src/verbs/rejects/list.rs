//! `rentroll rejects list`.

use rentroll_engines::store::Store;

use super::select::{self, Filter};
use crate::cli::Exit;
use crate::output::{self, Sheet};

/// Letters of an id that are shown: enough to tell some million apart.
const ID_LETTERS: usize = 12;
/// Letters of the bytes that are shown.
const TEXT_LETTERS: usize = 60;

pub(super) async fn run(store: &Store, filter: &Filter, limit: u64, json: bool) -> anyhow::Result<Exit> {
    let kept = select::read(store, filter, &[], None, limit).await?;
    if json {
        output::json(&kept)?;
    } else if kept.is_empty() {
        eprintln!("no rejects");
    } else {
        let headers = [
            "rejected at (UTC)",
            "id",
            "source",
            "tenant",
            "place",
            "reason",
            "field",
            "detail",
            "replayed",
            "bytes",
        ];
        let mut sheet = Sheet::new(&headers);
        for reject in &kept {
            let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M:%S").to_string();
            sheet.row(&[
                time(reject.rejected_at),
                reject.id.chars().take(ID_LETTERS).collect(),
                reject.source.clone(),
                reject.tenant.clone(),
                reject.place.clone(),
                reject.reason.clone(),
                reject.field.clone(),
                reject.detail.clone(),
                reject.replayed_at.map(time).unwrap_or_default(),
                reject.text.chars().take(TEXT_LETTERS).collect(),
            ]);
        }
        sheet.print()?;
        eprintln!("{} rejects; `rentroll rejects show ID` has all of one, --json all bytes", kept.len());
    }
    Ok(Exit::Done)
}
