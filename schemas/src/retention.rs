//! How long rows are kept.

/// Months after their arrival for which raw events are kept: the TTL of `events`. What is older can no longer be
/// compared with anything that was made of it.
pub const EVENTS_KEPT_MONTHS: u32 = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_the_newest_definition_of_the_table_says() {
        let ttl = "TTL toDateTime(arrived_at) + INTERVAL ";
        let texts: String = crate::migrations::MIGRATIONS.iter().map(|migration| migration.sql).collect();
        let (_, newest) = texts.rsplit_once(ttl).unwrap();
        assert!(newest.starts_with(&format!("{EVENTS_KEPT_MONTHS} MONTH")), "{newest:.60}");
    }
}
