//! Handlers have usage through a reader alone, whose scope comes from the token: what the compiler holds for fields that are
//! private, this holds for the rest.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
}

#[test]
fn only_the_gate_makes_scopes_and_nobody_else_holds_usage() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../aggregator/src");
    let mut found = Vec::new();
    for face in ["api", "openmeter"] {
        if root.join(face).exists() {
            sources(&root.join(face), &mut found);
        }
    }
    assert!(found.len() > 10, "{found:?}");
    for path in found {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let has = |word: &str| code.iter().any(|line| line.contains(word));
        if name.starts_with("api/gate/") {
            continue;
        }
        // Without the first, a scope that somebody made would be of no use to him.
        for word in [".scoped(", "Scope::tenant(", "Scope::default", "with_limits("] {
            assert!(!has(word), "{name}: `{word}` is the gate's alone");
        }
        // Statements are those of the engine, which gets its tables from a scope.
        for word in [".client()", "SELECT "] {
            assert!(!has(word), "{name}: `{word}` goes around the scope");
        }
        // The set-up passes it on to the gate, and has no handler.
        let is_setup = matches!(name.as_str(), "api/mod.rs");
        assert!(is_setup || !has("Usage::") && !has("usage: Usage"), "{name}: usage without a scope");
    }
}
