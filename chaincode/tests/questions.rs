//! What the ledger answers to questions, page by page.

#[path = "support/bench.rs"]
mod bench;

use bench::{Bench, alice, bob, release, remove};
use leasehold_chaincode::{EndCause, EventKind, LeaseState, PageRequest, query};

#[test]
fn leases_are_found_by_person_state_expiry_and_dataset() {
    let mut bench = Bench::new();
    let all = PageRequest::default();
    let texts = bench.registered("UiSMSP", "texts");
    bench.registered("UiSMSP", "scans");
    bench.registered("UiSMSP", "waves");
    let first = bench.leased("UiSMSP", "texts", &alice(), 600);
    let second = bench.leased("UiSMSP", "scans", &alice(), 60);
    let third = bench.leased("UiSMSP", "waves", &bob(), 300);
    bench.accepted("UiSMSP", &release(&third, &bob()));
    let ids = |leases: Vec<leasehold_chaincode::Lease>| -> Vec<String> {
        leases.into_iter().map(|lease| lease.id.into()).collect()
    };
    let of = |bench: &Bench, subject: &str, state| {
        let mut found = ids(
            query::leases_of(&bench.state, &subject.parse().unwrap(), state, &all)
                .unwrap()
                .items,
        );
        found.sort();
        found
    };
    let mut both = vec![first.clone(), second.clone()];
    both.sort();
    assert_eq!(of(&bench, &alice(), None), both);
    assert_eq!(of(&bench, &bob(), Some(LeaseState::Active)), Vec::<String>::new());
    assert_eq!(of(&bench, &bob(), Some(LeaseState::Ending)), vec![third.clone()]);
    let active = ids(query::leases_in(&bench.state, LeaseState::Active, &all)
        .unwrap()
        .items);
    assert_eq!(
        active,
        vec![second.clone(), first.clone()],
        "the first to expire first"
    );
    let due = |now_ms| {
        ids(query::leases_due(&bench.state, LeaseState::Active, now_ms, &all)
            .unwrap()
            .items)
    };
    let expires_at_ms = bench.lease(&second).due_at_ms();
    assert_eq!(due(expires_at_ms - 1), Vec::<String>::new());
    assert_eq!(due(expires_at_ms), vec![second]);
    assert_eq!(
        ids(query::leases_on(&bench.state, &texts, &all).unwrap().items),
        vec![first.clone()]
    );
    assert_eq!(ids(query::holders(&bench.state, &texts).unwrap()), vec![first]);
}

#[test]
fn the_catalogue_comes_page_by_page_in_the_order_of_names() {
    let mut bench = Bench::new();
    let mut names: Vec<String> = ["a", "a-b", "a0", "b", "ba", "z9"].map(str::to_owned).to_vec();
    for name in names.iter().rev() {
        bench.registered(if name.starts_with('a') { "UiSMSP" } else { "UiOMSP" }, name);
    }
    names.sort();
    for limit in 1..=7 {
        let (mut found, mut page) = (Vec::new(), PageRequest { after: None, limit });
        loop {
            let part = query::datasets(&bench.state, &page).unwrap();
            assert!(part.items.len() <= limit);
            found.extend(part.items.into_iter().map(|entry| entry.dataset.name.to_string()));
            match part.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, names, "in pages of {limit}");
    }
    let own = query::datasets_of(&bench.state, &"UiOMSP".parse().unwrap(), &PageRequest::default()).unwrap();
    assert_eq!(own.items.len(), 3);
}

#[test]
fn a_cursor_cannot_leave_its_list() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    for after in ["", "zzz", "../lease/", "\u{10FFFF}", "texts"] {
        let page = PageRequest {
            after: Some(after.to_owned()),
            limit: 10,
        };
        let found = query::datasets(&bench.state, &page).unwrap();
        assert!(found.items.len() <= 1 && found.next.is_none(), "after {after:?}");
    }
}

#[test]
fn a_dataset_remembers_everything_that_happened_to_it() {
    let mut bench = Bench::new();
    let dataset = bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    bench.ended("UiOMSP", &lease, &alice());
    bench.accepted("UiSMSP", &remove("texts"));
    let all = PageRequest::default();
    let history = query::history(&bench.state, &dataset, &all).unwrap().items;
    let told: Vec<_> = history
        .iter()
        .map(|entry| (entry.revision, entry.by.as_str(), &entry.kind))
        .collect();
    assert_eq!(
        told,
        vec![
            (1, "UiSMSP", &EventKind::DatasetRegistered {}),
            (2, "UiOMSP", &EventKind::LeaseGranted {}),
            (
                3,
                "UiOMSP",
                &EventKind::LeaseEnding {
                    cause: EndCause::Released
                }
            ),
            (
                4,
                "UiOMSP",
                &EventKind::LeaseEnded {
                    cause: EndCause::Released
                }
            ),
            (5, "UiSMSP", &EventKind::DatasetRetired {}),
        ]
    );
    let of_lease = query::lease_history(&bench.state, &lease.parse().unwrap(), &all)
        .unwrap()
        .items;
    assert_eq!(of_lease, history[1..4]);
}
