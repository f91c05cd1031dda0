//! The registry as CSV (RFC 4180, UTF-8): one line per record.
//!
//! ```csv
//! tenant,name,organisation,tier,valid_from,removed,tag.region,external_id.stripe
//! acme,Acme's shop,Acme,free,,,eu,cus_1
//! acme,Acme's shop,Acme,pro,2026-05-17T10:01:00Z,,eu,cus_1
//! ```
//!
//! `tenant` must be there; an empty cell is an empty value. A column that is not there leaves what is known as it is
//! ([`Reading::complete`]), so that a file of two columns can set tiers and nothing else.
//!
//! # Formulas
//! A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a return for a formula. Written, such a cell
//! gets an apostrophe before it; and so does one that looks as if it had one: an apostrophe before one of these or before
//! another apostrophe. Read, one apostrophe is taken from cells of that look, and from no others. So what is written is
//! read as it was, whatever it is, and `'tis` is left alone either way.

use std::collections::BTreeSet;
use std::ops::Range;

use ::csv::{ByteRecord, ReaderBuilder, StringRecord, Terminator, WriterBuilder};

use super::{Fault, TenantRecord, is_key, moment, written};

/// Most lines of one file: they are written as one block, all or nothing.
pub const LINES_MAX: usize = 1_000_000;

const TAG: &str = "tag.";
const EXTERNAL_ID: &str = "external_id.";

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// [`TenantRecord::tenant`].
    Tenant,
    /// [`TenantRecord::name`].
    Name,
    /// [`TenantRecord::organisation`].
    Organisation,
    /// [`TenantRecord::tier`].
    Tier,
    /// [`TenantRecord::valid_from`]; empty for none.
    ValidFrom,
    /// [`TenantRecord::removed`]: `true`, `false` or empty.
    Removed,
    /// `tag.KEY`, of [`TenantRecord::tags`]; empty for none.
    Tag(String),
    /// `external_id.SYSTEM`, of [`TenantRecord::external_ids`]; empty for none.
    ExternalId(String),
}

impl Column {
    const PLAIN: [(&str, Column); 6] = [
        ("tenant", Column::Tenant),
        ("name", Column::Name),
        ("organisation", Column::Organisation),
        ("tier", Column::Tier),
        ("valid_from", Column::ValidFrom),
        ("removed", Column::Removed),
    ];

    fn parse(name: &str) -> Result<Self, String> {
        if let Some((_, column)) = Self::PLAIN.iter().find(|(known, _)| *known == name) {
            return Ok(column.clone());
        }
        let (key, column): (&str, fn(String) -> Column) = match name.split_once('.') {
            Some(("tag", key)) => (key, Column::Tag),
            Some(("external_id", key)) => (key, Column::ExternalId),
            _ => {
                let known: Vec<&str> = Self::PLAIN.iter().map(|(known, _)| *known).collect();
                let separator =
                    if name.contains([';', '\t']) { "; cells are separated by commas" } else { "" };
                return Err(format!(
                    "unknown column `{}`: known are {}, {TAG}KEY, {EXTERNAL_ID}SYSTEM{separator}",
                    name.escape_debug(),
                    known.join(", ")
                ));
            }
        };
        is_key(key).map_err(|reason| format!("column `{}`: {reason}", name.escape_debug()))?;
        Ok(column(key.to_owned()))
    }

    fn name(&self) -> String {
        match self {
            Column::Tag(key) => format!("{TAG}{key}"),
            Column::ExternalId(system) => format!("{EXTERNAL_ID}{system}"),
            plain => {
                let known = Self::PLAIN.iter().find(|(_, column)| column == plain);
                known.map_or("", |(name, _)| name).to_owned()
            }
        }
    }

    fn take(&self, cell: &str, record: &mut TenantRecord) -> Result<(), Fault> {
        let fault = |reason| Fault::new(self.name(), reason);
        let text = unguarded(cell).to_owned();
        match self {
            Column::Tenant => record.tenant = text,
            Column::Name => record.name = text,
            Column::Organisation => record.organisation = text,
            Column::Tier => record.tier = text,
            Column::ValidFrom if text.is_empty() => record.valid_from = None,
            Column::ValidFrom => record.valid_from = Some(moment(&text).map_err(fault)?),
            Column::Removed => {
                record.removed = match text.as_str() {
                    "" | "false" => false,
                    "true" => true,
                    _ => return Err(fault(format!("`{text}` is neither true nor false"))),
                };
            }
            Column::Tag(_) | Column::ExternalId(_) if text.is_empty() => {}
            Column::Tag(key) => drop(record.tags.insert(key.clone(), text)),
            Column::ExternalId(system) => drop(record.external_ids.insert(system.clone(), text)),
        }
        Ok(())
    }

    fn give<'a>(&self, record: &'a TenantRecord) -> std::borrow::Cow<'a, str> {
        match self {
            Column::Tenant => record.tenant.as_str().into(),
            Column::Name => record.name.as_str().into(),
            Column::Organisation => record.organisation.as_str().into(),
            Column::Tier => record.tier.as_str().into(),
            Column::ValidFrom => record.valid_from.map(written).unwrap_or_default().into(),
            Column::Removed => if record.removed { "true" } else { "" }.into(),
            Column::Tag(key) => record.tags.get(key).map_or("", String::as_str).into(),
            Column::ExternalId(system) => record.external_ids.get(system).map_or("", String::as_str).into(),
        }
    }
}

/// A line that is good by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which, from 1; the header is the first.
    pub number: u64,
    /// What it says.
    pub record: TenantRecord,
    /// Its bytes in the file.
    pub place: Range<usize>,
}

/// A line that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Which, from 1; the header is the first.
    pub number: u64,
    /// The column at fault, and why.
    pub fault: Fault,
    /// Its bytes in the file.
    pub place: Range<usize>,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Reading {
    columns: Vec<Column>,
    bytes: Vec<u8>,
    header: Range<usize>,
    /// The lines that are good, in the file's order.
    pub lines: Vec<Line>,
    /// Those that are not.
    pub bad: Vec<BadLine>,
}

impl Reading {
    /// Reads a file.
    ///
    /// # Errors
    /// The header's fault, which leaves nothing to be read; those of lines are in [`Reading::bad`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, Fault> {
        let start = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&bytes[start..]);
        let mut places = Places { bytes: &bytes, start, number: 1, counted: start };
        let mut record = ByteRecord::new();
        let mut columns = Vec::new();
        let mut header = 0..0;
        let (mut lines, mut bad) = (Vec::new(), Vec::new());
        // A reader of bytes in memory, with any number of cells in a line, has nothing to fail at.
        while reader.read_byte_record(&mut record).map_err(|error| Fault::new("file", error.to_string()))? {
            let (number, place) = places.next(&record, reader.position().byte());
            if columns.is_empty() {
                columns = head(&record)?;
                header = place;
                continue;
            }
            if lines.len() + bad.len() >= LINES_MAX {
                return Err(Fault::new("file", format!("more than {LINES_MAX} lines: cut it into several")));
            }
            match line(&columns, &record) {
                Ok(record) => lines.push(Line { number, record, place }),
                Err(fault) => bad.push(BadLine { number, fault, place }),
            }
        }
        if columns.is_empty() {
            return Err(Fault::new("header", "the file is empty: its first line names the columns"));
        }
        Ok(Reading { columns, bytes, header, lines, bad })
    }

    /// Fills what the file has no column for with what is known: it is not the file's to say.
    pub fn complete(&self, record: &mut TenantRecord, known: &TenantRecord) {
        if record.removed {
            return;
        }
        let has = |column: Column| self.columns.contains(&column);
        for (column, own, known) in [
            (Column::Name, &mut record.name, &known.name),
            (Column::Organisation, &mut record.organisation, &known.organisation),
            (Column::Tier, &mut record.tier, &known.tier),
        ] {
            if !has(column) {
                own.clone_from(known);
            }
        }
        let tags = known.tags.iter().filter(|(key, _)| !has(Column::Tag((*key).clone())));
        record.tags.extend(tags.map(|(key, value)| (key.clone(), value.clone())));
        let ids = known.external_ids.iter().filter(|(system, _)| !has(Column::ExternalId((*system).clone())));
        record.external_ids.extend(ids.map(|(system, id)| (system.clone(), id.clone())));
    }

    /// The lines at these places under the file's header, byte for byte: to be mended and imported again.
    pub fn excerpt(&self, places: impl IntoIterator<Item = Range<usize>>) -> Vec<u8> {
        let mut out = Vec::new();
        for place in std::iter::once(self.header.clone()).chain(places) {
            out.extend_from_slice(self.bytes.get(place).unwrap_or_default());
            if !out.ends_with(b"\n") {
                out.push(b'\n');
            }
        }
        out
    }
}

/// Where records lie. The parser's own count of lines is behind after a return or an empty line.
struct Places<'a> {
    bytes: &'a [u8],
    start: usize,
    number: u64,
    counted: usize,
}

impl Places<'_> {
    /// Of the record that was read last, which ends at `end` in what the parser was given.
    fn next(&mut self, record: &ByteRecord, end: u64) -> (u64, Range<usize>) {
        let offset = |byte: u64| usize::try_from(byte).map_or(self.bytes.len(), |byte| self.start + byte);
        let end = offset(end).min(self.bytes.len());
        let mut from = offset(record.position().map_or(0, ::csv::Position::byte)).min(end);
        while self.bytes[from..end].first().is_some_and(|byte| b"\r\n".contains(byte)) {
            from += 1;
        }
        let passed = self.bytes[self.counted..from].iter().filter(|byte| **byte == b'\n').count();
        self.number += passed as u64;
        self.counted = from;
        (self.number, from..end)
    }
}

fn head(record: &ByteRecord) -> Result<Vec<Column>, Fault> {
    let fault = |reason: String| Fault::new("header", reason);
    let mut columns: Vec<Column> = Vec::with_capacity(record.len());
    let mut seen = BTreeSet::new();
    for name in record {
        let name = std::str::from_utf8(name).map_err(|_| fault("not UTF-8".to_owned()))?;
        let column = Column::parse(name).map_err(fault)?;
        if !seen.insert(column.clone()) {
            return Err(fault(format!("column `{name}` is there twice")));
        }
        columns.push(column);
    }
    match seen.contains(&Column::Tenant) {
        true => Ok(columns),
        false => Err(fault("has no column `tenant`".to_owned())),
    }
}

fn line(columns: &[Column], record: &ByteRecord) -> Result<TenantRecord, Fault> {
    let cells = StringRecord::from_byte_record(record.clone()).map_err(|error| {
        let column = columns.get(error.utf8_error().field()).map_or("line".to_owned(), Column::name);
        Fault::new(column, "not UTF-8")
    })?;
    if cells.len() != columns.len() {
        let reason = format!("has {} cells, the header {}", cells.len(), columns.len());
        return Err(Fault::new("line", reason));
    }
    let mut out = TenantRecord::default();
    for (column, cell) in columns.iter().zip(&cells) {
        column.take(cell, &mut out)?;
    }
    out.check().map_err(|Fault { field, reason }| {
        // Columns are named as the file names them.
        let field = field.replacen("tags.", TAG, 1).replacen("external_ids.", EXTERNAL_ID, 1);
        Fault { field, reason }
    })?;
    Ok(out)
}

/// Writes records as a file that [`Reading::new`] reads as they are.
pub fn write<'a>(records: impl IntoIterator<Item = &'a TenantRecord> + Clone) -> String {
    let mut columns =
        vec![Column::Tenant, Column::Name, Column::Organisation, Column::Tier, Column::ValidFrom];
    if records.clone().into_iter().any(|record| record.removed) {
        columns.push(Column::Removed);
    }
    let (mut tags, mut systems) = (BTreeSet::new(), BTreeSet::new());
    for record in records.clone() {
        tags.extend(record.tags.keys().cloned());
        systems.extend(record.external_ids.keys().cloned());
    }
    columns.extend(tags.into_iter().map(Column::Tag));
    columns.extend(systems.into_iter().map(Column::ExternalId));

    let mut out = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    // A vector takes every byte.
    let _ = out.write_record(columns.iter().map(Column::name));
    for record in records {
        let _ = out.write_record(columns.iter().map(|column| guarded(&column.give(record))));
    }
    String::from_utf8(out.into_inner().unwrap_or_default()).unwrap_or_default()
}

/// What OWASP says that spreadsheets take for the beginning of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// The cell, safe to be opened in a spreadsheet.
pub fn guarded(text: &str) -> String {
    let looks_guarded =
        text.strip_prefix('\'').is_some_and(|rest| rest.starts_with(FORMULA) || rest.starts_with('\''));
    let guard = if text.starts_with(FORMULA) || looks_guarded { "'" } else { "" };
    format!("{guard}{text}")
}

/// What [`guarded`] was given.
pub fn unguarded(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.starts_with(FORMULA) || rest.starts_with('\'') => rest,
        _ => cell,
    }
}

#[cfg(test)]
mod tests;
