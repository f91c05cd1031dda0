//! Exports as CSV (RFC 4180), safe to open in a spreadsheet.

/// A record that grows field by field.
#[derive(Clone, Debug, Default)]
pub struct Record(String);

impl Record {
    /// Adds text that came from outside: quoted, and with an apostrophe before what a spreadsheet would take for
    /// a formula.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        // OWASP's list. A tab or a return at the start survives quoting, and some programs skip it.
        let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let guard = if formula { "'" } else { "" };
        let quoted = format!("\"{guard}{}\"", text.replace('"', "\"\""));
        self.push(&quoted)
    }

    /// Adds a number or word that this program wrote itself; `None` is an empty field, not a zero.
    #[must_use]
    pub fn value(self, value: Option<impl std::fmt::Display>) -> Self {
        let text = value.map(|value| value.to_string()).unwrap_or_default();
        self.push(&text)
    }

    fn push(mut self, field: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(field);
        self
    }

    /// The record with its line end.
    pub fn line(mut self) -> String {
        self.0.push_str("\r\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_disarmed_and_numbers_are_not() {
        let line = Record::default()
            .text("=cmd|'/c calc'!A1")
            .value(Some(-5))
            .value(None::<u8>)
            .text("a\"b,\nc")
            .line();
        assert_eq!(line, "\"'=cmd|'/c calc'!A1\",-5,,\"a\"\"b,\nc\"\r\n");
        for start in ["+1", "-1", "@x", "\tx", "\rx"] {
            assert!(Record::default().text(start).line().starts_with("\"'"), "{start:?}");
        }
        assert_eq!(Record::default().text("").value(Some(1)).line(), "\"\",1\r\n");
    }
}
