//! What remains of a failed test: events, pods and logs, in short on standard error, in full in files.

use std::{fs, path::PathBuf};

use super::{
    Cluster,
    launcher::{repository, run},
};

/// Objects beyond those of `kubectl cluster-info dump`. Secrets are never dumped.
const ALSO: &[&str] = &[
    "persistentvolumes",
    "persistentvolumeclaims",
    "serviceaccounts",
    "workflows.argoproj.io",
    "cronworkflows.argoproj.io",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
];
/// How many lines of events, and of each log, go to standard error.
const LINES: usize = 30;

impl Cluster {
    /// Writes events, pods' states and logs to a directory below `target/cluster-dumps` and their
    /// essence to standard error. It never fails: it is called when something already has.
    pub fn dump(&self) {
        let directory = repository().join("target/cluster-dumps").join(&self.name);
        let _ = fs::remove_dir_all(&directory);
        if let Err(error) = fs::create_dir_all(&directory) {
            eprintln!("cannot dump the cluster to {}: {error}", directory.display());
            return;
        }
        self.dump_objects(&directory);
        self.dump_components(&directory);

        eprintln!(
            "\n==== cluster of {} (all of it: {})",
            self.name,
            directory.display()
        );
        for arguments in [
            &["get", "pods", "--all-namespaces", "--output=wide"][..],
            &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
        ] {
            eprintln!("==== kubectl {}", arguments.join(" "));
            eprintln!("{}", last_lines(&self.kubectl_or_error(arguments)));
        }
        for log in pod_logs(&directory) {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let shown = log.strip_prefix(&directory).unwrap_or(&log);
            eprintln!("==== {}\n{}", shown.display(), last_lines(&text));
        }
    }

    fn kubectl_or_error(&self, arguments: &[&str]) -> String {
        self.kubectl(arguments).unwrap_or_else(|error| error.to_string())
    }

    fn dump_objects(&self, directory: &std::path::Path) {
        let output = format!("--output-directory={}", directory.display());
        let dumped = self.kubectl(&[
            "cluster-info",
            "dump",
            "--all-namespaces",
            "--output=yaml",
            &output,
        ]);
        if let Err(error) = dumped {
            eprintln!("{error}");
        }
        for kind in ALSO {
            let text = self.kubectl_or_error(&["get", kind, "--all-namespaces", "--output=yaml"]);
            let _ = fs::write(directory.join(format!("{kind}.yaml")), text);
        }
    }

    fn dump_components(&self, directory: &std::path::Path) {
        if let Ok(state) = self.launcher.directory("copy the components' logs") {
            let mut copy = std::process::Command::new("cp");
            copy.arg("-r")
                .arg(state.join("logs"))
                .arg(directory.join("components"));
            let _ = run(&mut copy);
        }
    }
}

/// The files `<namespace>/<pod>/logs.txt` that the dump wrote.
fn pod_logs(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries = |path: PathBuf| {
        fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let mut logs: Vec<_> = entries(directory.to_owned())
        .flat_map(entries)
        .map(|pod| pod.join("logs.txt"))
        .filter(|log| log.is_file())
        .collect();
    logs.sort();
    logs
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}
