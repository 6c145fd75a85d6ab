//! A probe that is served on a free port of loopback for as long as a test needs it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use fabric_shim::{Config, Limits, ServeError, Server, TlsConfig};
use fabric_sim::{Deployment, Dial, RawPeer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::probe::Probe;

/// How long a test waits for what should come at once.
#[allow(dead_code, reason = "not every test file waits by itself")]
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server in the background; it stops when dropped.
pub struct Served {
    pub address: String,
    pub package_id: String,
    #[allow(dead_code, reason = "not every test file looks at it")]
    pub hanging: Arc<AtomicUsize>,
    #[allow(dead_code, reason = "not every test file looks at it")]
    pub cut_off: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    task: Option<JoinHandle<Result<(), ServeError>>>,
}

#[allow(dead_code, reason = "each test file uses its part")]
impl Served {
    pub async fn start(name: &str) -> Self {
        Self::with(name, Limits::default(), None).await
    }

    pub async fn with(name: &str, limits: Limits, tls: Option<TlsConfig>) -> Self {
        Self::on(
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            format!("{name}:0123"),
            limits,
            tls,
        )
    }

    pub fn on(listener: TcpListener, package_id: String, limits: Limits, tls: Option<TlsConfig>) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let config = Config {
            limits,
            tls,
            ..Config::new(address.clone(), package_id.clone())
        };
        let shutdown = CancellationToken::new();
        let probe = Probe::default();
        let (hanging, cut_off) = (Arc::clone(&probe.hanging), Arc::clone(&probe.cut_off));
        let task = tokio::spawn(Server::new(probe, config).serve_on(listener, shutdown.clone()));
        Self {
            address,
            package_id,
            hanging,
            cut_off,
            shutdown,
            task: Some(task),
        }
    }

    pub fn dial(&self) -> Dial {
        Dial::plain(self.address.clone())
    }

    pub fn deployment(&self, name: &str, collections: &[(&str, &[&str])]) -> Deployment {
        let collections = collections.iter().map(|(name, members)| {
            (
                (*name).to_owned(),
                members.iter().map(|member| (*member).to_owned()).collect(),
            )
        });
        Deployment {
            name: name.to_owned(),
            package_id: self.package_id.clone(),
            dial: self.dial(),
            collections: collections.collect(),
        }
    }

    /// A bare stream on which the probe is registered.
    pub async fn registered(&self) -> RawPeer {
        let mut peer = self.dial().open().await.unwrap();
        assert_eq!(
            peer.register(Some(1000), PATIENCE).await.unwrap(),
            self.package_id
        );
        peer
    }

    /// Asks for the end, as SIGTERM would.
    pub fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Waits until the server has ended by itself.
    pub async fn ended(mut self) -> Result<(), ServeError> {
        let task = self.task.take().unwrap();
        tokio::time::timeout(PATIENCE, task)
            .await
            .expect("the server did not end")
            .unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
