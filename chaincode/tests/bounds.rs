//! What the contract does not accept, read or guess.

#[path = "support/bench.rs"]
mod bench;

use bench::{Bench, alice, finding, register, take};
use leasehold_chaincode::{Ciphertext, Command, Metadata, MountReport, Policy, Refusal, limit, query};

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
        ("metadata.title", with(|f| f.title = "  ".to_owned())),
        ("metadata.title", with(|f| f.title = "two\nlines".to_owned())),
        (
            "metadata.title",
            with(|f| f.title = "é".repeat(limit::TITLE_CHARS + 1)),
        ),
        (
            "metadata.description",
            with(|f| f.description = "é".repeat(limit::DESCRIPTION_CHARS + 1)),
        ),
        (
            "metadata.description",
            with(|f| f.description = "a\0b".to_owned()),
        ),
        (
            "policy.max_ttl_seconds",
            with(|f| f.max_ttl_seconds = limit::MIN_TTL_SECONDS - 1),
        ),
        (
            "policy.max_ttl_seconds",
            with(|f| f.max_ttl_seconds = limit::MAX_TTL_SECONDS + 1),
        ),
        ("volume_ciphertext", with(|f| f.ciphertext.clear())),
        ("volume_ciphertext", with(|f| f.ciphertext = "====".to_owned())),
        ("volume_ciphertext", with(|f| f.ciphertext = "AAA".to_owned())),
        ("volume_ciphertext", with(|f| f.ciphertext = "A===".to_owned())),
        (
            "volume_ciphertext",
            with(|f| f.ciphertext = "{\"path\":\"/srv\"}A".to_owned()),
        ),
        (
            "volume_ciphertext",
            with(|f| f.ciphertext = "A".repeat(limit::CIPHERTEXT_CHARS + 4)),
        ),
        ("key_version", with(|f| f.key_version = 0)),
        ("subject", take("texts", "alice@example.com", 60)),
        ("subject", take("texts", &alice().to_uppercase(), 60)),
        ("ttl_seconds", take("texts", &alice(), limit::MIN_TTL_SECONDS - 1)),
        ("ttl_seconds", take("texts", &alice(), 3_601)),
        ("ttl_seconds", take("texts", &alice(), u64::MAX)),
        ("finding.code", report("Path Missing", "a sentence")),
        ("finding.code", report("", "a sentence")),
        (
            "finding.message",
            report("path_missing", &"é".repeat(limit::FINDING_MESSAGE_CHARS + 1)),
        ),
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
fn a_transaction_of_an_unbelievable_time_is_refused() {
    let mut bench = Bench::new();
    for now_ms in [-1, i64::MIN, limit::MAX_TIMESTAMP_MS + 1, i64::MAX] {
        bench.now_ms = now_ms;
        let refusal = bench.refused("UiSMSP", &register("texts"));
        assert!(matches!(refusal, Refusal::InvalidField { ref field, .. } if field == "timestamp_ms"));
    }
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
        state.apply(&[Write::Put {
            key: place.clone(),
            value: value.as_bytes().to_vec(),
        }]);
        query::dataset(&state, &id.clone().into()).unwrap_err()
    };
    let newer = reading(r#"{"schema":9,"record":{}}"#);
    assert_eq!(
        newer,
        StateError::UnknownSchema {
            key: place.clone(),
            found: 9,
            known: 2
        }
    );
    for value in ["", "{}", "garbage", r#"{"schema":1,"record":{}}"#] {
        assert!(matches!(reading(value), StateError::Damaged { .. }), "{value}");
    }
}

#[test]
fn every_refusal_says_its_code_in_json() {
    for refusal in [
        Refusal::DatasetNotFound {},
        Refusal::LeaseNotFound {},
        Refusal::NotOwner {
            owner: "UiSMSP".to_owned(),
        },
        Refusal::InvalidField {
            field: "name".to_owned(),
            reason: "too long".to_owned(),
        },
        Refusal::NotExpired {
            from_ms: 2,
            now_ms: 1,
        },
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
            metadata: Metadata {
                title: self.title,
                description: self.description,
                ..Metadata::default()
            },
            policy: Policy::exclusive(self.max_ttl_seconds),
            volume_ciphertext: Ciphertext(self.ciphertext),
            key_version: self.key_version,
        }
    }
}

fn report(code: &str, message: &str) -> Command {
    let mut finding = finding(code);
    finding.message = message.to_owned();
    Command::ReportMount {
        lease: "0".repeat(32),
        report: MountReport::Failed { finding },
    }
}
