//! The storage credential is a random string that must be nowhere but in the one Secret of the system namespace.

use std::{path::Path, time::Duration};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
    discovery::{Discovery, Scope, verbs},
};
use leasehold_tests::{TestResult, journey::SYSTEM_NAMESPACE};

use crate::stage::{Stage, on_stage};

#[test]
fn a_storage_credential_is_found_nowhere_but_in_the_secret_of_the_system_namespace() -> TestResult {
    on_stage("canary", async |stage| {
        let canary = uuid::Uuid::new_v4().simple().to_string();
        let path = stage.site.texts("canary")?;
        stage.steward.register("canary", &path, &canary)?;
        let heidi = stage.person("heidi").await?;
        heidi.shell("leasehold lease canary").await?;
        let lease = stage.lease(&heidi, "canary").await?;
        // A job that shows all it can see of itself: environment, mounts, and every file it can read outside the system's.
        let look = "import os,pathlib\nout=[str(dict(os.environ)),open('/proc/self/mountinfo').read()]\n\
            for top in ['/var/run','/run','/tmp','/home/jovyan','/mainctrfs','/argo']:\n \
            for base,_,files in os.walk(top):\n  for name in files:\n   \
            \n   try: out.append(pathlib.Path(base,name).read_text(errors='replace'))\n   except OSError: pass\n\
            pathlib.Path('/home/jovyan/seen.txt').write_text('\\n'.join(out))\n";
        heidi.write("look.py", look).await?;
        let run = heidi
            .workflow(&["env LEASE_DATASETS=canary python3 look.py"])
            .await?;
        assert_eq!(run.phase, "Succeeded", "{:?}", run.messages);
        let seen = heidi.shell("cat seen.txt").await?;
        assert!(
            seen.contains("/home/jovyan/datasets/canary"),
            "the job did see the mount"
        );
        assert!(seen.contains("lorem again"), "the job did read the data");
        absent(&canary, "what a job can see", &seen);
        absent(
            &canary,
            "what the notebook can see",
            &heidi
                .shell("env; cat /proc/self/mountinfo; cat /var/run/leasehold/ca.crt")
                .await?,
        );

        // It is where it belongs, so the search below can find it.
        let secrets: Api<Secret> = Api::namespaced(stage.client(), SYSTEM_NAMESPACE);
        let secret = secrets.get(&format!("leasehold-{}", lease.id)).await?;
        let data = secret.data.unwrap_or_default();
        assert!(
            data.values()
                .any(|value| String::from_utf8_lossy(&value.0).contains(&canary))
        );

        let objects = every_object(stage, &format!("leasehold-{}", lease.id)).await?;
        assert!(
            objects.len() > 100,
            "only {} objects were searched",
            objects.len()
        );
        for object in &objects {
            absent(&canary, "an object of the API server", object);
        }
        readable_by_the_user(stage, &heidi, &canary).await?;

        let logs = every_log(stage).await?;
        assert!(logs.contains("leasehold"), "no logs were searched");
        absent(&canary, "the components' logs", &logs);
        absent(&canary, "the hub's log", &stage.hub.log());

        // Ledger, key store, certificates of the broker.
        let files = stage.site.cluster().node_directory("/srv/homes/secret-broker")?;
        let searched = search_files(&files, canary.as_bytes());
        assert!(searched > 2, "only {searched} files of the broker were searched");

        heidi.shell("leasehold release canary").await?;
        stage.gone(&lease.id, Duration::from_secs(60)).await
    })
}

/// The canary itself, and as base64 of its bytes wherever they may start.
fn absent(canary: &str, place: &str, text: &str) {
    assert!(!text.contains(canary), "the credential is in {place}");
    for shift in 0..3 {
        let padded = format!("{}{canary}", "x".repeat(shift));
        let encoded = base64(padded.as_bytes());
        // The first characters hold the padding and the last may hold what follows: the middle is the canary's alone.
        let middle = &encoded[4..encoded.len() - 6];
        assert!(!text.contains(middle), "the credential is, as base64, in {place}");
    }
}

fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap()
}

/// Every object of every kind, as JSON, but for the one Secret that may hold it.
async fn every_object(stage: &Stage, but: &str) -> TestResult<Vec<String>> {
    let client = stage.client();
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut found = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let listed = api.list(&ListParams::default()).await;
            for object in listed.map(|list| list.items).unwrap_or_default() {
                let ours = object.metadata.namespace.as_deref() == Some(SYSTEM_NAMESPACE);
                if resource.kind == "Secret" && ours && object.metadata.name.as_deref() == Some(but) {
                    continue;
                }
                found.push(serde_json::to_string(&object)?);
            }
        }
    }
    Ok(found)
}

/// What the person's ServiceAccounts may list or get: nothing with the canary, no Secret at all.
async fn readable_by_the_user(
    stage: &Stage,
    notebook: &leasehold_tests::journey::Notebook<'_>,
    canary: &str,
) -> TestResult {
    let executor = notebook.service_account.replacen("nb-", "wf-", 1);
    let cluster = stage.site.cluster();
    let discovery = Discovery::new(stage.client()).run().await?;
    for account in [&notebook.service_account, &executor] {
        let token = cluster
            .token("hub", account, "https://kubernetes.default.svc")
            .await?;
        let client = cluster.client_with_token(&token)?;
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                if !capabilities.supports_operation(verbs::LIST) {
                    continue;
                }
                let apis: Vec<Api<DynamicObject>> = match capabilities.scope {
                    Scope::Cluster => vec![Api::all_with(client.clone(), &resource)],
                    Scope::Namespaced => ["hub", SYSTEM_NAMESPACE]
                        .map(|namespace| Api::namespaced_with(client.clone(), namespace, &resource))
                        .into(),
                };
                for api in apis {
                    if let Ok(list) = api.list(&ListParams::default()).await {
                        assert_ne!(resource.kind, "Secret", "{account} may list Secrets");
                        absent(
                            canary,
                            "what the user may list",
                            &serde_json::to_string(&list.items)?,
                        );
                    }
                }
            }
        }
        let pods: Api<Pod> = Api::namespaced(client.clone(), "hub");
        if let Ok(pod) = pods.get(&notebook.pod).await {
            absent(canary, "the person's own pod", &serde_json::to_string(&pod)?);
        }
    }
    Ok(())
}

async fn every_log(stage: &Stage) -> TestResult<String> {
    let pods: Api<Pod> = Api::all(stage.client());
    let mut all = String::new();
    for pod in pods.list(&ListParams::default()).await? {
        let (Some(namespace), Some(name), Some(spec)) = (pod.metadata.namespace, pod.metadata.name, pod.spec)
        else {
            continue;
        };
        for container in spec.containers {
            if let Ok(text) = stage
                .site
                .cluster()
                .logs(&namespace, &name, &container.name)
                .await
            {
                all.push_str(&text);
            }
        }
    }
    // Kubelet, containerd, API server and the rest of the node.
    let logs = stage
        .site
        .cluster()
        .kubeconfig()
        .parent()
        .and_then(Path::parent)
        .map(|state| state.join("logs"));
    for entry in std::fs::read_dir(logs.ok_or("the cluster has no log directory")?)? {
        all.push_str(&String::from_utf8_lossy(&std::fs::read(entry?.path())?));
    }
    Ok(all)
}

/// Asserts that no file below `directory` holds `needle`; gives how many were read.
fn search_files(directory: &Path, needle: &[u8]) -> usize {
    let mut searched = 0;
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            searched += search_files(&path, needle);
        } else {
            let content = std::fs::read(&path).unwrap();
            let found = content.windows(needle.len()).any(|window| window == needle);
            assert!(!found, "the credential is in {}", path.display());
            searched += 1;
        }
    }
    searched
}
