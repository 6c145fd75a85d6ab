//! The tables leave out nothing that the contract has: every command, refusal, event and question is in some case.
#![allow(clippy::unwrap_used)]

use leasehold_conformance::{Expected, Step, cases};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Refusals that no command can lead to: counters of 64 bits that have reached their end.
const BEYOND_REACH: [&str; 1] = ["exhausted"];

/// What comes before any case, where every organisation joins.
const IN_THE_PRELUDE: [&str; 2] = ["organisation_not_joined", "organisation_joined"];

/// The `snake_case` names of an enum's variants, read off its source: what is added there must be in a case.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let start = source.find(&format!("pub enum {name} {{")).unwrap();
    let body = source.get(start..).unwrap();
    let body = body.split("\n}").next().unwrap();
    let variant = |line: &str| {
        let line = line.strip_prefix("    ")?;
        let word: String = line.chars().take_while(char::is_ascii_alphanumeric).collect();
        let is_variant = line.starts_with(|c: char| c.is_ascii_uppercase());
        is_variant.then(|| snake_case(&word))
    };
    body.lines().filter_map(variant).collect()
}

fn snake_case(word: &str) -> String {
    let mut text = String::new();
    for letter in word.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[derive(Default)]
struct Seen {
    commands: BTreeSet<String>,
    refusals: BTreeSet<String>,
    events: BTreeSet<String>,
    questions: BTreeSet<String>,
}

fn seen() -> Seen {
    let mut seen = Seen::default();
    let text =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    for step in cases().iter().flat_map(|case| &case.steps) {
        match step {
            Step::At(_) => {}
            Step::Ask(question, _) | Step::Walk(question, ..) => {
                seen.questions.extend(text(question, "/question"))
            }
            Step::Submit(submit) => {
                seen.commands.extend(text(submit.command(), "/command"));
                match submit.expected() {
                    Expected::Accepted(events) => {
                        let events = events.iter().flatten();
                        seen.events
                            .extend(events.filter_map(|event| text(event, "/kind/event")));
                    }
                    Expected::Refused(refusal) => seen.refusals.extend(text(refusal, "/code")),
                }
            }
        }
    }
    seen
}

#[test]
fn every_command_refusal_event_and_question_is_in_some_case() {
    let seen = seen();
    let mut refusals = variants(include_str!("../../src/refusal.rs"), "Refusal");
    refusals
        .retain(|code| !BEYOND_REACH.contains(&code.as_str()) && !IN_THE_PRELUDE.contains(&code.as_str()));
    let missing = |all: BTreeSet<String>, seen: &BTreeSet<String>| -> Vec<String> {
        all.difference(seen).cloned().collect()
    };
    let commands = variants(include_str!("../../src/command.rs"), "Command");
    let mut events = variants(include_str!("../../src/event.rs"), "EventKind");
    events.retain(|kind| !IN_THE_PRELUDE.contains(&kind.as_str()));
    let questions = variants(include_str!("../../src/question.rs"), "Question");
    assert!(commands.len() > 10 && refusals.len() > 10 && events.len() > 10 && questions.len() > 10);
    assert_eq!(
        json!({
            "commands": missing(commands, &seen.commands), "refusals": missing(refusals, &seen.refusals),
            "events": missing(events, &seen.events), "questions": missing(questions, &seen.questions),
        }),
        json!({ "commands": [], "refusals": [], "events": [], "questions": [] })
    );
}

#[test]
fn every_case_has_an_id_and_a_promise_of_its_own() {
    let cases = cases();
    let ids: BTreeSet<_> = cases.iter().map(|case| case.id).collect();
    assert_eq!(ids.len(), cases.len());
    assert!(cases.len() >= 120);
    for case in &cases {
        assert!(!case.steps.is_empty() && !case.promise.is_empty(), "{}", case.id);
        let short = case.id.len() <= 4
            && case
                .id
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        assert!(short, "{} would make names too long", case.id);
    }
}
