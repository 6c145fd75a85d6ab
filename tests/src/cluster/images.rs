//! The project's images, built from this build's binaries and put onto the node without a registry.

use std::path::PathBuf;

use super::{
    Cluster,
    launcher::{repository, run},
    namespace::NetworkNamespace,
};
use crate::Error;

/// An image that the tests can put onto the node, as `leasehold.local/<name>:dev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The secret broker.
    SecretBroker,
    /// The webhook, the provisioner and the probe.
    Webhook,
    /// The spawner hook.
    SpawnerHook,
    /// The `leasehold` command line.
    Cli,
    /// JupyterHub's single-user server, JupyterLab, jupyterflow and the `leasehold` command line.
    Notebook,
    /// The stand-in for Argo: controller and executor.
    ArgoStandin,
    /// Argo's own executor, from `LEASEHOLD_ARGO_BIN`.
    Argoexec,
}

impl Image {
    /// The name without registry and tag.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SecretBroker => "secret-broker",
            Self::Webhook => "webhook",
            Self::SpawnerHook => "spawner-hook",
            Self::Cli => "cli",
            Self::Notebook => "notebook",
            Self::ArgoStandin => "argo-standin",
            Self::Argoexec => "argoexec",
        }
    }
}

impl Cluster {
    /// Builds the images that changed since they were last built and imports them. An existing cluster
    /// must have them already, so there this does nothing.
    ///
    /// # Errors
    /// If a binary is missing (build it with cargo first) or the import fails.
    pub fn load_images(&self, images: &[Image]) -> Result<(), Error> {
        if self.launcher.directory("import images").is_err() {
            return Ok(());
        }
        let names = images.iter().map(|image| image.name());
        let mut build = self.launcher.script("images/build");
        let outside = self.namespace.as_ref().map(NetworkNamespace::leave).transpose()?;
        let built = run(build.arg(profile_directory()).args(names))?.success("tests/images/build")?;
        drop(outside);
        built.lines().try_for_each(|archive| {
            let import = ["ctr", "-n", "k8s.io", "images", "import", archive];
            self.node_exec(import)?.success(&import.join(" ")).map(drop)
        })
    }
}

/// A program of this workspace, built beside the running one.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    profile_directory().join(name)
}

/// Where cargo put the running test's siblings: `target/debug`, `target/release`.
fn profile_directory() -> PathBuf {
    let running = std::env::current_exe().unwrap_or_default();
    running
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .map_or_else(|| repository().join("target/debug"), PathBuf::from)
}
