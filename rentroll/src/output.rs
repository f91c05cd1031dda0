//! Tables for people, JSON for machines. Data goes to stdout, everything else to stderr.

use std::io::Write as _;

use comfy_table::{CellAlignment, Table};
pub use rentroll_schemas::text::grouped;

/// Prints `value` as JSON, one document.
///
/// # Errors
/// If stdout is closed.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    line(&text)
}

/// Prints one line of data.
///
/// # Errors
/// If stdout is closed.
pub fn line(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Says something on stderr. What runs for long says it to whoever listens: that nobody does any more is no reason to break
/// off.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A table whose columns are left- or right-aligned: numbers go right.
#[derive(Debug)]
pub struct Sheet {
    table: Table,
    alignments: Vec<CellAlignment>,
}

impl Sheet {
    /// With these headers; one that begins with `>` is a right-aligned column.
    pub fn new(headers: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(
            comfy_table::presets::NOTHING
                .header_separator(comfy_table::LineStyle::none().fill('─').junction('─')),
        );
        let right = |header: &&str| header.starts_with('>');
        let alignments = headers
            .iter()
            .map(|header| if right(header) { CellAlignment::Right } else { CellAlignment::Left })
            .collect();
        let mut sheet = Sheet { table, alignments };
        let cells: Vec<comfy_table::Cell> = headers
            .iter()
            .enumerate()
            .map(|(column, header)| sheet.cell(column, header.trim_start_matches('>')))
            .collect();
        sheet.table.set_header(cells);
        sheet
    }

    fn cell(&self, column: usize, text: &str) -> comfy_table::Cell {
        // Tenant names come from outside: control characters must not reach a terminal.
        let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let alignment = self.alignments.get(column).copied().unwrap_or(CellAlignment::Left);
        comfy_table::Cell::new(clean).set_alignment(alignment)
    }

    /// Adds a row.
    pub fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        let cells: Vec<comfy_table::Cell> =
            cells.iter().enumerate().map(|(column, text)| self.cell(column, text.as_ref())).collect();
        self.table.add_row(cells);
    }

    /// Prints it.
    ///
    /// # Errors
    /// If stdout is closed.
    pub fn print(&self) -> anyhow::Result<()> {
        line(&self.table.to_string())
    }
}
