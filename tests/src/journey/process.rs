//! Killing a component as a crash would: SIGKILL to its process, by id, at a chosen moment.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

use super::site::{SYSTEM_NAMESPACE, Site};
use crate::{TestResult, wait_for};

/// A component that a test kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The secret broker.
    SecretBroker,
    /// Every replica of the webhook.
    Webhook,
    /// Every replica of the provisioner, the leader among them.
    Provisioner,
    /// The spawner hook.
    SpawnerHook,
    /// Argo's workflow controller, or its stand-in.
    Argo,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::SecretBroker,
        Self::Webhook,
        Self::Provisioner,
        Self::SpawnerHook,
        Self::Argo,
    ];

    fn pods(self) -> (&'static str, &'static str) {
        match self {
            Self::SecretBroker => (SYSTEM_NAMESPACE, "app.kubernetes.io/name=leasehold-secret-broker"),
            Self::Webhook => (SYSTEM_NAMESPACE, "app.kubernetes.io/name=leasehold-webhook"),
            Self::Provisioner => (SYSTEM_NAMESPACE, "app.kubernetes.io/name=leasehold-provisioner"),
            Self::SpawnerHook => (SYSTEM_NAMESPACE, "app.kubernetes.io/name=leasehold-spawner-hook"),
            Self::Argo => ("argo", "app=workflow-controller"),
        }
    }

    /// Kills every process of the component; the kubelet starts it again. One that is just being started again is
    /// waited for. Gives how many were killed.
    ///
    /// # Errors
    /// If none comes up to be killed, so that a test never believes it killed something.
    pub async fn kill(self, site: &Site) -> TestResult<usize> {
        let what = format!("a process of {self:?} to kill");
        let killed = wait_for(&what, Duration::from_secs(60), async || {
            let killed = self.kill_now(site).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((killed > 0).then_some(killed))
        })
        .await?;
        Ok(killed)
    }

    async fn kill_now(self, site: &Site) -> TestResult<usize> {
        let (namespace, selector) = self.pods();
        let pods: Api<Pod> = Api::namespaced(site.cluster().client()?, namespace);
        let mut killed = 0;
        for pod in pods.list(&ListParams::default().labels(selector)).await? {
            let statuses = pod
                .status
                .and_then(|status| status.container_statuses)
                .unwrap_or_default();
            for id in statuses.into_iter().filter_map(|status| status.container_id) {
                let id = id.trim_start_matches("containerd://").to_owned();
                let argv = ["ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", &id];
                if site.cluster().node_exec(argv)?.code == 0 {
                    killed += 1;
                }
            }
        }
        Ok(killed)
    }
}
