//! The house: dependencies point one way.

use std::collections::BTreeMap;
use std::path::Path;

/// What each crate may use. `rentroll` may use all.
const MAY_USE: [(&str, &[&str]); 6] = [
    ("schemas", &[]),
    ("engines", &["schemas"]),
    ("collector", &["schemas", "engines"]),
    ("aggregator", &["schemas", "engines"]),
    ("billing", &["schemas", "engines"]),
    ("dashboards", &["schemas", "engines"]),
];

#[test]
fn dependencies_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut used = BTreeMap::new();
    for (name, _) in MAY_USE {
        let text = std::fs::read_to_string(root.join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&text).unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        let own: Vec<String> =
            dependencies.keys().filter_map(|key| key.strip_prefix("rentroll-")).map(str::to_owned).collect();
        used.insert(name, own);
    }
    for (name, allowed) in MAY_USE {
        for other in &used[name] {
            assert!(allowed.contains(&other.as_str()), "{name} must not use {other}");
        }
    }
}
