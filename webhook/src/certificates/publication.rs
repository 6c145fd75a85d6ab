//! Where replicas publish their CA certificates: a ConfigMap, one key per CA, named for the pod and the CA's serial.
//!
//! Each replica applies its own keys under its own field manager (server-side apply), so that replicas do not know each
//! other, a restarted container takes its predecessor's key away, and nothing is read before it is written.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::{Authority, CertificateOptions};

/// Name under which a pod publishes the CA of this serial.
#[must_use]
pub fn entry_key(pod: &str, serial: &str) -> String {
    format!("{pod}.{serial}.crt")
}

/// The pod that published an entry; `None` where the key is none of ours.
#[must_use]
pub fn pod_of_entry(key: &str) -> Option<&str> {
    let (pod, serial) = key.strip_suffix(".crt")?.rsplit_once('.')?;
    let ours = !pod.is_empty() && serial.len() == 16 && serial.bytes().all(|b| b.is_ascii_hexdigit());
    ours.then_some(pod)
}

/// One replica's access to what is published and to what the API server trusts.
pub(super) struct Publication {
    config_maps: Api<ConfigMap>,
    mutating: Api<MutatingWebhookConfiguration>,
    validating: Api<ValidatingWebhookConfiguration>,
    options: CertificateOptions,
}

impl Publication {
    pub(super) fn new(client: &Client, options: &CertificateOptions) -> Self {
        Self {
            config_maps: Api::namespaced(client.clone(), &options.namespace),
            mutating: Api::all(client.clone()),
            validating: Api::all(client.clone()),
            options: options.clone(),
        }
    }

    /// Publishes exactly these CAs of this replica; what it published before and is not among them goes away.
    pub(super) async fn publish(&self, authorities: &[&Authority]) -> kube::Result<()> {
        let data: BTreeMap<String, &str> = authorities
            .iter()
            .map(|a| (entry_key(&self.options.pod, a.serial()), a.pem()))
            .collect();
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.options.config_map},
            "data": data,
        });
        // The API server bounds a field manager's name at 128 bytes; a pod's name is at most 63 where a ReplicaSet made it.
        let manager: String = format!("leasehold-webhook/{}", self.options.pod)
            .chars()
            .take(128)
            .collect();
        let params = PatchParams::apply(&manager).force();
        self.config_maps
            .patch(&self.options.config_map, &params, &Patch::Apply(body))
            .await
            .map(drop)
    }

    /// True once every webhook of both configurations trusts this CA.
    pub(super) async fn trusted(&self, authority: &Authority) -> kube::Result<bool> {
        let name = &self.options.configuration;
        let (mutating, validating) = tokio::try_join!(self.mutating.get(name), self.validating.get(name))?;
        let bundles = |list: Vec<Option<k8s_openapi::ByteString>>| {
            !list.is_empty()
                && list.iter().all(|bundle| {
                    let pem = bundle.as_ref().map_or(&[][..], |b| b.0.as_slice());
                    String::from_utf8_lossy(pem).contains(authority.pem().trim())
                })
        };
        tracing::trace!(
            mutating = mutating.name_any(),
            validating = validating.name_any(),
            "looked for this CA"
        );
        Ok(bundles(
            mutating
                .webhooks
                .unwrap_or_default()
                .into_iter()
                .map(|w| w.client_config.ca_bundle)
                .collect(),
        ) && bundles(
            validating
                .webhooks
                .unwrap_or_default()
                .into_iter()
                .map(|w| w.client_config.ca_bundle)
                .collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_its_pod_and_foreign_keys_name_none() {
        let key = entry_key("leasehold-webhook-7d9c-x2x4p", "00112233445566aa");
        assert_eq!(pod_of_entry(&key), Some("leasehold-webhook-7d9c-x2x4p"));
        for foreign in [
            "ca.crt",
            ".00112233445566aa.crt",
            "pod.00112233.crt",
            "pod.00112233445566zz.crt",
            "pod",
            "",
        ] {
            assert_eq!(pod_of_entry(foreign), None, "{foreign}");
        }
    }
}
