//! Digests of inputs: BLAKE3, hexadecimal, over length-prefixed parts.

use rentroll_schemas::catalogue::{Catalogue, Version};
use rentroll_schemas::costs::Costs;

use crate::rating::UsageByMeter;

/// Collects parts; two different lists of parts never look alike.
#[derive(Default)]
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn part(&mut self, text: &str) -> &mut Self {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
        self
    }

    pub(crate) fn hex(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// Of one tenant's usage in a period.
pub(crate) fn usage(totals: &UsageByMeter) -> String {
    let mut digest = Digest::default();
    for (meter, used) in totals {
        digest.part(meter).part(&used.events.to_string()).part(&used.quantity.to_string());
    }
    digest.hex()
}

/// Of a period: its tenants and their digests, in the order of the tenants.
pub(crate) fn tenants<'a>(tenants: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut digest = Digest::default();
    for (tenant, usage) in tenants {
        digest.part(tenant).part(usage);
    }
    digest.hex()
}

/// Of what decides amounts: a catalogue's version, currency and zone. The seller's address is not in it.
pub(crate) fn catalogue(catalogue: &Catalogue, version: &Version) -> String {
    let mut digest = Digest::default();
    digest.part(catalogue.currency.code()).part(catalogue.time_zone.name());
    digest.part(&json(version));
    digest.hex()
}

/// Of the cost pools of one month.
pub(crate) fn costs(costs: &Costs, month: &str) -> String {
    let mut digest = Digest::default();
    digest.part(costs.currency.code());
    for pool in costs.pools.iter().filter(|pool| pool.month == month) {
        digest.part(&json(pool));
    }
    for row in costs.unallocated.iter().filter(|row| row.month == month) {
        digest.part(&json(row));
    }
    digest.hex()
}

fn json(value: &impl serde::Serialize) -> String {
    // Structs of strings, numbers and ordered maps always serialise, and always alike.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&str]| {
            let mut digest = Digest::default();
            for part in parts {
                digest.part(part);
            }
            digest.hex()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
    }
}
