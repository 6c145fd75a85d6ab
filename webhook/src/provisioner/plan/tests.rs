//! Tables of what the provisioner does next for a lease, from what it sees.

use super::*;
use crate::leases::LeaseId;

const T: i64 = 1_800_000_000_000;
const FRESH: Now = Now {
    broker_ms: T,
    fresh: true,
};
const STALE: Now = Now {
    broker_ms: T,
    fresh: false,
};

fn lease(mount: Mount) -> Lease {
    Lease {
        id: LeaseId::parse(&"a".repeat(32)).unwrap(),
        dataset_id: "d".repeat(64).into(),
        dataset_name: "texts".into(),
        owner: "UiSMSP".into(),
        subject: "5ub".into(),
        state: LeaseState::Active,
        granted_at_ms: T - 1000,
        expires_at_ms: T + 60_000,
        max_ttl_seconds: 3600,
        fencing_token: 1,
        mount,
        end_cause: "".into(),
    }
}

fn object(uid: &str) -> Object {
    Object {
        uid: uid.into(),
        deleting: false,
    }
}

fn claim(namespace: &str, bound: bool) -> Claim {
    Claim {
        namespace: namespace.into(),
        object: object("claim"),
        bound,
    }
}

fn volume(claim_uid: &str) -> Volume {
    Volume {
        object: object("volume"),
        claim_uid: claim_uid.into(),
    }
}

fn probe(progress: Progress) -> Option<Probe> {
    Some(Probe {
        object: object("probe"),
        progress,
    })
}

fn passed() -> Option<Probe> {
    probe(Progress::Read(Ok(())))
}

fn complete() -> Observed {
    Observed {
        claims: vec![claim("hub", true)],
        volume: Some(volume("claim")),
        secret: Some(object("secret")),
        ..Observed::default()
    }
}

fn active(mount: Mount, observed: &Observed) -> Vec<Action> {
    plan(
        Standing::Known {
            lease: &lease(mount),
            home: Home::Namespace("hub"),
        },
        observed,
        FRESH,
    )
}

fn drop_probe() -> Action {
    Action::DropProbe { uid: "probe".into() }
}

fn holder(namespace: &str) -> Holder {
    Holder {
        namespace: namespace.into(),
        name: "job".into(),
        uid: "pod".into(),
        ends_within: None,
    }
}

fn end_pods(namespaces: &[&str]) -> Action {
    Action::EndPods {
        known: Vec::new(),
        namespaces: namespaces.iter().map(|n| (*n).into()).collect(),
    }
}

fn delete_claim(namespace: &str) -> Action {
    Action::DeleteClaim {
        namespace: namespace.into(),
        uid: "claim".into(),
    }
}

#[test]
fn a_new_lease_is_made_mountable_step_by_step() {
    let mut seen = Observed::default();
    assert_eq!(active(Mount::Pending, &seen), [Action::StartProbe]);

    seen.probe = probe(Progress::Running {
        age_seconds: 3,
        status: "Pending".into(),
    });
    assert_eq!(active(Mount::Pending, &seen), []);

    seen.probe = probe(Progress::Ended);
    assert_eq!(active(Mount::Pending, &seen), [Action::ReadProbe]);

    seen.probe = passed();
    let make_claim = Action::CreateClaim {
        namespace: "hub".into(),
    };
    assert_eq!(active(Mount::Pending, &seen), [Action::CreateSecret, make_claim]);

    seen.secret = Some(object("secret"));
    seen.claims = vec![claim("hub", false)];
    let make_volume = Action::CreateVolume {
        namespace: "hub".into(),
        claim_uid: "claim".into(),
    };
    assert_eq!(active(Mount::Pending, &seen), [make_volume]);

    seen.volume = Some(volume("claim"));
    assert_eq!(
        active(Mount::Pending, &seen),
        [],
        "nothing is reported before the claim is bound"
    );

    seen.claims = vec![claim("hub", true)];
    assert_eq!(active(Mount::Pending, &seen), [Action::ReportReady]);
    assert_eq!(active(Mount::Ready, &seen), [drop_probe()]);

    seen.probe = None;
    assert_eq!(active(Mount::Ready, &seen), []);
}

#[test]
fn whatever_is_missing_of_a_mountable_lease_is_made_again() {
    let mut seen = complete();
    seen.volume = None;
    let make = Action::CreateVolume {
        namespace: "hub".into(),
        claim_uid: "claim".into(),
    };
    assert_eq!(active(Mount::Ready, &seen), [make]);

    let mut seen = complete();
    seen.claims.clear();
    assert_eq!(
        active(Mount::Ready, &seen),
        [Action::CreateClaim {
            namespace: "hub".into()
        }]
    );

    let mut seen = complete();
    seen.secret = None;
    assert_eq!(
        active(Mount::Ready, &seen),
        [Action::StartProbe],
        "what starts anew is looked at anew"
    );

    let mut seen = complete();
    seen.volume = Some(volume("a former claim"));
    assert_eq!(
        active(Mount::Ready, &seen),
        [Action::DeleteVolume { uid: "volume".into() }]
    );
}

#[test]
fn a_probe_whose_output_was_lost_before_the_report_runs_again() {
    assert_eq!(active(Mount::Pending, &complete()), [Action::StartProbe]);
}

#[test]
fn a_finding_is_reported_once_and_looked_at_again() {
    let finding = Finding::new(Code::PathMissing, "it is missing");
    let seen = Observed {
        probe: probe(Progress::Read(Err(finding.clone()))),
        ..Observed::default()
    };
    assert_eq!(
        active(Mount::Pending, &seen),
        [drop_probe(), Action::ReportFailed(finding.clone())]
    );
    let known = Mount::Failed("it is missing".into());
    assert_eq!(
        active(known.clone(), &seen),
        [drop_probe(), Action::LookAgainLater]
    );
    assert_eq!(
        active(Mount::Failed("another".into()), &seen),
        [drop_probe(), Action::ReportFailed(finding)]
    );
    assert_eq!(
        active(known, &Observed::default()),
        [Action::StartProbe],
        "so that a repaired directory heals"
    );
}

#[test]
fn a_node_that_does_not_answer_becomes_a_finding() {
    let status = "ContainerCreating".to_owned();
    let seen = Observed {
        probe: probe(Progress::Running {
            age_seconds: PROBE_DEADLINE_SECONDS,
            status,
        }),
        ..Observed::default()
    };
    let actions = active(Mount::Pending, &seen);
    assert_eq!(actions[0], drop_probe());
    assert!(
        matches!(&actions[1], Action::ReportFailed(f) if f.code == Code::ProbeFailed),
        "{actions:?}"
    );
}

#[test]
fn a_claim_in_another_namespace_is_removed_with_its_pods_before_a_new_one_is_made() {
    let mut seen = complete();
    seen.claims = vec![claim("former", true)];
    assert_eq!(
        active(Mount::Ready, &seen),
        [delete_claim("former"), end_pods(&["former"])]
    );
}

#[test]
fn a_claim_that_is_being_deleted_is_waited_for() {
    let mut seen = complete();
    seen.claims[0].object.deleting = true;
    assert_eq!(active(Mount::Ready, &seen), []);
}

#[test]
fn a_lease_that_is_over_is_taken_down_in_order_and_confirmed_last() {
    let mut over = lease(Mount::Ready);
    over.state = LeaseState::Ending;
    let next = |seen: &Observed| {
        plan(
            Standing::Known {
                lease: &over,
                home: Home::Namespace("hub"),
            },
            seen,
            FRESH,
        )
    };

    let mut seen = complete();
    seen.probe = passed();
    assert_eq!(
        next(&seen),
        [drop_probe(), delete_claim("hub"), end_pods(&["hub"])]
    );

    seen.probe = None;
    seen.claims[0].object.deleting = true;
    assert_eq!(next(&seen), [end_pods(&["hub"])], "until no pod holds it");

    seen.claims.clear();
    seen.holders = vec![holder("hub")];
    let known = Action::EndPods {
        known: vec![holder("hub")],
        namespaces: vec!["hub".into()],
    };
    assert_eq!(next(&seen), [known]);

    seen.holders.clear();
    assert_eq!(next(&seen), [Action::DeleteVolume { uid: "volume".into() }]);

    seen.volume.as_mut().unwrap().object.deleting = true;
    assert_eq!(
        next(&seen),
        [],
        "the Secret goes after the volume that may name it"
    );

    seen.volume = None;
    assert_eq!(next(&seen), [Action::DeleteSecret { uid: "secret".into() }]);

    seen.secret = None;
    assert_eq!(next(&seen), [Action::ConfirmEnd]);
}

#[test]
fn a_lease_that_never_was_mounted_is_confirmed_at_once() {
    let mut over = lease(Mount::Pending);
    over.state = LeaseState::Ending;
    let known = Standing::Known {
        lease: &over,
        home: Home::Unbound,
    };
    assert_eq!(plan(known, &Observed::default(), FRESH), [Action::ConfirmEnd]);
}

#[test]
fn time_alone_ends_access_but_does_not_end_the_lease() {
    let mut expired = lease(Mount::Ready);
    expired.expires_at_ms = T;
    let known = Standing::Known {
        lease: &expired,
        home: Home::Namespace("hub"),
    };
    assert_eq!(
        plan(known, &complete(), FRESH),
        [delete_claim("hub"), end_pods(&["hub"])]
    );
    assert_eq!(plan(known, &Observed::default(), FRESH), []);
}

#[test]
fn an_old_view_decides_only_what_no_later_word_can_undo() {
    let current = lease(Mount::Ready);
    let known = Standing::Known {
        lease: &current,
        home: Home::Namespace("hub"),
    };
    assert_eq!(plan(known, &Observed::default(), STALE), []);
    assert_eq!(plan(Standing::Unknown, &complete(), STALE), []);
    let unenforced = Standing::Known {
        lease: &current,
        home: Home::Unenforced,
    };
    assert_eq!(plan(unenforced, &complete(), STALE), []);

    let mut expired = lease(Mount::Ready);
    expired.expires_at_ms = T;
    let known = Standing::Known {
        lease: &expired,
        home: Home::Namespace("hub"),
    };
    assert_eq!(
        plan(known, &complete(), STALE),
        [delete_claim("hub"), end_pods(&["hub"])]
    );

    let mut ending = lease(Mount::Ready);
    ending.state = LeaseState::Ending;
    let known = Standing::Known {
        lease: &ending,
        home: Home::Unbound,
    };
    assert_eq!(
        plan(known, &complete(), STALE),
        [delete_claim("hub"), end_pods(&["hub"])]
    );
    assert_eq!(
        plan(known, &Observed::default(), STALE),
        [],
        "the broker confirms when it is back"
    );
}

#[test]
fn orphans_are_taken_down_and_doubt_does_nothing() {
    assert_eq!(
        plan(Standing::Unknown, &complete(), FRESH),
        [delete_claim("hub"), end_pods(&["hub"])]
    );
    assert_eq!(plan(Standing::Unknown, &Observed::default(), FRESH), []);
    assert_eq!(plan(Standing::Unsure, &complete(), FRESH), []);
}

#[test]
fn no_claim_is_made_or_stays_where_nobody_enforces() {
    let current = lease(Mount::Ready);
    let unenforced = Standing::Known {
        lease: &current,
        home: Home::Unenforced,
    };
    assert_eq!(plan(unenforced, &Observed::default(), FRESH), []);
    assert_eq!(
        plan(unenforced, &complete(), FRESH),
        [delete_claim("hub"), end_pods(&["hub"])]
    );
}

#[test]
fn a_person_who_is_not_bound_just_now_keeps_what_there_is_and_gets_nothing_new() {
    let current = lease(Mount::Ready);
    let unbound = Standing::Known {
        lease: &current,
        home: Home::Unbound,
    };
    assert_eq!(plan(unbound, &complete(), FRESH), []);
    assert_eq!(plan(unbound, &Observed::default(), FRESH), []);
}
