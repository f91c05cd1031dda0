//! Whose usage may be seen: the one place where the tenant filter is applied.
//!
//! Every statement of [`super`] gets its tables from [`Scope::table`], which gives none but those rows that may be seen. A test reads
//! the sources and finds no other table. The condition is one on the column that each sort key has first, or behind the few lists of
//! meters: the store moves it into the reading of the table.

use rentroll_schemas::effective;

/// Whose usage may be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// That of all tenants.
    #[default]
    All,
    /// That of one tenant.
    Tenant {
        /// The tenant.
        tenant: String,
        /// Only these meters; empty for all. With some, events that none of them counts are not seen either.
        meters: Vec<String>,
    },
}

/// Tables that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Events,
    Minutes,
    Hours,
    Days,
    /// What holds of each tenant from when on.
    TenantVersions,
    Rejects,
    Conflicts,
    /// When batches were stored.
    Batches,
    /// How many events there are, and when the newest arrived.
    Arrivals,
    /// What the rollups and the registry of tenants are stored in: tells whether anything changed.
    Parts,
    /// The lists of meters that the rollups have, or most of them: those at which a granule begins.
    Lists,
}

impl Table {
    /// As the store calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Events | Table::Arrivals => "events",
            Table::Minutes => "rollup_minute",
            Table::Hours => "rollup_hour",
            Table::Days | Table::Lists => "rollup_day",
            Table::TenantVersions => "tenant_versions",
            Table::Rejects => "rejects",
            Table::Conflicts => "conflicts",
            Table::Batches => "batches",
            Table::Parts => "system.parts",
        }
    }
}

/// The table that [`Table::TenantVersions`] is a view of.
pub(super) const REGISTRY: &str = "tenants";

/// The parameter of the condition, bound by [`Scope::tenant_of_condition`].
pub(super) const SCOPE_TENANT: &str = "scope_tenant";
const OF_TENANT: &str = "tenant = {scope_tenant:String}";

impl Scope {
    /// That of one tenant, in all meters.
    pub fn tenant(tenant: impl Into<String>) -> Scope {
        Scope::Tenant { tenant: tenant.into(), meters: Vec::new() }
    }

    /// Whether a meter of that name may be seen.
    pub fn shows_meter(&self, name: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Tenant { meters, .. } => meters.is_empty() || meters.iter().any(|meter| meter == name),
        }
    }

    /// Whether all meters may be seen, and with them what none of them counts.
    pub(super) fn shows_all_meters(&self) -> bool {
        match self {
            Scope::All => true,
            Scope::Tenant { meters, .. } => meters.is_empty(),
        }
    }

    /// The value of [`SCOPE_TENANT`], where the condition is made of it.
    pub(super) fn tenant_of_condition(&self) -> Option<&str> {
        match self {
            Scope::All => None,
            Scope::Tenant { tenant, .. } => Some(tenant),
        }
    }

    /// The rows of a table that may be seen, to be put behind FROM or JOIN.
    pub(super) fn table(&self, table: Table) -> String {
        let (columns, name) = match table {
            Table::Events => ("*, id, identity, measures, dimensions", table.name()),
            Table::Minutes | Table::Hours | Table::Days | Table::TenantVersions | Table::Conflicts => {
                ("*", table.name())
            }
            Table::Rejects => ("*", "rejects FINAL"),
            // Nothing in them is a tenant's: of what is seen of events, the place in the log leads to the time.
            Table::Batches => {
                return format!(
                    "(SELECT topic, partition, first, written_at FROM {} WHERE state = 1)",
                    table.name()
                );
            }
            // One time of the whole store: how fresh it is.
            Table::Arrivals => {
                return format!(
                    "(SELECT count() AS events, max(arrived_at) AS newest FROM {})",
                    table.name()
                );
            }
            Table::Parts => {
                return format!(
                    "(SELECT table, partition, cityHash64(name, modification_time, bytes_on_disk) AS stamp \
                     FROM {} WHERE active AND database = currentDatabase() \
                     AND table IN ('{}', '{}', '{}', '{}'))",
                    table.name(),
                    Table::Minutes.name(),
                    Table::Hours.name(),
                    Table::Days.name(),
                    REGISTRY
                );
            }
            Table::Lists => return format!("mergeTreeIndex(currentDatabase(), {})", table.name()),
        };
        match self {
            Scope::All if table == Table::Rejects => format!("(SELECT {columns} FROM {name})"),
            Scope::All => name.to_owned(),
            Scope::Tenant { .. } => format!("(SELECT {columns} FROM {name} WHERE {OF_TENANT})"),
        }
    }

    /// A query of the lists of meters that a condition on them holds of: names, and nothing of a tenant's.
    pub(super) fn lists_where(&self, condition: &str) -> String {
        let each = [Table::Days, Table::Hours, Table::Minutes]
            .map(|table| format!("SELECT DISTINCT meters FROM {} WHERE {condition}", table.name()));
        format!("SELECT DISTINCT meters FROM ({})", each.join(" UNION ALL "))
    }

    /// The condition that a row of `events` counts, by the corrections that may be seen: a tenant's events are corrected by none but
    /// its own. `further` is a condition on the columns that an event and its corrections share.
    pub(super) fn counts(&self, further: &str) -> String {
        effective::condition_sql(&self.shared(further))
    }

    /// A query of `columns` of the corrections that are in force.
    pub(super) fn corrections(&self, columns: &str, further: &str) -> String {
        effective::in_force_sql(columns, &self.shared(further))
    }

    fn shared(&self, further: &str) -> String {
        match self {
            Scope::All => further.to_owned(),
            Scope::Tenant { .. } => format!("{OF_TENANT} AND {further}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TABLES: [Table; 11] = [
        Table::Events,
        Table::Minutes,
        Table::Hours,
        Table::Days,
        Table::TenantVersions,
        Table::Rejects,
        Table::Conflicts,
        Table::Batches,
        Table::Arrivals,
        Table::Parts,
        Table::Lists,
    ];

    #[test]
    fn every_table_of_a_tenant_is_its_own() {
        let scope = Scope::tenant("acme");
        for table in TABLES {
            let sql = scope.table(table);
            let is_of_nobody =
                matches!(table, Table::Batches | Table::Arrivals | Table::Parts | Table::Lists);
            assert!(is_of_nobody || sql.ends_with(" WHERE tenant = {scope_tenant:String})"), "{sql}");
        }
        assert_eq!(scope.counts("1").matches(OF_TENANT).count(), effective::DEPTH);
        assert_eq!(scope.corrections("id", "1").matches(OF_TENANT).count(), effective::DEPTH);
    }

    /// What stands behind FROM and JOIN in a text of this module is a query, a table of [`Scope::table`], or a table function
    /// that reads no table.
    fn stray_tables(source: &str) -> Vec<String> {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let mut stray = Vec::new();
        for word in ["FROM", "JOIN"] {
            for (at, _) in code.match_indices(word) {
                let is_word =
                    !code[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_');
                let rest = code[at + word.len()..].trim_start_matches([' ', '\\', '\n', '"', ',']);
                if is_word && !rest.starts_with(['(', '{']) {
                    stray.push(rest.chars().take(40).collect());
                }
            }
        }
        stray
    }

    fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn no_other_place_names_a_table() {
        let mut found = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/usage"), &mut found);
        assert!(found.len() > 5, "{}", found.len());
        for (path, source) in found.iter().filter(|(path, _)| !path.ends_with("scope.rs")) {
            assert_eq!(stray_tables(source), Vec::<String>::new(), "{path}");
            for table in ["rollup_", "usage_minute", "usage_hour", "usage_day", "tenant_versions"] {
                assert!(!source.contains(&format!(" {table}")), "{path} names {table}");
            }
            for clause in [".client()", "query_raw"] {
                assert!(
                    !source.contains(clause) || path.ends_with("ask.rs"),
                    "{path} asks the store itself: {clause}"
                );
            }
        }
        assert_eq!(stray_tables("x FROM events WHERE"), ["events WHERE"]);
        assert_eq!(stray_tables("x FROM {table} JOIN (SELECT"), Vec::<String>::new());
    }
}
