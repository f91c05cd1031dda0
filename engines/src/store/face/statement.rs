//! Where a statement ends and its data begins.
//!
//! ClickHouse's HTTP interface takes one text: the query of the URL, a line break, the body. For an `INSERT` the
//! rows follow the statement in that text. The engine wants them apart, and must not see bytes of rows as SQL:
//! so this reads as much of the statement as is needed to know where it ends, and in which format it answers.
//! It judges nothing else; the engine parses the statement itself.

use super::Fault;

/// What was found at the start of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// An `INSERT` whose rows begin at `data_at`.
    Insert {
        /// The statement without its `FORMAT` clause.
        sql: Vec<u8>,
        /// The format of the rows, if the statement names one.
        format: Option<String>,
        /// Where the rows begin.
        data_at: usize,
    },
    /// Any other statement: the whole text.
    Query {
        /// It answers with rows that can be read chunk by chunk.
        is_select: bool,
        /// The format that the statement names.
        format: Option<String>,
    },
}

/// Reads the statement at the start of `text`. `None`: more text is needed; never so if `is_complete`.
pub(super) fn read(text: &[u8], is_complete: bool) -> Result<Option<Statement>, Fault> {
    let mut tokens = Lexer { text, at: 0, is_complete };
    let first = tokens.next_token();
    // A first word that touches the end may go on.
    if !is_complete && first.as_ref().is_none_or(|token| token.end == text.len()) {
        return Ok(None);
    }
    match first {
        Some(token) if token.is_word(text, "INSERT") => read_insert(text, tokens, is_complete),
        _ if !is_complete => Ok(None),
        first => read_query(text, first, tokens).map(Some),
    }
}

fn read_insert(text: &[u8], mut tokens: Lexer<'_>, is_complete: bool) -> Result<Option<Statement>, Fault> {
    let mut depth = 0_usize;
    let mut previous: Option<Token> = None;
    while let Some(token) = tokens.next_token() {
        if !is_complete && token.end == text.len() {
            return Ok(None);
        }
        // A table or column may have a keyword's name where a name is expected.
        let is_name = previous.is_some_and(|previous| {
            ["INTO", "TABLE", "FUNCTION"].iter().any(|word| previous.is_word(text, word))
                || [b".", b","].iter().any(|mark| previous.is(text, *mark))
        });
        let opens = previous.is_some_and(|previous| previous.is(text, b"("));
        previous = Some(token);
        if token.is(text, b"(") || token.is(text, b"[") {
            depth += 1;
        } else if token.is(text, b")") || token.is(text, b"]") {
            depth = depth.saturating_sub(1);
        } else if (depth == 0 && !is_name || opens)
            && ["SELECT", "WITH", "WATCH"].iter().any(|word| token.is_word(text, word))
        {
            let whole = is_complete.then_some(Statement::Query { is_select: false, format: None });
            return Ok(whole);
        } else if depth == 0 && !is_name && token.is_word(text, "VALUES") {
            return Ok(Some(Statement::Insert {
                sql: text[..token.start].to_vec(),
                format: Some("Values".to_owned()),
                data_at: token.end,
            }));
        } else if depth == 0 && !is_name && token.is_word(text, "FORMAT") {
            let Some(name) = tokens.next_token() else {
                return if is_complete { Err(Fault::syntax("FORMAT without a name")) } else { Ok(None) };
            };
            // The name must have ended, and so must the blank that separates it from the rows.
            let Some(data_at) = data_start(text, name.end, is_complete) else {
                return Ok(None);
            };
            return Ok(Some(Statement::Insert {
                sql: text[..token.start].to_vec(),
                format: Some(name.text(text)),
                data_at,
            }));
        }
    }
    if !is_complete {
        return Ok(None);
    }
    Ok(Some(Statement::Insert { sql: text.to_vec(), format: None, data_at: text.len() }))
}

/// Rows begin after the first line break, if nothing but blanks and a semicolon come before it; else after the
/// blanks. `None` if the text ends before that is known.
fn data_start(text: &[u8], from: usize, is_complete: bool) -> Option<usize> {
    let mut at = from;
    let mut seen_semicolon = false;
    loop {
        match text.get(at) {
            Some(b' ' | b'\t' | b'\r' | 0x0c) => at += 1,
            Some(b';') if !seen_semicolon => {
                seen_semicolon = true;
                at += 1;
            }
            Some(b'\n') => return Some(at + 1),
            Some(_) => return Some(at),
            None => return is_complete.then_some(at),
        }
    }
}

fn read_query(text: &[u8], first: Option<Token>, mut tokens: Lexer<'_>) -> Result<Statement, Fault> {
    let Some(first) = first else {
        return Err(Fault::syntax("Empty query"));
    };
    let mut start = Some(first);
    while let Some(token) = start.filter(|token| token.is(text, b"(")) {
        start = tokens.next_token().or(Some(token)).filter(|next| next.start != token.start);
    }
    let is_select =
        start.is_some_and(|token| ["SELECT", "WITH", "FROM"].iter().any(|word| token.is_word(text, word)));
    let mut format = None;
    let mut ended = false;
    let mut token = tokens.next_token();
    while let Some(current) = token {
        if ended {
            return Err(Fault::syntax("Multi-statements are not allowed"));
        }
        let following = tokens.next_token();
        if current.is(text, b";") {
            ended = true;
        } else if current.is_word(text, "FORMAT")
            && let Some(name) = following.filter(|name| name.is_identifier(text))
        {
            // The clause is the statement's last, but for settings: elsewhere it is a column's name.
            let after = tokens.clone().next_token();
            if after.is_none_or(|after| after.is(text, b";") || after.is_word(text, "SETTINGS"))
                && !["SETTINGS", "FROM"].iter().any(|word| name.is_word(text, word))
            {
                format = Some(name.text(text));
            }
        }
        token = following;
    }
    Ok(Statement::Query { is_select, format })
}

/// A piece of the text: a word, a quoted thing, a number, or one mark.
#[derive(Clone, Copy, Debug)]
struct Token {
    start: usize,
    end: usize,
}

impl Token {
    fn is(self, text: &[u8], what: &[u8]) -> bool {
        &text[self.start..self.end] == what
    }

    fn is_word(self, text: &[u8], word: &str) -> bool {
        text[self.start..self.end].eq_ignore_ascii_case(word.as_bytes())
    }

    fn is_identifier(self, text: &[u8]) -> bool {
        text[self.start].is_ascii_alphabetic() || text[self.start] == b'_'
    }

    fn text(self, text: &[u8]) -> String {
        String::from_utf8_lossy(&text[self.start..self.end]).into_owned()
    }
}

#[derive(Clone)]
struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    /// Nothing follows `text`.
    is_complete: bool,
}

impl Lexer<'_> {
    /// The next token; an unterminated string or comment reaches to the end of the text, and so does what may still turn
    /// out to be a heredoc.
    fn next_token(&mut self) -> Option<Token> {
        self.skip_blanks();
        let start = self.at;
        let rest = &self.text[start..];
        let length = match *rest.first()? {
            quote @ (b'\'' | b'"' | b'`') => quoted(rest, quote),
            b'$' => match heredoc(rest) {
                Heredoc::Of(length) => length,
                Heredoc::Open if !self.is_complete => rest.len(),
                Heredoc::Open | Heredoc::Not => 1,
            },
            byte if is_word_byte(byte) => rest.iter().take_while(|byte| is_word_byte(**byte)).count(),
            _ => 1,
        };
        self.at = start + length;
        Some(Token { start, end: self.at })
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let skipped = match rest {
                [byte, ..] if byte.is_ascii_whitespace() || *byte == 0x0b => 1,
                [b'-', b'-', ..] | [b'#', b' ' | b'!', ..] => {
                    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
                }
                [b'/', b'*', ..] => {
                    rest.windows(2).skip(2).position(|pair| pair == b"*/").map_or(rest.len(), |at| at + 4)
                }
                _ => return,
            };
            self.at += skipped;
        }
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Length of a quoted token, in which a backslash escapes and a doubled quote is a quote.
fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// What a dollar sign begins.
enum Heredoc {
    /// `$tag$ … $tag$`, of that length.
    Of(usize),
    /// One whose end is not in the text; without it the sign is a mark like others.
    Open,
    /// None, whatever follows.
    Not,
}

fn heredoc(text: &[u8]) -> Heredoc {
    let word = text[1..].iter().take_while(|byte| is_word_byte(**byte)).count();
    let tag = match text.get(word + 1) {
        Some(b'$') => &text[..word + 2],
        Some(_) => return Heredoc::Not,
        None => return Heredoc::Open,
    };
    match text[tag.len()..].windows(tag.len()).position(|window| window == tag) {
        Some(close) => Heredoc::Of(tag.len() + close + tag.len()),
        None => Heredoc::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> Statement {
        read(text.as_bytes(), true).unwrap().unwrap()
    }

    fn query(is_select: bool, format: Option<&str>) -> Statement {
        Statement::Query { is_select, format: format.map(str::to_owned) }
    }

    fn insert(text: &str) -> (String, Option<String>, String) {
        match whole(text) {
            Statement::Insert { sql, format, data_at } => {
                (String::from_utf8(sql).unwrap(), format, text[data_at..].to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn finds_the_format_of_a_query() {
        assert_eq!(whole("SELECT 1"), query(true, None));
        assert_eq!(whole("select 1 format JSON"), query(true, Some("JSON")));
        assert_eq!(whole("SELECT 1 FORMAT CSV;\n"), query(true, Some("CSV")));
        assert_eq!(whole("SELECT 1 FORMAT CSV SETTINGS max_threads = 1"), query(true, Some("CSV")));
        assert_eq!(whole("SELECT format FROM t"), query(true, None));
        assert_eq!(whole("SELECT ' FORMAT JSON' -- FORMAT JSON"), query(true, None));
        assert_eq!(whole("SELECT $x$ it's; FORMAT JSON $x$"), query(true, None));
        assert_eq!(whole("SELECT 1 AS `a\\`;b`, 'it''s; ' /* ; */"), query(true, None));
        assert_eq!(whole("((SELECT 1)) UNION ALL SELECT 2 FORMAT TSV"), query(true, Some("TSV")));
        assert_eq!(whole("WITH 1 AS x SELECT x"), query(true, None));
        assert_eq!(whole("DESCRIBE TABLE t FORMAT TSV"), query(false, Some("TSV")));
        assert_eq!(whole("/* c */ SHOW TABLES"), query(false, None));
    }

    #[test]
    fn one_statement_only() {
        assert!(read(b"SELECT 1; SELECT 2", true).is_err());
        assert!(read(b"  -- nothing\n", true).is_err());
        assert_eq!(whole("SELECT 1; -- done"), query(true, None));
    }

    #[test]
    fn finds_the_rows_of_an_insert() {
        let table = "INSERT INTO t (a, b) ".to_owned();
        let (sql, format, data) = insert("INSERT INTO t (a, b) FORMAT JSONEachRow\n{\"a\":1}");
        assert_eq!(
            (sql, format.as_deref(), data.as_str()),
            (table.clone(), Some("JSONEachRow"), "{\"a\":1}")
        );
        let (sql, format, data) = insert("INSERT INTO t (a, b) VALUES (1, 'a\n\nb')");
        assert_eq!(
            (sql, format.as_deref(), data.as_str()),
            (table.clone(), Some("Values"), " (1, 'a\n\nb')")
        );
        let (sql, format, data) = insert("INSERT INTO t (a, b) FORMAT RowBinary\n\n\n");
        assert_eq!((sql, format.as_deref(), data.as_str()), (table, Some("RowBinary"), "\n\n"));
        let (sql, format, data) = insert("INSERT INTO t SETTINGS a = 'FORMAT x' FORMAT CSV 1,2");
        let expected = ("INSERT INTO t SETTINGS a = 'FORMAT x' ", Some("CSV"), "1,2");
        assert_eq!((sql.as_str(), format.as_deref(), data.as_str()), expected);
        assert_eq!(insert("INSERT INTO db.values FORMAT TSV;\r\n1").2, "1");
        assert_eq!(
            insert("INSERT INTO t (format, values)"),
            ("INSERT INTO t (format, values)".into(), None, "".into())
        );
        assert_eq!(whole("INSERT INTO t SELECT 1"), query(false, None));
        assert_eq!(whole("INSERT INTO t (a) (SELECT 1)"), query(false, None));
        assert_eq!(insert("INSERT INTO FUNCTION remote('h', 'd.t') (a) VALUES (1)").2, " (1)");
    }

    #[test]
    fn asks_for_more_until_the_rows_are_in_sight() {
        let text = b"INSERT INTO t FORMAT Native\n\x01\x02";
        for length in 0..text.len() {
            let part = read(&text[..length], false).unwrap();
            assert_eq!(part.is_some(), length > text.len() - 3, "{length}");
        }
        assert_eq!(read(b"SELECT 1", false).unwrap(), None);
    }

    /// Whether the sign begins a heredoc is known once its end has come, or the text's.
    #[test]
    fn a_heredoc_that_is_open_is_waited_for() {
        let text = b"INSERT INTO t SETTINGS a = $x$ FORMAT CSV $x$ FORMAT TSV\n1";
        for length in 0..text.len() {
            let part = read(&text[..length], false).unwrap();
            assert_eq!(part.is_some(), length == text.len() - 1, "{length}");
        }
        let (sql, format, data) = insert(std::str::from_utf8(text).unwrap());
        let expected = ("INSERT INTO t SETTINGS a = $x$ FORMAT CSV $x$ ", Some("TSV"), "1");
        assert_eq!((sql.as_str(), format.as_deref(), data.as_str()), expected);
        assert_eq!(insert("INSERT INTO t SETTINGS a = $x$ FORMAT CSV\n1").1.as_deref(), Some("CSV"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(
            head in prop::sample::select(vec!["", "INSERT INTO t ", "SELECT ", "("]),
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            complete in any::<bool>(),
        ) {
            let text = [head.as_bytes(), &bytes].concat();
            if let Ok(Some(Statement::Insert { data_at, .. })) = read(&text, complete) {
                prop_assert!(data_at <= text.len());
            }
        }
    }
}
