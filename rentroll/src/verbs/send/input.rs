//! Events from a file: a JSON array, or one JSON object a line.

use std::io::{BufRead, Read};

use anyhow::Context as _;
use rentroll_collector::http::split;

/// Longest line.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// An event as it stands in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its line, or its place in the array, from 1.
    pub number: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads events one after the other.
pub enum Input {
    /// A line each.
    Lines {
        /// What is still to be read.
        reader: Box<dyn BufRead + Send>,
        /// The line read last.
        number: u64,
    },
    /// Read already.
    Array(std::vec::IntoIter<Item>),
}

impl Input {
    /// Looks at the first byte for the kind of input.
    ///
    /// # Errors
    /// It cannot be read, or is an array that does not end.
    pub fn open(mut reader: Box<dyn BufRead + Send>) -> anyhow::Result<Self> {
        loop {
            let seen = reader.fill_buf().context("cannot read the events")?;
            let skip = seen.iter().position(|byte| !byte.is_ascii_whitespace() || *byte == b'\n');
            match skip {
                None if seen.is_empty() => return Ok(Input::Array(Vec::new().into_iter())),
                None => {
                    let length = seen.len();
                    reader.consume(length);
                }
                Some(0) => break,
                Some(skip) => reader.consume(skip),
            }
        }
        if reader.fill_buf().context("cannot read the events")?.first() != Some(&b'[') {
            return Ok(Input::Lines { reader, number: 0 });
        }
        let mut all = Vec::new();
        reader.read_to_end(&mut all).context("cannot read the events")?;
        let elements = split::elements(&all).context("not a JSON array of events")?;
        let items: Vec<Item> =
            (1..).zip(elements).map(|(number, bytes)| Item { number, bytes: bytes.to_vec() }).collect();
        Ok(Input::Array(items.into_iter()))
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn event(&mut self) -> anyhow::Result<Option<Item>> {
        let (reader, number) = match self {
            Input::Array(items) => return Ok(items.next()),
            Input::Lines { reader, number } => (reader, number),
        };
        loop {
            let mut line = Vec::new();
            let read =
                reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).context("cannot read the events")?;
            if read == 0 {
                return Ok(None);
            }
            *number += 1;
            anyhow::ensure!(
                (read as u64) < LINE_BYTES_MAX,
                "line {number} is longer than {LINE_BYTES_MAX} bytes"
            );
            let bytes = line.trim_ascii();
            if !bytes.is_empty() {
                return Ok(Some(Item { number: *number, bytes: bytes.to_vec() }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(u64, String)> {
        let mut input = Input::open(Box::new(std::io::Cursor::new(text.to_owned()))).unwrap();
        let mut items = Vec::new();
        while let Some(item) = input.event().unwrap() {
            items.push((item.number, String::from_utf8(item.bytes).unwrap()));
        }
        items
    }

    #[test]
    fn lines_and_arrays_are_told_apart() {
        let of = |list: &[(u64, &str)]| -> Vec<(u64, String)> {
            list.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
        };
        assert_eq!(
            read("{\"a\":1}\n\n {\"b\":2}\r\n{\"c\":3}"),
            of(&[(1, "{\"a\":1}"), (3, "{\"b\":2}"), (4, "{\"c\":3}")])
        );
        assert_eq!(read("  [ {\"a\":1},\n{\"b\":2} ]\n"), of(&[(1, "{\"a\":1}"), (2, "{\"b\":2}")]));
        assert_eq!(read(""), []);
        assert_eq!(read("\n{}"), of(&[(2, "{}")]));
        assert!(Input::open(Box::new(std::io::Cursor::new("[{}"))).is_err());
    }
}
