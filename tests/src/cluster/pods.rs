//! Pods: what a container prints, and running a program in one.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api,
    api::{AttachParams, LogParams},
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Cluster, Output};
use crate::{Error, wait_for};

impl Cluster {
    /// Runs a program in a container and gives what it printed and its exit code.
    ///
    /// # Errors
    /// If the API server refuses or the program cannot be started. A failing program is no error.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        argv: &[&str],
    ) -> Result<Output, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client()?, namespace);
        let action = format!("exec in {namespace}/{pod}, container {container}");
        let parameters = AttachParams::default().container(container).stderr(true);
        let mut process = pods
            .exec(pod, argv.iter().copied(), &parameters)
            .await
            .map_err(Error::kubernetes(action.clone()))?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let status = process.take_status();
        let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let Some(code) = status.as_ref().and_then(exit_code) else {
            let message = status.and_then(|status| status.message);
            return Err(Error::Command {
                command: action,
                code: -1,
                output: message.unwrap_or_else(|| "the connection ended without a status".to_owned()),
            });
        };
        Ok(Output { stdout, stderr, code })
    }

    /// All that a container has printed so far.
    ///
    /// # Errors
    /// If the API server or the kubelet refuses.
    pub async fn logs(&self, namespace: &str, pod: &str, container: &str) -> Result<String, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client()?, namespace);
        let parameters = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        pods.logs(pod, &parameters)
            .await
            .map_err(Error::kubernetes(format!(
                "read the log of {namespace}/{pod}, container {container}"
            )))
    }

    /// Waits until a pod is ready, and gives it.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it does not become ready in time.
    pub async fn pod_ready(&self, namespace: &str, pod: &str, deadline: Duration) -> Result<Pod, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client()?, namespace);
        wait_for(
            &format!("pod {namespace}/{pod} to be ready"),
            deadline,
            async || {
                let found = pods.get(pod).await?;
                Ok::<_, kube::Error>(is_ready(&found).then_some(found))
            },
        )
        .await
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // A broken connection shows in the status; what came before it is still worth having.
        let _ = stream.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The exit code in the status that ends an exec; none if the program never ran.
fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let cause = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    cause.message.as_ref()?.parse().ok()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
