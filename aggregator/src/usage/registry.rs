//! What the registry of tenants has to do with usage: organisation, tier and tags as they were at the time.
//!
//! A version holds from a whole minute on, so that a bucket of an hour or a day may be of two. Cells are therefore cut where versions
//! begin, and each is joined with the version that holds at its beginning.

use super::ask::{Ask, Params};
use super::plan::Plan;
use super::scope::Table;
use super::{Group, UsageError};

/// Beginnings of versions by which cells are cut. With more, each bucket is joined by itself.
const CUTS_MAX: usize = 1_000;

/// How the registry changes in the span of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Changes {
    /// At these times and no others; not at all, if there are none.
    At(Vec<i64>),
    /// At more times than were counted.
    Many,
}

impl Plan {
    /// The condition that a tenant may be of the organisations that are asked for: each row is looked at once more.
    fn candidates_sql(&self, ask: &Ask<'_>, params: &mut Params) -> Option<String> {
        (!self.organisations.is_empty()).then(|| {
            let organisations = params.texts(&self.organisations);
            format!(
                "tenant IN (SELECT tenant FROM {} WHERE organisation IN {organisations})",
                ask.scope().table(Table::TenantVersions)
            )
        })
    }

    /// The conditions on tenants.
    pub(super) fn tenants_sql(&self, ask: &Ask<'_>, params: &mut Params) -> Vec<String> {
        let mut conditions = Vec::new();
        if !self.tenants.is_empty() {
            conditions.push(format!("tenant IN {}", params.texts(&self.tenants)));
        }
        conditions.extend(self.candidates_sql(ask, params));
        conditions
    }

    /// The condition that something in the registry begins for a tenant within the span.
    pub(super) fn changing_sql(&self, ask: &Ask<'_>, params: &mut Params) -> String {
        format!(
            "tenant IN (SELECT tenant FROM {} WHERE {})",
            ask.scope().table(Table::TenantVersions),
            self.in_span_sql(params)
        )
    }

    fn in_span_sql(&self, params: &mut Params) -> String {
        let (from, to) = (params.number(self.cut.from()), params.number(self.cut.to()));
        format!("valid_from > toDateTime({from}, 'UTC') AND valid_from < toDateTime({to}, 'UTC')")
    }

    /// The join of `cells`, which have `tenant` and the time `segment` in seconds, with what the registry has of them.
    pub(super) fn registry_join_sql(&self, ask: &Ask<'_>, params: &mut Params) -> String {
        let mut columns = vec!["if(is_removed, '', organisation) AS organisation_then".to_owned()];
        columns.push("if(is_removed, '', toString(tier)) AS tier_then".to_owned());
        for (nth, group) in self.group_by.iter().enumerate() {
            if let Group::Tag(tag) = group {
                columns.push(format!("if(is_removed, '', tags[{}]) AS tag{nth}", params.text(tag)));
            }
        }
        let to = params.number(self.cut.to());
        format!(
            "ASOF LEFT JOIN (SELECT tenant AS of_tenant, toInt64(toUnixTimestamp(valid_from)) AS since, {columns} \
             FROM {table} WHERE valid_from < toDateTime({to}, 'UTC')) AS registry \
             ON cells.tenant = registry.of_tenant AND cells.segment >= registry.since",
            columns = columns.join(", "),
            table = ask.scope().table(Table::TenantVersions),
        )
    }

    /// The condition on the organisation, of cells that are joined.
    pub(super) fn organisations_sql(&self, params: &mut Params) -> Option<String> {
        (!self.organisations.is_empty())
            .then(|| format!("registry.organisation_then IN {}", params.texts(&self.organisations)))
    }
}

impl Ask<'_> {
    /// How the registry changes in the span, for the tenants in question.
    pub(super) async fn changes(&self, plan: &Plan) -> Result<Changes, UsageError> {
        let mut params = Params::default();
        let mut conditions = plan.tenants_sql(self, &mut params);
        conditions.push(plan.in_span_sql(&mut params));
        let sql = format!(
            "SELECT DISTINCT toInt64(toUnixTimestamp(valid_from)) AS at FROM {} WHERE {} ORDER BY at LIMIT {}",
            self.scope().table(Table::TenantVersions),
            conditions.join(" AND "),
            CUTS_MAX + 1
        );
        let times: Vec<i64> = self.fetch(&sql, &params).await?;
        Ok(if times.len() > CUTS_MAX { Changes::Many } else { Changes::At(times) })
    }
}

/// What a group is of a cell: `dimension` says it of a dimension, by the place of the group.
pub(super) fn group_sql(group: &Group, nth: usize, dimension: impl Fn(usize, &str) -> String) -> String {
    match group {
        Group::Tenant => "cells.tenant".to_owned(),
        Group::Organisation => "registry.organisation_then".to_owned(),
        Group::Tier => "registry.tier_then".to_owned(),
        Group::Tag(_) => format!("registry.tag{nth}"),
        Group::Dimension(key) => dimension(nth, key),
    }
}
