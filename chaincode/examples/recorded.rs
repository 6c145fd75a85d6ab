//! Prints a history as this version of the contract decides it, a transaction on a line: what was asked, and every byte that came of
//! it. Kept in `tests/data/contract-N.jsonl` when version N is, so that later versions have to come to the same.
//!
//! Every command is in it. In a tree of an earlier version it runs without the fields of a description that came later.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "whoever records a history wants to see why it failed"
)]

use leasehold_chaincode::{
    CONTRACT_VERSION, Command, Contract, MemoryState, Outcome, Role, TxContext, TxId, Write,
};
use serde_json::{Value, json};

struct Recorder {
    state: MemoryState,
    now_ms: i64,
    count: u32,
}

impl Recorder {
    /// Decides a command, which must be accepted, and gives the id of what it was about.
    fn take(&mut self, caller: &str, command: Value) -> String {
        self.count += 1;
        self.now_ms += 1_000;
        let context = TxContext {
            tx_id: TxId::new(format!("tx-{}", self.count)).unwrap(),
            timestamp_ms: self.now_ms,
            caller: caller.parse().unwrap(),
            role: Role::Administrator,
        };
        let decoded: Command = serde_json::from_value(command).unwrap();
        let outcome = Contract::EMBEDDED.execute(&self.state, &context, &decoded);
        let outcome = outcome.unwrap_or_else(|failure| panic!("{decoded:?}: {failure}"));
        self.state.apply(&outcome.writes);
        println!("{}", line(&context, &decoded, &outcome));
        let result = serde_json::to_value(&outcome.result).unwrap();
        let id = result.get("id").and_then(Value::as_str);
        id.unwrap_or_default().to_owned()
    }
}

fn line(context: &TxContext, command: &Command, outcome: &Outcome) -> Value {
    let writes = outcome.writes.iter().map(|write| match write {
        Write::Put { key, value } => json!([key, String::from_utf8_lossy(value)]),
        Write::Delete { key } => json!([key, null]),
    });
    json!({
        "contract": CONTRACT_VERSION, "tx_id": context.tx_id.as_str(), "timestamp_ms": context.timestamp_ms,
        "caller": context.caller.as_str(), "role": context.role, "command": command,
        "events": serde_json::to_string(&outcome.events).unwrap(),
        "result": serde_json::to_string(&outcome.result).unwrap(), "writes": writes.collect::<Vec<_>>(),
    })
}

fn policy(changes: Value) -> Value {
    let mut policy = json!({ "max_ttl_seconds": 3_600, "most_waiting": 3, "place_seconds": 600 });
    if let (Value::Object(policy), Value::Object(changes)) = (&mut policy, changes) {
        policy.extend(changes);
    }
    policy
}

fn register(name: &str, metadata: &Value, policy: &Value) -> Value {
    json!({
        "command": "register_dataset", "name": name, "metadata": metadata, "policy": policy,
        "volume_ciphertext": "bm90aGluZyB0byByZWFk", "key_version": 1,
    })
}

fn lease(dataset: &str, subject: &str, mode: &str) -> Value {
    json!({
        "command": "lease", "dataset": dataset, "subject": subject.repeat(32), "mode": mode, "ttl_seconds": 60, "wait": true,
    })
}

fn main() {
    let [one, two, three] = ["UiSMSP", "UiOMSP", "NTNUMSP"];
    let mut recorder = Recorder {
        state: MemoryState::default(),
        now_ms: 1_760_000_000_000,
        count: 0,
    };
    let recorder = &mut recorder;
    organisations(recorder, one, two, three);
    let digest = json!({ "type": "sha-256", "value": "ab".repeat(32) });
    let described = json!({
        "title": "Waves", "description": "Heights,\nevery hour", "keywords": ["waves"], "licence": "CC-BY-4.0",
        "identifiers": ["doi:10.1000/182"], "publisher": "Institute of Oceanography", "publication_year": 2026, "resource_type": "dataset",
        "creators": [{ "name": "Institute of Oceanography", "identifier": "https://ror.org/04q12yn84" }],
        "version": "2", "language": "en", "formats": ["text/csv"], "size_bytes": 9, "file_count": 3,
        "content_digest": digest,
    });
    let texts = recorder.take(
        one,
        register("texts", &json!({ "title": "Texts" }), &policy(json!({}))),
    );
    let shared = policy(json!({ "most_shared": 2, "organisations": { "only": [two] } }));
    recorder.take(one, register("waves", &described, &shared));
    let approved = policy(json!({ "approve_leases": true, "approve_code": true, "outputs": "quarantine" }));
    recorder.take(two, register("scans", &json!({ "title": "Scans" }), &approved));
    recorder.take(
        one,
        json!({ "command": "amend_dataset", "dataset": "texts", "metadata": described }),
    );
    recorder.take(
        one,
        json!({
            "command": "replace_volume", "dataset": "waves", "volume_ciphertext": "AAAA", "key_version": 2,
        }),
    );
    let code = json!({ "image_sha256": "12".repeat(32), "command_sha256": "34".repeat(32) });
    for command in ["approve_code", "withdraw_code", "approve_code"] {
        recorder.take(
            two,
            json!({ "command": command, "dataset": "scans", "code": code }),
        );
    }
    leases(recorder, one, two, three);
    traces(recorder, one, two, &texts, &digest, &code);
    recorder.take(
        one,
        json!({ "command": "offer_dataset", "dataset": "waves", "to": three }),
    );
    recorder.take(
        three,
        json!({
            "command": "take_dataset", "dataset": "waves", "volume_ciphertext": "BBBB", "key_version": 1,
        }),
    );
    recorder.take(one, lease("texts", "a1", "exclusive"));
    recorder.take(
        one,
        json!({ "command": "remove_dataset", "dataset": "texts", "force": true }),
    );
    recorder.take(three, lease("waves", "a1", "shared"));
}

fn organisations(recorder: &mut Recorder, one: &str, two: &str, three: &str) {
    for msp in [one, two, three] {
        recorder.take(
            msp,
            json!({ "command": "join_consortium", "broker": "https://broker.example.org" }),
        );
        recorder.take(msp, json!({ "command": "register_cluster", "name": "main" }));
    }
    recorder.take(
        two,
        json!({ "command": "amend_organisation", "broker": "https://b.example.org:8443" }),
    );
    recorder.take(two, json!({ "command": "register_cluster", "name": "second" }));
    recorder.take(two, json!({ "command": "retire_cluster", "name": "second" }));
    for suspend in [true, false] {
        for msp in [one, two] {
            let vote = json!({
                "command": "vote_on_suspension", "organisation": three, "suspend": suspend, "reason": "no answer",
            });
            recorder.take(msp, vote);
        }
    }
    recorder.take(
        three,
        json!({ "command": "suspend_organisation", "reason": "a key was lost" }),
    );
    recorder.take(three, json!({ "command": "resume_organisation" }));
}

fn leases(recorder: &mut Recorder, one: &str, two: &str, three: &str) {
    let subject = |digits: &str| digits.repeat(32);
    let confirm = |lease: &str| json!({ "command": "confirm_end", "lease": lease });
    let reason = "the study has ended";
    let first = recorder.take(two, lease("texts", "a1", "exclusive"));
    recorder.take(
        two,
        json!({ "command": "report_mount", "lease": first, "report": { "mount": "ready" } }),
    );
    let finding = json!({ "code": "path_missing", "message": "the directory is not on its node" });
    let failed = json!({ "mount": "failed", "finding": finding });
    recorder.take(
        two,
        json!({ "command": "report_mount", "lease": first, "report": failed }),
    );
    recorder.take(
        two,
        json!({ "command": "renew", "lease": first, "subject": subject("a1"), "ttl_seconds": 600 }),
    );
    let second = recorder.take(three, lease("texts", "b2", "exclusive"));
    let third = recorder.take(three, lease("texts", "c3", "exclusive"));
    recorder.take(
        two,
        json!({ "command": "release", "lease": first, "subject": subject("a1") }),
    );
    recorder.take(two, confirm(&first));
    recorder.take(
        one,
        json!({ "command": "revoke", "lease": second, "reason": reason }),
    );
    recorder.now_ms += 2 * 3_600 * 1_000;
    recorder.take(
        one,
        json!({ "command": "declare_ended", "lease": second, "reason": reason }),
    );
    let shared = recorder.take(two, lease("waves", "a1", "shared"));
    let other = recorder.take(two, lease("waves", "b2", "shared"));
    recorder.now_ms += 61_000;
    for lease in [&shared, &other] {
        recorder.take(one, json!({ "command": "expire", "lease": lease }));
        recorder.take(two, confirm(lease));
    }
    let asked = recorder.take(three, lease("scans", "a1", "exclusive"));
    let denied = recorder.take(three, lease("scans", "b2", "exclusive"));
    recorder.take(two, json!({ "command": "approve_lease", "lease": asked }));
    recorder.take(
        two,
        json!({ "command": "deny_lease", "lease": denied, "reason": reason }),
    );
    // The third lapsed while the second was in the way.
    let fourth = recorder.take(three, lease("texts", "c4", "exclusive"));
    recorder.take(
        three,
        json!({ "command": "release", "lease": fourth, "subject": subject("c4") }),
    );
    recorder.take(three, confirm(&fourth));
    assert!(!third.is_empty());
}

fn traces(recorder: &mut Recorder, one: &str, two: &str, texts: &str, digest: &Value, code: &Value) {
    let resources = json!([{ "id": "1", "digest": digest }]);
    let ran = recorder.take(two, lease("waves", "d4", "exclusive"));
    let run = json!({
        "action": "run", "lease": ran, "pods": [{ "uid": "b7c1", "code": code }], "results": resources,
    });
    recorder.take(
        two,
        json!({ "command": "release", "lease": ran, "subject": "d4".repeat(32) }),
    );
    recorder.take(two, json!({ "command": "confirm_end", "lease": ran }));
    let actions = [
        (two, run),
        (
            one,
            json!({ "action": "create_dataset", "dataset": texts, "resources": resources }),
        ),
        (
            one,
            json!({ "action": "update_dataset", "dataset": texts, "details": "a file more" }),
        ),
        (
            two,
            json!({ "action": "use_datasets", "datasets": [texts], "tool": { "name": "xarray" } }),
        ),
        (
            two,
            json!({
                "action": "create_model", "application": "segmenter", "model": "m-1", "digest": digest, "datasets": [texts],
            }),
        ),
        (
            two,
            json!({ "action": "use_models", "application": "segmenter", "models": ["m-1"] }),
        ),
    ];
    for (number, (msp, action)) in actions.into_iter().enumerate() {
        let record = json!({
            "command": "record_trace", "key": number.to_string(), "subject": "d4".repeat(32), "action": action,
        });
        recorder.take(msp, record);
    }
}
