//! Writes the contract's reference: from its types what can be asked, and from a run of all cases in memory who may ask it, and
//! what comes of it. `make contract-reference` keeps it in `docs/contract.md`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "whoever generates a document wants to see why it failed"
)]

mod bounds;
mod source;
mod types;

use async_trait::async_trait;
use leasehold_chaincode::{
    CONTRACT_VERSION, Command, Contract, Event, EventKind, Failure, MemoryState, Msp, Outcome, Question,
    Role, Standing, TxContext, TxId,
};
use leasehold_conformance::{Abilities, Accepted, Bench, BenchError, Submission, run};
use serde_json::Value;
use source::{Item, constants, snake_case, variants};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Mutex;
use types::Types;

const COMMAND: &str = include_str!("../../../src/command.rs");
const REFUSAL: &str = include_str!("../../../src/refusal.rs");
const EVENT: &str = include_str!("../../../src/event.rs");
const LIMIT: &str = include_str!("../../../src/limit.rs");
const CONTRACT: &str = include_str!("../../../src/contract.rs");
const QUESTION: &str = include_str!("../../../src/question.rs");

/// What came of a command in the cases.
#[derive(Default)]
struct Seen {
    needs: Option<(Role, Standing)>,
    refusals: BTreeSet<String>,
    events: BTreeSet<String>,
}

/// The contract in memory, which notes what comes of each command.
#[derive(Default)]
struct Recorder(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    state: MemoryState,
    events: HashMap<TxId, Vec<Event>>,
    seen: BTreeMap<&'static str, Seen>,
    submitted: Vec<(TxContext, Command)>,
}

impl Notes {
    /// Decides a command, notes what would come of it, and changes nothing.
    fn decide(&mut self, context: &TxContext, command: &Command) -> Result<Outcome, Failure> {
        let outcome = Contract::FABRIC.execute(&self.state, context, command);
        let seen = self.seen.entry(command.name()).or_default();
        seen.needs = Some((command.role(), command.standing()));
        match &outcome {
            Ok(outcome) => {
                let kinds = outcome.events.iter().map(|event| &event.kind);
                seen.events.extend(kinds.filter_map(word));
            }
            Err(Failure::Refused(refusal)) => {
                seen.refusals.insert(refusal.code().to_owned());
            }
            Err(Failure::State(_)) => {}
        }
        outcome
    }

    /// Every command of the cases once more, by every organisation: after all of them, on what is retired, over or taken by then;
    /// with an organisation suspended; and where there is nothing but the organisations.
    fn again(&mut self) {
        let submitted = std::mem::take(&mut self.submitted);
        let is_first = |(context, _): &&(TxContext, Command)| context.caller.as_str() == ORGANISATIONS[0];
        let (first, _) = submitted.iter().find(is_first).unwrap();
        let reason = "to see what is refused then".to_owned();
        let suspend = Contract::FABRIC.execute(&self.state, first, &Command::SuspendOrganisation { reason });
        let mut beginning = MemoryState::default();
        for (context, command) in &submitted {
            if matches!(command, Command::JoinConsortium { .. })
                && let Ok(outcome) = Contract::FABRIC.execute(&beginning, context, command)
            {
                beginning.apply(&outcome.writes);
            }
        }
        self.all_again(&submitted);
        self.state.apply(&suspend.unwrap().writes);
        self.all_again(&submitted);
        self.state = beginning;
        self.all_again(&submitted);
    }

    fn all_again(&mut self, submitted: &[(TxContext, Command)]) {
        for (context, command) in submitted {
            for caller in ORGANISATIONS {
                let context = TxContext {
                    caller: Msp::new(caller).unwrap(),
                    timestamp_ms: context.timestamp_ms + 365 * 24 * 3_600 * 1_000,
                    ..context.clone()
                };
                let _ = self.decide(&context, command);
            }
        }
    }
}

const ORGANISATIONS: [&str; 3] = ["UiSMSP", "UiOMSP", "NTNUMSP"];

#[async_trait]
impl Bench for Recorder {
    fn abilities(&self) -> Abilities {
        Abilities {
            name: "the reference",
            tag: String::new(),
            organisations: ORGANISATIONS.map(|msp| Msp::new(msp).unwrap()).to_vec(),
            roles: vec![Role::Member, Role::Steward, Role::Administrator],
            span_ms: Some(i64::MAX),
            end_margin_ms: Contract::FABRIC.end_margin_ms,
            chooses_ids: true,
            at_once: 1,
        }
    }

    fn now_ms(&self) -> i64 {
        1_760_000_000_000
    }

    async fn submit(&self, submission: Submission) -> Result<Accepted, BenchError> {
        let notes = &mut *self.0.lock().unwrap();
        let next = TxId::new(format!("tx-{}", notes.submitted.len())).unwrap();
        let tx_id = submission.tx_id.unwrap_or(next);
        let context = TxContext {
            tx_id: tx_id.clone(),
            timestamp_ms: submission.at_ms,
            caller: submission.organisation,
            role: submission.role,
        };
        let outcome = notes.decide(&context, &submission.command);
        notes.submitted.push((context, submission.command));
        match outcome {
            Ok(Outcome {
                writes,
                events,
                result,
                ..
            }) => {
                notes.state.apply(&writes);
                notes.events.insert(tx_id.clone(), events);
                Ok(Accepted { tx_id, result })
            }
            Err(Failure::Refused(refusal)) => Err(BenchError::Refused(refusal)),
            Err(Failure::State(error)) => Err(BenchError::Broken(error.to_string())),
        }
    }

    async fn events(&self, tx_id: &TxId) -> Result<Vec<Event>, BenchError> {
        let notes = self.0.lock().unwrap();
        Ok(notes.events.get(tx_id).cloned().unwrap_or_default())
    }

    async fn ask(&self, question: &Question) -> Result<Value, BenchError> {
        let answer = question.answer(&self.0.lock().unwrap().state);
        let answer = answer.map_err(|error| BenchError::Broken(error.to_string()))?;
        Ok(serde_json::to_value(answer).unwrap())
    }
}

fn word(kind: &EventKind) -> Option<String> {
    let value = serde_json::to_value(kind).ok()?;
    Some(value.get("event")?.as_str()?.to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let recorder = Recorder::default();
    let report = run(&recorder).await;
    assert!(report.failed.is_empty(), "{report}");
    let mut notes = recorder.0.into_inner().unwrap();
    notes.again();
    let mut text = format!(
        "# The contract, version {CONTRACT_VERSION}\n\nGenerated by `make contract-reference` from its types, and \
         from a run of the conformance cases with each command tried again by every organisation, afterwards, with one of them suspended, and \
         on an empty ledger: events and refusals of a command are those that it led to there. Every command may besides lead to `role_needed`, `organisation_not_joined`, \
         `invalid_field` and `exhausted`.\n\nA command is a JSON object with its name as \
         `command`. Fields that are not there, unknown ones and values of another type are refused before the contract sees them. \
         The caller's organisation and role come from the ledger, never from a field.\n\n\
         ## What only the ledger knows\n\nThe contract records and answers all of what is below. No other part of Leasehold acts on three things yet: \
         `outputs` (results go to the researcher's home whatever it says), `approve_code` with the codes that an owner approved (pods are admitted \
         whatever they run), and traces of pods (nobody records a `run` but who submits it).\n\n## Commands\n",
    );
    let mut types = Types::default();
    for command in variants(COMMAND, "Command") {
        write_command(&mut text, &mut types, &command, &notes.seen);
    }
    text.push_str("\n## Values\n\nWhat commands take.\n");
    types.define(&mut text, true);
    let [results, refusals, events, questions, answers] = [
        variants(CONTRACT, "CommandResult"),
        variants(REFUSAL, "Refusal"),
        variants(EVENT, "EventKind"),
        variants(QUESTION, "Question"),
        variants(QUESTION, "Answer"),
    ];
    for items in [&results, &refusals, &events, &questions, &answers] {
        types.mention_fields(items);
    }
    types.mention("CommandResult Event");
    text.push_str("\n## Records\n\nWhat answers, refusals and events give besides. A command is answered with a `CommandResult`, and followers get an `Event` for each \
         transition. Times are milliseconds since the Unix epoch.\n");
    types.define(&mut text, false);
    write_words(
        &mut text,
        "Refusals",
        "A refused command wrote nothing.",
        &refusals,
    );
    write_words(
        &mut text,
        "Events",
        "One for each transition, the one that was asked for first.",
        &events,
    );
    write_questions(&mut text, &questions, &answers);
    text.push_str("\n## Limits\n\n| limit | value | |\n|---|---|---|\n");
    for (name, value, doc) in constants(LIMIT) {
        let _ = writeln!(text, "| `{name}` | `{value}` | {doc} |");
    }
    print!("{text}");
}

fn write_command(text: &mut String, types: &mut Types, command: &Item, seen: &BTreeMap<&'static str, Seen>) {
    let name = snake_case(&command.name);
    let seen = seen
        .get(name.as_str())
        .unwrap_or_else(|| panic!("no case has {name}"));
    let (role, standing) = seen.needs.unwrap();
    let standing = match standing {
        Standing::Any => "need not have joined",
        Standing::Joined => "has joined",
        Standing::NotSuspended => "has joined and is not suspended",
    };
    let _ = write!(
        text,
        "\n### {name}\n{}\n\nCaller: at least {}, of an organisation that {standing}.\n\n",
        command.doc,
        role.as_str()
    );
    types.write_fields(text, command, &name, true);
    let common = [
        "role_needed",
        "organisation_not_joined",
        "invalid_field",
        "exhausted",
    ];
    let refusals = seen.refusals.iter().map(String::as_str);
    let refusals: Vec<_> = refusals.filter(|code| !common.contains(code)).collect();
    let events: Vec<_> = seen.events.iter().map(String::as_str).collect();
    for (what, words) in [("Events", events), ("Refusals", refusals)] {
        if !words.is_empty() {
            let _ = write!(text, "\n{what}: `{}`\n", words.join("`, `"));
        }
    }
}

fn write_words(text: &mut String, title: &str, said: &str, items: &[Item]) {
    let _ = write!(
        text,
        "\n## {title}\n\n{said}\n\n| word | meaning | says besides |\n|---|---|---|\n"
    );
    for item in items {
        let fields: Vec<_> = item
            .fields
            .iter()
            .map(|field| format!("`{}: {}`", field.name, field.kind))
            .collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} |",
            snake_case(&item.name),
            item.doc,
            fields.join(", ")
        );
    }
}

fn write_questions(text: &mut String, questions: &[Item], answers: &[Item]) {
    text.push_str(
        "\n## Questions\n\nEach is answered from one record or one index, page by page.\n\n| question | fields | answer |\n|---|---|---|\n",
    );
    for item in questions {
        let fields: Vec<_> = item
            .fields
            .iter()
            .map(|field| format!("`{}: {}`", field.name, field.kind))
            .collect();
        let answer = answer_to(&item.name, answers);
        let _ = writeln!(
            text,
            "| `{}` | {} | `{answer}` |",
            snake_case(&item.name),
            fields.join(", ")
        );
    }
}

/// The type that a question's arm answers with.
fn answer_to(question: &str, answers: &[Item]) -> String {
    let (_, arm) = QUESTION
        .split_once(&format!("            Self::{question} {{"))
        .unwrap();
    let (_, answer) = arm.split_once("Answer::").unwrap();
    let answer: String = answer.chars().take_while(char::is_ascii_alphanumeric).collect();
    let answer = answers.iter().find(|one| one.name == answer).unwrap();
    let kind = answer.holds.as_deref().unwrap();
    // Where it lies in memory is nobody's business.
    let boxed = kind.strip_prefix("Box<").and_then(|kind| kind.strip_suffix('>'));
    boxed.unwrap_or(kind).to_owned()
}
