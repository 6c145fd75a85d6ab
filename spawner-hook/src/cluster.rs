//! The few requests to the Kubernetes API server that a spawn needs. A thin shell: what is asked and written is decided
//! in [`crate::accounts`] and [`crate::spawn`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use leasehold_broker_wire::names::{SPAWNER_HOOK_AUDIENCE, USERS_NAMESPACE_LABEL};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::accounts::MANAGER;
use crate::patch::CA_KEY;
use crate::problem::SpawnError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const READ_TIMEOUT: Duration = Duration::from_secs(8);

/// The cluster in which notebooks run.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// With a client that is already configured.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// With the pod's own ServiceAccount, or the kubeconfig of the environment.
    pub(crate) async fn connect() -> Result<Self, String> {
        let mut config = kube::Config::infer().await.map_err(|error| error.to_string())?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.write_timeout = Some(READ_TIMEOUT);
        Client::try_from(config)
            .map(Self::new)
            .map_err(|error| error.to_string())
    }

    /// Whose token it is, where the API server vouches for it and it is meant for us.
    pub(crate) async fn review(&self, token: &str) -> Result<Option<String>, SpawnError> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![SPAWNER_HOOK_AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let answer = Api::<TokenReview>::all(self.client.clone())
            .create(&PostParams::default(), &review)
            .await
            .map_err(failed("the review of the caller's token"))?;
        let Some(status) = answer.status else {
            return Ok(None);
        };
        let ours = status
            .audiences
            .iter()
            .flatten()
            .any(|audience| audience == SPAWNER_HOOK_AUDIENCE);
        Ok(match status.user {
            Some(user) if status.authenticated == Some(true) && ours => user.username,
            _ => None,
        })
    }

    /// Whether the operator has opened a namespace to people.
    pub(crate) async fn is_for_users(&self, namespace: &str) -> Result<bool, SpawnError> {
        let found = Api::<Namespace>::all(self.client.clone())
            .get_opt(namespace)
            .await
            .map_err(failed(&format!("a look at namespace {namespace}")))?;
        let labels = found.and_then(|found| found.metadata.labels);
        Ok(labels.is_some_and(|labels| {
            labels
                .get(USERS_NAMESPACE_LABEL)
                .is_some_and(|value| value == "true")
        }))
    }

    /// The metadata of an object that may not exist.
    pub(crate) async fn metadata<K>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ObjectMeta>, SpawnError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let found = Api::<K>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(failed(&format!(
                "a look at {} {name} in {namespace}",
                K::kind(&())
            )))?;
        Ok(found.map(|found| found.meta().clone()))
    }

    /// Makes an object be as given (server-side apply), and returns it as it now is.
    pub(crate) async fn apply<K>(&self, object: &K) -> Result<K, SpawnError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + Serialize,
    {
        let name = object.meta().name.as_deref().unwrap_or_default();
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        Api::<K>::namespaced(self.client.clone(), namespace)
            .patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
            .await
            .map_err(failed(&format!(
                "the update of {} {name} in {namespace}",
                K::kind(&())
            )))
    }

    /// Puts a CA certificate where others can mount it.
    pub(crate) async fn publish_ca(&self, namespace: &str, name: &str, pem: &str) -> Result<(), SpawnError> {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(CA_KEY.to_owned(), pem.to_owned())])),
            ..ConfigMap::default()
        };
        self.apply(&map).await.map(drop)
    }
}

fn failed(what: &str) -> impl FnOnce(kube::Error) -> SpawnError {
    let what = what.to_owned();
    move |error| SpawnError::Kubernetes {
        what,
        reason: match error {
            kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
            other => other.to_string(),
        },
    }
}
