//! What scripts and people see of every command: formats, exit codes, waiting, retries.

use std::path::Path;

use serde_json::Value;

use crate::script::{LEASE, OPERATION, Script, broker, code, err, out, problem, ready, run};

#[tokio::test]
async fn the_catalogue_prints_in_every_format() {
    let broker = broker(ready()).await;
    let table = broker.run(&["datasets", "list"]).await;
    let lines: Vec<_> = out(&table).lines().collect();
    assert!(lines[0].starts_with("NAME        OWNER    LEASE"), "{lines:?}");
    assert!(lines[1].starts_with("uis-texts   UiSMSP   free "), "{lines:?}");
    assert!(!out(&table).contains('\u{1b}'), "a title steered the terminal");
    assert!(out(&broker.run(&["datasets", "list", "-o", "wide"]).await).contains("LONGEST-LEASE"));
    assert_eq!(
        out(&broker.run(&["datasets", "list", "-o", "name"]).await),
        "dataset/uis-texts\n"
    );
    let json: Value =
        serde_json::from_str(out(&broker.run(&["datasets", "list", "-o", "json"]).await)).unwrap();
    assert_eq!(json["items"][0]["owner"], "UiSMSP");
    assert!(
        out(&broker.run(&["-o", "yaml", "datasets", "show", "uis-texts"]).await).contains("name: uis-texts")
    );
    assert!(out(&broker.run(&["datasets", "show", "uis-texts"]).await).contains("owner:"));
    assert!(out(&broker.run(&["whoami"]).await).contains("alice@example.com"));
    assert!(
        broker
            .seen()
            .iter()
            .all(|line| line.ends_with("Bearer the-token"))
    );
}

#[tokio::test]
async fn a_lease_waits_until_it_is_mountable_and_lays_the_skeleton() {
    let broker = broker(ready()).await;
    let unasked = broker.run(&["lease", "uis-texts", "--ttl", "2h"]).await;
    assert_eq!(code(&unasked), 0, "{}", err(&unasked));
    assert!(
        out(&unasked).contains(LEASE) && out(&unasked).contains("ready"),
        "{}",
        out(&unasked)
    );
    assert!(err(&unasked).contains("skeleton sync"), "{}", err(&unasked));
    assert!(
        !broker.directory.path().join("datasets").exists(),
        "directories were made unasked"
    );

    std::fs::create_dir(broker.directory.path().join("datasets")).unwrap();
    let leased = broker.run(&["lease", "uis-texts", "-o", "name"]).await;
    assert_eq!(out(&leased), format!("lease/{LEASE}\n"));
    assert!(broker.directory.path().join("datasets/uis-texts/a/b").is_dir());
    assert!(
        !err(&leased).contains('\u{1b}'),
        "progress was drawn on something that is no terminal"
    );
}

#[tokio::test]
async fn a_lease_that_cannot_be_mounted_exits_1_with_the_finding() {
    let broker = broker(Script {
        mount: "failed",
        ..Script::default()
    })
    .await;
    let output = broker.run(&["lease", "uis-texts"]).await;
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains("failed"));
    assert!(
        err(&output).contains("/srv/leasehold/uis/gone is not on node n1 (path_missing)"),
        "{}",
        err(&output)
    );
}

#[tokio::test]
async fn what_is_not_done_in_time_exits_4() {
    let pending = broker(Script {
        mount: "pending",
        ..Script::default()
    })
    .await;
    let output = pending.run(&["lease", "uis-texts", "--timeout", "5s"]).await;
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert!(err(&output).contains(LEASE), "{}", err(&output));
    let running = broker(Script {
        never_finish: true,
        ..ready()
    })
    .await;
    let output = running.run(&["lease", "uis-texts", "--timeout", "5s"]).await;
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert!(
        err(&output).contains(&format!("leasehold operation {OPERATION}")),
        "{}",
        err(&output)
    );
}

#[tokio::test]
async fn without_waiting_the_operation_is_printed() {
    let broker = broker(ready()).await;
    let output = broker
        .run(&["lease", "uis-texts", "--no-wait", "-o", "name"])
        .await;
    assert_eq!(out(&output), format!("operation/{OPERATION}\n"));
    let shown = broker.run(&["operation", OPERATION, "-o", "json"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(out(&shown)).unwrap()["kind"],
        "lease"
    );
}

#[tokio::test]
async fn refusals_exit_1_with_detail_code_and_field() {
    let refusal = problem(
        "ttl_too_long",
        400,
        "a lease of uis-texts lasts at most 86400 s",
        Some("ttl_seconds"),
    );
    let broker = broker(Script {
        refusal: Some(refusal),
        ..ready()
    })
    .await;
    let output = broker.run(&["lease", "uis-texts", "--ttl", "20d"]).await;
    assert_eq!(code(&output), 1);
    assert_eq!(
        err(&output),
        "error: a lease of uis-texts lasts at most 86400 s (ttl_too_long)\nfield: ttl_seconds\n"
    );
    assert_eq!(out(&output), "");
}

#[tokio::test]
async fn a_failed_operation_is_a_refusal() {
    let conflict = problem("dataset_leased", 409, "uis-texts is leased until 12:00", None);
    let broker = broker(Script {
        failure: Some(conflict),
        ..ready()
    })
    .await;
    let output = broker.run(&["lease", "uis-texts"]).await;
    assert_eq!(
        (code(&output), err(&output)),
        (1, "error: uis-texts is leased until 12:00 (dataset_leased)\n")
    );
}

#[tokio::test]
async fn a_write_that_nobody_answered_is_sent_again_under_the_same_key() {
    let broker = broker(Script {
        drop_first_write: true,
        ..ready()
    })
    .await;
    let output = broker.run(&["lease", "uis-texts"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(
        broker
            .seen()
            .iter()
            .filter(|line| line.starts_with("POST /v1/leases"))
            .count(),
        2
    );
    assert_eq!(broker.script.lock().unwrap().keys.len(), 1);
}

#[tokio::test]
async fn a_lease_is_released_by_the_name_of_its_dataset() {
    let broker = broker(ready()).await;
    let output = broker.run(&["release", "uis-texts"]).await;
    assert_eq!(
        out(&output),
        format!("lease/{LEASE} of uis-texts released\n"),
        "{}",
        err(&output)
    );
    assert!(
        broker
            .seen()
            .iter()
            .any(|line| line.starts_with(&format!("DELETE /v1/leases/{LEASE} ")))
    );
    let unknown = broker.run(&["release", "other"]).await;
    assert_eq!(code(&unknown), 2);
    assert!(
        err(&unknown).contains("you have no lease of other"),
        "{}",
        err(&unknown)
    );
}

#[tokio::test]
async fn a_dataset_is_registered_from_a_file_and_removed() {
    let broker = broker(ready()).await;
    let file = broker.directory.path().join("dataset.yaml");
    std::fs::write(
        &file,
        "name: uis-texts\ntitle: Texts\nvolume:\n  kind: local\n  path: /srv/leasehold/uis/texts\n  node: n1\n",
    )
    .unwrap();
    let output = broker
        .run(&["datasets", "register", "-f", file.to_str().unwrap(), "-o", "name"])
        .await;
    assert_eq!(out(&output), "dataset/uis-texts\n", "{}", err(&output));
    let output = broker.run(&["datasets", "remove", "uis-texts"]).await;
    assert_eq!(out(&output), "dataset/uis-texts removed\n", "{}", err(&output));
}

#[tokio::test]
async fn a_data_key_is_rotated_and_receipts_are_listed_page_by_page() {
    let broker = broker(ready()).await;
    let output = broker.run(&["datasets", "rotate", "uis-texts"]).await;
    assert_eq!(out(&output), "dataset/uis-texts rotated\n", "{}", err(&output));
    let output = broker.run(&["datasets", "receipts", &"ab".repeat(32)]).await;
    let listed = out(&output);
    assert_eq!(listed.lines().count(), 3, "{listed}{}", err(&output));
    assert!(
        listed.contains("superseded") && listed.contains("BLOCK"),
        "{listed}"
    );
}

#[tokio::test]
async fn a_wrong_file_is_told_without_its_secrets() {
    let broker = broker(ready()).await;
    let file = broker.directory.path().join("dataset.yaml");
    for content in [
        "name: a\ntitle: {password: s3cr3t}\nvolume: {}\n",
        "name: a\ntitle: t\npassword: s3cr3t\nvolume: {}\n",
        "name: a\ntitle: t\nvolume: {password: s3cr3t, password: s3cr3t}\n",
        "s3cr3t",
        "volume: [s3cr3t\n",
        "name: a\ntitle: t\nmax_ttl_seconds: s3cr3t\nvolume: {}\n",
    ] {
        std::fs::write(&file, content).unwrap();
        let output = broker
            .run(&["datasets", "register", "-f", file.to_str().unwrap()])
            .await;
        assert_eq!(code(&output), 2, "{content}");
        assert!(!err(&output).contains("s3cr3t"), "{}", err(&output));
    }
    assert!(broker.seen().is_empty());
}

#[tokio::test]
async fn the_skeleton_is_synchronised_and_best_effort_never_fails() {
    let broker = broker(ready()).await;
    let home = broker.directory.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let home = home.to_str().unwrap();
    let strict = broker.run(&["skeleton", "sync", "--home", home]).await;
    assert_eq!(code(&strict), 1);
    assert!(err(&strict).contains("../../evil"), "{}", err(&strict));
    assert!(
        Path::new(home).join("datasets/uis-texts/a").is_dir(),
        "the sound directories are made all the same"
    );
    let lenient = broker
        .run(&["skeleton", "sync", "--home", home, "--best-effort"])
        .await;
    assert_eq!(code(&lenient), 0);
    assert!(
        err(&lenient).starts_with("warning: ") && err(&lenient).lines().count() == 1,
        "{}",
        err(&lenient)
    );

    let gone = run(
        "http://127.0.0.1:1",
        broker.directory.path(),
        &["skeleton", "sync", "--home", home],
    )
    .await;
    assert_eq!(code(&gone), 3, "{}", err(&gone));
    for url in ["http://127.0.0.1:1", "not a url", "http://example.org"] {
        let arguments = [
            "skeleton",
            "sync",
            "--home",
            home,
            "--best-effort",
            "--timeout",
            "2s",
        ];
        let output = run(url, broker.directory.path(), &arguments).await;
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(err(&output).starts_with("warning: "), "{}", err(&output));
    }
}

#[tokio::test]
async fn wrong_usage_exits_2_and_says_what_to_set() {
    let broker = broker(ready()).await;
    for arguments in [
        &["datasets", "show", ".."][..],
        &["lease"],
        &["lease", "a", "--ttl", "2x"],
        &["fly"],
    ] {
        assert_eq!(code(&broker.run(arguments).await), 2, "{arguments:?}");
    }
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .env_clear()
        .arg("whoami")
        .output()
        .await
        .unwrap();
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("LEASEHOLD_URL"), "{}", err(&output));
    std::fs::remove_file(broker.directory.path().join("token")).unwrap();
    let output = broker.run(&["whoami"]).await;
    assert_eq!(code(&output), 2);
    assert!(
        err(&output).contains("cannot read the token from"),
        "{}",
        err(&output)
    );
    assert!(out(&broker.run(&["completion", "bash"]).await).contains("leasehold"));
    assert!(broker.seen().is_empty());
}
