//! Text inside a statement.

/// `text` between `mark`s, as ClickHouse reads it.
pub(super) fn quote(text: &str, mark: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(mark);
    for character in text.chars() {
        if character == mark || character == '\\' {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push(mark);
    quoted
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn a_value_cannot_end_its_quotes() {
        assert_eq!(quote(r"a'b\", '\''), r"'a\'b\\'");
    }
}
