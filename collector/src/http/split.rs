//! From a body to the bytes of its events: one pass that looks at quotes and brackets alone. Each event is read
//! whole afterwards, so that a malformed one costs itself and not its batch.

/// Why a body is not a list of events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct SplitError {
    /// Where.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// The first byte that is not white space.
pub fn first(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !is_space(*byte))
}

/// The elements of the JSON array that `body` is, as they stand in it.
///
/// # Errors
/// It is not an array, or not separated into elements; what is wrong within an element is not looked at.
pub fn elements(body: &[u8]) -> Result<Vec<&[u8]>, SplitError> {
    let mut at = skip_space(body, 0);
    if body.get(at) != Some(&b'[') {
        return Err(SplitError { offset: at, reason: "not a JSON array" });
    }
    at = skip_space(body, at + 1);
    // An event is rarely shorter than this.
    let mut found = Vec::with_capacity(body.len() / 160 + 1);
    if body.get(at) == Some(&b']') {
        at += 1;
    } else {
        loop {
            let end = element_end(body, at)?;
            let element = body[at..end].trim_ascii_end();
            if element.is_empty() {
                return Err(SplitError { offset: at, reason: "no value" });
            }
            found.push(element);
            let separator = body[end];
            at = skip_space(body, end + 1);
            if separator == b']' {
                break;
            }
        }
    }
    match skip_space(body, at) {
        end if end == body.len() => Ok(found),
        offset => Err(SplitError { offset, reason: "more behind the end of the array" }),
    }
}

/// The place of the `,` or `]` behind the element that begins at `start`.
fn element_end(body: &[u8], start: usize) -> Result<usize, SplitError> {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = body.get(at) {
        match byte {
            b'"' => at = string_end(body, at)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            b',' | b']' if depth == 0 => return Ok(at),
            b'}' => return Err(SplitError { offset: at, reason: "a `}` too many" }),
            _ => {}
        }
        at += 1;
    }
    Err(SplitError { offset: body.len(), reason: "the array does not end" })
}

/// The place of the quote that ends the string that begins at `start`.
fn string_end(body: &[u8], start: usize) -> Result<usize, SplitError> {
    let mut at = start + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', body.get(at..).unwrap_or_default()) {
        at += found;
        if body[at] == b'"' {
            return Ok(at);
        }
        at += 2;
    }
    Err(SplitError { offset: start, reason: "a string does not end" })
}

fn skip_space(body: &[u8], from: usize) -> usize {
    let rest = body.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_malformed_element_does_not_cost_its_neighbours() {
        let body = br#" [ {"a":"],{\"\\"} , {"n":01} ,[1,[2]], nonsense,{"b":{}} ] "#;
        let texts: Vec<&str> =
            elements(body).unwrap().into_iter().map(|bytes| std::str::from_utf8(bytes).unwrap()).collect();
        assert_eq!(texts, [r#"{"a":"],{\"\\"}"#, r#"{"n":01}"#, "[1,[2]]", "nonsense", r#"{"b":{}}"#]);
    }

    #[test]
    fn what_is_no_array_is_refused_with_its_place() {
        for (body, offset) in [
            ("", 0),
            ("{}", 0),
            ("[", 1),
            ("[1,", 3),
            ("[1,]", 3),
            ("[,1]", 1),
            ("[1]x", 3),
            ("[\"a]", 1),
            ("[1}]", 2),
            ("[\"a\\", 1),
            ("[1][", 3),
        ] {
            assert_eq!(elements(body.as_bytes()).unwrap_err().offset, offset, "{body}");
        }
        assert_eq!(elements(b"[ ]").unwrap(), Vec::<&[u8]>::new());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
            r#"[\[\]{},"\\ ]{0,8}"#.prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn splits_as_a_json_reader_does(values in proptest::collection::vec(json(), 0..6), pretty in any::<bool>()) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&values).unwrap(),
                false => serde_json::to_string(&values).unwrap(),
            };
            let expected: Vec<&RawValue> = serde_json::from_str(&text).unwrap();
            let expected: Vec<&[u8]> = expected.into_iter().map(|raw| raw.get().as_bytes()).collect();
            prop_assert_eq!(elements(text.as_bytes()).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_split_or_refused_without_panic(bytes in r#"[\[\]{},"\\ a1]{0,24}"#) {
            if let Ok(found) = elements(bytes.as_bytes()) {
                prop_assert!(found.iter().all(|element| !element.is_empty()));
            }
        }
    }
}
