//! The running broker: what its interfaces share, and the tasks that it owns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use leasehold_chaincode::{Msp, PageRequest};
use leasehold_process::places::Places;
use tokio::net::TcpListener;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, AuditError, Event};
use crate::config::Config;
use crate::enrolment::EnrolmentError;
use crate::identity::{Issuers, roles::RoleTable};
use crate::keys::{KeyRing, KeyRingError, rotation};
use crate::ledgers::{BrokerLedger, LedgerError};
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::replicas::Looked;
use crate::search::Search;
use crate::server::{Doors, Served, Speaks};
use crate::shredding::CompareError;
use crate::shredding::waiting::Watch;
use crate::store::backup::{self, BackupError};
use crate::store::{Store, StoreError, now};
use crate::tls::{Certificate, TlsError};
use crate::view::{View, ViewError};
use crate::{
    api, enrolment, expiry, keeping, machines, operations, probes, publish, replicas, search, server,
    shredding,
};

/// What REST, gRPC and the background work share.
pub struct Broker {
    /// The checked configuration.
    pub config: Config,
    /// The organisation's keys.
    pub ring: KeyRing,
    /// The key store.
    pub store: Store,
    /// What was decided.
    pub audit: Arc<Audit>,
    /// The ledger.
    pub ledger: BrokerLedger,
    /// The lease view.
    pub view: Arc<View>,
    /// The index of the catalogue.
    pub search: Search,
    /// Token verification.
    pub issuers: Arc<Issuers>,
    /// Who may what.
    pub roles: RoleTable,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Wakes the worker of operations.
    pub accepted: Notify,
    /// Tells streams of events which operations are new or decided.
    pub news: broadcast::Sender<News>,
    /// Places of streams of events, by their listeners' pseudonyms.
    pub streams: Places<String>,
    /// Places of streams of events, by where they come from.
    pub stream_doors: Doors,
    /// Places of searches, by the pseudonyms of who searches.
    pub searches: Places<String>,
    /// Wakes who leaves nothing of destroyed keys in the files.
    pub key_work: Notify,
    /// What each person has asked for of late.
    pub pace: Pace,
    /// Places of request bodies in memory, by their senders' pseudonyms.
    pub bodies: Places<String>,
    /// One binding after the other, so that key store and view agree on which came last.
    pub binding: tokio::sync::Mutex<()>,
    /// When other replicas were last looked at.
    pub replicas: Looked,
    /// The broker's end.
    pub shutdown: CancellationToken,
}

/// An operation that is new or decided.
#[derive(Debug, Clone)]
pub struct News {
    /// Whose, a pseudonym.
    pub submitter: Arc<str>,
    /// Which.
    pub operation: Arc<str>,
    /// When that was told, Unix seconds.
    pub at: i64,
}

/// News that may wait for one stream.
const NEWS: usize = 1_024;

impl Broker {
    /// Whether it knows what other replicas bound and unbound until just now.
    #[must_use]
    pub fn knows_bindings(&self) -> bool {
        !self.store.is_shared() || self.replicas.is_fresh()
    }

    /// Tells streams of events of an operation. Who listens to nothing is told nothing.
    pub fn tell(&self, submitter: &str, operation: &str) {
        let _nobody_listens = self.news.send(News {
            submitter: submitter.into(),
            operation: operation.into(),
            at: now(),
        });
    }
}

/// Why the broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made.
    #[error("could not make or use the data directory {path}: {source}")]
    DataDir {
        /// Which directory.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The key ring is unusable.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// What a restore left cannot be taken away.
    #[error(transparent)]
    HalfMade(#[from] BackupError),
    /// The key store is unusable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The ledger is unusable.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The organisation could not be made part of the consortium.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// Ledger or key store could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Ledger and key store could not be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// There is no key ring, and a new one would not open what is there.
    #[error(
        "the key store has {keys} data keys and there is no key ring {path}, which wraps them: restore it; a new one would open none of them"
    )]
    RingLost {
        /// The ring's file.
        path: std::path::PathBuf,
        /// How many.
        keys: i64,
    },
    /// The organisation has a key ring, and it is not here.
    #[error(
        "there is no key ring {path}, and {organisation} has datasets on the ledger: a new one would open none of them and make other people of everybody; restore the organisation's ring, or make a new one yourself with `keys init` if it is lost"
    )]
    RingElsewhere {
        /// The ring's file.
        path: std::path::PathBuf,
        /// Whose.
        organisation: Msp,
    },
    /// There is no certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address is taken.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Why the broker ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It never started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A part that must run ended.
    #[error("the broker's {0} ended unexpectedly; the broker stops so that it is started anew")]
    TaskEnded(&'static str),
    /// A part that must run failed.
    #[error("a part of the broker failed: {0}; the broker stops so that it is started anew")]
    TaskFailed(String),
}

/// A started broker.
pub struct Running {
    /// Where REST listens.
    pub rest: SocketAddr,
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where probes listen.
    pub probe: SocketAddr,
    /// The own CA's certificate, PEM.
    pub authority: Option<String>,
    /// What it is made of.
    pub broker: Arc<Broker>,
    tasks: JoinSet<&'static str>,
}

/// Opens everything, listens, and starts the tasks.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Running, StartError> {
    // Once per process; a second installation of the same provider changes nothing.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let _already = jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
    std::fs::create_dir_all(&config.data_dir).map_err(|source| StartError::DataDir {
        path: config.data_dir.clone(),
        source,
    })?;
    let certificate = Certificate::new(&config.tls, &config.data_dir)?;
    backup::forget_half_made(&config.store, &config.data_dir)?;
    let name = replicas::own_name(&config.data_dir).map_err(|source| StartError::DataDir {
        path: config.data_dir.clone(),
        source,
    })?;
    let store = Store::open(&config.store).await?.held_by(&name);
    let (ring, ledger) = open_ring(&config, &store).await?;
    store.seal_receipts(ring.receipt_seal());
    let audit_file = config.data_dir.join("audit.db");
    let audit = Arc::new(Audit::open(&audit_file, ring.audit_seal(), config.audit_keep_days).await?);
    audit
        .keep(Event::own("start", env!("CARGO_PKG_VERSION"), "started"))
        .await?;
    let ledger = match ledger {
        Some(ledger) => ledger,
        None => BrokerLedger::open(&config).await?,
    };
    enrolment::enrol(&ledger, &config, &audit).await?;
    let metrics = Arc::new(Metrics::default());
    // Loading the ring has tried them.
    metrics.keys_usable.store(true, Ordering::Relaxed);
    let (view, height) = View::load(
        config.organisation.clone(),
        config.cluster.clone(),
        &ledger,
        &store,
        Arc::clone(&metrics),
    )
    .await?;
    let issuers = Arc::new(Issuers::new(&config.identity.issuers));
    let roles = RoleTable::new(&config.identity);
    let (rest_listener, rest) = listen(config.rest_listen).await?;
    let (grpc_listener, grpc) = listen(config.grpc_listen).await?;
    let (probe_listener, probe) = listen(config.probe_listen).await?;
    let (rest_tls, grpc_tls) = (
        certificate.server(Speaks::Http1)?,
        certificate.server(Speaks::Both)?,
    );
    let proxies: Arc<[_]> = config.proxy_networks.clone().into();
    let most_streams = api::events::MOST_STREAMS;
    let stream_doors = Doors::new(
        Places::new(most_streams, api::events::MOST_STREAMS_OF_A_PEER),
        Places::new(most_streams, most_streams),
        Arc::clone(&proxies),
    );
    let authority = certificate.authority().map(str::to_owned);
    let publish_ca = config.publish_ca.clone().zip(authority.clone());
    let (accepted, key_work) = (Notify::new(), Notify::new());
    let pace = Pace::new(config.pace);
    let search = Search::new(&config.data_dir);
    let broker = Arc::new(Broker {
        config,
        ring,
        store,
        audit,
        ledger,
        view,
        search,
        issuers,
        roles,
        metrics,
        accepted,
        news: broadcast::Sender::new(NEWS),
        streams: Places::new(most_streams, api::events::MOST_STREAMS_OF_ONE),
        stream_doors,
        searches: Places::new(search::MOST_SEARCHES, search::MOST_SEARCHES_OF_ONE),
        key_work,
        pace,
        bodies: Places::new(api::body::MOST_BODIES, api::body::MOST_BODIES_OF_ONE),
        binding: tokio::sync::Mutex::new(()),
        replicas: Looked::default(),
        shutdown: shutdown.clone(),
    });
    let unread = shredding::compare(&broker).await?;
    let mut watch = Watch::begin();
    shredding::waiting::carry_out(&broker, &mut watch).await?;

    let mut tasks = JoinSet::new();
    let b = &broker;
    let rest_served = Served {
        tls: Some(rest_tls),
        speaks: Speaks::Http1,
        proxies,
        router: api::router(b),
    };
    let grpc_served = Served::to_peers(Some(grpc_tls), machines::router(b));
    let probes_served = Served::to_peers(None, probes::router(b));
    own(
        &mut tasks,
        "REST server",
        server::serve(rest_listener, rest_served, shutdown.clone()),
    );
    own(
        &mut tasks,
        "gRPC server",
        server::serve(grpc_listener, grpc_served, shutdown.clone()),
    );
    own(
        &mut tasks,
        "probe server",
        server::serve(probe_listener, probes_served, shutdown.clone()),
    );
    own(
        &mut tasks,
        "worker of operations",
        operations::work(Arc::clone(b)),
    );
    own(
        &mut tasks,
        "look at other replicas",
        replicas::follow(Arc::clone(b)),
    );
    own(&mut tasks, "index of the catalogue", search::run(Arc::clone(b)));
    own(
        &mut tasks,
        "keeping of keys",
        keeping::run(Arc::clone(b), watch, unread > 0),
    );
    own(
        &mut tasks,
        "expiry of leases",
        expiry::run(
            b.ledger.clone(),
            Arc::clone(&b.audit),
            b.config.organisation.clone(),
            shutdown.clone(),
        ),
    );
    own(
        &mut tasks,
        "refresh of key sets",
        Arc::clone(&b.issuers).keep_fresh(shutdown.clone()),
    );
    own(
        &mut tasks,
        "renewal of the certificate",
        certificate.keep_fresh(shutdown.clone()),
    );
    let (ledger, stop) = (b.ledger.clone(), shutdown.clone());
    own(&mut tasks, "identity on the ledger", async move {
        ledger.keep_fresh(stop).await;
    });
    let (view, ledger, stop) = (Arc::clone(&b.view), b.ledger.clone(), shutdown.clone());
    own(&mut tasks, "lease view", async move {
        if let Err(error) = view.follow(ledger, height, stop).await {
            tracing::error!(%error, "the lease view lost the ledger");
        }
    });
    if let Some(((namespace, name), certificate)) = publish_ca {
        own(
            &mut tasks,
            "publishing of the CA",
            publish::publish(namespace, name, certificate, shutdown),
        );
    }
    tracing::info!(%rest, %grpc, %probe, organisation = %broker.config.organisation, "the secret broker listens");
    Ok(Running {
        rest,
        grpc,
        probe,
        authority,
        broker,
        tasks,
    })
}

fn own(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        task.await;
        name
    });
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Loads the key ring, and makes one at the very first start if that is wanted. Yields the ledger too where it had to be asked for that.
async fn open_ring(config: &Config, store: &Store) -> Result<(KeyRing, Option<BrokerLedger>), StartError> {
    let (path, pkcs11) = (&config.kek_file, config.pkcs11.as_ref());
    let mut ledger = None;
    if config.kek_create && !path.exists() {
        let keys = store.wrapped_by().await?.iter().map(|(_, keys)| keys).sum();
        if keys > 0 {
            let path = path.clone();
            return Err(StartError::RingLost { path, keys });
        }
        let opened = BrokerLedger::open(config).await?;
        if has_datasets(&opened, &config.organisation).await? {
            opened.close().await;
            return Err(StartError::RingElsewhere {
                path: path.clone(),
                organisation: config.organisation.clone(),
            });
        }
        ledger = Some(opened);
        rotation::create(path, pkcs11).await?;
        tracing::info!(path = %path.display(), "made a new key ring; keep a copy of it");
    }
    let ring = KeyRing::load(path, pkcs11).await?;
    let known = store.known_keks().await?;
    let new = ring.accept(&known).await?;
    ring.opens(config.organisation.as_str(), &store.some_of_each_version().await?)
        .await?;
    store.know_keks(&new).await?;
    if known.is_empty() {
        tracing::info!(
            versions = new.len(),
            "noted the versions of the key ring as they are; others have to be endorsed by one of them"
        );
    }
    Ok((ring, ledger))
}

/// Whether an organisation has datasets on the ledger. A lost data directory must not be taken for a first start.
async fn has_datasets(ledger: &BrokerLedger, organisation: &Msp) -> Result<bool, CompareError> {
    let mut page = PageRequest::default();
    loop {
        let found = ledger.datasets(&page).await?;
        if found
            .items
            .iter()
            .any(|entry| entry.dataset.owner == *organisation)
        {
            return Ok(true);
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(false),
        }
    }
}

impl Running {
    /// Waits for shutdown, drains, and closes the databases.
    ///
    /// # Errors
    /// [`RunError`] when a task ended before it should.
    pub async fn finish(mut self) -> Result<(), RunError> {
        let shutdown = self.broker.shutdown.clone();
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            if !shutdown.is_cancelled() {
                outcome = Err(match ended {
                    Ok(name) => RunError::TaskEnded(name),
                    Err(error) => RunError::TaskFailed(error.to_string()),
                });
                shutdown.cancel();
            }
        }
        self.broker.ledger.close().await;
        self.broker.store.close().await;
        self.broker
            .audit
            .tell(Event::own("stop", env!("CARGO_PKG_VERSION"), "stopped"))
            .await;
        self.broker.audit.close().await;
        tracing::info!("the secret broker has stopped");
        outcome
    }
}

/// Starts the broker and runs it until shutdown.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    start(config, shutdown).await?.finish().await
}
