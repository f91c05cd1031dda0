//! What the overview shows beside totals, charts and tenants.

use chrono::{DateTime, Utc};

use super::{ReadError, Reader, time_s};
use crate::pages::overview::Books;

impl Reader {
    /// What became of everything taken from the log, over all time.
    pub async fn books(&self) -> Result<Books, ReadError> {
        let sql = "SELECT sum(t.accepted), sum(t.stored), sum(t.duplicate), sum(t.rejected) \
                   FROM (SELECT arrayJoin(tallies) AS t FROM batches FINAL WHERE state = 1)";
        let (accepted, stored, duplicate, rejected): (u64, u64, u64, u64) =
            self.query(sql).fetch_one().await?;
        Ok(Books { accepted, stored, duplicate, rejected })
    }

    /// The minute of the newest usage; `None` before the first.
    pub async fn newest_usage(&self) -> Result<Option<DateTime<Utc>>, ReadError> {
        // The newest day is found in the smallest table, and bounds what is read of the largest.
        let sql = "SELECT toUnixTimestamp(max(bucket)), count() FROM usage_minute \
                   WHERE bucket >= (SELECT max(bucket) FROM usage_day)";
        let (newest, count): (u32, u64) = self.query(sql).fetch_one().await?;
        Ok((count > 0).then(|| time_s(newest)))
    }

    /// How many rejects are kept.
    pub async fn reject_count(&self) -> Result<u64, ReadError> {
        Ok(self.query("SELECT uniqExact(identity) FROM rejects").fetch_one().await?)
    }
}
