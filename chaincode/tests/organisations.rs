//! Who is in the consortium, who is suspended, and which clusters serve leases.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/bench.rs"]
mod bench;

use bench::{
    Bench, P256, a_key, administered as done, alice, bob, join, lease_of, msp, refusal_code as code,
    register, register_cluster, register_with, release, remove, take, wait_for,
};
use leasehold_chaincode::{
    By, Command, EndCause, EventKind, KeyAlgorithm, LeaseState, Mode, MountReport, PageRequest, Policy,
    PublicKey, Refusal, Role, limit, query,
};

const ED25519: &str = "MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn suspend() -> Command {
    Command::SuspendOrganisation {
        reason: "a key was lost".to_owned(),
    }
}

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

fn is_suspended(bench: &Bench, organisation: &str) -> bool {
    let found = query::organisation(&bench.state, &msp(organisation))
        .unwrap()
        .unwrap();
    let standing = query::consortium(&bench.state).unwrap().standing;
    assert_eq!(
        standing.contains(&found.msp),
        !found.is_suspended(),
        "the consortium and the organisation say the same"
    );
    found.is_suspended()
}

#[test]
fn an_organisation_that_has_not_joined_does_nothing_but_join() {
    let mut bench = Bench::empty(0);
    let lease = "0".repeat(32);
    for command in [
        register("texts"),
        take("texts", &alice(), 60),
        release(&lease, &alice()),
        Command::Expire { lease: lease.clone() },
        Command::ConfirmEnd { lease },
        register_cluster("main"),
        suspend(),
        vote("UiOMSP", true),
    ] {
        assert_eq!(code(&mut bench, "UiSMSP", &command), "organisation_not_joined");
    }
    assert!(bench.state.is_empty());
    done(&mut bench, "UiSMSP", &join());
    assert_eq!(code(&mut bench, "UiSMSP", &join()), "already_joined");
    bench.registered("UiSMSP", "texts");
    assert_eq!(
        code(&mut bench, "UiOMSP", &take("texts", &alice(), 60)),
        "organisation_not_joined"
    );
}

#[test]
fn only_an_administrator_speaks_for_an_organisation() {
    let mut bench = Bench::new();
    for command in [
        join(),
        Command::AmendOrganisation {
            broker: None,
            keys: None,
        },
        suspend(),
        Command::ResumeOrganisation {},
        vote("UiOMSP", true),
        register_cluster("second"),
        retire_cluster("main"),
    ] {
        let (needed, has) = (Role::Administrator, Role::Steward);
        assert_eq!(
            bench.refused("UiSMSP", &command),
            Refusal::RoleNeeded { needed, has }
        );
    }
}

#[test]
fn what_an_organisation_says_of_itself_is_read_by_all_and_amended_by_itself() {
    let mut bench = Bench::new();
    let keys = vec![
        a_key("2026-a", KeyAlgorithm::P256, P256),
        a_key("2026-b", KeyAlgorithm::Ed25519, ED25519),
    ];
    let amend = Command::AmendOrganisation {
        broker: Some("https://broker.uis.example:9443".to_owned()),
        keys: Some(keys.clone()),
    };
    let outcome = done(&mut bench, "UiSMSP", &amend);
    assert_eq!(outcome.events[0].organisation, Some(msp("UiSMSP")));
    let found = query::organisation(&bench.state, &msp("UiSMSP"))
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.broker.as_str(), found.keys),
        ("https://broker.uis.example:9443", keys)
    );
    assert_eq!(code(&mut bench, "UiSMSP", &amend), "unchanged");
    let none = Command::AmendOrganisation {
        broker: None,
        keys: None,
    };
    assert_eq!(code(&mut bench, "UiSMSP", &none), "unchanged");
    let all = query::organisations(&bench.state, &PageRequest::default())
        .unwrap()
        .items;
    let names: Vec<_> = all.iter().map(|organisation| organisation.msp.as_str()).collect();
    assert_eq!(names, ["AnyMSP", "NTNUMSP", "UiOMSP", "UiSMSP"]);
    let history = query::organisation_history(&bench.state, &msp("UiSMSP"), &PageRequest::default())
        .unwrap()
        .items;
    let told: Vec<_> = history
        .iter()
        .map(|entry| (entry.revision, &entry.kind))
        .collect();
    let cluster = "main".parse().unwrap();
    assert_eq!(
        told,
        [
            (1, &EventKind::OrganisationJoined {}),
            (2, &EventKind::ClusterRegistered { cluster }),
            (3, &EventKind::OrganisationAmended {}),
        ]
    );
    assert_eq!(history[2].organisation, Some(msp("UiSMSP")));
}

#[test]
fn an_address_or_key_that_nobody_could_use_is_refused_by_its_field() {
    let address = |broker: &str| Command::JoinConsortium {
        broker: broker.to_owned(),
        keys: Vec::new(),
    };
    let keyed = |keys: Vec<PublicKey>| Command::JoinConsortium {
        broker: "https://b.example".to_owned(),
        keys,
    };
    let p256 = |id: &str, spki: &str| a_key(id, KeyAlgorithm::P256, spki);
    let private = "MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let many = (0..=limit::PUBLIC_KEYS)
        .map(|n| p256(&n.to_string(), P256))
        .collect();
    let cases = [
        ("broker", address("")),
        ("broker", address("http://b.example")),
        ("broker", address("https://")),
        ("broker", address("https://me@b.example")),
        ("broker", address("https://b.example/path")),
        ("broker", address("https://b.example?q")),
        ("broker", address("https://b.example:")),
        ("broker", address("https://b.example:0")),
        ("broker", address("https://b.example:65536")),
        ("broker", address("https://b.example:+1")),
        ("broker", address("https://b..example")),
        ("broker", address("https://-b.example")),
        ("broker", address("https://[::1")),
        ("broker", address("https://[nonsense]:1")),
        ("broker", address("https://bé.example")),
        (
            "broker",
            address(&format!("https://{}", "a.".repeat(limit::ADDRESS_CHARS))),
        ),
        ("keys", keyed(many)),
        ("keys.id", keyed(vec![p256("", P256)])),
        ("keys.id", keyed(vec![p256("a b", P256)])),
        (
            "keys.id",
            keyed(vec![p256(&"a".repeat(limit::KEY_ID_CHARS + 1), P256)]),
        ),
        ("keys.id", keyed(vec![p256("a", P256), p256("a", P256)])),
        ("keys.spki", keyed(vec![p256("a", "")])),
        ("keys.spki", keyed(vec![p256("a", ED25519)])),
        ("keys.spki", keyed(vec![p256("a", &P256.replace("AAAA", "AA A"))])),
        (
            "keys.spki",
            keyed(vec![a_key("a", KeyAlgorithm::Ed25519, private)]),
        ),
    ];
    let mut bench = Bench::empty(0);
    for (expected, command) in cases {
        match bench.administered("UiSMSP", &command) {
            Err(Refusal::InvalidField { field, .. }) => assert_eq!(field, expected, "{command:?}"),
            other => panic!("{command:?}: {other:?}"),
        }
    }
    for broker in [
        "https://b",
        "https://B.example.org:443",
        "https://192.0.2.1",
        "https://[2001:db8::1]:8443",
    ] {
        let mut bench = Bench::empty(0);
        done(&mut bench, "UiSMSP", &address(broker));
    }
}

#[test]
fn a_suspended_organisation_registers_leases_and_grants_nothing() {
    let mut bench = Bench::new();
    let policy = Policy {
        approve_leases: true,
        ..Policy::exclusive(3_600)
    };
    bench.accepted("UiSMSP", &register_with("asked", policy));
    bench.registered("UiSMSP", "texts");
    bench.registered("UiSMSP", "offered");
    bench.registered("UiOMSP", "theirs");
    let offer = Command::OfferDataset {
        dataset: "offered".to_owned(),
        to: Some("UiOMSP".to_owned()),
    };
    bench.accepted("UiSMSP", &offer);
    let request = bench.asked("UiOMSP", "asked", &alice(), Mode::Exclusive);
    let theirs = bench.leased("UiSMSP", "theirs", &alice(), 60);
    let held = bench.leased("UiOMSP", "texts", &bob(), 60);
    done(&mut bench, "UiSMSP", &suspend());
    assert!(is_suspended(&bench, "UiSMSP"));
    let renew = |lease: &str, subject: String| Command::Renew {
        lease: lease.to_owned(),
        subject,
        ttl_seconds: Some(600),
    };
    let approve = Command::ApproveLease { lease: request };
    let take_over = Command::TakeDataset {
        dataset: "offered".to_owned(),
        volume_ciphertext: leasehold_chaincode::Ciphertext("AAAA".to_owned()),
        key_version: 1,
    };
    bench.accepted("UiOMSP", &release(&held, &bob()));
    bench.accepted("UiOMSP", &Command::ConfirmEnd { lease: held });
    for (caller, command) in [
        ("UiSMSP", register("more")),
        ("UiSMSP", take("theirs", &bob(), 60)),
        ("UiSMSP", renew(&theirs, alice())),
        ("UiSMSP", approve),
        ("UiSMSP", register_cluster("more")),
        ("UiSMSP", vote("UiOMSP", true)),
        ("UiOMSP", take("texts", &bob(), 60)),
        ("UiOMSP", take_over),
    ] {
        let outcome = bench.administered(caller, &command);
        let expected = Refusal::OrganisationSuspended {
            msp: "UiSMSP".to_owned(),
        };
        assert_eq!(outcome, Err(expected), "{command:?}");
    }
}

#[test]
fn what_ends_goes_on_while_an_organisation_is_suspended() {
    let mut bench = Bench::new();
    for name in ["one", "two", "three", "four"] {
        bench.registered("UiSMSP", name);
    }
    bench.registered("UiOMSP", "theirs");
    let [one, two, three] = ["one", "two", "three"].map(|name| bench.leased("UiOMSP", name, &alice(), 60));
    let own = bench.leased("UiSMSP", "theirs", &bob(), 60);
    done(&mut bench, "UiSMSP", &suspend());
    let ready = Command::ReportMount {
        lease: own.clone(),
        report: MountReport::Ready {},
    };
    bench.accepted("UiSMSP", &ready);
    bench.ended("UiSMSP", &own, &bob());
    bench.ended("UiOMSP", &one, &alice());
    let reason = "the study is over".to_owned();
    bench.accepted(
        "UiSMSP",
        &Command::Revoke {
            lease: two.clone(),
            reason: reason.clone(),
        },
    );
    bench.now_ms += 61_000;
    bench.accepted("UiSMSP", &Command::Expire { lease: three.clone() });
    bench.now_ms += limit::CONFIRMATION_MS;
    bench.accepted(
        "UiSMSP",
        &Command::DeclareEnded {
            lease: two.clone(),
            reason,
        },
    );
    bench.accepted("UiOMSP", &Command::ConfirmEnd { lease: three.clone() });
    for lease in [one, two, three, own] {
        assert_eq!(bench.lease(&lease).state, LeaseState::Ended);
    }
    bench.accepted("UiSMSP", &remove("four"));
    done(&mut bench, "UiSMSP", &retire_cluster("main"));
    let amend = Command::AmendOrganisation {
        broker: None,
        keys: Some(vec![a_key("new", KeyAlgorithm::P256, P256)]),
    };
    done(&mut bench, "UiSMSP", &amend);
    done(&mut bench, "UiSMSP", &Command::ResumeOrganisation {});
    assert_eq!(
        code(&mut bench, "UiSMSP", &Command::ResumeOrganisation {}),
        "unchanged"
    );
    done(&mut bench, "UiSMSP", &register_cluster("main"));
    bench.leased("UiSMSP", "theirs", &bob(), 60);
}

/// Nobody behind is held up, and nothing is granted.
#[test]
fn whoever_is_suspended_when_the_turn_comes_has_lost_the_place() {
    for (suspended, expected) in [
        ("UiOMSP", [LeaseState::Ended, LeaseState::Active]),
        ("UiSMSP", [LeaseState::Ended, LeaseState::Ended]),
    ] {
        let mut bench = Bench::new();
        let policy = Policy {
            most_waiting: 5,
            ..Policy::exclusive(3_600)
        };
        bench.accepted("UiSMSP", &register_with("texts", policy));
        let held = bench.asked("NTNUMSP", "texts", &alice(), Mode::Exclusive);
        let first = bench.asked("UiOMSP", "texts", &bob(), Mode::Exclusive);
        let second =
            lease_of(&bench.accepted("NTNUMSP", &wait_for("texts", &"c3".repeat(32), Mode::Exclusive)));
        done(&mut bench, suspended, &suspend());
        bench.ended("NTNUMSP", &held, &alice());
        let states = [&first, &second].map(|lease| bench.lease(lease).state);
        assert_eq!(states, expected, "{suspended}");
        let end = bench.lease(&first).end.unwrap();
        assert_eq!((end.cause, end.by.as_str()), (EndCause::Suspended, "NTNUMSP"));
        done(&mut bench, suspended, &Command::ResumeOrganisation {});
        if expected[1] == LeaseState::Ended {
            bench.leased("UiOMSP", "texts", &bob(), 60);
        }
    }
}

#[test]
fn others_suspend_an_organisation_only_together_and_resume_it_together() {
    let mut bench = Bench::new();
    let suspended = |bench: &Bench| is_suspended(bench, "UiSMSP");
    done(&mut bench, "UiOMSP", &vote("UiSMSP", true));
    assert_eq!(code(&mut bench, "UiOMSP", &vote("UiSMSP", true)), "unchanged");
    assert!(!suspended(&bench), "one of three");
    let outcome = done(&mut bench, "NTNUMSP", &vote("UiSMSP", true));
    assert!(suspended(&bench), "two of three");
    let kinds: Vec<_> = outcome.events.into_iter().map(|event| event.kind).collect();
    let (voter, by) = (msp("NTNUMSP"), By::Others);
    assert_eq!(
        kinds,
        [
            EventKind::SuspensionVoted { voter, suspend: true },
            EventKind::OrganisationSuspended { by }
        ]
    );
    assert_eq!(
        code(&mut bench, "UiSMSP", &Command::ResumeOrganisation {}),
        "unchanged",
        "it cannot take back what others decided"
    );
    done(&mut bench, "UiSMSP", &suspend());
    done(&mut bench, "AnyMSP", &vote("UiSMSP", true));
    done(&mut bench, "NTNUMSP", &vote("UiSMSP", false));
    assert!(suspended(&bench), "two of three are left");
    done(&mut bench, "AnyMSP", &vote("UiSMSP", false));
    assert!(suspended(&bench), "its own suspension is its own");
    done(&mut bench, "UiSMSP", &Command::ResumeOrganisation {});
    assert!(!suspended(&bench));
    assert_eq!(code(&mut bench, "AnyMSP", &vote("UiSMSP", false)), "unchanged");
    assert_eq!(code(&mut bench, "AnyMSP", &vote("AnyMSP", true)), "invalid_field");
    for unknown in ["NobodyMSP", "not an msp"] {
        assert_eq!(
            code(&mut bench, "AnyMSP", &vote(unknown, true)),
            "organisation_not_found"
        );
    }
}

#[test]
fn votes_of_suspended_organisations_do_not_count_and_one_alone_never_suspends() {
    let mut bench = Bench::new();
    done(&mut bench, "AnyMSP", &vote("UiSMSP", true));
    done(&mut bench, "AnyMSP", &suspend());
    done(&mut bench, "UiOMSP", &vote("UiSMSP", true));
    assert!(!is_suspended(&bench, "UiSMSP"), "one of two who count");
    done(&mut bench, "NTNUMSP", &vote("UiSMSP", true));
    assert!(is_suspended(&bench, "UiSMSP"));
    let mut pair = Bench::empty(0);
    for organisation in ["UiSMSP", "UiOMSP"] {
        done(&mut pair, organisation, &join());
    }
    done(&mut pair, "UiOMSP", &vote("UiSMSP", true));
    assert!(!is_suspended(&pair, "UiSMSP"), "of two, neither judges the other");
}
