//! The cluster itself: everything else that the slowest tests say rests on this one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use leasehold_tests::{Cluster, Error, Output, TestResult, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: greeter, namespace: default }
spec:
  volumes: [{ name: data, hostPath: { path: /srv/leasehold/greetings } }]
  containers:
    - name: main
      image: leasehold.local/busybox:dev
      imagePullPolicy: Never
      command: [sh, -c, 'cat /data/hello; sleep 3600']
      volumeMounts: [{ name: data, mountPath: /data, readOnly: true }]
";

const AT_HOME: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: claim-alice, namespace: default }
spec:
  storageClassName: home
  accessModes: [ReadWriteOnce]
  resources: { requests: { storage: 1Gi } }
---
apiVersion: v1
kind: Pod
metadata: { name: at-home, namespace: default }
spec:
  securityContext: { runAsUser: 1000, runAsGroup: 100 }
  volumes: [{ name: home, persistentVolumeClaim: { claimName: claim-alice } }]
  containers:
    - name: main
      image: leasehold.local/busybox:dev
      imagePullPolicy: Never
      command: [sh, -c, 'echo mine > /home/jovyan/note; sleep 3600']
      volumeMounts: [{ name: home, mountPath: /home/jovyan }]
";

/// What of the cluster in `state` is left outside its namespaces, or has changed there.
fn left_behind(state: &Path, id: &str, interfaces_before: &BTreeSet<PathBuf>) -> TestResult<Vec<String>> {
    let mut left = Vec::new();
    if state.exists() {
        left.push(state.display().to_string());
    }
    let state = state.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&state))
            .map(str::to_owned),
    );
    for hierarchy in entries("/sys/fs/cgroup")?
        .iter()
        .chain([&PathBuf::from("/sys/fs/cgroup")])
    {
        let cgroup = hierarchy.join(id);
        left.extend(cgroup.exists().then(|| cgroup.display().to_string()));
    }
    for process in entries("/proc")? {
        // A process may end between being listed and being read.
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).contains(&state) {
            left.push(process.display().to_string());
        }
    }
    let interfaces = entries("/sys/class/net")?;
    left.extend(
        interfaces
            .difference(interfaces_before)
            .map(|path| path.display().to_string()),
    );
    Ok(left)
}

fn entries(directory: &str) -> TestResult<BTreeSet<PathBuf>> {
    Ok(fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?)
}

fn existing_cluster() -> bool {
    let existing = std::env::var_os("LEASEHOLD_TEST_KUBECONFIG").is_some();
    if existing {
        eprintln!("SKIPPED: an existing cluster (LEASEHOLD_TEST_KUBECONFIG) neither starts nor ends here");
    }
    existing
}

#[test]
fn a_cluster_starts_runs_a_pod_and_leaves_nothing_behind() -> TestResult {
    if existing_cluster() {
        return Ok(());
    }
    let interfaces = entries("/sys/class/net")?;
    let panic_on_oops = fs::read_to_string("/proc/sys/kernel/panic_on_oops")?;
    let cluster = Cluster::start()?;
    let directory = cluster.node_directory("/srv/leasehold/greetings")?;
    fs::write(directory.join("hello"), "good morning\n")?;
    let state = directory
        .ancestors()
        .nth(3)
        .ok_or("the state directory")?
        .to_owned();
    let id = fs::read_to_string(state.join(".leasehold-cluster"))?;

    let outcome = cluster.block_on(pods_names_and_tokens_work(&cluster))?;
    if outcome.is_err() {
        cluster.dump();
    }
    outcome?;

    cluster.stop()?;
    assert_eq!(left_behind(&state, id.trim(), &interfaces)?, Vec::<String>::new());
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/panic_on_oops")?,
        panic_on_oops
    );
    Ok(())
}

async fn pods_names_and_tokens_work(cluster: &Cluster) -> TestResult {
    cluster.apply(POD).await?;
    cluster
        .pod_ready("default", "greeter", Duration::from_secs(60))
        .await?;
    wait_for("the greeting in the log", Duration::from_secs(10), async || {
        let log = cluster.logs("default", "greeter", "main").await?;
        Ok::<_, Error>((log == "good morning\n").then_some(()))
    })
    .await?;

    let argv = ["sh", "-c", "echo out; echo err >&2; exit 7"];
    let failing = cluster.exec("default", "greeter", "main", &argv).await?;
    let expected = Output {
        stdout: "out\n".into(),
        stderr: "err\n".into(),
        code: 7,
    };
    assert_eq!(failing, expected);

    let home = cluster.home_volume("alice").await?;
    cluster.apply(AT_HOME).await?;
    cluster
        .pod_ready("default", "at-home", Duration::from_secs(60))
        .await?;
    wait_for("the note at home", Duration::from_secs(10), async || {
        fs::read(home.join("note")).map(Some)
    })
    .await?;
    assert!(cluster.helm(&["list", "--all-namespaces"])?.starts_with("NAME"));

    // Pods and programs of the node both find Services by name.
    let name = "kubernetes.default.svc.cluster.local";
    let answer = cluster
        .exec("default", "greeter", "main", &["nslookup", name])
        .await?;
    assert!(answer.stdout.contains("198.18.0.1"), "{answer:?}");
    let answer = cluster.node_exec(["getent", "hosts", "kubernetes.default.svc"])?;
    assert!(answer.stdout.contains("198.18.0.1"), "{answer:?}");

    let token = cluster.token("default", "default", "leasehold").await?;
    assert_eq!(
        token.split('.').count(),
        3,
        "a ServiceAccount token is a signed JWT"
    );
    let denied = cluster.client_with_token(&token)?.list_api_groups().await;
    assert!(denied.is_err(), "a token of another audience opens nothing");
    Ok(())
}

#[test]
fn a_cluster_that_was_killed_is_removed_by_the_next_start() -> TestResult {
    if existing_cluster() {
        return Ok(());
    }
    let interfaces = entries("/sys/class/net")?;
    let directory = tempfile::Builder::new().prefix("leasehold-killed-").tempdir()?;
    let state = directory.path().join("state");

    let cluster = Cluster::open(&state)?;
    let first = fs::read_to_string(state.join("init.pid"))?;
    let id = fs::read_to_string(state.join(".leasehold-cluster"))?;
    let pid = first.split(' ').next().unwrap().parse()?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    drop(cluster);
    assert!(state.exists(), "a killed cluster leaves its state");

    let cluster = Cluster::open(&state)?;
    assert_ne!(fs::read_to_string(state.join("init.pid"))?, first);
    cluster.block_on(async {
        cluster
            .client()?
            .apiserver_version()
            .await
            .map_err(Error::kubernetes("ask for its version"))
    })??;
    cluster.stop()?;
    assert_eq!(left_behind(&state, id.trim(), &interfaces)?, Vec::<String>::new());
    Ok(())
}
