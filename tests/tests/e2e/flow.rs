//! The main job, from the catalogue to the end of the lease.

use std::time::Duration;

use leasehold_tests::TestResult;

use crate::stage::on_stage;

/// Counts a word in every text of a dataset and adds the count to a file of the home.
pub const COUNT: &str = r#"import os, pathlib, sys
name = sys.argv[1]
texts = pathlib.Path.home().joinpath("datasets", name).rglob("*.txt")
count = sum(text.read_text().count("lorem") for text in texts)
pathlib.Path.home().joinpath(name + "-count.txt").write_text(str(count))
"#;

#[test]
fn a_leased_dataset_is_read_by_an_unchanged_jupyterflow_workflow_until_the_lease_ends() -> TestResult {
    on_stage("flow", async |stage| {
        stage.dataset("uis").await?;
        let alice = stage.person("alice@example.com").await?;

        let catalogue = alice.shell("leasehold datasets list").await?;
        assert!(
            catalogue.contains("uis") && catalogue.contains("free"),
            "{catalogue}"
        );
        assert_eq!(alice.shell("ls datasets").await?, "");

        alice.shell("leasehold lease uis --ttl 1h").await?;
        let lease = stage.lease(&alice, "uis").await?;
        assert_eq!((lease.state.as_str(), lease.mount.as_str()), ("active", "ready"));

        // The skeleton is there, the data is not.
        assert_eq!(
            alice.shell("find datasets -type d | sort").await?,
            "datasets\ndatasets/uis\ndatasets/uis/more\n"
        );
        assert_eq!(alice.shell("find datasets -type f -not -name '.*'").await?, "");

        alice.write("count.py", COUNT).await?;
        let run = alice
            .workflow(&[
                "ls datasets",
                "env LEASE_DATASETS=uis python3 count.py uis",
                "cat uis-count.txt",
            ])
            .await?;
        assert_eq!(run.phase, "Succeeded", "{:?}", run.messages);
        assert_eq!(alice.shell("cat uis-count.txt").await?, "5");
        // The notebook itself still sees no data.
        assert_eq!(alice.shell("find datasets -type f -not -name '.*'").await?, "");

        // Nobody writes to a dataset, not even a job that may read it.
        let run = alice
            .workflow(&["env LEASE_DATASETS=uis touch datasets/uis/mark"])
            .await?;
        assert_eq!(run.phase, "Failed");

        alice.shell("leasehold release uis").await?;
        stage.gone(&lease.id, Duration::from_secs(60)).await?;
        let run = alice
            .workflow(&["env LEASE_DATASETS=uis python3 count.py uis"])
            .await?;
        assert_ne!(run.phase, "Succeeded");
        let said = run.messages.join("\n");
        assert!(
            said.contains("no_lease") || said.contains("lease_ended"),
            "{said}"
        );
        assert!(
            said.contains("leasehold lease uis"),
            "the message says what to do: {said}"
        );
        Ok(())
    })
}

#[test]
fn an_exclusive_dataset_goes_to_the_next_researcher_only_after_the_first_lease_has_ended() -> TestResult {
    on_stage("exclusive", async |stage| {
        stage.dataset("once").await?;
        let carol = stage.person("carol").await?;
        let dave = stage.person("dave").await?;
        carol.shell("leasehold lease once").await?;
        let first = stage.lease(&carol, "once").await?;

        let refused = dave.run(&["leasehold", "lease", "once"]).await?;
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("lease_conflict"), "{}", refused.stderr);
        // Another's lease is as if it were not there.
        let foreign = dave.run(&["leasehold", "release", &first.id]).await?;
        assert_eq!(foreign.code, 1);
        assert!(foreign.stderr.contains("not_found"), "{}", foreign.stderr);
        assert_eq!(stage.lease(&carol, "once").await?.state, "active");

        carol.shell("leasehold release once").await?;
        stage.gone(&first.id, Duration::from_secs(60)).await?;
        leasehold_tests::wait_for("the second lease", Duration::from_secs(60), async || {
            let leased = dave.run(&["leasehold", "lease", "once"]).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((leased.code == 0).then_some(()))
        })
        .await?;
        assert!(stage.lease(&dave, "once").await?.fencing_token > first.fencing_token);
        Ok(())
    })
}

#[test]
fn an_expired_lease_ends_running_pods_and_leaves_no_access_within_ten_seconds() -> TestResult {
    on_stage("expiry", async |stage| {
        stage.dataset("brief").await?;
        let erin = stage.person("erin").await?;
        erin.shell("leasehold lease brief --ttl 60s").await?;
        let lease = stage.lease(&erin, "brief").await?;
        let volume_deleted = stage.volume_deleted(&lease.id).await?;
        let running = erin.start(&["env LEASE_DATASETS=brief sleep 600"]).await?;
        let pods = format!("workflows.argoproj.io/workflow={running}");
        let client = stage.client();
        let pods_of_run = kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(client, "hub");
        leasehold_tests::wait_for("the job to run", Duration::from_secs(55), async || {
            let list = pods_of_run
                .list(&kube::api::ListParams::default().labels(&pods))
                .await?;
            let runs = list
                .items
                .first()
                .and_then(|pod| pod.status.as_ref()?.phase.clone())
                .is_some_and(|phase| phase == "Running");
            Ok::<_, kube::Error>(runs.then_some(()))
        })
        .await?;

        let until_expiry = lease.expires_at - chrono::Utc::now().timestamp();
        let deadline = Duration::from_secs(u64::try_from(until_expiry.max(0))? + 60);
        stage.gone(&lease.id, deadline).await?;
        // By what the API server wrote down, not by when this test came to look. Of the expiry the broker tells whole seconds only.
        let deleted = tokio::time::timeout(Duration::from_secs(60), volume_deleted).await??;
        let late = deleted - lease.expires_at;
        assert!(
            (0..=11).contains(&late),
            "the last access ended {late} s after the expiry"
        );
        let held = pods_of_run
            .list(&kube::api::ListParams::default().labels(&pods))
            .await?;
        assert!(held.items.is_empty(), "a pod of the expired lease is left");
        let run = erin
            .workflow(&["env LEASE_DATASETS=brief ls datasets/brief"])
            .await?;
        assert_ne!(run.phase, "Succeeded");
        let said = run.messages.join("\n");
        assert!(
            said.contains("no_lease") || said.contains("lease_ended"),
            "{said}"
        );
        Ok(())
    })
}
