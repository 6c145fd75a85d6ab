//! The same refusal again and again: counted, so that nobody fills the disk by being refused.
//!
//! The first of a kind is recorded at once. Those that follow within [`WINDOW_MS`] are counted, and told in one record when the window
//! ends. Kinds that no place is left for share one without an address and an object. Strangers have places of their own, so that they
//! take nobody's whose name is known.

use std::collections::HashMap;
use std::net::IpAddr;

use super::record::{Decision, Event, Origin};

/// For how long refusals of one kind are counted, milliseconds.
pub const WINDOW_MS: i64 = 60_000;
/// Kinds that are counted at the same time.
const MOST_KINDS: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    who: String,
    verb: &'static str,
    object: String,
    reason: String,
    source: Option<IpAddr>,
}

#[derive(Debug)]
struct Counted {
    until_ms: i64,
    times: u64,
}

/// Refusals that are being counted.
#[derive(Debug, Default)]
pub struct Repeats {
    strangers: HashMap<Kind, Counted>,
    known: HashMap<Kind, Counted>,
}

impl Repeats {
    /// Takes an event at a time; gives it back where it has to be recorded now.
    pub fn take(&mut self, event: Event, now_ms: i64) -> Option<Event> {
        if event.decision != Decision::Denied {
            return Some(event);
        }
        let kind = Kind {
            who: event.who.clone(),
            verb: event.verb,
            object: event.object.clone(),
            reason: event.reason.clone(),
            source: event.origin.source,
        };
        let kinds = match kind.who.is_empty() {
            true => &mut self.strangers,
            false => &mut self.known,
        };
        if let Some(counted) = kinds.get_mut(&kind) {
            counted.times = counted.times.saturating_add(1);
            return None;
        }
        let (kind, event) = if kinds.len() < MOST_KINDS {
            (kind, event)
        } else {
            let rest = Kind {
                who: String::new(),
                object: String::new(),
                source: None,
                ..kind
            };
            if let Some(counted) = kinds.get_mut(&rest) {
                counted.times = counted.times.saturating_add(1);
                return None;
            }
            (rest, event)
        };
        let until_ms = now_ms.saturating_add(WINDOW_MS);
        kinds.insert(kind, Counted { until_ms, times: 0 });
        Some(event)
    }

    /// What is to be told of windows that have ended, or of all of them.
    pub fn ended(&mut self, now_ms: i64, all: bool) -> Vec<(Event, u64)> {
        let mut told = Vec::new();
        let mut goes_on = |kind: &Kind, counted: &mut Counted| {
            let goes_on = !all && counted.until_ms > now_ms;
            if !goes_on && counted.times > 0 {
                let origin = Origin {
                    source: kind.source,
                    request: None,
                };
                let event = Event::new(
                    &kind.who,
                    kind.verb,
                    kind.object.clone(),
                    Decision::Denied,
                    kind.reason.clone(),
                    &origin,
                );
                told.push((event, counted.times));
            }
            goes_on
        };
        self.strangers.retain(&mut goes_on);
        self.known.retain(&mut goes_on);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(who: &str, object: &str) -> Event {
        Event::new(
            who,
            "lease",
            object,
            Decision::Denied,
            "role_missing",
            &Origin::default(),
        )
    }

    #[test]
    fn the_same_refusal_again_is_counted_and_told_once() {
        let mut repeats = Repeats::default();
        assert!(repeats.take(refusal("a", "x"), 0).is_some());
        for _ in 0..9 {
            assert!(repeats.take(refusal("a", "x"), 1).is_none());
        }
        assert!(repeats.take(refusal("b", "x"), 1).is_some(), "somebody else's");
        assert!(repeats.ended(WINDOW_MS - 1, false).is_empty());
        let told = repeats.ended(WINDOW_MS, false);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].0.who.as_str(), told[0].1), ("a", 9));
        assert!(
            repeats.take(refusal("a", "x"), WINDOW_MS).is_some(),
            "a new window"
        );
    }

    #[test]
    fn what_is_allowed_is_never_counted_away() {
        let mut repeats = Repeats::default();
        for _ in 0..3 {
            assert!(repeats.take(Event::own("expire", "x", "expired"), 0).is_some());
        }
    }

    #[test]
    fn refusals_of_endlessly_many_kinds_take_bounded_memory_and_are_all_counted() {
        let mut repeats = Repeats::default();
        let recorded = (0..5_000)
            .filter(|n| repeats.take(refusal("a", &n.to_string()), 0).is_some())
            .count();
        assert_eq!(recorded, MOST_KINDS + 1);
        assert_eq!(repeats.known.len(), MOST_KINDS + 1);
        let told: u64 = repeats.ended(0, true).iter().map(|(_, times)| times).sum();
        assert_eq!(told + recorded as u64, 5_000);
    }

    #[test]
    fn strangers_take_no_place_of_those_who_are_known() {
        let mut repeats = Repeats::default();
        for number in 0..2_000 {
            repeats.take(refusal("", &number.to_string()), 0);
        }
        let event = repeats.take(refusal("machine", "lease-1"), 0).unwrap();
        repeats.take(event, 1);
        let told = repeats.ended(WINDOW_MS, false);
        assert!(
            told.iter()
                .any(|(event, _)| event.who == "machine" && event.object == "lease-1")
        );
    }
}
