//! The operator's commands on a ledger's file: what they print, and how they end.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use leasehold_chaincode::{Ciphertext, Metadata, Msp, Policy, TxId};
use leasehold_secret_broker::ledger::{Ledger, LedgerOptions, Receipt, Submission};
use serde_json::Value;

fn command(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold-secret-broker"));
    command
        .arg("ledger")
        .arg("--ledger")
        .arg(format!("sqlite:{}", path.display()))
        .args(arguments)
        .env_clear();
    command
}

fn done(path: &Path, arguments: &[&str]) -> Value {
    let output = command(path, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(path: &Path, arguments: &[&str]) -> String {
    let Output {
        status,
        stderr,
        stdout,
    } = command(path, arguments).output().unwrap();
    assert_eq!(status.code(), Some(1), "{arguments:?}");
    assert!(stdout.is_empty(), "{arguments:?}");
    String::from_utf8(stderr).unwrap()
}

async fn write(path: &Path, names: &[&str]) {
    let ledger = Ledger::open(LedgerOptions::new(path, Msp::new("UiSMSP").unwrap()))
        .await
        .unwrap();
    let join = leasehold_chaincode::Command::JoinConsortium {
        broker: "https://broker.example.org".to_owned(),
        keys: Vec::new(),
    };
    let tx_id = TxId::new("join").unwrap();
    // The same transaction again is answered from the ledger.
    ledger.submit(Submission { tx_id, command: join }).await.unwrap();
    for name in names {
        let command = leasehold_chaincode::Command::RegisterDataset {
            name: (*name).to_owned(),
            metadata: Metadata {
                title: "Texts".to_owned(),
                ..Metadata::default()
            },
            policy: Policy::exclusive(3_600),
            volume_ciphertext: Ciphertext("bm90aGluZyB0byByZWFk".to_owned()),
            key_version: 1,
        };
        let tx_id = TxId::new(*name).unwrap();
        ledger.submit(Submission { tx_id, command }).await.unwrap();
    }
    ledger.close().await;
}

#[tokio::test]
async fn an_operator_verifies_receipts_moves_and_rotates_a_ledger_from_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let path = at("ledger.db");
    write(&path, &["texts", "scans"]).await;
    let verified = done(&path, &["verify"]);
    assert_eq!(
        (&verified["height"], &verified["transactions"]),
        (&3.into(), &3.into())
    );
    let receipt = done(&path, &["receipt"]);
    assert_eq!(receipt["hash"], verified["head_hash"]);
    serde_json::from_value::<Receipt>(receipt.clone())
        .unwrap()
        .check()
        .unwrap();
    std::fs::write(at("receipt.json"), receipt.to_string()).unwrap();
    let receipt = at("receipt.json").display().to_string();
    let chain = done(&path, &["verify", "--chain", "--receipt", &receipt]);
    assert_eq!(
        (&chain["height"], &chain["transactions"]),
        (&3.into(), &Value::Null)
    );
    // From one file to another through a pipe.
    let mut export = command(&path, &["export"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let copy = at("copy.db");
    let imported = command(&copy, &["import", "--receipt", &receipt])
        .stdin(export.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(export.wait().unwrap().success());
    assert!(imported.status.success(), "{imported:?}");
    assert_eq!(done(&copy, &["verify"]), verified);
    assert_eq!(done(&copy, &["rebuild"]), verified);
    let stream = at("export.jsonl").display().to_string();
    done(&path, &["export", "--to", &stream]);
    assert!(refused(&path, &["import", "--from", &stream]).contains("exists"));
    let next = at("next.key").display().to_string();
    let rotated = done(&path, &["rotate", "--to", &next]);
    assert_eq!(rotated["height"], 4);
    assert_eq!(
        done(&path, &["verify", "--receipt", &receipt])["key_id"],
        rotated["key_id"]
    );
}

#[tokio::test]
async fn a_changed_ledger_is_named_by_block_and_field_and_a_cut_one_by_its_receipt() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    write(&path, &["texts"]).await;
    let short = std::fs::read(&path).unwrap();
    write(&path, &["scans"]).await;
    let receipt = directory.path().join("receipt.json");
    std::fs::write(&receipt, done(&path, &["receipt"]).to_string()).unwrap();
    let receipt = receipt.display().to_string();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, short).unwrap();
    done(&path, &["verify"]);
    let cut = refused(&path, &["verify", "--receipt", &receipt]);
    assert!(cut.contains("truncated: it ends at block 2"), "{cut}");
    // In the last block's body: its title comes before its dataset's name, which is nowhere else.
    let title = b"\"name\":\"scans\",\"metadata\":{\"title\":\"T";
    let at = whole
        .windows(title.len())
        .rposition(|bytes| bytes == title)
        .unwrap()
        + title.len();
    let mut changed = whole;
    changed[at] ^= 1;
    std::fs::write(&path, changed).unwrap();
    for arguments in [&["verify"][..], &["verify", "--chain"], &["export"]] {
        let output = command(&path, arguments).output().unwrap();
        let reason = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            reason.contains("damaged at block 3, body"),
            "{arguments:?}: {reason}"
        );
    }
}

#[tokio::test]
async fn a_key_that_nobody_vouches_for_fails_unless_the_operator_does() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let path = directory.path().join("ledger.db");
    write(&path, &["texts"]).await;
    std::fs::write(at("before.json"), done(&path, &["receipt"]).to_string()).unwrap();
    // Whoever can write the file can do this, without the ledger's key.
    std::fs::remove_file(at("ledger.key")).unwrap();
    let lost = done(&path, &["rotate", "--lost", "--to", &at("ledger.key")]);
    let key = lost["key_id"].as_str().unwrap();
    for arguments in [
        &["verify"][..],
        &["verify", "--chain"],
        &["verify", "--receipt", &at("before.json")],
    ] {
        let reason = refused(&path, arguments);
        assert!(
            reason.contains("in block 3") && reason.contains(&format!("--trust-key {key}")),
            "{reason}"
        );
    }
    let verified = done(&path, &["verify", "--trust-key", key]);
    assert_eq!(
        (&verified["height"], &verified["key_id"]),
        (&3.into(), &key.into())
    );
    // Nor is there a receipt, which would vouch for it.
    assert!(refused(&path, &["receipt", "--receipt", &at("before.json")]).contains("--trust-key"));
    let receipt = done(&path, &["receipt", "--trust-key", key]);
    std::fs::write(at("after.json"), receipt.to_string()).unwrap();
    assert_eq!(done(&path, &["receipt", "--receipt", &at("after.json")]), receipt);
    assert_eq!(done(&path, &["verify", "--receipt", &at("after.json")]), verified);
    let stranger = refused(&path, &["verify", "--trust-key", &"07".repeat(32)]);
    assert!(stranger.contains("signed no block"), "{stranger}");
    let stream = at("export.jsonl");
    done(&path, &["export", "--to", &stream]);
    let copy = directory.path().join("copy.db");
    assert!(refused(&copy, &["import", "--from", &stream]).contains("--trust-key"));
    assert_eq!(
        done(&copy, &["import", "--from", &stream, "--trust-key", key]),
        verified
    );
}

#[test]
fn a_ledger_that_is_not_there_and_an_address_that_is_none_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let missing = refused(&directory.path().join("ledger.db"), &["verify"]);
    assert!(missing.contains("check the path"), "{missing}");
    for address in [
        "ledger.db",
        "postgres://broker:hunter2@db.example.org/ledger?sslmod=require",
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold-secret-broker"));
        let output = command
            .args(["ledger", "--ledger", address, "verify"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let reason = String::from_utf8(output.stderr).unwrap();
        assert!(
            reason.contains("--ledger") && !reason.contains("hunter2"),
            "{reason}"
        );
    }
}
