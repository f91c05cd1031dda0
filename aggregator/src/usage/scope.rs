//! Whose usage may be seen: the one place where the tenant filter is applied.

/// Whose usage may be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
}
