//! What stands in a case for what only the run knows.
//!
//! | text | stands for |
//! |---|---|
//! | `@texts` | the name of the case's dataset `texts`; `@` alone: what all of the case's names begin with |
//! | `#texts` | that dataset's id |
//! | `$a` | the id of the lease or trace that a step named `a` |
//! | `%1` | the pseudonym of the case's first person |
//! | `&A` | the MSP id of the bench's first organisation, `&B` of the second |
//! | `+60s`, `+60s-1ms`, `+60s+m` | a time after the case's begin, as a number of milliseconds; `m` is the contract's margin |
//! | `*` | anything but null, where something is expected |
//!
//! An expected object may lack keys that the actual one has; an expected null is also met by a key that is not there.

use leasehold_chaincode::Msp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What the placeholders of one run of one case stand for.
pub(crate) struct Names<'a> {
    pub(crate) tag: &'a str,
    pub(crate) case: &'static str,
    pub(crate) begin_ms: i64,
    pub(crate) margin_ms: i64,
    pub(crate) organisations: &'a [Msp],
    pub(crate) ids: BTreeMap<String, String>,
}

impl Names<'_> {
    /// What all names of the case's datasets begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}{}-", self.tag, self.case)
    }

    /// A value with everything filled in.
    pub(crate) fn fill(&self, value: &Value) -> Result<Value, String> {
        match value {
            Value::String(text) => self.resolve(text),
            Value::Array(values) => values.iter().map(|value| self.fill(value)).collect(),
            Value::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), self.fill(value)?)));
                fields.collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            other => Ok(other.clone()),
        }
    }

    fn resolve(&self, text: &str) -> Result<Value, String> {
        let mut rest = text.chars();
        match rest.next() {
            Some('@') => Ok(json!(format!("{}{}", self.prefix(), rest.as_str()))),
            Some('#' | '$') => self
                .ids
                .get(text)
                .map(|id| json!(id))
                .ok_or_else(|| format!("the case names {text} before it is there")),
            Some('%') => Ok(json!(self.subject(rest.as_str()))),
            Some('&') => self.organisation(rest.as_str()).map(|msp| json!(msp.as_str())),
            Some('+') => Ok(json!(self.time_ms(text)?)),
            _ => Ok(json!(text)),
        }
    }

    fn subject(&self, number: &str) -> String {
        hex::encode(Sha256::digest(format!("{}{number}", self.prefix())))
    }

    fn organisation(&self, letter: &str) -> Result<&Msp, String> {
        let number = organisation_number(letter).ok_or_else(|| format!("no organisation {letter:?}"))?;
        self.organisations
            .get(number)
            .ok_or_else(|| format!("the bench has no organisation {letter}"))
    }

    /// A time, milliseconds since the Unix epoch.
    pub(crate) fn time_ms(&self, moment: &str) -> Result<i64, String> {
        Ok(self.begin_ms.saturating_add(offset_ms(moment, self.margin_ms)?))
    }
}

fn organisation_number(letter: &str) -> Option<usize> {
    ["A", "B", "C"].iter().position(|known| *known == letter)
}

/// Milliseconds from the case's begin to a moment such as `+60s+m-1ms`.
fn offset_ms(moment: &str, margin_ms: i64) -> Result<i64, String> {
    let unreadable = || format!("{moment:?} is not a moment such as +60s, +60s-1ms or +60s+m");
    let mut rest = moment;
    let mut offset_ms = 0_i64;
    while let Some(sign) = rest.chars().next() {
        let term = rest.get(1..).ok_or_else(unreadable)?;
        let end = term.find(['+', '-']).unwrap_or(term.len());
        let (term, after) = term.split_at_checked(end).ok_or_else(unreadable)?;
        let number = |digits: &str| digits.parse::<i64>().map_err(|_| unreadable());
        let millis = if term == "m" {
            margin_ms
        } else if let Some(digits) = term.strip_suffix("ms") {
            number(digits)?
        } else if let Some(digits) = term.strip_suffix('s') {
            number(digits)?.saturating_mul(1_000)
        } else {
            return Err(unreadable());
        };
        offset_ms = match sign {
            '+' => offset_ms.saturating_add(millis),
            '-' => offset_ms.saturating_sub(millis),
            _ => return Err(unreadable()),
        };
        rest = after;
    }
    Ok(offset_ms)
}

/// What the placeholders in a value need of a bench.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) organisations: usize,
    /// Where a time is chosen or expected: how long after the begin the last one is.
    pub(crate) span_ms: Option<i64>,
}

impl Needed {
    /// Adds what a value needs.
    pub(crate) fn add(&mut self, value: &Value, margin_ms: i64) -> Result<(), String> {
        match value {
            Value::String(text) => {
                if let Some(letter) = text.strip_prefix('&') {
                    let number = organisation_number(letter).map_or(usize::MAX, |number| number + 1);
                    self.organisations = self.organisations.max(number);
                } else if text.starts_with('+') {
                    self.time(text, margin_ms)?;
                }
                Ok(())
            }
            Value::Array(values) => values.iter().try_for_each(|value| self.add(value, margin_ms)),
            Value::Object(fields) => fields.values().try_for_each(|value| self.add(value, margin_ms)),
            _ => Ok(()),
        }
    }

    /// Adds what a moment needs.
    pub(crate) fn time(&mut self, moment: &str, margin_ms: i64) -> Result<(), String> {
        let offset_ms = offset_ms(moment, margin_ms)?;
        self.span_ms = Some(self.span_ms.unwrap_or_default().max(offset_ms));
        Ok(())
    }
}

/// An event in short, `kind`, `kind:cause`, then the name of the lease, as what it must contain.
pub(crate) fn event(short: &str) -> Value {
    let (kind, lease) = short.split_once(' ').unwrap_or((short, ""));
    let (kind, cause) = kind.split_once(':').unwrap_or((kind, ""));
    let mut event = Map::new();
    event.insert("kind".to_owned(), json!({ "event": kind }));
    if !cause.is_empty() {
        event.insert("kind".to_owned(), json!({ "event": kind, "cause": cause }));
    }
    let lease = if lease.is_empty() {
        Value::Null
    } else {
        json!({ "id": format!("${lease}") })
    };
    event.insert("lease".to_owned(), lease);
    Value::Object(event)
}

/// Where an actual value lacks what is expected of it.
pub(crate) fn difference(expected: &Value, actual: &Value) -> Option<String> {
    let told = || Some(format!("expected {expected}, found {actual}"));
    match (expected, actual) {
        (Value::String(any), actual) if any == "*" && !actual.is_null() => None,
        (Value::Object(expected), Value::Object(actual)) => expected.iter().find_map(|(key, expected)| {
            let found = difference(expected, actual.get(key).unwrap_or(&Value::Null));
            found.map(|found| format!("{key}: {found}"))
        }),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let mut pairs = (0..).zip(expected.iter().zip(actual));
            pairs.find_map(|(at, (expected, actual)): (usize, _)| {
                difference(expected, actual).map(|found| format!("[{at}]: {found}"))
            })
        }
        (expected, actual) if expected == actual => None,
        _ => told(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_add_up_and_what_is_none_is_refused() {
        for (moment, expected) in [("+60s", 60_000), ("+60s-1ms", 59_999), ("+1s+m", 1_007)] {
            assert_eq!(offset_ms(moment, 7), Ok(expected), "{moment}");
        }
        for moment in ["60s", "+", "+60", "+60m", "+s", "+60s!"] {
            assert!(offset_ms(moment, 7).is_err(), "{moment}");
        }
    }

    #[test]
    fn what_is_expected_may_lack_keys_but_no_entries() {
        let actual = json!({ "a": [{ "b": 1, "c": 2 }], "d": null });
        for expected in [
            json!({}),
            json!({ "a": [{ "b": 1 }] }),
            json!({ "a": ["*"], "d": null, "e": null }),
        ] {
            assert_eq!(difference(&expected, &actual), None, "{expected}");
        }
        for expected in [
            json!({ "a": [] }),
            json!({ "a": [{ "b": 2 }] }),
            json!({ "d": "*" }),
            json!({ "e": "*" }),
        ] {
            assert!(difference(&expected, &actual).is_some(), "{expected}");
        }
    }
}
