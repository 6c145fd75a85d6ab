//! The cluster that the tests of this file share, and what most of them do first.

use std::{sync::OnceLock, time::Duration};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Secret};
use kube::{
    Api, Client,
    api::{ListParams, WatchEvent, WatchParams},
};
use leasehold_broker_wire::rest::{Lease, List};
use leasehold_tests::{
    Cluster, TestResult,
    journey::{Hub, Narrator, Notebook, SYSTEM_NAMESPACE, Site, Steward, USERS_NAMESPACE},
    wait_for,
};

/// An installed cluster with its hub and its steward.
pub struct Stage {
    pub site: &'static Site,
    pub hub: Hub<'static>,
    pub steward: Steward<'static>,
}

/// Runs `test` on the shared stage, which the first caller sets up.
pub fn on_stage(name: &str, test: impl AsyncFnOnce(&Stage) -> TestResult) -> TestResult {
    static STAGE: OnceLock<Result<Stage, String>> = OnceLock::new();
    let stage = STAGE.get_or_init(|| set_up().map_err(|error| error.to_string()));
    let stage = stage.as_ref().map_err(Clone::clone)?;
    let cluster = stage.site.cluster();
    let result = cluster.block_on(test(stage))?;
    if result.is_err() {
        eprintln!("==== {name}: what follows is the whole cluster's");
        cluster.dump();
    }
    result
}

fn set_up() -> TestResult<Stage> {
    let site: &'static Site = Box::leak(Box::new(Site::install(Cluster::start()?, &Narrator::aloud())?));
    let started = site.cluster().block_on(async {
        let hub = Hub::start(site).await?;
        let steward = Steward::new(site, "owners", "uis-steward").await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Stage { site, hub, steward })
    })?;
    if started.is_err() {
        site.cluster().dump();
    }
    started
}

impl Stage {
    /// A person whose notebook is spawned and whose home can hold a claim.
    pub async fn person(&self, username: &str) -> TestResult<Notebook<'static>> {
        let home: String = username.chars().filter(char::is_ascii_alphanumeric).collect();
        self.site.cluster().home_volume(&home).await?;
        self.hub.spawn(username).await
    }

    /// A dataset of three texts in which `lorem` stands five times.
    pub async fn dataset(&self, name: &str) -> TestResult {
        let path = self.site.texts(name)?;
        self.steward.register(name, &path, "unused")?;
        Ok(())
    }

    /// The person's leases.
    pub async fn leases(&self, notebook: &Notebook<'_>) -> TestResult<Vec<Lease>> {
        let said = notebook.shell("leasehold leases -o json").await?;
        let list: List<Lease> = serde_json::from_str(&said)?;
        Ok(list.items)
    }

    /// The person's lease of a dataset, whatever its state.
    pub async fn lease(&self, notebook: &Notebook<'_>, dataset: &str) -> TestResult<Lease> {
        let mut leases = self.leases(notebook).await?;
        leases.retain(|lease| lease.dataset == dataset);
        leases.sort_by_key(|lease| lease.fencing_token);
        Ok(leases.pop().ok_or("there is no such lease")?)
    }

    /// Waits until nothing of a lease is left in the cluster.
    pub async fn gone(&self, lease: &str, deadline: Duration) -> TestResult {
        let what = format!("everything of lease {lease} to be gone");
        wait_for(&what, deadline, async || {
            let left = self.remains(lease).await?;
            Ok::<_, kube::Error>(left.is_empty().then_some(()))
        })
        .await?;
        Ok(())
    }

    /// When the API server was asked to delete a lease's volume, in Unix seconds by its own clock; heard of through a watch that begins
    /// now. The provisioner asks for that when neither the claim nor a pod that holds it is left.
    ///
    /// # Errors
    /// If the watch cannot begin.
    pub async fn volume_deleted(
        &self,
        lease: &str,
    ) -> TestResult<impl Future<Output = TestResult<i64>> + use<>> {
        let volumes: Api<PersistentVolume> = Api::all(self.client());
        let label = format!("leasehold.dev/lease={lease}");
        let listed = volumes.list(&ListParams::default().labels(&label)).await?;
        let version = listed.metadata.resource_version.unwrap_or_default();
        let parameters = WatchParams::default().labels(&label).timeout(290);
        let mut events = Box::pin(volumes.watch(&parameters, &version).await?);
        Ok(async move {
            while let Some(event) = events.try_next().await? {
                let (volume, is_gone) = match event {
                    WatchEvent::Modified(volume) => (volume, false),
                    WatchEvent::Deleted(volume) => (volume, true),
                    WatchEvent::Error(status) => return Err(status.message.into()),
                    WatchEvent::Added(_) | WatchEvent::Bookmark(_) => continue,
                };
                if let Some(asked) = volume.metadata.deletion_timestamp {
                    return Ok(asked.0.as_second());
                }
                if is_gone {
                    return Ok(chrono::Utc::now().timestamp());
                }
            }
            Err("the watch ended before the volume did".into())
        })
    }

    /// What the cluster still has of a lease.
    pub async fn remains(&self, lease: &str) -> Result<Vec<String>, kube::Error> {
        let client = self.client();
        let ours = ListParams::default().labels(&format!("leasehold.dev/lease={lease}"));
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), USERS_NAMESPACE);
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        let secrets: Api<Secret> = Api::namespaced(client, SYSTEM_NAMESPACE);
        let mut left = Vec::new();
        left.extend(
            claims
                .list(&ours)
                .await?
                .into_iter()
                .map(|it| format!("claim {:?}", it.metadata.name)),
        );
        left.extend(
            volumes
                .list(&ours)
                .await?
                .into_iter()
                .map(|it| format!("volume {:?}", it.metadata.name)),
        );
        left.extend(
            secrets
                .list(&ours)
                .await?
                .into_iter()
                .map(|it| format!("secret {:?}", it.metadata.name)),
        );
        Ok(left)
    }

    /// An administrator's client.
    pub fn client(&self) -> Client {
        self.site.cluster().client().unwrap()
    }

    /// A client with the rights of the person's notebook.
    pub async fn as_notebook(&self, notebook: &Notebook<'_>) -> TestResult<Client> {
        let cluster = self.site.cluster();
        let audience = "https://kubernetes.default.svc";
        let token = cluster
            .token(USERS_NAMESPACE, &notebook.service_account, audience)
            .await?;
        Ok(cluster.client_with_token(&token)?)
    }
}
