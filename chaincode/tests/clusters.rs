//! Which clusters serve leases, who has to endorse later changes of a key, and what older rules do not know.

#[path = "support/bench.rs"]
mod bench;

use bench::{
    Bench, P256, a_key, administered as done, alice, lease_of, msp, refusal_code as code, register,
    register_cluster, take,
};
use leasehold_chaincode::{
    Command, Contract, KeyAlgorithm, Outcome, PageRequest, PublicKey, Role, Standing, key, limit, query,
};

fn vote(organisation: &str, suspend: bool) -> Command {
    Command::VoteOnSuspension {
        organisation: organisation.to_owned(),
        suspend,
        reason: "it does not answer".to_owned(),
    }
}

fn retire_cluster(name: &str) -> Command {
    Command::RetireCluster {
        name: name.to_owned(),
    }
}

#[test]
fn a_lease_names_the_cluster_that_serves_it_and_only_one_in_service() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    bench.registered("UiSMSP", "scans");
    let on = |name: &str, cluster: Option<&str>| {
        let mut command = take(name, &alice(), 60);
        if let Command::Lease { cluster: field, .. } = &mut command {
            *field = cluster.map(str::to_owned);
        }
        command
    };
    let lease = lease_of(&bench.accepted("UiOMSP", &on("texts", None)));
    assert_eq!(
        bench.lease(&lease).cluster.unwrap().as_str(),
        "main",
        "its only one"
    );
    done(&mut bench, "UiOMSP", &register_cluster("second"));
    assert_eq!(
        code(&mut bench, "UiOMSP", &on("scans", None)),
        "invalid_field",
        "which of two"
    );
    for unknown in ["third", "Not a name", ""] {
        assert_eq!(
            code(&mut bench, "UiOMSP", &on("scans", Some(unknown))),
            "cluster_not_found"
        );
    }
    done(&mut bench, "UiSMSP", &register_cluster("theirs"));
    assert_eq!(
        code(&mut bench, "UiOMSP", &on("scans", Some("theirs"))),
        "cluster_not_found",
        "another organisation's cluster"
    );
    let second = lease_of(&bench.accepted("UiOMSP", &on("scans", Some("second"))));
    assert_eq!(bench.lease(&second).cluster.unwrap().as_str(), "second");
    done(&mut bench, "UiOMSP", &retire_cluster("second"));
    assert_eq!(
        code(&mut bench, "UiOMSP", &retire_cluster("second")),
        "cluster_not_found"
    );
    bench.ended("UiOMSP", &second, &alice());
    assert_eq!(
        code(&mut bench, "UiOMSP", &on("scans", Some("second"))),
        "cluster_not_found"
    );
    bench.ended("UiOMSP", &lease, &alice());
    done(&mut bench, "UiOMSP", &retire_cluster("main"));
    assert_eq!(
        code(&mut bench, "UiOMSP", &on("scans", None)),
        "cluster_not_found"
    );
    done(&mut bench, "UiOMSP", &register_cluster("second"));
    assert_eq!(
        code(&mut bench, "UiOMSP", &register_cluster("second")),
        "unchanged"
    );
    bench.accepted("UiOMSP", &on("scans", None));
}

#[test]
fn the_keys_of_a_cluster_are_rotated_by_its_own_organisation() {
    let mut bench = Bench::new();
    let with = |keys: Vec<PublicKey>| Command::RegisterCluster {
        name: "main".to_owned(),
        keys,
    };
    let registered = |bench: &Bench| {
        query::cluster(&bench.state, &msp("UiSMSP"), &"main".parse().unwrap())
            .unwrap()
            .unwrap()
    };
    let before = registered(&bench);
    bench.now_ms += 1_000;
    let keys = vec![a_key("a", KeyAlgorithm::P256, P256)];
    done(&mut bench, "UiSMSP", &with(keys.clone()));
    let after = registered(&bench);
    assert_eq!(
        (after.registered_at_ms, after.keys),
        (before.registered_at_ms, keys)
    );
    let all = query::clusters(&bench.state, &msp("UiSMSP"), &PageRequest::default())
        .unwrap()
        .items;
    assert_eq!(all.len(), 1);
    for number in 1..limit::CLUSTERS {
        done(&mut bench, "UiSMSP", &register_cluster(&format!("more-{number}")));
    }
    assert_eq!(
        code(&mut bench, "UiSMSP", &register_cluster("too-many")),
        "exhausted"
    );
}

#[test]
fn a_record_is_changed_by_a_majority_of_those_who_stand_and_by_no_organisation_alone() {
    let mut bench = Bench::new();
    let majority = |outcome: &Outcome| {
        let endorsement = outcome.endorsement.as_ref().unwrap();
        (endorsement.majority(), endorsement.members.len())
    };
    let records = |outcome: &Outcome| -> Vec<String> {
        let written = outcome.writes.iter().filter_map(|write| match write {
            leasehold_chaincode::Write::Put { key, .. } => Some(key.clone()),
            leasehold_chaincode::Write::Delete { .. } => None,
        });
        written.filter(|key| key::is_endorsed(key)).collect()
    };
    let registered = bench.accepted("UiSMSP", &register("texts"));
    let id = bench::dataset_of(&registered);
    assert_eq!(majority(&registered), (3, 4));
    assert_eq!(
        records(&registered),
        [key::dataset_status(&id), key::dataset(&id), key::volume(&id)]
    );
    let leased = bench.accepted("UiOMSP", &take("texts", &alice(), 60));
    let lease = key::lease(&lease_of(&leased).parse().unwrap());
    assert_eq!(records(&leased), [key::dataset_status(&id), lease]);
    let cluster = done(&mut bench, "UiSMSP", &register_cluster("second"));
    let (organisation, name) = (msp("UiSMSP"), "second".parse().unwrap());
    assert_eq!(
        records(&cluster),
        [
            key::cluster(&organisation, &name),
            key::organisation(&organisation)
        ]
    );
    let suspend = Command::SuspendOrganisation {
        reason: "for a while".to_owned(),
    };
    assert_eq!(
        majority(&done(&mut bench, "UiSMSP", &suspend)),
        (2, 3),
        "of those who stand then"
    );
    assert_eq!(
        majority(&done(&mut bench, "UiSMSP", &Command::ResumeOrganisation {})),
        (3, 4)
    );
    let voted = done(&mut bench, "UiSMSP", &vote("UiOMSP", true));
    assert_eq!(records(&voted), [key::organisation(&msp("UiOMSP"))]);
    for other in [
        key::history(&id, 1),
        key::organisation_history(&organisation, 1),
        key::CONSORTIUM.to_owned(),
    ] {
        assert!(!key::is_endorsed(&other), "{other}");
    }
}

#[test]
fn the_rules_from_before_organisations_know_none() {
    let bench = Bench::empty(0);
    let context = leasehold_chaincode::TxContext {
        tx_id: "old".parse().unwrap(),
        timestamp_ms: bench.now_ms,
        caller: msp("UiSMSP"),
        role: Role::Steward,
    };
    let replay = |version| Contract::EMBEDDED.replay(version, &bench.state, &context, &register("texts"));
    let outcome = replay(1).unwrap();
    assert_eq!(outcome.endorsement, None);
    let refused = replay(2).unwrap_err().to_string();
    assert!(refused.contains("has not joined"), "{refused}");
    for unknown in [0, leasehold_chaincode::CONTRACT_VERSION + 1] {
        let refused = replay(unknown).unwrap_err().to_string();
        assert!(refused.contains("is not known here"), "{refused}");
    }
    assert_eq!(register("texts").standing(), Standing::NotSuspended);
}
