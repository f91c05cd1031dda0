//! `Native` answers for clients that name a protocol version.
//!
//! The engine writes `Native` of revision 0. A client that sends `client_protocol_version`, such as
//! clickhouse-go, on which Grafana's data source stands, expects what a server would send it:
//!
//! | since revision | |
//! |---|---|
//! | 1 | eight bytes of block information before each block |
//! | 54454 | a byte after each column's type: whether its serialization is a custom one |
//!
//! To put that byte in, one must know where a column ends: so this measures columns by their type. A type whose
//! length cannot be told from the outside (`AggregateFunction`, `Variant`, `Dynamic`, `JSON`) is an error that
//! says so. Clients of revisions before 54454 find out by a probe that they talk to revision 0.

use bytes::{Bytes, BytesMut};

use super::fault::{Fault, code};
use super::format::varint;

/// The first revision whose blocks are written here.
pub(super) const REVISION_MIN: u64 = 54454;

/// Not overflown, no bucket: what every block of an answer has.
const BLOCK_INFO: [u8; 8] = [1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0];

/// `blocks` of revision 0, as a client of [`REVISION_MIN`] or later reads them.
pub(super) fn with_revision(blocks: &[u8]) -> Result<Bytes, Fault> {
    let mut reader = Reader { bytes: blocks, at: 0 };
    let mut out = BytesMut::with_capacity(blocks.len() + 256);
    while reader.at < blocks.len() {
        out.extend_from_slice(&BLOCK_INFO);
        let start = reader.at;
        let columns = reader.number()?;
        let rows = reader.length()?;
        out.extend_from_slice(&blocks[start..reader.at]);
        for _ in 0..columns {
            let start = reader.at;
            reader.string()?;
            let name = String::from_utf8_lossy(reader.string()?).into_owned();
            out.extend_from_slice(&blocks[start..reader.at]);
            out.extend_from_slice(&[0]);
            let start = reader.at;
            if rows > 0 {
                let kind = Type::parse(&name)?;
                reader.skip_prefix(&kind)?;
                reader.skip_values(&kind, rows)?;
            }
            out.extend_from_slice(&blocks[start..reader.at]);
        }
    }
    Ok(out.freeze())
}

/// A type, as far as its length is concerned.
#[derive(Debug, PartialEq, Eq)]
enum Type {
    Fixed(usize),
    Text,
    Nullable(Box<Type>),
    Array(Box<Type>),
    Tuple(Vec<Type>),
    LowCardinality(Box<Type>),
}

impl Type {
    fn parse(name: &str) -> Result<Type, Fault> {
        let name = name.trim();
        let unknown = || {
            let message = format!(
                "column type {name} cannot be sent in Native to a client that names its protocol version; choose another format"
            );
            Fault::new(code::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message)
        };
        let (head, arguments) = match name.split_once('(') {
            Some((head, rest)) => (head, split(rest.strip_suffix(')').ok_or_else(unknown)?)),
            None => (name, Vec::new()),
        };
        let argument = |index: usize| arguments.get(index).copied().ok_or_else(unknown);
        let inner = |index: usize| Type::parse(argument(index)?).map(Box::new);
        let number = |index: usize| argument(index)?.trim().parse::<usize>().map_err(|_| unknown());
        Ok(match head {
            "Nothing" | "Bool" | "Int8" | "UInt8" | "Enum8" => Type::Fixed(1),
            "Int16" | "UInt16" | "Date" | "Enum16" | "BFloat16" => Type::Fixed(2),
            "Int32" | "UInt32" | "Float32" | "Date32" | "DateTime" | "Time" | "IPv4" | "Decimal32" => {
                Type::Fixed(4)
            }
            "Int64" | "UInt64" | "Float64" | "DateTime64" | "Time64" | "Decimal64" => Type::Fixed(8),
            "Int128" | "UInt128" | "UUID" | "IPv6" | "Decimal128" | "Point" => Type::Fixed(16),
            "Int256" | "UInt256" | "Decimal256" => Type::Fixed(32),
            "Decimal" => Type::Fixed(match number(0)? {
                0..=9 => 4,
                10..=18 => 8,
                19..=38 => 16,
                _ => 32,
            }),
            "FixedString" => Type::Fixed(number(0)?),
            "String" => Type::Text,
            "Nullable" => Type::Nullable(inner(0)?),
            "LowCardinality" => Type::LowCardinality(inner(0)?),
            "Array" => Type::Array(inner(0)?),
            "Ring" | "LineString" => Type::Array(Box::new(Type::Fixed(16))),
            "Map" => Type::Array(Box::new(Type::Tuple(vec![*inner(0)?, *inner(1)?]))),
            "Tuple" => Type::Tuple(elements(&arguments)?),
            "Nested" => Type::Array(Box::new(Type::Tuple(elements(&arguments)?))),
            "SimpleAggregateFunction" => *inner(1)?,
            interval if interval.starts_with("Interval") => Type::Fixed(8),
            _ => return Err(unknown()),
        })
    }
}

/// The elements of a tuple: types, or names and types.
fn elements(arguments: &[&str]) -> Result<Vec<Type>, Fault> {
    let kind = |element: &&str| {
        let element = element.trim();
        let type_at = match element.strip_prefix('`') {
            Some(name) => name.find('`').map_or(0, |end| end + 2),
            // A space outside parentheses separates a name from its type.
            None => element.find([' ', '(']).filter(|at| element[*at..].starts_with(' ')).unwrap_or(0),
        };
        Type::parse(&element[type_at..])
    };
    arguments.iter().map(kind).collect()
}

/// Arguments, cut at the commas outside parentheses and quotes.
fn split(arguments: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start, mut quote) = (0_usize, 0, None);
    let mut escaped = false;
    for (at, character) in arguments.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quote.is_some() => escaped = true,
            '\'' | '`' if quote.is_none() => quote = Some(character),
            _ if quote == Some(character) => quote = None,
            _ if quote.is_some() => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&arguments[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !arguments[start..].trim().is_empty() {
        parts.push(&arguments[start..]);
    }
    parts
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn cut_off() -> Fault {
    let message = "the engine's Native block does not have the length of its types";
    Fault::new(code::SYSTEM_ERROR, "SYSTEM_ERROR", message)
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len()).ok_or_else(cut_off)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, Fault> {
        let (value, width) = varint(&self.bytes[self.at..]).ok_or_else(cut_off)?;
        self.at += width;
        Ok(value)
    }

    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.number()?).map_err(|_| cut_off())
    }

    fn string(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.length()?;
        self.take(length)
    }

    fn fixed_u64(&mut self) -> Result<u64, Fault> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn skip(&mut self, width: usize, count: usize) -> Result<(), Fault> {
        self.take(width.checked_mul(count).ok_or_else(cut_off)?).map(drop)
    }

    /// What stands before the values of a column: the version of each dictionary in it.
    fn skip_prefix(&mut self, kind: &Type) -> Result<(), Fault> {
        match kind {
            Type::Fixed(_) | Type::Text => Ok(()),
            Type::Nullable(inner) | Type::Array(inner) => self.skip_prefix(inner),
            Type::Tuple(elements) => elements.iter().try_for_each(|element| self.skip_prefix(element)),
            Type::LowCardinality(_) => self.skip(8, 1),
        }
    }

    fn skip_values(&mut self, kind: &Type, rows: usize) -> Result<(), Fault> {
        if rows == 0 {
            return Ok(());
        }
        match kind {
            Type::Fixed(width) => self.skip(*width, rows),
            Type::Text => (0..rows).try_for_each(|_| self.string().map(drop)),
            Type::Nullable(inner) => {
                self.skip(1, rows)?;
                self.skip_values(inner, rows)
            }
            Type::Array(inner) => {
                self.skip(8, rows - 1)?;
                // The last offset is the number of elements.
                let elements = usize::try_from(self.fixed_u64()?).map_err(|_| cut_off())?;
                self.skip_values(inner, elements)
            }
            // An empty tuple is written as a byte a row.
            Type::Tuple(elements) if elements.is_empty() => self.skip(1, rows),
            Type::Tuple(elements) => elements.iter().try_for_each(|element| self.skip_values(element, rows)),
            Type::LowCardinality(inner) => self.skip_dictionary(inner),
        }
    }

    /// A dictionary of the block's own, and the rows' places in it.
    fn skip_dictionary(&mut self, inner: &Type) -> Result<(), Fault> {
        const HAS_KEYS: u64 = 1 << 9;
        let flags = self.fixed_u64()?;
        let width = 1_usize << (flags & 3);
        if flags & HAS_KEYS != 0 {
            let keys = usize::try_from(self.fixed_u64()?).map_err(|_| cut_off())?;
            // The key for NULL is among them, without a mark.
            let key = if let Type::Nullable(inner) = inner { inner } else { inner };
            self.skip_values(key, keys)?;
        }
        let rows = usize::try_from(self.fixed_u64()?).map_err(|_| cut_off())?;
        self.skip(width, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_types() {
        let parse = |name: &str| Type::parse(name).unwrap();
        assert_eq!(parse("Decimal(38, 9)"), Type::Fixed(16));
        assert_eq!(parse("Enum8('a,)' = 1, 'b\\'' = 2)"), Type::Fixed(1));
        assert_eq!(parse("DateTime64(3, 'UTC')"), Type::Fixed(8));
        assert_eq!(parse("SimpleAggregateFunction(sum, Decimal(38, 9))"), Type::Fixed(16));
        let pair = || vec![Type::Text, Type::Fixed(8)];
        assert_eq!(parse("Tuple(a String, `b c` UInt64)"), Type::Tuple(pair()));
        assert_eq!(parse("Tuple(String, UInt64)"), Type::Tuple(pair()));
        assert_eq!(parse("Tuple(Decimal(18, 2), Map(String, UInt64))").clone_len(), 2);
        assert_eq!(parse("Map(String, UInt64)"), Type::Array(Box::new(Type::Tuple(pair()))));
        assert!(
            Type::parse("AggregateFunction(sum, UInt64)").unwrap_err().text.contains("AggregateFunction")
        );
        assert!(Type::parse("Variant(String, UInt64)").is_err());
    }

    impl Type {
        fn clone_len(&self) -> usize {
            match self {
                Type::Tuple(elements) => elements.len(),
                _ => 0,
            }
        }
    }

    #[test]
    fn puts_in_what_a_server_would_send() {
        // SELECT toUInt8(1) AS a, 'x' AS b; then a block without rows.
        let blocks = b"\x02\x01\x01a\x05UInt8\x01\x01b\x06String\x01x\x01\x00\x01a\x04JSON";
        let expected = b"\x01\0\x02\xff\xff\xff\xff\0\x02\x01\x01a\x05UInt8\0\x01\x01b\x06String\0\x01x\
                         \x01\0\x02\xff\xff\xff\xff\0\x01\x00\x01a\x04JSON\0";
        assert_eq!(with_revision(blocks).unwrap(), expected.as_slice());
        assert!(with_revision(&blocks[..blocks.len() - 3]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = with_revision(&bytes);
            let with_head = [b"\x01\x03\x01a\x1eArray(LowCardinality(String))  ".as_slice(), &bytes].concat();
            let _ = with_revision(&with_head);
        }
    }
}
