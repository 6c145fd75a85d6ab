//! Reconciles one CronWorkflow: starts the run that is due, counts the runs, looks again when the next one is.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::runtime::controller::Action as Next;
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{Context, Failure, asked, cron_type, dynamic, now, workflow_type};
use crate::cron::CronSpec;
use crate::names;

/// Brings one CronWorkflow forward.
pub(super) async fn reconcile(seen: Arc<DynamicObject>, context: Arc<Context>) -> Result<Next, Failure> {
    let namespace = seen.namespace().unwrap_or_default();
    let crons = dynamic(&context.client, Some(&namespace), &cron_type());
    let workflows = dynamic(&context.client, Some(&namespace), &workflow_type());
    let object = crons
        .get_opt(&seen.name_any())
        .await
        .map_err(asked("read the cronworkflow"))?;
    let Some(mut object) = object.filter(|it| it.metadata.deletion_timestamp.is_none()) else {
        return Ok(Next::await_change());
    };
    let now = now();
    let old = object.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let last = old
        .get("lastScheduledTime")
        .and_then(Value::as_str)
        .and_then(|it| it.parse().ok());
    let since: DateTime<Utc> = last.or_else(|| created(&object)).unwrap_or(now);
    let planned = CronSpec::parse(&object).and_then(|spec| spec.plan(since, now).map(|plan| (spec, plan)));
    let (spec, plan) = match planned {
        Ok(planned) => planned,
        Err(error) => {
            let condition = json!([{"type": "SpecError", "status": "True", "message": error.to_string()}]);
            if old.get("conditions") != Some(&condition) {
                warn!(cron = object.name_any(), %error, "cronworkflow cannot run");
                set(&mut object, "conditions", condition);
                crons
                    .replace(&object.name_any(), &PostParams::default(), &object)
                    .await
                    .map_err(asked("update the cronworkflow"))?;
            }
            return Ok(Next::await_change());
        }
    };
    let selector = ListParams::default().labels(&format!("{}={}", names::CRON_WORKFLOW, object.name_any()));
    let mut runs = workflows
        .list(&selector)
        .await
        .map_err(asked("list a cronworkflow's runs"))?
        .items;
    runs.retain(|run| {
        run.owner_references()
            .iter()
            .any(|owner| Some(&owner.uid) == object.uid().as_ref())
    });

    let forbidden =
        spec.concurrency_policy.as_deref() == Some("Forbid") && runs.iter().any(|run| !is_over(run));
    if let Some((due, schedule)) = plan.due.filter(|_| spec.suspend != Some(true) && !forbidden) {
        let run: DynamicObject = serde_json::from_value(spec.run_of(&object, due))?;
        match workflows.create(&PostParams::default(), &run).await {
            Ok(run) => {
                info!(cron = object.name_any(), workflow = run.name_any(), "run started");
                runs.push(run);
            }
            Err(Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(error) => return Err(asked("start a run")(error)),
        }
        set(
            &mut object,
            "lastScheduledTime",
            json!(due.to_rfc3339_opts(SecondsFormat::Secs, true)),
        );
        object
            .annotations_mut()
            .insert(names::LAST_USED_SCHEDULE.to_owned(), schedule);
    }
    let ended = |phase: &[&str]| {
        runs.iter()
            .filter(|run| {
                run.labels()
                    .get(names::PHASE)
                    .is_some_and(|it| phase.contains(&it.as_str()))
            })
            .count()
    };
    set(&mut object, "succeeded", json!(ended(&["Succeeded"])));
    set(&mut object, "failed", json!(ended(&["Failed", "Error"])));
    set(&mut object, "phase", json!("Active"));
    let active: Vec<Value> = runs.iter().filter(|run| !is_over(run)).map(reference).collect();
    set(
        &mut object,
        "active",
        if active.is_empty() {
            Value::Null
        } else {
            json!(active)
        },
    );
    if object.data.get("status") != Some(&old) {
        crons
            .replace(&object.name_any(), &PostParams::default(), &object)
            .await
            .map_err(asked("update the cronworkflow"))?;
    }
    let wait = plan.next.and_then(|next| (next - now).to_std().ok());
    Ok(wait.map_or_else(Next::await_change, |wait| {
        Next::requeue(wait + Duration::from_millis(50))
    }))
}

fn created(object: &DynamicObject) -> Option<DateTime<Utc>> {
    object
        .metadata
        .creation_timestamp
        .as_ref()?
        .0
        .to_string()
        .parse()
        .ok()
}

fn is_over(run: &DynamicObject) -> bool {
    run.labels().get(names::COMPLETED).is_some_and(|it| it == "true")
}

fn reference(run: &DynamicObject) -> Value {
    json!({
        "apiVersion": format!("{}/{}", names::GROUP, names::VERSION), "kind": "Workflow",
        "name": run.name_any(), "namespace": run.namespace(), "uid": run.uid(),
    })
}

/// Sets a field of `status`; null removes it.
fn set(object: &mut DynamicObject, key: &str, value: Value) {
    let Some(data) = object.data.as_object_mut() else {
        return;
    };
    let status = data.entry("status").or_insert_with(|| json!({}));
    if let Some(status) = status.as_object_mut() {
        match value {
            Value::Null => status.remove(key),
            value => status.insert(key.to_owned(), value),
        };
    }
}
