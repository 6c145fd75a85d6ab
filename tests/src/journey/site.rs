//! The installed cluster: namespaces, Argo, Leasehold by its chart, directories of data, homes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{ConfigMap, Service},
    discovery::v1::EndpointSlice,
};
use kube::Api;

use super::narrator::Narrator;
use crate::{Argo, Cluster, Image, TestResult, wait_for};

/// Where Leasehold's own parts and the Secrets of volumes are.
pub const SYSTEM_NAMESPACE: &str = "leasehold-system";
/// Where notebooks and workflows are.
pub const USERS_NAMESPACE: &str = "hub";
/// The directory of the node below which the datasets of `UiSMSP` must lie.
pub const OWNERS_ROOT: &str = "/srv/leasehold/uis";

/// Namespaces as an operator makes them, and the identities of people and hub.
const GROUND: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: hub, labels: { leasehold.dev/users: "true", pod-security.kubernetes.io/enforce: baseline } }
---
apiVersion: v1
kind: Namespace
metadata: { name: owners }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: uis-steward, namespace: owners }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: outsider, namespace: owners }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: hub, namespace: hub }
---
# What z2jh gives its hub.
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: hub, namespace: hub }
rules:
  - { apiGroups: [""], resources: [pods, persistentvolumeclaims, secrets, services], verbs: [get, watch, list, create, delete] }
  - { apiGroups: [""], resources: [events], verbs: [get, watch, list] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: hub, namespace: hub }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: hub }
subjects: [{ kind: ServiceAccount, name: hub, namespace: hub }]
"#;

/// The operator's values for the chart.
const VALUES: &str = r#"
global: { imageTag: dev, imagePullPolicy: Never }
organisation: UiSMSP
hub: { identities: ["system:serviceaccount:hub:hub"] }
storage: { local: { roots: { UiSMSP: /srv/leasehold/uis } } }
secretBroker:
  config:
    stewards: [{ issuer: cluster, subject: "system:serviceaccount:owners:uis-steward" }]
  persistence: { storageClass: home }
"#;

/// A cluster on which Leasehold is installed.
pub struct Site {
    cluster: Cluster,
    argo: Argo,
    scratch: tempfile::TempDir,
}

impl Site {
    /// Installs everything but the hub on a fresh cluster.
    ///
    /// # Errors
    /// Whatever step fails, in its own words.
    pub fn install(cluster: Cluster, narrator: &Narrator) -> TestResult<Self> {
        let site = Self {
            cluster,
            argo: Argo::from_env(),
            scratch: tempfile::tempdir()?,
        };
        let installed = site.cluster.block_on(site.set_up(narrator))?;
        if installed.is_err() {
            site.cluster.dump();
        }
        installed?;
        Ok(site)
    }

    async fn set_up(&self, narrator: &Narrator) -> TestResult {
        let cluster = &self.cluster;
        narrator.step("put the images onto the node");
        cluster.load_images(&[
            Image::SecretBroker,
            Image::Webhook,
            Image::SpawnerHook,
            Image::Cli,
            Image::Notebook,
        ])?;
        narrator.step("make the namespaces of users, hub and owners");
        cluster.apply(GROUND).await?;
        cluster.home_volume("secret-broker").await?;
        narrator.step(&format!("install Argo Workflows: {}", self.argo));
        self.argo.install(cluster).await?;
        narrator.step("install Leasehold by its chart");
        self.install_chart(&self.api_server().await?)?;
        // Only an idle moment apart: the webhooks refuse everything until their certificates are known.
        wait_for(
            "the broker's certificate to be published",
            Duration::from_secs(60),
            async || Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Some(self.broker_ca().await?)),
        )
        .await?;
        Ok(())
    }

    /// Addresses of the API server, as pods see them.
    async fn api_server(&self) -> TestResult<Vec<String>> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.cluster.client()?, "default");
        let behind = slices.get("kubernetes").await?.endpoints.into_iter();
        let mut addresses: Vec<String> = behind.flat_map(|endpoint| endpoint.addresses).collect();
        let services: Api<Service> = Api::namespaced(self.cluster.client()?, "default");
        let service = services.get("kubernetes").await?.spec.unwrap_or_default();
        addresses.extend(service.cluster_ips.unwrap_or_default());
        Ok(addresses)
    }

    /// With pods that hold a dataset cut off, which a network plugin that enforces policies would see to.
    fn install_chart(&self, api_server: &[String]) -> TestResult {
        let cidrs: Vec<String> = api_server
            .iter()
            .map(|address| format!("{address}/{}", if address.contains(':') { 128 } else { 32 }))
            .collect();
        let network = serde_json::json!({"usersNamespaces": ["hub"], "apiServerCidrs": cidrs});
        let values = self.scratch.path().join("values.yaml");
        std::fs::write(&values, VALUES)?;
        self.cluster.helm(&[
            "upgrade",
            "--install",
            "leasehold",
            "helm/leasehold",
            "--namespace",
            SYSTEM_NAMESPACE,
            "--create-namespace",
            "--values",
            &values.to_string_lossy(),
            "--set-json",
            &format!("networkPolicy={network}"),
            "--wait",
            "--timeout",
            "3m",
        ])?;
        Ok(())
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Which Argo runs on it.
    #[must_use]
    pub fn argo(&self) -> &Argo {
        &self.argo
    }

    /// Gives the cluster back, for taking it down.
    #[must_use]
    pub fn into_cluster(self) -> Cluster {
        self.cluster
    }

    /// A directory for files of one purpose, removed with the site.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn scratch(&self, name: &str) -> TestResult<PathBuf> {
        let directory = self.scratch.path().join(name);
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// Makes a dataset's directory on the node: three texts in which `lorem` stands five times, one of them in a
    /// subdirectory. Gives the node's path.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn texts(&self, name: &str) -> TestResult<String> {
        let path = format!("{OWNERS_ROOT}/{name}");
        let here = self.cluster.node_directory(&path)?;
        let write = |file: &str, text: &str| -> TestResult {
            let file = here.join(file);
            std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
            Ok(std::fs::write(file, text)?)
        };
        write("one.txt", "lorem ipsum dolor sit amet\nlorem again\n")?;
        write("two.txt", "consectetur lorem adipiscing\n")?;
        write("more/three.txt", "lorem, and once more lorem\n")?;
        Ok(path)
    }

    /// The certificate of the broker's authority, PEM, as its ConfigMap publishes it.
    ///
    /// # Errors
    /// If it is not published yet.
    pub async fn broker_ca(&self) -> TestResult<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.cluster.client()?, SYSTEM_NAMESPACE);
        let published = maps.get("leasehold-ca").await?.data.unwrap_or_default();
        let certificate = published
            .get("ca.crt")
            .ok_or("the ConfigMap leasehold-ca has no ca.crt")?;
        Ok(certificate.clone())
    }
}
