//! A verdict on each event of a request. Pure.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use rentroll_schemas::reject::{Reject, reason};
use rentroll_schemas::token::{Sends, belongs_to};
use rentroll_schemas::{Defaults, Event, window};

use super::auth::{Reserved, Speaker};
use crate::format::Refusal;

/// What an event is held against.
pub struct Rules<'a> {
    /// Who sent it.
    pub speaker: &'a Speaker,
    /// Sources that no tenant may use.
    pub reserved: &'a Reserved,
    /// `specversion` may be left out.
    pub plain: bool,
    /// Largest event, in bytes.
    pub event_bytes_max: usize,
    /// When it arrived.
    pub now: DateTime<Utc>,
}

/// An event that was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the request, from 0.
    pub index: usize,
    /// Why.
    pub refusal: Refusal,
}

impl Refused {
    /// What it holds in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Refused>() + self.refusal.field.len() + self.refusal.detail.len()
    }
}

/// Judges all `elements` of a request, in order.
pub fn judge<'a>(elements: &[&'a [u8]], rules: &Rules<'a>) -> (Vec<Event<'a>>, Vec<Refused>) {
    let mut events = Vec::with_capacity(elements.len());
    let mut refused = Vec::new();
    // Nearly always all events of a request have one source.
    let mut allowed: Cow<'_, str> = Cow::Borrowed("");
    for (index, bytes) in elements.iter().enumerate() {
        match one(bytes, rules, &mut allowed) {
            Ok(event) => events.push(event),
            Err(refusal) => refused.push(Refused { index, refusal }),
        }
    }
    (events, refused)
}

fn one<'a>(bytes: &'a [u8], rules: &Rules<'a>, allowed: &mut Cow<'a, str>) -> Result<Event<'a>, Refusal> {
    if bytes.len() > rules.event_bytes_max {
        let detail =
            format!("{} bytes, more than {}; only its beginning is kept", bytes.len(), rules.event_bytes_max);
        return Err(Refusal { reason: reason::TOO_LARGE, field: String::new(), detail });
    }
    let defaults =
        Defaults { specversion: rules.plain, tenant: rules.speaker.tenant(), time: Some(rules.now) };
    let event = Event::from_json_with(bytes, &defaults)?;
    if let Some(tenant) = rules.speaker.tenant()
        && tenant != event.tenant
    {
        let detail = format!("`{}` is not the token's tenant", event.tenant);
        return Err(forbidden("subject", detail));
    }
    if *allowed != event.source {
        may_use(rules, &event.source)?;
        allowed.clone_from(&event.source);
    }
    window::check(event.time, rules.now, rules.speaker.backfill()).map_err(|(reason, detail)| Refusal {
        reason,
        field: "time".to_owned(),
        detail,
    })?;
    Ok(event)
}

fn may_use(rules: &Rules<'_>, source: &str) -> Result<(), Refusal> {
    match rules.speaker.grant.sends() {
        Sends::Source { name, .. } if !belongs_to(source, name) => {
            Err(forbidden("source", format!("`{source}` is neither `{name}` nor begins with `{name}/`")))
        }
        Sends::Source { .. } => Ok(()),
        Sends::Tenant(_) => match rules.reserved.owner(source) {
            Some(owner) => {
                Err(forbidden("source", format!("`{owner}` is a trusted source's, not a tenant's")))
            }
            None => Ok(()),
        },
        // Such a request is refused as a whole, before it is read.
        Sends::Nothing => Err(forbidden("source", "the token sends no events".to_owned())),
    }
}

fn forbidden(field: &str, detail: String) -> Refusal {
    Refusal { reason: reason::FORBIDDEN, field: field.to_owned(), detail }
}

/// What is kept of a refused event.
pub fn reject(refused: &Refused, bytes: &[u8], request_id: &str, rules: &Rules<'_>) -> Reject {
    let Refusal { reason, field, detail } = &refused.refusal;
    let speaker = rules.speaker;
    Reject {
        source: speaker.source().to_owned(),
        place: format!("http:{}:{request_id}:{}", speaker.id, refused.index),
        tenant: speaker.tenant().unwrap_or_default().to_owned(),
        reason: (*reason).to_owned(),
        field: field.clone(),
        detail: detail.clone(),
        rejected_at: rules.now,
        backfill: speaker.backfill(),
        bytes: bytes[..bytes.len().min(rules.event_bytes_max)].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use rentroll_schemas::token::Grant;

    use super::super::auth::Keys;
    use super::*;

    fn verdict(speaker: &Speaker, event: &str) -> Result<(String, String), (&'static str, String)> {
        let keys = Keys::open("/nonexistent/tokens.toml".into(), vec!["edge".into()]).unwrap();
        let reserved = keys.reserved();
        let rules = Rules {
            speaker,
            reserved: &reserved,
            plain: true,
            event_bytes_max: 300,
            now: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        };
        let (events, mut refused) = judge(&[event.as_bytes()], &rules);
        match events.first() {
            Some(event) => Ok((event.tenant.to_string(), event.time.to_rfc3339())),
            None => {
                let Refused { refusal, .. } = refused.remove(0);
                Err((refusal.reason, refusal.field))
            }
        }
    }

    fn speaker(grant: Grant) -> Speaker {
        Speaker { id: "t1".into(), grant: grant.into() }
    }

    #[test]
    fn a_tenant_speaks_for_itself_alone() {
        let acme = speaker(Grant::Tenant { tenant: "acme".into() });
        let say = |rest: &str| verdict(&acme, &format!(r#"{{"id":"1","type":"t","source":{rest}}}"#));
        assert_eq!(say(r#""api""#), Ok(("acme".into(), "2023-11-14T22:13:20+00:00".into())));
        assert_eq!(say(r#""api","subject":"acme""#).unwrap().0, "acme");
        assert_eq!(say(r#""api","subject":"other""#), Err((reason::FORBIDDEN, "subject".into())));
        assert_eq!(say(r#""edge""#), Err((reason::FORBIDDEN, "source".into())));
        assert_eq!(say(r#""edge/eu""#), Err((reason::FORBIDDEN, "source".into())));
        assert!(say(r#""edges""#).is_ok());
        assert_eq!(say(r#""api","time":"2015-01-01T00:00:00Z""#), Err((reason::TOO_OLD, "time".into())));
        assert_eq!(say(r#""api","data":[]"#), Err((reason::INVALID, "data".into())));
        assert_eq!(say(&format!(r#""{}""#, "x".repeat(300))), Err((reason::TOO_LARGE, String::new())));
    }

    #[test]
    fn a_portal_says_nothing_and_an_admin_only_under_a_name() {
        let own = r#"{"id":"1","type":"t","source":"edge/x","subject":"acme"}"#;
        let forbidden = Err((reason::FORBIDDEN, "source".into()));
        for grant in [
            Grant::Portal { tenant: "acme".into(), meters: vec![] },
            Grant::Admin { source: None },
            Grant::Service { source: None },
        ] {
            assert_eq!(verdict(&speaker(grant), own), forbidden);
            assert_eq!(verdict(&speaker(Grant::Admin { source: Some("other".into()) }), own), forbidden);
        }
        let named = Some("edge".to_owned());
        for grant in [Grant::Admin { source: named.clone() }, Grant::Service { source: named }] {
            let holder = speaker(grant);
            assert_eq!(verdict(&holder, own).unwrap().0, "acme");
            let nobodys = r#"{"id":"1","type":"t","source":"edge"}"#;
            assert_eq!(verdict(&holder, nobodys), Err((reason::INVALID, "subject".into())));
        }
    }

    #[test]
    fn a_source_speaks_for_many_under_its_own_name() {
        let edge = speaker(Grant::Source { source: "edge".into(), backfill: false });
        let old = speaker(Grant::Source { source: "edge".into(), backfill: true });
        let say = |speaker, rest: &str| verdict(speaker, &format!(r#"{{"id":"1","type":"t",{rest}}}"#));
        assert_eq!(say(&edge, r#""source":"edge/eu","subject":"acme""#).unwrap().0, "acme");
        assert_eq!(say(&edge, r#""source":"edge""#), Err((reason::INVALID, "subject".into())));
        let other = say(&edge, r#""source":"edge2","subject":"acme""#);
        assert_eq!(other, Err((reason::FORBIDDEN, "source".into())));
        let past = r#""source":"edge","subject":"acme","time":"2015-01-01T00:00:00Z""#;
        assert_eq!(say(&edge, past), Err((reason::TOO_OLD, "time".into())));
        assert!(say(&old, past).is_ok());
    }
}
