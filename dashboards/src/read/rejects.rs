//! Rejects, by reason and newest first. One identity is one reject, however often it was refused.

use super::{ReadError, Reader, time_ms};
use crate::pages::rejects::{BYTES_SHOWN, ReasonCount, RejectRow};

impl Reader {
    /// How many have which reason, most first.
    pub async fn reject_reasons(&self) -> Result<Vec<ReasonCount>, ReadError> {
        let sql = "SELECT toString(reason), uniqExact(identity) AS rejects, toUnixTimestamp64Milli(max(rejected_at)) \
                   FROM rejects GROUP BY reason ORDER BY rejects DESC, reason";
        let rows: Vec<(String, u64, i64)> = self.query(sql).fetch_all().await?;
        rows.into_iter()
            .map(|(reason, count, newest)| Ok(ReasonCount { reason, count, newest: time_ms(newest)? }))
            .collect()
    }

    /// Rows `offset` to `offset + limit`, newest first.
    pub async fn reject_rows(
        &self,
        reason: Option<&str>,
        (offset, limit): (u64, u64),
    ) -> Result<Vec<RejectRow>, ReadError> {
        let filter = if reason.is_some() { "reason = {reason:String}" } else { "1" };
        // Bytes travel as hexadecimal: they are often not UTF-8, that being why they are here.
        let sql = format!(
            "SELECT toUnixTimestamp64Milli(rejected_at) AS rejected_ms, toString(source) AS source_text, place, tenant, \
             toString(reason) AS reason_text, field, detail, hex(substring(bytes, 1, {{shown:UInt32}})) AS bytes_hex, \
             length(bytes) AS size FROM rejects WHERE {filter} \
             ORDER BY rejected_at DESC, source, place, identity LIMIT 1 BY identity LIMIT {{offset:UInt64}}, {{limit:UInt64}}"
        );
        let query = self
            .query(&sql)
            .param("shown", BYTES_SHOWN as u32 + 1)
            .param("offset", offset)
            .param("limit", limit);
        let query = match reason {
            Some(reason) => query.param("reason", reason),
            None => query,
        };
        let rows: Vec<RawReject> = query.fetch_all().await?;
        rows.into_iter().map(RejectRow::try_from).collect()
    }
}

/// A reject as it comes from the store.
#[derive(clickhouse::Row, serde::Deserialize)]
struct RawReject {
    rejected_ms: i64,
    source_text: String,
    place: String,
    tenant: String,
    reason_text: String,
    field: String,
    detail: String,
    bytes_hex: String,
    size: u64,
}

impl TryFrom<RawReject> for RejectRow {
    type Error = ReadError;

    fn try_from(raw: RawReject) -> Result<Self, ReadError> {
        Ok(RejectRow {
            rejected_at: time_ms(raw.rejected_ms)?,
            source: raw.source_text,
            place: raw.place,
            tenant: raw.tenant,
            reason: raw.reason_text,
            field: raw.field,
            detail: raw.detail,
            bytes: hex::decode(&raw.bytes_hex)
                .map_err(|_| ReadError::unreadable("hexadecimal", &raw.bytes_hex))?,
            size: raw.size,
        })
    }
}
