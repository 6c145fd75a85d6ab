//! What the contract promises, one case after the other.

#[path = "support/bench.rs"]
mod bench;

use bench::{Bench, alice, bob, finding, register};
use leasehold_chaincode::{
    Ciphertext, Command, DatasetId, DatasetRef, EndCause, EventKind, LeaseState, MountReport, PageRequest,
    Refusal, TxId, limit, query,
};

#[test]
fn a_registered_dataset_is_found_by_id_and_by_name() {
    let mut bench = Bench::new();
    let id = bench.registered("UiSMSP", "texts");
    for reference in [id.as_str(), "texts"] {
        let reference = DatasetRef::parse(reference).unwrap();
        let entry = query::dataset(&bench.state, &reference).unwrap().unwrap();
        assert_eq!((entry.dataset.owner.as_str(), &entry.dataset.id), ("UiSMSP", &id));
        assert_eq!((entry.status.lease, entry.status.fencing_token), (None, 0));
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
fn a_name_in_use_is_taken_and_free_again_once_retired() {
    let mut bench = Bench::new();
    let first = bench.registered("UiSMSP", "texts");
    assert_eq!(
        bench.refused("UiOMSP", &register("texts")),
        Refusal::DatasetNameTaken { name: "texts".to_owned() }
    );
    bench.accepted("UiSMSP", &Command::RemoveDataset { dataset: "texts".to_owned() });
    let second = bench.registered("UiOMSP", "texts");
    assert_ne!(first, second);
    let retired = query::dataset(&bench.state, &first.clone().into()).unwrap().unwrap();
    assert_eq!(retired.dataset.retired_at_ms, Some(bench.now_ms));
    assert_eq!(query::volume(&bench.state, &first).unwrap(), None, "the ciphertext has left the state");
}

#[test]
fn only_its_owner_removes_a_dataset_and_only_while_nobody_leases_it() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let remove = Command::RemoveDataset { dataset: "texts".to_owned() };
    assert_eq!(bench.refused("UiOMSP", &remove), Refusal::NotOwner { owner: "UiSMSP".to_owned() });
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    assert_eq!(bench.refused("UiSMSP", &remove).code(), "dataset_leased");
    bench.accepted("UiOMSP", &release(&lease, &alice()));
    assert_eq!(bench.refused("UiSMSP", &remove).code(), "dataset_leased", "an ending lease still keeps it");
    bench.accepted("UiOMSP", &Command::ConfirmEnd { lease });
    bench.accepted("UiSMSP", &remove);
    assert_eq!(bench.refused("UiSMSP", &remove), Refusal::DatasetNotFound {});
    assert_eq!(bench.refused("UiSMSP", &take("texts", &alice(), 60)), Refusal::DatasetNotFound {});
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
        assert_eq!(refusal, Refusal::LeaseConflict { name, lease_state, expires_at_ms });
    }
    bench.accepted("UiSMSP", &release(&lease, &alice()));
    let refusal = bench.refused("UiOMSP", &take("texts", &bob(), 60));
    assert!(matches!(refusal, Refusal::LeaseConflict { lease_state: LeaseState::Ending, .. }), "{refusal}");
    bench.accepted("UiSMSP", &Command::ConfirmEnd { lease });
    bench.leased("UiOMSP", "texts", &bob(), 60);
}

#[test]
fn time_alone_ends_nothing() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    bench.leased("UiSMSP", "texts", &alice(), 60);
    bench.now_ms += 365 * 24 * 3_600 * 1_000;
    assert_eq!(bench.refused("UiOMSP", &take("texts", &bob(), 60)).code(), "lease_conflict");
}

#[test]
fn the_fencing_token_grows_by_one_with_every_lease_of_the_dataset() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    bench.registered("UiSMSP", "scans");
    for expected in 1..=3 {
        let id = bench.leased("UiSMSP", "texts", &alice(), 60);
        assert_eq!(bench.lease(&id).fencing_token, expected);
        bench.ended("UiSMSP", &id, &alice());
    }
    let id = bench.leased("UiSMSP", "scans", &alice(), 60);
    assert_eq!(bench.lease(&id).fencing_token, 1);
}

#[test]
fn anothers_lease_and_an_unknown_one_are_refused_alike() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiSMSP", "texts", &alice(), 60);
    let unknown = "0".repeat(32);
    for (msp, lease, subject, why) in [
        ("UiSMSP", lease.as_str(), bob(), "another person"),
        ("UiOMSP", lease.as_str(), alice(), "another organisation that read the pseudonym on the ledger"),
        ("UiSMSP", unknown.as_str(), alice(), "no such lease"),
        ("UiSMSP", "not an id", alice(), "no id at all"),
        ("UiSMSP", lease.as_str(), "not a pseudonym".to_owned(), "nobody"),
    ] {
        assert_eq!(bench.refused(msp, &release(lease, &subject)), Refusal::LeaseNotFound {}, "{why}");
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
        assert_eq!(bench.refused("AnyMSP", &expire), Refusal::NotExpired { from_ms, now_ms });
        bench.now_ms = from_ms;
        bench.accepted("AnyMSP", &expire);
        let ended = bench.lease(&lease);
        assert_eq!(ended.state, LeaseState::Ending);
        let end = ended.end.unwrap();
        assert_eq!((end.cause, end.at_ms, end.by.as_str()), (EndCause::Expired, from_ms, "AnyMSP"));
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
    assert_eq!(bench.refused("UiSMSP", &confirm), Refusal::LeaseNotEnding { lease_state });
    bench.accepted("UiSMSP", &release(&lease, &alice()));
    let lease_state = LeaseState::Ending;
    assert_eq!(bench.refused("UiSMSP", &release(&lease, &alice())), Refusal::LeaseNotActive { lease_state });
    bench.now_ms += 1_000;
    bench.accepted("UiSMSP", &confirm);
    let ended = bench.lease(&lease);
    assert_eq!(ended.state, LeaseState::Ended);
    assert_eq!(ended.end.unwrap().confirmed_at_ms, Some(bench.now_ms));
    let lease_state = LeaseState::Ended;
    assert_eq!(bench.refused("UiSMSP", &confirm), Refusal::LeaseNotEnding { lease_state });
    assert_eq!(bench.refused("UiSMSP", &release(&lease, &alice())), Refusal::LeaseNotActive { lease_state });
}

#[test]
fn only_the_cluster_of_a_lease_reports_on_it() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    let ready = Command::ReportMount { lease: lease.clone(), report: MountReport::Ready {} };
    let refusal = Refusal::NotCluster { cluster_msp: "UiOMSP".to_owned() };
    assert_eq!(bench.refused("UiSMSP", &ready), refusal, "not even the dataset's owner");
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
        report: MountReport::Failed { finding: finding("path_missing") },
    };
    let outcome = bench.accepted("UiSMSP", &failed);
    assert_eq!(outcome.event.kind, EventKind::MountFailed { code: "path_missing".to_owned() });
    let status = |bench: &Bench| {
        query::dataset(&bench.state, &dataset.clone().into()).unwrap().unwrap().status
    };
    assert_eq!(status(&bench).finding, Some(finding("path_missing")));
    assert_eq!(bench.lease(&lease).state, LeaseState::Active, "a finding ends nothing");
    assert_eq!(bench.refused("UiSMSP", &failed), Refusal::MountUnchanged {});
    bench.ended("UiSMSP", &lease, &alice());
    assert!(status(&bench).finding.is_some(), "the owner still sees it after the lease");
    let lease = bench.leased("UiSMSP", "texts", &bob(), 60);
    let ready = Command::ReportMount { lease: lease.clone(), report: MountReport::Ready {} };
    bench.accepted("UiSMSP", &ready);
    assert_eq!(status(&bench).finding, None);
    bench.accepted("UiSMSP", &release(&lease, &bob()));
    assert_eq!(bench.refused("UiSMSP", &failed_for(&lease)).code(), "lease_not_active");
}

#[test]
fn a_field_out_of_bounds_is_refused_by_its_name() {
    let with = |change: fn(&mut Fields)| {
        let mut fields = Fields::default();
        change(&mut fields);
        fields.command()
    };
    let cases: Vec<(&str, Command)> = vec![
        ("name", with(|f| f.name.clear())),
        ("name", with(|f| f.name = "-texts".to_owned())),
        ("name", with(|f| f.name = "texts-".to_owned())),
        ("name", with(|f| f.name = "Texts".to_owned())),
        ("name", with(|f| f.name = "a/b".to_owned())),
        ("name", with(|f| f.name = "..".to_owned())),
        ("name", with(|f| f.name = "täxt".to_owned())),
        ("name", with(|f| f.name = "a".repeat(limit::NAME_CHARS + 1))),
        ("title", with(|f| f.title = "  ".to_owned())),
        ("title", with(|f| f.title = "two\nlines".to_owned())),
        ("title", with(|f| f.title = "é".repeat(limit::TITLE_CHARS + 1))),
        ("description", with(|f| f.description = "é".repeat(limit::DESCRIPTION_CHARS + 1))),
        ("description", with(|f| f.description = "a\0b".to_owned())),
        ("max_ttl_seconds", with(|f| f.max_ttl_seconds = limit::MIN_TTL_SECONDS - 1)),
        ("max_ttl_seconds", with(|f| f.max_ttl_seconds = limit::MAX_TTL_SECONDS + 1)),
        ("volume_ciphertext", with(|f| f.ciphertext.clear())),
        ("volume_ciphertext", with(|f| f.ciphertext = "====".to_owned())),
        ("volume_ciphertext", with(|f| f.ciphertext = "AAA".to_owned())),
        ("volume_ciphertext", with(|f| f.ciphertext = "A===".to_owned())),
        ("volume_ciphertext", with(|f| f.ciphertext = "{\"path\":\"/srv\"}A".to_owned())),
        ("volume_ciphertext", with(|f| f.ciphertext = "A".repeat(limit::CIPHERTEXT_CHARS + 4))),
        ("key_version", with(|f| f.key_version = 0)),
        ("subject", take("texts", "alice@example.com", 60)),
        ("subject", take("texts", &alice().to_uppercase(), 60)),
        ("ttl_seconds", take("texts", &alice(), limit::MIN_TTL_SECONDS - 1)),
        ("ttl_seconds", take("texts", &alice(), 3_601)),
        ("ttl_seconds", take("texts", &alice(), u64::MAX)),
        ("finding.code", report("Path Missing", "a sentence")),
        ("finding.code", report("", "a sentence")),
        ("finding.message", report("path_missing", &"é".repeat(limit::FINDING_MESSAGE_CHARS + 1))),
        ("finding.message", report("path_missing", "two\nlines")),
    ];
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    for (expected, command) in cases {
        match bench.refused("UiSMSP", &command) {
            Refusal::InvalidField { field, .. } => assert_eq!(field, expected, "{command:?}"),
            other => panic!("{command:?} was refused with {other:?}"),
        }
    }
}

#[test]
fn bounds_are_inclusive() {
    let mut bench = Bench::new();
    let fields = Fields {
        name: "a".repeat(limit::NAME_CHARS),
        title: "é".repeat(limit::TITLE_CHARS),
        description: "é".repeat(limit::DESCRIPTION_CHARS),
        max_ttl_seconds: limit::MAX_TTL_SECONDS,
        ciphertext: "A".repeat(limit::CIPHERTEXT_CHARS),
        key_version: u32::MAX,
    };
    let name = fields.name.clone();
    bench.accepted("UiSMSP", &fields.command());
    bench.leased("UiSMSP", &name, &alice(), limit::MAX_TTL_SECONDS);
}

#[test]
fn a_lease_without_a_time_gets_the_datasets_longest() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let take = Command::Lease { dataset: "texts".to_owned(), subject: alice(), ttl_seconds: None };
    let outcome = bench.accepted("UiSMSP", &take);
    let lease = outcome.result.lease().unwrap();
    assert_eq!(lease.expires_at_ms - lease.granted_at_ms, 3_600_000);
}

#[test]
fn a_transaction_of_an_unbelievable_time_is_refused() {
    let mut bench = Bench::new();
    for now_ms in [-1, i64::MIN, limit::MAX_TIMESTAMP_MS + 1, i64::MAX] {
        bench.now_ms = now_ms;
        let refusal = bench.refused("UiSMSP", &register("texts"));
        assert!(matches!(refusal, Refusal::InvalidField { ref field, .. } if field == "timestamp_ms"));
    }
}

#[test]
fn a_transaction_id_makes_one_dataset_and_one_lease() {
    let mut bench = Bench::new();
    let tx_id = TxId::new("the-same").unwrap();
    bench.execute_as(&tx_id, "UiSMSP", &register("texts")).unwrap();
    let again = bench.execute_as(&tx_id, "UiSMSP", &register("scans"));
    assert_eq!(again.unwrap_err().code(), "transaction_reused");
    bench.execute_as(&tx_id, "UiSMSP", &take("texts", &alice(), 60)).unwrap();
    bench.registered("UiSMSP", "scans");
    let again = bench.execute_as(&tx_id, "UiSMSP", &take("scans", &alice(), 60));
    assert_eq!(again.unwrap_err().code(), "transaction_reused");
}

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
        let mut found = ids(query::leases_of(&bench.state, &subject.parse().unwrap(), state, &all).unwrap().items);
        found.sort();
        found
    };
    let mut both = vec![first.clone(), second.clone()];
    both.sort();
    assert_eq!(of(&bench, &alice(), None), both);
    assert_eq!(of(&bench, &bob(), Some(LeaseState::Active)), Vec::<String>::new());
    assert_eq!(of(&bench, &bob(), Some(LeaseState::Ending)), vec![third.clone()]);
    let active = ids(query::leases_in(&bench.state, LeaseState::Active, &all).unwrap().items);
    assert_eq!(active, vec![second.clone(), first.clone()], "the first to expire first");
    let due = |now_ms| ids(query::leases_due(&bench.state, now_ms, &all).unwrap().items);
    let expires_at_ms = bench.lease(&second).expires_at_ms;
    assert_eq!(due(expires_at_ms - 1), Vec::<String>::new());
    assert_eq!(due(expires_at_ms), vec![second]);
    assert_eq!(ids(query::leases_on(&bench.state, &texts, &all).unwrap().items), vec![first.clone()]);
    let active = query::active_lease(&bench.state, &texts).unwrap().unwrap();
    assert_eq!(active.id.as_str(), first);
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
        let page = PageRequest { after: Some(after.to_owned()), limit: 10 };
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
    bench.accepted("UiSMSP", &Command::RemoveDataset { dataset: "texts".to_owned() });
    let all = PageRequest::default();
    let history = query::history(&bench.state, &dataset, &all).unwrap().items;
    let told: Vec<_> = history.iter().map(|entry| (entry.revision, entry.by.as_str(), &entry.kind)).collect();
    assert_eq!(
        told,
        vec![
            (1, "UiSMSP", &EventKind::DatasetRegistered {}),
            (2, "UiOMSP", &EventKind::LeaseGranted {}),
            (3, "UiOMSP", &EventKind::LeaseEnding { cause: EndCause::Released }),
            (4, "UiOMSP", &EventKind::LeaseEnded {}),
            (5, "UiSMSP", &EventKind::DatasetRetired {}),
        ]
    );
    let of_lease = query::lease_history(&bench.state, &lease.parse().unwrap(), &all).unwrap().items;
    assert_eq!(of_lease, history[1..4]);
}

#[test]
fn a_command_reads_as_it_was_written_and_refuses_what_it_does_not_know() {
    let command = take("texts", &alice(), 60);
    let text = serde_json::to_string(&command).unwrap();
    assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command);
    for text in [
        r#"{"command":"lease","dataset":"texts","subject":"a","owner":"UiSMSP"}"#,
        r#"{"command":"grant_everything"}"#,
        r#"{"command":"report_mount","lease":"a","report":{"mount":"ready","finding":{}}}"#,
        r#"{"dataset":"texts"}"#,
    ] {
        assert!(serde_json::from_str::<Command>(text).is_err(), "{text}");
    }
}

#[test]
fn a_record_of_another_schema_or_a_damaged_one_is_reported_not_guessed() {
    use leasehold_chaincode::{MemoryState, StateError, Write, key};
    let mut bench = Bench::new();
    let id = bench.registered("UiSMSP", "texts");
    let place = key::dataset(&id);
    let reading = |value: &str| {
        let mut state: MemoryState = bench.state.clone();
        state.apply(&[Write::Put { key: place.clone(), value: value.as_bytes().to_vec() }]);
        query::dataset(&state, &id.clone().into()).unwrap_err()
    };
    let newer = reading(r#"{"schema":9,"record":{}}"#);
    assert_eq!(newer, StateError::UnknownSchema { key: place.clone(), found: 9 });
    for value in ["", "{}", "garbage", r#"{"schema":1,"record":{}}"#] {
        assert!(matches!(reading(value), StateError::Damaged { .. }), "{value}");
    }
}

#[test]
fn every_refusal_says_its_code_in_json() {
    for refusal in [
        Refusal::DatasetNotFound {},
        Refusal::LeaseNotFound {},
        Refusal::NotOwner { owner: "UiSMSP".to_owned() },
        Refusal::InvalidField { field: "name".to_owned(), reason: "too long".to_owned() },
        Refusal::NotExpired { from_ms: 2, now_ms: 1 },
    ] {
        let value = serde_json::to_value(&refusal).unwrap();
        assert_eq!(value["code"], refusal.code());
        assert_eq!(serde_json::from_value::<Refusal>(value).unwrap(), refusal);
    }
}

struct Fields {
    name: String,
    title: String,
    description: String,
    max_ttl_seconds: u64,
    ciphertext: String,
    key_version: u32,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            name: "other".to_owned(),
            title: "a title".to_owned(),
            description: "what it is\nand why".to_owned(),
            max_ttl_seconds: 3_600,
            ciphertext: "AAAA".to_owned(),
            key_version: 1,
        }
    }
}

impl Fields {
    fn command(self) -> Command {
        Command::RegisterDataset {
            name: self.name,
            title: self.title,
            description: self.description,
            max_ttl_seconds: self.max_ttl_seconds,
            volume_ciphertext: Ciphertext(self.ciphertext),
            key_version: self.key_version,
        }
    }
}

fn take(dataset: &str, subject: &str, ttl_seconds: u64) -> Command {
    let (dataset, subject) = (dataset.to_owned(), subject.to_owned());
    Command::Lease { dataset, subject, ttl_seconds: Some(ttl_seconds) }
}

fn release(lease: &str, subject: &str) -> Command {
    Command::Release { lease: lease.to_owned(), subject: subject.to_owned() }
}

fn failed_for(lease: &str) -> Command {
    let report = MountReport::Failed { finding: finding("path_missing") };
    Command::ReportMount { lease: lease.to_owned(), report }
}

fn report(code: &str, message: &str) -> Command {
    let mut finding = finding(code);
    finding.message = message.to_owned();
    Command::ReportMount { lease: "0".repeat(32), report: MountReport::Failed { finding } }
}
