//! What a token lets its holder do. [`Grant::sends`], [`Grant::reads`] and [`Grant::manages`] say it; whoever opens a
//! door asks them, and not for the kind.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{SOURCE_BYTES_MAX, is_source};
use crate::event::NAME_BYTES_MAX;
use crate::meter::is_name;

/// Most meters that a portal's token can be bound to: a longer list is all of them, or several tokens.
pub const METERS_MAX: usize = 100;

/// What a token lets its holder do.
// A field that is not known is refused: passed over, a misspelt `meters` would open all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Grant {
    /// Send events of one tenant, and read its usage.
    Tenant {
        /// The tenant.
        tenant: String,
    },
    /// Send events of any tenant, whose `source` is this name or begins with it and a `/`. Read nothing.
    Source {
        /// The name.
        source: String,
        /// A declared backfill: times may be older than the window.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        backfill: bool,
    },
    /// Everything that the API has: usage of all tenants, meters, the registry of tenants, tokens of portals.
    Admin {
        /// Also send events, as the trusted source of this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// Read everything, and change nothing.
    Service {
        /// Also send events, as the trusted source of this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// Read the usage of one tenant; for its users' browsers.
    Portal {
        /// The tenant.
        tenant: String,
        /// Of these meters; of all if there are none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        meters: Vec<String>,
    },
}

/// Whose events a token sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends<'a> {
    /// Nobody's.
    Nothing,
    /// Those of this tenant, under any `source` that is not a trusted one.
    Tenant(&'a str),
    /// Those of all tenants, under the name of this trusted source.
    Source {
        /// The name.
        name: &'a str,
        /// Whether times may be older than the window.
        backfill: bool,
    },
}

/// Whose usage a token reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads<'a> {
    /// Nobody's.
    Nothing,
    /// That of this tenant.
    Tenant {
        /// The tenant.
        tenant: &'a str,
        /// Of these meters; of all if there are none.
        meters: &'a [String],
    },
    /// That of all tenants.
    All,
}

impl Reads<'_> {
    /// Whether the usage of `meter` may be read, for some tenant at least.
    pub fn has_meter(&self, meter: &str) -> bool {
        match self {
            Reads::Nothing => false,
            Reads::Tenant { meters, .. } => meters.is_empty() || meters.iter().any(|one| one == meter),
            Reads::All => true,
        }
    }
}

impl Grant {
    /// Whose events it sends.
    pub fn sends(&self) -> Sends<'_> {
        match self {
            Grant::Tenant { tenant } => Sends::Tenant(tenant),
            Grant::Source { source, backfill } => Sends::Source { name: source, backfill: *backfill },
            Grant::Admin { source: Some(name) } | Grant::Service { source: Some(name) } => {
                Sends::Source { name, backfill: false }
            }
            Grant::Admin { source: None } | Grant::Service { source: None } | Grant::Portal { .. } => {
                Sends::Nothing
            }
        }
    }

    /// Whose usage it reads.
    pub fn reads(&self) -> Reads<'_> {
        match self {
            Grant::Tenant { tenant } => Reads::Tenant { tenant, meters: &[] },
            Grant::Portal { tenant, meters } => Reads::Tenant { tenant, meters },
            Grant::Source { .. } => Reads::Nothing,
            Grant::Admin { .. } | Grant::Service { .. } => Reads::All,
        }
    }

    /// Whether it changes what the API keeps: meters, the registry of tenants, tokens of portals.
    pub fn manages(&self) -> bool {
        matches!(self, Grant::Admin { .. })
    }

    /// The one tenant that it is bound to.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Grant::Tenant { tenant } | Grant::Portal { tenant, .. } => Some(tenant),
            Grant::Source { .. } | Grant::Admin { .. } | Grant::Service { .. } => None,
        }
    }

    /// The trusted source that it is. No tenant may use the name.
    pub fn source(&self) -> Option<&str> {
        match self.sends() {
            Sends::Source { name, .. } => Some(name),
            Sends::Tenant(_) | Sends::Nothing => None,
        }
    }

    /// Whether tenant, source and meters can be such.
    ///
    /// # Errors
    /// (field, reason).
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.tenant().is_some_and(|tenant| tenant.is_empty() || tenant.len() > NAME_BYTES_MAX) {
            return Err(("tenant", format!("must be 1 to {NAME_BYTES_MAX} bytes")));
        }
        if self.source().is_some_and(|source| !is_source(source)) {
            let reason = format!("must be 1 to {SOURCE_BYTES_MAX} bytes, without `/` and control characters");
            return Err(("source", reason));
        }
        let Grant::Portal { meters, .. } = self else { return Ok(()) };
        if let Some(wrong) = meters.iter().find(|meter| !is_name(meter)) {
            return Err(("meters", format!("`{wrong}` cannot be a meter's name")));
        }
        if meters.len() > METERS_MAX {
            return Err(("meters", format!("{} of them, at most {METERS_MAX}", meters.len())));
        }
        Ok(())
    }
}

impl fmt::Display for Grant {
    /// For whom it speaks: `tenant acme`, `admin (source edge)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Tenant { tenant } => write!(f, "tenant {tenant}"),
            Grant::Source { source, backfill: false } => write!(f, "source {source}"),
            Grant::Source { source, backfill: true } => write!(f, "source {source} (backfill)"),
            Grant::Admin { source: None } => f.write_str("admin"),
            Grant::Admin { source: Some(source) } => write!(f, "admin (source {source})"),
            Grant::Service { source: None } => f.write_str("service"),
            Grant::Service { source: Some(source) } => write!(f, "service (source {source})"),
            Grant::Portal { tenant, meters } if meters.is_empty() => write!(f, "portal {tenant}"),
            Grant::Portal { tenant, meters } => write!(f, "portal {tenant} ({})", meters.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: Option<&str>) -> Option<String> {
        source.map(str::to_owned)
    }

    #[test]
    fn each_kind_may_what_it_is_for_and_nothing_else() {
        let meters = vec!["bytes".to_owned()];
        let acme = || "acme".to_owned();
        let edge = |backfill| Sends::Source { name: "edge", backfill };
        let all: &[String] = &[];
        for (grant, sends, reads, manages, said) in [
            (
                Grant::Tenant { tenant: acme() },
                Sends::Tenant("acme"),
                Reads::Tenant { tenant: "acme", meters: all },
                false,
                "tenant acme",
            ),
            (
                Grant::Source { source: "edge".into(), backfill: true },
                edge(true),
                Reads::Nothing,
                false,
                "source edge (backfill)",
            ),
            (Grant::Admin { source: None }, Sends::Nothing, Reads::All, true, "admin"),
            (
                Grant::Admin { source: named(Some("edge")) },
                edge(false),
                Reads::All,
                true,
                "admin (source edge)",
            ),
            (Grant::Service { source: None }, Sends::Nothing, Reads::All, false, "service"),
            (
                Grant::Service { source: named(Some("edge")) },
                edge(false),
                Reads::All,
                false,
                "service (source edge)",
            ),
            (
                Grant::Portal { tenant: acme(), meters: meters.clone() },
                Sends::Nothing,
                Reads::Tenant { tenant: "acme", meters: &meters },
                false,
                "portal acme (bytes)",
            ),
        ] {
            assert_eq!(
                (grant.sends(), grant.reads(), grant.manages(), grant.to_string().as_str()),
                (sends, reads, manages, said)
            );
        }
    }

    #[test]
    fn a_portal_reads_its_meters_alone_and_without_a_list_all_of_them() {
        let portal = |meters: &[&str]| Grant::Portal {
            tenant: "acme".into(),
            meters: meters.iter().map(|meter| (*meter).to_owned()).collect(),
        };
        assert!(portal(&[]).reads().has_meter("bytes"));
        assert!(portal(&["bytes"]).reads().has_meter("bytes"));
        assert!(!portal(&["bytes"]).reads().has_meter("requests"));
        assert!(!Grant::Source { source: "edge".into(), backfill: false }.reads().has_meter("bytes"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (grant, field) in [
            (Grant::Tenant { tenant: String::new() }, "tenant"),
            (Grant::Portal { tenant: "x".repeat(NAME_BYTES_MAX + 1), meters: vec![] }, "tenant"),
            (Grant::Admin { source: named(Some("a/b")) }, "source"),
            (Grant::Service { source: named(Some("")) }, "source"),
            (Grant::Portal { tenant: "acme".into(), meters: vec!["a b".into()] }, "meters"),
            (Grant::Portal { tenant: "acme".into(), meters: vec!["a".into(); METERS_MAX + 1] }, "meters"),
        ] {
            assert_eq!(grant.check().unwrap_err().0, field, "{grant}");
        }
        Grant::Portal { tenant: "acme".into(), meters: vec!["a".into(), "b".into()] }.check().unwrap();
    }
}
