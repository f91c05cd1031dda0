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
            "SELECT toUnixTimestamp64Milli(rejected_at), toString(source), place, tenant, toString(reason), field, detail, \
             hex(substring(bytes, 1, {{shown:UInt32}})), length(bytes) FROM rejects WHERE {filter} \
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
        let rows: Vec<(i64, String, String, String, String, String, String, String, u64)> =
            query.fetch_all().await?;
        rows.into_iter()
            .map(|(rejected_at, source, place, tenant, reason, field, detail, bytes, size)| {
                Ok(RejectRow {
                    rejected_at: time_ms(rejected_at)?,
                    source,
                    place,
                    tenant,
                    reason,
                    field,
                    detail,
                    bytes: hex::decode(&bytes).map_err(|_| ReadError::unreadable("hexadecimal", &bytes))?,
                    size,
                })
            })
            .collect()
    }
}
