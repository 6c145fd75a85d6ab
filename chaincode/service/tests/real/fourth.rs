//! An organisation that joins while the others work, takes part, and is taken out of the channel without having prepared for it.

use crate::client::{administrator, asked, command, credentials, dataset, granted, over, refusal, settled};
use crate::real::{LOOK_AGAIN, PATIENCE};
use fabric_gateway_client::{Call, Contract as Chaincode, ProposalError, TransactionError};
use fabric_network::{Chaincode as Package, Network};
use serde_json::{Value, json};
use std::time::Instant;
use tokio::time::{sleep, timeout};

const ALICE: &str = "a11ce0ffa11ce0ffa11ce0ffa11ce0ffa11ce0ffa11ce0ffa11ce0ffa11ce0ff";
const BOB: &str = "b0bb0bb0b0bb0bb0b0bb0bb0b0bb0bb0b0bb0bb0b0bb0bb0b0bb0bb0b0bb0bb0";

fn lease(dataset: &str, subject: &str) -> Call {
    Call::new("LeaseData")
        .argument(dataset.to_owned())
        .argument(subject.to_owned())
}

async fn lease_of(chaincode: &Chaincode, call: &Call) -> String {
    let leased = settled(chaincode, call).await;
    granted(&leased.result).lease
}

async fn state(chaincode: &Chaincode, lease: &str) -> Value {
    let question = json!({ "question": "lease", "lease": lease });
    asked(chaincode, &question).await.unwrap()["state"].clone()
}

/// Code of the refusal of what is certainly refused, once peers are at one.
async fn refused(chaincode: &Chaincode, call: &Call) -> String {
    let refused = async {
        loop {
            let error = match chaincode.submit(call).await {
                Ok(committed) => panic!("{call:?} took effect: {committed:?}"),
                Err(error) => error,
            };
            if let Some(code) = refusal(&error) {
                return code;
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("it is not refused")
}

pub async fn a_fourth_organisation_takes_part_and_what_it_leaves_behind_can_be_ended(
    network: &mut Network,
    package: &Package,
) {
    let of = async |network: &Network, organisation: &str| {
        let gateway = administrator(network, organisation).await;
        gateway.contract(network.channel(), &package.name)
    };
    let (first, second, third) = (
        of(network, "Org1").await,
        of(network, "Org2").await,
        of(network, "Org3").await,
    );
    settled(&first, &dataset("firsts")).await;

    let begun = Instant::now();
    network.add("Org4", &[package]).await.unwrap();
    let fourth = of(network, "Org4").await;
    let code = refused(&fourth, &dataset("fourths")).await;
    assert_eq!(code, "organisation_not_joined");
    let join = json!({ "command": "join_consortium", "broker": "https://fourth.example.org:8443" });
    settled(&fourth, &command(&join)).await;
    settled(
        &fourth,
        &command(&json!({ "command": "register_cluster", "name": "main" })),
    )
    .await;
    settled(&fourth, &dataset("fourths")).await;
    let lent = lease_of(&second, &lease("fourths", ALICE)).await;
    println!(
        "real Fabric: Org4 joined, and its dataset is leased after {:.1?}",
        begun.elapsed()
    );
    let borrowed = lease_of(&fourth, &lease("firsts", BOB)).await;
    assert_eq!(refused(&third, &lease("fourths", BOB)).await, "lease_conflict");
    assert_eq!(refused(&first, &lease("firsts", ALICE)).await, "lease_conflict");

    let begun = Instant::now();
    let user = credentials(network, "Org4").await;
    network.remove("Org4").await.unwrap();
    println!("real Fabric: Org4 is out after {:.1?}", begun.elapsed());
    is_turned_away_everywhere(network, package, user).await;

    // What it leased: its owner ends it. Nobody else confirms that its cluster has taken it down, and the owner may say so later.
    let revoke = json!({ "command": "revoke", "lease": borrowed, "reason": "Org4 has left" });
    settled(&first, &command(&revoke)).await;
    assert_eq!(state(&first, &borrowed).await, "ending");
    let confirm = command(&json!({ "command": "confirm_end", "lease": borrowed }));
    assert_eq!(refused(&first, &confirm).await, "not_cluster");
    let declare = json!({ "command": "declare_ended", "lease": borrowed, "reason": "Org4 has left" });
    assert_eq!(refused(&first, &command(&declare)).await, "too_early_to_declare");

    // What others lease of it goes on, and ends by its holder: a majority of those who were members endorses in its stead.
    assert_eq!(state(&second, &lent).await, "active");
    let release = json!({ "command": "release", "lease": lent, "subject": ALICE });
    settled(&second, &command(&release)).await;
    settled(
        &second,
        &command(&json!({ "command": "confirm_end", "lease": lent })),
    )
    .await;
    assert_eq!(state(&third, &lent).await, "ended");

    // The contract does not know who is on the channel: until the others suspend it, its dataset is leased on.
    let again = lease_of(&third, &lease("fourths", BOB)).await;
    for voter in [&first, &second] {
        let vote = json!({
            "command": "vote_on_suspension", "organisation": "Org4MSP", "suspend": true, "reason": "Org4 has left",
        });
        settled(voter, &command(&vote)).await;
    }
    let release = json!({ "command": "release", "lease": again, "subject": BOB });
    settled(&third, &command(&release)).await;
    settled(
        &third,
        &command(&json!({ "command": "confirm_end", "lease": again })),
    )
    .await;
    assert_eq!(
        refused(&second, &lease("fourths", ALICE)).await,
        "organisation_suspended"
    );

    // Nobody becomes its owner.
    for others in [
        json!({ "command": "remove_dataset", "dataset": "fourths", "force": true }),
        json!({ "command": "offer_dataset", "dataset": "fourths", "to": "Org1MSP" }),
    ] {
        assert_eq!(refused(&first, &command(&others)).await, "not_owner");
    }
    let dataset = asked(&first, &json!({ "question": "dataset", "dataset": "fourths" }))
        .await
        .unwrap();
    assert_eq!(dataset["dataset"]["owner"], "Org4MSP");
    assert_eq!(dataset["status"]["holders"], Value::Null, "{dataset}");
}

/// Its people, at the peers that are left.
async fn is_turned_away_everywhere(
    network: &Network,
    package: &Package,
    user: fabric_gateway_client::Credentials,
) {
    for organisation in fabric_network::ORGANISATIONS {
        let stranger = over(network, user.clone(), &[organisation]);
        let stranger = stranger.contract(network.channel(), &package.name);
        let question = json!({ "question": "dataset", "dataset": "fourths" });
        let turned_away = async {
            // Until the peer has the block that says so.
            while asked(&stranger, &question).await.is_ok() {
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(PATIENCE, turned_away)
            .await
            .expect("who has left is still answered");
        match stranger.submit(&dataset("late")).await {
            Err(TransactionError::Proposal(ProposalError::Rejected(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}
