//! What an address asks for.

use chrono_tz::Tz;
use serde::Deserialize;

use super::Failure;
use crate::html::table::Direction;
use crate::pages::tenant_table::Sorting;
use crate::read::Reader;
use crate::read::tenants::Who;
use crate::window::Window;

/// Longest search text; a tenant's name is no longer.
const SEARCH_BYTES_MAX: usize = 512;
/// Beyond this page an offset would be no number any more; no list is that long.
const PAGE_MAX: u64 = 1_000_000_000;

/// The parameters that pages know; others are ignored, as links from elsewhere bring them.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Params {
    period: Option<String>,
    from: Option<String>,
    to: Option<String>,
    q: Option<String>,
    sort: Option<String>,
    order: Option<String>,
    page: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) pool: Option<String>,
    pub(super) name: Option<String>,
}

impl Params {
    pub(super) fn window(&self, zone: Tz) -> Result<Option<Window>, Failure> {
        Window::parse(self.period.as_deref(), self.from.as_deref(), self.to.as_deref(), zone)
            .map_err(|error| Failure::Asked(error.to_string()))
    }

    /// What is searched for, without the spaces around it; empty for everything.
    pub(super) fn search(&self) -> Result<String, Failure> {
        let text = self.q.as_deref().unwrap_or_default().trim();
        if text.len() > SEARCH_BYTES_MAX {
            return Err(Failure::Asked(format!("q: longer than {SEARCH_BYTES_MAX} bytes")));
        }
        Ok(text.to_owned())
    }

    pub(super) fn who(&self) -> Result<Who, Failure> {
        let search = self.search()?;
        Ok(if search.is_empty() { Who::All } else { Who::Containing(search) })
    }

    /// The page, from 1.
    pub(super) fn page(&self) -> Result<u64, Failure> {
        let Some(text) = self.page.as_deref() else { return Ok(1) };
        let page = text.parse().ok().filter(|page| (1..=PAGE_MAX).contains(page));
        page.ok_or_else(|| Failure::Asked(format!("page: `{}` is not a page: 1, 2, 3…", shorten(text))))
    }

    /// By which column; the first meter, largest first, where nothing is asked for.
    pub(super) fn sorting(&self, reader: &Reader) -> Result<Sorting, Failure> {
        let first =
            || reader.meter_columns().first().map_or_else(|| "tenant".to_owned(), |meter| meter.name.clone());
        let by = self.sort.clone().filter(|by| !by.is_empty()).unwrap_or_else(first);
        if !reader.can_sort_by(&by) {
            return Err(Failure::Asked(format!("sort: there is no column `{}`", shorten(&by))));
        }
        let natural = if matches!(by.as_str(), "tenant" | "plan") {
            Direction::Ascending
        } else {
            Direction::Descending
        };
        let direction = match self.order.as_deref() {
            None | Some("") => natural,
            Some("asc") => Direction::Ascending,
            Some("desc") => Direction::Descending,
            Some(other) => {
                return Err(Failure::Asked(format!("order: `{}` is neither asc nor desc", shorten(other))));
            }
        };
        Ok(Sorting { by, direction })
    }

    /// A parameter that filters, if it is given and not empty.
    pub(super) fn filter(given: &Option<String>) -> Option<&str> {
        given.as_deref().filter(|text| !text.is_empty())
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
