//! What the contract promises about datasets and the life of a lease, one case after the other.

#[path = "support/bench.rs"]
mod bench;

use bench::{Bench, alice, bob, finding, lease_of, register, release, remove, take};
use leasehold_chaincode::{
    Command, Contract, DatasetId, DatasetRef, EndCause, EventKind, LeaseId, LeaseState, MountReport, Policy,
    Refusal, Role, TxContext, TxId, query,
};

#[test]
fn a_registered_dataset_is_found_by_id_and_by_name() {
    let mut bench = Bench::new();
    let id = bench.registered("UiSMSP", "texts");
    for reference in [id.as_str(), "texts"] {
        let reference = DatasetRef::parse(reference).unwrap();
        let entry = query::dataset(&bench.state, &reference).unwrap().unwrap();
        assert_eq!((entry.dataset.owner.as_str(), &entry.dataset.id), ("UiSMSP", &id));
        assert_eq!((entry.status.holders, entry.status.fencing_token), (vec![], 0));
    }
    assert_eq!(query::volume(&bench.state, &id).unwrap().unwrap().key_version, 1);
}

#[test]
fn the_id_of_a_dataset_is_known_before_it_is_registered() {
    let mut bench = Bench::new();
    let expected = DatasetId::derive(&bench.next_tx_id());
    assert_eq!(bench.registered("UiSMSP", "texts"), expected);
}

#[test]
fn ids_of_leases_sort_by_their_time_and_those_of_older_rules_stay_as_they_are() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let context = TxContext {
        tx_id: TxId::new("one").unwrap(),
        timestamp_ms: bench.now_ms + 5,
        caller: "UiSMSP".parse().unwrap(),
        role: Role::Administrator,
    };
    let id = |version| {
        let command = take("texts", &alice(), 60);
        let outcome = Contract::EMBEDDED.replay(version, &bench.state, &context, &command);
        outcome.unwrap().leases().next().unwrap().id.clone()
    };
    assert_eq!(id(2), LeaseId::derive_before(&context.tx_id));
    assert_eq!(id(3), LeaseId::derive(&context.tx_id, context.timestamp_ms));
    assert_eq!(id(2).as_str()[..20], id(3).as_str()[12..]);
    for later_ms in [1, 1_000, 1_000_000_000_000] {
        let tx_id = TxId::new(format!("later-{later_ms}")).unwrap();
        let later = LeaseId::derive(&tx_id, context.timestamp_ms + later_ms);
        assert!(id(3) < later && LeaseId::new(later.as_str()).is_ok(), "{later}");
    }
}

#[test]
fn a_name_in_use_is_taken_and_free_again_once_retired() {
    let mut bench = Bench::new();
    let first = bench.registered("UiSMSP", "texts");
    assert_eq!(
        bench.refused("UiOMSP", &register("texts")),
        Refusal::DatasetNameTaken {
            name: "texts".to_owned()
        }
    );
    bench.accepted("UiSMSP", &remove("texts"));
    let second = bench.registered("UiOMSP", "texts");
    assert_ne!(first, second);
    let retired = query::dataset(&bench.state, &first.clone().into())
        .unwrap()
        .unwrap();
    assert_eq!(retired.dataset.retired_at_ms, Some(bench.now_ms));
    assert_eq!(
        query::volume(&bench.state, &first).unwrap(),
        None,
        "the ciphertext has left the state"
    );
}

#[test]
fn only_its_owner_removes_a_dataset_and_only_while_nobody_leases_it() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let remove = remove("texts");
    assert_eq!(
        bench.refused("UiOMSP", &remove),
        Refusal::NotOwner {
            owner: "UiSMSP".to_owned()
        }
    );
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    assert_eq!(bench.refused("UiSMSP", &remove).code(), "dataset_leased");
    bench.accepted("UiOMSP", &release(&lease, &alice()));
    assert_eq!(
        bench.refused("UiSMSP", &remove).code(),
        "dataset_leased",
        "an ending lease still keeps it"
    );
    bench.accepted("UiOMSP", &Command::ConfirmEnd { lease });
    bench.accepted("UiSMSP", &remove);
    assert_eq!(bench.refused("UiSMSP", &remove), Refusal::DatasetNotFound {});
    assert_eq!(
        bench.refused("UiSMSP", &take("texts", &alice(), 60)),
        Refusal::DatasetNotFound {}
    );
}

#[test]
fn an_exclusive_lease_keeps_everybody_out_until_it_has_ended() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiSMSP", "texts", &alice(), 60);
    let expires_at_ms = bench.now_ms + 60_000;
    for (msp, subject) in [("UiSMSP", bob()), ("UiOMSP", bob()), ("UiSMSP", alice())] {
        let refusal = bench.refused(msp, &take("texts", &subject, 60));
        let (name, lease_state) = ("texts".to_owned(), LeaseState::Active);
        assert_eq!(
            refusal,
            Refusal::LeaseConflict {
                name,
                lease_state,
                expires_at_ms
            }
        );
    }
    bench.accepted("UiSMSP", &release(&lease, &alice()));
    let refusal = bench.refused("UiOMSP", &take("texts", &bob(), 60));
    assert!(
        matches!(
            refusal,
            Refusal::LeaseConflict {
                lease_state: LeaseState::Ending,
                ..
            }
        ),
        "{refusal}"
    );
    bench.accepted("UiSMSP", &Command::ConfirmEnd { lease });
    bench.leased("UiOMSP", "texts", &bob(), 60);
}

#[test]
fn a_pseudonym_that_another_organisation_names_takes_nobodys_place() {
    let mut bench = Bench::new();
    let shared = Policy {
        most_shared: 3,
        exclusive: false,
        ..Policy::exclusive(3600)
    };
    bench.registered_with("UiSMSP", "texts", shared);
    let others = bench.leased("UiOMSP", "texts", &alice(), 60);
    let own = bench.leased("NTNUMSP", "texts", &alice(), 60);
    let again = |bench: &mut Bench| bench.refused("NTNUMSP", &take("texts", &alice(), 60));
    let is_own = |refusal| matches!(refusal, Refusal::AlreadyLeased { lease, .. } if lease == own);
    assert!(is_own(again(&mut bench)));
    bench.ended("UiOMSP", &others, &alice());
    assert!(
        is_own(again(&mut bench)),
        "the end of another's lease frees no place"
    );
}

#[test]
fn time_alone_ends_nothing() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    bench.leased("UiSMSP", "texts", &alice(), 60);
    bench.now_ms += 365 * 24 * 3_600 * 1_000;
    assert_eq!(
        bench.refused("UiOMSP", &take("texts", &bob(), 60)).code(),
        "lease_conflict"
    );
}

#[test]
fn the_fencing_token_grows_by_one_with_every_lease_of_the_dataset() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    bench.registered("UiSMSP", "scans");
    for expected in 1..=3 {
        let id = bench.leased("UiSMSP", "texts", &alice(), 60);
        assert_eq!(bench.lease(&id).fencing_token(), expected);
        bench.ended("UiSMSP", &id, &alice());
    }
    let id = bench.leased("UiSMSP", "scans", &alice(), 60);
    assert_eq!(bench.lease(&id).fencing_token(), 1);
}

#[test]
fn anothers_lease_and_an_unknown_one_are_refused_alike() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiSMSP", "texts", &alice(), 60);
    let unknown = "0".repeat(32);
    for (msp, lease, subject, why) in [
        ("UiSMSP", lease.as_str(), bob(), "another person"),
        (
            "UiOMSP",
            lease.as_str(),
            alice(),
            "another organisation that read the pseudonym on the ledger",
        ),
        ("UiSMSP", unknown.as_str(), alice(), "no such lease"),
        ("UiSMSP", "not an id", alice(), "no id at all"),
        ("UiSMSP", lease.as_str(), "not a pseudonym".to_owned(), "nobody"),
    ] {
        assert_eq!(
            bench.refused(msp, &release(lease, &subject)),
            Refusal::LeaseNotFound {},
            "{why}"
        );
    }
}

#[test]
fn a_lease_is_expired_by_anyone_but_not_a_millisecond_early() {
    for margin_ms in [0, 30 * 60 * 1_000] {
        let mut bench = Bench::with_margin(margin_ms);
        bench.registered("UiSMSP", "texts");
        let lease = bench.leased("UiSMSP", "texts", &alice(), 60);
        let expire = Command::Expire { lease: lease.clone() };
        let from_ms = bench.now_ms + 60_000 + margin_ms;
        bench.now_ms = from_ms - 1;
        let now_ms = bench.now_ms;
        assert_eq!(
            bench.refused("AnyMSP", &expire),
            Refusal::NotExpired { from_ms, now_ms }
        );
        bench.now_ms = from_ms;
        bench.accepted("AnyMSP", &expire);
        let ended = bench.lease(&lease);
        assert_eq!(ended.state, LeaseState::Ending);
        let end = ended.end.unwrap();
        assert_eq!(
            (end.cause, end.at_ms, end.by.as_str()),
            (EndCause::Expired, from_ms, "AnyMSP")
        );
        assert_eq!(bench.refused("AnyMSP", &expire).code(), "lease_not_active");
    }
}

#[test]
fn a_lease_goes_through_its_life_and_never_back() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiSMSP", "texts", &alice(), 60);
    let confirm = Command::ConfirmEnd { lease: lease.clone() };
    let lease_state = LeaseState::Active;
    assert_eq!(
        bench.refused("UiSMSP", &confirm),
        Refusal::LeaseNotEnding { lease_state }
    );
    bench.accepted("UiSMSP", &release(&lease, &alice()));
    let lease_state = LeaseState::Ending;
    assert_eq!(
        bench.refused("UiSMSP", &release(&lease, &alice())),
        Refusal::LeaseNotActive { lease_state }
    );
    bench.now_ms += 1_000;
    bench.accepted("UiSMSP", &confirm);
    let ended = bench.lease(&lease);
    assert_eq!(ended.state, LeaseState::Ended);
    assert_eq!(ended.end.unwrap().confirmed_at_ms, Some(bench.now_ms));
    let lease_state = LeaseState::Ended;
    assert_eq!(
        bench.refused("UiSMSP", &confirm),
        Refusal::LeaseNotEnding { lease_state }
    );
    assert_eq!(
        bench.refused("UiSMSP", &release(&lease, &alice())),
        Refusal::LeaseNotActive { lease_state }
    );
}

#[test]
fn only_the_cluster_of_a_lease_reports_on_it() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    let ready = Command::ReportMount {
        lease: lease.clone(),
        report: MountReport::Ready {},
    };
    let refusal = Refusal::NotCluster {
        cluster_msp: "UiOMSP".to_owned(),
    };
    assert_eq!(
        bench.refused("UiSMSP", &ready),
        refusal,
        "not even the dataset's owner"
    );
    bench.accepted("UiOMSP", &release(&lease, &alice()));
    assert_eq!(bench.refused("UiSMSP", &Command::ConfirmEnd { lease }), refusal);
}

#[test]
fn what_the_node_found_is_on_the_lease_and_the_dataset_until_it_mounts() {
    let mut bench = Bench::new();
    let dataset = bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiSMSP", "texts", &alice(), 60);
    let failed = Command::ReportMount {
        lease: lease.clone(),
        report: MountReport::Failed {
            finding: finding("path_missing"),
        },
    };
    let outcome = bench.accepted("UiSMSP", &failed);
    assert_eq!(
        outcome.events[0].kind,
        EventKind::MountFailed {
            code: "path_missing".to_owned()
        }
    );
    let status = |bench: &Bench| {
        query::dataset(&bench.state, &dataset.clone().into())
            .unwrap()
            .unwrap()
            .status
    };
    assert_eq!(status(&bench).finding, Some(finding("path_missing")));
    assert_eq!(
        bench.lease(&lease).state,
        LeaseState::Active,
        "a finding ends nothing"
    );
    assert_eq!(bench.refused("UiSMSP", &failed), Refusal::MountUnchanged {});
    bench.ended("UiSMSP", &lease, &alice());
    assert!(
        status(&bench).finding.is_some(),
        "the owner still sees it after the lease"
    );
    let lease = bench.leased("UiSMSP", "texts", &bob(), 60);
    let ready = Command::ReportMount {
        lease: lease.clone(),
        report: MountReport::Ready {},
    };
    bench.accepted("UiSMSP", &ready);
    assert_eq!(status(&bench).finding, None);
    bench.accepted("UiSMSP", &release(&lease, &bob()));
    assert_eq!(
        bench.refused("UiSMSP", &failed_for(&lease)).code(),
        "lease_not_active"
    );
}

#[test]
fn a_lease_without_a_time_gets_the_datasets_longest() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let Command::Lease {
        dataset,
        subject,
        mode,
        groups,
        wait,
        ..
    } = take("texts", &alice(), 60)
    else {
        unreachable!()
    };
    let ttl_seconds = None;
    let take = Command::Lease {
        dataset,
        subject,
        mode,
        ttl_seconds,
        groups,
        wait,
        cluster: None,
    };
    let lease = lease_of(&bench.accepted("UiSMSP", &take));
    let grant = bench.lease(&lease).grant.unwrap();
    assert_eq!(grant.expires_at_ms - grant.at_ms, 3_600_000);
}

#[test]
fn a_transaction_id_makes_one_dataset_and_one_lease() {
    let mut bench = Bench::new();
    let tx_id = TxId::new("the-same").unwrap();
    bench.execute_as(&tx_id, "UiSMSP", &register("texts")).unwrap();
    let again = bench.execute_as(&tx_id, "UiSMSP", &register("scans"));
    assert_eq!(again.unwrap_err().code(), "transaction_reused");
    bench
        .execute_as(&tx_id, "UiSMSP", &take("texts", &alice(), 60))
        .unwrap();
    bench.registered("UiSMSP", "scans");
    let again = bench.execute_as(&tx_id, "UiSMSP", &take("scans", &alice(), 60));
    assert_eq!(again.unwrap_err().code(), "transaction_reused");
}

fn failed_for(lease: &str) -> Command {
    let report = MountReport::Failed {
        finding: finding("path_missing"),
    };
    Command::ReportMount {
        lease: lease.to_owned(),
        report,
    }
}
