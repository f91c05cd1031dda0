//! Filters and groups of a request: written as [`text`] says.

use super::params::Params;
use super::problem::Problem;
use crate::usage::{FILTERS_MAX, Filter, Group, text};

pub(super) use crate::usage::text::written;

/// The filters of a request.
pub(super) fn filters(params: &Params) -> Result<Vec<Filter>, Problem> {
    if let Some(text) = params.all("filter").nth(FILTERS_MAX) {
        return Err(Problem::unanswerable("filter", text, format!("at most {FILTERS_MAX} of them")));
    }
    text::filters(params.all("filter")).map_err(|text| Problem::parameter("filter", text, text::FILTERS))
}

/// The groups of a request.
pub(super) fn groups(params: &Params, name: &str) -> Result<Vec<Group>, Problem> {
    let mut groups = Vec::new();
    for text in params.list(name) {
        let group = group(name, text)?;
        if groups.contains(&group) {
            return Err(Problem::unanswerable(name, text, "each only once"));
        }
        groups.push(group);
    }
    Ok(groups)
}

/// One group.
pub(super) fn group(name: &str, text: &str) -> Result<Group, Problem> {
    text::group(text).ok_or_else(|| Problem::parameter(name, text, text::GROUPS))
}
