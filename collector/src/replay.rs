//! A reject, judged again after a fix. Pure.
//!
//! What is judged is the reject's bytes, by the rules that hold now: the source's format and its backfill for a line,
//! the token's tenant or source for an event that came over HTTP, the event's own for a record of the log. The
//! window alone is that of then: an event is as late as it was when it arrived, however late it is replayed, and a
//! record of the log that came as a backfill is one still, whoever had declared it.
//!
//! The record that comes of it arrives now, since the log's retention and the memory of duplicates go by
//! arrival; its first arrival travels beside it.

use chrono::{DateTime, Utc};
use rentroll_engines::log::{Headers, Record};
use rentroll_schemas::reject::{Reject, reason};
use rentroll_schemas::token::{Grant, Tokens, belongs_to};
use rentroll_schemas::topics::{Topic, headers};
use rentroll_schemas::{Defaults, Event, window};

use crate::format::{LineFormat, Refusal};
use crate::outgoing;
use crate::source::SourceConfig;

/// The rules that hold now.
#[derive(Clone, Debug)]
pub struct Rules {
    sources: Vec<(SourceConfig, LineFormat)>,
    /// Those that were revoked too: they say for whom a request spoke.
    tokens: Tokens,
    /// Names of trusted sources that no tenant's event may bear.
    reserved: Vec<String>,
    now: DateTime<Utc>,
}

impl Rules {
    /// With the sources that are configured, the tokens, the names of trusted sources that are neither, and the present.
    ///
    /// # Errors
    /// (field, reason) of a source that cannot be used.
    pub fn new(
        sources: &[SourceConfig],
        tokens: Tokens,
        reserved: Vec<String>,
        now: DateTime<Utc>,
    ) -> Result<Self, (String, String)> {
        let reserved = sources.iter().flat_map(SourceConfig::names).cloned().chain(reserved).collect();
        let with_format = |source: &SourceConfig| Ok((source.clone(), LineFormat::new(source)?));
        let sources = sources.iter().map(with_format).collect::<Result<_, (String, String)>>()?;
        Ok(Rules { sources, tokens, reserved, now })
    }
}

/// The record that the reject's bytes make now.
///
/// # Errors
/// Why it is refused again.
pub fn judge(reject: &Reject, rules: &Rules) -> Result<Record, Refusal> {
    if reject.reason == reason::TOO_LARGE {
        let detail = "only its beginning was kept: send it again from where it came".to_owned();
        return Err(Refusal { reason: reason::TOO_LARGE, field: String::new(), detail });
    }
    let configured = |name: &str| rules.sources.iter().find(|(source, _)| source.name == name);
    let (event, backfill) = if let Some(place) = reject.place.strip_prefix("http:") {
        over_http(reject, place, rules)?
    } else if is_log_place(&reject.place) {
        let event = of_tenant(Event::from_json(&reject.bytes)?, &reject.tenant, "the record's")?;
        let declared = configured(&event.source).is_some_and(|(source, _)| source.backfill);
        (event, declared || reject.backfill)
    } else {
        let (source, format) = configured(&reject.source).ok_or_else(|| Refusal {
            reason: reason::INVALID,
            field: "source".to_owned(),
            detail: format!(
                "no [[collector.sources]] is named `{}`, which says how to read it",
                reject.source
            ),
        })?;
        (format.read(&reject.bytes, line_id(&reject.place))?, source.backfill)
    };
    window::check(event.time, reject.rejected_at, backfill).map_err(|(reason, detail)| Refusal {
        reason,
        field: "time".to_owned(),
        detail,
    })?;
    let record = outgoing::record(&event, rules.now.timestamp_millis(), backfill);
    let first_arrival = reject.rejected_at.timestamp_millis().to_string();
    let headers: Headers =
        record.headers.iter().chain([(headers::ORIGINAL_ARRIVAL, first_arrival.as_str())]).collect();
    Ok(Record { headers, ..record })
}

fn over_http<'a>(reject: &'a Reject, place: &str, rules: &Rules) -> Result<(Event<'a>, bool), Refusal> {
    let id = place.split(':').next().unwrap_or_default();
    let grant = rules.tokens.tokens.iter().find(|token| token.id == id).map(|token| &token.grant);
    let tenant = (!reject.tenant.is_empty()).then_some(reject.tenant.as_str());
    let defaults = Defaults { specversion: true, tenant, time: Some(reject.rejected_at) };
    let event = Event::from_json_with(&reject.bytes, &defaults)?;
    let forbidden =
        |detail: String| Refusal { reason: reason::FORBIDDEN, field: "source".to_owned(), detail };
    if tenant.is_some() {
        let of_tokens = rules.tokens.tokens.iter().filter_map(|token| token.grant.source());
        let mut trusted = of_tokens.chain(rules.reserved.iter().map(String::as_str));
        if let Some(owner) = trusted.find(|name| belongs_to(&event.source, name)) {
            return Err(forbidden(format!("`{owner}` is a trusted source's, not a tenant's")));
        }
        return Ok((of_tenant(event, &reject.tenant, "the token's")?, false));
    }
    if !belongs_to(&event.source, &reject.source) {
        let name = &reject.source;
        return Err(forbidden(format!("`{}` is neither `{name}` nor begins with `{name}/`", event.source)));
    }
    let backfill =
        matches!(grant, Some(Grant::Source { source, backfill: true }) if *source == reject.source);
    Ok((event, backfill))
}

/// Nobody speaks for another tenant, the second time neither.
fn of_tenant<'a>(event: Event<'a>, tenant: &str, whose: &str) -> Result<Event<'a>, Refusal> {
    match tenant.is_empty() || event.tenant == tenant {
        true => Ok(event),
        false => Err(Refusal {
            reason: reason::INVALID,
            field: "subject".to_owned(),
            detail: format!("`{}` is not {whose} tenant `{tenant}`", event.tenant),
        }),
    }
}

/// `topic/partition/position`, perhaps with a place in a batch behind it.
fn is_log_place(place: &str) -> bool {
    let mut parts = place.split('/');
    let topic = parts.next().and_then(Topic::from_name);
    topic.is_some() && parts.next().is_some_and(|partition| partition.parse::<u32>().is_ok())
}

/// The id of a line, from its place: `web.log:2 (byte 123-9f…)`.
fn line_id(place: &str) -> &str {
    place.rsplit_once("(byte ").and_then(|(_, id)| id.strip_suffix(')')).unwrap_or(place)
}

#[cfg(test)]
mod tests {
    use rentroll_schemas::token::Token;

    use super::*;

    const LINE: &str = r#"10.0.0.1 - - [14/Nov/2023:22:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "-""#;

    fn tokens() -> Tokens {
        let token =
            |id: &str, grant| Token::make(id.to_owned(), &[7; 32], grant, String::new(), Utc::now(), None).0;
        let edge = Grant::Source { source: "edge".into(), backfill: false };
        let ops = Grant::Admin { source: Some("ops".into()) };
        Tokens { tokens: vec![token("t2", edge), token("t3", ops)] }
    }

    fn reject(source: &str, place: &str, tenant: &str, bytes: &str) -> Reject {
        Reject {
            source: source.into(),
            place: place.into(),
            tenant: tenant.into(),
            reason: reason::INVALID.into(),
            field: String::new(),
            detail: String::new(),
            rejected_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            backfill: false,
            bytes: bytes.into(),
        }
    }

    fn verdict(reject: &Reject, backfill: bool) -> Result<Record, (&'static str, String)> {
        let source = SourceConfig { backfill, ..SourceConfig::log("web", "web.log") };
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let rules = Rules::new(&[source], tokens(), Vec::new(), now).unwrap();
        judge(reject, &rules).map_err(|refusal| (refusal.reason, refusal.field))
    }

    #[test]
    fn a_line_is_the_event_that_it_would_have_been() {
        let line = reject("web", "web.log:2 (byte 71-00ff)", "", LINE);
        let record = verdict(&line, false).unwrap();
        let event = Event::from_json(&record.value).unwrap();
        assert_eq!((event.id.as_ref(), event.source.as_ref()), ("71-00ff", "web"));
        assert_eq!(record.key, event.identity());
        // It arrives now, and says when it did first: three years in between are no matter.
        assert_eq!(record.arrived_at_ms, 1_800_000_000_000);
        assert_eq!(record.header(headers::ORIGINAL_ARRIVAL), Some("1700000000000"));
        let unknown = reject("gone", "web.log:2 (byte 71-00ff)", "", LINE);
        assert_eq!(verdict(&unknown, false).unwrap_err(), (reason::INVALID, "source".into()));
        let old = reject("web", "web.log:2 (byte 71-00ff)", "", &LINE.replace("2023", "2015"));
        assert_eq!(verdict(&old, false).unwrap_err(), (reason::TOO_OLD, "time".into()));
        assert!(verdict(&old, true).is_ok());
        let cut = Reject { reason: reason::TOO_LARGE.into(), ..line };
        assert_eq!(verdict(&cut, false).unwrap_err().0, reason::TOO_LARGE);
    }

    #[test]
    fn an_event_over_http_speaks_for_nobody_else() {
        let event = |rest: &str| format!(r#"{{"id":"1","type":"t",{rest}}}"#);
        let tenant = |rest: &str| verdict(&reject("http", "http:t1:9:0", "acme", &event(rest)), false);
        let record = tenant(r#""source":"api""#).unwrap();
        let read = Event::from_json(&record.value).unwrap();
        // Its time is that of its first arrival.
        assert_eq!((read.tenant.as_ref(), read.time.timestamp()), ("acme", 1_700_000_000));
        assert_eq!(
            tenant(r#""source":"api","subject":"other""#).unwrap_err(),
            (reason::INVALID, "subject".into())
        );
        assert_eq!(tenant(r#""source":"edge/x""#).unwrap_err(), (reason::FORBIDDEN, "source".into()));
        assert_eq!(tenant(r#""source":"ops""#).unwrap_err(), (reason::FORBIDDEN, "source".into()));
        let edge = |rest: &str| verdict(&reject("edge", "http:t2:9:0", "", &event(rest)), false);
        assert!(edge(r#""source":"edge/x","subject":"acme""#).is_ok());
        assert_eq!(
            edge(r#""source":"api","subject":"acme""#).unwrap_err(),
            (reason::FORBIDDEN, "source".into())
        );
        assert_eq!(edge(r#""source":"edge""#).unwrap_err(), (reason::INVALID, "subject".into()));
        let ops = event(r#""source":"ops/1","subject":"acme""#);
        assert!(verdict(&reject("ops", "http:t3:9:0", "", &ops), false).is_ok());
    }

    #[test]
    fn what_a_log_speaks_for_is_closed_to_tenants() {
        let format = crate::source::Format::Cloudevents;
        let sources = Some(vec!["billing".to_owned()]);
        let source = SourceConfig { format, sources, ..SourceConfig::log("web", "web.log") };
        let rules = Rules::new(&[source], tokens(), Vec::new(), Utc::now()).unwrap();
        let replayed = |source: &str| {
            let event = format!(r#"{{"id":"1","type":"t","source":"{source}"}}"#);
            judge(&reject("http", "http:t1:9:0", "acme", &event), &rules).map_err(|refusal| refusal.field)
        };
        assert_eq!(replayed("billing/eu").unwrap_err(), "source");
        assert_eq!(replayed("web").unwrap_err(), "source");
        assert!(replayed("bill").is_ok());
    }

    #[test]
    fn a_record_of_the_log_keeps_its_tenant() {
        let event = r#"{"specversion":"1.0","id":"1","source":"api","type":"t","subject":"acme","time":"2023-11-14T22:00:00Z"}"#;
        assert!(verdict(&reject("api", "usage/1/7", "acme", event), false).is_ok());
        let forged = reject("api", "usage.overflow/1/7", "other", event);
        assert_eq!(verdict(&forged, false).unwrap_err(), (reason::INVALID, "subject".into()));
    }

    #[test]
    fn a_record_that_came_as_a_backfill_is_one_still() {
        let event = r#"{"specversion":"1.0","id":"1","source":"api","type":"t","subject":"acme","time":"2015-05-17T10:05:03Z"}"#;
        let old = reject("api", "usage/1/7", "acme", event);
        assert_eq!(verdict(&old, false).unwrap_err(), (reason::TOO_OLD, "time".into()));
        let record = verdict(&Reject { backfill: true, ..old }, false).unwrap();
        assert_eq!(record.header(headers::BACKFILL), Some("1"));
    }
}
