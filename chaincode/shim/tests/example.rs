//! The example does what its first lines say, on simulated peers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../examples/asset_transfer.rs"]
#[allow(dead_code, reason = "its main is the program's")]
mod asset_transfer;
#[path = "support/assets.rs"]
mod assets;

use asset_transfer::AssetTransfer;
use assets::{Assets, assets_change_hands};
use fabric_shim::{Config, Server};
use fabric_sim::{Client, Deployment, Dial, Network, ValidationCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Simulated {
    network: Network,
    client: Client,
}

impl Assets for Simulated {
    async fn submit(&self, arguments: &[&str]) -> Result<(), String> {
        let proposal = self.network.propose(&self.client, "assets", arguments);
        let endorsed = self.network.endorse(&proposal).await;
        let endorsed = endorsed.map_err(|error| error.to_string())?;
        let committed = self.network.submit(endorsed).unwrap();
        assert_eq!(committed.code, ValidationCode::Valid);
        Ok(())
    }

    async fn evaluate(&self, arguments: &[&str]) -> Result<String, String> {
        let proposal = self.network.propose(&self.client, "assets", arguments);
        let answer = self.network.evaluate(&proposal).await;
        let answer = answer.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(answer.payload.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn assets_change_hands_on_simulated_peers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let package_id = "assets:0123".to_owned();
    let stop = CancellationToken::new();
    let server = Server::new(AssetTransfer, Config::new(address.clone(), package_id.clone()));
    let server = tokio::spawn(server.serve_on(listener, stop.clone()));
    let network = Network::start();
    let deployment = Deployment {
        name: "assets".to_owned(),
        package_id,
        dial: Dial::plain(address),
        collections: Vec::new(),
    };
    network.attach(&deployment).await.unwrap();
    let client = Client::new("Org1MSP", "alice").unwrap();
    let simulated = Simulated { network, client };
    assets_change_hands(&simulated).await;
    let blocks = simulated.network.blocks();
    let events = blocks.iter().flat_map(|block| &block.transactions);
    let events = events.filter_map(|(transaction, _)| transaction.event.as_ref());
    let names: Vec<_> = events.map(|event| event.event_name.as_str()).collect();
    assert_eq!(names, ["created", "created", "transferred"]);
    simulated.network.stop().await;
    stop.cancel();
    server.await.unwrap().unwrap();
}
