//! What the contract promises about an owner's terms: who gets in, who waits, who decides, and how it all ends.

#[path = "support/bench.rs"]
mod bench;

use bench::{
    Bench, alice, bob, confirm, kinds, lease_of, person, register_with, release, remove, renew, shared, take,
    wait_for,
};
use leasehold_chaincode::{
    Admission, Command, EndCause, EventKind, Lease, LeaseState, Mode, Policy, Refusal, limit, query,
};

#[test]
fn a_shared_dataset_has_as_many_holders_as_its_owner_lets_in() {
    let mut bench = Bench::new();
    let dataset = bench.registered_with("UiSMSP", "texts", shared(2, 0));
    let first = bench.asked("UiSMSP", "texts", &person(1), Mode::Shared);
    bench.asked("UiOMSP", "texts", &person(2), Mode::Shared);
    for mode in [Mode::Shared, Mode::Exclusive] {
        let refusal = bench.refused("UiOMSP", &wait_for("texts", &person(3), mode));
        assert_eq!(refusal.code(), "lease_conflict", "{mode:?}");
    }
    assert_eq!(query::holders(&bench.state, &dataset).unwrap().len(), 2);
    bench.ended("UiSMSP", &first, &person(1));
    bench.asked("UiOMSP", "texts", &person(3), Mode::Shared);
    let tokens: Vec<_> = query::holders(&bench.state, &dataset)
        .unwrap()
        .iter()
        .map(Lease::fencing_token)
        .collect();
    assert_eq!(tokens, [2, 3]);
}

#[test]
fn an_exclusive_lease_and_a_shared_one_never_stand_side_by_side() {
    let mut bench = Bench::new();
    bench.registered_with("UiSMSP", "texts", shared(8, 0));
    let alone = bench.asked("UiSMSP", "texts", &person(1), Mode::Exclusive);
    let share = wait_for("texts", &person(2), Mode::Shared);
    assert_eq!(bench.refused("UiSMSP", &share).code(), "lease_conflict");
    bench.accepted("UiSMSP", &release(&alone, &person(1)));
    assert_eq!(
        bench.refused("UiSMSP", &share).code(),
        "lease_conflict",
        "an ending one keeps others out as well"
    );
    bench.accepted("UiSMSP", &confirm(&alone));
    bench.accepted("UiSMSP", &share);
}

#[test]
fn who_waits_gets_the_dataset_in_the_order_of_coming() {
    let mut bench = Bench::new();
    bench.registered_with("UiSMSP", "texts", shared(2, 4));
    let alone = bench.asked("UiSMSP", "texts", &person(1), Mode::Exclusive);
    let second = bench.asked("UiOMSP", "texts", &person(2), Mode::Shared);
    let third = bench.asked("UiSMSP", "texts", &person(3), Mode::Shared);
    let fourth = bench.asked("UiSMSP", "texts", &person(4), Mode::Exclusive);
    let fifth = bench.asked("UiSMSP", "texts", &person(5), Mode::Shared);
    assert_eq!(bench.lease(&second).state, LeaseState::Waiting);
    let full = bench.refused("UiSMSP", &wait_for("texts", &person(6), Mode::Shared));
    assert_eq!(
        full,
        Refusal::LineFull {
            name: "texts".to_owned(),
            waiting: 4
        }
    );
    bench.accepted("UiSMSP", &release(&alone, &person(1)));
    bench.now_ms += 5_000;
    let outcome = bench.accepted("UiSMSP", &confirm(&alone));
    let cause = EndCause::Released;
    assert_eq!(
        kinds(&outcome),
        [
            (alone, EventKind::LeaseEnded { cause }),
            (second.clone(), EventKind::LeaseGranted {}),
            (third.clone(), EventKind::LeaseGranted {}),
        ],
        "one event for each transition, and nobody overtakes who waits to be alone"
    );
    let grant = bench.lease(&second).grant.unwrap();
    assert_eq!(
        (grant.at_ms, grant.expires_at_ms),
        (bench.now_ms, bench.now_ms + 60_000),
        "its time begins when it is granted"
    );
    bench.ended("UiOMSP", &second, &person(2));
    assert_eq!(bench.lease(&fifth).state, LeaseState::Waiting);
    bench.ended("UiSMSP", &third, &person(3));
    assert_eq!(bench.lease(&fourth).state, LeaseState::Active);
    bench.ended("UiSMSP", &fourth, &person(4));
    assert_eq!(bench.lease(&fifth).state, LeaseState::Active);
}

#[test]
fn who_leaves_the_line_makes_room_for_those_behind() {
    let mut bench = Bench::new();
    bench.registered_with("UiSMSP", "texts", shared(2, 4));
    bench.asked("UiSMSP", "texts", &person(1), Mode::Shared);
    let alone = bench.asked("UiSMSP", "texts", &person(2), Mode::Exclusive);
    let behind = bench.asked("UiSMSP", "texts", &person(3), Mode::Shared);
    let outcome = bench.accepted("UiSMSP", &release(&alone, &person(2)));
    let cause = EndCause::Released;
    assert_eq!(
        kinds(&outcome),
        [
            (alone, EventKind::LeaseEnded { cause }),
            (behind, EventKind::LeaseGranted {})
        ],
        "nothing was mounted, so there is nothing to confirm"
    );
}

#[test]
fn a_place_in_the_line_lapses_but_not_before_every_clock_agrees() {
    let margin_ms = 30 * 60 * 1_000;
    let mut bench = Bench::with_margin(margin_ms);
    bench.registered_with("UiSMSP", "texts", shared(0, 4));
    let alone = bench.asked("UiSMSP", "texts", &person(1), Mode::Exclusive);
    let late = bench.asked("UiSMSP", "texts", &person(2), Mode::Exclusive);
    let from_ms = bench.now_ms + 600_000 + margin_ms;
    bench.now_ms = from_ms - 1;
    let expire = Command::Expire { lease: late.clone() };
    let now_ms = bench.now_ms;
    assert_eq!(
        bench.refused("AnyMSP", &expire),
        Refusal::NotExpired { from_ms, now_ms }
    );
    let next = bench.asked("UiSMSP", "texts", &person(3), Mode::Exclusive);
    bench.accepted("UiSMSP", &release(&alone, &person(1)));
    bench.now_ms = from_ms;
    let outcome = bench.accepted("UiSMSP", &confirm(&alone));
    let ended = EventKind::LeaseEnded {
        cause: EndCause::Lapsed,
    };
    assert_eq!(
        kinds(&outcome)[1..],
        [(late, ended), (next, EventKind::LeaseGranted {})]
    );
}

#[test]
fn an_owner_who_wants_to_approve_decides_on_each_lease_but_its_own() {
    let mut bench = Bench::new();
    let policy = Policy {
        approve_leases: true,
        ..shared(0, 1)
    };
    bench.registered_with("UiSMSP", "texts", policy);
    let asked = bench.asked("UiOMSP", "texts", &alice(), Mode::Exclusive);
    assert_eq!(bench.lease(&asked).state, LeaseState::Requested);
    let approve = Command::ApproveLease { lease: asked.clone() };
    assert_eq!(bench.refused("UiOMSP", &approve).code(), "not_owner");
    let own = bench.asked("UiSMSP", "texts", &bob(), Mode::Exclusive);
    assert_eq!(bench.lease(&own).state, LeaseState::Active);
    bench.accepted("UiSMSP", &approve);
    assert_eq!(bench.lease(&asked).state, LeaseState::Waiting);
    assert_eq!(bench.refused("UiSMSP", &approve).code(), "lease_not_requested");
    bench.ended("UiSMSP", &own, &bob());
    assert_eq!(bench.lease(&asked).state, LeaseState::Active);
    bench.ended("UiOMSP", &asked, &alice());

    let denied = bench.asked("UiOMSP", "texts", &alice(), Mode::Exclusive);
    let deny = Command::DenyLease {
        lease: denied.clone(),
        reason: "not without ethics approval".to_owned(),
    };
    assert_eq!(bench.refused("UiOMSP", &deny).code(), "not_owner");
    bench.accepted("UiSMSP", &deny);
    let end = bench.lease(&denied).end.unwrap();
    assert_eq!(
        (end.cause, end.reason.as_deref()),
        (EndCause::Denied, Some("not without ethics approval"))
    );
}

#[test]
fn a_request_whose_dataset_was_retired_is_approved_no_more() {
    let mut bench = Bench::new();
    let policy = Policy {
        approve_leases: true,
        ..Policy::exclusive(60)
    };
    bench.registered_with("UiSMSP", "texts", policy);
    let lease = bench.asked("UiOMSP", "texts", &alice(), Mode::Exclusive);
    bench.accepted("UiSMSP", &remove("texts"));
    let approve = Command::ApproveLease { lease: lease.clone() };
    assert_eq!(bench.refused("UiSMSP", &approve), Refusal::DatasetNotFound {});
    bench.accepted("UiOMSP", &release(&lease, &alice()));
}

#[test]
fn only_those_whom_the_terms_admit_get_in() {
    let mut bench = Bench::new();
    let policy = Policy {
        organisations: Admission::Only(vec!["UiOMSP".parse().unwrap()]),
        groups: vec!["/radiology".to_owned(), "/oncology".to_owned()],
        ..Policy::exclusive(3_600)
    };
    bench.registered_with("UiSMSP", "texts", policy);
    let with = |groups: &[&str]| match take("texts", &alice(), 60) {
        Command::Lease {
            dataset,
            subject,
            mode,
            ttl_seconds,
            wait,
            ..
        } => Command::Lease {
            dataset,
            subject,
            mode,
            ttl_seconds,
            wait,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            cluster: None,
        },
        other => other,
    };
    let msp = "NTNUMSP".to_owned();
    assert_eq!(
        bench.refused("NTNUMSP", &with(&["/oncology"])),
        Refusal::OrganisationNotAdmitted { msp }
    );
    assert_eq!(bench.refused("UiOMSP", &with(&[])), Refusal::GroupNotAdmitted {});
    assert_eq!(
        bench.refused("UiOMSP", &with(&["/cardiology"])),
        Refusal::GroupNotAdmitted {}
    );
    let lease = lease_of(&bench.accepted("UiOMSP", &with(&["/cardiology", "/oncology"])));
    bench.ended("UiOMSP", &lease, &alice());
    bench.accepted("UiSMSP", &with(&["/radiology"]));
}

#[test]
fn a_mode_that_the_terms_do_not_have_is_refused_and_the_other_is_the_default() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "alone");
    let share = wait_for("alone", &alice(), Mode::Shared);
    assert_eq!(bench.refused("UiSMSP", &share).code(), "mode_not_allowed");
    let together = Policy {
        exclusive: false,
        ..shared(3, 0)
    };
    bench.registered_with("UiSMSP", "together", together);
    let alone = wait_for("together", &alice(), Mode::Exclusive);
    assert_eq!(bench.refused("UiSMSP", &alone).code(), "mode_not_allowed");
    let lease = bench.leased("UiSMSP", "together", &alice(), 60);
    assert_eq!(bench.lease(&lease).mode, Mode::Shared);
}

#[test]
fn nobody_has_two_leases_of_one_dataset() {
    let mut bench = Bench::new();
    bench.registered_with("UiSMSP", "texts", shared(4, 4));
    let lease = bench.asked("UiSMSP", "texts", &alice(), Mode::Shared);
    let lease_state = LeaseState::Active;
    assert_eq!(
        bench.refused("UiSMSP", &wait_for("texts", &alice(), Mode::Shared)),
        Refusal::AlreadyLeased {
            lease: lease.clone(),
            lease_state
        }
    );
    assert_eq!(
        bench
            .refused("UiSMSP", &wait_for("texts", &alice(), Mode::Exclusive))
            .code(),
        "already_leased",
        "nor a place in the line beside it"
    );
    bench.ended("UiSMSP", &lease, &alice());
    bench.asked("UiSMSP", "texts", &alice(), Mode::Shared);
}

#[test]
fn a_lease_is_renewed_by_its_holder_while_it_lasts_and_nobody_waits() {
    let mut bench = Bench::new();
    bench.registered_with("UiSMSP", "texts", shared(0, 1));
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    let first = bench.now_ms + 60_000;
    for (msp, subject) in [("UiOMSP", bob()), ("UiSMSP", alice())] {
        assert_eq!(
            bench.refused(msp, &renew(&lease, &subject, 600)),
            Refusal::LeaseNotFound {}
        );
    }
    let shorter = bench.refused("UiOMSP", &renew(&lease, &alice(), 60));
    assert!(matches!(shorter, Refusal::InvalidField { ref field, .. } if field == "ttl_seconds"));
    let longer = bench.refused("UiOMSP", &renew(&lease, &alice(), 3_601));
    assert!(matches!(longer, Refusal::InvalidField { ref field, .. } if field == "ttl_seconds"));
    bench.now_ms += 59_999;
    bench.accepted("UiOMSP", &renew(&lease, &alice(), 600));
    let grant = bench.lease(&lease).grant.unwrap();
    assert_eq!(
        (grant.expires_at_ms, grant.renewals, grant.fencing_token),
        (first + 599_999, 1, 1)
    );
    let due = |bench: &Bench| {
        let all = leasehold_chaincode::PageRequest::default();
        query::leases_due(&bench.state, LeaseState::Active, first, &all)
            .unwrap()
            .items
    };
    assert_eq!(due(&bench), vec![], "the index of expiries knows of it");
    bench.asked("UiSMSP", "texts", &bob(), Mode::Exclusive);
    assert_eq!(
        bench.refused("UiOMSP", &renew(&lease, &alice(), 1_200)).code(),
        "renewal_waited_for"
    );
    bench.now_ms = grant.expires_at_ms;
    assert_eq!(
        bench.refused("UiOMSP", &renew(&lease, &alice(), 600)),
        Refusal::LeaseExpired {
            expires_at_ms: grant.expires_at_ms
        }
    );
}

#[test]
fn terms_that_nobody_could_meet_are_refused_by_their_field() {
    let mut bench = Bench::new();
    let nobody = Policy {
        exclusive: false,
        ..Policy::exclusive(60)
    };
    let many = Policy {
        most_shared: limit::MOST_SHARED + 1,
        ..Policy::exclusive(60)
    };
    let long = Policy {
        most_waiting: limit::MOST_WAITING + 1,
        ..Policy::exclusive(60)
    };
    let place = Policy {
        place_seconds: 1,
        ..Policy::exclusive(60)
    };
    let group = Policy {
        groups: vec!["two\nlines".to_owned()],
        ..Policy::exclusive(60)
    };
    let msp: leasehold_chaincode::Msp = "UiOMSP".parse().unwrap();
    let world = Policy {
        organisations: Admission::Only(vec![msp; limit::POLICY_ORGANISATIONS + 1]),
        ..Policy::exclusive(60)
    };
    for (expected, policy) in [
        ("policy.most_shared", nobody),
        ("policy.most_shared", many),
        ("policy.most_waiting", long),
        ("policy.place_seconds", place),
        ("policy.groups", group),
        ("policy.organisations", world),
    ] {
        match bench.refused("UiSMSP", &register_with("texts", policy)) {
            Refusal::InvalidField { field, .. } => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}
