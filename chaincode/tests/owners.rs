//! What the contract promises an owner: leases are revoked and declared ended, datasets amended, handed over and retired, code approved,
//! and roles asked for.

#[path = "support/bench.rs"]
mod bench;

use bench::{
    Bench, alice, bob, confirm, kinds, person, register, register_with, release, remove, revoke, shared, take,
};
use leasehold_chaincode::{
    Ciphertext, Code, Command, EndCause, EventKind, LeaseState, Metadata, Mode, Policy, Refusal, Role, limit,
    query,
};

#[test]
fn its_owner_revokes_any_lease_of_a_dataset_and_says_why() {
    let mut bench = Bench::new();
    bench.registered_with("UiSMSP", "texts", shared(0, 2));
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    let waiting = bench.asked("UiOMSP", "texts", &bob(), Mode::Exclusive);
    assert_eq!(bench.refused("UiOMSP", &revoke(&lease)).code(), "not_owner");
    bench.accepted("UiSMSP", &revoke(&lease));
    let revoked = bench.lease(&lease);
    assert_eq!(revoked.state, LeaseState::Ending);
    let end = revoked.end.unwrap();
    assert_eq!(
        (end.cause, end.reason.as_deref(), end.by.as_str()),
        (EndCause::Revoked, Some("the study has ended"), "UiSMSP")
    );
    bench.accepted("UiSMSP", &revoke(&waiting));
    assert_eq!(bench.lease(&waiting).state, LeaseState::Ended);
    assert_eq!(
        bench.refused("UiSMSP", &revoke(&waiting)).code(),
        "lease_not_active"
    );
}

#[test]
fn an_owner_declares_an_end_that_a_cluster_does_not_confirm_after_an_hour() {
    let mut bench = Bench::with_margin(1_000);
    let patient = Policy {
        place_seconds: 7_200,
        ..shared(0, 2)
    };
    bench.registered_with("UiSMSP", "texts", patient);
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    let next = bench.asked("UiSMSP", "texts", &bob(), Mode::Exclusive);
    let declare = Command::DeclareEnded {
        lease: lease.clone(),
        reason: "the cluster was switched off".to_owned(),
    };
    assert_eq!(bench.refused("UiSMSP", &declare).code(), "lease_not_ending");
    bench.accepted("UiSMSP", &revoke(&lease));
    let from_ms = bench.now_ms + limit::CONFIRMATION_MS + 1_000;
    bench.now_ms = from_ms - 1;
    assert_eq!(
        bench.refused("UiSMSP", &declare),
        Refusal::TooEarlyToDeclare {
            from_ms,
            now_ms: from_ms - 1
        }
    );
    bench.now_ms = from_ms;
    assert_eq!(bench.refused("UiOMSP", &declare).code(), "not_owner");
    bench.accepted("UiSMSP", &declare);
    assert_eq!(bench.lease(&lease).state, LeaseState::Ended);
    assert_eq!(bench.lease(&next).state, LeaseState::Active, "the line moves on");
}

#[test]
fn a_dataset_is_retired_by_force_with_all_its_leases() {
    let mut bench = Bench::new();
    let dataset = bench.registered_with("UiSMSP", "texts", shared(2, 2));
    let one = bench.asked("UiOMSP", "texts", &person(1), Mode::Shared);
    let two = bench.asked("UiSMSP", "texts", &person(2), Mode::Shared);
    let waiting = bench.asked("UiSMSP", "texts", &person(3), Mode::Exclusive);
    bench.accepted("UiSMSP", &release(&two, &person(2)));
    assert_eq!(bench.refused("UiSMSP", &remove("texts")).code(), "dataset_leased");
    let force = Command::RemoveDataset {
        dataset: "texts".to_owned(),
        force: true,
    };
    assert_eq!(bench.refused("UiOMSP", &force).code(), "not_owner");
    let outcome = bench.accepted("UiSMSP", &force);
    let cause = EndCause::Retired;
    assert_eq!(
        kinds(&outcome),
        [
            (String::new(), EventKind::DatasetRetired {}),
            (one.clone(), EventKind::LeaseEnding { cause }),
            (waiting, EventKind::LeaseEnded { cause }),
        ]
    );
    bench.registered("UiOMSP", "texts");
    for (msp, lease) in [("UiOMSP", one), ("UiSMSP", two)] {
        bench.accepted(msp, &confirm(&lease));
    }
    assert_eq!(query::holders(&bench.state, &dataset).unwrap(), vec![]);
}

#[test]
fn a_dataset_changes_hands_only_when_both_want_it() {
    let mut bench = Bench::new();
    let dataset = bench.registered("UiSMSP", "texts");
    let take_over = Command::TakeDataset {
        dataset: "texts".to_owned(),
        volume_ciphertext: Ciphertext("AAAA".to_owned()),
        key_version: 1,
    };
    assert_eq!(bench.refused("UiOMSP", &take_over).code(), "not_offered");
    let offer = |to: Option<&str>| Command::OfferDataset {
        dataset: "texts".to_owned(),
        to: to.map(str::to_owned),
    };
    assert_eq!(
        bench.refused("UiOMSP", &offer(Some("UiOMSP"))).code(),
        "not_owner"
    );
    bench.accepted("UiSMSP", &offer(Some("UiOMSP")));
    assert_eq!(
        bench.refused("UiSMSP", &offer(Some("UiOMSP"))).code(),
        "unchanged"
    );
    bench.accepted("UiSMSP", &offer(None));
    assert_eq!(bench.refused("UiOMSP", &take_over).code(), "not_offered");
    bench.accepted("UiSMSP", &offer(Some("UiOMSP")));
    let lease = bench.leased("UiSMSP", "texts", &alice(), 60);
    assert_eq!(bench.refused("UiOMSP", &take_over).code(), "dataset_leased");
    bench.ended("UiSMSP", &lease, &alice());
    bench.accepted("UiOMSP", &take_over);
    let entry = query::dataset(&bench.state, &dataset.clone().into())
        .unwrap()
        .unwrap();
    assert_eq!(
        (entry.dataset.owner.as_str(), entry.status.offer),
        ("UiOMSP", None)
    );
    let all = leasehold_chaincode::PageRequest::default();
    let of = |msp: &str| {
        query::datasets_of(&bench.state, &msp.parse().unwrap(), &all)
            .unwrap()
            .items
            .len()
    };
    assert_eq!((of("UiSMSP"), of("UiOMSP")), (0, 1));
    assert_eq!(
        query::volume(&bench.state, &dataset).unwrap().unwrap().ciphertext,
        Ciphertext("AAAA".to_owned())
    );
    assert_eq!(bench.refused("UiSMSP", &remove("texts")).code(), "not_owner");
}

#[test]
fn its_owner_amends_a_dataset_and_leases_that_run_keep_their_terms() {
    let mut bench = Bench::new();
    let dataset = bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiSMSP", "texts", &alice(), 3_600);
    let amend = |metadata: Option<Metadata>, policy: Option<Policy>| Command::AmendDataset {
        dataset: "texts".to_owned(),
        metadata,
        policy,
    };
    let described = Metadata {
        keywords: vec!["lorem".to_owned()],
        publication_year: Some(1500),
        ..bench::metadata()
    };
    let both = amend(Some(described.clone()), Some(Policy::exclusive(60)));
    assert_eq!(bench.refused("UiOMSP", &both).code(), "not_owner");
    let outcome = bench.accepted("UiSMSP", &both);
    assert_eq!(outcome.events.len(), 2);
    assert_eq!(bench.refused("UiSMSP", &both), Refusal::Unchanged {});
    assert_eq!(bench.refused("UiSMSP", &amend(None, None)), Refusal::Unchanged {});
    let entry = query::dataset(&bench.state, &dataset.into()).unwrap().unwrap();
    assert_eq!(entry.dataset.metadata, described);
    assert_eq!(bench.lease(&lease).max_ttl_seconds, 3_600);
    bench.ended("UiSMSP", &lease, &alice());
    let longer = bench.refused("UiSMSP", &take("texts", &alice(), 61));
    assert!(matches!(longer, Refusal::InvalidField { ref field, .. } if field == "ttl_seconds"));
}

#[test]
fn a_volume_is_replaced_by_its_owner_and_its_key_version_never_falls() {
    let mut bench = Bench::new();
    let dataset = bench.registered("UiSMSP", "texts");
    let replace = |text: &str, key_version| Command::ReplaceVolume {
        dataset: "texts".to_owned(),
        volume_ciphertext: Ciphertext(text.to_owned()),
        key_version,
    };
    assert_eq!(bench.refused("UiOMSP", &replace("AAAA", 2)).code(), "not_owner");
    bench.accepted("UiSMSP", &replace("AAAA", 2));
    let lower = bench.refused("UiSMSP", &replace("BBBB", 1));
    assert!(matches!(lower, Refusal::InvalidField { ref field, .. } if field == "key_version"));
    assert_eq!(
        bench.refused("UiSMSP", &replace("AAAA", 2)),
        Refusal::Unchanged {}
    );
    bench.accepted("UiSMSP", &replace("BBBB", 2));
    let volume = query::volume(&bench.state, &dataset).unwrap().unwrap();
    assert_eq!((volume.ciphertext.0.as_str(), volume.key_version), ("BBBB", 2));
}

#[test]
fn code_may_run_from_its_owners_approval_to_its_withdrawal() {
    let mut bench = Bench::new();
    let dataset = bench.registered("UiSMSP", "texts");
    let code = Code {
        image_sha256: "ab".repeat(32),
        command_sha256: "cd".repeat(32),
    };
    let (name, wanted) = ("texts".to_owned(), code.clone());
    let approve = Command::ApproveCode {
        dataset: name.clone(),
        code: wanted.clone(),
    };
    let withdraw = Command::WithdrawCode {
        dataset: name,
        code: wanted,
    };
    assert_eq!(bench.refused("UiOMSP", &approve).code(), "not_owner");
    assert_eq!(bench.refused("UiSMSP", &withdraw), Refusal::Unchanged {});
    bench.accepted("UiSMSP", &approve);
    assert_eq!(bench.refused("UiSMSP", &approve), Refusal::Unchanged {});
    let other = Code {
        command_sha256: "00".repeat(32),
        ..code.clone()
    };
    let approved = |bench: &Bench, code: &Code| {
        query::code_approval(&bench.state, &dataset, code)
            .unwrap()
            .is_some()
    };
    assert_eq!((approved(&bench, &code), approved(&bench, &other)), (true, false));
    let all = leasehold_chaincode::PageRequest::default();
    let listed = query::code_approvals(&bench.state, &dataset, &all).unwrap().items;
    assert_eq!(listed.iter().map(|it| &it.code).collect::<Vec<_>>(), [&code]);
    bench.accepted("UiSMSP", &withdraw);
    assert!(!approved(&bench, &code));
}

#[test]
fn what_a_steward_may_a_member_may_not() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiSMSP", "texts", &alice(), 60);
    bench.role = Role::Member;
    for command in [register("other"), remove("texts"), revoke(&lease)] {
        assert_eq!(
            bench.refused("UiSMSP", &command),
            Refusal::RoleNeeded {
                needed: Role::Steward,
                has: Role::Member
            },
            "{command:?}"
        );
    }
    bench.accepted("UiSMSP", &release(&lease, &alice()));
    bench.accepted("UiSMSP", &confirm(&lease));
    bench.role = Role::Administrator;
    bench.accepted("UiSMSP", &register_with("other", shared(1, 1)));
}
