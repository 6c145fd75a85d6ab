//! Runs cases on a bench.

use crate::bench::{Abilities, Bench, BenchError, Submission};
use crate::case::{Case, Expected, Step, Submit};
use crate::placeholder::{Names, Needed, difference};
use crate::prelude;
use crate::report::Report;
use futures::StreamExt as _;
use leasehold_chaincode::{Command, CommandResult, Question, TxId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// Runs every case, as many at once as the bench takes.
pub async fn run(bench: &dyn Bench) -> Report {
    run_some(bench, &crate::cases()).await
}

/// Runs these cases.
pub async fn run_some(bench: &dyn Bench, cases: &[Case]) -> Report {
    let start = Instant::now();
    let abilities = bench.abilities();
    let mut report = Report {
        bench: abilities.name,
        passed: Vec::new(),
        failed: Vec::new(),
        skipped: Vec::new(),
        took: start.elapsed(),
    };
    if let Err(why) = prelude::prepare(bench, &abilities).await {
        report
            .failed
            .push(("prelude", "what every case needs can be put on the ledger", why));
        return report;
    }
    let (alone, together): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.alone);
    for (cases, at_once) in [(together, abilities.at_once.max(1)), (alone, 1)] {
        let outcomes = futures::stream::iter(cases)
            .map(|case| {
                let abilities = &abilities;
                async move { (case, played(bench, abilities, case).await) }
            })
            .buffered(at_once)
            .collect::<Vec<_>>()
            .await;
        for (case, outcome) in outcomes {
            match outcome {
                Played::Held => report.passed.push(case.id),
                Played::Broke(why) => report.failed.push((case.id, case.promise, why)),
                Played::LeftOut(need) => report.skipped.push((case.id, need)),
            }
        }
    }
    report.took = start.elapsed();
    report
}

enum Played {
    Held,
    Broke(String),
    LeftOut(String),
}

async fn played(bench: &dyn Bench, abilities: &Abilities, case: &Case) -> Played {
    match lacking(case, abilities) {
        Ok(None) => {}
        Ok(Some(need)) => return Played::LeftOut(need),
        Err(why) => return Played::Broke(why),
    }
    let mut run = Run {
        bench,
        names: Names {
            tag: &abilities.tag,
            case: case.id,
            begin_ms: bench.now_ms(),
            margin_ms: abilities.end_margin_ms,
            organisations: &abilities.organisations,
            ids: BTreeMap::new(),
        },
        at_ms: bench.now_ms(),
    };
    run.at_ms = run.names.begin_ms;
    for (number, step) in (1..).zip(&case.steps) {
        if let Err(why) = run.step(step).await {
            return Played::Broke(format!("step {number}: {why}"));
        }
    }
    Played::Held
}

/// What a case needs that the bench has not.
fn lacking(case: &Case, abilities: &Abilities) -> Result<Option<String>, String> {
    let margin_ms = abilities.end_margin_ms;
    let mut needed = Needed::default();
    let mut chooses_ids = false;
    let mut roles = Vec::new();
    for step in &case.steps {
        match step {
            Step::At(moment) => needed.time(moment, margin_ms)?,
            Step::Ask(question, answer) => {
                needed.add(question, margin_ms)?;
                needed.add(answer, margin_ms)?;
            }
            Step::Walk(question, _, entries) => {
                needed.add(question, margin_ms)?;
                needed.add(&json!(entries), margin_ms)?;
            }
            Step::Submit(submit) => {
                needed.organisations = needed.organisations.max(submit.who.organisation + 1);
                needed.add(&submit.command, margin_ms)?;
                match &submit.expected {
                    Expected::Accepted(events) => needed.add(&json!(events), margin_ms)?,
                    Expected::Refused(refusal) => needed.add(refusal, margin_ms)?,
                }
                chooses_ids |= submit.transaction.is_some();
                roles.push(submit.who.role);
            }
        }
    }
    if needed.organisations > abilities.organisations.len() {
        return Ok(Some("several organisations".to_owned()));
    }
    if let Some(role) = roles.into_iter().find(|role| !abilities.roles.contains(role)) {
        return Ok(Some(format!("a {}'s identity", role.as_str())));
    }
    if chooses_ids && !abilities.chooses_ids {
        return Ok(Some("chosen transaction ids".to_owned()));
    }
    match (needed.span_ms, abilities.span_ms) {
        (Some(_), None) => Ok(Some("chosen times".to_owned())),
        (Some(needed), Some(span)) if needed > span => Ok(Some(
            "times that are further apart than the ledger takes".to_owned(),
        )),
        _ => Ok(None),
    }
}

struct Run<'a> {
    bench: &'a dyn Bench,
    names: Names<'a>,
    at_ms: i64,
}

impl Run<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::At(moment) => {
                self.at_ms = self.names.time_ms(moment)?;
                Ok(())
            }
            Step::Submit(submit) => {
                let what = submit.command.to_string();
                self.submit(submit).await.map_err(|why| format!("{what}: {why}"))
            }
            Step::Ask(question, expected) => {
                let answer = self.answer(&self.names.fill(question)?).await;
                let found = difference(&self.names.fill(expected)?, &answer?);
                found.map_or(Ok(()), |found| Err(format!("{question}: {found}")))
            }
            Step::Walk(question, limit, expected) => {
                let entries = self.walk(self.names.fill(question)?, *limit).await;
                let expected = self.names.fill(&json!(expected))?;
                let found = difference(
                    &expected,
                    &json!(entries.map_err(|why| format!("{question}: {why}"))?),
                );
                found.map_or(Ok(()), |found| {
                    Err(format!("{question} in pages of {limit}: {found}"))
                })
            }
        }
    }

    async fn submit(&mut self, submit: &Submit) -> Result<(), String> {
        let command = self.names.fill(&submit.command)?;
        let registers = command.get("command") == Some(&json!("register_dataset"));
        let command: Command =
            serde_json::from_value(command).map_err(|error| format!("it is no command: {error}"))?;
        let organisation = self.names.organisations.get(submit.who.organisation);
        let submission = Submission {
            organisation: organisation.ok_or("no such organisation")?.clone(),
            role: submit.who.role,
            at_ms: self.at_ms,
            tx_id: match submit.transaction {
                Some(name) => {
                    Some(TxId::new(format!("{}{name}", self.names.prefix())).map_err(|e| e.to_string())?)
                }
                None => None,
            },
            command,
        };
        match (self.bench.submit(submission).await, &submit.expected) {
            (Ok(accepted), Expected::Accepted(events)) => {
                match (&accepted.result, submit.name) {
                    (CommandResult::Dataset { id, .. }, _) if registers => {
                        self.learn_dataset(submit, id.as_str())
                    }
                    (CommandResult::Lease { id }, Some(name)) => {
                        self.names.ids.insert(format!("${name}"), id.to_string());
                    }
                    (CommandResult::Trace { id }, Some(name)) => {
                        self.names.ids.insert(format!("${name}"), id.to_string());
                    }
                    _ => {}
                }
                let Some(events) = events else { return Ok(()) };
                let told = self.bench.events(&accepted.tx_id).await;
                let told = told.map_err(|error| error.to_string())?;
                let told = serde_json::to_value(told).map_err(|error| error.to_string())?;
                let found = difference(&self.names.fill(&json!(events))?, &told);
                found.map_or(Ok(()), |found| {
                    Err(format!("followers were told otherwise: {found}"))
                })
            }
            (Err(BenchError::Refused(refusal)), Expected::Refused(expected)) => {
                let refusal = serde_json::to_value(refusal).map_err(|error| error.to_string())?;
                let found = difference(&self.names.fill(expected)?, &refusal);
                found.map_or(Ok(()), |found| Err(format!("it was refused otherwise: {found}")))
            }
            (Ok(_), Expected::Refused(expected)) => Err(format!("it was accepted; expected {expected}")),
            (Err(error), _) => Err(error.to_string()),
        }
    }

    /// A dataset's id goes by the name that it was registered with.
    fn learn_dataset(&mut self, submit: &Submit, id: &str) {
        if let Some(Value::String(name)) = submit.command.get("name")
            && let Some(name) = name.strip_prefix('@')
        {
            let name = submit.name.unwrap_or(name);
            self.names.ids.insert(format!("#{name}"), id.to_owned());
        }
    }

    async fn answer(&self, question: &Value) -> Result<Value, String> {
        let typed: Question = serde_json::from_value(question.clone())
            .map_err(|error| format!("{question} is no question: {error}"))?;
        self.bench.ask(&typed).await.map_err(|error| error.to_string())
    }

    /// Every entry of a list that is the case's own.
    async fn walk(&self, mut question: Value, limit: usize) -> Result<Vec<Value>, String> {
        let from = question.pointer("/page/after").cloned();
        let mut after = from.clone().unwrap_or_default();
        let mut entries = Vec::new();
        loop {
            if let Value::Object(fields) = &mut question {
                fields.insert("page".to_owned(), json!({ "after": after, "limit": limit }));
            }
            let page = self.answer(&question).await?;
            let items = page
                .get("items")
                .and_then(Value::as_array)
                .ok_or("the answer has no items")?;
            let next = page.get("next").cloned().unwrap_or_default();
            if items.len() > limit || (!next.is_null() && items.len() != limit) {
                return Err(format!(
                    "a page of {limit} has {} items and its next is {next}",
                    items.len()
                ));
            }
            entries.extend(items.iter().filter(|item| self.own(item)).cloned());
            // Where the walk began in the middle, at the case's own entries, it ends after them.
            let past = from.is_some() && items.last().is_some_and(|item| !self.own(item));
            if next.is_null() || past {
                return Ok(entries);
            }
            after = next;
        }
    }

    /// Whether an entry is about a dataset of this case, or is a trace of it, as far as it says.
    fn own(&self, item: &Value) -> bool {
        if item.get("action").is_some() {
            let id = item.get("id").and_then(Value::as_str);
            return id.is_some_and(|id| self.names.ids.values().any(|own| own == id));
        }
        let name = item.pointer("/dataset/name").or(item.get("dataset_name"));
        name.and_then(Value::as_str)
            .is_none_or(|name| name.starts_with(&self.names.prefix()))
    }
}
