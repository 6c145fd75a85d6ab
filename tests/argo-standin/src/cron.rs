//! When a CronWorkflow runs next, and the Workflow it starts. Pure.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::names;
use crate::workflow::{Metadata, normalise};

/// How late a run may start where the CronWorkflow does not say: a controller that was killed has that long to
/// come back.
const GRACE: TimeDelta = TimeDelta::seconds(30);

/// Why a CronWorkflow never runs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadCron {
    /// The object is not a CronWorkflow.
    #[error("the cronworkflow cannot be read: {0}")]
    Malformed(String),
    /// Not a schedule.
    #[error("`{schedule}` is not a schedule of five fields: {why}")]
    Schedule {
        /// What was given.
        schedule: String,
        /// What is wrong with it.
        why: String,
    },
    /// A part of Argo that the stand-in leaves out.
    #[error("the stand-in for argo knows no {0}; set LEASEHOLD_ARGO_BIN to test with real argo")]
    LeftOut(String),
}

/// A CronWorkflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronSpec {
    /// When, in five fields.
    pub schedules: Vec<String>,
    /// Where those times are; only UTC here.
    pub timezone: Option<String>,
    /// Not now.
    pub suspend: Option<bool>,
    /// `Allow` (the default) or `Forbid`.
    pub concurrency_policy: Option<String>,
    /// How late a run may start.
    pub starting_deadline_seconds: Option<i64>,
    /// Labels and annotations of the Workflows.
    pub workflow_metadata: Metadata,
    /// The Workflows' specification.
    pub workflow_spec: Value,
}

/// What to do now, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The run that is due, and the schedule that says so.
    pub due: Option<(DateTime<Utc>, String)>,
    /// The next one.
    pub next: Option<DateTime<Utc>>,
}

impl CronSpec {
    /// Reads a CronWorkflow.
    ///
    /// # Errors
    /// [`BadCron`] if it cannot be read or asks for what the stand-in leaves out.
    pub fn parse(object: &DynamicObject) -> Result<Self, BadCron> {
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        for key in ["schedule", "stopStrategy", "when"] {
            if spec.get(key).is_some() {
                return Err(BadCron::LeftOut(format!("`{key}` in a cronworkflow")));
            }
        }
        let spec: Self =
            serde_json::from_value(spec).map_err(|error| BadCron::Malformed(error.to_string()))?;
        match (spec.timezone.as_deref(), spec.concurrency_policy.as_deref()) {
            (Some(zone), _) if !matches!(zone, "" | "UTC" | "Etc/UTC") => Err(BadCron::LeftOut(format!(
                "time zone but UTC, and {zone} is another"
            ))),
            (_, Some("Replace")) => Err(BadCron::LeftOut("concurrency policy `Replace`".to_owned())),
            _ => Ok(spec),
        }
    }

    /// What is due `now`, given the last run (or, before the first, the time of creation).
    ///
    /// Of several missed runs only the latest is due, and only if it is not too late for it.
    ///
    /// # Errors
    /// [`BadCron::Schedule`].
    pub fn plan(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Result<Plan, BadCron> {
        let mut plan = Plan {
            due: None,
            next: None,
        };
        let grace = self
            .starting_deadline_seconds
            .and_then(TimeDelta::try_seconds)
            .unwrap_or(GRACE)
            .max(GRACE);
        for schedule in &self.schedules {
            let cron = parse(schedule)?;
            let due = cron
                .find_previous_occurrence(&now, true)
                .ok()
                .filter(|due| *due > last && now - *due <= grace);
            if let Some(due) = due.filter(|due| plan.due.as_ref().is_none_or(|(latest, _)| due > latest)) {
                plan.due = Some((due, schedule.clone()));
            }
            let next = cron.find_next_occurrence(&now, false).ok();
            plan.next = plan.next.into_iter().chain(next).min();
        }
        Ok(plan)
    }

    /// The Workflow for the run due at `due`.
    #[must_use]
    pub fn run_of(&self, cron: &DynamicObject, due: DateTime<Utc>) -> Value {
        let mut spec = self.workflow_spec.clone();
        normalise(&mut spec);
        let name = cron.name_any();
        let mut labels = json!(self.workflow_metadata.labels);
        let mut annotations = json!(self.workflow_metadata.annotations);
        if let (Some(labels), Some(annotations)) = (labels.as_object_mut(), annotations.as_object_mut()) {
            labels.insert(names::CRON_WORKFLOW.to_owned(), json!(name));
            let scheduled = due.to_rfc3339_opts(SecondsFormat::Secs, true);
            annotations.insert(names::SCHEDULED_TIME.to_owned(), json!(scheduled));
        }
        json!({
            "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
            "kind": "Workflow",
            "metadata": {
                "name": names::cron_run_name(&name, due),
                "namespace": cron.namespace(),
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [{
                    "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
                    "kind": "CronWorkflow",
                    "name": name,
                    "uid": cron.uid(),
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
            "spec": spec,
            "status": {},
        })
    }
}

fn parse(schedule: &str) -> Result<Cron, BadCron> {
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .build()
        .parse(schedule)
        .map_err(|error| BadCron::Schedule {
            schedule: schedule.to_owned(),
            why: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-22T{text}Z").parse().unwrap()
    }

    #[test]
    fn a_run_is_due_once_and_not_when_it_is_too_late() {
        let spec = CronSpec {
            schedules: vec!["*/5 * * * *".into()],
            ..CronSpec::default()
        };
        for (last, now, due, next) in [
            ("04:15:30", "04:19:59", None, "04:20:00"),
            ("04:15:30", "04:20:00", Some("04:20:00"), "04:25:00"),
            ("04:15:30", "04:20:29", Some("04:20:00"), "04:25:00"),
            ("04:15:30", "04:21:00", None, "04:25:00"),
            ("04:20:00", "04:20:10", None, "04:25:00"),
        ] {
            let plan = spec.plan(at(last), at(now)).unwrap();
            assert_eq!(
                plan.due.map(|(due, _)| due),
                due.map(at),
                "last {last}, now {now}"
            );
            assert_eq!(plan.next, Some(at(next)), "last {last}, now {now}");
        }
    }

    #[test]
    fn a_schedule_that_is_none_is_named() {
        for schedule in ["", "* * * *", "every day", "* * * * * *", "61 * * * *"] {
            let spec = CronSpec {
                schedules: vec![schedule.into()],
                ..CronSpec::default()
            };
            let error = spec.plan(at("04:00:00"), at("04:00:01")).unwrap_err();
            assert!(error.to_string().contains(schedule), "{error}");
        }
    }
}
