//! The view's promises, message by message.

use super::*;
use machines::{BindingRemoved, Bookmark, Heartbeat};

fn lease(digit: char, dataset: &str, subject: &str) -> machines::Lease {
    machines::Lease {
        lease_id: digit.to_string().repeat(32),
        dataset_id: "d".repeat(64),
        dataset_name: dataset.into(),
        owner: "UiSMSP".into(),
        subject: subject.into(),
        state: machines::LeaseState::Active.into(),
        granted_at_ms: 0,
        expires_at_ms: 10_000,
        max_ttl_seconds: 60,
        fencing_token: 1,
        mount: machines::MountState::Ready.into(),
        ..Default::default()
    }
}

fn binding(uid: &str, subject: &str) -> machines::Binding {
    let account = |name: &str, uid: &str| {
        Some(machines::ServiceAccount {
            namespace: "hub".into(),
            name: name.into(),
            uid: uid.into(),
        })
    };
    machines::Binding {
        subject: subject.into(),
        notebook: account("nb-alice", uid),
        executor: account("wf-alice", "executor-uid"),
        home: Some(machines::Home {
            claim: "claim-alice".into(),
            sub_path: String::new(),
            mount_path: "/home/jovyan".into(),
        }),
    }
}

fn message(now_ms: i64, change: Change) -> machines::WatchLeasesResponse {
    machines::WatchLeasesResponse {
        revision: 1,
        now_ms,
        change: Some(change),
    }
}

fn synced_with(leases: Vec<machines::Lease>) -> (LeaseIndex, Instant) {
    let index = LeaseIndex::new();
    let start = Instant::now();
    index.begin_snapshot();
    for lease in leases {
        index.apply(message(1_000, Change::Lease(lease)), start).unwrap();
    }
    index
        .apply(message(1_000, Change::Binding(binding("uid-1", "s1"))), start)
        .unwrap();
    index
        .apply(message(1_000, Change::Bookmark(Bookmark {})), start)
        .unwrap();
    (index, start)
}

#[test]
fn nothing_is_visible_before_the_first_bookmark() {
    let index = LeaseIndex::new();
    index.begin_snapshot();
    index
        .apply(message(1, Change::Lease(lease('a', "uis", "s1"))), Instant::now())
        .unwrap();
    assert!(!index.synced());
    assert!(index.is_empty());
    assert_eq!(index.age(Instant::now()), Duration::MAX);
}

#[test]
fn a_snapshot_replaces_the_view_at_its_bookmark_and_not_before() {
    let (index, start) = synced_with(vec![lease('a', "uis", "s1")]);
    let later = start + Duration::from_secs(9);
    index.begin_snapshot();
    index
        .apply(message(2_000, Change::Lease(lease('b', "other", "s1"))), later)
        .unwrap();
    assert!(index.lease(LeaseId::parse(&"a".repeat(32)).unwrap()).is_some());
    assert_eq!(
        index.age(later),
        Duration::from_secs(9),
        "half a snapshot does not make the view younger"
    );
    index
        .apply(message(2_000, Change::Bookmark(Bookmark {})), later)
        .unwrap();
    assert!(index.lease(LeaseId::parse(&"a".repeat(32)).unwrap()).is_none());
    assert_eq!(index.leases_of("s1").len(), 1);
    assert!(index.binding("uid-1").is_none());
    assert_eq!(index.age(later), Duration::ZERO);
}

#[test]
fn a_heartbeat_keeps_the_view_young_and_carries_the_brokers_clock() {
    let (index, start) = synced_with(vec![]);
    let beat = start + Duration::from_secs(5);
    index
        .apply(message(77_000, Change::Heartbeat(Heartbeat {})), beat)
        .unwrap();
    assert_eq!(
        index.broker_now_ms(beat + Duration::from_millis(250)),
        Some(77_250)
    );
    assert_eq!(
        index.age(beat + Duration::from_millis(250)),
        Duration::from_millis(250)
    );
}

#[test]
fn a_change_alone_does_not_keep_the_view_young_for_more_may_wait_behind_it() {
    let (index, start) = synced_with(vec![]);
    let later = start + Duration::from_secs(5);
    index
        .apply(message(6_000, Change::Lease(lease('a', "uis", "s1"))), later)
        .unwrap();
    assert_eq!(index.age(later), Duration::from_secs(5));
    assert_eq!(index.leases_of("s1").len(), 1);
}

#[test]
fn an_ending_lease_stays_visible_and_is_not_active_an_ended_one_is_gone() {
    let (index, start) = synced_with(vec![lease('a', "uis", "s1"), lease('b', "cat", "s1")]);
    let names: Vec<_> = index
        .leases_of("s1")
        .iter()
        .map(|l| l.dataset_name.clone())
        .collect();
    assert_eq!(names, ["cat".into(), "uis".into()]);
    let mut ending = lease('a', "uis", "s1");
    ending.state = machines::LeaseState::Ending.into();
    index
        .apply(message(2_000, Change::Lease(ending.clone())), start)
        .unwrap();
    let (_, leases) = index.person("uid-1").unwrap();
    assert_eq!(leases.iter().filter(|l| l.is_active(2_000)).count(), 1);
    ending.state = machines::LeaseState::Ended.into();
    index.apply(message(2_000, Change::Lease(ending)), start).unwrap();
    assert_eq!(index.leases_of("s1").len(), 1);
}

#[test]
fn an_expired_lease_is_not_active() {
    let (index, _) = synced_with(vec![lease('a', "uis", "s1")]);
    let lease = index.lease(LeaseId::parse(&"a".repeat(32)).unwrap()).unwrap();
    assert!(lease.is_active(9_999));
    assert!(!lease.is_active(10_000));
}

#[test]
fn a_removed_binding_is_gone() {
    let (index, start) = synced_with(vec![]);
    let removed = BindingRemoved {
        notebook_uid: "uid-1".into(),
    };
    index
        .apply(message(1, Change::BindingRemoved(removed)), start)
        .unwrap();
    assert!(index.person("uid-1").is_none());
}

#[test]
fn what_could_become_a_foreign_path_is_refused_and_the_former_entry_is_forgotten() {
    let (index, start) = synced_with(vec![lease('a', "uis", "s1")]);
    for name in ["../etc", "a/b", "", "UIS", "-a", "a\0"] {
        let refused = index.apply(message(1, Change::Lease(lease('a', name, "s1"))), start);
        assert!(refused.is_err(), "{name:?}");
        assert!(index.leases_of("s1").is_empty());
    }
    for path in ["relative", "/", "/a/../b", "/a//b", "/a/"] {
        let mut bad = binding("uid-1", "s1");
        bad.home.as_mut().unwrap().mount_path = path.into();
        assert!(
            index.apply(message(1, Change::Binding(bad)), start).is_err(),
            "{path:?}"
        );
        assert!(index.binding("uid-1").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_break_the_snapshot_is_taken_anew_and_the_old_view_stays_until_then() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let index = LeaseIndex::new();
    let connections = AtomicUsize::new(0);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let mut changes = index.changes();
    let run = follow_stream(
        || {
            let nth = connections.fetch_add(1, Ordering::Relaxed);
            let digit = if nth == 0 { 'a' } else { 'b' };
            let messages = vec![
                Ok(message(1, Change::Lease(lease(digit, "uis", "s1")))),
                Ok(message(1, Change::Bookmark(Bookmark {}))),
                Err("cut"),
            ];
            futures::stream::iter(messages)
        },
        &index,
        shutdown.clone(),
    );
    let watch = async {
        let is = |digit: char| {
            index
                .lease(LeaseId::parse(&digit.to_string().repeat(32)).unwrap())
                .is_some()
        };
        changes.changed().await.unwrap();
        assert!(is('a') && !is('b'));
        changes.changed().await.unwrap();
        assert!(is('b') && !is('a'));
        shutdown.cancel();
    };
    tokio::join!(run, watch);
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}
