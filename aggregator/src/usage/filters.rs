//! Conditions on the data of events, in the words of the store. Keys and values are bound.

use rentroll_schemas::meter::Number;

use super::ask::Params;
use super::{Filter, Test};

/// Texts that are numbers: as in a meter's conditions.
const NUMBER_PATTERN: &str = r"^-?[0-9]{1,20}(\\.[0-9]{1,9})?$";

/// What a filter looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks<'a> {
    /// At a raw event, with `measures` and `dimensions`.
    AtEvents,
    /// At canonical JSON of the dimensions, under this name.
    AtJson(&'a str),
}

impl Looks<'_> {
    /// The expression of a dimension's text; empty if it is missing.
    pub(super) fn text(self, key: &str, params: &mut Params) -> String {
        let key = params.text(key);
        match self {
            Looks::AtEvents => format!("dimensions[{key}]"),
            Looks::AtJson(json) => format!("JSONExtractString({json}, {key})"),
        }
    }
}

/// The condition that a filter holds.
pub(super) fn sql(filter: &Filter, looks: Looks<'_>, params: &mut Params) -> String {
    let text = looks.text(&filter.key, params);
    match &filter.test {
        Test::In(values) => format!("{text} IN {}", params.texts(values)),
        Test::Not(values) => format!("{text} NOT IN {}", params.texts(values)),
        Test::Prefix(prefix) => format!("startsWith({text}, {})", params.text(prefix)),
        Test::Range { from, below } => {
            let of_text = range(&format!("toDecimal128OrZero({text}, 9)"), *from, *below, params);
            let of_text = format!("(match({text}, '{NUMBER_PATTERN}') AND {of_text})");
            match looks {
                Looks::AtJson(_) => of_text,
                Looks::AtEvents => {
                    let key = params.text(&filter.key);
                    let of_measure = range(&format!("measures[{key}]"), *from, *below, params);
                    format!(
                        "if(mapContains(dimensions, {key}), {of_text}, mapContains(measures, {key}) AND {of_measure})"
                    )
                }
            }
        }
    }
}

fn range(number: &str, from: Option<Number>, below: Option<Number>, params: &mut Params) -> String {
    let bounds = [(">=", from), ("<", below)].into_iter().filter_map(|(sign, bound)| {
        let bound = params.text(&bound?.0.to_string());
        Some(format!("{number} {sign} toDecimal128({bound}, 9)"))
    });
    bounds.collect::<Vec<_>>().join(" AND ")
}
