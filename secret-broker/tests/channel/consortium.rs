//! A simulated channel of three organisations with the real contract, and what a broker of one of them needs to be its client.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fabric_shim::{Config, Server};
use fabric_sim::{Deployment, Dial, GatewayPeer, Network, Options, ValidationCode};
use leasehold_chaincode::Contract;
use leasehold_chaincode_service::LeaseholdChaincode;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fixture::{Fixture, Setting};

pub const ORGANISATIONS: [&str; 3] = ["UiSMSP", "UiOMSP", "UiBMSP"];

/// How a channel behaves.
pub struct Terms {
    /// How long after its expiry anyone may end a lease.
    pub end_margin_ms: i64,
    /// Until the ordering service cuts a block.
    pub batch: Duration,
    /// Whose the three peers are.
    pub organisations: [&'static str; 3],
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            end_margin_ms: Contract::FABRIC.end_margin_ms,
            batch: Duration::from_millis(20),
            organisations: ORGANISATIONS,
        }
    }
}

pub struct Consortium {
    pub network: Arc<Network>,
    peers: Mutex<Vec<GatewayPeer>>,
    directory: tempfile::TempDir,
    _server: DropGuard,
}

impl Consortium {
    pub async fn start(terms: Terms) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let package_id = "leasehold:0123".to_owned();
        let stop = CancellationToken::new();
        let contract = Contract {
            end_margin_ms: terms.end_margin_ms,
        };
        let server = Server::new(
            LeaseholdChaincode::new(contract),
            Config::new(address.clone(), package_id.clone()),
        );
        tokio::spawn(server.serve_on(listener, stop.clone()));
        let network = Arc::new(Network::with(Options {
            organisations: terms.organisations.map(str::to_owned).to_vec(),
            ..Options::default()
        }));
        let deployment = Deployment {
            name: "leasehold".to_owned(),
            package_id,
            dial: Dial::plain(address),
            collections: Vec::new(),
        };
        network.attach(&deployment).await.unwrap();
        network.order(terms.batch);
        let peers = (0..3).map(|place| GatewayPeer::start(&network, place, None).unwrap());
        Self {
            peers: Mutex::new(peers.collect()),
            network,
            directory: tempfile::tempdir().unwrap(),
            _server: stop.drop_guard(),
        }
    }

    pub fn peers(&self) -> MutexGuard<'_, Vec<GatewayPeer>> {
        self.peers.lock().unwrap()
    }

    /// A new identity of an organisation's administrator, in the files that its profile names.
    pub fn issue(&self, organisation: &str) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, "admin");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = |name: &str| self.directory.path().join(format!("{organisation}-{name}"));
        std::fs::write(file("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(file("tls.key"), key.serialize_pem()).unwrap();
    }

    /// A profile of an organisation, with an identity and the peers at these places.
    pub fn profile(&self, organisation: &str, places: &[usize]) -> PathBuf {
        self.issue(organisation);
        let mut profile = format!(
            "channel: {}\nmsp: {organisation}\ncertificate: {organisation}-tls.crt\nkey: {organisation}-tls.key\n\
             deadlines: {{ submit_seconds: 10, commit_seconds: 10 }}\npeers:\n",
            self.network.channel()
        );
        for place in places {
            let address = self.peers()[*place].address();
            writeln!(profile, "  - {{ address: '{address}', plaintext: true }}").unwrap();
        }
        let path = self.directory.path().join(format!("{organisation}.yaml"));
        std::fs::write(&path, profile).unwrap();
        path
    }

    /// A running broker of an organisation that asks the peers at these places.
    pub async fn broker(&self, organisation: &str, places: &[usize]) -> Fixture {
        let profile = self.profile(organisation, places);
        Fixture::start_with(Setting {
            organisation: organisation.to_owned(),
            arguments: vec!["--ledger".to_owned(), format!("fabric:{}", profile.display())],
            ..Setting::default()
        })
        .await
    }

    /// A running broker of another cluster of an organisation, with an identity of its own.
    pub async fn broker_of(&self, organisation: &str, cluster: &str, places: &[usize]) -> Fixture {
        let profile = self.profile(organisation, places);
        let arguments = [
            "--cluster",
            cluster,
            "--ledger",
            &format!("fabric:{}", profile.display()),
        ];
        Fixture::start_with(Setting {
            organisation: organisation.to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
            ..Setting::default()
        })
        .await
    }

    /// What the transactions with events in all blocks say, of those that were found to be this.
    pub fn told(&self, verdict: ValidationCode) -> Vec<Value> {
        let blocks = self.network.blocks();
        let transactions = blocks.iter().flat_map(|block| &block.transactions);
        transactions
            .filter(|(_, code)| *code == verdict)
            .filter_map(|(transaction, _)| transaction.event.as_ref())
            .map(|event| serde_json::from_slice(&event.payload).unwrap())
            .collect()
    }

    /// How many valid transactions had this as their first event.
    pub fn happened(&self, kind: &str) -> usize {
        let told = self.told(ValidationCode::Valid);
        told.iter()
            .filter(|told| told["events"][0]["kind"]["event"] == kind)
            .count()
    }
}

/// Where a broker of these has its profile.
pub fn profile(broker: &Fixture) -> PathBuf {
    broker.argument("--ledger").trim_start_matches("fabric:").into()
}
