//! Which events count: the words of SQL for it, in one place.
//!
//! Corrections are events that name an earlier one ([`Correction`](crate::event::Correction)). What counts is set
//! algebra over what is stored, whatever came first:
//! - a correction is **in force** unless a `voids` that is in force names it;
//! - an event **counts** unless a correction that is in force names it;
//! - a `voids` event itself counts nothing; an `amends` event counts as the event that it is.
//!
//! So a void that is voided gives its event back, as does an amendment that is voided. An amendment that is amended
//! is replaced, and what it replaced stays replaced: the newest of a chain of amendments counts, and it alone.
//!
//! Voids of voids are followed [`DEPTH`] deep; what lies deeper is taken to be in force.
//!
//! Of several rows of one identity the one that arrived first counts: [`FIRST_OF_IDENTITY`].

/// How deep voids of corrections are followed. Each level is a look at the rows that are corrections, which are few and
/// found by an index.
pub const DEPTH: usize = 4;

/// Puts a query of `events` in order so that of several rows with one identity the one that arrived first is left.
pub const FIRST_OF_IDENTITY: &str = "ORDER BY identity_high, identity_low, arrived_at, log_partition, log_batch LIMIT 1 BY identity_high, identity_low";

/// A query of `columns` of the corrections that are in force. `scope` as in [`cancelled_sql`].
pub fn in_force_sql(columns: &str, scope: &str) -> String {
    let named = |in_force: &str| {
        format!("SELECT {NAMED} FROM events WHERE correction = 'voids' AND {scope}{in_force}")
    };
    let not_among = |sql: &str| format!(" AND (identity_high, identity_low) NOT IN ({sql})");
    let mut voided = named("");
    for _ in 2..DEPTH {
        voided = named(&not_among(&voided));
    }
    format!("SELECT {columns} FROM events WHERE correction != 'none' AND {scope}{}", not_among(&voided))
}

/// The identity that a correction names, as (high, low).
const NAMED: &str =
    "reinterpretAsUInt64(substring(corrects, 1, 8)), reinterpretAsUInt64(substring(corrects, 9, 8))";

/// A query of the identities, as (high, low), that a correction in force names. `scope` is a condition that an event
/// and its corrections share, such as `tenant = {tenant:String}`, or `1`.
pub fn cancelled_sql(scope: &str) -> String {
    in_force_sql(NAMED, scope)
}

/// The condition that a row of `events` counts, apart from rows with the same identity. `scope` as in
/// [`cancelled_sql`].
pub fn condition_sql(scope: &str) -> String {
    format!("correction != 'voids' AND (identity_high, identity_low) NOT IN ({})", cancelled_sql(scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_within_the_scope() {
        let sql = condition_sql("tenant = {tenant:String}");
        assert_eq!(sql.matches("tenant = {tenant:String}").count(), DEPTH);
        assert_eq!(sql.matches("NOT IN").count(), DEPTH);
    }
}
