//! The contract on a simulated network, as a bench for the suite.
#![allow(dead_code, reason = "each test file uses its part")]

use super::answered::{refused, told};
use async_trait::async_trait;
use fabric_shim::{Config, Server};
use fabric_sim::{
    Client, Deployment, Dial, EndorseError, Endorsed, Network, Options, Proposal, ValidationCode,
};
use leasehold_chaincode::{Contract, Event, Msp, Question, Role, TxId};
use leasehold_chaincode_service::{EVENT_NAME, LeaseholdChaincode};
use leasehold_conformance::{Abilities, Accepted, Bench, BenchError, Submission};
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub const CHAINCODE: &str = "leasehold";
pub const ORGANISATIONS: [&str; 3] = ["Org1MSP", "Org2MSP", "Org3MSP"];
/// 2026-01-01T00:00:00Z.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// Three simulated peers and one server that they dial.
pub struct Simulated {
    pub network: Arc<Network>,
    /// Cases that run side by side. One alone is quicker: peers that read keep the ledger from changing in place.
    pub at_once: usize,
    name: &'static str,
    clients: Mutex<HashMap<(String, Role), Client>>,
    _server: DropGuard,
}

impl Simulated {
    pub async fn start(name: &'static str, options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let package_id = format!("{CHAINCODE}:0123");
        let shutdown = CancellationToken::new();
        let config = Config::new(address.clone(), package_id.clone());
        let server = Server::new(LeaseholdChaincode::new(Contract::FABRIC), config);
        tokio::spawn(server.serve_on(listener, shutdown.clone()));
        let network = Arc::new(Network::with(options));
        let deployment = Deployment {
            name: CHAINCODE.to_owned(),
            package_id,
            dial: Dial::plain(address),
            collections: Vec::new(),
        };
        network.attach(&deployment).await.unwrap();
        Self {
            network,
            at_once: 1,
            name,
            clients: Mutex::default(),
            _server: shutdown.drop_guard(),
        }
    }

    /// A client of an organisation whose certificate gives it a role.
    pub fn client(&self, msp: &str, role: Role) -> Client {
        let mut clients = self.clients.lock().unwrap();
        let client = clients
            .entry((msp.to_owned(), role))
            .or_insert_with(|| with_role(msp, role));
        client.clone()
    }

    pub fn propose(&self, msp: &str, role: Role, arguments: &[&str]) -> Proposal {
        self.network
            .propose(&self.client(msp, role), CHAINCODE, arguments)
    }

    pub async fn endorse(&self, msp: &str, arguments: &[&str]) -> Result<Endorsed, EndorseError> {
        let proposal = self.propose(msp, Role::Administrator, arguments);
        self.network.endorse(&proposal).await
    }

    /// Endorses and commits; gives the answer.
    pub async fn commit(&self, proposal: &Proposal) -> Result<Vec<u8>, BenchError> {
        let endorsed = match self.network.endorse(proposal).await {
            Ok(endorsed) => endorsed,
            Err(EndorseError::Refused { message, .. }) => return Err(refused(&message)),
            Err(error) => return Err(BenchError::Broken(error.to_string())),
        };
        let payload = endorsed.response.payload.to_vec();
        match self.network.submit(endorsed).unwrap().code {
            ValidationCode::Valid => Ok(payload),
            code => Err(BenchError::Broken(format!("{code:?}"))),
        }
    }
}

fn with_role(msp: &str, role: Role) -> Client {
    let unit = if role == Role::Administrator {
        "admin"
    } else {
        "client"
    };
    let attribute = (role == Role::Steward).then_some(r#"{"attrs":{"leasehold.role":"steward"}}"#);
    with_certificate(msp, role.as_str(), unit, attribute)
}

/// A client with such a unit and such attributes.
pub fn with_certificate(msp: &str, name: &str, unit: &str, attributes: Option<&str>) -> Client {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, unit);
    params.distinguished_name.push(DnType::CommonName, name);
    let extension = |json: &str| {
        CustomExtension::from_oid_content(&[1, 2, 3, 4, 5, 6, 7, 8, 1], json.as_bytes().to_vec())
    };
    params.custom_extensions.extend(attributes.map(extension));
    let mut client = Client::new(msp, name).unwrap();
    client.pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    client
}

#[async_trait]
impl Bench for Simulated {
    fn abilities(&self) -> Abilities {
        Abilities {
            name: self.name,
            tag: String::new(),
            organisations: ORGANISATIONS.map(|msp| Msp::new(msp).unwrap()).to_vec(),
            roles: vec![Role::Member, Role::Steward, Role::Administrator],
            span_ms: Some(i64::MAX),
            end_margin_ms: Contract::FABRIC.end_margin_ms,
            chooses_ids: true,
            at_once: self.at_once,
        }
    }

    fn now_ms(&self) -> i64 {
        BEGIN_MS
    }

    async fn submit(&self, submission: Submission) -> Result<Accepted, BenchError> {
        let command = serde_json::to_string(&submission.command).unwrap();
        let msp = submission.organisation.as_str();
        let mut proposal = self.propose(msp, submission.role, &["submit", &command]);
        proposal.timestamp.seconds = submission.at_ms.div_euclid(1_000);
        let millis = i32::try_from(submission.at_ms.rem_euclid(1_000)).unwrap();
        proposal.timestamp.nanos = millis * 1_000_000;
        if let Some(tx_id) = submission.tx_id {
            proposal.txid = tx_id.into();
        }
        let payload = self.commit(&proposal).await?;
        Ok(Accepted {
            tx_id: TxId::new(proposal.txid).unwrap(),
            result: told(&payload)?.result,
        })
    }

    async fn events(&self, tx_id: &TxId) -> Result<Vec<Event>, BenchError> {
        let blocks = self.network.blocks();
        let transactions = blocks.iter().rev().flat_map(|block| &block.transactions);
        let mut events = transactions
            .filter(|(transaction, code)| {
                *code == ValidationCode::Valid && transaction.txid == tx_id.as_str()
            })
            .filter_map(|(transaction, _)| transaction.event.as_ref());
        let event = events
            .next()
            .ok_or_else(|| BenchError::Broken("there is no event".to_owned()))?;
        assert_eq!(event.event_name, EVENT_NAME);
        Ok(told(&event.payload)?.events)
    }

    async fn ask(&self, question: &Question) -> Result<Value, BenchError> {
        let question = serde_json::to_string(question).unwrap();
        let proposal = self.propose("Org1MSP", Role::Member, &["query", &question]);
        let answer = self.network.evaluate(&proposal).await;
        let answer = answer.map_err(|error| BenchError::Broken(error.to_string()))?;
        Ok(serde_json::from_slice(&answer.payload).unwrap())
    }
}
