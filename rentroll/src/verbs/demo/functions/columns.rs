//! The trace's files: comma-separated, with a line of names at the top, and no field that is quoted.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// A file, whole: the largest has 600 kB.
pub(super) struct File {
    path: PathBuf,
    text: String,
}

/// A row, and where it stands.
pub(super) struct Row<'a> {
    path: &'a Path,
    number: usize,
    fields: Vec<&'a str>,
}

impl File {
    pub(super) fn read(path: PathBuf) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(File { path, text })
    }

    /// The names of the columns.
    pub(super) fn names(&self) -> Vec<&str> {
        self.text.lines().next().unwrap_or_default().split(',').collect()
    }

    /// Where the column of that name is.
    pub(super) fn column(&self, name: &str) -> anyhow::Result<usize> {
        let found = self.names().iter().position(|column| *column == name);
        found.with_context(|| format!("{} has no column `{name}`", self.path.display()))
    }

    /// The rows below the names.
    pub(super) fn rows(&self) -> impl Iterator<Item = anyhow::Result<Row<'_>>> {
        let columns = self.names().len();
        self.text.lines().enumerate().skip(1).map(move |(index, line)| {
            let row = Row { path: &self.path, number: index + 1, fields: line.split(',').collect() };
            if row.fields.len() != columns || line.contains('"') {
                bail!("{}: not {columns} plain fields", row.place());
            }
            Ok(row)
        })
    }
}

impl<'a> Row<'a> {
    /// The file and the line, for messages.
    pub(super) fn place(&self) -> String {
        format!("{}, line {}", self.path.display(), self.number)
    }

    /// The field as it stands.
    pub(super) fn text(&self, column: usize) -> &'a str {
        self.fields.get(column).copied().unwrap_or_default()
    }

    /// The field, which is a SHA-256 in hexadecimal digits.
    pub(super) fn hash(&self, column: usize) -> anyhow::Result<&'a str> {
        let text = self.text(column);
        let is_hash = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hash {
            bail!("{}, field {}: `{text}` is not 64 hexadecimal digits", self.place(), column + 1);
        }
        Ok(text)
    }
}
