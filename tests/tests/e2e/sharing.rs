//! Leases that several have at once, that are kept for longer, and that their dataset's owner takes back.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use leasehold_tests::{TestResult, wait_for};

use crate::stage::{Stage, on_stage};

/// Waits for a file in the home, then says what it finds in the dataset.
const WAIT: &str = r#"import pathlib, time
home = pathlib.Path.home()
while not home.joinpath("go").exists():
    time.sleep(0.2)
home.joinpath("seen.txt").write_text(str(len(list(home.joinpath("datasets").rglob("*.txt")))))
"#;
const PATIENCE: Duration = Duration::from_secs(120);

/// The phases of a workflow's pods.
async fn phases(stage: &Stage, workflow: &str) -> Result<Vec<String>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(stage.client(), "hub");
    let label = format!("workflows.argoproj.io/workflow={workflow}");
    let list = pods.list(&ListParams::default().labels(&label)).await?;
    Ok(list
        .items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| pod.status?.phase)
        .collect())
}

async fn running(stage: &Stage, workflow: &str) -> TestResult {
    wait_for("the job to run", PATIENCE, async || {
        let phases = phases(stage, workflow).await?;
        Ok::<_, kube::Error>((phases == ["Running"]).then_some(()))
    })
    .await?;
    Ok(())
}

#[test]
fn of_two_who_share_a_dataset_the_one_whose_lease_is_revoked_loses_it_alone() -> TestResult {
    on_stage("sharing", async |stage| {
        stage.dataset("common").await?;
        let file = stage.site.scratch("sharing")?.join("terms.yaml");
        std::fs::write(&file, "policy: { exclusive: false, most_shared: 2 }\n")?;
        let file = file.to_string_lossy();
        stage
            .steward
            .leasehold(&["datasets", "amend", "common", "-f", &file])?
            .success("leasehold datasets amend")?;
        let (sara, tom) = (stage.person("sara").await?, stage.person("tom").await?);
        let mut jobs = Vec::new();
        for person in [&sara, &tom] {
            person.shell("leasehold lease common").await?;
            person.write("wait.py", WAIT).await?;
            jobs.push(
                person
                    .start(&["env LEASE_DATASETS=common python3 wait.py"])
                    .await?,
            );
        }
        for job in &jobs {
            running(stage, job).await?;
        }

        let saras = stage.lease(&sara, "common").await?;
        stage
            .steward
            .leasehold(&["revoke", &saras.id, "--reason", "the agreement has ended"])?
            .success("leasehold revoke")?;
        stage.gone(&saras.id, PATIENCE).await?;
        assert_eq!(phases(stage, &jobs[0]).await?, Vec::<String>::new());
        let saras = stage.lease(&sara, "common").await?;
        assert_eq!(saras.end_cause.as_deref(), Some("revoked"));
        assert_eq!(saras.end_reason.as_deref(), Some("the agreement has ended"));

        // The other one goes on, and reads.
        assert_eq!(phases(stage, &jobs[1]).await?, ["Running"]);
        tom.shell("touch go").await?;
        let run = tom.finished(&jobs[1], PATIENCE).await?;
        assert_eq!(run.phase, "Succeeded", "{:?}", run.messages);
        assert_eq!(tom.shell("cat seen.txt").await?, "3");
        Ok(())
    })
}

#[test]
fn a_lease_that_is_renewed_saves_the_job_that_runs() -> TestResult {
    on_stage("renewal", async |stage| {
        stage.dataset("longer").await?;
        let uma = stage.person("uma").await?;
        uma.write("wait.py", WAIT).await?;
        uma.shell("leasehold lease longer --ttl 75s").await?;
        let lease = stage.lease(&uma, "longer").await?;
        let job = uma.start(&["env LEASE_DATASETS=longer python3 wait.py"]).await?;
        wait_for("the job's pod to be admitted", PATIENCE, async || {
            let phases = phases(stage, &job).await?;
            Ok::<_, kube::Error>((!phases.is_empty()).then_some(()))
        })
        .await?;
        uma.shell("leasehold renew longer --ttl 1h").await?;
        let renewed = stage.lease(&uma, "longer").await?;
        assert!(renewed.expires_at > lease.expires_at + 3_000);
        assert_eq!(renewed.id, lease.id);

        // Long enough after the first expiry that everything of it would be gone.
        wait_for("the first expiry to be long over", PATIENCE, async || {
            let over = chrono::Utc::now().timestamp() > lease.expires_at + 10;
            Ok::<_, kube::Error>(over.then_some(()))
        })
        .await?;
        assert_eq!(phases(stage, &job).await?, ["Running"]);
        uma.shell("touch go").await?;
        let run = uma.finished(&job, PATIENCE).await?;
        assert_eq!(run.phase, "Succeeded", "{:?}", run.messages);
        assert_eq!(uma.shell("cat seen.txt").await?, "3");
        Ok(())
    })
}
