//! One spawn, in order: check the names, make the accounts, bind them at the broker, answer. Whatever fails, doing it again
//! is safe, and until the broker has bound the accounts nobody can mount anything with them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::Role;
use leasehold_broker_client::machines::MachinesClient;
use leasehold_broker_wire::machines as wire;

use crate::accounts::{Accounts, Ownership, accounts, ownership};
use crate::cluster::Cluster;
use crate::names::{Names, pod_role};
use crate::patch::{CA_CONFIG_MAP, PatchSettings, PodPatch, pod_patch};
use crate::problem::SpawnError;
use crate::request::SpawnRequest;

/// What every spawn needs.
pub struct Spawner {
    /// Where notebooks run.
    pub cluster: Cluster,
    /// Our organisation's broker.
    pub broker: MachinesClient,
    /// PEM file with the broker's CA certificate.
    pub broker_ca_file: PathBuf,
    /// Who may call, as `system:serviceaccount:…`.
    pub hub_identities: BTreeSet<String>,
    /// What is the same at every spawn.
    pub patch: PatchSettings,
}

impl Spawner {
    /// Whether the bearer of a token is a hub.
    pub(crate) async fn authorise(&self, token: &str) -> Result<(), SpawnError> {
        let caller = self
            .cluster
            .review(token)
            .await?
            .ok_or(SpawnError::Unauthenticated)?;
        if self.hub_identities.contains(&caller) {
            Ok(())
        } else {
            Err(SpawnError::NotAHub { caller })
        }
    }

    /// Prepares one spawn.
    pub(crate) async fn spawn(&self, request: SpawnRequest) -> Result<PodPatch, SpawnError> {
        request.validate()?;
        let namespace = &request.namespace;
        if !self.cluster.is_for_users(namespace).await? {
            return Err(SpawnError::NamespaceNotAllowed {
                namespace: namespace.clone(),
            });
        }
        let names = Names::of(&request.username);
        let accounts = accounts(&request, &names);
        self.refuse_foreign_names(&request, &names).await?;
        let ca = tokio::fs::read_to_string(&self.broker_ca_file)
            .await
            .map_err(|error| SpawnError::NoBrokerCa {
                reason: error.to_string(),
            })?;
        self.cluster.publish_ca(namespace, CA_CONFIG_MAP, &ca).await?;
        let (notebook, executor) = self.apply(&accounts).await?;
        let patch = pod_patch(&request, &names, &self.patch);
        self.bind(request, notebook, executor).await?;
        Ok(patch)
    }

    /// Nothing is written where one of the names belongs to another username.
    async fn refuse_foreign_names(&self, request: &SpawnRequest, names: &Names) -> Result<(), SpawnError> {
        let namespace = &request.namespace;
        let is_foreign =
            |metadata: Option<_>| ownership(metadata.as_ref(), &request.username) == Ownership::Foreign;
        for name in [&names.notebook, &names.executor] {
            let account = self.cluster.metadata::<ServiceAccount>(namespace, name).await?;
            let role = self.cluster.metadata::<Role>(namespace, name).await?;
            if is_foreign(account) || is_foreign(role) {
                return Err(SpawnError::UsernameTaken {
                    object: format!("the account {name}"),
                    namespace: namespace.clone(),
                });
            }
        }
        let pod = &request.pod_name;
        if is_foreign(self.cluster.metadata::<Role>(namespace, &pod_role(pod)).await?) {
            return Err(SpawnError::PodNameTaken {
                pod: pod.clone(),
                namespace: namespace.clone(),
            });
        }
        Ok(())
    }

    async fn apply(&self, accounts: &Accounts) -> Result<(ServiceAccount, ServiceAccount), SpawnError> {
        let notebook = self.cluster.apply(&accounts.notebook).await?;
        let executor = self.cluster.apply(&accounts.executor).await?;
        for role in &accounts.roles {
            self.cluster.apply(role).await?;
        }
        for binding in &accounts.bindings {
            self.cluster.apply(binding).await?;
        }
        Ok((notebook, executor))
    }

    async fn bind(
        &self,
        request: SpawnRequest,
        notebook: ServiceAccount,
        executor: ServiceAccount,
    ) -> Result<(), SpawnError> {
        let account = |account: ServiceAccount| wire::ServiceAccount {
            namespace: request.namespace.clone(),
            name: account.metadata.name.unwrap_or_default(),
            uid: account.metadata.uid.unwrap_or_default(),
        };
        let binding = wire::BindServiceAccountsRequest {
            id_token: request.id_token.unwrap_or_default(),
            username: request.username,
            notebook: Some(account(notebook)),
            executor: Some(account(executor)),
            home: Some(wire::Home {
                claim: request.home.claim,
                sub_path: request.home.sub_path.unwrap_or_default(),
                mount_path: request.home.mount_path,
            }),
        };
        let bound = self.broker.bind_service_accounts(binding).await?;
        tracing::info!(
            subject = %bound.subject,
            namespace = %request.namespace,
            pod = %request.pod_name,
            datasets = bound.skeletons.len(),
            "spawn prepared"
        );
        Ok(())
    }
}
