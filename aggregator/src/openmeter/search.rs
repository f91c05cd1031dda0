//! Events of several subjects, and by more than the engine looks for: streams of it, merged, and looked through.
//!
//! A stream is one question to the engine, page after page. What it cannot ask ([`Keep`]) is held against each event; so much
//! is looked at for one page, and no more.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::problem::of_usage;
use crate::api::gate::Reading;
use crate::api::problem::Problem;
use crate::usage::Test;
use crate::usage::events::{EVENTS_MAX, EventQuery, FoundEvent, Verdict};

/// Most subjects that have a stream each; more are looked for in one stream of everybody.
pub(super) const STREAMS_MAX: usize = 16;
/// Most events that are looked at for one page.
const LOOKED_AT_MAX: usize = 20_000;
/// An event that has just come is shown when it is known to be stored, and that takes less than this.
const STORING: TimeDelta = TimeDelta::minutes(1);

/// A part of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Id,
    Source,
    Subject,
    Type,
}

impl Part {
    fn of(self, event: &FoundEvent) -> &str {
        match self {
            Part::Id => &event.id,
            Part::Source => &event.source,
            Part::Subject => &event.tenant,
            Part::Type => &event.kind,
        }
    }
}

/// What must hold beside the question.
#[derive(Clone, Debug, Default)]
pub(super) struct Keep {
    pub(super) tests: Vec<(Part, Test)>,
    /// Texts that parts contain.
    pub(super) contains: Vec<(Part, String)>,
    /// When they arrived: from this time on, and before that.
    pub(super) arrived: (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
}

impl Keep {
    fn is_nothing(&self) -> bool {
        self.tests.is_empty() && self.contains.is_empty() && self.arrived == (None, None)
    }

    fn holds(&self, event: &FoundEvent, now: DateTime<Utc>) -> bool {
        let passes = |(part, test): &(Part, Test)| {
            let text = part.of(event);
            match test {
                Test::In(texts) => texts.iter().any(|one| one == text),
                Test::Not(texts) => texts.iter().all(|one| one != text),
                Test::Prefix(prefix) => text.starts_with(prefix.as_str()),
                Test::Range { .. } => false,
            }
        };
        event.verdict != Verdict::Copy
            && (event.stored_at.is_some() || event.arrived_at < now - STORING)
            && self.tests.iter().all(passes)
            && self.contains.iter().all(|(part, text)| part.of(event).contains(text.as_str()))
            && self.arrived.0.is_none_or(|from| event.arrived_at >= from)
            && self.arrived.1.is_none_or(|to| event.arrived_at < to)
    }
}

/// How far a stream was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The engine's cursor of the page.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    /// The identity of the last event of it that was given.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(rename = "e", default, skip_serializing_if = "std::ops::Not::not")]
    is_ended: bool,
}

struct Stream {
    query: EventQuery,
    place: Place,
    /// What is left of the page.
    events: VecDeque<FoundEvent>,
    /// Whether the page was read, and the cursor of the one after it.
    next: Option<Option<String>>,
}

/// Some events, and where each stream is if there may be more.
pub(super) struct Found {
    pub(super) events: Vec<FoundEvent>,
    pub(super) places: Option<Vec<Place>>,
    /// Fewer than were asked for, as more were not looked at.
    pub(super) is_cut: bool,
}

/// Reads `limit` events, the newest first, of all that the questions find.
pub(super) async fn read(
    reading: &Reading,
    queries: Vec<EventQuery>,
    places: Vec<Place>,
    keep: &Keep,
    limit: usize,
) -> Result<Found, Problem> {
    let page = if keep.is_nothing() { limit.min(EVENTS_MAX) } else { EVENTS_MAX };
    let mut places = places.into_iter();
    let mut streams: Vec<Stream> = queries
        .into_iter()
        .map(|query| Stream {
            query: EventQuery { limit: page, ..query },
            place: places.next().unwrap_or_default(),
            events: VecDeque::new(),
            next: None,
        })
        .collect();
    let now = Utc::now();
    let mut looked_at = 0;
    let mut events = Vec::new();
    loop {
        for stream in &mut streams {
            while stream.wants_more() {
                if looked_at >= LOOKED_AT_MAX {
                    let places = streams.into_iter().map(|stream| stream.place).collect();
                    let is_cut = events.len() < limit;
                    return Ok(Found { events, places: Some(places), is_cut });
                }
                looked_at += stream.fill(reading, keep, now).await?;
            }
        }
        let newest = (0..streams.len()).filter(|nth| !streams[*nth].events.is_empty());
        let newest = newest.max_by_key(|nth| streams[*nth].events.front().map(key));
        let Some(newest) = newest else { return Ok(Found { events, places: None, is_cut: false }) };
        if events.len() >= limit {
            let places = streams.into_iter().map(|stream| stream.place).collect();
            return Ok(Found { events, places: Some(places), is_cut: false });
        }
        events.extend(streams[newest].take());
    }
}

/// The newest is the greatest, and those of one time are in the order of a stream.
fn key(event: &FoundEvent) -> (Option<DateTime<Utc>>, String) {
    (event.time, event.identity.clone())
}

impl Stream {
    fn wants_more(&self) -> bool {
        self.events.is_empty() && !self.place.is_ended
    }

    /// Reads a page; returns how many events were looked at.
    async fn fill(&mut self, reading: &Reading, keep: &Keep, now: DateTime<Utc>) -> Result<usize, Problem> {
        if let Some(next) = self.next.take() {
            self.place = Place { is_ended: next.is_none(), page: next, after: None };
            if self.place.is_ended {
                return Ok(0);
            }
        }
        let query = EventQuery { cursor: self.place.page.clone(), ..self.query.clone() };
        let page = reading.events(&query).await.map_err(of_usage)?;
        let looked_at = page.events.len();
        self.next = Some(page.next);
        self.events = rest(page.events, self.place.after.as_deref()).into();
        self.events.retain(|event| keep.holds(event, now));
        Ok(looked_at)
    }

    fn take(&mut self) -> Option<FoundEvent> {
        let event = self.events.pop_front()?;
        self.place.after = Some(event.identity.clone());
        Some(event)
    }
}

/// What comes after the event of that identity; everything if it is not there any more.
fn rest(mut events: Vec<FoundEvent>, after: Option<&str>) -> Vec<FoundEvent> {
    let last = after.and_then(|after| events.iter().rposition(|event| event.identity == after));
    if let Some(last) = last {
        events.drain(..=last);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::found;
    use super::*;

    #[test]
    fn events_are_held_against_what_the_engine_cannot_ask() {
        let now = DateTime::from_timestamp(1_000, 0).unwrap();
        let event = found("abc", 900);
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let tests = |part, test| Keep { tests: vec![(part, test)], ..Keep::default() };
        for (keep, holds) in [
            (Keep::default(), true),
            (tests(Part::Id, Test::In(texts(&["x", "abc"]))), true),
            (tests(Part::Source, Test::Not(texts(&["edge"]))), false),
            (tests(Part::Type, Test::Prefix("pro".into())), true),
            (Keep { contains: vec![(Part::Subject, "cm".into())], ..Keep::default() }, true),
            (Keep { contains: vec![(Part::Subject, "CM".into())], ..Keep::default() }, false),
            (Keep { arrived: (at(900), at(901)), ..Keep::default() }, true),
            (Keep { arrived: (None, at(900)), ..Keep::default() }, false),
        ] {
            assert_eq!(keep.holds(&event, now), holds, "{keep:?}");
        }
        let coming = FoundEvent { stored_at: None, ..found("new", 990) };
        assert!(!Keep::default().holds(&coming, now));
        assert!(!Keep::default().holds(&FoundEvent { verdict: Verdict::Copy, ..event.clone() }, now));
        assert!(Keep::default().holds(&FoundEvent { stored_at: None, ..event }, now));
    }

    #[test]
    fn a_page_goes_on_after_what_was_given() {
        let events = vec![found("3", 3), found("2", 2), found("1", 1)];
        let ids = |events: Vec<FoundEvent>| events.into_iter().map(|event| event.id).collect::<Vec<_>>();
        assert_eq!(ids(rest(events.clone(), Some("identity of 2"))), ["1"]);
        assert_eq!(ids(rest(events.clone(), Some("gone"))), ["3", "2", "1"]);
        assert_eq!(ids(rest(events, None)), ["3", "2", "1"]);
    }
}
