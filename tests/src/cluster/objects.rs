//! Objects: applying YAML of any kind, and tokens of ServiceAccounts.

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde::Deserialize;

use super::Cluster;
use crate::Error;

/// The field manager of what tests apply.
const FIELD_MANAGER: &str = "leasehold-tests";

impl Cluster {
    /// Applies every object of a YAML stream, server-side, in order; gives what the API server made of
    /// them. A namespaced object without a namespace goes to `default`.
    ///
    /// # Errors
    /// If the YAML is no object, or the API server refuses one; those before it stay applied.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>, Error> {
        self.apply_as(&self.client()?, yaml).await
    }

    /// As [`Cluster::apply`], with the rights of another client.
    ///
    /// # Errors
    /// As [`Cluster::apply`].
    pub async fn apply_as(&self, client: &Client, yaml: &str) -> Result<Vec<DynamicObject>, Error> {
        let mut applied = Vec::new();
        for document in serde_yaml::Deserializer::from_str(yaml) {
            let value =
                serde_json::Value::deserialize(document).map_err(|error| Error::Yaml(error.to_string()))?;
            if !value.is_null() {
                applied.push(apply_one(client, value).await?);
            }
        }
        Ok(applied)
    }

    /// A token of a ServiceAccount for one audience, valid for an hour, by `TokenRequest`.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn token(
        &self,
        namespace: &str,
        service_account: &str,
        audience: &str,
    ) -> Result<String, Error> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.to_owned()],
                expiration_seconds: Some(3600),
                ..Default::default()
            },
            ..Default::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let answer = accounts
            .create_token_request(service_account, &PostParams::default(), &request)
            .await
            .map_err(Error::kubernetes(format!(
                "get a token of serviceaccount {namespace}/{service_account}"
            )))?;
        Ok(answer.status.map(|status| status.token).unwrap_or_default())
    }
}

async fn apply_one(client: &Client, value: serde_json::Value) -> Result<DynamicObject, Error> {
    let object: DynamicObject =
        serde_json::from_value(value).map_err(|error| Error::Yaml(error.to_string()))?;
    let missing = |field| Error::Yaml(format!("an object has no {field}"));
    let types = object
        .types
        .as_ref()
        .ok_or_else(|| missing("apiVersion and kind"))?;
    let name = object
        .metadata
        .name
        .clone()
        .ok_or_else(|| missing("metadata.name"))?;
    let kind = GroupVersionKind::try_from(types).map_err(|error| Error::Yaml(error.to_string()))?;
    let action = format!("apply {} {name}", kind.kind);

    let (resource, capabilities) = discovery::pinned_kind(client, &kind)
        .await
        .map_err(Error::kubernetes(format!("find the kind of: {action}")))?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    api.patch(
        &name,
        &PatchParams::apply(FIELD_MANAGER).force(),
        &Patch::Apply(&object),
    )
    .await
    .map_err(Error::kubernetes(action))
}
