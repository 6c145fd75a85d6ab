//! One cluster: starting it, being inside it, taking it down.
//!
//! The node's API server listens in a network namespace of its own. [`Cluster::block_on`] runs its
//! future in that namespace: the calling thread enters it for the time of the call, and so does
//! every thread of the runtime, so clients, and programs that the test starts, reach the API server,
//! Services' addresses and pods. Service *names* resolve only in programs started by
//! [`Cluster::node_exec`] or `tests/cluster/enter`, which see the node's `/etc/resolv.conf` too.

mod dump;
mod images;
mod launcher;
mod namespace;
mod objects;
mod pods;
mod volumes;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use tokio::runtime::Runtime;

pub use self::{
    images::{Image, binary},
    launcher::{Output, repository},
};
use self::{launcher::Launcher, namespace::NetworkNamespace};
use crate::{Error, TestResult};

/// A running cluster. Dropping it takes it down, unless it existed before or is to be kept.
pub struct Cluster {
    name: String,
    launcher: Launcher,
    kubeconfig: PathBuf,
    namespace: Option<NetworkNamespace>,
    runtime: Option<Runtime>,
    ends_with_us: bool,
}

impl Cluster {
    /// Starts a cluster of its own in a fresh directory, or uses the existing one that
    /// `LEASEHOLD_TEST_KUBECONFIG` names. It ends with this process, however that ends.
    ///
    /// # Errors
    /// If it cannot be started: the launcher's own words.
    pub fn start() -> Result<Self, Error> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        if let Some(kubeconfig) = std::env::var_os("LEASEHOLD_TEST_KUBECONFIG") {
            return Self::existing(kubeconfig.into());
        }
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("leasehold-test-{}-{number}", std::process::id()));
        Self::node(Launcher::own(directory), true)
    }

    /// Uses the cluster whose state is in `directory`, or starts one there. It stays when this value
    /// is dropped; [`Cluster::stop`] ends it.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::node(Launcher::own(directory.into()), false)
    }

    fn node(launcher: Launcher, ends_with_us: bool) -> Result<Self, Error> {
        let node = launcher.up(ends_with_us)?;
        let namespace = NetworkNamespace::of_process(node.init_pid)?;
        let runtime = namespace.runtime()?;
        Ok(Self::new(
            launcher,
            node.kubeconfig,
            Some(namespace),
            runtime,
            ends_with_us,
        ))
    }

    fn existing(kubeconfig: PathBuf) -> Result<Self, Error> {
        let runtime = Runtime::new().map_err(Error::Runtime)?;
        Ok(Self::new(Launcher::existing(), kubeconfig, None, runtime, false))
    }

    fn new(
        launcher: Launcher,
        kubeconfig: PathBuf,
        namespace: Option<NetworkNamespace>,
        runtime: Runtime,
        ends_with_us: bool,
    ) -> Self {
        // Only the first call in a process installs it; the others find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let name = std::thread::current()
            .name()
            .unwrap_or("cluster")
            .replace("::", "-");
        Self {
            name,
            launcher,
            kubeconfig,
            namespace,
            runtime: Some(runtime),
            ends_with_us,
        }
    }

    /// Runs a future inside the cluster's network.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the network cannot be entered.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let _inside = self.namespace.as_ref().map(NetworkNamespace::enter).transpose()?;
        match &self.runtime {
            Some(runtime) => Ok(runtime.block_on(future)),
            None => Err(Error::Runtime(std::io::Error::other("the cluster is stopped"))),
        }
    }

    /// A client with an administrator's rights. Call it, and use it, within [`Cluster::block_on`].
    ///
    /// # Errors
    /// If the kubeconfig is unusable.
    pub fn client(&self) -> Result<Client, Error> {
        self.client_with(|_| {})
    }

    /// A client that presents `token` and no other credential.
    ///
    /// # Errors
    /// If the kubeconfig is unusable.
    pub fn client_with_token(&self, token: &str) -> Result<Client, Error> {
        self.client_with(|config| {
            config.auth_info = kube::config::AuthInfo {
                token: Some(token.to_owned().into()),
                ..Default::default()
            };
        })
    }

    /// A client with an administrator's rights that acts as `username`, as `kubectl --as` does.
    ///
    /// # Errors
    /// If the kubeconfig is unusable.
    pub fn client_as(&self, username: &str) -> Result<Client, Error> {
        self.client_with(|config| {
            config.auth_info.impersonate = Some(username.to_owned());
        })
    }

    fn client_with(&self, change: impl FnOnce(&mut Config)) -> Result<Client, Error> {
        let unusable = |source| Error::Kubeconfig {
            path: self.kubeconfig.clone(),
            source,
        };
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).map_err(unusable)?;
        // Reads embedded data only, so this never waits.
        let mut config = futures::executor::block_on(Config::from_custom_kubeconfig(
            kubeconfig,
            &KubeConfigOptions::default(),
        ))
        .map_err(unusable)?;
        change(&mut config);
        Client::try_from(config).map_err(Error::kubernetes("make a client from the kubeconfig"))
    }

    /// The administrator's kubeconfig, for programs that the test starts.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Takes the cluster down and checks that nothing of it remains. An existing cluster stays.
    ///
    /// # Errors
    /// If a process, mount, cgroup or interface was left behind, with its name.
    pub fn stop(mut self) -> Result<(), Error> {
        self.ends_with_us = false;
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        self.namespace = None;
        self.launcher.down()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dump();
        }
        if self.ends_with_us
            && let Err(error) = self.end()
        {
            eprintln!("{error}");
        }
    }
}

/// Runs `test` in a cluster of its own (or the existing one) and takes it down. If the test fails or
/// panics, the cluster is dumped first, under `name`.
///
/// # Errors
/// The test's own error, or that of starting or stopping the cluster.
pub fn with_cluster(name: &str, test: impl AsyncFnOnce(&Cluster) -> TestResult) -> TestResult {
    let mut cluster = Cluster::start()?;
    name.clone_into(&mut cluster.name);
    let result = cluster.block_on(test(&cluster))?;
    if result.is_err() {
        cluster.dump();
    }
    let stopped = cluster.stop();
    result?;
    Ok(stopped?)
}
