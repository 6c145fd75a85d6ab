//! Leases of several organisations while each kind of server is killed and started again.

use crate::audit;
use crate::client::{administrator, dataset, settled};
use crate::lessees::Lessees;
use crate::real::Served;
use fabric_network::{Network, ORDERER, ORGANISATIONS};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Leases that are granted before and after each kill.
const SOME: usize = 8;

/// Two of each organisation who want the three organisations' datasets, some of whom wait in the line. The clients go to other peers, peers and program find each
/// other again, and what was acknowledged is there once at every peer.
pub async fn no_lease_is_lost_or_doubled_while_servers_are_killed(
    network: &mut Network,
    chaincode: &str,
    mut served: Served,
) -> Served {
    let (mut clients, mut datasets) = (Vec::new(), Vec::new());
    for organisation in ORGANISATIONS {
        let gateway = administrator(network, organisation).await;
        let contract = gateway.contract(network.channel(), chaincode);
        let name = format!("wanted-{}", organisation.to_lowercase());
        settled(&contract, &dataset(&name)).await;
        datasets.push(name);
        clients.extend(std::iter::repeat_n(contract, 2));
    }
    let begun = Instant::now();
    let lessees = Lessees::start(clients, &datasets);
    let mut pauses = BTreeMap::<&str, Vec<Duration>>::new();
    for _ in 0..rounds() {
        for organisation in ORGANISATIONS {
            lessees.go_on(SOME, "before a peer is killed").await;
            let killed = Instant::now();
            network.kill(organisation).await.unwrap();
            lessees.go_on(SOME, "while a peer is gone").await;
            network.start_again(organisation).await.unwrap();
            lessees.go_on(SOME, "after the peer is back").await;
            let pause = lessees.longest_pause(killed);
            pauses.entry("a peer").or_default().push(pause);
        }
        lessees.go_on(SOME, "before the orderer is killed").await;
        let killed = Instant::now();
        network.kill(ORDERER).await.unwrap();
        network.start_again(ORDERER).await.unwrap();
        lessees.go_on(SOME, "after the orderer is back").await;
        let pause = lessees.longest_pause(killed);
        pauses.entry("the orderer").or_default().push(pause);

        lessees.go_on(SOME, "before the program is killed").await;
        let killed = Instant::now();
        served = served.restart().await;
        lessees.go_on(SOME, "after the program is back").await;
        let pause = lessees.longest_pause(killed);
        pauses.entry("the program").or_default().push(pause);
    }
    let told = lessees.stop().await;
    println!(
        "real Fabric: in {:.1?} {} leases acknowledged, {} of them after waiting in the line, {} given back, {} unknown, {} refused, {} conflicts, failed: {:?}",
        begun.elapsed(),
        told.granted.len(),
        told.waited,
        told.ended.len(),
        told.unknown.len(),
        told.refused,
        told.conflicts,
        told.failed
    );
    for (server, pauses) in &pauses {
        let longest = pauses.iter().max().unwrap();
        println!("real Fabric: no lease for {longest:.1?} at most when {server} was killed: {pauses:.1?}");
    }
    assert!(told.waited > 0, "nobody stood in the line");
    audit::held_to(network, chaincode, &datasets, &told).await;
    served
}

/// One, unless a long run wants more.
fn rounds() -> usize {
    let wanted = std::env::var("LEASEHOLD_SOAK_ROUNDS").ok();
    wanted.map_or(1, |rounds| rounds.parse().unwrap())
}
