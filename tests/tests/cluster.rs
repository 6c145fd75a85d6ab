//! The cluster itself: everything else that the slowest tests say rests on this one.

use std::{fs, path::Path, time::Duration};

use leasehold_tests::{Cluster, TestResult, wait_for};

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

/// Everything outside the cluster's namespaces that could be left behind.
#[derive(Debug, PartialEq, Eq)]
struct Surroundings {
    interfaces: Vec<String>,
    mounts: usize,
    cgroups: Vec<String>,
    sysctl: String,
}

impl Surroundings {
    fn now() -> TestResult<Self> {
        let names = |path: &Path| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.path().display().to_string()).collect();
            names.sort();
            names
        };
        let mut cgroups = names(Path::new("/sys/fs/cgroup"));
        cgroups.extend(
            cgroups
                .clone()
                .iter()
                .flat_map(|hierarchy| names(Path::new(hierarchy))),
        );
        cgroups.retain(|path| path.contains("/leasehold-"));
        Ok(Self {
            interfaces: names(Path::new("/sys/class/net")),
            mounts: fs::read_to_string("/proc/self/mountinfo")?.lines().count(),
            cgroups,
            sysctl: fs::read_to_string("/proc/sys/kernel/panic_on_oops")?,
        })
    }
}

#[test]
fn a_cluster_starts_runs_a_pod_and_leaves_nothing_behind() -> TestResult {
    let own = std::env::var_os("LEASEHOLD_TEST_KUBECONFIG").is_none();
    if !own {
        eprintln!("SKIPPED: an existing cluster (LEASEHOLD_TEST_KUBECONFIG) neither starts nor ends here");
        return Ok(());
    }
    let before = Surroundings::now()?;
    let cluster = Cluster::start()?;
    let directory = cluster.node_directory("/srv/leasehold/greetings")?;
    fs::write(directory.join("hello"), "good morning\n")?;

    let outcome: TestResult = cluster.block_on(async {
        cluster.apply(POD).await?;
        cluster
            .pod_ready("default", "greeter", Duration::from_secs(60))
            .await?;
        wait_for("the greeting in the log", Duration::from_secs(10), async || {
            let log = cluster.logs("default", "greeter", "main").await?;
            Ok::<_, leasehold_tests::Error>((log == "good morning\n").then_some(()))
        })
        .await?;

        let failing = cluster.exec(
            "default",
            "greeter",
            "main",
            &["sh", "-c", "echo out; echo err >&2; exit 7"],
        );
        let failing = failing.await?;
        assert_eq!(
            (failing.stdout.as_str(), failing.stderr.as_str(), failing.code),
            ("out\n", "err\n", 7)
        );

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
    })?;
    if outcome.is_err() {
        cluster.dump();
    }
    outcome?;

    cluster.stop()?;
    assert_eq!(Surroundings::now()?, before);
    Ok(())
}

#[test]
fn a_cluster_that_was_killed_is_removed_by_the_next_start() -> TestResult {
    if std::env::var_os("LEASEHOLD_TEST_KUBECONFIG").is_some() {
        eprintln!("SKIPPED: an existing cluster (LEASEHOLD_TEST_KUBECONFIG) is not ours to kill");
        return Ok(());
    }
    let before = Surroundings::now()?;
    let directory = tempfile::Builder::new().prefix("leasehold-killed-").tempdir()?;
    let state = directory.path().join("state");

    let cluster = Cluster::open(&state)?;
    let first = fs::read_to_string(state.join("init.pid"))?;
    let pid = first.split(' ').next().unwrap().parse()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    drop(cluster);
    assert!(state.exists(), "a killed cluster leaves its state");

    let cluster = Cluster::open(&state)?;
    assert_ne!(fs::read_to_string(state.join("init.pid"))?, first);
    cluster.block_on(async {
        cluster
            .client()?
            .apiserver_version()
            .await
            .map_err(leasehold_tests::Error::kubernetes("ask for the version"))
    })??;
    cluster.stop()?;
    assert!(!state.exists());
    assert_eq!(Surroundings::now()?, before);
    Ok(())
}
