//! The JSON Schemas in `json/` are what the types say, and the examples are what the schemas say.
//!
//! After a change of the types: `RENTROLL_WRITE_SCHEMAS=1 cargo test -p rentroll-schemas --test json_schemas`.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::costs::Costs;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::tenant::Tenants;
use schemars::{Schema, schema_for};
use serde_json::Value;

fn schemas() -> [(&'static str, Schema); 4] {
    [
        ("meters", schema_for!(Meters)),
        ("catalogue", schema_for!(Catalogue)),
        ("costs", schema_for!(Costs)),
        ("tenants", schema_for!(Tenants)),
    ]
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("json").join(format!("{name}.schema.json"))
}

fn example(name: &str) -> Value {
    // The example's tenants are client addresses, of whom nothing more is known.
    let folder = if name == "tenants" { "tests" } else { "../examples/access-log" };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn committed_schemas_are_the_generated_ones() {
    for (name, schema) in schemas() {
        let generated = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("RENTROLL_WRITE_SCHEMAS").is_some() {
            std::fs::write(file(name), &generated).unwrap();
        }
        let committed = std::fs::read_to_string(file(name)).unwrap();
        assert!(committed == generated, "{} is stale: see this file's first lines", file(name).display());
    }
}

#[test]
fn examples_are_valid_and_a_planted_fault_is_not() {
    for (name, schema) in schemas() {
        let validator = jsonschema::validator_for(schema.as_value()).unwrap();
        let mut value = example(name);
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}.yaml: {errors:?}");
        value["surprise"] = Value::Bool(true);
        assert!(!validator.is_valid(&value), "{name}: an unknown key is let through");
    }
}

/// The schemas and the reader agree on the examples: what an editor underlines, `config check` refuses.
#[test]
fn examples_hold_the_rules_that_shape_alone_cannot_express() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/access-log");
    let meters = Meters::read(&folder.join("meters.yaml")).unwrap();
    Catalogue::read(&folder.join("catalogue.yaml"), &meters).unwrap();
    let costs = Costs::read(&folder.join("costs.yaml"), &meters).unwrap();
    let spent: rust_decimal::Decimal = costs.pools.iter().map(|pool| pool.amount.0).sum();
    assert_eq!(spent.to_string(), "1700.00");
    Tenants::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tenants.yaml")).unwrap();
}
