//! The values of a dimension.

use super::{GroupValue, Span};
use crate::usage::plan::{Asked, Plan, span};
use crate::usage::windows::Cut;
use crate::usage::{Group, Scoped, UsageError};

impl Scoped {
    /// The values that a dimension has in the events that a meter counts in the span, most events first.
    ///
    /// # Errors
    /// As [`Scoped::query`].
    pub async fn group_values(
        &self,
        meter: &str,
        dimension: &str,
        asked: Span,
    ) -> Result<Vec<GroupValue>, UsageError> {
        let (from, to) = span(asked.from, asked.to)?;
        if dimension.is_empty() {
            return Err(UsageError::parameter("dimension", dimension, "the name of a dimension"));
        }
        let asked = Asked {
            meter,
            tenants: &[],
            organisations: &[],
            filters: &[],
            group_by: &[Group::Dimension(dimension.to_owned())],
            counts_only: true,
            approximate: false,
        };
        let plan = Plan::new(&self.scope, &self.usage.meters.now(), &asked, Cut::whole(from, to))?;
        let measured = self.ask(plan.narrow()).measure(&plan).await?;
        let mut values: Vec<GroupValue> = measured
            .cells
            .into_iter()
            .map(|(keys, steps)| {
                let events: i64 = steps.values().map(|cell| cell.events).sum();
                GroupValue {
                    value: keys.into_iter().next().unwrap_or_default(),
                    events: u64::try_from(events).unwrap_or_default(),
                }
            })
            .collect();
        // Stable: those with as many events stay in the order of the values.
        values.sort_by_key(|value| std::cmp::Reverse(value.events));
        Ok(values)
    }
}
