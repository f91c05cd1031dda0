//! What becomes of stored events: as a condition to search by, and of one event. Both say the same.

use rentroll_schemas::meter::{Aggregation, Given, Meter, Reading};
use rentroll_schemas::{Event, Quantity};

use super::{Counted, Verdict};
use crate::usage::ask::Ask;
use crate::usage::scope::Table;

/// Verdicts on what was stored.
pub(super) const STORED: [Verdict; 7] = [
    Verdict::Counted,
    Verdict::Unmatched,
    Verdict::WithoutValue,
    Verdict::Voided,
    Verdict::Amended,
    Verdict::Void,
    Verdict::Copy,
];

/// The identity that a correction names, as (high, low).
const NAMED: &str = "reinterpretAsUInt64(substring(corrects, 1, 8)) AS named_high, \
                     reinterpretAsUInt64(substring(corrects, 9, 8)) AS named_low, correction";

/// The meters by which events are judged: in all their versions.
#[derive(Clone, Debug, Default)]
pub(super) struct Judges(pub(super) Vec<Meter>);

impl Judges {
    fn any(&self, sql: impl Fn(&Meter) -> String) -> String {
        let each: Vec<String> = self.0.iter().map(|meter| format!("({})", sql(meter))).collect();
        if each.is_empty() { "0".to_owned() } else { format!("({})", each.join(" OR ")) }
    }

    /// The condition that one of them matches.
    pub(super) fn match_sql(&self) -> String {
        self.any(Meter::raw_condition_sql)
    }

    /// The condition that one of them matches and has no value.
    fn without_value_sql(&self) -> String {
        let valued = Judges(self.0.iter().filter(|meter| meter.value.is_some()).cloned().collect());
        valued.any(|meter| format!("{} AND NOT {}", meter.raw_condition_sql(), meter.has_value_sql()))
    }

    /// What the meters make of an event, in the order of their names.
    pub(super) fn of(&self, event: &Event<'_>) -> Vec<Counted> {
        let mut counted: Vec<Counted> = self.0.iter().filter_map(|meter| counted(meter, event)).collect();
        counted.sort_by(|one, other| one.meter.cmp(&other.meter));
        counted
    }

    /// The verdict on a stored event that nothing corrects.
    pub(super) fn verdict(&self, event: &Event<'_>) -> Verdict {
        let counted = self.of(event);
        match counted.iter().any(|counted| counted.value.is_none()) {
            true => Verdict::WithoutValue,
            false if counted.is_empty() => Verdict::Unmatched,
            false => Verdict::Counted,
        }
    }
}

fn counted(meter: &Meter, event: &Event<'_>) -> Option<Counted> {
    let value = match meter.read(event) {
        Reading::NotMine => return None,
        Reading::NoValue => None,
        Reading::Value(value) => Some(match (&meter.value, meter.aggregation) {
            (Some(key), Aggregation::UniqueCount) => match Given::of(event, key) {
                Given::Text(text) => String::from_utf8_lossy(text).into_owned(),
                given => given.number().unwrap_or(Quantity::ONE).to_string(),
            },
            _ => value.to_string(),
        }),
    };
    Some(Counted { meter: meter.name.clone(), version: meter.version, unit: meter.unit.clone(), value })
}

/// The condition that a stored event is of one of these verdicts. `tenants` is the condition on tenants that an event shares with its
/// corrections, `base` all other conditions of the search.
pub(super) fn sql(
    ask: &Ask<'_>,
    wanted: &[Verdict],
    judges: &Judges,
    tenants: &str,
    base: &str,
) -> Option<String> {
    if STORED.iter().all(|verdict| wanted.contains(verdict)) {
        return None;
    }
    let corrected = |word: &str| {
        format!(
            "(identity_high, identity_low) IN (SELECT named_high, named_low FROM ({}) WHERE correction = '{word}')",
            ask.scope().corrections(NAMED, tenants)
        )
    };
    let counts = ask.scope().counts(tenants);
    let (matched, without) = (judges.match_sql(), judges.without_value_sql());
    let each = wanted.iter().filter_map(|verdict| {
        Some(match verdict {
            Verdict::Counted => format!("({counts} AND {matched} AND NOT {without})"),
            Verdict::Unmatched => format!("({counts} AND NOT {matched})"),
            Verdict::WithoutValue => format!("({counts} AND {without})"),
            Verdict::Voided => {
                format!("(correction != 'voids' AND {} AND NOT {})", corrected("voids"), corrected("amends"))
            }
            Verdict::Amended => format!("(correction != 'voids' AND {})", corrected("amends")),
            Verdict::Void => "correction = 'voids'".to_owned(),
            Verdict::Copy => format!(
                "(identity_high, identity_low) IN (SELECT identity_high, identity_low FROM {} WHERE {base} \
                 GROUP BY identity_high, identity_low HAVING count() > 1)",
                ask.scope().table(Table::Events)
            ),
            Verdict::Rejected | Verdict::Conflict => return None,
        })
    });
    let each: Vec<String> = each.collect();
    Some(if each.is_empty() { "0".to_owned() } else { format!("({})", each.join(" OR ")) })
}
