//! The researcher's terminal in the notebook pod, and the workflows started from it.

use std::time::Duration;

use kube::{Api, api::DynamicObject, core::ApiResource};
use serde_json::Value;

use super::site::{Site, USERS_NAMESPACE};
use crate::{Output, TestResult, wait_for};

/// A spawned notebook pod.
pub struct Notebook<'a> {
    site: &'a Site,
    /// The pod's name.
    pub pod: String,
    /// The ServiceAccount that it runs as.
    pub service_account: String,
}

/// A finished workflow.
#[derive(Debug)]
pub struct Run {
    /// The Workflow's name.
    pub name: String,
    /// `Succeeded`, `Failed` or `Error`.
    pub phase: String,
    /// Its nodes' messages, in the order of their names.
    pub messages: Vec<String>,
}

impl<'a> Notebook<'a> {
    pub(super) fn new(site: &'a Site, pod: String, service_account: String) -> Self {
        Self {
            site,
            pod,
            service_account,
        }
    }

    /// Runs a program as the notebook's user would in a terminal.
    ///
    /// # Errors
    /// If it cannot be started; its failure is in the output.
    pub async fn run(&self, argv: &[&str]) -> TestResult<Output> {
        let cluster = self.site.cluster();
        Ok(cluster.exec(USERS_NAMESPACE, &self.pod, "notebook", argv).await?)
    }

    /// Runs a line of shell in the home directory and gives what it printed.
    ///
    /// # Errors
    /// If it fails: what it printed.
    pub async fn shell(&self, line: &str) -> TestResult<String> {
        let in_home = format!("cd \"$HOME\" && {line}");
        Ok(self.run(&["sh", "-c", &in_home]).await?.success(line)?)
    }

    /// Writes a file into the home.
    ///
    /// # Errors
    /// If the shell in the notebook fails.
    pub async fn write(&self, path: &str, text: &str) -> TestResult {
        // The text travels as one argument, so nothing in it means anything to the shell.
        let script = "printf %s \"$2\" > \"$HOME/$1\"";
        self.run(&["sh", "-c", script, "write", path, text])
            .await?
            .success(&format!("write {path}"))?;
        Ok(())
    }

    /// Starts a workflow of these jobs, one after the other, by `jupyterflow run`; gives its name.
    ///
    /// # Errors
    /// What jupyterflow printed when the API server refused.
    pub async fn start(&self, jobs: &[&str]) -> TestResult<String> {
        let dags: Vec<_> = (1..jobs.len())
            .map(|job| format!("{job} >> {}", job + 1))
            .collect();
        let workflow = serde_yaml::to_string(&serde_json::json!({ "jobs": jobs, "dags": dags }))?;
        self.write("workflow.yaml", &workflow).await?;
        Ok(self
            .shell("jupyterflow run -f workflow.yaml")
            .await?
            .trim()
            .to_owned())
    }

    /// Waits until a workflow has ended.
    ///
    /// # Errors
    /// If it has not within `deadline`.
    pub async fn finished(&self, name: &str, deadline: Duration) -> TestResult<Run> {
        let workflows = self.workflows()?;
        let what = format!("workflow {name} to end");
        Ok(wait_for(&what, deadline, async || {
            let run = read(&workflows.get(name).await?);
            let ended = ["Succeeded", "Failed", "Error"].contains(&run.phase.as_str());
            Ok::<_, kube::Error>(ended.then_some(run))
        })
        .await?)
    }

    /// Starts a workflow and waits for its end.
    ///
    /// # Errors
    /// As [`Notebook::start`] and [`Notebook::finished`].
    pub async fn workflow(&self, jobs: &[&str]) -> TestResult<Run> {
        let name = self.start(jobs).await?;
        self.finished(&name, Duration::from_secs(120)).await
    }

    /// Waits until a node of a workflow carries a message that holds `text`; gives the message.
    ///
    /// # Errors
    /// If none does within `deadline`.
    pub async fn message(&self, name: &str, text: &str, deadline: Duration) -> TestResult<String> {
        let workflows = self.workflows()?;
        let what = format!("a node of workflow {name} to say {text}");
        Ok(wait_for(&what, deadline, async || {
            let run = read(&workflows.get(name).await?);
            Ok::<_, kube::Error>(run.messages.into_iter().find(|message| message.contains(text)))
        })
        .await?)
    }

    fn workflows(&self) -> TestResult<Api<DynamicObject>> {
        let client = self.site.cluster().client()?;
        Ok(Api::namespaced_with(
            client,
            USERS_NAMESPACE,
            &workflow_resource(),
        ))
    }
}

/// Argo's Workflow.
#[must_use]
pub fn workflow_resource() -> ApiResource {
    ApiResource {
        group: "argoproj.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "argoproj.io/v1alpha1".to_owned(),
        kind: "Workflow".to_owned(),
        plural: "workflows".to_owned(),
    }
}

fn read(workflow: &DynamicObject) -> Run {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let status = workflow.data.get("status");
    let mut messages: Vec<_> = status
        .and_then(|status| status.get("nodes"))
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|nodes| nodes.values())
        .map(|node| text(node.get("message")))
        .chain([text(status.and_then(|status| status.get("message")))])
        .filter(|message| !message.is_empty())
        .collect();
    messages.sort();
    Run {
        name: workflow.metadata.name.clone().unwrap_or_default(),
        phase: text(status.and_then(|status| status.get("phase"))),
        messages,
    }
}
