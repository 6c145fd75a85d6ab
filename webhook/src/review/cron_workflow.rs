//! CronWorkflows: stamped like Workflows; the Workflows that the controller makes from them inherit the stamp.

use serde::Deserialize;

use super::envelope::{Operation, Request};
use super::parse::parse;
use super::patch::Patch;
use super::text::{Presence, Text, list};
use super::workflow::metadata::{self, Metadata};
use super::workflow::{self, Author, rules, spec};
use super::{Person, Reason, Stage, Stop, View, deny, object};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CronWorkflow<'a> {
    #[serde(default, rename = "apiVersion")]
    _api_version: Presence,
    #[serde(default, rename = "kind")]
    _kind: Presence,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: CronSpec<'a>,
    #[serde(default)]
    status: Presence,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CronSpec<'a> {
    #[serde(borrow, default, deserialize_with = "list", rename = "schedules")]
    _schedules: Vec<Text<'a>>,
    #[serde(borrow, default, rename = "schedule")]
    _schedule: Option<Text<'a>>,
    #[serde(borrow, default, rename = "timezone")]
    _timezone: Option<Text<'a>>,
    #[serde(borrow, default, rename = "concurrencyPolicy")]
    _concurrency_policy: Option<Text<'a>>,
    #[serde(default, rename = "startingDeadlineSeconds")]
    _starting_deadline_seconds: Option<i64>,
    #[serde(default, rename = "successfulJobsHistoryLimit")]
    _successful_jobs_history_limit: Option<i64>,
    #[serde(default, rename = "failedJobsHistoryLimit")]
    _failed_jobs_history_limit: Option<i64>,
    #[serde(default, rename = "suspend")]
    _suspend: Option<bool>,
    #[serde(borrow)]
    workflow_spec: spec::WorkflowSpec<'a>,
}

/// Decides a CronWorkflow.
///
/// # Errors
/// A denial or a question.
pub fn review(stage: Stage, request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    match request.operation {
        Operation::Create => workflow::settle(stage, create(stage, request, view)?),
        Operation::Update => workflow::update(stage, request, view, true, check),
        Operation::Delete => workflow::delete(request, view),
        Operation::Connect => deny(Reason::Unsupported, "a CronWorkflow cannot be connected to"),
    }
}

fn create(stage: Stage, request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    let (person, stamp) = match workflow::author(request, view)? {
        Author::Nobody(loose) => return Ok(workflow::unstamp(&loose)),
        Author::Person(person, stamp) | Author::Cron(person, stamp) => (person, stamp),
    };
    let cron: CronWorkflow<'_> = parse(object(request)?, "the CronWorkflow")?;
    workflow::refuse_status(cron.status)?;
    metadata::check_amount(&cron.metadata)?;
    metadata::check_name(&cron.metadata, stage)?;
    let mut patch = Patch::new();
    rules::check(
        &cron.spec.workflow_spec,
        "/spec/workflowSpec",
        &person,
        &mut patch,
    )?;
    metadata::stamp(&cron.metadata, &stamp, metadata::From::Person, &mut patch)?;
    Ok(patch)
}

fn check(object: &str, person: &Person) -> Result<Patch, Stop> {
    let cron: CronWorkflow<'_> = parse(object, "the CronWorkflow")?;
    let mut patch = Patch::new();
    rules::check(&cron.spec.workflow_spec, "/spec/workflowSpec", person, &mut patch)?;
    Ok(patch)
}
