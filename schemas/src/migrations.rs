//! The store's schema, as numbered migrations. The engines crate applies them; this is only their text.

/// One step of the schema. A released step is never edited: its checksum is in every store.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Steps are applied in this order, from 1, without gaps.
    pub version: u32,
    /// What it is about, the file's name.
    pub name: &'static str,
    /// Statements, separated by `;` at a line's end.
    pub sql: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../migrations/", $name, ".sql")),
        }
    };
}

/// Every step, in order.
pub const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_core"),
    migration!(2, "0002_billing"),
    migration!(3, "0003_exact"),
    migration!(4, "0004_proof"),
    migration!(5, "0005_reject_backfill"),
    migration!(6, "0006_merges"),
    migration!(7, "0007_rollups"),
    migration!(8, "0008_usage_views"),
    migration!(9, "0009_event_ids"),
    migration!(10, "0010_log_topic"),
    migration!(11, "0011_meters"),
    migration!(12, "0012_partitions"),
    migration!(13, "0013_months_of_days"),
];

impl Migration {
    /// BLAKE3 of the text, hexadecimal: an edited step is found by it.
    pub fn checksum(&self) -> String {
        blake3::hash(self.sql.as_bytes()).to_hex().to_string()
    }

    /// The statements, without comments and empty ones.
    pub fn statements(&self) -> impl Iterator<Item = &'static str> {
        self.sql.split(";\n").map(str::trim).filter(|statement| {
            statement.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_contiguous_and_match_the_file_names() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)));
            assert!(migration.statements().count() > 0);
        }
    }
}
