//! The client against real peers of Fabric, where `LEASEHOLD_FABRIC_BIN` names them: that the simulated gateways are right, and that
//! nothing is lost or doubled while peers and the orderer are killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod calls;
mod events;
#[path = "../support/keys.rs"]
mod keys;
mod load;
#[path = "../../../shim/tests/support/probe.rs"]
mod probe;
#[path = "../../../shim/tests/support/served.rs"]
mod served;

use std::time::Duration;

use calls::{
    a_transaction_that_is_proposed_again_counts_once, a_transaction_that_is_submitted_again_counts_once,
    conflicts_are_run_again_where_the_caller_says_so, of_twelve_transactions_on_one_key_one_counts,
    what_is_submitted_is_seen_and_a_refusal_has_the_chaincodes_words,
    without_an_orderer_the_outcome_is_unknown_until_it_is_back,
};
use events::{events_go_on_after_a_checkpoint, events_go_on_at_another_peer};
use fabric_gateway_client::{Call, Config, Contract, CredentialFiles, Credentials, Deadlines, Gateway, Peer};
use fabric_network::{Binaries, Chaincode, Chosen, Network, ORGANISATIONS, SKIPPED};
use fabric_shim::Limits;
use keys::a_key_with_a_policy_is_written_with_its_endorsements_only;
use load::{
    a_fourth_organisation_joins_and_leaves_while_others_work,
    nothing_is_lost_or_doubled_while_servers_are_killed,
};
use serde_json::Value;
use served::Served;
use tokio::net::TcpListener;

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

struct Real {
    network: Network,
    chaincode: Chaincode,
    credentials: Credentials,
}

impl Real {
    /// The peers of these organisations, in this order.
    fn config(&self, organisations: &[&str]) -> Config {
        let peer = |name: &&str| {
            let peer = self.network.peer(name).unwrap();
            Peer::tls(peer.address, std::fs::read(peer.roots).unwrap())
        };
        Config::new(organisations.iter().map(peer).collect())
    }

    fn gateway(&self, organisations: &[&str]) -> Gateway {
        Gateway::new(self.config(organisations), self.credentials.clone()).unwrap()
    }

    /// Over all peers, with these deadlines.
    fn contract_within(&self, deadlines: Deadlines) -> Contract {
        let config = Config {
            deadlines,
            ..self.config(&ORGANISATIONS)
        };
        let gateway = Gateway::new(config, self.credentials.clone()).unwrap();
        gateway.contract(self.network.channel(), "probe")
    }

    fn contract(&self, organisations: &[&str]) -> Contract {
        self.gateway(organisations)
            .contract(self.network.channel(), "probe")
    }
}

async fn user_of(network: &Network, organisation: &str) -> Credentials {
    let user = network.user(organisation).unwrap();
    let files = CredentialFiles {
        msp_id: user.msp_id,
        certificate: user.certificate,
        key: user.key,
    };
    files.read().await.unwrap()
}

fn run(steps: &Value) -> Call {
    Call::new("run").argument(steps.to_string())
}

async fn evaluate(contract: &Contract, steps: Value) -> Value {
    let answer = contract.evaluate(&run(&steps)).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// Not a test of the usual harness: what is skipped must not be counted as passed. Arguments choose tests by a part of their name.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(binaries) = Binaries::find().unwrap() else {
        println!("{SKIPPED}");
        return;
    };
    let chosen = Chosen::by_arguments();
    let network = Network::start(binaries).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let chaincode = network.package("probe", &address, None).await.unwrap();
    let served = Served::on(listener, chaincode.package_id.clone(), Limits::default(), None);
    network.deploy(&chaincode, &[]).await.unwrap();
    let credentials = user_of(&network, "Org1").await;
    let version = network.version().await.unwrap();
    println!(
        "real Fabric {version}: chaincode defined after {:?}",
        chosen.start().elapsed()
    );
    let mut real = Real {
        network,
        chaincode,
        credentials,
    };
    macro_rules! promise {
        ($name:ident, $real:expr) => {
            fabric_network::promise!(chosen, $name, $name($real).await)
        };
    }
    promise!(
        what_is_submitted_is_seen_and_a_refusal_has_the_chaincodes_words,
        &real
    );
    promise!(of_twelve_transactions_on_one_key_one_counts, &real);
    promise!(conflicts_are_run_again_where_the_caller_says_so, &real);
    promise!(
        a_key_with_a_policy_is_written_with_its_endorsements_only,
        &real.contract(&ORGANISATIONS)
    );
    promise!(a_transaction_that_is_submitted_again_counts_once, &real);
    promise!(a_transaction_that_is_proposed_again_counts_once, &real);
    promise!(
        without_an_orderer_the_outcome_is_unknown_until_it_is_back,
        &mut real
    );
    promise!(events_go_on_after_a_checkpoint, &real);
    promise!(events_go_on_at_another_peer, &mut real);
    promise!(nothing_is_lost_or_doubled_while_servers_are_killed, &mut real);
    promise!(
        a_fourth_organisation_joins_and_leaves_while_others_work,
        &mut real
    );
    real.network.stop().await.unwrap();
    served.ask_to_stop();
    served.ended().await.unwrap();
}
