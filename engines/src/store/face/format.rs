//! What the face must know of ClickHouse's formats.
//!
//! A streamed `SELECT` comes in chunks, each a whole document of its format. Row formats concatenate. Formats
//! with a header repeat it in each chunk: all but the first are cut off. All others, such as `JSON` or
//! `Parquet`, are one document and are asked for whole.

/// How the chunks of a format become one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// Put one after the other.
    Concatenate,
    /// Cut the header off all but the first.
    Header(Header),
    /// Not possible: the answer must be asked for whole.
    Whole,
}

/// How a format's header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// `RowBinaryWithNames`: a count, then that many strings, `strings` times over.
    Binary {
        /// 1 for names, 2 for names and types.
        strings: usize,
    },
    /// Lines, 1 for names or 2 for names and types; line breaks in names are escaped.
    Lines(usize),
    /// Lines as in [`Header::Lines`], with CSV's quotes, between which a line break is one of the name.
    Csv(usize),
}

/// How the chunks of `format` are joined. An unknown name is asked for whole: the engine knows what to say.
pub(super) fn join(format: &str) -> Join {
    match format {
        "RowBinary"
        | "Native"
        | "JSONEachRow"
        | "JSONLines"
        | "NDJSON"
        | "JSONStringsEachRow"
        | "JSONCompactEachRow"
        | "JSONCompactStringsEachRow"
        | "TabSeparated"
        | "TSV"
        | "TabSeparatedRaw"
        | "TSVRaw"
        | "Raw"
        | "CSV"
        | "TSKV"
        | "LineAsString"
        | "RawBLOB"
        | "MsgPack"
        | "Null" => Join::Concatenate,
        "RowBinaryWithNames" => Join::Header(Header::Binary { strings: 1 }),
        "RowBinaryWithNamesAndTypes" => Join::Header(Header::Binary { strings: 2 }),
        "TabSeparatedWithNames"
        | "TSVWithNames"
        | "JSONCompactEachRowWithNames"
        | "JSONCompactStringsEachRowWithNames" => Join::Header(Header::Lines(1)),
        "TabSeparatedWithNamesAndTypes"
        | "TSVWithNamesAndTypes"
        | "JSONCompactEachRowWithNamesAndTypes"
        | "JSONCompactStringsEachRowWithNamesAndTypes" => Join::Header(Header::Lines(2)),
        "CSVWithNames" => Join::Header(Header::Csv(1)),
        "CSVWithNamesAndTypes" => Join::Header(Header::Csv(2)),
        _ => Join::Whole,
    }
}

/// The length of the header at the start of `chunk`; `None` if it is not whole.
pub(super) fn header_length(header: Header, chunk: &[u8]) -> Option<usize> {
    match header {
        Header::Binary { strings } => {
            let (columns, mut at) = varint(chunk)?;
            for _ in 0..usize::try_from(columns).ok()?.checked_mul(strings)? {
                let (length, width) = varint(chunk.get(at..)?)?;
                at = at.checked_add(width)?.checked_add(usize::try_from(length).ok()?)?;
                if at > chunk.len() {
                    return None;
                }
            }
            Some(at)
        }
        Header::Lines(lines) => line_end(chunk, lines, false),
        Header::Csv(lines) => line_end(chunk, lines, true),
    }
}

/// The length of the first `lines` lines.
fn line_end(chunk: &[u8], lines: usize, has_quotes: bool) -> Option<usize> {
    let mut left = lines;
    let mut is_quoted = false;
    for (at, byte) in chunk.iter().enumerate() {
        match byte {
            // A doubled quote ends and begins again.
            b'"' if has_quotes => is_quoted = !is_quoted,
            b'\n' if !is_quoted => {
                left -= 1;
                if left == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// A LEB128 number and its width.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// The media type that ClickHouse gives for `format`.
pub(super) fn content_type(format: &str) -> &'static str {
    match format {
        "RowBinary"
        | "RowBinaryWithNames"
        | "RowBinaryWithNamesAndTypes"
        | "Native"
        | "Parquet"
        | "ORC"
        | "Avro"
        | "RawBLOB"
        | "MsgPack" => "application/octet-stream",
        "Arrow" | "ArrowStream" => "application/vnd.apache.arrow.stream",
        "JSONEachRow" | "JSONLines" | "NDJSON" => "application/x-ndjson; charset=UTF-8",
        name if name.starts_with("JSON") => "application/json; charset=UTF-8",
        name if name.starts_with("CSV") => "text/csv; charset=UTF-8; header=present",
        name if name.starts_with("XML") => "application/xml; charset=UTF-8",
        name if name.starts_with("TabSeparated") || name.starts_with("TSV") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        _ => "text/plain; charset=UTF-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_headers() {
        let binary = Header::Binary { strings: 2 };
        assert_eq!(header_length(binary, b"\x02\x01a\x02bc\x06UInt64\x05UInt8rows"), Some(19));
        assert_eq!(header_length(binary, b"\x02\x01a\x02bc\x06UInt"), None);
        assert_eq!(header_length(binary, b"\x00"), Some(1));
        assert_eq!(header_length(binary, b""), None);
        let csv = b"\"a\nb\",\"c\"\"d\"\n\"x\",\"y\"\n1,2\n";
        assert_eq!(header_length(Header::Csv(2), csv), Some(21));
        assert_eq!(header_length(Header::Lines(2), b"a\"\tb\nx\ty\n1\t2\n"), Some(9));
        assert_eq!(header_length(Header::Lines(2), b"a\tb\n"), None);
        assert_eq!(header_length(Header::Lines(1), b"a\tb\n1\t2\n"), Some(4));
    }

    #[test]
    fn unknown_formats_are_asked_for_whole() {
        assert_eq!(join("JSON"), Join::Whole);
        assert_eq!(join("Nonsense"), Join::Whole);
        assert_eq!(join("TSV"), Join::Concatenate);
    }
}
