//! The shell around [`crate::engine`]: watches Workflows, CronWorkflows and pods, creates pods, writes status.
//!
//! It keeps no state. Every reconciliation reads the Workflow and its pods from the API server, so it may be
//! killed at any instruction and another one goes on. As Argo does, it writes `status` by an UPDATE of the whole
//! object (there is no status subresource), which a webhook on UPDATE sees.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Parser;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Config, ResourceExt as _};
use regex::Regex;
use tracing::{info, warn};

use crate::names;
use crate::pod::Executor;

mod crons;
mod workflows;

/// A stand-in for Argo's workflow-controller, for tests. It is not Argo: it runs what jupyterflow emits.
#[derive(Clone, Debug, Parser)]
#[command(name = "argo-standin-controller", version)]
pub struct Options {
    /// Only this namespace; all if absent.
    #[arg(long, env = "LEASEHOLD_ARGO_STANDIN_NAMESPACE")]
    pub namespace: Option<String>,
    /// Image whose `argoexec` runs in the pods.
    #[arg(long, default_value = "leasehold.local/argo-standin:dev")]
    pub executor_image: String,
    /// When to pull it.
    #[arg(long)]
    pub executor_image_pull_policy: Option<String>,
    /// Seconds until a pod that the API server put off is asked for again.
    #[arg(long, default_value_t = 10)]
    pub requeue_seconds: u64,
    /// Errors whose text matches this are waited out rather than taken as final.
    #[arg(long, env = "TRANSIENT_ERROR_PATTERN")]
    pub transient_error_pattern: Option<Regex>,
}

/// What every reconciliation needs.
struct Context {
    client: Client,
    executor: Executor,
    requeue: Duration,
    transient: Option<Regex>,
}

/// Why a reconciliation has to be tried again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The API server did not do what it was asked.
    #[error("asking the api server to {what} failed: {source}")]
    Api {
        what: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// A status that cannot be turned into JSON.
    #[error("the status cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

fn asked(what: &'static str) -> impl FnOnce(kube::Error) -> Failure {
    move |source| Failure::Api {
        what,
        source: Box::new(source),
    }
}

/// Runs until `shutdown` resolves.
///
/// # Errors
/// If there is no way to reach an API server.
pub async fn run(
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), kube::Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    // Go's client hands 429 and 503 to its caller; kube-rs would try again by itself and hide the message.
    config.default_retry = false;
    let client = Client::try_from(config)?;
    let context = Arc::new(Context {
        client: client.clone(),
        executor: Executor {
            image: options.executor_image,
            pull_policy: options.executor_image_pull_policy,
        },
        requeue: Duration::from_secs(options.requeue_seconds),
        transient: options.transient_error_pattern,
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let stopping = || {
        let mut stopped = stopped.clone();
        async move {
            let _ = stopped.wait_for(|it| *it).await;
        }
    };
    let scope = options.namespace.as_deref();
    let workflow_api = dynamic(&client, scope, &workflow_type());
    let cron_api = dynamic(&client, scope, &cron_type());
    let pods: Api<Pod> = scope.map_or_else(
        || Api::all(client.clone()),
        |it| Api::namespaced(client.clone(), it),
    );

    info!("this is a stand-in for argo workflows, not argo; it reconciles workflows and cronworkflows");
    let workflows = Controller::new_with(workflow_api.clone(), watcher::Config::default(), workflow_type())
        .owns(pods, watcher::Config::default().labels(names::WORKFLOW))
        .graceful_shutdown_on(stopping())
        .run(workflows::reconcile, on_failure, context.clone())
        .for_each(report);
    let of_cron = |run: DynamicObject| {
        let cron = run.labels().get(names::CRON_WORKFLOW).cloned();
        cron.map(|name| ObjectRef::new_with(&name, cron_type()).within(&run.namespace().unwrap_or_default()))
    };
    let crons = Controller::new_with(cron_api, watcher::Config::default(), cron_type())
        .watches_with(workflow_api, workflow_type(), watcher::Config::default(), of_cron)
        .graceful_shutdown_on(stopping())
        .run(crons::reconcile, on_failure, context)
        .for_each(report);
    let stopper = async move {
        shutdown.await;
        let _ = stop.send(true);
    };
    tokio::join!(workflows, crons, stopper);
    Ok(())
}

async fn report<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) {
    if let Err(error) = result {
        warn!(%error, "a reconciliation failed and will be repeated");
    }
}

fn on_failure(_: Arc<DynamicObject>, error: &Failure, _: Arc<Context>) -> Action {
    let soon = matches!(error, Failure::Api { source, .. } if is_conflict(source));
    Action::requeue(Duration::from_millis(if soon { 200 } else { 2000 }))
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn dynamic(client: &Client, namespace: Option<&str>, kind: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, kind),
        None => Api::all_with(client.clone(), kind),
    }
}

fn workflow_type() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(names::GROUP, names::VERSION, "Workflow"),
        "workflows",
    )
}

fn cron_type() -> ApiResource {
    let kind = GroupVersionKind::gvk(names::GROUP, names::VERSION, "CronWorkflow");
    ApiResource::from_gvk_with_plural(&kind, "cronworkflows")
}

fn now() -> DateTime<Utc> {
    Utc::now()
}
