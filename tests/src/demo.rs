//! The demo: what the owner, the researcher and the cluster see while a dataset is leased, read and given back.

use std::time::Duration;

use crate::{
    Cluster, TestResult,
    journey::{Hub, Narrator, Notebook, Site, Steward},
    wait_for,
};

/// The researcher.
const RESEARCHER: &str = "alice@example.com";

/// The researcher's program: counts a word in all texts of a dataset.
const COUNT: &str = "\
import pathlib
texts = sorted(pathlib.Path.home().joinpath('datasets', 'uis').rglob('*.txt'))
counts = {text.name: text.read_text().count('lorem') for text in texts}
pathlib.Path.home().joinpath('uis-count.txt').write_text(f'UiS: {sum(counts.values())} {counts}\\n')
";

/// Asks the API server for the Secrets of the namespace, with the notebook's own token.
const LIST_SECRETS: &str = "\
from kubernetes import client, config
config.load_incluster_config()
try:
    print(client.CoreV1Api().list_namespaced_secret('hub'))
except client.ApiException as refusal:
    print(refusal.status, __import__('json').loads(refusal.body)['message'])
";

/// Runs the demo; `keep` leaves the cluster running.
///
/// # Errors
/// The first step that fails.
pub fn run(keep: bool) -> TestResult {
    let narrator = Narrator::aloud();
    narrator.step("start a Kubernetes cluster of one node");
    let cluster = if keep {
        Cluster::open(std::env::temp_dir().join("leasehold-cluster"))?
    } else {
        Cluster::start()?
    };
    let site = Site::install(cluster, &narrator)?;
    let told = site.cluster().block_on(tell(&site, &narrator))?;
    let result = match told {
        Ok(read) => {
            narrator.step("what the researcher's pod read");
            narrator.saw(RESEARCHER, "cat uis-count.txt", &read);
            Ok(())
        }
        Err(error) => {
            site.cluster().dump();
            Err(error)
        }
    };
    if keep {
        narrator
            .step("the cluster is left running: tests/cluster/enter kubectl get pods -A, make cluster-down");
    } else {
        narrator.step("take the cluster down");
        site.into_cluster().stop()?;
    }
    result
}

async fn tell(site: &Site, narrator: &Narrator) -> TestResult<String> {
    narrator.step("UiS registers a dataset of three texts on the node");
    let steward = Steward::new(site, "owners", "uis-steward").await?;
    let path = site.texts("uis")?;
    let registered = steward.register("uis", &path, &uuid::Uuid::new_v4().to_string())?;
    narrator.saw(
        "steward@UiS",
        "leasehold datasets register -f uis.yaml",
        &registered,
    );

    narrator.step(&format!("JupyterHub spawns the notebook of {RESEARCHER}"));
    site.cluster().home_volume("alice").await?;
    let hub = Hub::start(site).await?;
    let alice = hub.spawn(RESEARCHER).await?;
    narrator.saw(
        "hub",
        "kubectl get pod",
        &format!("{} runs as {}", alice.pod, alice.service_account),
    );

    narrator.step("the researcher looks at the catalogue and leases the dataset");
    type_in(narrator, &alice, "leasehold datasets list").await?;
    type_in(narrator, &alice, "leasehold lease uis --ttl 2h").await?;
    type_in(narrator, &alice, "leasehold leases").await?;
    narrator.step("the skeleton is in the home, the data is not");
    type_in(narrator, &alice, "find datasets -type d").await?;
    type_in(narrator, &alice, "find datasets -name '*.txt' | wc -l").await?;

    narrator.step("an ordinary jupyterflow workflow of three jobs");
    alice.write("count.py", COUNT).await?;
    let jobs = [
        "ls -R datasets",
        "env LEASE_DATASETS=uis python3 count.py",
        "cat uis-count.txt",
    ];
    let run = alice.workflow(&jobs).await?;
    narrator.saw(
        RESEARCHER,
        "jupyterflow run -f workflow.yaml",
        &format!("{}: {}", run.name, run.phase),
    );
    if run.phase != "Succeeded" {
        return Err(format!("the workflow ended as {}: {:?}", run.phase, run.messages).into());
    }
    let read = alice.shell("cat uis-count.txt").await?;

    narrator.step("the notebook asks for the Secrets");
    alice.write("ask.py", LIST_SECRETS).await?;
    type_in(narrator, &alice, "python3 ask.py").await?;

    narrator.step("the lease is given back, and its volume goes");
    type_in(narrator, &alice, "leasehold release uis").await?;
    wait_for(
        "the lease's volume to be gone",
        Duration::from_secs(30),
        async || {
            let left = site
                .cluster()
                .kubectl(&["get", "pv", "-l", "leasehold.dev/lease", "-o", "name"])?;
            Ok::<_, crate::Error>(left.trim().is_empty().then_some(()))
        },
    )
    .await?;
    narrator.saw(
        "operator",
        "kubectl get pv -l leasehold.dev/lease",
        "No resources found",
    );

    narrator.step("the same workflow is refused, and says why");
    let run = alice
        .workflow(&["env LEASE_DATASETS=uis python3 count.py"])
        .await?;
    narrator.saw(
        RESEARCHER,
        "jupyterflow run -f workflow.yaml",
        &format!("{}: {}\n{}", run.name, run.phase, run.messages.join("\n")),
    );
    if run.phase == "Succeeded" {
        return Err("a workflow read a dataset whose lease was released".into());
    }
    Ok(read)
}

async fn type_in(narrator: &Narrator, notebook: &Notebook<'_>, line: &str) -> TestResult {
    let answer = notebook.shell(line).await?;
    narrator.saw(RESEARCHER, line, &answer);
    Ok(())
}
