//! Tables: units in the headers, numbers to the right, the totals at the foot, and a frame that scrolls
//! sideways on a narrow screen while the first column stays.

use maud::{Markup, html};

/// A column's header.
#[derive(Clone, Debug)]
pub struct Column {
    title: String,
    unit: String,
    number: bool,
    sort: Option<Sort>,
}

#[derive(Clone, Debug)]
struct Sort {
    href: String,
    active: Option<Direction>,
}

/// Which way a column is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

impl Direction {
    /// The word of the address.
    pub const fn word(self) -> &'static str {
        match self {
            Direction::Ascending => "asc",
            Direction::Descending => "desc",
        }
    }

    /// The other way.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Direction::Ascending => Direction::Descending,
            Direction::Descending => Direction::Ascending,
        }
    }
}

impl Column {
    /// A column of text.
    pub fn text(title: impl Into<String>) -> Self {
        Column { title: title.into(), unit: String::new(), number: false, sort: None }
    }

    /// A column of numbers in `unit`; empty where the title says it.
    pub fn number(title: impl Into<String>, unit: impl Into<String>) -> Self {
        Column { title: title.into(), unit: unit.into(), number: true, sort: None }
    }

    /// A link that sorts by this column; `active` is how it is sorted now.
    #[must_use]
    pub fn sorted_by(mut self, href: String, active: Option<Direction>) -> Self {
        self.sort = Some(Sort { href, active });
        self
    }
}

/// A table: a caption that is read aloud, columns, rows of as many cells, and a foot.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What the rows are.
    pub caption: String,
    /// The header.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Vec<Markup>>,
    /// Rows below a rule: totals.
    pub foot: Vec<Vec<Markup>>,
}

impl Table {
    /// The markup.
    pub fn render(&self) -> Markup {
        html! {
            div.table-wrap tabindex="0" role="region" aria-label=(self.caption) {
                table {
                    caption.hidden { (self.caption) }
                    thead { tr { @for column in &self.columns { (header(column)) } } }
                    tbody { @for row in &self.rows { (self.row(row)) } }
                    @if !self.foot.is_empty() { tfoot { @for row in &self.foot { (self.row(row)) } } }
                }
            }
        }
    }

    fn row(&self, cells: &[Markup]) -> Markup {
        html! {
            tr {
                @for (index, (cell, column)) in cells.iter().zip(&self.columns).enumerate() {
                    @if index == 0 { th scope="row" { (cell) } }
                    @else { td.number[column.number] { (cell) } }
                }
            }
        }
    }
}

fn header(column: &Column) -> Markup {
    let active = column.sort.as_ref().and_then(|sort| sort.active);
    let sorted = active.map(|direction| match direction {
        Direction::Ascending => "ascending",
        Direction::Descending => "descending",
    });
    let arrow = active.map(|direction| match direction {
        Direction::Ascending => " ↑",
        Direction::Descending => " ↓",
    });
    html! {
        th.number[column.number] scope="col" aria-sort=[sorted] {
            @match &column.sort {
                Some(sort) => a.sort href=(sort.href) rel="nofollow" { (column.title) (arrow.unwrap_or_default()) },
                None => (column.title),
            }
            @if !column.unit.is_empty() && crate::text::names_another_unit(&column.title, &column.unit) { span.col-unit { (column.unit) } }
        }
    }
}
