//! What a notebook user, or somebody a little more privileged, tries, on the real API server. Each attack is refused with
//! its stable code and a sentence, or made harmless.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
    core::ApiResource,
};
use leasehold_tests::{
    TestResult,
    journey::{Notebook, USERS_NAMESPACE},
};
use serde_json::{Value, json};

use crate::stage::{Stage, on_stage};

const STAMP: &str = "leasehold.dev/stamp";

fn resource(kind: &str) -> ApiResource {
    ApiResource {
        group: "argoproj.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "argoproj.io/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

fn workflow(spec: &Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": { "generateName": "attack-" },
        "spec": spec,
    })
}

/// What jupyterflow would send for one harmless job.
fn harmless() -> Value {
    json!({
        "entrypoint": "dag",
        "templates": [
            { "name": "job-1", "container": {
                "image": "leasehold.local/notebook:dev", "imagePullPolicy": "Never", "command": ["true"] } },
            { "name": "dag", "dag": { "tasks": [{ "name": "job-1", "template": "job-1" }] } },
        ],
    })
}

fn with(mut spec: Value, pointer: &str, key: &str, value: Value) -> Value {
    spec.pointer_mut(pointer)
        .and_then(Value::as_object_mut)
        .unwrap()
        .insert(key.to_owned(), value);
    spec
}

async fn create(client: &Client, kind: &str, object: Value) -> Result<DynamicObject, kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), USERS_NAMESPACE, &resource(kind));
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
}

/// The API server's refusal holds the code and more than the code.
fn refused<T: std::fmt::Debug>(what: &str, code: &str, answer: Result<T, kube::Error>) {
    match answer {
        Err(kube::Error::Api(status)) => {
            assert!(
                status.message.contains(code),
                "{what}: expected {code}, the API server said: {}",
                status.message
            );
            assert!(
                status.message.len() > code.len() + 60,
                "{what}: no sentence in: {}",
                status.message
            );
            assert_eq!(status.code, 403, "{what}: {}", status.message);
        }
        other => panic!("{what}: expected {code}, got {other:?}"),
    }
}

// T1 of docs/security/model.md.
#[test]
fn a_forged_stamp_is_overwritten_with_who_really_asked() -> TestResult {
    on_stage("W01", async |stage| {
        let ivan = stage.person("ivan").await?;
        let client = stage.as_notebook(&ivan).await?;
        let mut forged = workflow(&harmless());
        forged["metadata"]["annotations"] =
            json!({ STAMP: r#"{"v":1,"namespace":"hub","serviceAccount":"nb-victim","uid":"victim"}"# });
        let made = create(&client, "Workflow", forged).await?;
        let stamp = made
            .metadata
            .annotations
            .unwrap_or_default()
            .remove(STAMP)
            .ok_or("no stamp")?;
        assert!(
            stamp.contains(&ivan.service_account) && !stamp.contains("victim"),
            "{stamp}"
        );
        Ok(())
    })
}

#[test]
fn a_cron_workflow_cannot_carry_a_forged_stamp_into_its_runs() -> TestResult {
    on_stage("W03", async |stage| {
        let judy = stage.person("judy").await?;
        let client = stage.as_notebook(&judy).await?;
        let cron = |spec: Value| {
            json!({
                "apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow",
                "metadata": { "generateName": "attack-" }, "spec": spec,
            })
        };
        let forged = json!({ "annotations": { STAMP: "victim" } });
        let schedules = json!(["0 0 1 1 *"]);
        refused(
            "workflowMetadata of a CronWorkflow",
            "workflow_metadata",
            create(
                &client,
                "CronWorkflow",
                cron(json!({
                "schedules": schedules, "workflowMetadata": forged, "workflowSpec": harmless() })),
            )
            .await,
        );
        refused(
            "workflowMetadata of its workflow",
            "workflow_metadata",
            create(&client, "CronWorkflow", cron(json!({
                "schedules": schedules, "workflowSpec": with(harmless(), "", "workflowMetadata", forged.clone()) }))).await,
        );
        let mut own = cron(json!({ "schedules": schedules, "workflowSpec": harmless() }));
        own["metadata"]["annotations"] = json!({ STAMP: "victim" });
        let made = create(&client, "CronWorkflow", own).await?;
        let stamp = made
            .metadata
            .annotations
            .unwrap_or_default()
            .remove(STAMP)
            .ok_or("no stamp")?;
        assert!(stamp.contains(&judy.service_account), "{stamp}");
        Ok(())
    })
}

#[test]
fn a_workflow_with_foreign_identity_secrets_host_paths_or_claims_is_refused() -> TestResult {
    on_stage("W16, P12, P14, P01", async |stage| {
        let kim = stage.person("kim").await?;
        let victim = stage.person("victim").await?;
        stage.dataset("prize").await?;
        victim.shell("leasehold lease prize").await?;
        let lease = stage.lease(&victim, "prize").await?;
        let client = stage.as_notebook(&kim).await?;
        let volume = |source: Value| with(harmless(), "", "volumes", json!([source]));
        let claim =
            |name: String| volume(json!({ "name": "v", "persistentVolumeClaim": { "claimName": name } }));

        for (what, code, spec) in [
            (
                "another's ServiceAccount",
                "service_account",
                with(
                    harmless(),
                    "",
                    "serviceAccountName",
                    json!(victim.service_account),
                ),
            ),
            (
                "the hub's ServiceAccount in a template",
                "service_account",
                with(harmless(), "/templates/0", "serviceAccountName", json!("hub")),
            ),
            (
                "a Secret volume",
                "secret_ref",
                volume(json!({ "name": "v", "secret": { "secretName": "hub" } })),
            ),
            (
                "a hostPath",
                "volume_type",
                volume(json!({ "name": "v", "hostPath": { "path": "/" } })),
            ),
            (
                "another's lease",
                "pvc_not_injected",
                claim(format!("leasehold-{}", lease.id)),
            ),
            (
                "another's home",
                "pvc_not_injected",
                claim("claim-victim".to_owned()),
            ),
            (
                "a pod patch",
                "pod_spec_patch",
                with(harmless(), "", "podSpecPatch", json!("{}")),
            ),
            (
                "a Secret in the environment",
                "secret_ref",
                with(
                    harmless(),
                    "/templates/0/container",
                    "env",
                    json!([{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "hub", "key": "x" } } }]),
                ),
            ),
        ] {
            refused(what, code, create(&client, "Workflow", workflow(&spec)).await);
        }
        Ok(())
    })
}

/// A ServiceAccount that may make pods, which no person of the hub may.
async fn mallory(stage: &Stage) -> TestResult<Client> {
    let cluster = stage.site.cluster();
    cluster
        .apply(
            "apiVersion: v1
kind: ServiceAccount
metadata: { name: mallory, namespace: hub }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: mallory, namespace: hub }
rules:
  - { apiGroups: [''], resources: [pods, persistentvolumeclaims], verbs: [create, get, patch, delete] }
  - { apiGroups: [''], resources: [pods/exec, pods/attach, pods/ephemeralcontainers], verbs: [create, get, patch, update] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: mallory, namespace: hub }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: mallory }
subjects: [{ kind: ServiceAccount, name: mallory, namespace: hub }]
",
        )
        .await?;
    let token = cluster
        .token("hub", "mallory", "https://kubernetes.default.svc")
        .await?;
    Ok(cluster.client_with_token(&token)?)
}

fn pod(name: &str, claim: Option<&str>, owner: Option<&DynamicObject>, service_account: &str) -> Pod {
    let volumes =
        claim.map(|claim| json!([{ "name": "v", "persistentVolumeClaim": { "claimName": claim } }]));
    let owners = owner.map(|owner| {
        json!([{ "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "controller": true,
            "name": owner.metadata.name, "uid": owner.metadata.uid }])
    });
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": USERS_NAMESPACE, "ownerReferences": owners },
        "spec": {
            "serviceAccountName": service_account, "restartPolicy": "Never", "volumes": volumes,
            "containers": [{ "name": "main", "image": "leasehold.local/notebook:dev", "imagePullPolicy": "Never",
                "command": ["sleep", "600"] }],
        },
    }))
    .unwrap()
}

async fn leased(stage: &Stage, person: &Notebook<'_>, dataset: &str) -> TestResult<String> {
    stage.dataset(dataset).await?;
    person.shell(&format!("leasehold lease {dataset}")).await?;
    Ok(format!("leasehold-{}", stage.lease(person, dataset).await?.id))
}

#[test]
fn a_pod_that_names_a_leased_claim_is_refused_whoever_makes_it() -> TestResult {
    on_stage("P01, P02, V", async |stage| {
        let liam = stage.person("liam").await?;
        let claim = leased(stage, &liam, "vault").await?;
        let own = create(
            &stage.as_notebook(&liam).await?,
            "Workflow",
            workflow(&harmless()),
        )
        .await?;
        let everybody = [
            ("someone who may make pods", mallory(stage).await?),
            ("an administrator", stage.client()),
        ];
        for (who, client) in everybody {
            let pods: Api<Pod> = Api::namespaced(client, USERS_NAMESPACE);
            let bare = pod("thief", Some(&claim), None, "default");
            refused(
                &format!("a bare pod by {who}"),
                "pvc_not_injected",
                pods.create(&PostParams::default(), &bare).await,
            );
            let owned = pod("heir", Some(&claim), Some(&own), "default");
            refused(
                &format!("an owned pod by {who}"),
                "pvc_not_injected",
                pods.create(&PostParams::default(), &owned).await,
            );
        }
        Ok(())
    })
}

#[test]
fn a_direct_pod_that_claims_a_workflow_as_its_owner_gets_no_dataset() -> TestResult {
    on_stage("P02", async |stage| {
        let mona = stage.person("mona").await?;
        leased(stage, &mona, "owned").await?;
        let own = create(
            &stage.as_notebook(&mona).await?,
            "Workflow",
            workflow(&harmless()),
        )
        .await?;
        let pods: Api<Pod> = Api::namespaced(mallory(stage).await?, USERS_NAMESPACE);
        // It may come into being, as any pod without a claim may; nothing is injected into it.
        if let Ok(made) = pods
            .create(
                &PostParams::default(),
                &pod("cuckoo", None, Some(&own), "default"),
            )
            .await
        {
            let spec = serde_json::to_string(&made.spec)?;
            assert!(!spec.contains("leasehold-"), "{spec}");
            pods.delete("cuckoo", &kube::api::DeleteParams::default().grace_period(0))
                .await?;
        }
        Ok(())
    })
}

// T12 of docs/security/model.md.
#[test]
fn a_pod_of_the_controller_that_runs_as_somebody_else_is_refused() -> TestResult {
    on_stage("P05", async |stage| {
        let nora = stage.person("nora").await?;
        let own = create(
            &stage.as_notebook(&nora).await?,
            "Workflow",
            workflow(&harmless()),
        )
        .await?;
        let controller = stage
            .site
            .cluster()
            .client_as("system:serviceaccount:argo:argo")?;
        let pods: Api<Pod> = Api::namespaced(controller, USERS_NAMESPACE);
        for account in ["default", "hub", nora.service_account.as_str()] {
            let answer = pods
                .create(
                    &PostParams::default(),
                    &pod("impostor", None, Some(&own), account),
                )
                .await;
            refused(&format!("a pod as {account}"), "service_account", answer);
        }
        Ok(())
    })
}

#[test]
fn only_the_provisioner_makes_or_changes_claims_under_the_reserved_prefix() -> TestResult {
    on_stage("V04", async |stage| {
        let oscar = stage.person("oscar").await?;
        let claim = leased(stage, &oscar, "kept").await?;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(mallory(stage).await?, USERS_NAMESPACE);
        let forged = |name: &str, volume: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name },
                "spec": { "volumeName": volume, "storageClassName": "", "accessModes": ["ReadOnlyMany"],
                    "resources": { "requests": { "storage": "1Gi" } } },
            }))
            .unwrap()
        };
        refused(
            "a claim of the reserved name",
            "claim_reserved",
            claims
                .create(&PostParams::default(), &forged("leasehold-0", "x"))
                .await,
        );
        refused(
            "a claim on a lease's volume",
            "claim_reserved",
            claims
                .create(&PostParams::default(), &forged("mine", &claim))
                .await,
        );
        refused(
            "deleting a lease's claim",
            "claim_reserved",
            claims.delete(&claim, &kube::api::DeleteParams::default()).await,
        );
        Ok(())
    })
}

// T1 of docs/security/model.md.
#[test]
fn nobody_gets_a_shell_onto_mounted_data() -> TestResult {
    on_stage("C01, P16", async |stage| {
        let peggy = stage.person("peggy").await?;
        stage.dataset("shell").await?;
        peggy.shell("leasehold lease shell").await?;
        let run = peggy.start(&["env LEASE_DATASETS=shell sleep 600"]).await?;
        let all: Api<Pod> = Api::namespaced(stage.client(), USERS_NAMESPACE);
        let selector =
            kube::api::ListParams::default().labels(&format!("workflows.argoproj.io/workflow={run}"));
        let name = leasehold_tests::wait_for("the job to run", Duration::from_secs(60), async || {
            let list = all.list(&selector).await?;
            Ok::<_, kube::Error>(list.items.into_iter().find_map(|pod| {
                let runs = pod.status.as_ref()?.phase.as_deref() == Some("Running");
                runs.then(|| pod.metadata.name.clone())?
            }))
        })
        .await?;
        for client in [mallory(stage).await?, stage.client()] {
            let pods: Api<Pod> = Api::namespaced(client, USERS_NAMESPACE);
            for container in ["main", "wait"] {
                let shell = pods
                    .exec(
                        &name,
                        ["cat", "datasets/shell/one.txt"],
                        &kube::api::AttachParams::default().container(container),
                    )
                    .await;
                let said = shell.err().ok_or("exec was let through")?.to_string();
                assert!(
                    said.contains("403") || said.contains("connect_dataset_pod"),
                    "{said}"
                );
            }
            let debug = json!({ "spec": { "ephemeralContainers": [{ "name": "debug",
                "image": "leasehold.local/notebook:dev", "command": ["sh"], "targetContainerName": "main" }] } });
            let patched = pods
                .patch_ephemeral_containers(
                    &name,
                    &kube::api::PatchParams::default(),
                    &kube::api::Patch::Strategic(debug),
                )
                .await;
            refused("an ephemeral container", "ephemeral", patched);
        }
        remove(stage, &run).await
    })
}

async fn remove(stage: &Stage, run: &str) -> TestResult {
    let api: Api<DynamicObject> =
        Api::namespaced_with(stage.client(), USERS_NAMESPACE, &resource("Workflow"));
    api.delete(run, &kube::api::DeleteParams::default()).await?;
    Ok(())
}

#[test]
fn a_workflow_is_deleted_by_nobody_but_its_owner() -> TestResult {
    on_stage("W21", async |stage| {
        let quinn = stage.person("quinn").await?;
        let rival = stage.person("rival").await?;
        let made = create(
            &stage.as_notebook(&quinn).await?,
            "Workflow",
            workflow(&harmless()),
        )
        .await?;
        let name = made.metadata.name.unwrap_or_default();
        let delete = async |client: Client| {
            let api: Api<DynamicObject> =
                Api::namespaced_with(client, USERS_NAMESPACE, &resource("Workflow"));
            api.delete(&name, &kube::api::DeleteParams::default())
                .await
                .map(drop)
        };
        refused(
            "a rival's delete",
            "not_owner",
            delete(stage.as_notebook(&rival).await?).await,
        );
        delete(stage.as_notebook(&quinn).await?).await?;
        Ok(())
    })
}
