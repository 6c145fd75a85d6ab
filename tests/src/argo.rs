//! Argo Workflows on the test cluster: the real one where its binaries are, else the stand-in, and which it is.
//!
//! `LEASEHOLD_ARGO_BIN` names a directory with `workflow-controller`, `argoexec` and `crds/*.yaml`. Either way the controller
//! is `system:serviceaccount:argo:argo` and its pod has the label `app=workflow-controller`.

use std::{
    env,
    fmt::{Display, Formatter, Result as Formatted},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use k8s_openapi::{
    api::apps::v1::Deployment,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::Api;

use crate::{Cluster, Error, Image, wait_for};

const RBAC: &str = include_str!("../argo-standin/manifests/rbac.yaml");
const STAND_IN_KINDS: &str = include_str!("../argo-standin/manifests/crds.yaml");
const STAND_IN: &str = include_str!("../argo-standin/manifests/argo.yaml");
const REAL: &str = include_str!("../argo-standin/manifests/real-argo.yaml");
/// Real Argo elects a leader before it is ready.
const DEADLINE: Duration = Duration::from_secs(120);

/// Which Argo the tests run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argo {
    /// The stand-in of `tests/argo-standin`.
    StandIn,
    /// Argo Workflows itself.
    Real {
        /// Directory of its binaries.
        binaries: PathBuf,
        /// What its controller says of itself.
        version: String,
    },
}

impl Argo {
    /// The real one if `LEASEHOLD_ARGO_BIN` is set.
    #[must_use]
    pub fn from_env() -> Self {
        match env::var_os("LEASEHOLD_ARGO_BIN").filter(|it| !it.is_empty()) {
            None => Self::StandIn,
            Some(binaries) => {
                let binaries = PathBuf::from(binaries);
                let version = version(&binaries.join("workflow-controller"));
                Self::Real { binaries, version }
            }
        }
    }

    /// Puts it onto the cluster and waits until it is ready.
    ///
    /// # Errors
    /// If its images cannot be built, the API server refuses a manifest, or it is not ready in time.
    pub async fn install(&self, cluster: &Cluster) -> Result<(), Error> {
        let (image, kinds, controller) = match self {
            Self::StandIn => (Image::ArgoStandin, vec![STAND_IN_KINDS.to_owned()], STAND_IN),
            Self::Real { binaries, .. } => (Image::Argoexec, definitions(&binaries.join("crds"))?, REAL),
        };
        cluster.load_images(&[image])?;
        cluster.apply(RBAC).await?;
        let mut names = Vec::new();
        for kind in &kinds {
            names.extend(
                cluster
                    .apply(kind)
                    .await?
                    .into_iter()
                    .filter_map(|it| it.metadata.name),
            );
        }
        for name in &names {
            established(cluster, name).await?;
        }
        cluster.apply(controller).await?;
        let deployments: Api<Deployment> = Api::namespaced(cluster.client()?, "argo");
        wait_for("argo's controller to be ready", DEADLINE, async || {
            let status = deployments
                .get("workflow-controller")
                .await?
                .status
                .unwrap_or_default();
            Ok::<_, kube::Error>((status.ready_replicas.unwrap_or_default() > 0).then_some(()))
        })
        .await
    }
}

impl Display for Argo {
    fn fmt(&self, out: &mut Formatter<'_>) -> Formatted {
        match self {
            Self::StandIn => out.write_str("a stand-in, not Argo (LEASEHOLD_ARGO_BIN is not set)"),
            Self::Real { binaries, version } => write!(out, "{version} from {}", binaries.display()),
        }
    }
}

/// The version that a controller prints after its name, or that it could not be asked.
fn version(controller: &Path) -> String {
    let said = Command::new(controller).args(["version", "--short"]).output();
    let said = said
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    said.lines()
        .find_map(|line| line.strip_prefix("workflow-controller: "))
        .map_or_else(
            || "of an unknown version".to_owned(),
            |version| version.trim().to_owned(),
        )
}

/// The CustomResourceDefinitions in a directory, each as YAML.
fn definitions(directory: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::File {
        path: directory.to_owned(),
        source,
    };
    let mut texts = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|it| it == "yaml") {
            let text = fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
            // The directory may hold a kustomization beside them.
            if text.contains("kind: CustomResourceDefinition") {
                texts.push(text);
            }
        }
    }
    Ok(texts)
}

async fn established(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let kinds: Api<CustomResourceDefinition> = Api::all(cluster.client()?);
    wait_for(&format!("the kind {name} to be served"), DEADLINE, async || {
        let status = kinds.get(name).await?.status;
        let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
        let served = conditions
            .iter()
            .any(|it| it.type_ == "Established" && it.status == "True");
        Ok::<_, kube::Error>(served.then_some(()))
    })
    .await
}
