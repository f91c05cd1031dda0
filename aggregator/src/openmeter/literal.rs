//! Values as Python prints them: its SDK sends dictionaries so (`{'model': 'gpt-4o'}`). Pure.

use serde_json::{Map, Value};

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 8;

/// Reads JSON or, failing that, what Python prints for the same value.
pub(super) fn read(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| python(text))
}

/// Reads a dictionary, list or text of Python's: those of which JSON's values are made. Numbers have no use here.
fn python(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text };
    let value = reader.value(0)?;
    reader.skip();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, word: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        if self.take("{") {
            let mut map = Map::new();
            while !self.take("}") {
                if !map.is_empty() && !self.take(",") {
                    return None;
                }
                let key = self.text()?;
                if !self.take(":") || map.insert(key, self.value(depth + 1)?).is_some() {
                    return None;
                }
            }
            return Some(Value::Object(map));
        }
        if self.take("[") {
            let mut values = Vec::new();
            while !self.take("]") {
                if !values.is_empty() && !self.take(",") {
                    return None;
                }
                values.push(self.value(depth + 1)?);
            }
            return Some(Value::Array(values));
        }
        for (word, value) in
            [("None", Value::Null), ("True", Value::Bool(true)), ("False", Value::Bool(false))]
        {
            if self.take(word) {
                return Some(value);
            }
        }
        self.text().map(Value::String)
    }

    /// A text between quotation marks of either kind.
    fn text(&mut self) -> Option<String> {
        self.skip();
        let quote = self.rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let mut text = String::new();
        let mut letters = self.rest[1..].chars();
        loop {
            match letters.next()? {
                letter if letter == quote => break,
                '\\' => text.push(match letters.next()? {
                    letter @ ('\\' | '\'' | '"') => letter,
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'x' => code(&mut letters, 2)?,
                    'u' => code(&mut letters, 4)?,
                    'U' => code(&mut letters, 8)?,
                    _ => return None,
                }),
                letter => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Some(text)
    }
}

fn code(letters: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut code = 0_u32;
    for _ in 0..digits {
        code = code.checked_mul(16)? + letters.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_python_prints_is_read() {
        for (text, expected) in [
            ("{'model': 'gpt-4o', 'kind': \"it's\"}", json!({"model": "gpt-4o", "kind": "it's"})),
            (r#"{'model': 'it\'s 5" \\ big'}"#, json!({"model": "it's 5\" \\ big"})),
            (r"{'a': '\n\x7f\u2028\U0001f600'}", json!({"a": "\n\u{7f}\u{2028}\u{1f600}"})),
            ("{'a': ['b', None, True]}", json!({"a": ["b", null, true]})),
            ("{}", json!({})),
            (r#"{"a": 1}"#, json!({"a": 1})),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "{",
            "{'a'}",
            "{'a': }",
            "{'a': 'b'",
            "{'a': 'b'} x",
            "{'a': 'b' 'c': 'd'}",
            "{'a': 'b', 'a': 'c'}",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much_for_it(text in "[{}\\[\\]'\",:\\\\a ]{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn texts_come_back(text in "\\PC{0,20}") {
            let printed = format!("{{'a': '{}'}}", text.replace('\\', "\\\\").replace('\'', "\\'"));
            prop_assert_eq!(read(&printed), Some(json!({"a": text})));
        }
    }
}
