//! Paths into `data`: OpenMeter's `$.meta.kind` is our key `meta.kind`. Pure.

/// What a path may be.
pub(super) const ALLOWED: &str =
    "a path to one value: $.key, $.key.key, $['any key'] or $[\"any key\"]; no arrays, `*`, `..` or filters";

/// The key of a path.
pub(super) fn key(path: &str) -> Option<String> {
    let mut rest = path.strip_prefix('$')?;
    let mut keys: Vec<String> = Vec::new();
    while !rest.is_empty() {
        let (key, after) = match rest.strip_prefix('.') {
            Some(dotted) => {
                let end = dotted.find(|letter: char| !is_plain(letter)).unwrap_or(dotted.len());
                (dotted[..end].to_owned(), &dotted[end..])
            }
            None => quoted(rest.strip_prefix('[')?)?,
        };
        if key.is_empty() {
            return None;
        }
        keys.push(key);
        rest = after;
    }
    (!keys.is_empty()).then(|| keys.join("."))
}

/// `'any key']` and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut letters = text.char_indices();
    let (_, quote) = letters.next().filter(|(_, quote)| matches!(quote, '\'' | '"'))?;
    let mut key = String::new();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                key.push(letters.next().map(|(_, letter)| letter).filter(|letter| "\\'\"".contains(*letter))?)
            }
            letter if letter == quote => return Some((key, text[at + 1..].strip_prefix(']')?)),
            letter => key.push(letter),
        }
    }
    None
}

fn is_plain(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-')
}

/// The path of a key.
pub(super) fn of_key(key: &str) -> String {
    let is_plain = key.split('.').all(|part| !part.is_empty() && part.chars().all(is_plain));
    match is_plain {
        true => format!("$.{key}"),
        false => format!("$['{}']", key.replace('\\', "\\\\").replace('\'', "\\'")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read() {
        for (path, expected) in [
            ("$.tokens", "tokens"),
            ("$.meta.kind", "meta.kind"),
            ("$['any key']", "any key"),
            ("$[\"it's\"]", "it's"),
            ("$.meta['a b'].c", "meta.a b.c"),
            ("$['a\\'b']", "a'b"),
            ("$.größe-2", "größe-2"),
        ] {
            assert_eq!(key(path).as_deref(), Some(expected), "{path}");
        }
        for path in [
            "",
            "$",
            "tokens",
            "$tokens",
            "$.",
            "$..a",
            "$.a.",
            "$.*",
            "$.a[0]",
            "$[*]",
            "$['']",
            "$['a'",
            "$['a]",
            "$[?(@.a)]",
            "$.a b",
            "$['a\\n']",
            "$.a'",
            ".a",
        ] {
            assert_eq!(key(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_path(name in "[^\\x00]{1,12}") {
            prop_assert_eq!(key(&of_key(&name)), Some(name));
        }
    }
}
